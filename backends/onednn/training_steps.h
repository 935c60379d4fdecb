// SPDX-License-Identifier: MIT
// The graph as training steps in execution order.
#pragma once

#include "backends/onednn/training_step.h"

#include <vector>

namespace mfres::onednn {

/// One for each step of form_training_steps. Throws dnnl::error and std::bad_alloc.
std::vector<std::unique_ptr<TrainingStep>> make_training_steps(const TrainingContext& context,
                                                               const std::vector<FormedStep>& formed);

} // namespace mfres::onednn
