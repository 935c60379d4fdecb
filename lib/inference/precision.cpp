// SPDX-License-Identifier: MIT
#include "inference/precision.h"

#include "core/try.h"

namespace mfres {

Result<CompileOptions> compile_options(const Model& model, const Backend& backend, std::string_view precision,
                                       const CompileOptions& base) {
    MFRES_TRY(const Graph graph, parameter_graph(model.variant));
    CompileOptions options = base;
    const bool automatic = precision == "auto";
    if (automatic) {
        options.precision = model.metadata.quantization.int8_weights ? Precision::int8 : Precision::f32;
    } else {
        MFRES_TRY(options.precision, parse_precision(precision));
    }
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
                         text("the ", backend.name(), " backend cannot run this model in ", name(options.precision),
                              ": ", rejected.front().reason),
                         std::string(name(options.precision))};
    return options;
}

} // namespace mfres
