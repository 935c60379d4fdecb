// SPDX-License-Identifier: MIT
#include "backends/onednn/training.h"

#include "backends/distributed/data_parallel.h"
#include "backends/onednn/errors.h"
#include "backends/onednn/low_precision.h"
#include "backends/kernels/softmax_loss.h"
#include "backends/kernels/threads.h"
#include "backends/onednn/training_steps.h"
#include "backends/planned/loss_terms.h"
#include "core/try.h"
#include "graph/commute.h"

#include <map>
#include <stdexcept>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace mfres::onednn {

namespace {

/// Asks for large pages: activations fill gigabytes, and every page less is one less to fault in and look up.
void prefer_large_pages([[maybe_unused]] float* data, [[maybe_unused]] std::int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(data) + page - 1) / page * page;
    const std::uintptr_t end =
        (reinterpret_cast<std::uintptr_t>(data) + static_cast<std::uintptr_t>(bytes)) / page * page;
    if (begin < end)
        (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE); // a wish: rejection changes nothing
#endif
}

class OneDnnTraining final : public TrainingExecutable {
  public:
    OneDnnTraining(const Graph& graph, const Weights& weights, const TrainingOptions& options)
        : graph_(options.precision == Precision::bf16 ? move_pointwise_before_whole_upsample(graph) : graph),
          with_gradient_(values_with_gradient(graph_)), threads_(resolve_threads(options.threads)),
          type_(options.precision == Precision::bf16 ? ValueType::bf16 : ValueType::f32),
          engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), parameters_(graph_, weights, options.amsgrad),
          ranks_(ranks_of(options)), gradient_sum_(graph_, parameters_, ranks_, options.bucket_bytes) {
        for (const NodeId output : graph_.outputs())
            losses_.emplace_back(graph_.node(output).shape, threads_);
        for (NodeId id = 0; id < graph_.size(); ++id)
            ids_.emplace(graph_.node(id).name, id);
        momentum_ = options.batch_norm_momentum;
    }

    Status compile(const TrainingOptions& options) {
        const ThreadScope scope(threads_); // kernels and their scratch memory are made for a number of threads
        const std::vector<FormedStep> formed = form_training_steps(graph_);
        MFRES_CHECK(guarded("(all)", [&] {
            steps_ = make_training_steps(
                {graph_, with_gradient_, parameters_, engine_, statistics_, momentum_, threads_, ranks_, type_},
                formed);
        }));
        std::int64_t fixed = parameters_.bytes() + 4 * end_floats();
        std::vector<StepNeeds> needs;
        for (const auto& step : steps_) {
            fixed += step->constant_bytes();
            needs.push_back(step->needs());
        }
        ScheduleRules rules{bytes_of(type_), 0, 0};
        for (const SoftmaxLoss& loss : losses_)
            rules.loss_scratch = std::max(rules.loss_scratch, loss.scratch_bytes());
        if (options.memory_cap > 0)
            rules.limit = std::max<std::int64_t>(1, options.memory_cap - fixed);
        const TrainingSchedule schedule = schedule_training(graph_, formed, needs, rules);
        peak_bytes_ = fixed + schedule.bytes;
        MFRES_CHECK(check_training_memory("onednn", peak_bytes_, fixed + schedule.plain_bytes, options));
        recomputation_ = {schedule.steps_again, schedule.macs_again};
        turns_ = schedule.backward;
        MFRES_CHECK(allocate(arena_, schedule.bytes));
        MFRES_CHECK(allocate(ends_, 4 * end_floats()));
        const Binding binding{schedule.plan, arena_.data(), type_};
        for (std::size_t i = 0; i < steps_.size(); ++i)
            MFRES_CHECK(guarded(steps_[i]->node(), [&] { steps_[i]->bind(binding, schedule.steps[i]); }));
        bind_ends(binding, schedule);
        return {};
    }

    StridedView<float> input() override { return input_; }
    std::size_t outputs() const override { return outputs_.size(); }
    StridedView<const float> output(std::size_t index) const override { return as_const(outputs_[index]); }
    StridedView<float> output_gradient(std::size_t index) override { return output_gradients_[index]; }

    Result<StridedView<float>> targets() override {
        const Shape& shape = outputs_[0].shape;
        try {
            targets_.resize(static_cast<std::size_t>(shape.elements()));
        } catch (const std::bad_alloc&) {
            return Error{ErrorCode::memory_limit,
                         text("targets of distillation take ", shape.elements() * 4, " bytes and got none"),
                         {}};
        }
        return StridedView<float>{targets_.data(), shape, channels_last_strides(shape)};
    }

    Status forward(NormStatistics statistics) override {
        statistics_ = statistics;
        const ThreadScope scope(threads_);
        input_values_.store_all(input_.shape.elements(), threads_, input_.data);
        for (const auto& step : steps_)
            MFRES_CHECK(guarded(step->node(), [&] { step->forward(stream_, false); }));
        for (std::size_t k = 0; k < outputs_.size(); ++k)
            output_values_[k].read_all(outputs_[k].shape.elements(), threads_, outputs_[k].data);
        return {};
    }

    Result<double> loss(std::span<const std::uint8_t> classes, const Loss& loss) override {
        const ThreadScope scope(threads_);
        const Shape& shape = outputs_[0].shape;
        MFRES_CHECK(check_classes(classes, shape));
        MFRES_CHECK(check_output_weights(loss, outputs()));
        if (outputs() == 1)
            return loss_of(0, classes, loss);
        MFRES_TRY(double total, loss_of(0, classes, loss_of_output(loss, 0)));
        for (std::size_t k = 1; k < outputs(); ++k) {
            const auto own = every_nth_class(classes, shape, outputs_[k].shape);
            MFRES_TRY(const double value, loss_of(k, own, loss_of_output(loss, k)));
            total += value;
        }
        return total;
    }

    Status backward() override {
        const ThreadScope scope(threads_);
        for (std::size_t k = 0; k < outputs_.size(); ++k)
            output_gradient_values_[k].store_all(output_gradients_[k].shape.elements(), threads_,
                                                 output_gradients_[k].data);
        gradient_sum_.begin();
        for (const Turn& turn : turns_) {
            TrainingStep& step = *steps_[turn.step];
            MFRES_CHECK(
                guarded(step.node(), [&] { turn.again ? step.forward(stream_, true) : step.backward(stream_); }));
            if (!turn.again)
                MFRES_CHECK(gradient_sum_.finished(main_node(step)));
        }
        return gradient_sum_.finish();
    }

    Weights gradients() const override { return parameters_.gradients(); }
    Result<double> update(const OptimiserStep& step) override { return parameters_.update(step, threads_); }
    Weights weights() const override { return parameters_.weights(); }
    TrainingState state() const override { return parameters_.state(); }
    Status set_state(const TrainingState& state) override { return parameters_.set_state(state); }
    std::int64_t peak_bytes() const override {
        return peak_bytes_ + static_cast<std::int64_t>(targets_.size() * sizeof(float));
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
        return all;
    }

  private:
    Result<double> loss_of(std::size_t index, std::span<const std::uint8_t> classes, const Loss& loss) {
        const float* logits = outputs_[index].data;
        const SoftmaxLoss& own = losses_[index];
        LossTerms terms(loss, outputs_[index].shape, ranks_);
        if (terms.has_distillation())
            MFRES_CHECK(targets()); // zeros where nobody has filled them
        if (terms.has_overlap())
            MFRES_CHECK(terms.take_sums(own.sums(logits, classes.data(), terms.groups(), loss_memory_)));
        if (terms.chooses())
            MFRES_CHECK(terms.choose<float>([&](std::uint64_t prefix, int shift, std::span<double> counts) {
                own.count_digits(logits, classes.data(), terms.rule().gamma, prefix, shift, counts, loss_memory_);
                return Status();
            }));
        return terms.value(
            own.gradient(logits, classes.data(), terms, targets_.data(), loss_memory_, output_gradients_[index].data));
    }

    /// Every node behind it belongs to this step or to a later one.
    NodeId main_node(const TrainingStep& step) const { return ids_.find(step.node())->second; }

    const Shape& input_shape() const { return graph_.node(graph_.input()).shape; }
    const Shape& output_shape(std::size_t index) const { return graph_.node(graph_.outputs()[index]).shape; }

    /// Of the input, the outputs and their gradients as the caller sees them, where they are not f32 in the plan.
    std::int64_t end_floats() const {
        if (type_ == ValueType::f32)
            return 0;
        std::int64_t floats = input_shape().elements();
        for (const NodeId output : graph_.outputs())
            floats += 2 * graph_.node(output).shape.elements();
        return floats;
    }

    void bind_ends(const Binding& binding, const TrainingSchedule& schedule) {
        const Shape& in = input_shape();
        input_values_ = binding.values(schedule.input);
        float* ends = ends_.data();
        input_ = {input_values_.target(0, ends), in, channels_last_strides(in)};
        std::int64_t used = in.elements();
        for (std::size_t k = 0; k < graph_.outputs().size(); ++k) {
            const Shape& out = output_shape(k);
            output_values_.push_back(binding.values(schedule.outputs[k]));
            output_gradient_values_.push_back(binding.values(schedule.output_gradients[k]));
            outputs_.push_back({output_values_[k].target(0, ends + used), out, channels_last_strides(out)});
            used += out.elements();
            output_gradients_.push_back(
                {output_gradient_values_[k].target(0, ends + used), out, channels_last_strides(out)});
            used += out.elements();
        }
        loss_memory_ = binding.scratch(schedule.loss_scratch);
    }

    Status allocate(AlignedVector<float>& memory, std::int64_t bytes) const {
        try {
            memory.resize(static_cast<std::size_t>(bytes) / sizeof(float));
        } catch (const std::exception&) { // bad_alloc, or length_error from a size beyond the address space
            return Error{ErrorCode::memory_limit,
                         text("training with the onednn backend needs ", bytes, " bytes and got none"),
                         {}};
        }
        prefer_large_pages(memory.data(), bytes);
        // The threads that will work on the memory are the first to touch it.
        parallel_for(static_cast<std::int64_t>(memory.size()), threads_,
                     [&](std::int64_t begin, std::int64_t end, int) {
                         std::fill(memory.begin() + begin, memory.begin() + end, 0.0F);
                     });
        return {};
    }

    Graph graph_;
    std::vector<char> with_gradient_;
    int threads_;
    ValueType type_;
    double momentum_ = 0.1;
    NormStatistics statistics_ = NormStatistics::batch; ///< of the last forward
    dnnl::engine engine_;
    dnnl::stream stream_;
    HostParameters parameters_;
    std::vector<SoftmaxLoss> losses_; ///< by output, as the next two
    std::vector<std::unique_ptr<TrainingStep>> steps_;
    AlignedVector<float> arena_;
    AlignedVector<float> ends_; ///< what the caller sees of bf16: input, outputs and their gradients
    ValueArray input_values_;
    std::vector<ValueArray> output_values_, output_gradient_values_;
    StridedView<float> input_;
    std::vector<StridedView<float>> outputs_, output_gradients_;
    AlignedVector<float> targets_; ///< of distillation, once asked for
    std::vector<Turn> turns_;      ///< of the backward pass
    Recomputation recomputation_;
    float* loss_memory_ = nullptr;
    std::int64_t peak_bytes_ = 0;
    Communicator& ranks_;
    GradientSum gradient_sum_;
    std::map<std::string, NodeId> ids_; ///< of all nodes by name
};

} // namespace

std::vector<Unsupported> unsupported_in_training(const Graph& graph, const TrainingOptions& options) {
    std::vector<Unsupported> rejected = unsupported_relaxations(graph, options.allow_tf32, options.deterministic);
    if (options.precision != Precision::bf16)
        append(rejected, unsupported_precision(graph, options.precision));
    else if (const auto missing = missing_instructions(options.precision))
        rejected.push_back({graph.node(graph.input()).name, *missing});
    return rejected;
}

Result<std::unique_ptr<TrainingExecutable>> compile_training(const Graph& graph, const Weights& weights,
                                                             const TrainingOptions& options) {
    try {
        auto training = std::make_unique<OneDnnTraining>(graph, weights, options);
        MFRES_CHECK(training->compile(options));
        return std::unique_ptr<TrainingExecutable>(std::move(training));
    } catch (const dnnl::error& error) {
        return Error{ErrorCode::backend_failed, text("oneDNN failed to start: ", error.what()), {}};
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, "no memory was left for the parameters of the onednn backend", {}};
    }
}

} // namespace mfres::onednn
