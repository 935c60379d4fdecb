// SPDX-License-Identifier: MIT
// Batches for an executable: arrays from the loader's threads, or crops that an engine cuts on its device, one step
// ahead of the training. Crops need an engine that computes all augmentations of the recipe.
#pragma once

#include "backends/training.h"
#include "data/loader.h"

namespace mfres {

/// Cases of a feed and how they are sampled.
struct FeedSource {
    std::shared_ptr<const Cache> cache;
    Sampling sampling;
    std::uint64_t seed = 0;
    std::int64_t first_step = 0;
    std::int64_t end_step = 0; ///< no batch is prepared from this step on
    int threads = 1;
    BatchPart part;
    bool arrays = false; ///< also for an engine that cuts crops: teachers read the images
};

class BatchFeed {
  public:
    /// The executable has to outlive the feed. Errors: those of Loader::start.
    static Result<BatchFeed> start(TrainingExecutable& executable, const FeedSource& source);

    /// Puts the next step's batch in place for forward() and loss(). Errors: those of Loader::next, of the engine.
    Status next();
    /// After forward() of a step: starts to prepare the next batch where that happens on the device, in parallel with
    /// the step. next() returns its errors.
    void prepare();
    /// The loss of this step's output.
    Result<double> loss(const Loss& loss);
    /// This step's images. Precondition: FeedSource::arrays.
    const Tensor& images() const { return batch_.images; }
    /// Seconds spent waiting for the loader since the start.
    double waited_seconds() const { return loader_->waited_seconds(); }

  private:
    BatchFeed(TrainingExecutable& executable, std::unique_ptr<Loader> loader, BatchForm form, const FeedSource& source)
        : executable_(&executable), loader_(std::move(loader)), form_(form), step_(source.first_step),
          end_step_(source.end_step) {}
    Status begin_crops();

    TrainingExecutable* executable_;
    std::unique_ptr<Loader> loader_;
    BatchForm form_;
    std::int64_t step_; ///< the next one
    std::int64_t end_step_;
    bool begun_ = false; ///< its crops are being cut, or `problem_` is the error
    Status problem_;
    Batch batch_; ///< of the current step
};

} // namespace mfres
