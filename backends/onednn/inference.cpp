// SPDX-License-Identifier: MIT
#include "backends/onednn/inference.h"

#include "backends/kernels/fusion_group.h"
#include "backends/kernels/threads.h"
#include "backends/onednn/errors.h"
#include "backends/onednn/ops.h"
#include "backends/planned/make_op.h"
#include "core/array_memory.h"

#include <optional>

namespace mfres::onednn {

namespace {

/// oneDNN as an engine of the executor. Values are channels-last floats, or bf16 and 8-bit integers between two
/// convolutions in low precision. All memory is host memory: the caller writes the input where ops read it.
class OneDnnEngine final : public InferenceEngine {
  public:
    OneDnnEngine(std::shared_ptr<ThreadPool> pool, const FusionModel* model, const CompileOptions& options)
        : pool_(std::move(pool)), options_(options), engine_(dnnl::engine::kind::cpu, 0) {
        obey_max_cpu_isa();
        if (usable_model(model))
            model_ = *model;
    }

    std::string_view name() const override { return "onednn"; }
    Status guarded(const std::string& node, const std::function<void()>& body) const override {
        return onednn::guarded(node, body);
    }
    /// oneDNN itself has one thread: it is called once for each part of an op that the pool runs.
    Status enter(const std::function<Status()>& body) override {
        const ThreadScope one(1);
        const ThreadPoolScope parts(pool_.get());
        return body();
    }

    const FusionModel* fusion_model() const override { return model_ ? &*model_ : nullptr; }

    void begin(const PlannedNetwork& planned) override {
        context_.emplace(OpContext{planned, engine_, pool_->threads(),
                                   plan_low_precision(planned, options_.precision, options_.ranges, {}, engine_)});
    }

    std::int64_t value_bytes(NodeId id) const override {
        const ValueFormat& format = context_->low_precision.stored[static_cast<std::size_t>(id)];
        return format.reduced() ? context_->graph().node(id).shape.elements() * format.element_bytes() : 0;
    }

    std::unique_ptr<InferenceOp> make_op(const FusionGroup& group, bool residual_in_output) override {
        return group.fused() ? make_fusion_group(context_->planned, context_->threads, group)
                             : mfres::make_op(*context_, group.ops[0], residual_in_output);
    }

    void allocate(const ArrayPlan& plan) override {
        block_ = ArrayBlock(static_cast<std::size_t>(plan.bytes));
        const auto view = [&](const ArrayPlan::Array& array) {
            return StridedView<float>{reinterpret_cast<float*>(block() + array.offset), array.shape,
                                      channels_last_strides(array.shape)};
        };
        input_ = view(plan.input);
        for (const ArrayPlan::Array& array : plan.outputs)
            outputs_.push_back(as_const(view(array)));
    }

    std::byte* block() const override { return block_.data(); }
    StridedView<float> input() override { return input_; }
    StridedView<const float> output(std::size_t index) const override { return outputs_[index]; }
    std::int64_t barriers() const override { return pool_->barriers(); }

  private:
    std::shared_ptr<ThreadPool> pool_;
    std::optional<FusionModel> model_;
    CompileOptions options_;
    dnnl::engine engine_;
    std::optional<OpContext> context_;
    ArrayBlock block_;
    StridedView<float> input_;
    std::vector<StridedView<const float>> outputs_;
};

} // namespace

const FusionModel* usable_model(const FusionModel* model) {
    return can_fuse() ? model : nullptr;
}

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
