// SPDX-License-Identifier: MIT
#include "backends/cuda/training.h"

#include "backends/cuda/crop_cutter.h"
#include "backends/cuda/inference.h"
#include "backends/cuda/training_ops.h"
#include "backends/distributed/data_parallel.h"
#include "core/try.h"
#include "graph/commute.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace mfres::cuda {

namespace {

/// Work that is recorded in its second run: engines load kernels in the first.
class Repeated {
  public:
    void run(Engine& engine, const std::function<void()>& work) {
        if (runs_++ == 1)
            recording_ = engine.record(work);
        if (recording_)
            recording_->run();
        else
            work();
    }

  private:
    std::unique_ptr<Recording> recording_;
    std::int64_t runs_ = 0;
};

/// A GPU as an engine of the training executor. Values and gradients are channels-last arrays of one element type in
/// device memory. The caller reads and writes planes of floats in host memory, [batch, channel, x, y, z].
class CudaTraining final : public TrainingEngine {
  public:
    CudaTraining(std::unique_ptr<Engine> engine, const Graph& graph, const Weights& weights,
                 const TrainingOptions& options)
        : engine_(std::move(engine)), type_(element_type(options.precision)), largest_case_(options.largest_case),
          constants_(*engine_), parameters_(*engine_, graph, weights, type_, options.amsgrad) {
        rules_.allow_tf32 = options.allow_tf32;
        rules_.deterministic = options.deterministic;
    }

    std::string_view name() const override { return "cuda"; }
    Status guarded(const std::string& node, const std::function<void()>& body) const override {
        engine_->at(node);
        return cuda::guarded(node, body);
    }
    Status enter(const std::function<Status()>& body) const override {
        MFRES_CHECK(guarded("(all)", [&] { engine_->enter(); }));
        return body();
    }
    void abandon() const override {
        if (ranks_)
            ranks_->abandon();
    }

    // Compilation

    std::int64_t value_bytes() const override { return bytes_of(type_); }
    bool concat_in_place() const override { return true; }
    TrainingFusionRules fusion_rules() const override { return {.join_convolutions = true, .unstored_slices = true}; }

    void begin(const TrainingNetwork& network) override {
        network_ = &network;
        ranks_ = make_device_ranks(*engine_, network.ranks);
        context_.emplace(TrainingContext{network, parameters_, *engine_, constants_, type_, rules_, *ranks_, norms_});
        for (const NodeId id : network.graph.outputs())
            ends_.emplace_back(network.graph.node(id).shape);
        loss_counters_ = constants_.counters(output_shape()[1]);
        const Shape& in = input_shape();
        if (largest_case_ > 0 && cuts_crops())
            crop_bytes_ = CropCutter::most_bytes(in[0], {in[2], in[3], in[4]}, largest_case_);
    }

    std::unique_ptr<TrainingOp> make_convolution(const std::vector<NodeId>& nodes) override {
        return cuda::make_convolution(*context_, nodes);
    }
    std::unique_ptr<TrainingOp> make_sum(const FusedSum& sum) override { return cuda::make_sum(*context_, sum); }
    std::unique_ptr<TrainingOp> make_copy(NodeId node) override { return cuda::make_copy(*context_, node); }
    std::unique_ptr<TrainingOp> make_resampling(NodeId node) override { return cuda::make_resampling(*context_, node); }

    std::int64_t loss_workspace_bytes() const override {
        std::int64_t bytes = 0;
        for (const End& end : ends_)
            bytes = std::max(bytes, end.space.bytes());
        return bytes;
    }

    std::int64_t other_bytes() const override {
        std::int64_t bytes = 4 * input_shape().elements() + slope_bytes() + parameters_.bytes() + constants_.bytes() +
                             crop_bytes_ + loss_extra_.bytes() + targets_.bytes();
        for (const End& end : ends_)
            bytes += 8 * end.shape.elements() + class_count(end.shape);
        return bytes;
    }

    std::vector<std::string> warnings() const override { return engine_->warnings(); }

    // Arrays

    void allocate(std::int64_t block_bytes) override {
        parameters_.finish_packing();
        block_ = Block(*engine_, block_bytes);
        const std::int64_t in = 4 * input_shape().elements();
        input_planes_ = Block(*engine_, in);
        host_input_ = Block(*engine_, in, true);
        for (End& end : ends_) {
            const std::int64_t out = 4 * end.shape.elements();
            end.planes = Block(*engine_, out);
            end.gradient_planes = Block(*engine_, out);
            end.host = Block(*engine_, out, true);
            end.host_gradient = Block(*engine_, out, true);
            end.classes = Block(*engine_, class_count(end.shape));
        }
        slopes_ = Block(*engine_, slope_bytes());
    }

    std::byte* block() const override { return block_.as<std::byte>(); }

    void bind(const TrainingEnds& ends) override {
        input_data_ = ends.placement.at(ends.input);
        for (std::size_t k = 0; k < ends_.size(); ++k) {
            ends_[k].data = ends.placement.at(ends.outputs[k]);
            ends_[k].gradient = ends.placement.at(ends.output_gradients[k]);
        }
        loss_workspace_ = ends.placement.at(ends.loss_workspace);
    }

    StridedView<float> input() override {
        input_on_device_ = false;
        return {host_input_.as<float>(), input_shape(), dense_strides(input_shape())};
    }

    StridedView<const float> output(std::size_t index) const override {
        const End& end = ends_[index];
        if (!end.on_host)
            copy_to_host(end, end.data, 1.0, end.planes, end.host);
        end.on_host = true;
        return {end.host.as<float>(), end.shape, dense_strides(end.shape)};
    }

    StridedView<float> output_gradient(std::size_t index) override {
        End& end = ends_[index];
        if (!end.gradient_on_host)
            copy_to_host(end, end.gradient, 1.0 / scale(), end.gradient_planes, end.host_gradient);
        end.gradient_on_host = true;
        return {end.host_gradient.as<float>(), end.shape, dense_strides(end.shape)};
    }

    void allocate_targets() override {
        if (targets_.bytes() > 0)
            return;
        const std::int64_t bytes = 4 * output_shape().elements();
        targets_ = Block(*engine_, bytes);
        host_targets_ = Block(*engine_, bytes, true);
    }
    StridedView<float> targets() override {
        return {host_targets_.as<float>(), output_shape(), dense_strides(output_shape())};
    }

    // Parameters

    ParameterStore& parameters() override { return parameters_; }
    const ParameterStore& parameters() const override { return parameters_; }
    Status start_gradient_sum(std::size_t begin, std::size_t end) override {
        return guarded("(all)", [&] {
            parameters_.unpack_gradients(begin, end);
            ranks_->start_sum(parameters_.flat_gradients() + begin, static_cast<std::int64_t>(end - begin));
        });
    }
    Status finish_gradient_sums() override {
        return guarded("(all)", [&] { ranks_->finish_sums(); });
    }
    std::string sums_implementation() const override { return ranks_->description(); }

    // Crops

    bool cuts_crops() const override {
        const Shape& in = input_shape();
        const Shape& out = output_shape();
        return in[1] == 4 && out[1] == 4 && in[2] == out[2] && in[3] == out[3] && in[4] == out[4];
    }

    void plan_crops(std::span<const CropRequest> crops) override {
        const Shape& in = input_shape();
        if (!cutter_)
            cutter_.emplace(*engine_, in[0], std::array{in[2], in[3], in[4]});
        crop_bytes_ = std::max(crop_bytes_, cutter_->bytes(crops));
    }
    void start_crops(std::span<const CropRequest> crops) override { cutter_->start(crops); }
    void take_crops() override {
        cutter_->take(input_planes_.as<float>(), ends_[0].classes.as<std::uint8_t>());
        input_on_device_ = true;
    }

    // Passes

    bool records() const override { return ranks_->recordable(); }
    void run_all(TrainingPass pass, NormStatistics statistics, const std::function<void()>& ops) override {
        repeated_[static_cast<std::size_t>(pass)][static_cast<std::size_t>(statistics)].run(*engine_, ops);
    }

    void start_forward() override {
        for (End& end : ends_)
            end.on_host = false;
        if (!input_on_device_)
            engine_->upload(input_planes_.data(), host_input_.data(), host_input_.bytes());
        parameters_.pack_values();
    }

    void convert_input() override {
        const Shape& shape = input_shape();
        engine_->kernels().from_planes(engine_->stream(), type_, shape[0], voxels_of(shape), shape[1],
                                       input_planes_.as<float>(), 1.0F, input_data_);
    }

    void start_backward() override {
        for (const End& end : ends_)
            if (end.gradient_on_host) {
                engine_->upload(end.gradient_planes.data(), end.host_gradient.data(), end.host_gradient.bytes());
                engine_->kernels().from_planes(engine_->stream(), type_, end.shape[0], voxels_of(end.shape),
                                               end.shape[1], end.gradient_planes.as<float>(),
                                               static_cast<float>(scale()), end.gradient);
            }
    }

    /// With several ranks each part is unpacked when its sum begins.
    void finish_backward() override {
        if (network_->ranks.alone())
            parameters_.unpack_gradients(0, parameters_.floats());
    }

    // Loss

    void set_classes(std::span<const std::uint8_t> classes) override {
        engine_->upload(ends_[0].classes.data(), classes.data(), class_count(output_shape()));
    }

    void start_loss(std::size_t output, const LossTerms& terms) override {
        const End& end = ends_[output];
        if (output > 0)
            choose_classes(end);
        // Class sums of the whole batch fit into the workspace.
        sums_alone_ = !terms.per_sample() && !terms.has_pointwise() && !terms.has_distillation();
        if (!sums_alone_)
            allocate_loss_extra();
        arguments_ = LossArguments();
        arguments_.chunks = end.chunks;
        arguments_.logits = end.data;
        arguments_.classes = end.classes.as<std::uint8_t>();
        arguments_.groups = static_cast<std::int64_t>(terms.groups());
        arguments_.partials = reinterpret_cast<double*>(loss_workspace_);
        arguments_.totals =
            sums_alone_ ? reinterpret_cast<double*>(loss_workspace_ + end.space.partials) : loss_extra_.as<double>();
        arguments_.counters = loss_counters_;
        arguments_.pointwise.gamma = static_cast<float>(terms.rule().gamma);
        arguments_.regions = terms.outputs() == Outputs::regions;
        std::copy(region_masks.begin(), region_masks.end(), arguments_.region_masks);
    }

    std::vector<ClassSums> class_sums(std::size_t, const LossTerms& terms) override {
        engine_->kernels().class_sums(engine_->stream(), type_, arguments_);
        if (!terms.per_sample())
            ranks_->sum(arguments_.totals, 4 * output_shape()[1]);
        return read_sums();
    }
    bool sums_classes_over_ranks() const override { return true; }

    void count_digits(std::size_t, const LossTerms&, std::uint64_t prefix, int shift,
                      std::span<double> counts) override {
        arguments_.prefix = static_cast<std::uint32_t>(prefix);
        arguments_.shift = shift;
        arguments_.counts =
            reinterpret_cast<std::uint32_t*>(loss_extra_.as<std::byte>() + extra_sum_bytes() + extra_slope_bytes());
        std::vector<std::uint32_t> counted(digit_values);
        const auto bytes = static_cast<std::int64_t>(counted.size() * sizeof(std::uint32_t));
        engine_->clear(arguments_.counts, bytes);
        engine_->kernels().count_digits(engine_->stream(), type_, arguments_);
        engine_->download(counted.data(), arguments_.counts, bytes);
        std::copy(counted.begin(), counted.end(), counts.begin());
    }

    VoxelSums loss_gradient(std::size_t output, const LossTerms& terms) override {
        const PointwiseRule& rule = terms.rule();
        arguments_.pointwise.weight = static_cast<float>(rule.weight);
        arguments_.pointwise.threshold = static_cast<float>(rule.threshold);
        arguments_.pointwise.at_threshold = static_cast<float>(rule.at_threshold);
        arguments_.slopes = sums_alone_ ? slopes_.as<float>() : extra_slopes();
        write_slopes(terms.slopes(), const_cast<float*>(arguments_.slopes));
        arguments_.scale = static_cast<float>(scale());
        arguments_.gradient = ends_[output].gradient;
        ends_[output].gradient_on_host = false;
        if (sums_alone_) {
            engine_->kernels().loss_gradient(engine_->stream(), type_, arguments_);
            return {};
        }
        if (terms.has_distillation()) {
            engine_->upload(targets_.data(), host_targets_.data(), targets_.bytes());
            arguments_.targets = targets_.as<float>();
            const DistillationRule& distillation = terms.distillation();
            arguments_.distillation = static_cast<float>(distillation.weight / distillation.temperature);
            arguments_.inverse_temperature = static_cast<float>(1.0 / distillation.temperature);
        }
        engine_->kernels().whole_loss_gradient(engine_->stream(), type_, arguments_);
        std::array<double, 2> totals{};
        engine_->download(totals.data(), arguments_.totals, sizeof totals);
        return {totals[0], totals[1]};
    }

  private:
    /// An output of the graph.
    struct End {
        explicit End(const Shape& of) : shape(of), chunks(chunking(of)), space(chunks, 1, 4) {}

        Shape shape;
        Chunking chunks; ///< of the loss
        SumSpace space;
        void *data = nullptr, *gradient = nullptr;
        Block planes, gradient_planes, classes, host, host_gradient;
        mutable bool on_host = true;  ///< `host` holds the output of the last run
        bool gradient_on_host = true; ///< `host_gradient` holds the gradient, which the caller may have written
    };

    const Shape& input_shape() const { return network_->input_shape(); }
    const Shape& output_shape() const { return network_->output_shape(0); }
    double scale() const { return network_->scale.value(); }
    static std::int64_t class_count(const Shape& shape) { return shape[0] * voxels_of(shape); }
    std::int64_t slope_bytes() const { return 3 * output_shape()[1] * 4; }

    /// An error here is reported by the next call that returns a status.
    void copy_to_host(const End& end, const void* data, double factor, const Block& planes, const Block& host) const {
        const Shape& shape = end.shape;
        const Status copied = enter([&] {
            return guarded("output", [&] {
                engine_->kernels().to_planes(engine_->stream(), type_, shape[0], voxels_of(shape), shape[1], data,
                                             static_cast<float>(factor), planes.as<float>());
                engine_->download(host.data(), planes.data(), host.bytes());
            });
        });
        if (!copied)
            abandon();
    }

    /// The classes of a coarser output, from those of the first.
    void choose_classes(const End& end) const {
        NthArguments arguments;
        arguments.first = extents_of(output_shape());
        arguments.own = extents_of(end.shape);
        arguments.step = output_shape()[2] / end.shape[2];
        arguments.from = ends_[0].classes.as<std::uint8_t>();
        arguments.to = end.classes.as<std::uint8_t>();
        engine_->kernels().every_nth(engine_->stream(), arguments);
    }

    static Extents extents_of(const Shape& shape) { return {shape[0], shape[2], shape[3], shape[4], 1}; }

    // What a loss needs that is not a function of one set of class sums alone: sums and slopes by sample, and counts of
    // digits.
    std::int64_t extra_sum_bytes() const { return 8 * 4 * output_shape()[0] * output_shape()[1]; }
    std::int64_t extra_slope_bytes() const { return (slope_bytes() * output_shape()[0] + 7) / 8 * 8; }
    float* extra_slopes() const { return reinterpret_cast<float*>(loss_extra_.as<std::byte>() + extra_sum_bytes()); }
    void allocate_loss_extra() {
        if (loss_extra_.bytes() == 0)
            loss_extra_ = Block(*engine_, extra_sum_bytes() + extra_slope_bytes() +
                                              static_cast<std::int64_t>(digit_values * sizeof(std::uint32_t)));
    }

    /// [group][class]
    std::vector<ClassSums> read_sums() const {
        const auto channels = static_cast<std::size_t>(output_shape()[1]);
        const auto groups = static_cast<std::size_t>(arguments_.groups);
        std::vector<double> values(groups * 4 * channels);
        engine_->download(values.data(), arguments_.totals, static_cast<std::int64_t>(values.size() * sizeof(double)));
        std::vector<ClassSums> sums;
        for (std::size_t group = 0; group < groups; ++group)
            for (std::size_t c = 0; c < channels; ++c) {
                const double* own = values.data() + group * 4 * channels + c;
                sums.push_back({own[0], own[channels], own[2 * channels], own[3 * channels]});
            }
        return sums;
    }

    /// From [group][class] to [group][kind][class].
    void write_slopes(const std::vector<ClassSlope>& slopes, float* to) const {
        const auto channels = static_cast<std::size_t>(output_shape()[1]);
        std::vector<float> values(3 * slopes.size());
        for (std::size_t i = 0; i < slopes.size(); ++i) {
            float* own = values.data() + i / channels * 3 * channels + i % channels;
            own[0] = static_cast<float>(slopes[i].truth);
            own[channels] = static_cast<float>(slopes[i].constant);
            own[2 * channels] = static_cast<float>(slopes[i].probability);
        }
        engine_->upload(to, values.data(), static_cast<std::int64_t>(values.size() * sizeof(float)));
    }

    std::unique_ptr<Engine> engine_; // first: everything else returns its memory to it
    ElementType type_;
    ConvolutionRules rules_;
    std::int64_t largest_case_;
    Constants constants_;
    DeviceParameters parameters_;
    const TrainingNetwork* network_ = nullptr;
    std::unique_ptr<DeviceRanks> ranks_; ///< sums over the ranks on the device
    std::map<NodeId, Operand> norms_;
    std::optional<TrainingContext> context_;
    std::vector<End> ends_;                           ///< by output
    std::array<std::array<Repeated, 2>, 2> repeated_; ///< by pass and statistics

    void* input_data_ = nullptr;
    std::byte* loss_workspace_ = nullptr;
    Block block_, input_planes_, host_input_, slopes_;
    std::uint32_t* loss_counters_ = nullptr;
    Block loss_extra_;             ///< empty until a loss needs it
    Block targets_, host_targets_; ///< of distillation; empty until allocate_targets()
    LossArguments arguments_;      ///< of the current loss
    bool sums_alone_ = true;       ///< the current loss is a function of one set of class sums
    bool input_on_device_ = false;
    std::optional<CropCutter> cutter_; ///< once there are crops
    std::int64_t crop_bytes_ = 0;      ///< the most that crops need, as planned or as needed so far
};

} // namespace

Result<std::unique_ptr<TrainingExecutable>> compile_training(std::unique_ptr<Engine> engine, const Graph& graph,
                                                             const Weights& weights, const TrainingOptions& options) {
    // Before the engine is asked for convolutions that may be too large for it: no plan is smaller than its largest value.
    for (const Node& node : graph.nodes())
        MFRES_CHECK(check_training_memory("cuda", node.shape.elements() * bytes_of(element_type(options.precision)), 0,
                                          options));
    // A convolution runs on an eighth of the voxels there, and fewer channels are interpolated.
    const Graph trained = move_pointwise_before_whole_upsample(graph);
    return compile_planned_training(std::make_unique<CudaTraining>(std::move(engine), trained, weights, options),
                                    trained, options);
}

} // namespace mfres::cuda
