// Convolutions in training: forward, gradient of the source and gradient of the weights through oneDNN.
#pragma once

#include "backends/onednn/training_step.h"

namespace mfres::onednn {

/// Precondition: the node is a convolution.
std::unique_ptr<TrainingStep> make_convolution_step(const TrainingContext& context, NodeId id);

} // namespace mfres::onednn
