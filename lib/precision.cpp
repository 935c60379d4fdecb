#include "precision.h"

#include "core/try.h"

namespace mfres {

Result<CompileOptions> compile_options(const Model& model, const Backend& backend, std::string_view precision,
                                       int threads) {
    MFRES_TRY(const Graph graph, parameter_graph(model.variant));
    CompileOptions options{.threads = threads};
    if (precision == "auto") {
        if (!model.metadata.quantisation.int8_weights)
            return options;
        options.precision = Precision::int8;
        options.ranges = model.metadata.quantisation.ranges;
        if (!backend.unsupported(graph, options).empty())
            return CompileOptions{.threads = threads};
        return options;
    }
    MFRES_TRY(options.precision, parse_precision(precision));
    if (options.precision == Precision::int8)
        options.ranges = model.metadata.quantisation.ranges;
    if (options.precision != Precision::f32)
        if (const auto refused = backend.unsupported(graph, options); !refused.empty())
            return Error{ErrorCode::operation_unsupported,
                         text("the ", backend.name(), " backend cannot run this model in ", precision, ": ",
                              refused.front().reason),
                         std::string(precision)};
    return options;
}

} // namespace mfres
