// SPDX-License-Identifier: MIT
// Several ops of an inference that run as one on narrow values, where launches and memory cost more than arithmetic.
#pragma once

#include "backends/cuda/ops.h"

#include <memory>
#include <vector>

namespace mfres::cuda {

/// Joins two patterns:
/// - two pointwise convolutions of which the second alone reads the first, up to 16 channels before and after them: one
///   launch, and nothing is stored between them;
/// - a concat with the chain of convolutions that it is made of, each of a slice or of the sum of a slice and the
///   convolution before it: one launch per convolution, which reads slices in place and writes to the concat's array. The
///   slices are left out.
void join_groups(const Graph& graph, std::vector<FusionGroup>& groups);

/// The op of a group that join_groups() made. Throws EngineError.
std::unique_ptr<InferenceOp> make_group(const OpContext& context, const FusionGroup& group);

} // namespace mfres::cuda
