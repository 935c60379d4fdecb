// SPDX-License-Identifier: MIT
// An entry of the network registry: options, builder and published figures.
#pragma once

#include "graph/graph.h"
#include "networks/schema.h"

#include <mfres/network.h>

#include <string>
#include <vector>

namespace mfres {

/// One registered network. Its file provides one function that returns it; registry.cpp lists those functions.
struct NetworkFamily {
    std::string name;    ///< what users type
    std::string summary; ///< one sentence: what it is
    std::string status;  ///< how the structure is known, and how its counts compare with the published ones
    std::vector<Option> options;
    std::optional<PublishedFigures> published;

    /// Relations between options (divisibility, list lengths). Error: variant_invalid.
    Status (*check)(const Settings& settings) = nullptr;
    /// Input edges must be multiples of this.
    std::int64_t (*multiple)(const Settings& settings) = nullptr;
    /// Adds all layers to the graph and returns the node of the logits.
    NodeId (*build)(GraphBuilder& builder, const Settings& settings, NodeId input) = nullptr;
    /// Nodes whose maps deep supervision can put heads on: at 1/2 and 1/4 of the resolution, the finest first, as many of
    /// them as there are. Null or empty: none.
    std::vector<std::string> (*auxiliary_maps)(const Settings& settings) = nullptr;
    /// Which nodes the counter behind the paper's Table 2 saw, see graph/complexity.h. Null: all.
    bool (*seen_by_table2)(const Node& node) = nullptr;
};

const NetworkFamily& mf_res2net();
const NetworkFamily& espnet();
const NetworkFamily& dmfnet();
const NetworkFamily& mfnet_96();
const NetworkFamily& mfnet_112();
const NetworkFamily& mfnet_128();
const NetworkFamily& unet();
const NetworkFamily& unetpp();
const NetworkFamily& no_new_net();
const NetworkFamily& no_new_net_as_counted();

} // namespace mfres
