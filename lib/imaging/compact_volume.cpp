// SPDX-License-Identifier: MIT
#include "imaging/compact_volume.h"

#include "core/runs.h"
#include "core/tensor.h"
#include "core/try.h"
#include "imaging/border.h"
#include "imaging/reorient.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

namespace mfres {

namespace {

using border::intensity;
using Size = std::array<std::int64_t, 3>;

/// Calls visit(first, count, step) for the border voxels of every line along i, each voxel once.
template <typename Visit>
void visit_border(const Size& size, const Visit& visit) {
    for (std::int64_t k = 0; k < size[2]; ++k)
        border::visit_slice(size, k, [&](std::int64_t first, std::int64_t count, std::int64_t step) {
            visit(size[0] * size[1] * k + first, count, step);
        });
}

/// What counts as one value where no value has the majority: 0.5 % of the range. Noise is many values, each of them rarer
/// than one of tissue that touches the border.
constexpr double alike_share = 0.005;

template <typename T>
float background_of(std::span<const T> voxels, const Size& size, double slope, double inter) {
    PageVector<float> values;
    values.reserve(static_cast<std::size_t>(border::voxels(size)));
    visit_border(size, [&](std::int64_t first, std::int64_t count, std::int64_t step) {
        for (std::int64_t n = 0; n < count; ++n)
            if (const float value = intensity(voxels[static_cast<std::size_t>(first + n * step)], slope, inter);
                !std::isnan(value))
                values.push_back(value);
    });
    return border::most_frequent(std::move(values));
}

/// The box of voxels that differ from `background`, which is a stored value, so that nothing has to be scaled.
template <typename T>
std::pair<Size, Size> box_of_others(const PageVector<T>& voxels, const Size& size, T background) {
    Size begin = size;
    Size end{};
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j) {
            const T* const row = voxels.data() + size[0] * (j + size[1] * k);
            const T* const row_end = row + size[0];
            const T* const first = first_other(row, row_end, background);
            if (first == row_end)
                continue;
            const T* last = row_end;
            while (last[-1] == background)
                --last;
            begin = {std::min<std::int64_t>(begin[0], first - row), std::min(begin[1], j), std::min(begin[2], k)};
            end = {std::max<std::int64_t>(end[0], last - row), std::max(end[1], j + 1), std::max(end[2], k + 1)};
        }
    if (end[0] == 0)
        return {{}, {}};
    return {begin, {end[0] - begin[0], end[1] - begin[1], end[2] - begin[2]}};
}

template <typename T>
PageVector<T> cut_out(const PageVector<T>& voxels, const Size& grid, const Size& begin, const Size& size) {
    PageVector<T> cut;
    cut.reserve(static_cast<std::size_t>(size[0] * size[1] * size[2]));
    for (std::int64_t k = begin[2]; k < begin[2] + size[2]; ++k)
        for (std::int64_t j = begin[1]; j < begin[1] + size[1]; ++j) {
            const T* const row = voxels.data() + begin[0] + grid[0] * (j + grid[1] * k);
            cut.insert(cut.end(), row, row + size[0]);
        }
    return cut;
}

/// The stored value of the background. Other stored values may have the same intensity after rounding to float; their
/// voxels are kept like any other.
template <typename T>
std::optional<T> stored_background(const PageVector<T>& voxels, const Size& size, double slope, double inter,
                                   float background) {
    std::optional<T> found;
    visit_border(size, [&](std::int64_t first, std::int64_t count, std::int64_t step) {
        for (std::int64_t n = 0; n < count && !found; ++n)
            if (const T stored = voxels[static_cast<std::size_t>(first + n * step)];
                intensity(stored, slope, inter) == background)
                found = stored;
    });
    return found;
}

} // namespace

std::optional<float> majority(std::span<const float> values) { // the vote of Boyer and Moore (1991)
    float candidate = 0.0F;
    std::int64_t lead = 0;
    for (const float value : values) {
        if (lead == 0)
            candidate = value;
        lead += value == candidate ? 1 : -1;
    }
    if (2 * std::count(values.begin(), values.end(), candidate) > std::ssize(values))
        return candidate;
    return std::nullopt;
}

float border::most_frequent(PageVector<float> values) {
    if (const auto winner = majority(values))
        return *winner;
    std::sort(values.begin(), values.end());
    if (values.empty())
        return 0.0F;
    const double range = static_cast<double>(values.back()) - static_cast<double>(values.front());
    const double width = std::isfinite(range) ? alike_share * range : 0.0;
    auto begin = values.begin();
    auto end = values.begin();
    for (auto first = values.begin(), last = first; first != values.end(); ++first) {
        while (last != values.end() && static_cast<double>(*last) - static_cast<double>(*first) <= width)
            ++last;
        if (last - first > end - begin) {
            begin = first;
            end = last;
        }
    }
    float winner = 0.0F;
    std::ptrdiff_t most = 0;
    for (auto first = begin; first != end;) {
        const auto last = std::upper_bound(first, end, *first);
        if (last - first > most) {
            most = last - first;
            winner = *first;
        }
        first = last;
    }
    return winner;
}

float border_value(const Volume& volume) {
    return background_of(std::span<const float>(volume.voxels), volume.grid.size, 1.0, 0.0);
}

CompactVolume::CompactVolume(const Grid& grid, Voxels voxels, double slope, double inter)
    : grid_(grid), slope_(slope), inter_(inter) {
    std::visit(
        [&]<typename T>(const PageVector<T>& all) {
            background_ = background_of(std::span<const T>(all), grid.size, slope, inter);
            size_ = grid.size;
            if (const auto stored = stored_background(all, grid.size, slope, inter, background_))
                std::tie(begin_, size_) = box_of_others(all, grid.size, *stored);
            if (size_ != grid.size)
                voxels_ = cut_out(all, grid.size, begin_, size_);
        },
        voxels);
    if (size_ == grid.size)
        voxels_ = std::move(voxels);
    lay_out();
}

CompactVolume::CompactVolume(const Grid& grid, float background, const Size& begin, const Size& size, Voxels kept,
                             double slope, double inter)
    : grid_(grid), background_(background), begin_(begin), size_(size), slope_(slope), inter_(inter),
      voxels_(std::move(kept)) {
    lay_out();
}

void CompactVolume::lay_out() {
    strides_ = {1, size_[0], size_[0] * size_[1]};
}

std::int64_t CompactVolume::bytes() const {
    return std::visit([](const auto& v) { return static_cast<std::int64_t>(v.size() * sizeof v[0]); }, voxels_);
}

std::int64_t CompactVolume::whole_bytes() const {
    return std::visit([&](const auto& v) { return grid_.voxels() * static_cast<std::int64_t>(sizeof v[0]); }, voxels_);
}

std::pair<std::int64_t, std::int64_t> CompactVolume::kept_part(std::int64_t first, std::int64_t j, std::int64_t k,
                                                               std::int64_t count) const {
    const std::int64_t from = std::max(first, begin_[0]);
    const std::int64_t to = std::min(first + count, begin_[0] + size_[0]);
    const bool row_kept = j >= begin_[1] && j < begin_[1] + size_[1] && k >= begin_[2] && k < begin_[2] + size_[2];
    return row_kept && from < to ? std::pair{from, to} : std::pair{first, first};
}

void CompactVolume::read(std::int64_t first, std::int64_t j, std::int64_t k, std::int64_t count, float* out) const {
    const auto kept = kept_part(first, j, k, count);
    const std::int64_t from = kept.first;
    const std::int64_t to = kept.second;
    std::fill(out, out + (from - first), background_);
    std::fill(out + (to - first), out + count, background_);
    if (from == to)
        return;
    std::visit(
        [&](const auto& voxels) {
            const auto* const row = voxels.data() + place(from, j, k);
            float* const values = out + (from - first);
            // Scans lie in memory along x in one direction or the other, as a rule: for these the compiler makes vectors.
            const auto convert = [&](auto step) {
                for (std::int64_t i = 0; i < to - from; ++i)
                    values[i] = static_cast<float>(row[i * step]);
            };
            if (slope_ != 1.0 || inter_ != 0.0)
                for (std::int64_t i = 0; i < to - from; ++i)
                    values[i] = border::intensity(row[i * strides_[0]], slope_, inter_);
            else if (strides_[0] == 1)
                convert(std::integral_constant<std::ptrdiff_t, 1>());
            else if (strides_[0] == -1)
                convert(std::integral_constant<std::ptrdiff_t, -1>());
            else
                convert(strides_[0]);
        },
        voxels_);
}

std::size_t CompactVolume::stored_values() const {
    return std::visit(
        []<typename T>(const PageVector<T>&) {
            return std::is_floating_point_v<T> ? std::size_t{0} : std::size_t{1} << (8U * sizeof(T));
        },
        voxels_);
}

float CompactVolume::intensity(std::size_t n) const {
    return std::visit(
        [&]<typename T>(const PageVector<T>&) {
            if constexpr (std::is_floating_point_v<T>)
                return background_;
            else
                return border::intensity(static_cast<std::int64_t>(n) + std::numeric_limits<T>::lowest(), slope_,
                                         inter_);
        },
        voxels_);
}

std::int64_t CompactVolume::count(std::int64_t first, std::int64_t j, std::int64_t k, std::int64_t count,
                                  std::span<std::uint32_t> counts) const {
    const auto kept = kept_part(first, j, k, count);
    const std::int64_t voxels = kept.second - kept.first;
    if (voxels > 0)
        std::visit(
            [&]<typename T>(const PageVector<T>& all) {
                if constexpr (!std::is_floating_point_v<T>) {
                    const T* const row = all.data() + place(kept.first, j, k);
                    for (std::int64_t i = 0; i < voxels; ++i)
                        ++counts[static_cast<std::size_t>(std::int32_t{row[i * strides_[0]]} -
                                                          std::int32_t{std::numeric_limits<T>::lowest()})];
                }
            },
            voxels_);
    return count - voxels;
}

Volume CompactVolume::volume() const {
    Volume volume{grid_, std::vector<float>(static_cast<std::size_t>(grid_.voxels()))};
    for (std::int64_t k = 0; k < grid_.size[2]; ++k)
        for (std::int64_t j = 0; j < grid_.size[1]; ++j)
            read(0, j, k, grid_.size[0], volume.voxels.data() + grid_.size[0] * (j + grid_.size[1] * k));
    return volume;
}

void CompactVolume::clear() {
    voxels_ = Voxels();
    begin_ = size_ = {};
}

CompactVolume reorient(CompactVolume scan, const Orientation& orientation) {
    const CompactVolume from(scan.grid_, scan.background_, scan.begin_, scan.size_, {}, scan.slope_, scan.inter_);
    const std::array<std::int64_t, 3> strides = scan.strides_;
    scan.grid_ = reorient(from.grid_, orientation);
    for (std::size_t c = 0; c < 3; ++c) {
        const auto axis = static_cast<std::size_t>(orientation.axis[c]);
        scan.size_[c] = from.size_[axis];
        scan.begin_[c] = from.begin_[axis];
        scan.strides_[c] = strides[axis];
        if (!orientation.flip[c])
            continue;
        scan.begin_[c] = from.grid_.size[axis] - from.begin_[axis] - from.size_[axis];
        scan.origin_ += strides[axis] * (from.size_[axis] - 1);
        scan.strides_[c] = -strides[axis];
    }
    return scan;
}

Result<CompactVolume> make_scan(const Grid& grid, std::span<const float> intensities) {
    const auto voxels = checked_product(grid.size);
    if (!voxels || *voxels < 1 || intensities.size() != static_cast<std::uint64_t>(*voxels))
        return Error{ErrorCode::invalid_argument,
                     text("a volume holds ", intensities.size(), " voxels for a grid of ", to_string(Shape(grid.size))),
                     {}};
    const bool whole_numbers = std::all_of(intensities.begin(), intensities.end(), [](float value) {
        return value >= -32768.0F && value <= 32767.0F && value == std::nearbyint(value);
    });
    if (!whole_numbers)
        return CompactVolume(grid, PageVector<float>(intensities.begin(), intensities.end()), 1.0, 0.0);
    PageVector<std::int16_t> stored(intensities.size());
    std::transform(intensities.begin(), intensities.end(), stored.begin(),
                   [](float value) { return static_cast<std::int16_t>(value); });
    return CompactVolume(grid, std::move(stored), 1.0, 0.0);
}

Result<CompactVolume> make_scan(const Volume& volume) {
    return make_scan(volume.grid, volume.voxels);
}

bool same_intensities(const CompactVolume& a, const CompactVolume& b) {
    const auto& size = a.grid().size;
    if (size != b.grid().size)
        return false;
    PageVector<float> row_a(static_cast<std::size_t>(size[0]));
    PageVector<float> row_b(row_a.size());
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j) {
            a.read(0, j, k, size[0], row_a.data());
            b.read(0, j, k, size[0], row_b.data());
            if (row_a != row_b)
                return false;
        }
    return true;
}

} // namespace mfres
