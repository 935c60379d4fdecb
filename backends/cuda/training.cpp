// SPDX-License-Identifier: MIT
#include "backends/cuda/training.h"

#include "backends/cuda/crop_cutter.h"
#include "backends/cuda/inference.h"
#include "backends/cuda/training_step.h"
#include "backends/planned/loss_terms.h"
#include "core/try.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

namespace mfres::cuda {

namespace {

/// LossScaling as it goes from step to step; 1 in other precisions.
class LossScale {
  public:
    explicit LossScale(ElementType type) : scales_(type == ElementType::fp16) {}

    double value() const { return scales_ ? now_.scale : 1.0; }
    bool scales() const { return scales_; }
    std::optional<LossScaling> state() const { return scales_ ? std::optional(now_) : std::nullopt; }
    void set(const std::optional<LossScaling>& state) { now_ = state.value_or(LossScaling()); }
    void overflowed() {
        now_.scale /= 2.0;
        now_.good_steps = 0;
    }
    void succeeded() {
        constexpr std::int64_t spin_timeout = 2000;
        if (scales_ && ++now_.good_steps % spin_timeout == 0)
            now_.scale = std::min(now_.scale * 2.0, LossScaling::largest);
    }

  private:
    bool scales_;
    LossScaling now_;
};

/// Work that is recorded when it is asked for the second time: engines load what they need in the first.
class Repeated {
  public:
    /// `recordable`: it asks the engine for everything and the host for nothing.
    void run(Engine& engine, bool recordable, const std::function<void()>& work) {
        if (recordable && runs_++ == 1)
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

class CudaTraining final : public TrainingExecutable {
  public:
    CudaTraining(std::unique_ptr<Engine> engine, const Graph& graph, const Weights& weights,
                 const TrainingOptions& options)
        : engine_(std::move(engine)), graph_(graph), host_ranks_(ranks_of(options)),
          type_(element_type(options.precision)), options_(options), momentum_(options.batch_norm_momentum),
          with_gradient_(values_with_gradient(graph_)), scale_(type_), constants_(*engine_),
          parameters_(*engine_, graph_, weights, options.amsgrad) {
        for (const NodeId id : graph_.outputs())
            ends_.emplace_back(graph_.node(id).shape);
        rules_.allow_tf32 = options.allow_tf32;
        rules_.deterministic = options.deterministic;
    }

    Status compile(const TrainingOptions& options) {
        // Before the engine is asked for convolutions that may be beyond it: no plan is smaller than its largest value.
        for (const Node& node : graph_.nodes())
            MFRES_CHECK(check_training_memory("cuda", node.shape.elements() * bytes_of(type_), 0, options));
        const std::vector<FormedStep> formed = form_training_steps(graph_);
        MFRES_CHECK(attempt("(all)", [&] {
            ranks_ = make_device_ranks(*engine_, host_ranks_);
            steps_ = make_training_steps({graph_, with_gradient_, parameters_, *engine_, constants_, type_, rules_,
                                          statistics_, momentum_, *ranks_},
                                         formed);
            plan_sums(options.bucket_bytes);
        }));
        std::int64_t ends = 0;
        ScheduleRules rules{bytes_of(type_), 0, 0};
        for (const End& end : ends_) {
            ends += 8 * end.shape.elements() + class_count(end.shape);
            rules.loss_scratch = std::max(rules.loss_scratch, end.space.bytes());
        }
        const std::int64_t fixed = 4 * input_shape().elements() + ends + slope_bytes() + parameters_.bytes() +
                                   constants_.bytes() + planned_crops(options);
        if (options.memory_cap > 0)
            rules.limit = std::max<std::int64_t>(1, options.memory_cap - fixed);
        std::vector<StepNeeds> needs;
        for (const auto& step : steps_)
            needs.push_back(step->needs());
        const TrainingSchedule schedule = schedule_training(graph_, formed, needs, rules);
        peak_bytes_ = fixed + schedule.bytes;
        if (Status fits = check_training_memory("cuda", peak_bytes_, fixed + schedule.plain_bytes, options); !fits) {
            ranks_->abandon();
            return fits;
        }
        recomputation_ = {schedule.steps_again, schedule.macs_again};
        turns_ = schedule.backward;
        return attempt("(all)", [&] {
            allocate(schedule.bytes);
            bind(schedule);
        });
    }

    bool cuts_crops() const override { return input_shape()[1] == 4 && output_shape()[1] == 4 && same_grid(); }

    Status start_crops(std::span<const CropRequest> crops) override {
        if (!cuts_crops())
            return TrainingExecutable::start_crops(crops);
        const Shape& shape = input_shape();
        if (static_cast<std::int64_t>(crops.size()) != shape[0])
            return Error{ErrorCode::invalid_argument,
                         text("there are ", crops.size(), " crops for a batch of ", shape[0]), "crops"};
        MFRES_CHECK(attempt("crops", [&] {
            if (!cutter_)
                cutter_.emplace(*engine_, shape[0], std::array{shape[2], shape[3], shape[4]});
        }));
        crop_bytes_ = std::max(crop_bytes_, cutter_->bytes(crops));
        MFRES_CHECK(check_training_memory("cuda", peak_bytes(), 0, options_));
        return attempt("crops", [&] { cutter_->start(crops); });
    }

    Status take_crops() override {
        return attempt("crops", [&] {
            cutter_->take(input_planes_.as<float>(), ends_[0].classes.as<std::uint8_t>());
            input_on_device_ = classes_on_device_ = true;
        });
    }

    StridedView<float> input() override {
        input_on_device_ = false;
        return {host_input_.as<float>(), input_shape(), dense_strides(input_shape())};
    }

    Status forward(NormStatistics statistics) override {
        statistics_ = statistics;
        for (End& end : ends_)
            end.on_host = false;
        return attempt("forward", [&] {
            if (!input_on_device_)
                engine_->upload(input_planes_.data(), host_input_.data(), host_input_.bytes());
            forward_[index(statistics)].run(*engine_, ranks_->recordable(), [this] { compute(); });
        });
    }

    std::size_t outputs() const override { return ends_.size(); }

    StridedView<const float> output(std::size_t index) const override {
        const End& end = ends_[index];
        if (!end.on_host)
            to_host(end, end.data, 1.0, end.planes, end.host);
        end.on_host = true;
        return {end.host.as<float>(), end.shape, dense_strides(end.shape)};
    }

    StridedView<float> output_gradient(std::size_t index) override {
        End& end = ends_[index];
        if (!end.gradient_on_host)
            to_host(end, end.gradient, 1.0 / scale_.value(), end.gradient_planes, end.host_gradient);
        end.gradient_on_host = true;
        return {end.host_gradient.as<float>(), end.shape, dense_strides(end.shape)};
    }

    Result<StridedView<float>> targets() override {
        MFRES_CHECK(attempt("targets", [this] { hold_targets(); }));
        return StridedView<float>{host_targets_.as<float>(), output_shape(), dense_strides(output_shape())};
    }

    Result<double> loss(std::span<const std::uint8_t> classes, const Loss& loss) override {
        MFRES_CHECK(check_output_weights(loss, outputs()));
        const bool of_crops = classes.empty() && classes_on_device_;
        if (!of_crops)
            MFRES_CHECK(check_classes(classes, output_shape()));
        classes_on_device_ = of_crops;
        double value = 0.0;
        MFRES_CHECK(attempt("loss", [&] {
            if (!of_crops)
                engine_->upload(ends_[0].classes.data(), classes.data(), class_count(output_shape()));
            if (outputs() == 1)
                value = loss_of(ends_[0], loss);
            for (std::size_t k = 0; k < outputs() && outputs() > 1; ++k) {
                if (k > 0)
                    choose_classes(ends_[k]);
                value += loss_of(ends_[k], loss_of_output(loss, k));
            }
        }));
        return value;
    }

    Status backward() override {
        return attempt("backward", [&] {
            for (const End& end : ends_)
                if (end.gradient_on_host) {
                    engine_->upload(end.gradient_planes.data(), end.host_gradient.data(), end.host_gradient.bytes());
                    engine_->kernels().from_planes(engine_->stream(), type_, end.shape[0], voxels_of(end.shape),
                                                   end.shape[1], end.gradient_planes.as<float>(),
                                                   static_cast<float>(scale_.value()), end.gradient);
                }
            backward_[index(statistics_)].run(*engine_, ranks_->recordable(), [this] {
                gradient_sum_.begin();
                for (const Turn& turn : turns_) {
                    TrainingStep& step = *steps_[turn.step];
                    if (turn.again) {
                        step.forward(true);
                        continue;
                    }
                    step.backward();
                    check(gradient_sum_.finished(ids_.find(step.node())->second));
                }
                check(gradient_sum_.finish());
            });
        });
    }

    Weights gradients() const override { return parameters_.gradients(scale_.value()); }

    Result<double> update(const OptimiserStep& step) override {
        MFRES_CHECK(check_optimiser_step(step));
        double norm = 0.0;
        MFRES_CHECK(attempt("update", [&] { norm = parameters_.norm(scale_.value()); }));
        if (!std::isfinite(norm)) {
            if (scale_.scales() && scale_.value() > 1.0) {
                scale_.overflowed();
                return std::numeric_limits<double>::infinity();
            }
            return Error{ErrorCode::training_diverged,
                         text("the gradient of step ", step.step, " is not finite (norm ", norm, ")"),
                         {}};
        }
        MFRES_CHECK(attempt("update", [&] { parameters_.update(step, norm, scale_.value()); }));
        scale_.succeeded();
        return norm;
    }

    Weights weights() const override { return parameters_.weights(); }
    TrainingState state() const override {
        TrainingState state = parameters_.state();
        state.loss_scaling = scale_.state();
        return state;
    }
    Status set_state(const TrainingState& state) override {
        if (state.loss_scaling)
            MFRES_CHECK(check_loss_scaling(*state.loss_scaling));
        Status set;
        MFRES_CHECK(attempt("state", [&] { set = parameters_.set_state(state); }));
        if (set)
            scale_.set(state.loss_scaling);
        return set;
    }
    std::int64_t peak_bytes() const override {
        return peak_bytes_ + loss_extra_.bytes() + targets_.bytes() +
               std::max<std::int64_t>(0, crop_bytes_ - planned_crops_);
    }
    Recomputation recomputation() const override { return recomputation_; }

    std::vector<Chosen> chosen() const override {
        std::vector<Chosen> all;
        for (const auto& step : steps_)
            if (const std::string name = step->forward_implementation(); !name.empty())
                all.push_back({step->node(), step->operation(), name});
        for (const Turn& turn : turns_) {
            const TrainingStep& step = *steps_[turn.step];
            all.push_back({step.node(),
                           step.operation() + (turn.again ? " again" : " backward"),
                           turn.again ? step.forward_implementation() : step.backward_implementation(),
                           {}});
        }
        if (ranks_->size() > 1)
            all.push_back({"(all)", "sums over ranks", ranks_->description()});
        return all;
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
        mutable bool on_host = true;
        bool gradient_on_host = true; ///< the caller may have filled it
    };

    const Shape& input_shape() const { return graph_.node(graph_.input()).shape; }
    const Shape& output_shape() const { return graph_.node(graph_.outputs()[0]).shape; }
    bool same_grid() const {
        const Shape& in = input_shape();
        const Shape& out = output_shape();
        return in[2] == out[2] && in[3] == out[3] && in[4] == out[4];
    }
    static std::int64_t class_count(const Shape& shape) { return shape[0] * voxels_of(shape); }
    std::int64_t slope_bytes() const { return 3 * output_shape()[1] * 4; }
    static std::size_t index(NormStatistics statistics) { return statistics == NormStatistics::batch ? 0 : 1; }

    /// Work of this rank. One that fails does not wait for what the others still sum.
    Status attempt(const std::string& node, const std::function<void()>& body) const {
        Status done = guarded(node, [&] {
            engine_->enter();
            body();
        });
        if (!done && ranks_)
            ranks_->abandon();
        return done;
    }

    std::int64_t planned_crops(const TrainingOptions& options) {
        const Shape& in = input_shape();
        if (options.largest_case > 0 && cuts_crops())
            planned_crops_ = CropCutter::most_bytes(in[0], {in[2], in[3], in[4]}, options.largest_case);
        return planned_crops_;
    }

    void plan_sums(std::int64_t bucket_bytes) {
        for (NodeId id = 0; id < graph_.size(); ++id)
            ids_.emplace(graph_.node(id).name, id);
        if (ranks_->size() == 1)
            return;
        const auto start = [this](std::size_t begin, std::size_t end) {
            ranks_->start_sum(parameters_.flat_gradients() + begin, static_cast<std::int64_t>(end - begin));
            return Status();
        };
        const auto finish = [this] {
            ranks_->finish_sums();
            return Status();
        };
        const auto offset = [this](const Parameter& parameter) { return parameters_.offset(parameter); };
        gradient_sum_ =
            GradientSum(gradient_buckets(graph_, offset, parameters_.floats(), bucket_bytes), start, finish);
    }

    void allocate(std::int64_t bytes) {
        arena_ = Block(*engine_, bytes);
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

    void bind(const TrainingSchedule& schedule) {
        const Binding binding{schedule.plan, arena_.as<std::byte>()};
        for (std::size_t i = 0; i < steps_.size(); ++i)
            steps_[i]->bind(binding, schedule.steps[i]);
        input_data_ = binding.at(schedule.input);
        for (std::size_t k = 0; k < ends_.size(); ++k) {
            ends_[k].data = binding.at(schedule.outputs[k]);
            ends_[k].gradient = binding.at(schedule.output_gradients[k]);
        }
        loss_sums_data_ = binding.at(schedule.loss_scratch);
    }

    void compute() const {
        const Shape& shape = input_shape();
        engine_->kernels().from_planes(engine_->stream(), type_, shape[0], voxels_of(shape), shape[1],
                                       input_planes_.as<float>(), 1.0F, input_data_);
        for (const auto& step : steps_)
            step->forward(false);
    }

    /// An error here shows itself at the next call that can report one.
    void to_host(const End& end, const void* data, double factor, const Block& planes, const Block& host) const {
        const Shape& shape = end.shape;
        (void)attempt("output", [&] {
            engine_->kernels().to_planes(engine_->stream(), type_, shape[0], voxels_of(shape), shape[1], data,
                                         static_cast<float>(factor), planes.as<float>());
            engine_->download(host.data(), planes.data(), host.bytes());
        });
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

    void hold_targets() {
        if (targets_.bytes() > 0)
            return;
        const std::int64_t bytes = 4 * output_shape().elements();
        targets_ = Block(*engine_, bytes);
        host_targets_ = Block(*engine_, bytes, true);
    }

    /// The loss of an output against its classes, and its gradient.
    double loss_of(End& end, const Loss& loss) {
        LossTerms terms(loss, end.shape, host_ranks_);
        const bool plain = !loss.per_sample && !terms.has_pointwise() && !terms.has_distillation();
        if (!plain)
            hold_loss_extra();
        LossArguments arguments;
        arguments.chunks = end.chunks;
        arguments.logits = end.data;
        arguments.classes = end.classes.as<std::uint8_t>();
        arguments.groups = static_cast<std::int64_t>(terms.groups());
        arguments.partials = reinterpret_cast<double*>(loss_sums_data_);
        arguments.totals =
            plain ? reinterpret_cast<double*>(loss_sums_data_ + end.space.partials) : loss_extra_.as<double>();
        if (terms.has_overlap()) {
            engine_->kernels().class_sums(engine_->stream(), type_, arguments);
            if (!loss.per_sample)
                ranks_->sum(arguments.totals, 4 * output_shape()[1]);
            check(terms.take_sums(read_sums(arguments), true));
        }
        const PointwiseRule& rule = terms.rule();
        arguments.pointwise.gamma = static_cast<float>(rule.gamma);
        if (terms.chooses())
            check(terms.choose<float>([&](std::uint64_t prefix, int shift, std::span<double> counts) {
                arguments.prefix = static_cast<std::uint32_t>(prefix);
                arguments.shift = shift;
                count_digits(arguments, counts);
                return Status();
            }));
        arguments.pointwise.weight = static_cast<float>(rule.weight);
        arguments.pointwise.threshold = static_cast<float>(rule.threshold);
        arguments.pointwise.at_threshold = static_cast<float>(rule.at_threshold);
        arguments.slopes = plain ? slopes_.as<float>() : extra_slopes();
        write_slopes(terms.slopes(), const_cast<float*>(arguments.slopes));
        arguments.scale = static_cast<float>(scale_.value());
        arguments.gradient = end.gradient;
        end.gradient_on_host = false;
        if (plain) {
            engine_->kernels().loss_gradient(engine_->stream(), type_, arguments);
            return unwrapped(terms.value({}));
        }
        if (terms.has_distillation()) {
            hold_targets(); // zeros where nobody has filled them
            engine_->upload(targets_.data(), host_targets_.data(), targets_.bytes());
            arguments.targets = targets_.as<float>();
            arguments.distillation = static_cast<float>(terms.distillation().weight / terms.distillation().temperature);
            arguments.inverse_temperature = static_cast<float>(1.0 / terms.distillation().temperature);
        }
        engine_->kernels().whole_loss_gradient(engine_->stream(), type_, arguments);
        std::array<double, 2> totals{};
        engine_->download(totals.data(), arguments.totals, sizeof totals);
        return unwrapped(terms.value({totals[0], totals[1]}));
    }

    static double unwrapped(const Result<double>& value) {
        check(value ? Status() : Status(value.error()));
        return *value;
    }

    // What a loss needs beyond one set of class sums: sums and slopes by sample, and counts of digits.
    std::int64_t extra_sum_bytes() const { return 8 * 4 * output_shape()[0] * output_shape()[1]; }
    std::int64_t extra_slope_bytes() const { return (slope_bytes() * output_shape()[0] + 7) / 8 * 8; }
    float* extra_slopes() const { return reinterpret_cast<float*>(loss_extra_.as<std::byte>() + extra_sum_bytes()); }
    void hold_loss_extra() {
        if (loss_extra_.bytes() == 0)
            loss_extra_ = Block(*engine_, extra_sum_bytes() + extra_slope_bytes() +
                                              static_cast<std::int64_t>(digit_values * sizeof(std::uint32_t)));
    }

    void count_digits(LossArguments& arguments, std::span<double> counts) const {
        arguments.counts =
            reinterpret_cast<std::uint32_t*>(loss_extra_.as<std::byte>() + extra_sum_bytes() + extra_slope_bytes());
        std::vector<std::uint32_t> counted(digit_values);
        const auto bytes = static_cast<std::int64_t>(counted.size() * sizeof(std::uint32_t));
        engine_->clear(arguments.counts, bytes);
        engine_->kernels().count_digits(engine_->stream(), type_, arguments);
        engine_->download(counted.data(), arguments.counts, bytes);
        std::copy(counted.begin(), counted.end(), counts.begin());
    }

    /// [group][class]
    std::vector<ClassSums> read_sums(const LossArguments& arguments) const {
        const auto channels = static_cast<std::size_t>(output_shape()[1]);
        const auto groups = static_cast<std::size_t>(arguments.groups);
        std::vector<double> values(groups * 4 * channels);
        engine_->download(values.data(), arguments.totals, static_cast<std::int64_t>(values.size() * sizeof(double)));
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

    std::unique_ptr<Engine> engine_; // first: everything else gives its memory back to it
    Graph graph_;
    Communicator& host_ranks_;
    std::unique_ptr<DeviceRanks> ranks_; ///< sums over them on the device
    ElementType type_;
    ConvolutionRules rules_;
    TrainingOptions options_;
    double momentum_;
    std::vector<char> with_gradient_;
    NormStatistics statistics_ = NormStatistics::batch; ///< of the last forward
    LossScale scale_;
    Constants constants_;
    DeviceParameters parameters_;
    std::vector<std::unique_ptr<TrainingStep>> steps_;
    GradientSum gradient_sum_{{}, {}, {}};
    std::map<std::string, NodeId> ids_; ///< of all nodes by name: every node behind a step's is of it or a later one
    std::array<Repeated, 2> forward_, backward_; ///< by statistics

    std::vector<Turn> turns_; ///< of the backward pass
    Recomputation recomputation_;
    void* input_data_ = nullptr;
    std::vector<End> ends_; ///< by output
    std::byte* loss_sums_data_ = nullptr;
    Block arena_, input_planes_, host_input_, slopes_;
    Block loss_extra_;                 ///< once a loss needs it, as the next two
    Block targets_, host_targets_;     ///< of distillation
    std::optional<CropCutter> cutter_; ///< once there are crops
    bool input_on_device_ = false, classes_on_device_ = false;
    std::int64_t planned_crops_ = 0; ///< part of peak_bytes_
    std::int64_t crop_bytes_ = 0;    ///< that crops have needed so far
    std::int64_t peak_bytes_ = 0;
};

} // namespace

Result<std::unique_ptr<TrainingExecutable>> compile_training(std::unique_ptr<Engine> engine, const Graph& graph,
                                                             const Weights& weights, const TrainingOptions& options) {
    auto training = std::make_unique<CudaTraining>(std::move(engine), graph, weights, options);
    MFRES_CHECK(training->compile(options));
    return std::unique_ptr<TrainingExecutable>(std::move(training));
}

} // namespace mfres::cuda
