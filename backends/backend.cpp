// SPDX-License-Identifier: MIT
#include "backends/backend.h"

#include "backends/training.h"
#include "core/argmax.h"
#include "core/try.h"
#include "graph/complexity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace mfres {

Status Executable::labels(std::size_t index, std::span<std::uint8_t> classes, int threads) const {
    return argmax(output(index), classes, threads);
}

Status Executable::compute_only(const LineSpans&) {
    return {};
}

std::int64_t Backend::planned_activations(const Graph& graph) const {
    return plan_activations(graph).planned;
}

namespace {

/// What the options of inference and training have in common.
Status check_threads_and_device(const Backend& backend, int threads, int device) {
    if (threads < 0 || threads > CompileOptions::max_threads)
        return Error{
            ErrorCode::invalid_argument,
            text("threads must be 0 to ", CompileOptions::max_threads, ", where 0 means all, and not ", threads),
            "threads"};
    const int devices = backend.devices(); // 0 where available() says why
    if (device < 0 || (devices > 0 && device >= devices))
        return Error{
            ErrorCode::invalid_argument,
            text("backend ", backend.name(), " has no device ", device, "; it has ", devices, ", counted from 0"),
            "device"};
    return {};
}

Status check_options(const Backend& backend, const CompileOptions& options) {
    MFRES_CHECK(check_threads_and_device(backend, options.threads, options.device));
    for (const auto& [convolution, range] : options.ranges)
        if (!std::isfinite(range.least) || !std::isfinite(range.most) || range.least > range.most)
            return Error{ErrorCode::invalid_argument,
                         text("the range of activations of convolution ", convolution, ", ", range.least, " to ",
                              range.most, ", is not one of finite numbers in ascending order"),
                         convolution};
    return {};
}

Status check_options(const Backend& backend, const TrainingOptions& options) {
    MFRES_CHECK(check_threads_and_device(backend, options.threads, options.device));
    if (!(options.batch_norm_momentum >= 0.0 && options.batch_norm_momentum <= 1.0))
        return Error{
            ErrorCode::invalid_argument,
            text("the momentum of batch normalisation is ", options.batch_norm_momentum, "; it must be within 0 and 1"),
            "batch_norm_momentum"};
    const std::pair<const char*, std::int64_t> sizes[] = {{"memory_cap", options.memory_cap},
                                                          {"largest_case", options.largest_case},
                                                          {"bucket_bytes", options.bucket_bytes}};
    for (const auto& [option, value] : sizes)
        if (value < 0)
            return Error{ErrorCode::invalid_argument, text(option, " must not be negative and is ", value), option};
    return {};
}

} // namespace

Result<std::unique_ptr<Executable>> Backend::compile(const Graph& graph, const Weights& weights,
                                                     const CompileOptions& options) const {
    MFRES_CHECK(check_options(*this, options));
    if (const auto rejected = unsupported(graph, options); !rejected.empty())
        return unsupported_error(name(), rejected);
    MFRES_CHECK(check_weights(graph, weights));
    return make_executable(graph, weights, options);
}

Result<std::unique_ptr<TrainingExecutable>> Backend::compile_training(const Graph& graph, const Weights& weights,
                                                                      const TrainingOptions& options) const {
    MFRES_CHECK(check_options(*this, options));
    MFRES_CHECK(check_training_outputs(graph));
    std::vector<Unsupported> rejected = inference_only_ops(
        graph, "has no gradient, so it can be run and not trained; train a network whose ops have one");
    if (rejected.empty())
        rejected = unsupported_training(graph, options);
    if (!rejected.empty())
        return unsupported_error(name(), rejected);
    MFRES_CHECK(check_weights(graph, weights));
    return make_training(graph, weights, options);
}

std::vector<Unsupported> Backend::unsupported_training(const Graph& graph, const TrainingOptions& options) const {
    return unsupported_arithmetic(graph, arithmetic_of(options));
}

Result<std::unique_ptr<TrainingExecutable>> Backend::make_training(const Graph&, const Weights&,
                                                                   const TrainingOptions&) const {
    return Error{ErrorCode::operation_unsupported, text("backend ", name(), " does not train"), std::string(name())};
}

Status check_loss_scaling(const LossScaling& scaling) {
    int exponent = 0;
    const bool power_of_two = std::frexp(scaling.scale, &exponent) == 0.5;
    if (!power_of_two || scaling.scale < 1.0 || scaling.scale > LossScaling::largest || scaling.good_steps < 0)
        return Error{ErrorCode::invalid_argument,
                     text("the loss scale ", scaling.scale, " after ", scaling.good_steps,
                          " steps is not a power of two from 1 to ", LossScaling::largest, " after 0 or more"),
                     "loss_scaling"};
    return {};
}

Status check_training_outputs(const Graph& graph) {
    const Shape& first = graph.node(graph.outputs()[0]).shape;
    for (const NodeId id : graph.outputs()) {
        const Shape& own = graph.node(id).shape;
        const std::int64_t n = first[2] / own[2];
        if (own[0] != first[0] || own[1] != first[1] || own[2] * n != first[2] || own[3] * n != first[3] ||
            own[4] * n != first[4])
            return Error{ErrorCode::graph_invalid,
                         text("a network is trained on outputs of equal batch and channels, the first of which has n "
                              "times the extents of each other; the first is ",
                              to_string(first), ", this one ", to_string(own)),
                         graph.node(id).name};
    }
    return {};
}

Status check_channels(Outputs outputs, const Shape& logits) {
    if (outputs == Outputs::regions && logits[1] != region_count)
        return Error{ErrorCode::invalid_argument,
                     text("a loss of regions needs logits of ", region_count, " channels and got ", to_string(logits)),
                     "logits"};
    return {};
}

Status check_classes(std::span<const std::uint8_t> classes, const Shape& logits, Outputs outputs) {
    MFRES_CHECK(check_channels(outputs, logits));
    const std::int64_t known = outputs == Outputs::regions ? classes_of_regions : logits[1];
    const std::int64_t voxels = logits.elements() / logits[1];
    if (static_cast<std::int64_t>(classes.size()) != voxels)
        return Error{ErrorCode::invalid_argument,
                     text("the loss got ", classes.size(), " classes for logits of ", to_string(logits), ", which has ",
                          voxels, " voxels"),
                     "classes"};
    const auto beyond =
        std::find_if(classes.begin(), classes.end(), [&](std::uint8_t c) { return std::int64_t{c} >= known; });
    if (beyond != classes.end())
        return Error{ErrorCode::invalid_argument,
                     text("class ", int{*beyond}, " of voxel ", beyond - classes.begin(), " is not one of the ", known,
                          " of the logits"),
                     "classes"};
    return {};
}

Status check_optimiser_step(const OptimiserStep& step) {
    const auto is_factor = [](double value) { return value >= 0.0 && value < 1.0; };
    const auto is_size = [](double value) { return std::isfinite(value) && value >= 0.0; };
    const auto invalid = [](const char* option, double value, const char* range) {
        return Error{ErrorCode::invalid_argument,
                     text(option, " of an optimiser step is ", value, "; it must be ", range), option};
    };
    if (step.step < 1)
        return invalid("step", static_cast<double>(step.step), "1 or more");
    using Named = std::pair<const char*, double>;
    for (const auto& [option, value] : {Named{"beta1", step.beta1}, Named{"beta2", step.beta2}})
        if (!is_factor(value))
            return invalid(option, value, "at least 0 and below 1");
    for (const auto& [option, value] : {Named{"learning_rate", step.learning_rate}, Named{"epsilon", step.epsilon},
                                        Named{"l2", step.l2}, Named{"clip_norm", step.clip_norm}})
        if (!is_size(value))
            return invalid(option, value, "a finite number, 0 or more");
    return {};
}

Status TrainingExecutable::start_crops(std::span<const CropRequest>) {
    return Error{ErrorCode::operation_unsupported, "this backend does not cut crops out of cases", "crops"};
}

Status TrainingExecutable::take_crops() {
    return start_crops({});
}

Status check_training_memory(std::string_view backend, std::int64_t bytes, std::int64_t plain_bytes,
                             const TrainingOptions& options) {
    if (options.memory_cap == 0 || bytes <= options.memory_cap)
        return {};
    const auto mib = [](std::int64_t value) { return (value + (1 << 20) - 1) >> 20; };
    return Error{
        ErrorCode::memory_limit,
        text("training with the ", backend, " backend needs ", mib(bytes), " MiB",
             bytes < plain_bytes ? text(" with activations computed again (", mib(plain_bytes), " MiB without)") : "",
             ", and ", options.memory_cap >> 20, " MiB may be used"),
        std::string(backend)};
}

std::vector<Unsupported> unsupported_relaxations(const Graph& graph, bool allow_tf32, bool deterministic) {
    const std::string& input = graph.node(graph.input()).name;
    std::vector<Unsupported> rejected;
    if (allow_tf32)
        rejected.push_back({input, "products are taken in full precision, there is no TF32 to allow"});
    if (!deterministic)
        rejected.push_back({input, "equal input gives equal bits, there is no faster way without"});
    return rejected;
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
    return {{graph.node(graph.input()).name, text("values cannot be stored as ", to_string(precision))}};
}

std::vector<Unsupported> inference_only_ops(const Graph& graph, std::string_view missing) {
    std::vector<Unsupported> found;
    for (const Node& node : graph.nodes())
        if (is_inference_only(node.kind()))
            found.push_back({node.name, text("the op ", name(node.kind()), " ", missing)});
    return found;
}

std::vector<Unsupported> unsupported_arithmetic(const Graph& graph, const CompileOptions& options) {
    std::vector<Unsupported> rejected = unsupported_precision(graph, options.precision);
    append(rejected, unsupported_relaxations(graph, options.allow_tf32, options.deterministic));
    return rejected;
}

CompileOptions arithmetic_of(const TrainingOptions& options) {
    return {options.threads, options.precision, options.allow_tf32, options.deterministic};
}

Error unsupported_error(std::string_view backend, const std::vector<Unsupported>& unsupported) {
    const auto& first = unsupported.front();
    return {ErrorCode::operation_unsupported,
            text("backend ", backend, " cannot run node ", first.node, ": ", first.reason, " (", unsupported.size(),
                 " such nodes)"),
            first.node};
}

} // namespace mfres
