// SPDX-License-Identifier: MIT
// Batches for training: random crops of cached cases, augmented, made ahead of time by worker threads. Everything about
// batch `step` is drawn from Random(seed).fork(step), so it depends on neither the number of threads nor the batches
// before it, and training resumes at any step.
#pragma once

#include "data/sampling.h"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace mfres {

/// One of `count` equal parts of every batch: the samples [index, index + 1) * batch / count, just as the whole batch
/// has them. What one of several ranks trains on.
struct BatchPart {
    int index = 0;
    int count = 1;
};

/// How a batch is handed out: cut and varied, or as what was drawn, for an engine that does the rest.
enum class BatchForm : std::uint8_t { arrays, crops };

struct Batch {
    std::int64_t step = 0;
    Tensor images;                     ///< [batch, 4, x, y, z], of a part's samples only
    std::vector<std::uint8_t> classes; ///< [batch][x][y][z]
    std::vector<CropRequest> crops;    ///< in place of those two with BatchForm::crops
    std::vector<std::size_t> cases;    ///< which case each sample is from
};

/// Makes the batch of one step; what the Loader's threads call. In epochs: over n cases, samples step * batch + i take
/// the cases in the order of a fresh shuffle per pass.
/// Errors: those of Cache::load; invalid_argument (an option out of range, a batch that has no such parts, crops of a
/// sampling that is made_on_host), dataset_empty, memory_limit.
Result<Batch> make_batch(const Cache& cache, const Sampling& sampling, std::uint64_t seed, std::int64_t step,
                         const BatchPart& part = {}, BatchForm form = BatchForm::arrays);

class Loader {
  public:
    /// Starts `threads` workers that make batches from `first_step` on, at most `ahead` beyond the one handed out last.
    /// threads = 0 makes each batch inside next(). Errors: invalid_argument, memory_limit (a thread does not start).
    static Result<std::unique_ptr<Loader>> start(std::shared_ptr<const Cache> cache, const Sampling& sampling,
                                                 std::uint64_t seed, std::int64_t first_step, int threads,
                                                 int ahead = 2, const BatchPart& part = {},
                                                 BatchForm form = BatchForm::arrays);
    /// Waits for the batches that are being made.
    virtual ~Loader() = default;
    /// The next batch, in the order of steps. Errors: those of make_batch, of the step where they happened; the call
    /// after that continues with the step after it. One thread at a time may call it.
    virtual Result<Batch> next() = 0;
    /// Seconds spent inside next() since the start.
    virtual double waited_seconds() const = 0;
};

} // namespace mfres
