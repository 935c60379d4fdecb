// SPDX-License-Identifier: MIT
#include "imaging/brain.h"

#include "core/little_endian.h"
#include "core/parallel.h"
#include "core/stop.h"
#include "imaging/contrasts.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

namespace mfres {

namespace {

using Size = std::array<std::int64_t, 3>;

// Each share with what was measured on 38 skull-stripped cases of BraTS 2018 to 2021, 152 contrasts.

/// A background is noisy where more of the foreground than 2 % lies within 0.25 % of the intensity range of it. Measured:
/// at most 0.1 %. One step of an image of 8 bits is more than 0.25 % of its range.
constexpr double near_share = 0.0025;
constexpr double noisy_share = 0.02;
/// What is background where it is noisy: 2 % of the range. Noise of that kind is rounding (1e-6) or ringing, of which
/// 2 % are left two voxels away from the brain. Measured: less than 1 % of a brain is that dark in all contrasts.
constexpr double tolerance_share = 0.02;
/// The intensity range: the distance from the background that 1 % of the foreground is beyond.
constexpr double range_share = 0.01;
/// Of so many voxels, if there are more.
constexpr std::int64_t range_voxels = std::int64_t{1} << 18;
/// Values that surround the rest: after the border's value no more than so many.
constexpr int most_second_values = 3;
/// A face of padding holds its value in 99 % of its voxels.
constexpr double padding_share = 0.99;

/// Words that hold a bit for each voxel of a row.
std::int64_t words_of_row(const Size& size) {
    return (size[0] + 63) / 64;
}

struct VoxelBox {
    Size begin{};
    Size size{};

    bool empty() const { return size[0] == 0; }
};

float distance(float value, const PageVector<float>& backgrounds) {
    float nearest = std::abs(value - backgrounds[0]);
    for (std::size_t n = 1; n < backgrounds.size(); ++n)
        nearest = std::min(nearest, std::abs(value - backgrounds[n]));
    return nearest;
}

float rounding(const PageVector<float>& backgrounds) {
    float largest = 0.0F;
    for (const float value : backgrounds)
        largest = std::max(largest, std::abs(value));
    return 4.0F * std::numeric_limits<float>::epsilon() * largest;
}

/// The distance of each value, in its place.
void to_distances(std::span<float> values, const PageVector<float>& backgrounds) {
    if (backgrounds.size() == 1)
        for (const float background = backgrounds[0]; float& value : values)
            value = std::abs(value - background);
    else
        for (float& value : values)
            value = distance(value, backgrounds);
}

// Values of the background -----------------------------------------------------------------------------------------

/// The values on one face of a box: index `at` along `axis`.
PageVector<float> face_values(const CompactVolume& scan, const VoxelBox& box, std::size_t axis, std::int64_t at) {
    Size begin = box.begin;
    Size size = box.size;
    begin[axis] = at;
    size[axis] = 1;
    PageVector<float> values(static_cast<std::size_t>(size[0] * size[1] * size[2]));
    float* row = values.data();
    for (std::int64_t k = begin[2]; k < begin[2] + size[2]; ++k)
        for (std::int64_t j = begin[1]; j < begin[1] + size[1]; ++j, row += size[0])
            scan.read(begin[0], j, k, size[0], row);
    return values;
}

/// A value around what differs from the background so far: of more than half of the voxels on the faces of its box, or
/// of a whole face that reaches from border to border.
std::optional<float> surrounding_value(const CompactVolume& scan, const VoxelBox& box,
                                       const PageVector<float>& backgrounds) {
    PageVector<float> all;
    for (std::size_t axis = 0; axis < 3; ++axis)
        for (const std::int64_t at : {box.begin[axis], box.begin[axis] + box.size[axis] - 1}) {
            const PageVector<float> face = face_values(scan, box, axis, at);
            bool whole = true;
            for (std::size_t other = 0; other < 3; ++other)
                whole = whole && (other == axis || box.size[other] == scan.grid().size[other]);
            if (const auto value = majority(face); whole && value &&
                                                   distance(*value, backgrounds) > rounding(backgrounds) &&
                                                   static_cast<double>(std::count(face.begin(), face.end(), *value)) >=
                                                       padding_share * static_cast<double>(face.size()))
                return value;
            all.insert(all.end(), face.begin(), face.end());
        }
    return majority(all);
}

/// The box of voxels that differ from every value by more than rounding.
VoxelBox box_beyond(const CompactVolume& scan, const PageVector<float>& backgrounds) {
    const Size& from = scan.kept_begin();
    const Size& kept = scan.kept_size();
    const float limit = rounding(backgrounds);
    Size begin = scan.grid().size;
    Size end{};
    PageVector<float> row(static_cast<std::size_t>(kept[0]));
    for (std::int64_t k = from[2]; k < from[2] + kept[2]; ++k)
        for (std::int64_t j = from[1]; j < from[1] + kept[1]; ++j) {
            scan.read(from[0], j, k, kept[0], row.data());
            const auto differs = [&](float value) { return !(distance(value, backgrounds) <= limit); };
            const auto first = std::find_if(row.begin(), row.end(), differs);
            if (first == row.end())
                continue;
            const auto last = std::find_if(row.rbegin(), row.rend(), differs).base();
            begin = {std::min(begin[0], from[0] + (first - row.begin())), std::min(begin[1], j), std::min(begin[2], k)};
            end = {std::max(end[0], from[0] + (last - row.begin())), std::max(end[1], j + 1), std::max(end[2], k + 1)};
        }
    if (end[0] == 0)
        return {};
    return {begin, {end[0] - begin[0], end[1] - begin[1], end[2] - begin[2]}};
}

PageVector<float> background_values(const CompactVolume& scan) {
    PageVector<float> values = {scan.background()};
    VoxelBox box{scan.kept_begin(), scan.kept_size()};
    for (int more = 0; more < most_second_values && !box.empty(); ++more) {
        const auto second = surrounding_value(scan, box, values);
        if (!second || distance(*second, values) <= rounding(values))
            break;
        values.push_back(*second);
        box = box_beyond(scan, values);
        if (box.empty())
            values.pop_back(); // a block of one value is no background of something else
    }
    return values;
}

/// The distance from the background that range_share of the foreground is beyond, from rows spread over the scan.
float intensity_range(const CompactVolume& scan, const PageVector<float>& backgrounds) {
    const Size& from = scan.kept_begin();
    const Size& kept = scan.kept_size();
    const std::int64_t every = std::max<std::int64_t>(1, kept[0] * kept[1] * kept[2] / range_voxels);
    const float limit = rounding(backgrounds);
    PageVector<float> row(static_cast<std::size_t>(kept[0]));
    PageVector<float> distances;
    for (std::int64_t n = 0; n < kept[1] * kept[2]; n += every) {
        scan.read(from[0], from[1] + n % kept[1], from[2] + n / kept[1], kept[0], row.data());
        for (const float value : row)
            if (const float apart = distance(value, backgrounds); apart > limit)
                distances.push_back(apart);
    }
    if (distances.empty())
        return 0.0F;
    const auto rank = static_cast<std::ptrdiff_t>((1.0 - range_share) * static_cast<double>(distances.size() - 1));
    std::nth_element(distances.begin(), distances.begin() + rank, distances.end());
    return distances[static_cast<std::size_t>(rank)];
}

// Foreground -------------------------------------------------------------------------------------------------------

constexpr std::int64_t word_bits = 64;

/// Finds the runs of set bits of a row: calls visit(begin, end) for each.
template <typename Word, typename Visit>
void visit_set_bits(std::int64_t words, const Word& word, const Visit& visit) {
    std::int64_t begin = -1; // of a run that is not at its end
    for (std::int64_t w = 0; w < words; ++w) {
        const std::uint64_t bits = word(w);
        for (std::int64_t bit = 0; bit < word_bits;) {
            // The next bit that is set, or that is not while a run lasts.
            const std::uint64_t wanted = (begin < 0 ? bits : ~bits) >> bit;
            if (wanted == 0)
                break;
            bit += std::countr_zero(wanted);
            if (begin < 0) {
                begin = w * word_bits + bit;
            } else {
                visit(begin, w * word_bits + bit);
                begin = -1;
            }
        }
    }
    if (begin >= 0)
        visit(begin, words * word_bits);
}

/// The bits begin <= i < end of word w of a row.
std::uint64_t bits_between(std::int64_t begin, std::int64_t end, std::int64_t w) {
    const std::int64_t from = std::clamp<std::int64_t>(begin - w * word_bits, 0, word_bits);
    const std::int64_t to = std::clamp<std::int64_t>(end - w * word_bits, 0, word_bits);
    const auto below = [](std::int64_t count) {
        return count == word_bits ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
    };
    return below(to) & ~below(from);
}

/// How many voxels are marked at all, and how many of these lie near the background.
struct MarkCounts {
    std::atomic<std::int64_t> exact{};
    std::atomic<std::int64_t> near{}; ///< within near_share of the range
};

/// The bits of the `word_bits` distances that are beyond a limit, or are no number. In two steps, of which compilers make
/// vector instructions: a byte for each, eight bytes to eight bits.
std::uint64_t bits_beyond(const float* distances, float limit) {
    std::array<std::byte, word_bits> beyond;
    for (std::size_t i = 0; i < beyond.size(); ++i)
        beyond[i] = std::byte{!(distances[i] <= limit)};
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < beyond.size(); i += 8) {
        // The product moves bit 8 n to bit 56 + n, for each n of 0 to 7.
        const std::uint64_t eight = from_little_endian<std::uint64_t>(beyond.data() + i) * 0x0102040810204080U;
        bits |= (eight >> 56U) << i;
    }
    return bits;
}

/// Marks what differs from the background: `exact` by more than rounding, `beyond` by more than the tolerance of a noisy
/// background.
void mark(const CompactVolume& scan, const PageVector<float>& backgrounds, float range, int threads, VoxelBits& exact,
          VoxelBits& beyond, MarkCounts& counts) {
    const Size& from = scan.kept_begin();
    const Size& kept = scan.kept_size();
    const float limit = rounding(backgrounds);
    const float near = std::max(limit, static_cast<float>(near_share * static_cast<double>(range)));
    const float tolerance = std::max(limit, static_cast<float>(tolerance_share * static_cast<double>(range)));
    const std::int64_t first_word = from[0] / word_bits;
    const std::int64_t words = words_of_row({from[0] + kept[0], 0, 0}) - first_word;
    parallel_ranges(kept[2], threads, [&](std::int64_t begin, std::int64_t end) {
        // Of whole words. What lies beside the box is at distance 0.
        PageVector<float> distances(static_cast<std::size_t>(words * word_bits), 0.0F);
        const auto of_box = std::span(distances).subspan(static_cast<std::size_t>(from[0] - first_word * word_bits),
                                                         static_cast<std::size_t>(kept[0]));
        std::int64_t exact_voxels = 0;
        std::int64_t near_voxels = 0;
        for (std::int64_t k = from[2] + begin; k < from[2] + end; ++k)
            for (std::int64_t j = from[1]; j < from[1] + kept[1]; ++j) {
                scan.read(from[0], j, k, kept[0], of_box.data());
                to_distances(of_box, backgrounds);
                for (std::int64_t w = 0; w < words; ++w) {
                    const float* const word = distances.data() + w * word_bits;
                    const std::uint64_t differs = bits_beyond(word, limit);
                    if (differs == 0) // nor beyond the other limits, which are not smaller
                        continue;
                    exact.row(j, k)[first_word + w] = differs;
                    beyond.row(j, k)[first_word + w] = bits_beyond(word, tolerance);
                    exact_voxels += std::popcount(differs);
                    near_voxels += std::popcount(differs & ~bits_beyond(word, near));
                }
            }
        counts.exact += exact_voxels;
        counts.near += near_voxels;
    });
}

// Parts --------------------------------------------------------------------------------------------------------------

/// The voxels that one of the marks has.
RunMask collect_runs(std::span<const VoxelBits* const> marks, const Size& size) {
    RunMask mask;
    mask.size = size;
    mask.first_run.reserve(static_cast<std::size_t>(size[1] * size[2] + 1));
    const std::int64_t words = words_of_row(size);
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j) {
            mask.first_run.push_back(mask.runs.size());
            const auto word = [&](std::int64_t w) {
                std::uint64_t bits = 0;
                for (const VoxelBits* one : marks)
                    bits |= one->word(w, j, k);
                return bits;
            };
            visit_set_bits(words, word, [&](std::int64_t begin, std::int64_t end) {
                mask.runs.push_back({static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end)});
            });
        }
    mask.first_run.push_back(mask.runs.size());
    return mask;
}

/// Leaves the largest part, of equally large ones the first, and counts what is left out.
void keep_largest(RunMask& mask, Brain& brain) {
    Components components(mask, Neighbours::all);
    PageVector<std::int64_t> voxels = components.voxels(mask);
    const auto largest = std::max_element(voxels.begin(), voxels.end());
    if (largest == voxels.end())
        return;
    const auto root = static_cast<std::uint32_t>(largest - voxels.begin());
    *largest = 0;
    brain.speck_voxels = std::accumulate(voxels.begin(), voxels.end(), std::int64_t{0});
    brain.second_part_voxels = *std::max_element(voxels.begin(), voxels.end());
    keep_components(mask, components, [root](std::uint32_t other) { return other == root; });
}

/// Whether a voxel of row (j, k) at i = at lies on the grid's border.
bool on_border(const Size& size, std::int64_t at, std::int64_t j, std::int64_t k) {
    return j == 0 || j == size[1] - 1 || k == 0 || k == size[2] - 1 || at == 0 || at == size[0] - 1;
}

/// Adds what cannot be reached from the border by faces of voxels outside the mask.
void fill_holes(RunMask& mask) {
    RunMask outside = complement(mask);
    Components components(outside, Neighbours::faces);
    std::vector<bool, PageAllocator<bool>> reached(outside.runs.size(), false);
    const Size& size = mask.size;
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j) {
            const auto row = static_cast<std::size_t>(j + size[1] * k);
            for (std::size_t run = outside.first_run[row]; run < outside.first_run[row + 1]; ++run)
                if (on_border(size, outside.runs[run].begin, j, k) || on_border(size, outside.runs[run].end - 1, j, k))
                    reached[components.root(run)] = true;
        }
    keep_components(outside, components, [&](std::uint32_t root) { return reached[root]; });
    mask = complement(outside);
}

/// Adds the brain voxels begin <= i < end of row (j, k) to Brain::shown.
void count_shown(const std::array<VoxelBits, 4>& marks, const VoxelRun& run, std::int64_t j, std::int64_t k,
                 Brain& brain) {
    for (std::int64_t w = run.begin / word_bits; w * word_bits < run.end; ++w) {
        std::array<std::uint64_t, 16> of{}; // the voxels by the contrasts that show them
        of[0] = bits_between(run.begin, run.end, w);
        for (std::size_t m = 0; m < marks.size(); ++m) {
            const std::uint64_t shown = marks[m].word(w, j, k);
            const std::size_t bit = std::size_t{1} << m;
            for (std::size_t set = 0; set < bit; ++set) {
                of[set | bit] = of[set] & shown;
                of[set] &= ~shown;
            }
        }
        for (std::size_t set = 0; set < of.size(); ++set)
            if (of[set] != 0) // as for nearly all sets, and without an instruction for it popcount takes its time
                brain.shown[set] += std::popcount(of[set]);
    }
}

void count_voxels(const std::array<VoxelBits, 4>& marks, Brain& brain) {
    const Size& size = brain.grid.size;
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (const VoxelRun& run : brain.row(j, k)) {
                brain.brain_voxels += run.length();
                count_shown(marks, run, j, k, brain);
                if (on_border(size, 1, j, k) && size[0] > 2)
                    brain.border_voxels += run.length();
                else
                    for (std::int64_t i = run.begin; i < run.end; ++i)
                        brain.border_voxels += on_border(size, i, j, k) ? 1 : 0;
            }
}

} // namespace

std::size_t first_of(const ModalitySet& set) {
    return static_cast<std::size_t>(std::find(set.begin(), set.end(), true) - set.begin());
}

bool Background::differs(float value) const {
    return !(distance(value, values) <= tolerance);
}

std::int64_t Brain::shown_by_all(ContrastBits set) const {
    std::int64_t voxels = 0;
    for (std::size_t bits = 0; bits < shown.size(); ++bits)
        voxels += (bits & set) == set ? shown[bits] : 0;
    return voxels;
}

std::int64_t Brain::shown_by_any(ContrastBits set) const {
    std::int64_t voxels = 0;
    for (std::size_t bits = 0; bits < shown.size(); ++bits)
        voxels += (bits & set) != 0 ? shown[bits] : 0;
    return voxels;
}

VoxelBits::VoxelBits(const Size& size, const Size& begin, const Size& kept)
    : first_{begin[1], begin[2]}, rows_{kept[1], kept[2]}, words_(words_of_row(size)),
      bits_(static_cast<std::size_t>(words_ * kept[1] * kept[2]), 0) {}

std::int64_t VoxelBits::count() const {
    return std::accumulate(bits_.begin(), bits_.end(), std::int64_t{0},
                           [](std::int64_t sum, std::uint64_t bits) { return sum + std::popcount(bits); });
}

void BrainFinder::add(std::size_t m, const CompactVolume& scan) {
    brain_.grid = brain_.grid.voxels() == 0 ? scan.grid() : brain_.grid;
    mark_foreground(m, scan);
}

void BrainFinder::add(const std::array<CompactVolume, 4>& scans, const ModalitySet& present) {
    brain_.grid = scans[first_of(present)].grid();
    for_contrasts(present, threads_, [&](std::size_t m) { mark_foreground(m, scans[m]); });
}

void BrainFinder::mark_foreground(std::size_t m, const CompactVolume& scan) {
    Background& background = brain_.backgrounds[m];
    background.values = background_values(scan);
    const float range = intensity_range(scan, background.values);
    const auto marks = [&] { return VoxelBits(scan.grid().size, scan.kept_begin(), scan.kept_size()); };
    VoxelBits exact = marks();
    VoxelBits beyond = marks();
    MarkCounts counts;
    mark(scan, background.values, range, threads_, exact, beyond, counts);
    const std::int64_t far = counts.exact - counts.near;
    background.noisy = static_cast<double>(counts.near) > noisy_share * static_cast<double>(far) && far > 0;
    background.tolerance = rounding(background.values);
    if (background.noisy)
        background.tolerance =
            std::max(background.tolerance, static_cast<float>(tolerance_share * static_cast<double>(range)));
    marks_[m] = std::move(background.noisy ? beyond : exact);
    brain_.foreground[m] = background.noisy ? marks_[m].count() : counts.exact.load();
    added_[m] = true;
}

std::int64_t BrainFinder::bytes() const {
    std::int64_t bytes = 0;
    for (const VoxelBits& marks : marks_)
        bytes += marks.bytes();
    return bytes;
}

Brain BrainFinder::finish() && {
    const auto is_clean = [&](std::size_t m) { return added_[m] && !brain_.backgrounds[m].noisy; };
    const bool clean = is_clean(0) || is_clean(1) || is_clean(2) || is_clean(3);
    std::array<const VoxelBits*, 4> deciding{};
    std::size_t count = 0;
    for (std::size_t m = 0; m < marks_.size(); ++m)
        if (added_[m] && (!clean || is_clean(m)))
            deciding[count++] = &marks_[m];
    StopScope::check(); // here and below: between passes of one thread over the grid
    RunMask mask = collect_runs(std::span(deciding).first(count), brain_.grid.size);
    StopScope::check();
    keep_largest(mask, brain_);
    if (std::any_of(brain_.backgrounds.begin(), brain_.backgrounds.end(), [](const auto& one) { return one.noisy; }))
        fill_holes(mask);
    brain_.runs = std::move(mask.runs);
    brain_.first_run = std::move(mask.first_run);
    StopScope::check();
    count_voxels(marks_, brain_);
    return std::move(brain_);
}

Brain find_brain(const std::array<CompactVolume, 4>& scans, const ModalitySet& present, int threads) {
    BrainFinder finder(threads);
    finder.add(scans, present);
    return std::move(finder).finish();
}

} // namespace mfres
