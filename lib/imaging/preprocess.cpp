// SPDX-License-Identifier: MIT
#include "imaging/preprocess.h"

#include "core/checked.h"
#include "core/parallel.h"
#include "core/rounding.h"
#include "core/try.h"
#include "imaging/contrasts.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <utility>

namespace mfres {

namespace {

constexpr std::array<const char*, 4> modality_words = {"T1", "T1ce", "T2", "FLAIR"};

/// A brain takes at least 1/100 of the grid.
constexpr std::int64_t brain_fraction = 100;
/// Clipping sets so many brain voxels, less one at most, to the value of their neighbour in order, at either end: 0.05 %.
constexpr std::int64_t clipped_one_in = 2000;

Status check_arguments(const std::array<CompactVolume, 4>& scans, const PreprocessOptions& options) {
    if (options.multiple < 1 || options.margin < 0)
        return Error{ErrorCode::invalid_argument,
                     text("preparing a case needs a multiple of at least 1 and a margin of at least 0 voxels, got ",
                          options.multiple, " and ", options.margin),
                     {}};
    ModalitySet fed{};
    for (const Modality modality : options.channels)
        fed[static_cast<std::size_t>(modality)] = true;
    if (fed != all_modalities || options.present == ModalitySet{})
        return Error{ErrorCode::invalid_argument,
                     text("preparing a case needs each contrast in one channel and at least one contrast, got ",
                          names(fed), " and ", names(options.present)),
                     {}};
    const std::size_t first = first_of(options.present);
    const auto& size = scans[first].grid().size;
    for (std::size_t m = 0; m < scans.size(); ++m) {
        const auto& grid = scans[m].grid();
        if (options.present[m] && grid.size != size)
            return Error{ErrorCode::grid_size_mismatch,
                         text(modality_words[m], " has a grid of ", to_string(Shape(grid.size)), " voxels but ",
                              modality_words[first], " one of ", to_string(Shape(size))),
                         modality_words[m]};
    }
    const auto voxels = checked_product(size);
    if (!voxels || *voxels < 1)
        return Error{
            ErrorCode::invalid_argument, text("there are no voxels in a grid of ", to_string(Shape(size))), {}};
    if (*voxels > std::numeric_limits<std::int32_t>::max())
        return Error{ErrorCode::size_overflow,
                     text("a grid of ", to_string(Shape(size)), " voxels has 2^31 voxels or more"),
                     {}};
    return {};
}

Status check_brain_size(const Preprocessing& preprocessing) {
    const std::int64_t voxels = preprocessing.grid.voxels();
    if (preprocessing.brain_voxels * brain_fraction >= voxels)
        return {};
    return Error{ErrorCode::brain_too_small,
                 text("only ", preprocessing.brain_voxels, " of ", voxels, " voxels are brain (",
                      preprocessing.speck_voxels, " more are not connected to it); at least 1 % of the grid is needed"),
                 {}};
}

void find_box(Preprocessing& preprocessing, const PreprocessOptions& options) {
    const auto& size = preprocessing.grid.size;
    auto& begin = preprocessing.box_begin;
    auto& end = preprocessing.box_end;
    begin = size;
    end = {0, 0, 0};
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j) {
            const auto runs = preprocessing.row(j, k);
            if (runs.empty())
                continue;
            begin = {std::min<std::int64_t>(begin[0], runs.front().begin), std::min(begin[1], j),
                     std::min(begin[2], k)};
            end = {std::max<std::int64_t>(end[0], runs.back().end), std::max(end[1], j + 1), std::max(end[2], k + 1)};
        }
    for (std::size_t axis = 0; axis < 3; ++axis) {
        begin[axis] = std::max<std::int64_t>(0, begin[axis] - options.margin);
        end[axis] = std::min(size[axis], end[axis] + options.margin);
        preprocessing.padded_size[axis] = rounded_up(end[axis] - begin[axis], options.multiple);
    }
}

/// Number, mean and sum of squared deviations of some values.
struct Moments {
    double count = 0.0;
    double mean = 0.0;
    double squares = 0.0;

    /// Those of both sets together: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    /// sample variances", 1979. Keeps the digits of a small deviation on a large mean.
    void add(const Moments& other) {
        if (other.count == 0.0)
            return;
        const double both = count + other.count;
        const double delta = other.mean - mean;
        mean += delta * (other.count / both);
        squares += other.squares + delta * delta * (count * other.count / both);
        count = both;
    }
};

Moments moments_of(std::span<const float> values) {
    Moments moments;
    moments.count = static_cast<double>(values.size());
    double sum = 0.0;
    for (const float value : values)
        sum += static_cast<double>(value);
    moments.mean = sum / moments.count;
    for (const float value : values) {
        const double deviation = static_cast<double>(value) - moments.mean;
        moments.squares += deviation * deviation;
    }
    return moments;
}

/// Calls visit(plane k, values of one run) for every run of the brain in planes [first, last), in their order. The values
/// may be changed.
template <typename Visit>
void visit_runs(const Preprocessing& preprocessing, const CompactVolume& scan, std::int64_t first, std::int64_t last,
                const Visit& visit) {
    const auto& size = preprocessing.grid.size;
    PageVector<float> values(static_cast<std::size_t>(size[0]));
    for (std::int64_t k = first; k < last; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (const VoxelRun& run : preprocessing.row(j, k)) {
                const auto run_values = std::span(values).first(static_cast<std::size_t>(run.end - run.begin));
                scan.read(run.begin, j, k, run.end - run.begin, run_values.data());
                visit(k, run_values);
            }
}

void clip(std::span<float> values, const ModalityIntensity& intensity) {
    for (float& value : values)
        value = std::min(std::max(value, intensity.low), intensity.high);
}

/// Of the clipped brain voxels: run by run, then plane by plane, each in its order.
Moments brain_moments(const Preprocessing& preprocessing, const CompactVolume& scan, const ModalityIntensity& intensity,
                      int threads) {
    PageVector<Moments> planes(static_cast<std::size_t>(preprocessing.grid.size[2]));
    parallel_ranges(preprocessing.grid.size[2], threads, [&](std::int64_t first, std::int64_t last) {
        visit_runs(preprocessing, scan, first, last, [&](std::int64_t k, std::span<float> values) {
            clip(values, intensity);
            planes[static_cast<std::size_t>(k)].add(moments_of(values));
        });
    });
    Moments all;
    for (const Moments& plane : planes)
        all.add(plane);
    return all;
}

// Intensities that are stored as integers: one pass counts them, and all the rest follows from the counts.

/// So many brain voxels have this intensity.
struct Frequency {
    float intensity = 0.0F;
    std::int64_t voxels = 0;
};

using Counts = PageVector<std::uint32_t>;

/// Counts the brain voxels, an array of `size` counts for each part of the planes and then all of them together: two
/// threads would count neighbouring values in the same cache lines. count(first plane, last plane, counts) does one part.
template <typename Count>
Counts count_planes(const Preprocessing& preprocessing, int threads, std::size_t size, const Count& count) {
    Counts all(size);
    std::mutex lock;
    parallel_ranges(preprocessing.grid.size[2], threads, [&](std::int64_t first, std::int64_t last) {
        Counts own(size);
        count(first, last, own);
        const std::lock_guard<std::mutex> adding(lock);
        std::transform(all.begin(), all.end(), own.begin(), all.begin(), std::plus<>());
    });
    return all;
}

/// Of all brain voxels, in ascending order of intensity. Precondition: the scan stores integers.
PageVector<Frequency> frequencies_of(const Preprocessing& preprocessing, const CompactVolume& scan, int threads) {
    const std::size_t values = scan.stored_values();
    // The last count is that of the voxels outside the box that the scan keeps, which have its background value.
    const Counts counts =
        count_planes(preprocessing, threads, values + 1, [&](std::int64_t first, std::int64_t last, Counts& own) {
            const auto stored = std::span(own).first(values);
            for (std::int64_t k = first; k < last; ++k)
                for (std::int64_t j = 0; j < preprocessing.grid.size[1]; ++j)
                    for (const VoxelRun& run : preprocessing.row(j, k))
                        own[values] +=
                            static_cast<std::uint32_t>(scan.count(run.begin, j, k, run.end - run.begin, stored));
        });
    PageVector<Frequency> found;
    for (std::size_t n = 0; n <= values; ++n)
        if (counts[n] > 0)
            found.push_back({n < values ? scan.intensity(n) : scan.background(), counts[n]});
    std::sort(found.begin(), found.end(),
              [](const Frequency& a, const Frequency& b) { return a.intensity < b.intensity; });
    return found;
}

/// The intensity with `rank` voxels before it.
float intensity_at(std::span<const Frequency> frequencies, std::int64_t rank) {
    auto found = frequencies.begin();
    while (rank >= found->voxels)
        rank -= found++->voxels;
    return found->intensity;
}

/// Of the clipped brain voxels.
Moments moments_of(std::span<const Frequency> frequencies, const ModalityIntensity& intensity) {
    const auto clipped = [&](const Frequency& one) {
        return static_cast<double>(std::min(std::max(one.intensity, intensity.low), intensity.high));
    };
    // Differences to one of the intensities are summed, so that a constant has a deviation of exactly 0.
    const double origin = clipped(frequencies.front());
    Moments moments;
    for (const Frequency& one : frequencies) {
        moments.count += static_cast<double>(one.voxels);
        moments.mean += static_cast<double>(one.voxels) * (clipped(one) - origin);
    }
    moments.mean = origin + moments.mean / moments.count;
    for (const Frequency& one : frequencies) {
        const double deviation = clipped(one) - moments.mean;
        moments.squares += static_cast<double>(one.voxels) * deviation * deviation;
    }
    return moments;
}

// Percentiles of floats. They are counted by their bits, mapped so that unsigned integers have the order of the floats: first by
// the upper 16 bits, then by the lower 16 among those with the upper bits of the value that is looked for. Counts are
// integers, so the result depends neither on the threads nor on the order of the voxels.

constexpr std::size_t bins = std::size_t{1} << 16U;

std::uint32_t ordered_bits(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

float from_ordered_bits(std::uint32_t ordered) {
    return std::bit_cast<float>((ordered & 0x80000000U) != 0 ? ordered & 0x7FFFFFFFU : ~ordered);
}

/// Counts the brain voxels: count(bits of a voxel, counts) adds it to one of the `size` counts.
template <typename Count>
Counts count_bits(const Preprocessing& preprocessing, const CompactVolume& scan, int threads, std::size_t size,
                  const Count& count) {
    return count_planes(preprocessing, threads, size, [&](std::int64_t first, std::int64_t last, Counts& own) {
        visit_runs(preprocessing, scan, first, last, [&](std::int64_t, std::span<const float> values) {
            for (const float value : values)
                count(ordered_bits(value), own);
        });
    });
}

/// The bin of the value with `rank` values before it; what is left of the rank within that bin.
std::pair<std::uint32_t, std::int64_t> bin_of(std::span<const std::uint32_t> counts, std::int64_t rank) {
    std::uint32_t bin = 0;
    while (rank >= counts[bin])
        rank -= counts[bin++];
    return {bin, rank};
}

/// The intensities with so many brain voxels before them. Precondition: the scan stores floats.
std::array<float, 2> intensities_at(const Preprocessing& preprocessing, const CompactVolume& scan, int threads,
                                    const std::array<std::int64_t, 2>& ranks) {
    const Counts upper = count_bits(preprocessing, scan, threads, bins,
                                    [](std::uint32_t bits, Counts& counts) { ++counts[bits >> 16U]; });
    const std::array<std::pair<std::uint32_t, std::int64_t>, 2> found = {bin_of(upper, ranks[0]),
                                                                         bin_of(upper, ranks[1])};
    const Counts lower = count_bits(preprocessing, scan, threads, 2 * bins, [&](std::uint32_t bits, Counts& counts) {
        for (std::size_t i = 0; i < 2; ++i)
            if (bits >> 16U == found[i].first)
                ++counts[i * bins + (bits & 0xFFFFU)];
    });
    const auto value = [&](std::size_t i) {
        const auto counts = std::span(lower).subspan(i * bins, bins);
        return from_ordered_bits(found[i].first << 16U | bin_of(counts, found[i].second).first);
    };
    return {value(0), value(1)};
}

// A background far below the tissue.

/// Intensities are sampled in so many voxels of the brain, spread evenly, if it has more.
constexpr std::int64_t sample_voxels = std::int64_t{1} << 17;
/// A background is far if it lies below the tissue by more than 25 % of the tissue's range. Measured: at most 20 % for a
/// background of 0, which stays where it is.
constexpr double far_share = 0.25;
/// Where it is clipped to, below the tissue: a step of an image of 7 bits, as training data are stored.
constexpr double step_share = 1.0 / 126.0;
/// What the range of the tissue leaves out at either end.
constexpr double range_extremes = 0.0005;

/// What the contrast is clipped to from below because of its background; -infinity if that is not far, or nowhere in the
/// brain.
float floor_of(const Preprocessing& preprocessing, const CompactVolume& scan, std::size_t modality) {
    constexpr float none = -std::numeric_limits<float>::infinity();
    const auto bit = static_cast<ContrastBits>(1U << modality);
    if (preprocessing.shown_by_all(bit) == preprocessing.brain_voxels)
        return none;
    const Background& background = preprocessing.backgrounds[modality];
    PageVector<float> tissue = sampled_intensities(preprocessing, scan);
    std::erase_if(tissue, [&](float value) { return !background.differs(value); });
    if (tissue.empty())
        return none;
    const auto [low, high] = extremes(tissue, range_extremes, 0);
    const double range = static_cast<double>(high) - static_cast<double>(low);
    const float darkest = *std::min_element(background.values.begin(), background.values.end());
    if (range <= 0.0 || static_cast<double>(low) - static_cast<double>(darkest) <= far_share * range)
        return none;
    return static_cast<float>(static_cast<double>(low) - step_share * range);
}

Status measure_intensity(const CompactVolume& scan, std::size_t modality, const PreprocessOptions& options, int threads,
                         Preprocessing& preprocessing) {
    ModalityIntensity& intensity = preprocessing.intensity[modality];
    const bool counted = scan.stored_values() > 0;
    const auto frequencies = counted ? frequencies_of(preprocessing, scan, threads) : PageVector<Frequency>();
    switch (options.normalisation) {
    case Normalisation::zscore_brain: break;
    case Normalisation::zscore_brain_clipped: {
        // As many are skipped at either end.
        const std::int64_t last = preprocessing.brain_voxels - 1;
        const std::array<std::int64_t, 2> ranks = {last / clipped_one_in, last - last / clipped_one_in};
        const auto [low, high] =
            counted ? std::array{intensity_at(frequencies, ranks[0]), intensity_at(frequencies, ranks[1])}
                    : intensities_at(preprocessing, scan, threads, ranks);
        if (low < high) {
            intensity.low = low;
            intensity.high = high;
        }
        break;
    }
    }
    intensity.low = std::max(intensity.low, floor_of(preprocessing, scan, modality));
    const Moments moments =
        counted ? moments_of(frequencies, intensity) : brain_moments(preprocessing, scan, intensity, threads);
    const double mean = moments.mean;
    const double stddev = std::sqrt(moments.squares / moments.count);
    if (!std::isfinite(stddev))
        return Error{ErrorCode::voxel_not_finite, text(modality_words[modality], " has NaN or Inf among its voxels"),
                     modality_words[modality]};
    // Equal floats of a run sum exactly in double precision, so a constant leaves a deviation of exactly 0.
    if (stddev <= 0.0)
        return Error{ErrorCode::volume_constant,
                     text(modality_words[modality], " has the value ", mean, " in all ", preprocessing.brain_voxels,
                          " brain voxels"),
                     modality_words[modality]};
    intensity.mean = mean;
    intensity.stddev = stddev;
    return {};
}

} // namespace

Result<Preprocessing> plan_preprocessing(const std::array<CompactVolume, 4>& scans, const PreprocessOptions& options) {
    MFRES_CHECK(check_arguments(scans, options));
    const int threads = resolve_threads(options.threads);
    Preprocessing preprocessing;
    static_cast<Brain&>(preprocessing) = find_brain(scans, options.present, threads);
    preprocessing.channels = options.channels;
    preprocessing.present = options.present;
    for (std::size_t m = 0; m < scans.size(); ++m)
        preprocessing.intensity[m].background = scans[m].background();
    MFRES_CHECK(check_brain_size(preprocessing));
    find_box(preprocessing, options);
    std::array<Status, 4> measured;
    for_contrasts(options.present, threads, [&](std::size_t m) {
        measured[m] = measure_intensity(scans[m], m, options, threads, preprocessing);
    });
    for (const Status& one : measured)
        MFRES_CHECK(one);
    return preprocessing;
}

namespace {

/// The scans run along x, the network's input along z (and channel), so the two meet in a block that fits the
/// first-level cache: 192 voxels along x (a row of nearly any brain), 8 along z (two cache lines of a channels-last input),
/// four modalities.
constexpr std::int64_t block_x = 192;
constexpr std::int64_t block_z = 8;
using Block = std::array<std::array<std::array<float, block_x>, block_z>, 4>;

/// z-scores voxels [first, first + count) of row (j, k) into `out`; zeros where there is no brain.
void normalise_row(const Preprocessing& preprocessing, const CompactVolume& scan, std::int64_t j, std::int64_t k,
                   std::size_t modality, std::int64_t first, std::int64_t count, float* out) {
    std::fill_n(out, count, 0.0F);
    const ModalityIntensity& intensity = preprocessing.intensity[modality];
    const double mean = intensity.mean;
    const double scale = 1.0 / intensity.stddev;
    for (const VoxelRun& run : preprocessing.row(j, k)) {
        const std::int64_t begin = std::max<std::int64_t>(run.begin, first);
        const std::int64_t end = std::min<std::int64_t>(run.end, first + count);
        if (begin >= end)
            continue;
        float* const values = out + (begin - first);
        scan.read(begin, j, k, end - begin, values);
        clip(std::span(values, static_cast<std::size_t>(end - begin)), intensity);
        for (std::int64_t i = 0; i < end - begin; ++i)
            values[i] = static_cast<float>((static_cast<double>(values[i]) - mean) * scale);
    }
}

/// Normalises grid voxels from `corner`: count_x along x, one row along y, count_z along z.
void load_block(const Preprocessing& preprocessing, const std::array<CompactVolume, 4>& scans,
                const std::array<std::int64_t, 3>& corner, std::int64_t count_x, std::int64_t count_z, Block& block) {
    const auto& size = preprocessing.grid.size;
    const std::int64_t j = corner[1];
    for (std::int64_t z = 0; z < count_z; ++z) {
        const std::int64_t k = corner[2] + z;
        const bool inside = j >= 0 && j < size[1] && k >= 0 && k < size[2];
        for (std::size_t channel = 0; channel < 4; ++channel) {
            const auto m = static_cast<std::size_t>(preprocessing.channels[channel]);
            float* const out = block[channel][static_cast<std::size_t>(z)].data();
            if (inside && preprocessing.present[m])
                normalise_row(preprocessing, scans[m], j, k, m, corner[0], count_x, out);
            else
                std::fill_n(out, count_x, 0.0F);
        }
    }
}

/// Writes a block to input voxels from (x, y, z), along whichever of channel and z is contiguous.
void store_block(const Block& block, std::int64_t count_x, std::int64_t count_z, const StridedView<float>& input,
                 std::int64_t x, std::int64_t y, std::int64_t z) {
    const std::int64_t channel_stride = input.strides[1];
    const std::int64_t z_stride = input.strides[4];
    // Channels-last as a rule: with strides that the compiler knows, it moves the channels of a voxel together.
    if (channel_stride == 1 && z_stride == 4) {
        for (std::int64_t dx = 0; dx < count_x; ++dx) {
            float* voxel = &input.at(0, 0, x + dx, y, z);
            for (std::int64_t dz = 0; dz < count_z; ++dz, voxel += 4) {
                const auto value = [&](std::size_t m) {
                    return block[m][static_cast<std::size_t>(dz)][static_cast<std::size_t>(dx)];
                };
                const std::array<float, 4> values = {value(0), value(1), value(2), value(3)};
                std::copy(values.begin(), values.end(), voxel);
            }
        }
        return;
    }
    for (std::int64_t dx = 0; dx < count_x; ++dx) {
        float* const voxel = &input.at(0, 0, x + dx, y, z);
        const auto store = [&](std::size_t m, std::int64_t dz) {
            voxel[static_cast<std::int64_t>(m) * channel_stride + dz * z_stride] =
                block[m][static_cast<std::size_t>(dz)][static_cast<std::size_t>(dx)];
        };
        if (z_stride == 1)
            for (std::size_t m = 0; m < 4; ++m)
                for (std::int64_t dz = 0; dz < count_z; ++dz)
                    store(m, dz);
        else
            for (std::int64_t dz = 0; dz < count_z; ++dz)
                for (std::size_t m = 0; m < 4; ++m)
                    store(m, dz);
    }
}

} // namespace

void fill_input(const Preprocessing& preprocessing, const std::array<CompactVolume, 4>& scans,
                const std::array<std::int64_t, 3>& offset, const StridedView<float>& input, int threads) {
    const std::array<std::int64_t, 3> size = {input.shape[2], input.shape[3], input.shape[4]};
    const std::int64_t blocks_per_row = (size[2] + block_z - 1) / block_z;
    parallel_ranges(size[1] * blocks_per_row, resolve_threads(threads), [&](std::int64_t first, std::int64_t last) {
        Block block;
        for (std::int64_t item = first; item < last; ++item) {
            const std::int64_t y = item / blocks_per_row;
            const std::int64_t z = item % blocks_per_row * block_z;
            const std::int64_t count_z = std::min(block_z, size[2] - z);
            for (std::int64_t x = 0; x < size[0]; x += block_x) {
                const std::int64_t count_x = std::min(block_x, size[0] - x);
                const std::array<std::int64_t, 3> corner = {preprocessing.box_begin[0] + offset[0] + x,
                                                            preprocessing.box_begin[1] + offset[1] + y,
                                                            preprocessing.box_begin[2] + offset[2] + z};
                load_block(preprocessing, scans, corner, count_x, count_z, block);
                store_block(block, count_x, count_z, input, x, y, z);
            }
        }
    });
}

namespace {

/// Copies the brain voxels of an array [x][y][z] of the padded box to the grid, i fastest.
template <typename T>
void uncrop_into(const Preprocessing& preprocessing, const T* box, T* grid) {
    const auto& size = preprocessing.grid.size;
    const auto& begin = preprocessing.box_begin;
    const std::int64_t y_stride = preprocessing.padded_size[2];
    const std::int64_t x_stride = preprocessing.padded_size[1] * y_stride;
    for (std::int64_t j = begin[1]; j < preprocessing.box_end[1]; ++j)
        for (std::int64_t k = begin[2]; k < preprocessing.box_end[2]; ++k) {
            T* const row = grid + size[0] * (j + size[1] * k);
            const T* const column = box + (j - begin[1]) * y_stride + (k - begin[2]);
            for (const VoxelRun& run : preprocessing.row(j, k))
                for (std::int64_t i = run.begin; i < run.end; ++i)
                    row[i] = column[(i - begin[0]) * x_stride];
        }
}

} // namespace

PageVector<float> sampled_intensities(const Preprocessing& preprocessing, const CompactVolume& scan) {
    const std::int64_t step = std::max<std::int64_t>(1, preprocessing.brain_voxels / sample_voxels);
    const auto& size = preprocessing.grid.size;
    PageVector<float> values;
    values.reserve(static_cast<std::size_t>(preprocessing.brain_voxels / step + 1));
    std::int64_t to_next = 0;
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (const VoxelRun& run : preprocessing.row(j, k)) {
                const std::int64_t voxels = run.end - run.begin;
                for (; to_next < voxels; to_next += step)
                    scan.read(run.begin + to_next, j, k, 1, &values.emplace_back());
                to_next -= voxels;
            }
    return values;
}

std::pair<float, float> extremes(std::span<float> values, double share, std::size_t least) {
    const std::size_t most = (values.size() - 1) / 2;
    const std::size_t skipped =
        std::min(most, std::max(least, static_cast<std::size_t>(share * static_cast<double>(values.size()))));
    const auto low = values.begin() + static_cast<std::ptrdiff_t>(skipped);
    const auto high = values.end() - 1 - static_cast<std::ptrdiff_t>(skipped);
    std::nth_element(values.begin(), high, values.end());
    std::nth_element(values.begin(), low, high); // the values at and behind `high` stay
    return {*low, *high};
}

void add_brain(const Preprocessing& preprocessing, const std::array<std::int64_t, 3>& offset, LineSpans& spans) {
    const auto& size = spans.size();
    std::array<std::int64_t, 3> begin{}; // of the part, in the grid
    std::array<std::int64_t, 3> end{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        begin[axis] = preprocessing.box_begin[axis] + offset[axis];
        end[axis] = std::min(begin[axis] + size[axis], preprocessing.grid.size[axis]);
    }
    // Of the lines of one y, which lie apart in `spans`, all are found before they are added.
    PageVector<LineSpan> lines(static_cast<std::size_t>(size[0]));
    for (std::int64_t j = begin[1]; j < end[1]; ++j) {
        std::fill(lines.begin(), lines.end(), LineSpan{});
        for (std::int64_t k = begin[2]; k < end[2]; ++k) {
            const auto z = static_cast<std::int32_t>(k - begin[2]);
            for (const VoxelRun& run : preprocessing.row(j, k)) {
                const std::int64_t last = std::min<std::int64_t>(run.end, end[0]);
                for (std::int64_t i = std::max<std::int64_t>(run.begin, begin[0]); i < last; ++i) {
                    LineSpan& line = lines[static_cast<std::size_t>(i - begin[0])];
                    line = hull(line, {z, z + 1});
                }
            }
        }
        for (std::int64_t x = 0; x < size[0]; ++x)
            if (const LineSpan& line = lines[static_cast<std::size_t>(x)]; !line.empty())
                spans.add(x, j - begin[1], line.begin, line.end);
    }
}

LabelMap uncrop(const Preprocessing& preprocessing, std::span<const std::uint8_t> labels, LabelMap reused) {
    LabelMap map = std::move(reused);
    map.grid = preprocessing.grid;
    map.labels.assign(static_cast<std::size_t>(preprocessing.grid.voxels()), 0);
    uncrop_into(preprocessing, labels.data(), map.labels.data());
    return map;
}

ProbabilityMap uncrop(const Preprocessing& preprocessing, const Tensor& probabilities, ProbabilityMap reused) {
    ProbabilityMap map{preprocessing.grid, probabilities.shape()[1], std::move(reused.values)};
    const std::int64_t voxels = map.grid.voxels();
    const std::int64_t box_voxels = probabilities.elements() / map.classes;
    map.values.assign(array_size<float>(map.classes * voxels), 0.0F);
    std::fill_n(map.values.begin(), voxels, 1.0F);
    for (std::int64_t c = 0; c < map.classes; ++c)
        uncrop_into(preprocessing, probabilities.data() + c * box_voxels, map.values.data() + c * voxels);
    return map;
}

} // namespace mfres
