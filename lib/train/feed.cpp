// SPDX-License-Identifier: MIT
#include "train/feed.h"

#include "core/try.h"

#include <utility>

namespace mfres {

Result<BatchFeed> BatchFeed::start(TrainingExecutable& executable, const FeedSource& source) {
    constexpr int ahead = 2;
    const bool on_device = executable.cuts_crops() && !made_on_host(source.sampling) && !source.arrays;
    const BatchForm form = on_device ? BatchForm::crops : BatchForm::arrays;
    MFRES_TRY(auto loader, Loader::start(source.cache, source.sampling, source.seed, source.first_step, source.threads,
                                         ahead, source.part, form));
    return BatchFeed(executable, std::move(loader), form, source);
}

Status BatchFeed::begin_crops() {
    MFRES_TRY(const Batch batch, loader_->next());
    return executable_->start_crops(batch.crops);
}

Status BatchFeed::next() {
    ++step_;
    if (form_ == BatchForm::crops) {
        if (!begun_)
            problem_ = begin_crops();
        begun_ = false;
        MFRES_CHECK(std::exchange(problem_, Status()));
        return executable_->take_crops();
    }
    MFRES_TRY(batch_, loader_->next());
    copy(view(std::as_const(batch_.images)), executable_->input());
    return {};
}

void BatchFeed::prepare() {
    if (begun_ || step_ >= end_step_ || form_ != BatchForm::crops)
        return;
    problem_ = begin_crops();
    begun_ = true;
}

Result<double> BatchFeed::loss(const Loss& loss) {
    return executable_->loss(batch_.classes, loss); // the classes of crops are on the device
}

} // namespace mfres
