// SPDX-License-Identifier: MIT
#include "backends/cuda/ops.h"

namespace mfres::cuda {

namespace {

/// The weights in the order and type of the engine, in constant memory.
const void* packed_weights(const OpContext& context, const Tensor& plain) {
    const Block staging(context.engine, plain.elements() * 4);
    context.engine.upload(staging.data(), plain.data(), staging.bytes());
    void* packed = context.constants.space(plain.elements() * bytes_of(context.type));
    context.kernels().pack_weights(context.stream(), context.type, weight_order(plain.shape()), staging.as<float>(),
                                   packed);
    context.engine.wait();
    return packed;
}

/// output = activation(output + bias + residual)
void finish(const OpContext& context, const Shape& shape, const float* bias, const Activation& activation,
            const OpArguments& arguments) {
    std::vector<Operand> operands(1);
    operands[0].x = all_channels(arguments.output, shape[1]);
    operands[0].offset = bias;
    if (arguments.residual)
        operands.emplace_back().x = all_channels(arguments.residual, shape[1]);
    run_sum(context, shape, operands, activation, arguments.output);
}

} // namespace

/// Bias, residual and activation are part of the convolution if the engine has a kernel for it. Otherwise the plain
/// convolution is followed by a sum.
std::unique_ptr<InferenceOp> make_conv(const OpContext& context, const FusedOp& op, bool) {
    const Node& node = context.main(op);
    ConvolutionSpec spec;
    spec.conv = node.as<Conv>();
    spec.in = context.input_shape(op, 0);
    spec.out = node.shape;
    spec.type = context.type;
    spec.bias = spec.conv.bias;
    spec.residual = op.residual.has_value();
    spec.activation = op.activation;
    std::shared_ptr<Convolution> convolution = context.engine.make_convolution(spec, context.rules);
    const bool fused = convolution != nullptr;
    if (!fused) {
        spec.bias = spec.residual = false;
        spec.activation = Activation();
        convolution = context.engine.make_convolution(spec, context.rules);
    }
    if (!convolution)
        throw EngineError(ErrorCode::backend_failed, "no engine computes this convolution");
    const void* weights = packed_weights(context, context.parameter(op, 0));
    const float* bias = spec.conv.bias ? context.constant(op, 1) : nullptr;
    return make_function_op(
        {convolution->implementation() + (fused ? "" : ", then mfres:sum"),
         [&context, &shape = node.shape, convolution, fused, weights, bias,
          activation = op.activation](const OpArguments& a) {
             convolution->run({a.inputs[0], nullptr, weights, bias, a.residual, a.output, aligned(a.workspace)});
             if (!fused && (bias || a.residual || activation.kind != Activation::Kind::none))
                 finish(context, shape, bias, activation, a);
         },
         aligned_bytes(convolution->workspace_bytes())});
}

} // namespace mfres::cuda
