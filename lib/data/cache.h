// SPDX-License-Identifier: MIT
// The training cache: preprocessed cases in one file. Each case is cropped to its brain box; intensities are stored as
// integers with scale and offset of their z-scores, labels as classes. Every block has a checksum. The bytes are
// described in cache_format.h, how blocks are packed in block_codec.h, and how intensities become integers in
// quantize.h.
#pragma once

#include "core/tensor.h"

#include <mfres/case.h>
#include <mfres/normalisation.h>
#include <mfres/plausibility.h>
#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace mfres {

/// One modality of a cached case: z-score = quantum * scale + offset inside the brain.
struct CachedModality {
    /// Integers on the box, x slowest, z fastest, 0 outside the brain; uint8 where 256 steps hold every value, else
    /// int16.
    std::variant<std::vector<std::uint8_t>, std::vector<std::int16_t>> quanta;
    float scale = 1.0F;
    float offset = 0.0F;
};

/// A patient's brain box as the network's input. Arrays are [x][y][z] of `size`, z fastest, L-P-S.
struct CachedCase {
    std::string id;
    std::array<std::int64_t, 3> size{};
    std::array<CachedModality, 4> modalities;
    std::vector<std::uint8_t> classes; ///< 0..3
    std::vector<std::uint8_t> brain;   ///< 1 inside the brain, else 0; outside it every modality's z-score is 0
    std::array<double, 3> voxel_mm{1.0, 1.0, 1.0};
    /// As recorded in the file. Older files have no record: they count as zscore_brain, also where intensities were
    /// clipped before they were stored.
    Normalisation normalisation = Normalisation::zscore_brain;

    std::int64_t voxels() const { return size[0] * size[1] * size[2]; }
};

/// Whether a case's z-scores are those of zscore-brain-clipped: by its record or, where the file has none, by its
/// intensities: clipping at the 99.95 percentile leaves one in 2,000 brain voxels of every contrast at its largest value.
/// (At the other end dark tissue has many voxels of one value in any case.)
bool is_clipped(const CachedCase& source);

/// Copies the block [begin, begin + extents) of the box into `image` [4, x, y, z] with any strides (or the first sample
/// of [n, 4, x, y, z]) and `classes` [x][y][z] as z-scores and class indices; both are 0 outside the box.
void copy_block(const CachedCase& source, const std::array<std::int64_t, 3>& begin,
                const std::array<std::int64_t, 3>& extents, const StridedView<float>& image, std::uint8_t* classes);

/// A case in the index of a cache.
struct CacheEntry {
    std::string id;
    std::array<std::int64_t, 3> size{};
    std::array<std::int64_t, 4> class_voxels{};                ///< voxels of each class in the box
    std::uint64_t bytes = 0;                                   ///< in the file
    Normalisation normalisation = Normalisation::zscore_brain; ///< as CachedCase::normalisation
};

/// Whether a file begins as training caches do; false where it cannot be read.
bool is_cache(const std::filesystem::path& path);

struct CacheCase; // cache_file.h

/// An opened cache file. Safe to use from several threads.
class Cache {
  public:
    /// Reads and checks header and index; cases are read by load().
    /// Errors: file_not_found, file_read, cache_invalid, cache_damaged, dataset_empty, memory_limit.
    static Result<std::shared_ptr<const Cache>> open(const std::filesystem::path& path);

    virtual ~Cache() = default;
    virtual const std::vector<CacheEntry>& entries() const = 0;
    /// 64 hexadecimal digits that change with any content. Checkpoints record it.
    virtual const std::string& fingerprint() const = 0;
    /// Reads one case, or returns the one in memory; the least recently used ones are evicted first.
    /// Errors: file_read, cache_damaged (names case and block), memory_limit, invalid_argument (no such index).
    virtual Result<std::shared_ptr<const CachedCase>> load(std::size_t index) const = 0;
    /// How many bytes of cases load() may keep in memory; default 8 GiB.
    virtual void keep_at_most(std::uint64_t bytes) const = 0;
    /// Where a case is stored; null for one that is in memory only. Precondition: the index exists.
    virtual const CacheCase* stored(std::size_t) const { return nullptr; }
};

struct CacheOptions {
    /// 0 = exact where the integers fit. 2 to 256: intensities that need more steps are clipped at their 0.05 and 99.95
    /// percentiles and rounded to this many.
    int levels = 0;
    int threads = 1; ///< 0 = all processors
    bool overwrite = false;
    Normalisation normalisation = Normalisation::zscore_brain; ///< of the z-scores
    AcceptedChecks accept{};                                   ///< checks that do not reject a case
};

/// Called with the number of cases done and in all; return false to stop.
using CacheProgress = std::function<bool(std::size_t done, std::size_t total)>;

/// Makes a cache of cases that have a segmentation. Images are packed; blocks of other caches are copied as they are,
/// byte for byte, whatever `levels` is. The same cases give the same bytes, whatever the threads. Complete or absent.
/// Errors: those of load_case, load_segmentation, labels_to_classes, choose_labels (for the cases whose scheme is not
/// decided, as one data set), preprocess_case and CacheFile::read_block; dataset_empty, interrupted, file_exists,
/// file_write, invalid_argument (options, an id that is empty or beyond 1024 bytes, the file to write is one of the
/// caches), memory_limit.
Status write_cache(const std::filesystem::path& path, const CaseSet& cases, const CacheOptions& options,
                   const CacheProgress& progress);

} // namespace mfres
