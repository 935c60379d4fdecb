#include "backends/backend.h"

#include "backends/training.h"
#include "core/try.h"
#include "graph/complexity.h"

#include <array>

namespace mfres {

std::int64_t Backend::planned_activations(const Graph& graph) const {
    return plan_activations(graph).planned;
}

Result<std::unique_ptr<TrainingExecutable>> Backend::compile_training(const Graph&, const Weights&,
                                                                      const TrainingOptions&) const {
    return Error{ErrorCode::operation_unsupported, text("backend ", name(), " does not train"), std::string(name())};
}

Status check_training_memory(std::string_view backend, std::int64_t bytes, const TrainingOptions& options) {
    if (options.max_bytes > 0 && bytes > options.max_bytes)
        return Error{ErrorCode::memory_limit,
                     text("training with the ", backend, " backend needs ", bytes >> 20, " MiB, and ",
                          options.max_bytes >> 20, " MiB may be used"),
                     std::string(backend)};
    return {};
}

Result<const Backend*> find_backend(std::string_view name) {
    std::string available;
    for (const Backend* backend : backends()) {
        const Status usable = backend->available();
        if ((name == "auto" && usable) || backend->name() == name) {
            MFRES_CHECK(usable);
            return backend;
        }
        if (!usable)
            continue;
        available += (available.empty() ? "" : ", ") + std::string(backend->name());
    }
    static constexpr std::array<std::string_view, 4> all = {"cuda", "onednn", "opencv", "reference"};
    for (const auto known : all)
        if (name == known)
            return Error{ErrorCode::backend_unavailable,
                         text("backend ", name, " is not part of this build; available: ", available),
                         std::string(name)};
    return Error{ErrorCode::backend_unknown, text("there is no backend '", name, "'; available: ", available),
                 std::string(name)};
}

std::string_view name(Precision precision) noexcept {
    switch (precision) {
    case Precision::f32: return "f32";
    case Precision::bf16: return "bf16";
    case Precision::fp16: return "fp16";
    case Precision::int8: return "int8";
    }
    return "";
}

Result<Precision> parse_precision(std::string_view text) {
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::fp16, Precision::int8})
        if (text == name(precision))
            return precision;
    return Error{ErrorCode::invalid_argument,
                 mfres::text("precision is '", text, "'; there is f32, bf16, fp16 and int8"), "precision"};
}

std::vector<Unsupported> unsupported_without_ranges(const Graph& graph, const CompileOptions& options) {
    if (options.precision != Precision::int8 || !options.ranges.empty())
        return {};
    return {
        {graph.node(graph.input()).name,
         "int8 needs ranges of activations, which 'mfres convert --calibrate' measures and puts into a model file"}};
}

std::vector<Unsupported> unsupported_precision(const Graph& graph, Precision precision) {
    if (precision == Precision::f32)
        return {};
    return {{graph.node(graph.input()).name, text("values cannot be stored as ", name(precision))}};
}

Error unsupported_error(std::string_view backend, const std::vector<Unsupported>& unsupported) {
    const auto& first = unsupported.front();
    return {ErrorCode::operation_unsupported,
            text("backend ", backend, " cannot run node ", first.node, ": ", first.reason, " (", unsupported.size(),
                 " such nodes)"),
            first.node};
}

} // namespace mfres
