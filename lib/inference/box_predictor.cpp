// SPDX-License-Identifier: MIT
#include "inference/box_predictor.h"

#include "core/memory_usage.h"
#include "core/parallel.h"
#include "core/stop.h"
#include "core/try.h"
#include "inference/sliding_window.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

namespace mfres {

namespace {

using Size = std::array<std::int64_t, 3>;

/// Voxels that neighbouring tiles share along each axis, when the brain box does not fit into memory in one piece.
constexpr std::int64_t tile_overlap = 32;

std::int64_t voxels(const Size& size) {
    return size[0] * size[1] * size[2];
}

std::int64_t weight_bytes(const Weights& weights) {
    std::int64_t bytes = 0;
    for (const auto& [name, tensor] : weights)
        bytes += tensor.elements() * static_cast<std::int64_t>(sizeof(float));
    return bytes;
}

/// The same graph with other outputs.
Graph with_outputs(const Graph& graph, const std::vector<NodeId>& outputs) {
    GraphBuilder builder;
    for (const Node& node : graph.nodes())
        (void)builder.add(node.name, node.op, node.inputs);
    for (const NodeId output : outputs)
        builder.output(output);
    return std::move(builder.finish()).value();
}

/// Voxels [first, second) of a box along each axis.
using Span3 = std::array<std::pair<std::int64_t, std::int64_t>, 3>;

/// The classes of one voxel from its nested regions.
void to_classes(float wt, float tc, float et, std::int64_t stride, float* classes) {
    tc = std::max(tc, et);
    wt = std::max(wt, tc);
    classes[0] = 1.0F - wt;
    classes[stride] = tc - et;
    classes[2 * stride] = wt - tc;
    classes[3 * stride] = et;
}

/// Copies the mean probabilities of the voxels that a tile decides into the box, as those of classes. `offset`: the
/// tile's place in it.
void store(const ProbabilityMean& probabilities, std::size_t images, const Size& offset, const Span3& decided,
           int threads, Outputs outputs, Tensor& box) {
    const StridedView<const float> sums = probabilities.sums();
    const StridedView<float> out = view(box);
    const float share = 1.0F / static_cast<float>(images);
    const std::int64_t channels = outputs == Outputs::regions ? 1 : sums.shape[1];
    parallel_ranges(decided[0].second - decided[0].first, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t x = decided[0].first + begin; x < decided[0].first + end; ++x)
            for (std::int64_t c = 0; c < channels; ++c)
                for (std::int64_t y = decided[1].first; y < decided[1].second; ++y)
                    for (std::int64_t z = decided[2].first; z < decided[2].second; ++z) {
                        const auto mean = [&](std::int64_t channel) {
                            return share * sums.at(0, channel, x - offset[0], y - offset[1], z - offset[2]);
                        };
                        if (outputs == Outputs::regions)
                            to_classes(mean(0), mean(1), mean(2), out.strides[1], &out.at(0, 0, x, y, z));
                        else
                            out.at(0, c, x, y, z) = mean(c);
                    }
    });
}

} // namespace

BoxPredictor::BoxPredictor(const Variant& variant, const Weights& weights, const Backend& backend,
                           BoxPredictorOptions options)
    : variant_(variant), weights_(weights), backend_(backend), options_(std::move(options)),
      budget_(weight_bytes(weights), variant.label_classes(), mirror_images(options_.mirror) > 1, options_.threads,
              backend.engine_bytes()) {}

/// Of logits, or with mirror images of sums of probabilities.
LabelRule BoxPredictor::rule() const {
    return {variant_.outputs(), mirrors() ? 0.5F * static_cast<float>(mirror_images(options_.mirror)) : 0.0F};
}

Status BoxPredictor::compile(const Size& size) {
    if (executable_ && compiled_size_ == size)
        return {};
    executable_.reset(); // two at a time would double the memory
    MFRES_TRY(const Graph graph, build_network(variant_, size));
    MFRES_TRY(auto compiled, backend_.compile(graph, weights_, options_.compile));
    chosen_ = compiled->chosen(); // may throw
    warnings_ = compiled->warnings();
    executable_ = std::move(compiled);
    compiled_size_ = size;
    release_unused_memory();
    return {};
}

/// Bytes of weights and activations of a pass over `size` voxels, as the backend plans them.
std::int64_t BoxPredictor::estimated_bytes(const Size& size) const {
    const auto graph = build_network(variant_, size);
    if (!graph)
        return std::numeric_limits<std::int64_t>::max();
    return backend_.planned_activations(*graph) + budget_.weights();
}

/// A process that takes more than its control group allows is ended by the system, so the plan is judged before.
Status BoxPredictor::check_system_memory(const CaseMemory& memory) const {
    if (options_.system_memory == 0)
        return {};
    const std::int64_t needed = budget_.peak(memory, memory.box, estimated_bytes(memory.box));
    if (needed <= options_.system_memory)
        return {};
    return Error{ErrorCode::memory_limit,
                 text("segmenting a box of ", memory.box[0], "x", memory.box[1], "x", memory.box[2],
                      " voxels in one pass needs about ", needed, " bytes, and the system leaves this process ",
                      options_.system_memory, "; with a limit on memory (max_memory) it runs in tiles"),
                 {}};
}

Result<Size> BoxPredictor::compile_within_limit(const CaseMemory& memory) {
    if (options_.max_memory == 0) {
        if (executable_ && compiled_size_ == memory.box)
            return memory.box;
        MFRES_CHECK(check_system_memory(memory));
        MFRES_CHECK(compile(memory.box));
        return memory.box;
    }
    // The plan does not know the backend's workspace; what compiling shows corrects it.
    double correction = 1.0;
    for (int attempt = 0; attempt < 4; ++attempt) {
        MFRES_TRY(
            const Size tile,
            choose_tile(memory.box, tile_overlap, variant_.multiple(), options_.max_memory, [&](const Size& candidate) {
                return budget_.peak(
                    memory, candidate,
                    static_cast<std::int64_t>(correction * static_cast<double>(estimated_bytes(candidate))));
            }));
        MFRES_CHECK(compile(tile));
        if (budget_.peak(memory, tile, executable_->peak_bytes()) <= options_.max_memory)
            return tile;
        correction = std::max(correction * 1.02, 1.001 * static_cast<double>(executable_->peak_bytes()) /
                                                     static_cast<double>(estimated_bytes(tile)));
    }
    return Error{ErrorCode::memory_limit,
                 text("no tile of the network fits into the ", options_.max_memory, " bytes allowed"),
                 {}};
}

std::int64_t BoxPredictor::tiles(const Size& box, const Size& tile) const {
    if (box == tile)
        return 1;
    const auto plan = plan_tiles(box, tile, tile_overlap, variant_.multiple());
    return plan ? static_cast<std::int64_t>(plan->count()) : 1;
}

/// Tells the network which voxels of the tile at `offset`, seen mirrored, are needed.
Status BoxPredictor::compute_needed(const BrainBox& box, const Size& offset, const MirrorAxes& image) const {
    if (options_.skip_background && box.add_needed) {
        needed_.clear(compiled_size_);
        box.add_needed(offset, needed_);
        needed_.mirror(image);
    } else {
        needed_.set_all();
    }
    return executable_->compute_only(needed_);
}

Status BoxPredictor::run_pass(StageClock& clock, std::size_t pass, std::size_t passes) const {
    Status observed;
    const auto show = [&](int done, int total) {
        observed =
            clock.show((static_cast<double>(pass) + static_cast<double>(done) / total) / static_cast<double>(passes));
        return observed.ok();
    };
    // The observer ends a run that is cancelled, and its outputs are not used.
    const StopScope stop(clock.cancelled(), OnStop::finish);
    const auto status = executable_->run(std::cref(show)); // held without an allocation
    return observed.ok() ? status : observed;
}

/// One tile and its mirror images, whose probabilities are added up in `mean` if there is one.
Status BoxPredictor::run_images(const BrainBox& box, const Size& offset, std::size_t tile, std::size_t tiles,
                                ProbabilityMean* mean, StageClock& clock) const {
    if (mean)
        mean->clear();
    const std::size_t images = mirror_images(options_.mirror);
    for (std::size_t n = 0; n < images; ++n) {
        const MirrorAxes image = mirror_image(options_.mirror, n);
        MFRES_CHECK(compute_needed(box, offset, image));
        box.fill(offset, mirrored(executable_->input(), image));
        MFRES_CHECK(run_pass(clock, tile * images + n, tiles * images));
        if (mean)
            MFRES_CHECK(mean->add(mirrored(executable_->output(0), image), options_.threads, offset));
    }
    return {};
}

Result<BoxPrediction> BoxPredictor::run_once(const BrainBox& box, bool probabilities, StageClock& clock) const {
    BoxPrediction prediction;
    prediction.classes.resize(static_cast<std::size_t>(voxels(box.size)));
    MFRES_CHECK(clock.start("fill input"));
    MFRES_CHECK(compute_needed(box, {0, 0, 0}, {}));
    box.fill({0, 0, 0}, executable_->input());
    if (box.filled)
        box.filled();
    MFRES_CHECK(clock.start("network"));
    MFRES_CHECK(run_pass(clock, 0, 1));
    MFRES_CHECK(clock.start("labels"));
    if (variant_.outputs() == Outputs::regions)
        MFRES_CHECK(assign_labels(executable_->output(0), rule(), prediction.classes, options_.threads, needed_));
    else // on the device, where the logits lie on one
        MFRES_CHECK(executable_->labels(0, prediction.classes, options_.threads));
    if (probabilities) {
        ProbabilityMean mean = take_mean();
        MFRES_CHECK(mean.add(executable_->output(0), options_.threads));
        prediction.probabilities = take_probabilities(box);
        store(mean, 1, {0, 0, 0}, {{{0, box.size[0]}, {0, box.size[1]}, {0, box.size[2]}}}, options_.threads,
              variant_.outputs(), *prediction.probabilities);
        if (options_.keep_memory)
            kept_mean_ = std::move(mean);
    }
    return prediction;
}

Result<BoxPrediction> BoxPredictor::run_tiles(const BrainBox& box, const Size& tile, bool probabilities,
                                              StageClock& clock) const {
    BoxPrediction prediction;
    prediction.classes.resize(static_cast<std::size_t>(voxels(box.size)));
    MFRES_CHECK(clock.start("network"));
    MFRES_TRY(TilePlan plan, plan_tiles(box.size, tile, tile_overlap, variant_.multiple()));
    const std::size_t tiles = plan.count();
    MFRES_TRY(TileLabels labels, TileLabels::create(std::move(plan), prediction.classes, options_.threads, rule()));
    std::optional<ProbabilityMean> mean;
    if (mirrors() || probabilities)
        mean = take_mean();
    if (probabilities)
        prediction.probabilities = take_probabilities(box);
    for (std::size_t n = 0; n < tiles; ++n) {
        const Size offset = labels.plan().offset(n);
        MFRES_CHECK(run_images(box, offset, n, tiles, mean ? &*mean : nullptr, clock));
        // Without mirror images labels are those of the logits: softmax could round two different ones to one value.
        MFRES_CHECK(labels.add(mirrors() ? mean->sums() : executable_->output(0)));
        if (probabilities)
            store(*mean, mirror_images(options_.mirror), offset, decided_by(labels.plan(), n), options_.threads,
                  variant_.outputs(), *prediction.probabilities);
    }
    if (options_.keep_memory)
        kept_mean_ = std::move(mean);
    return prediction;
}

/// The one kept, or a new one. Nothing has been added to it.
ProbabilityMean BoxPredictor::take_mean() const {
    const Shape& shape = executable_->output(0).shape;
    if (!kept_mean_ || kept_mean_->sums().shape != shape)
        return ProbabilityMean(shape, variant_.outputs());
    ProbabilityMean mean = *std::exchange(kept_mean_, std::nullopt);
    mean.clear();
    return mean;
}

/// Likewise.
Tensor BoxPredictor::take_probabilities(const BrainBox& box) const {
    const Shape shape{1, variant_.label_classes(), box.size[0], box.size[1], box.size[2]};
    if (!kept_probabilities_ || kept_probabilities_->shape() != shape)
        return Tensor(shape);
    return *std::exchange(kept_probabilities_, std::nullopt);
}

void BoxPredictor::recycle(Tensor probabilities) {
    if (options_.keep_memory)
        kept_probabilities_ = std::move(probabilities);
}

Result<BoxPrediction> BoxPredictor::run(const BrainBox& box, const Size& tile, bool probabilities,
                                        StageClock& clock) const {
    if (tile == box.size && !mirrors())
        return run_once(box, probabilities, clock);
    return run_tiles(box, tile, probabilities, clock);
}

Result<Tensor> BoxPredictor::logits(const BrainBox& box) {
    MFRES_CHECK(compile(box.size));
    needed_.set_all();
    MFRES_CHECK(executable_->compute_only(needed_));
    box.fill({0, 0, 0}, executable_->input());
    MFRES_CHECK(executable_->run());
    const auto output = executable_->output(0);
    Tensor dense(output.shape);
    copy(output, view(dense));
    return dense;
}

Result<Network> BoxPredictor::inference_network(const Size& size) const {
    MFRES_TRY(const Graph graph, build_network(variant_, size));
    return inference_form(graph, weights_);
}

Status BoxPredictor::observe(const Network& network, const std::vector<NodeId>& values, const BrainBox& box,
                             const std::function<Status(const Executable&)>& look) const {
    const Graph probe = with_outputs(network.graph, values);
    MFRES_TRY(const auto executable, backend_.compile(probe, network.weights, options_.compile));
    box.fill({0, 0, 0}, executable->input());
    MFRES_CHECK(executable->run());
    return look(*executable);
}

} // namespace mfres
