// SPDX-License-Identifier: MIT
#include "inference/precision.h"

#include "core/try.h"

namespace mfres {

Result<CompileOptions> compile_options(const Model& model, const Backend& backend, const ComputeOptions& compute) {
    MFRES_TRY(const Graph graph, parameter_graph(model.variant));
    const bool automatic = !compute.precision;
    const Precision stored = model.metadata.quantization.int8_weights ? Precision::int8 : Precision::f32;
    CompileOptions options{.threads = compute.threads,
                           .precision = compute.precision.value_or(stored),
                           .allow_tf32 = compute.tf32,
                           .deterministic = compute.deterministic,
                           .device = compute.device.value_or(0)};
    if (options.precision == Precision::int8)
        options.ranges = model.metadata.quantization.ranges;
    if (automatic && options.precision == Precision::int8 && !backend.unsupported(graph, options).empty()) {
        options.precision = Precision::f32;
        options.ranges = {};
    }
    const bool plain = options.precision == Precision::f32 && !options.allow_tf32 && options.deterministic;
    if (!plain) // what a backend cannot do of the operations, it says of the graph that it is to compile
        if (const auto rejected = backend.unsupported(graph, options); !rejected.empty())
            return Error{ErrorCode::operation_unsupported,
                         text("the ", backend.name(), " backend cannot run this model in ",
                              to_string(options.precision), ": ", rejected.front().reason),
                         std::string(to_string(options.precision))};
    return options;
}

RunInfo run_info(const Backend& backend, const CompileOptions& options) {
    return {.backend = std::string(backend.name()),
            .engine = backend.description(),
            .device = options.device,
            .precision = options.precision,
            .tf32 = options.allow_tf32,
            .deterministic = options.deterministic,
            .threads = options.threads};
}

} // namespace mfres
