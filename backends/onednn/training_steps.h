// The graph as training steps in execution order.
#pragma once

#include "backends/onednn/training_step.h"

#include <vector>

namespace mfres::onednn {

/// See form_training_steps. Throws dnnl::error and std::bad_alloc.
std::vector<std::unique_ptr<TrainingStep>> make_training_steps(const TrainingContext& context);

} // namespace mfres::onednn
