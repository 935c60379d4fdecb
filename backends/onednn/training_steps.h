// The graph as training steps in execution order.
#pragma once

#include "backends/onednn/training_step.h"

#include <vector>

namespace mfres::onednn {

/// A norm takes a following activation with it; a sum the norms in front of it and the activation behind it; and what
/// only slices read is written as these slices. Slices that are read by loops of our own are read in place.
/// Throws dnnl::error and std::bad_alloc.
std::vector<std::unique_ptr<TrainingStep>> make_training_steps(const TrainingContext& context);

} // namespace mfres::onednn
