// SPDX-License-Identifier: MIT
// A batch to train from without files: crops of phantoms, normalised over the brain.
#pragma once

#include "core/tensor.h"
#include "phantom/phantom.h"
#include "support/catch.h"

#include <cmath>
#include <cstdint>
#include <vector>

namespace mfres::test {

struct PhantomBatch {
    Tensor image; ///< [batch, 4, x, y, z]
    std::vector<std::uint8_t> classes;
};

inline PhantomBatch phantom_batch(const std::array<std::int64_t, 3>& size, std::int64_t batch) {
    const std::int64_t voxels = size[0] * size[1] * size[2];
    PhantomBatch made{Tensor(Shape{batch, 4, size[0], size[1], size[2]}), {}};
    for (std::int64_t sample = 0; sample < batch; ++sample) {
        const auto phantom = make_phantom({.seed = static_cast<std::uint64_t>(sample + 1), .size = size});
        REQUIRE_OK(phantom);
        for (std::size_t modality = 0; modality < 4; ++modality) {
            const auto& values = phantom->volumes[modality].voxels;
            double sum = 0.0, squares = 0.0, count = 0.0;
            for (const float value : values)
                if (value != 0.0F) {
                    sum += double{value};
                    squares += double{value} * double{value};
                    count += 1.0;
                }
            const double mean = sum / count;
            const double deviation = std::sqrt(squares / count - mean * mean);
            float* to = made.image.data() + (sample * 4 + static_cast<std::int64_t>(modality)) * voxels;
            for (std::size_t i = 0; i < values.size(); ++i)
                to[i] = values[i] == 0.0F ? 0.0F : static_cast<float>((double{values[i]} - mean) / deviation);
        }
        for (const auto label : phantom->labels.labels)
            made.classes.push_back(static_cast<std::uint8_t>(label == 4 ? 3 : label));
    }
    return made;
}

} // namespace mfres::test
