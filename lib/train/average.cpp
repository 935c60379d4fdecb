// SPDX-License-Identifier: MIT
#include "train/average.h"

#include <algorithm>

namespace mfres {

void update_average(Weights& average, const Weights& weights, double decay, std::int64_t step) {
    const auto count = static_cast<double>(step);
    const double keep = std::min(decay, (1.0 + count) / (10.0 + count));
    for (auto& [name, tensor] : average) {
        const Tensor& now = weights.find(name)->second;
        for (std::int64_t i = 0; i < tensor.elements(); ++i)
            tensor[i] = static_cast<float>(keep * double{tensor[i]} + (1.0 - keep) * double{now[i]});
    }
}

} // namespace mfres
