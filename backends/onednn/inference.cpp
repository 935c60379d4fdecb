// SPDX-License-Identifier: MIT
#include "backends/onednn/inference.h"

#include "backends/kernels/fusion_group.h"
#include "backends/kernels/host_engine.h"
#include "backends/onednn/errors.h"
#include "backends/onednn/ops.h"
#include "backends/planned/make_op.h"

#include <optional>

namespace mfres::onednn {

namespace {

/// oneDNN as an engine of the executor. Values are channels-last floats, or bf16 and 8-bit integers between two
/// convolutions in low precision.
class OneDnnEngine final : public HostEngine {
  public:
    OneDnnEngine(std::shared_ptr<ThreadPool> pool, const FusionModel* model, const CompileOptions& options)
        : HostEngine(std::move(pool), model), options_(options), engine_(dnnl::engine::kind::cpu, 0) {
        obey_max_cpu_isa();
    }

    std::string_view name() const override { return "onednn"; }
    Status guarded(const std::string& node, const std::function<void()>& body) const override {
        return onednn::guarded(node, body);
    }

    void begin(const PlannedNetwork& planned) override {
        context_.emplace(OpContext{{planned, threads()},
                                   engine_,
                                   plan_low_precision(planned, options_.precision, options_.ranges, {}, engine_)});
    }

    std::int64_t value_bytes(NodeId id) const override {
        const ValueFormat& format = context_->low_precision.stored[static_cast<std::size_t>(id)];
        return format.reduced() ? context_->graph().node(id).shape.elements() * format.element_bytes() : 0;
    }

    std::unique_ptr<InferenceOp> make_op(const FusionGroup& group, bool residual_in_output) override {
        // As for oneDNN's own kernels, ONEDNN_MAX_CPU_ISA decides which instructions there are.
        const bool bf16 = options_.precision != Precision::f32 && !missing_instructions(Precision::bf16);
        return group.fused() ? make_fusion_group(context_->planned, context_->threads, group, bf16)
                             : mfres::make_op(*context_, group.ops[0], residual_in_output);
    }

  private:
    CompileOptions options_;
    dnnl::engine engine_;
    std::optional<OpContext> context_;
};

} // namespace

Result<std::unique_ptr<Executable>> compile_inference(Network form, std::shared_ptr<ThreadPool> pool,
                                                      const FusionModel* model, const CompileOptions& options) {
    try {
        return compile_planned(std::make_unique<OneDnnEngine>(std::move(pool), model, options), std::move(form));
    } catch (const dnnl::error& error) {
        return Error{ErrorCode::backend_failed, text("oneDNN failed to start: ", error.what()), {}};
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, "no memory was left for the weights of the onednn backend", {}};
    }
}

} // namespace mfres::onednn
