// SPDX-License-Identifier: MIT
#include "backends/cuda/cudnn_graph.h"

#include "core/try.h"

#include <array>

namespace mfres::cuda {

void check(cudnnStatus_t status, const char* what) {
    if (status != CUDNN_STATUS_SUCCESS)
        throw EngineError(ErrorCode::backend_failed, text("cuDNN: ", what, ": ", cudnnGetErrorString(status)));
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
    check(cudnnBackendCreateDescriptor(type, &handle_), "a descriptor could not be made");
}

Descriptor::~Descriptor() {
    if (handle_)
        cudnnBackendDestroyDescriptor(handle_);
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                     const void* values) {
    check(cudnnBackendSetAttribute(handle_, name, type, count, values), "an attribute was rejected");
}

void Descriptor::finalize(const char* what) {
    check(cudnnBackendFinalize(handle_), what);
}

PlanTarget PlanTarget::described([[maybe_unused]] const std::string& properties) {
#if CUDNN_VERSION >= 90800
    PlanTarget target;
    target.properties_ = std::make_shared<Descriptor>(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    target.properties_->set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::ssize(properties),
                            properties.data());
    target.properties_->finalize("the description of a device was rejected");
    return target;
#else
    throw EngineError(ErrorCode::backend_unavailable, "cuDNN before 9.8 makes no plans without a device");
#endif
}

void PlanTarget::set_on_graph(Descriptor& graph) const {
    if (handle_)
        graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle_);
}

void PlanTarget::set_on_heuristics([[maybe_unused]] Descriptor& heuristics) const {
#if CUDNN_VERSION >= 90800
    if (properties_)
        heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *properties_);
#endif
}

void PlanTarget::set_on_plan(Descriptor& plan) const {
    if (handle_)
        plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle_);
#if CUDNN_VERSION >= 90800
    if (properties_)
        plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *properties_);
#endif
}

namespace {

cudnnDataType_t data_type(ElementType type) {
    switch (type) {
    case ElementType::f32: return CUDNN_DATA_FLOAT;
    case ElementType::bf16: return CUDNN_DATA_BFLOAT16;
    case ElementType::fp16: return CUDNN_DATA_HALF;
    }
    return CUDNN_DATA_FLOAT;
}

/// Strides of [batch or out, channel, x, y, z] with channels last.
std::vector<std::int64_t> channels_last(const std::vector<std::int64_t>& dims) {
    const std::int64_t z = dims[1];
    const std::int64_t y = z * dims[4];
    const std::int64_t x = y * dims[3];
    return {x * dims[2], 1, x, y, z};
}

std::vector<std::int64_t> dims_of(const Shape& shape) {
    return {shape.begin(), shape.end()};
}

std::vector<std::int64_t> dims_of(const Axes& axes) {
    return {axes.begin(), axes.end()};
}

/// A tensor of the graph. Virtual ones live inside a fused kernel only.
Descriptor tensor(std::int64_t id, const std::vector<std::int64_t>& dims, cudnnDataType_t type, bool is_virtual) {
    constexpr std::int64_t alignment = 16; // of every array that the memory plan places, and more
    Descriptor made(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    made.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    made.set(CUDNN_ATTR_TENSOR_DIMENSIONS, dims);
    made.set(CUDNN_ATTR_TENSOR_STRIDES, channels_last(dims));
    made.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    made.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment);
    made.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, is_virtual);
    made.finalize("a tensor was rejected");
    return made;
}

/// The operations of one graph with the descriptors that they refer to.
class OperationGraph {
  public:
    OperationGraph(const PlanTarget& target, const ConvolutionSpec& spec, cudnnDataType_t result_type)
        : spec_(spec), type_(data_type(spec.type)) {
        switch (spec.pass) {
        case ConvolutionPass::forward: add_forward(result_type); break;
        case ConvolutionPass::source_gradient: add_source_gradient(result_type); break;
        case ConvolutionPass::weight_gradient: add_weight_gradient(result_type); break;
        }
        std::vector<cudnnBackendDescriptor_t> operations;
        for (const Descriptor& operation : operations_)
            operations.push_back(operation.handle());
        target.set_on_graph(graph_);
        graph_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                   static_cast<std::int64_t>(operations.size()), operations.data());
        graph_.finalize("the operation graph was rejected");
    }

    const Descriptor& descriptor() const { return graph_; }

  private:
    std::vector<std::int64_t> weight_dims() const {
        const Conv& conv = spec_.conv;
        return {conv.out_channels, spec_.in[1] / conv.groups, conv.kernel[0], conv.kernel[1], conv.kernel[2]};
    }

    const Descriptor& add_tensor(std::int64_t id, const std::vector<std::int64_t>& dims, cudnnDataType_t type,
                                 bool is_virtual = false) {
        tensors_.push_back(std::make_unique<Descriptor>(tensor(id, dims, type, is_virtual)));
        return *tensors_.back();
    }
    const Descriptor& add_tensor(Role role, const std::vector<std::int64_t>& dims, cudnnDataType_t type) {
        return add_tensor(static_cast<std::int64_t>(role), dims, type);
    }
    /// A value between two operations of the graph, as precise as the sums.
    const Descriptor& add_virtual() { return add_tensor(next_virtual_++, dims_of(spec_.out), CUDNN_DATA_FLOAT, true); }

    const Descriptor& convolution() {
        const Conv& conv = spec_.conv;
        Descriptor made(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
        const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
        made.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
        made.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
        made.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{3});
        made.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, dims_of(conv.dilation));
        made.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, dims_of(conv.stride));
        made.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, dims_of(conv.padding));
        made.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, dims_of(conv.padding));
        made.finalize("the convolution was rejected");
        tensors_.push_back(std::make_unique<Descriptor>(std::move(made)));
        return *tensors_.back();
    }

    void add_forward(cudnnDataType_t result_type) {
        const bool relu = spec_.activation.kind != Activation::Kind::none;
        int after = (spec_.bias ? 1 : 0) + (spec_.residual ? 1 : 0) + (relu ? 1 : 0);
        const Descriptor& result = add_tensor(Role::result, dims_of(spec_.out), result_type);
        const auto next = [&]() -> const Descriptor& { return after-- > 0 ? add_virtual() : result; };
        const Descriptor& sum = next();
        Descriptor made(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution());
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, add_tensor(Role::x, dims_of(spec_.in), type_));
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, add_tensor(Role::weights, weight_dims(), type_));
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, sum);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0F);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0F);
        made.finalize("the convolution's operation was rejected");
        operations_.push_back(std::move(made));
        const Descriptor* last = &sum;
        if (spec_.bias) {
            const Descriptor& bias = add_tensor(Role::bias, {1, spec_.conv.out_channels, 1, 1, 1}, CUDNN_DATA_FLOAT);
            last = &add_pointwise(CUDNN_POINTWISE_ADD, *last, &bias, next());
        }
        if (spec_.residual)
            last = &add_pointwise(CUDNN_POINTWISE_ADD, *last, &add_tensor(Role::residual, dims_of(spec_.out), type_),
                                  next());
        if (relu)
            add_pointwise(CUDNN_POINTWISE_RELU_FWD, *last, nullptr, next());
    }

    const Descriptor& add_pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* b,
                                    const Descriptor& y) {
        Descriptor pointwise(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
        pointwise.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
        pointwise.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
        if (mode == CUDNN_POINTWISE_RELU_FWD)
            propagate_nan(pointwise);
        if (mode == CUDNN_POINTWISE_RELU_FWD && spec_.activation.kind == Activation::Kind::leaky_relu)
            pointwise.set(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, static_cast<double>(spec_.activation.slope));
        pointwise.finalize("a fused operation was rejected");
        Descriptor made(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
        made.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise);
        made.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
        if (b)
            made.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
        made.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
        made.finalize("a fused operation was rejected");
        tensors_.push_back(std::make_unique<Descriptor>(std::move(pointwise)));
        operations_.push_back(std::move(made));
        return y;
    }

    /// Without it a ReLU may make 0 of a NaN, which then looks like a result. Deprecated in cuDNN 9, whose later versions
    /// may no longer know it: what they say is no error.
    static void propagate_nan(Descriptor& pointwise) {
        const cudnnNanPropagation_t propagation = CUDNN_PROPAGATE_NAN;
        (void)cudnnBackendSetAttribute(pointwise.handle(), CUDNN_ATTR_POINTWISE_NAN_PROPAGATION,
                                       CUDNN_TYPE_NAN_PROPOGATION, 1, &propagation);
    }

    void add_source_gradient(cudnnDataType_t result_type) {
        Descriptor made(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, convolution());
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, add_tensor(Role::dy, dims_of(spec_.out), type_));
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, add_tensor(Role::weights, weight_dims(), type_));
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                 add_tensor(Role::result, dims_of(spec_.in), result_type));
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 1.0F);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, 0.0F);
        made.finalize("the convolution's source gradient was rejected");
        operations_.push_back(std::move(made));
    }

    void add_weight_gradient(cudnnDataType_t result_type) {
        Descriptor made(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, convolution());
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, add_tensor(Role::x, dims_of(spec_.in), type_));
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, add_tensor(Role::dy, dims_of(spec_.out), type_));
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, add_tensor(Role::result, weight_dims(), result_type));
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 1.0F);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, 0.0F);
        made.finalize("the convolution's weight gradient was rejected");
        operations_.push_back(std::move(made));
    }

    ConvolutionSpec spec_;
    cudnnDataType_t type_;
    std::int64_t next_virtual_ = 100;
    std::vector<std::unique_ptr<Descriptor>> tensors_; ///< and other descriptors that operations refer to
    std::vector<Descriptor> operations_;
    Descriptor graph_{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
};

/// What an engine says about its arithmetic.
struct Notes {
    bool tensor_core = false, rounds_inputs = false, reduced_sums = false, nondeterministic = false, winograd = false;
};

Notes notes_of(const Descriptor& configuration) {
    const Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t handle = engine.handle();
    std::int64_t count = 0;
    Notes notes;
    if (cudnnBackendGetAttribute(configuration.handle(), CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &count, &handle) != CUDNN_STATUS_SUCCESS)
        return notes;
    std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> all{};
    if (cudnnBackendGetAttribute(handle, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                 CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, all.data()) != CUDNN_STATUS_SUCCESS)
        return notes;
    for (std::int64_t i = 0; i < count && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; ++i) {
        const auto note = all[static_cast<std::size_t>(i)];
        notes.tensor_core = notes.tensor_core || note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        notes.rounds_inputs = notes.rounds_inputs || note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
        notes.reduced_sums = notes.reduced_sums || note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
        notes.nondeterministic = notes.nondeterministic || note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
        notes.winograd = notes.winograd || note == CUDNN_NUMERICAL_NOTE_WINOGRAD || note == CUDNN_NUMERICAL_NOTE_FFT;
    }
    return notes;
}

/// Whether an engine may be used. f32 products on tensor cores are TF32.
bool allowed(const Notes& notes, const ConvolutionSpec& spec, const ConvolutionRules& rules) {
    if (rules.deterministic && notes.nondeterministic)
        return false;
    if (notes.reduced_sums)
        return false;
    const bool exact = spec.type == ElementType::f32 && !rules.allow_tf32;
    return !exact || !(notes.tensor_core || notes.rounds_inputs || notes.winograd);
}

std::string name_of(const Descriptor& configuration) {
    const Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t handle = engine.handle();
    std::int64_t count = 0;
    std::int64_t index = -1;
    if (cudnnBackendGetAttribute(configuration.handle(), CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &count, &handle) == CUDNN_STATUS_SUCCESS)
        cudnnBackendGetAttribute(handle, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count, &index);
    return text("cudnn:engine", index);
}

/// Engine configurations for a graph in the heuristics' order; none if the mode has nothing to say.
std::vector<Descriptor> configurations(const PlanTarget& target, const Descriptor& graph, cudnnBackendHeurMode_t mode) {
    std::vector<Descriptor> all;
    Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    target.set_on_heuristics(heuristics);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    std::int64_t count = 0;
    if (cudnnBackendFinalize(heuristics.handle()) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(heuristics.handle(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                                 &count, nullptr) != CUDNN_STATUS_SUCCESS)
        return all;
    std::vector<cudnnBackendDescriptor_t> handles;
    for (std::int64_t i = 0; i < count; ++i) {
        all.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        handles.push_back(all.back().handle());
    }
    std::int64_t filled = 0;
    if (count == 0 ||
        cudnnBackendGetAttribute(heuristics.handle(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 count, &filled, handles.data()) != CUDNN_STATUS_SUCCESS)
        filled = 0;
    while (static_cast<std::int64_t>(all.size()) > filled)
        all.pop_back();
    return all;
}

class CudnnConvolution final : public Convolution {
  public:
    /// `graph` and `configuration` are kept because the plan was made of them.
    CudnnConvolution(const PlanTarget& target, std::shared_ptr<OperationGraph> graph, Descriptor configuration,
                     Descriptor plan, std::string name, std::int64_t workspace, const ConvolutionSpec& spec,
                     ElementType result)
        : target_(target), graph_(std::move(graph)), configuration_(std::move(configuration)), plan_(std::move(plan)),
          name_(std::move(name)), workspace_(workspace), spec_(spec), result_(result) {}

    std::string implementation() const override { return name_; }
    std::int64_t workspace_bytes() const override { return workspace_; }
    ElementType result_type() const override { return result_; }

    void run(const ConvolutionArrays& arrays) override {
        std::vector<std::int64_t> ids;
        std::vector<void*> pointers;
        const auto bind = [&](Role role, const void* data) {
            ids.push_back(static_cast<std::int64_t>(role));
            pointers.push_back(const_cast<void*>(data)); // cuDNN has no pointers to const
        };
        if (spec_.pass != ConvolutionPass::source_gradient)
            bind(Role::x, arrays.x);
        if (spec_.pass != ConvolutionPass::forward)
            bind(Role::dy, arrays.dy);
        if (spec_.pass != ConvolutionPass::weight_gradient)
            bind(Role::weights, arrays.weights);
        if (spec_.bias)
            bind(Role::bias, arrays.bias);
        if (spec_.residual)
            bind(Role::residual, arrays.residual);
        bind(Role::result, arrays.result);
        Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
        pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
        pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, static_cast<std::int64_t>(pointers.size()),
                 pointers.data());
        pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &arrays.workspace);
        pack.finalize("the pointers were rejected");
        check(cudnnBackendExecute(target_.handle(), plan_.handle(), pack.handle()), name_.c_str());
    }

  private:
    PlanTarget target_;
    std::shared_ptr<OperationGraph> graph_;
    Descriptor configuration_;
    Descriptor plan_;
    std::string name_;
    std::int64_t workspace_;
    ConvolutionSpec spec_;
    ElementType result_;
};

/// A plan from one configuration, or null if it cannot be made or wants too much.
std::unique_ptr<Convolution> plan_of(const PlanTarget& target, const std::shared_ptr<OperationGraph>& graph,
                                     Descriptor&& configuration, const ConvolutionSpec& spec,
                                     const ConvolutionRules& rules, ElementType result) {
    const Notes notes = notes_of(configuration);
    if (!allowed(notes, spec, rules))
        return nullptr;
    Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    target.set_on_plan(plan);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    if (cudnnBackendFinalize(plan.handle()) != CUDNN_STATUS_SUCCESS)
        return nullptr;
    std::int64_t workspace = 0;
    std::int64_t count = 0;
    check(cudnnBackendGetAttribute(plan.handle(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                   &workspace),
          "a plan's workspace");
    if (workspace > rules.workspace_limit)
        return nullptr;
    std::string name = name_of(configuration) + (notes.tensor_core ? ":tensor_core" : "");
    return std::make_unique<CudnnConvolution>(target, graph, std::move(configuration), std::move(plan), std::move(name),
                                              workspace, spec, result);
}

using Plans = std::vector<std::unique_ptr<Convolution>>;

Plans with_result(const PlanTarget& target, const ConvolutionSpec& spec, const ConvolutionRules& rules,
                  ElementType result, std::size_t most) {
    Plans plans;
    std::shared_ptr<OperationGraph> graph;
    try {
        graph = std::make_shared<OperationGraph>(target, spec, data_type(result));
    } catch (const EngineError&) { // rejected by cuDNN: not supported
        return plans;
    }
    for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
        for (Descriptor& configuration : configurations(target, graph->descriptor(), mode))
            if (plans.size() < most)
                if (auto made = plan_of(target, graph, std::move(configuration), spec, rules, result))
                    plans.push_back(std::move(made));
        if (!plans.empty())
            break;
    }
    return plans;
}

} // namespace

std::vector<std::unique_ptr<Convolution>> make_cudnn_convolutions(const PlanTarget& target, const ConvolutionSpec& spec,
                                                                  const ConvolutionRules& rules, std::size_t most) {
    // Weight gradients are wanted as floats, which not every engine for short types writes.
    if (spec.pass == ConvolutionPass::weight_gradient && spec.type != ElementType::f32)
        if (auto made = with_result(target, spec, rules, ElementType::f32, most); !made.empty())
            return made;
    return with_result(target, spec, rules, spec.type, most);
}

std::unique_ptr<Convolution> make_cudnn_convolution(const PlanTarget& target, const ConvolutionSpec& spec,
                                                    const ConvolutionRules& rules) {
    auto plans = make_cudnn_convolutions(target, spec, rules, 1);
    return plans.empty() ? nullptr : std::move(plans.front());
}

} // namespace mfres::cuda
