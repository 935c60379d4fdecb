// Batches for training: random crops of cached cases, augmented, made ahead of time by worker threads. Everything about
// batch `step` is drawn from Random(seed).fork(step), so it depends on neither the number of threads nor the batches
// before it, and training resumes at any step.
#pragma once

#include "backends/crops.h"
#include "data/cache.h"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace mfres {

/// How a sample is drawn and varied. The defaults are the paper's: crop anywhere, mirror, rotate.
struct Sampling {
    std::int64_t batch = 8;
    std::array<std::int64_t, 3> crop{128, 128, 128};
    /// How often the crop is centred on a random tumour voxel, as far as it then still lies in the box. Otherwise it
    /// lies anywhere in the box, or holds the whole box along an axis where the crop is larger.
    double tumour_probability = 0.0;
    bool flips = true;              ///< mirror along each axis with probability 1/2
    double rotation_degrees = 10.0; ///< angle uniform in +- this, about x, y or z (linear; labels nearest)
    /// How often a crop is rotated and zoomed; the others are copied, which takes a third of the time.
    double rotation_probability = 1.0;
    double intensity_scale = 0.0; ///< factor uniform in 1 +- this, per modality
    double intensity_shift = 0.0; ///< z-score offset uniform in +- this, per modality, inside the brain
    double gamma = 0.0;           ///< exponent uniform in 1 +- this on the intensities mapped to 0..1, per modality
    double noise = 0.0;           ///< standard deviation of Gaussian noise, z-score units, inside the brain
    double zoom = 0.0;            ///< isotropic scale uniform in 1 +- this, together with the rotation
    /// Each contrast of a sample is 0 everywhere (the mean, as a missing sequence is given to a network) with this
    /// probability p, independently; where that meets T1ce and FLAIR both, one of the two, by a fair coin, is kept. So
    /// one of them is always there, never all are dropped, T1 and T2 are dropped with probability p, and T1ce and FLAIR
    /// with p - p^2 / 2. A dropped contrast gets no other change of intensity.
    double modality_dropout = 0.0;
};

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
/// Errors: those of Cache::load; invalid_argument (an option out of range, a batch that has no such parts),
/// dataset_empty, memory_limit.
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
    /// after that goes on with the step after that. To be called by one thread at a time.
    virtual Result<Batch> next() = 0;
    /// Seconds spent inside next() since the start.
    virtual double waited_seconds() const = 0;
};

} // namespace mfres
