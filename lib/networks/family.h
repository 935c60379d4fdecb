// What the registry knows of a network: its options, how it is built, and what was published about it.
#pragma once

#include "graph/graph.h"
#include "networks/schema.h"

#include <optional>
#include <string>
#include <vector>

namespace mfres {

/// Figures printed in a paper; none of them is measured here.
struct PublishedFigures {
    struct Dice {
        double whole_tumour, tumour_core, enhancing; ///< per cent
    };
    double parameters_m = 0; ///< millions
    double flops_g = 0;      ///< 10^9 operations at input 1x4x128x128x128
    std::optional<Dice> dice;
    std::string source;
};

/// One registered network. Its file provides one function that returns it; registry.cpp lists those functions.
struct NetworkFamily {
    std::string name;    ///< what users type
    std::string summary; ///< one sentence: what it is
    std::string status;  ///< how sure this structure is, and how its counts compare with the published ones
    std::vector<Option> options;
    std::optional<PublishedFigures> published;

    /// Relations between options (divisibility, list lengths). Error: variant_invalid.
    Status (*check)(const Settings& settings) = nullptr;
    /// Input edges must be multiples of this.
    std::int64_t (*multiple)(const Settings& settings) = nullptr;
    /// Adds all layers behind `input` and returns the logits.
    NodeId (*build)(GraphBuilder& builder, const Settings& settings, NodeId input) = nullptr;
};

const NetworkFamily& mf_res2net();

} // namespace mfres
