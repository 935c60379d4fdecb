#include "backends/cuda/inference.h"

#include "backends/cuda/operations.h"
#include "core/try.h"
#include "graph/memory_plan.h"

#include <algorithm>

namespace mfres::cuda {

namespace {

class CudaExecutable final : public Executable {
  public:
    CudaExecutable(std::unique_ptr<Engine> engine, Network network, const CompileOptions& options)
        : engine_(std::move(engine)), network_(std::move(network)), type_(element_type(options.precision)),
          constants_(*engine_) {
        rules_.allow_tf32 = options.allow_tf32;
        rules_.deterministic = options.deterministic;
    }

    Status compile() {
        const Graph& graph = network_.graph;
        const auto steps = leave_out_slices(graph, fuse_steps(graph));
        StepBuffers buffers = plan_step_buffers(graph, steps, {bytes_of(type_), false});
        const auto buffer_of = [&](NodeId id) {
            return static_cast<std::size_t>(buffers.buffer_of[static_cast<std::size_t>(id)]);
        };
        compilation_ = std::make_unique<Compilation>(
            Compilation{graph, network_.weights, channel_ranges(graph, steps), type_, rules_, *engine_, constants_});
        const auto costs = step_costs(graph, steps);
        std::vector<std::size_t> scratch; // index of each step's request
        for (std::size_t i = 0; i < steps.size(); ++i) {
            const std::string& node = graph.node(steps[i].main).name;
            RunStep& made = steps_.emplace_back();
            MFRES_CHECK(guarded(node, [&] { made.operation = make_operation(*compilation_, steps[i]); }));
            made.chosen = {node, describe(graph, steps[i]), made.operation.implementation, costs[i]};
            scratch.push_back(buffers.requests.size());
            const int now = static_cast<int>(i) + 1;
            buffers.requests.push_back({made.operation.scratch_bytes, now, now});
        }
        const MemoryPlan plan = plan_memory(buffers.requests);
        MFRES_CHECK(guarded("(all)", [&] { allocate(plan.bytes); }));
        const auto request_at = [&](std::size_t request) { return arena_.as<std::byte>() + plan.offsets[request]; };
        for (std::size_t i = 0; i < steps.size(); ++i) {
            Place& place = steps_[i].place;
            for (const NodeId input : graph.node(steps[i].main).inputs)
                place.inputs.push_back(
                    request_at(buffer_of(compilation_->ranges[static_cast<std::size_t>(input)].value)));
            place.residual = steps[i].residual ? request_at(buffer_of(*steps[i].residual)) : nullptr;
            place.output = request_at(buffer_of(steps[i].output));
            place.scratch = request_at(scratch[i]);
        }
        device_input_ = request_at(buffer_of(graph.input()));
        for (std::size_t k = 0; k < outputs_.size(); ++k)
            outputs_[k].device = request_at(buffer_of(graph.outputs()[k]));
        return {};
    }

    StridedView<float> input() override {
        const Shape& shape = network_.graph.node(network_.graph.input()).shape;
        return {host_input_.as<float>(), shape, dense_strides(shape)};
    }

    using Executable::run;
    Status run(const StepObserver& observer) override {
        MFRES_CHECK(guarded("input", [&] {
            engine_->enter();
            engine_->upload(planes_.data(), host_input_.data(), host_input_.bytes());
        }));
        if (observer)
            MFRES_CHECK(run_watched(observer));
        else
            MFRES_CHECK(guarded("(all)", [&] { run_all(); }));
        for (Output& output : outputs_)
            output.on_host = false;
        return guarded("output", [&] { engine_->wait(); });
    }

    StridedView<const float> output(std::size_t index) const override {
        const Output& output = outputs_[index];
        if (!output.on_host)
            to_host(index);
        output.on_host = true;
        return {output.host.as<float>(), output_shape(index), dense_strides(output_shape(index))};
    }

    Status labels(std::size_t index, std::span<std::uint8_t> classes, int threads) const override {
        const Shape& shape = output_shape(index);
        constexpr std::int64_t most_channels = 255;
        if (shape.rank() != 5 || shape[0] != 1 || shape[1] > most_channels ||
            static_cast<std::int64_t>(classes.size()) != voxels_of(shape))
            return Executable::labels(index, classes, threads); // which says what is wrong
        MFRES_CHECK(guarded("labels", [&] {
            SoftmaxArguments arguments;
            arguments.voxels = voxels_of(shape);
            arguments.channels = shape[1];
            arguments.x = outputs_[index].device;
            arguments.y = outputs_[index].planes.data(); // smaller than the logits, which it is made for
            engine_->kernels().argmax(engine_->stream(), type_, arguments);
            engine_->download(classes.data(), arguments.y, arguments.voxels);
        }));
        const bool finite = std::find(classes.begin(), classes.end(), std::uint8_t{most_channels}) == classes.end();
        return finite ? Status() : Executable::labels(index, classes, threads); // which counts them
    }

    std::int64_t peak_bytes() const override { return peak_bytes_; }

    std::vector<Chosen> chosen() const override {
        std::vector<Chosen> all;
        for (const RunStep& step : steps_)
            all.push_back(step.chosen);
        return all;
    }

  private:
    struct RunStep {
        Chosen chosen;
        Operation operation;
        Place place;
    };
    struct Output {
        std::byte* device = nullptr;
        Block planes, host;
        mutable bool on_host = true;
    };

    void allocate(std::int64_t bytes) {
        const auto floats = [&](NodeId id) { return network_.graph.node(id).shape.elements() * 4; };
        const std::int64_t in = floats(network_.graph.input());
        arena_ = Block(*engine_, bytes);
        planes_ = Block(*engine_, in);
        host_input_ = Block(*engine_, in, true);
        peak_bytes_ = bytes + in + constants_.bytes();
        for (const NodeId id : network_.graph.outputs()) {
            Output& output = outputs_.emplace_back();
            output.planes = Block(*engine_, floats(id));
            output.host = Block(*engine_, floats(id), true);
            peak_bytes_ += floats(id);
        }
    }

    void read_input() const {
        const Shape& shape = network_.graph.node(network_.graph.input()).shape;
        engine_->kernels().from_planes(engine_->stream(), type_, shape[0], voxels_of(shape), shape[1],
                                       planes_.as<float>(), 1.0F, device_input_);
    }

    const Shape& output_shape(std::size_t index) const {
        return network_.graph.node(network_.graph.outputs()[index]).shape;
    }

    /// An error here shows itself at the next call that can report one.
    void to_host(std::size_t index) const {
        const Shape& shape = output_shape(index);
        const Output& output = outputs_[index];
        (void)guarded("output", [&] {
            engine_->kernels().to_planes(engine_->stream(), type_, shape[0], voxels_of(shape), shape[1], output.device,
                                         1.0F, output.planes.as<float>());
            engine_->download(output.host.data(), output.planes.data(), output.host.bytes());
        });
    }

    void compute() const {
        read_input();
        for (const RunStep& step : steps_)
            step.operation.run(step.place);
    }

    /// The first time as it is, as engines load what they need then; from the second on recorded.
    void run_all() {
        if (runs_++ == 1)
            recording_ = engine_->record([this] { compute(); });
        if (recording_)
            recording_->run();
        else
            compute();
    }

    Status run_watched(const StepObserver& observer) {
        MFRES_CHECK(guarded("input", [&] { read_input(); }));
        int done = 0;
        for (const RunStep& step : steps_) {
            MFRES_CHECK(guarded(step.chosen.node, [&] {
                step.operation.run(step.place);
                engine_->wait();
            }));
            if (!observer(++done, static_cast<int>(steps_.size())))
                return Error{ErrorCode::interrupted, text("stopped after node ", step.chosen.node), step.chosen.node};
        }
        return {};
    }

    std::unique_ptr<Engine> engine_; // first: everything else gives its memory back to it
    Network network_;
    ElementType type_;
    ConvolutionRules rules_;
    Constants constants_;
    std::unique_ptr<Compilation> compilation_;
    std::vector<RunStep> steps_;
    Block arena_, planes_, host_input_;
    std::byte* device_input_ = nullptr;
    std::vector<Output> outputs_;
    std::unique_ptr<Recording> recording_;
    std::int64_t runs_ = 0;
    std::int64_t peak_bytes_ = 0;
};

} // namespace

ElementType element_type(Precision precision) {
    switch (precision) {
    case Precision::f32: return ElementType::f32;
    case Precision::bf16: return ElementType::bf16;
    case Precision::fp16: return ElementType::fp16;
    case Precision::int8: break; // rejected before
    }
    return ElementType::f32;
}

Result<std::unique_ptr<Executable>> compile_inference(std::unique_ptr<Engine> engine, const Graph& graph,
                                                      const Weights& weights, const CompileOptions& options) {
    MFRES_TRY(Network network, inference_form(graph, weights));
    auto executable = std::make_unique<CudaExecutable>(std::move(engine), std::move(network), options);
    MFRES_CHECK(executable->compile());
    return std::unique_ptr<Executable>(std::move(executable));
}

} // namespace mfres::cuda
