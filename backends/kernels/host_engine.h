// SPDX-License-Identifier: MIT
// What engines of backends/planned have in common that run on this machine's processors: a thread pool, fusion groups,
// and channels-last arrays of floats in one block of host memory, where the caller writes the input and reads outputs.
#pragma once

#include "backends/planned/executor.h"
#include "core/tensor.h"
#include "core/thread_pool.h"

#include <memory>
#include <optional>
#include <vector>

namespace mfres::kernels {

class HostEngine : public InferenceEngine {
  public:
    Status enter(const std::function<Status()>& body) override;
    /// Null without a model, and on a processor without vector instructions for fusion groups.
    const FusionModel* fusion_model() const override;
    void allocate(const ArrayPlan& plan) override;
    std::byte* block() const override;
    StridedView<float> input() override { return input_; }
    StridedView<const float> output(std::size_t index) const override { return outputs_[index]; }
    std::int64_t barriers() const override { return pool_->barriers(); }

  protected:
    /// Without a model no fusion groups are formed.
    HostEngine(std::shared_ptr<ThreadPool> pool, const FusionModel* model);
    int threads() const { return pool_->threads(); }

  private:
    std::shared_ptr<ThreadPool> pool_;
    std::optional<FusionModel> model_;
    AlignedVector<float> block_;
    StridedView<float> input_;
    std::vector<StridedView<const float>> outputs_;
};

} // namespace mfres::kernels
