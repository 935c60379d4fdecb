// SPDX-License-Identifier: MIT
// The golden files of the shared data: small networks with weights, activations and gradients computed elsewhere.
#pragma once

#include "core/try.h"
#include "model/safetensors.h"
#include "networks/registry.h"

#include <string>

namespace mfres::test {

/// One golden file, sorted into its parts.
struct Golden {
    Variant variant;
    Graph graph;     ///< at the size of the recorded input
    Weights weights; ///< the graph's parameters and nothing else
    Weights values;  ///< every tensor: "input", "output", "train.*", "grad.<parameter>" and the weights
};

/// The variant that a golden file's metadata describes: "network" and options, whole numbers or lists of them.
inline Result<Variant> golden_variant(const SafetensorsFile& file) {
    std::string json = "{";
    for (const auto& [key, value] : file.metadata) {
        if (key == "output" || key == "made_with")
            continue;
        const bool is_list = value.find(',') != std::string::npos;
        const std::string shown = key == "network" ? '"' + value + '"' : is_list ? '[' + value + ']' : value;
        json += (json.size() > 1 ? ", \"" : "\"") + key + "\": " + shown;
    }
    return parse_variant(json + "}");
}

/// Reads a golden file and picks the network's weights by the names of its graph. Errors: those of reading, parsing
/// and building, and model_tensor_missing, model_tensor_shape if the file does not fit the network.
inline Result<Golden> load_golden(const std::filesystem::path& path) {
    MFRES_TRY(const SafetensorsFile file, read_safetensors(path));
    Golden golden;
    MFRES_TRY(golden.variant, golden_variant(file));
    MFRES_TRY(golden.values, decode_tensors(file));
    MFRES_TRY(const Tensor input, decode_tensor(file, "input"));
    MFRES_TRY(golden.graph, build_network(golden.variant, spatial(input.shape()), input.shape()[0]));
    for (const Node& node : golden.graph.nodes())
        for (const Parameter& parameter : node.parameters)
            if (const auto found = golden.values.find(parameter.name); found != golden.values.end())
                golden.weights.emplace(parameter.name, found->second);
    MFRES_CHECK(check_weights(golden.graph, golden.weights));
    return golden;
}

} // namespace mfres::test
