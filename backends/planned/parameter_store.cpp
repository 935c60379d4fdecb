// SPDX-License-Identifier: MIT
#include "backends/planned/parameter_store.h"

#include "core/try.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mfres {

void LossScale::overflowed() {
    now_.scale /= 2.0;
    now_.good_steps = 0;
}

void LossScale::succeeded() {
    constexpr std::int64_t steps_until_doubled = 2000;
    if (scales_ && ++now_.good_steps % steps_until_doubled == 0)
        now_.scale = std::min(now_.scale * 2.0, LossScaling::largest);
}

Result<double> update_parameters(ParameterStore& parameters, const OptimiserStep& step, LossScale& scale) {
    MFRES_CHECK(check_optimiser_step(step));
    const double norm = parameters.gradient_norm(scale.value());
    if (!std::isfinite(norm)) {
        if (scale.reducible()) {
            scale.overflowed();
            return std::numeric_limits<double>::infinity();
        }
        return Error{ErrorCode::training_diverged,
                     text("the gradient of step ", step.step, " is not finite (norm ", norm, ")"),
                     {}};
    }
    parameters.apply(step, norm, scale.value());
    scale.succeeded();
    return norm;
}

} // namespace mfres
