// SPDX-License-Identifier: MIT
#include "backends/native/inference.h"

#include "backends/kernels/convolution.h"
#include "backends/kernels/fusion_group.h"
#include "backends/kernels/host_engine.h"
#include "backends/kernels/host_ops.h"
#include "backends/planned/make_op.h"
#include "core/try.h"

#include <new>
#include <optional>

namespace mfres::native {

namespace {

struct OpContext : kernels::HostOpContext {};

std::unique_ptr<InferenceOp> make_conv(const OpContext& context, const FusedOp& op, bool) {
    const Node& node = context.main(op);
    kernels::ConvolutionSpec spec;
    spec.conv = node.as<Conv>();
    spec.in = context.input_shape(op, 0);
    spec.out = node.shape;
    spec.weights = &context.parameter(node, 0);
    spec.bias = spec.conv.bias ? &context.parameter(node, 1) : nullptr;
    spec.activation = op.activation;
    spec.threads = context.threads;
    return kernels::make_convolution(spec);
}

/// Our own kernels as an engine of the executor. Values are channels-last floats.
class NativeEngine final : public kernels::HostEngine {
  public:
    NativeEngine(std::shared_ptr<ThreadPool> pool, const FusionModel* model) : HostEngine(std::move(pool), model) {}

    std::string_view name() const override { return "native"; }

    Status guarded(const std::string& node, const std::function<void()>& body) const override {
        try {
            body();
            return {};
        } catch (const std::bad_alloc&) {
            return Error{ErrorCode::memory_limit, text("no memory was left for node ", node, " of the native backend"),
                         node};
        }
    }

    void begin(const PlannedNetwork& planned) override { context_.emplace(OpContext{{planned, threads()}}); }

    std::unique_ptr<InferenceOp> make_op(const FusionGroup& group, bool residual_in_output) override {
        return group.fused() ? kernels::make_fusion_group(context_->planned, context_->threads, group)
                             : mfres::make_op(*context_, group.ops[0], residual_in_output);
    }

  private:
    std::optional<OpContext> context_;
};

} // namespace

Result<std::unique_ptr<Executable>> compile_inference(Network form, std::shared_ptr<ThreadPool> pool,
                                                      const FusionModel* model) {
    try {
        return compile_planned(std::make_unique<NativeEngine>(std::move(pool), model), std::move(form));
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, "no memory was left for the weights of the native backend", {}};
    }
}

} // namespace mfres::native
