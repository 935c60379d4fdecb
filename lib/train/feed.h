// SPDX-License-Identifier: MIT
// Batch after batch into an executable: as arrays that the loader's threads have made, or, for an engine that cuts
// crops on its device and where it can make all that was drawn, as that, one step ahead of the one that trains.
#pragma once

#include "backends/training.h"
#include "data/loader.h"

namespace mfres {

/// What a feed takes from.
struct FeedSource {
    std::shared_ptr<const Cache> cache;
    Sampling sampling;
    std::uint64_t seed = 0;
    std::int64_t first_step = 0;
    std::int64_t end_step = 0; ///< nothing is made ready from here on
    int threads = 1;
    BatchPart part;
    bool arrays = false; ///< also for an engine that cuts crops: somebody else reads the images
};

class BatchFeed {
  public:
    /// The executable has to outlive the feed. Errors: those of Loader::start.
    static Result<BatchFeed> start(TrainingExecutable& executable, const FeedSource& source);

    /// Puts the next step's batch in place for forward() and loss(). Errors: those of Loader::next, of the engine.
    Status next();
    /// After forward() of a step: begins to make the next one's batch ready where that happens on the device, beside
    /// the step. What goes wrong is said by next().
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
    bool begun_ = false; ///< its crops are on their way, or `problem_` says why not
    Status problem_;
    Batch batch_; ///< the one in place
};

} // namespace mfres
