// The oneDNN backend: batch normalisation folded, steps fused, every step one oneDNN convolution or one loop of our
// own over channels-last arrays, or part of a region that runs as one; all activations and scratch memory in one block
// planned beforehand.
#include "backends/backend.h"
#include "backends/onednn/executable.h"
#include "backends/onednn/fusion_group.h"
#include "backends/onednn/guard.h"
#include "backends/onednn/low_precision.h"
#include "backends/onednn/operations.h"
#include "backends/onednn/threads.h"
#include "backends/onednn/training.h"
#include "core/thread_pool.h"
#include "core/try.h"
#include "graph/memory_plan.h"

#include <new>
#include <stdexcept>

namespace mfres::onednn {

namespace {

struct RunStep {
    Chosen chosen;
    std::unique_ptr<Operation> operation;
};

/// What is run for a graph in its inference form.
std::vector<Task> tasks_of(const Graph& graph, const FusionModel* model) {
    const auto separate = leave_out_slices(graph, fuse_steps(graph));
    return model && can_fuse() ? form_fusion_groups(graph, separate, *model) : separate_tasks(separate);
}

class OneDnnExecutable final : public Executable {
  public:
    static Result<std::unique_ptr<Executable>> make(const Network& network, std::shared_ptr<ThreadPool> pool,
                                                    const FusionModel* model, const CompileOptions& options) {
        auto executable = std::unique_ptr<OneDnnExecutable>(new OneDnnExecutable(std::move(pool)));
        MFRES_CHECK(executable->compile(network, model, options));
        return std::unique_ptr<Executable>(std::move(executable));
    }

    StridedView<float> input() override { return input_; }

    using Executable::run;
    Status run(const StepObserver& observer) override {
        const ThreadScope scope(1);
        const ThreadPoolScope work(pool_.get());
        int done = 0;
        for (const RunStep& step : steps_) {
            MFRES_CHECK(guarded(step.chosen.node, [&] {
                step.operation->run(stream_);
                stream_.wait();
            }));
            if (observer && !observer(++done, static_cast<int>(steps_.size())))
                return Error{ErrorCode::interrupted, text("stopped after node ", step.chosen.node), step.chosen.node};
        }
        return {};
    }

    StridedView<const float> output(std::size_t index) const override { return outputs_[index]; }
    std::int64_t peak_bytes() const override { return peak_bytes_; }
    std::int64_t barriers() const override { return pool_->barriers(); }

    std::vector<Chosen> chosen() const override {
        std::vector<Chosen> all;
        for (const RunStep& step : steps_)
            all.push_back(step.chosen);
        return all;
    }

  private:
    explicit OneDnnExecutable(std::shared_ptr<ThreadPool> pool)
        : pool_(std::move(pool)), threads_(pool_->threads()), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

    Status compile(const Network& network, const FusionModel* model, const CompileOptions& options) {
        const ThreadScope scope(1); // kernels and their scratch memory are made for a number of threads
        const Graph& graph = network.graph;
        const auto tasks = tasks_of(graph, model);
        const auto costs = task_costs(graph, tasks);
        StepBuffers buffers = plan_step_buffers(graph, tasks);
        const auto buffer_of = [&](NodeId id) { return buffers.buffer_of[static_cast<std::size_t>(id)]; };

        const Compilation compilation{graph,   network.weights, channel_ranges(graph, steps_of(tasks)),
                                      engine_, threads_,        plan_reductions(network, tasks, options, {}, engine_)};
        // Such a value has its buffer to itself: no step writes it over an operand.
        for (NodeId id = 0; id < graph.size(); ++id)
            if (const Storage& stored = compilation.reductions.stored[static_cast<std::size_t>(id)]; stored.reduced())
                buffers.requests[static_cast<std::size_t>(buffer_of(id))].bytes =
                    graph.node(id).shape.elements() * stored.element_bytes();
        std::vector<std::size_t> scratch; // index of each task's request
        for (std::size_t i = 0; i < tasks.size(); ++i) {
            const Step& step = tasks[i].steps.back();
            const std::string& node = graph.node(step.main).name;
            const bool in_output = step.residual && buffer_of(*step.residual) == buffer_of(step.output);
            RunStep& made = steps_.emplace_back();
            MFRES_CHECK(guarded(node, [&] {
                made.operation = tasks[i].fused() ? make_fused_region(compilation, tasks[i])
                                                  : make_operation(compilation, step, in_output);
                made.chosen = {node, describe(graph, tasks[i]), made.operation->implementation(), costs[i]};
            }));
            scratch.push_back(buffers.requests.size());
            const int now = static_cast<int>(i) + 1;
            buffers.requests.push_back({made.operation->scratch_bytes(), now, now});
        }

        const MemoryPlan plan = plan_memory(buffers.requests);
        MFRES_CHECK(allocate(plan.bytes));
        const auto request_at = [&](std::size_t request) {
            return arena_.data() + plan.offsets[request] / static_cast<std::int64_t>(sizeof(float));
        };
        const auto value_at = [&](NodeId id) { return request_at(static_cast<std::size_t>(buffer_of(id))); };
        for (std::size_t i = 0; i < tasks.size(); ++i) {
            const Step& step = tasks[i].steps.back();
            Place place;
            if (tasks[i].fused()) {
                for (const NodeId value : values_read(graph, compilation.ranges, tasks[i]))
                    place.inputs.push_back(value_at(value));
            } else {
                for (const NodeId input : graph.node(step.main).inputs)
                    place.inputs.push_back(value_at(compilation.ranges[static_cast<std::size_t>(input)].value));
                place.residual = step.residual ? value_at(*step.residual) : nullptr;
            }
            place.output = value_at(step.output);
            place.scratch = reinterpret_cast<std::byte*>(request_at(scratch[i]));
            MFRES_CHECK(guarded(steps_[i].chosen.node, [&] { steps_[i].operation->bind(place); }));
        }

        const Shape& shape = graph.node(graph.input()).shape;
        input_ = {value_at(graph.input()), shape, channels_last_strides(shape)};
        for (const NodeId id : graph.outputs())
            outputs_.push_back({value_at(id), graph.node(id).shape, channels_last_strides(graph.node(id).shape)});
        peak_bytes_ = plan.bytes;
        for (const RunStep& step : steps_)
            peak_bytes_ += step.operation->constant_bytes();
        return {};
    }

    Status allocate(std::int64_t bytes) {
        try {
            arena_.resize(static_cast<std::size_t>(bytes) / sizeof(float));
            return {};
        } catch (const std::exception&) { // bad_alloc, or length_error from a size beyond the address space
            return Error{ErrorCode::memory_limit,
                         text("the onednn backend needs ", bytes, " bytes for activations and got none"),
                         {}};
        }
    }

    std::shared_ptr<ThreadPool> pool_;
    int threads_;
    dnnl::engine engine_;
    dnnl::stream stream_;
    std::vector<RunStep> steps_;
    AlignedVector<float> arena_;
    StridedView<float> input_;
    std::vector<StridedView<const float>> outputs_;
    std::int64_t peak_bytes_ = 0;
};

class OneDnnBackend final : public Backend {
  public:
    std::string_view name() const override { return "onednn"; }

    std::string description() const override {
        const dnnl_version_t* version = dnnl_version();
        return text("oneDNN ", version->major, ".", version->minor, ".", version->patch);
    }

    std::vector<Unsupported> unsupported(const Graph& graph, const CompileOptions& options) const override {
        std::vector<Unsupported> rejected = unsupported_relaxations(graph, options.allow_tf32, options.deterministic);
        if (options.precision == Precision::fp16)
            append(rejected, unsupported_precision(graph, options.precision));
        else if (const auto missing = missing_instructions(options.precision))
            rejected.push_back({graph.node(graph.input()).name, *missing});
        else
            append(rejected, unsupported_without_ranges(graph, options));
        return rejected;
    }

    Result<std::unique_ptr<Executable>> compile(const Graph& graph, const Weights& weights,
                                                const CompileOptions& options) const override {
        if (const auto rejected = unsupported(graph, options); !rejected.empty())
            return unsupported_error(name(), rejected);
        try {
            MFRES_TRY(const Network network, inference_form(graph, weights));
            const FusionModel model;
            auto pool = options.pool;
            if (!pool) {
                MFRES_TRY(pool, ThreadPool::create({.threads = options.threads}));
            }
            return OneDnnExecutable::make(network, std::move(pool), &model, options);
        } catch (const dnnl::error& error) {
            return Error{ErrorCode::backend_failed, text("oneDNN failed to start: ", error.what()), {}};
        } catch (const std::bad_alloc&) {
            return Error{ErrorCode::memory_limit, "no memory was left for the weights of the onednn backend", {}};
        }
    }

    std::int64_t planned_activations(const Graph& graph) const override {
        const Graph form = inference_form(graph);
        const FusionModel model;
        return plan_memory(plan_step_buffers(form, tasks_of(form, &model)).requests).bytes;
    }

    Result<std::unique_ptr<TrainingExecutable>> compile_training(const Graph& graph, const Weights& weights,
                                                                 const TrainingOptions& options) const override {
        if (const auto rejected = unsupported_in_training(graph, options); !rejected.empty())
            return unsupported_error(name(), rejected);
        return onednn::compile_training(graph, weights, options);
    }
};

} // namespace

Result<std::unique_ptr<Executable>> make_executable(const Network& network, int threads, const FusionModel* model,
                                                    const CompileOptions& options) {
    MFRES_TRY(auto pool, ThreadPool::create({.threads = threads}));
    return OneDnnExecutable::make(network, std::move(pool), model, options);
}

const Backend& backend() {
    static const OneDnnBackend instance;
    return instance;
}

} // namespace mfres::onednn
