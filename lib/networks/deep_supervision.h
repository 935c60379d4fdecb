// SPDX-License-Identifier: MIT
// Deep supervision (Lee et al. 2015): while a network is trained, convolutions of kernel 1 on its decoder's maps at 1/2
// and 1/4 of the resolution give logits of their own, on which the loss is taken too. They exist in the graph that is
// trained and in its checkpoints; what is validated and exported is the network without them.
#pragma once

#include "graph/graph.h"
#include "networks/registry.h"

#include <cstdint>
#include <string_view>
#include <vector>

namespace mfres {

/// Whether the network has maps to put heads on. Error: variant_invalid (it names the network and those that have).
Status check_deep_supervision(const Variant& variant);

/// build_network with heads: outputs are the logits and then those of the heads, the finest first, each with half the
/// extents of the one before it. Parameters of heads have names that is_head_parameter() knows. Errors: those of
/// build_network and check_deep_supervision.
Result<Graph> build_with_heads(const Variant& variant, const Axes& size, std::int64_t batch = 1);

/// Whether a parameter of that name belongs to a head.
bool is_head_parameter(std::string_view name);

/// What is left without the heads' parameters.
Weights without_heads(const Weights& weights);

/// What the loss of each output counts for: 1, 1/2, 1/4 ..., divided by their sum.
std::vector<double> output_weights(std::size_t outputs);

} // namespace mfres
