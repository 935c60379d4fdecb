#include "backends/onednn/training.h"

#include "backends/distributed/data_parallel.h"
#include "backends/onednn/errors.h"
#include "backends/onednn/low_precision.h"
#include "backends/onednn/softmax_loss.h"
#include "backends/onednn/threads.h"
#include "backends/onednn/training_steps.h"
#include "core/try.h"

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
        : graph_(graph), with_gradient_(values_with_gradient(graph_)), threads_(resolve_threads(options.threads)),
          type_(options.precision == Precision::bf16 ? ValueType::bf16 : ValueType::f32),
          engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), parameters_(graph_, weights, options.amsgrad),
          loss_(graph_.node(graph_.outputs()[0]).shape, threads_), ranks_(ranks_of(options)),
          gradient_sum_(graph_, parameters_, ranks_, options.bucket_bytes) {
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
        ScheduleRules rules{bytes_of(type_), loss_.scratch_bytes(), 0};
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
    StridedView<const float> output() const override { return as_const(output_); }
    StridedView<float> output_gradient() override { return output_gradient_; }

    Status forward(NormStatistics statistics) override {
        statistics_ = statistics;
        const ThreadScope scope(threads_);
        input_values_.store_all(input_.shape.elements(), threads_, input_.data);
        for (const auto& step : steps_)
            MFRES_CHECK(guarded(step->node(), [&] { step->forward(stream_, false); }));
        output_values_.read_all(output_.shape.elements(), threads_, output_.data);
        return {};
    }

    Result<double> loss(std::span<const std::uint8_t> classes, const Loss& loss) override {
        const ThreadScope scope(threads_);
        const Shape& shape = output_.shape;
        MFRES_CHECK(check_classes(classes, shape));
        LossTerms terms(loss, shape, ranks_);
        if (terms.has_overlap())
            MFRES_CHECK(terms.take_sums(loss_.sums(output_.data, classes.data(), terms.groups(), loss_memory_)));
        if (terms.chooses())
            MFRES_CHECK(terms.choose<float>([&](std::uint64_t prefix, int shift, std::span<double> counts) {
                loss_.count_digits(output_.data, classes.data(), terms.rule().gamma, prefix, shift, counts,
                                   loss_memory_);
                return Status();
            }));
        return terms.value(loss_.gradient(output_.data, classes.data(), terms, loss_memory_, output_gradient_.data));
    }

    Status backward() override {
        const ThreadScope scope(threads_);
        output_gradient_values_.store_all(output_gradient_.shape.elements(), threads_, output_gradient_.data);
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
    std::int64_t peak_bytes() const override { return peak_bytes_; }
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
    /// Every node behind it belongs to this step or to a later one.
    NodeId main_node(const TrainingStep& step) const { return ids_.find(step.node())->second; }

    const Shape& input_shape() const { return graph_.node(graph_.input()).shape; }
    const Shape& output_shape() const { return graph_.node(graph_.outputs()[0]).shape; }

    /// Of the input, the output and its gradient as the caller sees them, where they are not f32 in the plan.
    std::int64_t end_floats() const {
        return type_ == ValueType::f32 ? 0 : input_shape().elements() + 2 * output_shape().elements();
    }

    void bind_ends(const Binding& binding, const TrainingSchedule& schedule) {
        const Shape& in = input_shape();
        const Shape& out = output_shape();
        input_values_ = binding.values(schedule.input);
        output_values_ = binding.values(schedule.output);
        output_gradient_values_ = binding.values(schedule.output_gradient);
        float* const ends = ends_.data();
        input_ = {input_values_.target(0, ends), in, channels_last_strides(in)};
        output_ = {output_values_.target(0, ends + in.elements()), out, channels_last_strides(out)};
        output_gradient_ = {output_gradient_values_.target(0, ends + in.elements() + out.elements()), out,
                            channels_last_strides(out)};
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
    SoftmaxLoss loss_;
    std::vector<std::unique_ptr<TrainingStep>> steps_;
    AlignedVector<float> arena_;
    AlignedVector<float> ends_; ///< what the caller sees of bf16: input, output and its gradient
    ValueArray input_values_, output_values_, output_gradient_values_;
    StridedView<float> input_, output_, output_gradient_;
    std::vector<Turn> turns_; ///< of the backward pass
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
