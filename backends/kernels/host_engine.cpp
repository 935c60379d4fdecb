// SPDX-License-Identifier: MIT
#include "backends/kernels/host_engine.h"

#include "backends/kernels/fusion_group.h"
#include "backends/kernels/loops.h"
#include "backends/kernels/threads.h"
#include "core/checked.h"

namespace mfres::kernels {

HostEngine::HostEngine(std::shared_ptr<ThreadPool> pool, const FusionModel* model) : pool_(std::move(pool)) {
    if (model)
        model_ = *model;
}

/// A library that an op calls has one thread: it is called once for each part of an op that the pool runs.
Status HostEngine::enter(const std::function<Status()>& body) {
    const ThreadScope one(1);
    const ThreadPoolScope parts(pool_.get());
    return body();
}

const FusionModel* HostEngine::fusion_model() const {
    return model_ ? usable_model(&*model_) : nullptr;
}

void HostEngine::allocate(const ArrayPlan& plan) {
    block_ = ArrayBlock(array_size<std::byte>(plan.bytes));
    const auto view = [&](const ArrayPlan::Array& array) {
        return StridedView<float>{reinterpret_cast<float*>(block() + array.offset), array.shape,
                                  channels_last_strides(array.shape)};
    };
    input_ = view(plan.input);
    for (const ArrayPlan::Array& array : plan.outputs)
        outputs_.push_back(as_const(view(array)));
}

std::byte* HostEngine::block() const {
    return block_.data();
}

} // namespace mfres::kernels
