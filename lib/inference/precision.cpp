// SPDX-License-Identifier: MIT
#include "inference/precision.h"

#include "core/try.h"

namespace mfres {

Result<ChosenBackend> choose_backend(const Model& model, const ComputeOptions& compute) {
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
    // What a backend cannot do of the operations, it says of the graph that it is to compile.
    const bool plain = options.precision == Precision::f32 && !options.allow_tf32 && options.deterministic;
    const auto rejected_by = [&](const Backend& backend) {
        return plain ? std::vector<Unsupported>() : backend.unsupported(graph, options);
    };
    MFRES_TRY(const Backend* const backend,
              find_backend(compute.backend, [&](const Backend& candidate) { return rejected_by(candidate).empty(); }));
    if (rejected_by(*backend).empty())
        return ChosenBackend{backend, std::move(options)};
    if (automatic && options.precision == Precision::int8) {
        ComputeOptions in_f32 = compute;
        in_f32.precision = Precision::f32;
        return choose_backend(model, in_f32);
    }
    std::string reasons;
    for (const Backend* const candidate : backends())
        if (candidate == backend ||
            (compute.backend == "auto" && candidate != backends().back() && candidate->available()))
            reasons +=
                text(reasons.empty() ? "" : "; ", "the ", candidate->name(), " backend cannot run this model in ",
                     to_string(options.precision), ": ", rejected_by(*candidate).front().reason);
    return Error{ErrorCode::operation_unsupported, reasons, std::string(to_string(options.precision))};
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
