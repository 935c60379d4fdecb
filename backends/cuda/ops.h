// SPDX-License-Identifier: MIT
// The ops of an inference on a GPU: convolutions of the engine (cuDNN), and kernels of our own, on channels-last arrays.
#pragma once

#include "backends/cuda/device_arrays.h"
#include "backends/planned/executor.h"

#include <memory>
#include <string>
#include <vector>

namespace mfres::cuda {

/// What all ops of one compilation share. It outlives the ops; the weights may go once all ops are made.
struct OpContext {
    const PlannedNetwork& planned;
    ElementType type;
    ConvolutionRules rules;
    Engine& engine;
    Constants& constants;

    const Graph& graph() const { return planned.network.graph; }
    const Kernels& kernels() const { return engine.kernels(); }
    Stream stream() const { return engine.stream(); }
    const Node& main(const FusedOp& op) const { return graph().node(op.main); }
    const Shape& input_shape(const FusedOp& op, std::size_t index) const {
        return graph().node(main(op).inputs[index]).shape;
    }
    const Tensor& parameter(const FusedOp& op, std::size_t index) const {
        return planned.network.weights.find(main(op).parameters[index].name)->second;
    }
    /// A parameter as floats in constant memory.
    const float* constant(const FusedOp& op, std::size_t index) const {
        const auto values = parameter(op, index).values();
        return constants.add(std::vector<float>(values.begin(), values.end()));
    }
};

// The op of a single node with what is fused into it; see backends/planned/make_op.h. All throw EngineError.

// conv.cpp
std::unique_ptr<InferenceOp> make_conv(const OpContext& context, const FusedOp& op, bool residual_in_output);
// norm.cpp
std::unique_ptr<InferenceOp> make_batch_norm(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_instance_norm(const OpContext& context, const FusedOp& op);
// elementwise.cpp
std::unique_ptr<InferenceOp> make_activation(const OpContext& context, const FusedOp& op, const Activation& activation);
std::unique_ptr<InferenceOp> make_add(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_scaled_add(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_concat(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_slice(const OpContext& context, const FusedOp& op);
// resample.cpp
std::unique_ptr<InferenceOp> make_max_pool(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_adaptive_avg_pool(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_upsample(const OpContext& context, const FusedOp& op);
// softmax.cpp
std::unique_ptr<InferenceOp> make_softmax(const OpContext& context, const FusedOp& op);

/// CudaBackend::unsupported() rejects these.
inline std::unique_ptr<InferenceOp> make_inference_only(const OpContext&, const FusedOp&) {
    return nullptr;
}

/// All channels of an array.
inline Part all_channels(const void* data, std::int64_t channels) {
    return {data, channels, 0, 0, channels};
}

/// A sum of operands on the grid and with the channels of `op`: output = activation(sum). The data of each operand is set
/// from the inputs of the op when it runs.
std::unique_ptr<InferenceOp> make_sum(const OpContext& context, const FusedOp& op, const std::string& name,
                                      std::vector<Operand> operands, const Activation& activation);

/// Runs such a sum at once.
void run_sum(const OpContext& context, const Shape& shape, const std::vector<Operand>& operands,
             const Activation& activation, void* output);

} // namespace mfres::cuda
