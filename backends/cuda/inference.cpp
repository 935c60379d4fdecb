// SPDX-License-Identifier: MIT
#include "backends/cuda/inference.h"

#include "backends/cuda/inference_groups.h"
#include "backends/cuda/ops.h"
#include "backends/planned/make_op.h"
#include "core/try.h"

#include <algorithm>
#include <optional>

namespace mfres::cuda {

namespace {

/// A GPU as an engine of the executor. Values are channels-last arrays of one element type in device memory. The caller
/// writes and reads planes of floats in host memory, [batch, channel, x, y, z]. After the first run, unobserved runs
/// replay a recording of all launches.
class CudaInference final : public InferenceEngine {
  public:
    CudaInference(std::unique_ptr<Engine> engine, const CompileOptions& options)
        : engine_(std::move(engine)), type_(element_type(options.precision)), constants_(*engine_) {
        rules_.allow_tf32 = options.allow_tf32;
        rules_.deterministic = options.deterministic;
    }

    std::string_view name() const override { return "cuda"; }
    Status guarded(const std::string& node, const std::function<void()>& body) const override {
        engine_->at(node);
        return cuda::guarded(node, body);
    }
    Status enter(const std::function<Status()>& body) override {
        MFRES_CHECK(guarded("(all)", [&] { engine_->enter(); }));
        return body();
    }

    void join_groups(const Graph& graph, std::vector<FusionGroup>& groups) const override {
        cuda::join_groups(graph, groups);
    }

    BufferRules buffer_rules() const override { return {bytes_of(type_), false}; }

    void begin(const PlannedNetwork& planned) override {
        context_.emplace(OpContext{planned, type_, rules_, *engine_, constants_});
    }

    std::unique_ptr<InferenceOp> make_op(const FusionGroup& group, bool residual_in_output) override {
        return group.fused() ? make_group(*context_, group)
                             : mfres::make_op(*context_, group.ops[0], residual_in_output);
    }

    void allocate(const ArrayPlan& plan) override {
        plan_ = plan;
        block_ = Block(*engine_, plan.bytes);
        input_planes_ = Block(*engine_, float_bytes(plan.input));
        host_input_ = Block(*engine_, float_bytes(plan.input), true);
        for (const ArrayPlan::Array& array : plan.outputs) {
            Output& output = outputs_.emplace_back();
            output.planes = Block(*engine_, float_bytes(array));
            output.host = Block(*engine_, float_bytes(array), true);
        }
    }

    std::vector<std::string> warnings() const override { return engine_->warnings(); }

    std::byte* block() const override { return block_.as<std::byte>(); }

    std::int64_t other_bytes() const override {
        std::int64_t bytes = input_planes_.bytes() + constants_.bytes();
        for (const Output& output : outputs_)
            bytes += output.planes.bytes();
        return bytes;
    }

    StridedView<float> input() override {
        return {host_input_.as<float>(), plan_.input.shape, dense_strides(plan_.input.shape)};
    }

    StridedView<const float> output(std::size_t index) const override {
        const Output& output = outputs_[index];
        const Shape& shape = plan_.outputs[index].shape;
        if (!output.on_host)
            copy_to_host(index);
        output.on_host = true;
        return {output.host.as<float>(), shape, dense_strides(shape)};
    }

    bool labels(std::size_t index, std::span<std::uint8_t> classes) const override {
        constexpr std::int64_t max_channels = 255;
        const Shape& shape = plan_.outputs[index].shape;
        if (shape[1] > max_channels)
            return false;
        SoftmaxArguments arguments;
        arguments.voxels = voxels_of(shape);
        arguments.channels = shape[1];
        arguments.x = block() + plan_.outputs[index].offset;
        arguments.y = outputs_[index].planes.data(); // which is large enough for the logits
        engine_->kernels().argmax(engine_->stream(), type_, arguments);
        engine_->download(classes.data(), arguments.y, arguments.voxels);
        return std::find(classes.begin(), classes.end(), std::uint8_t{max_channels}) == classes.end();
    }

    void start_run() override { engine_->upload(input_planes_.data(), host_input_.data(), host_input_.bytes()); }

    void convert_input() override {
        const Shape& shape = plan_.input.shape;
        engine_->kernels().from_planes(engine_->stream(), type_, shape[0], voxels_of(shape), shape[1],
                                       input_planes_.as<float>(), 1.0F, block() + plan_.input.offset);
    }

    bool records() const override { return true; }
    /// The first call is not recorded, because engines load kernels in it.
    void run_all(const std::function<void()>& ops) override {
        if (runs_++ == 1)
            recording_ = engine_->record(ops);
        if (recording_)
            recording_->run();
        else
            ops();
    }

    void wait() override { engine_->wait(); }

    void finish_run() override {
        for (Output& output : outputs_)
            output.on_host = false;
        engine_->wait();
    }

  private:
    struct Output {
        Block planes, host;
        mutable bool on_host = true; ///< `host` holds the output of the last run
    };

    static std::int64_t float_bytes(const ArrayPlan::Array& array) {
        return array.shape.elements() * static_cast<std::int64_t>(sizeof(float));
    }

    /// An error here is reported by the next call that returns a status.
    void copy_to_host(std::size_t index) const {
        const Shape& shape = plan_.outputs[index].shape;
        const Output& output = outputs_[index];
        (void)guarded("output", [&] {
            engine_->enter();
            engine_->kernels().to_planes(engine_->stream(), type_, shape[0], voxels_of(shape), shape[1],
                                         block() + plan_.outputs[index].offset, 1.0F, output.planes.as<float>());
            engine_->download(output.host.data(), output.planes.data(), output.host.bytes());
        });
    }

    std::unique_ptr<Engine> engine_; // first: everything else returns its memory to it
    ElementType type_;
    ConvolutionRules rules_;
    Constants constants_;
    std::optional<OpContext> context_;
    ArrayPlan plan_;
    Block block_, input_planes_, host_input_;
    std::vector<Output> outputs_;
    std::unique_ptr<Recording> recording_;
    std::int64_t runs_ = 0;
};

} // namespace

ElementType element_type(Precision precision) {
    switch (precision) {
    case Precision::f32: return ElementType::f32;
    case Precision::bf16: return ElementType::bf16;
    case Precision::fp16: return ElementType::fp16;
    case Precision::int8: break; // unsupported
    }
    return ElementType::f32;
}

Result<std::unique_ptr<Executable>> compile_inference(std::unique_ptr<Engine> engine, const Graph& graph,
                                                      const Weights& weights, const CompileOptions& options) {
    MFRES_TRY(Network form, inference_form(graph, weights));
    return compile_planned(std::make_unique<CudaInference>(std::move(engine), options), std::move(form));
}

} // namespace mfres::cuda
