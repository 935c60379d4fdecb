// SPDX-License-Identifier: MIT
#include "imaging/slice_stack.h"

#include "core/runs.h"
#include "core/stop.h"
#include "imaging/border.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <type_traits>
#include <utility>

namespace mfres {

namespace {

using Size = std::array<std::int64_t, 3>;

bool is_int16(float value) {
    return value >= -32768.0F && value <= 32767.0F && value == std::nearbyint(value);
}

/// The most frequent value of a slice if that is more than half of them, else any (Boyer and Moore 1991).
template <typename T>
T likely_background(const PageVector<T>& slice) {
    T candidate = slice.front();
    std::int64_t lead = 0;
    for (const T value : slice) {
        if (lead == 0)
            candidate = value;
        lead += value == candidate ? 1 : -1;
    }
    return candidate;
}

} // namespace

template <typename T>
SliceStack<T>::SliceStack(const Grid& grid, double slope, double inter, std::size_t expected, std::int64_t most_bytes)
    : grid_(grid), slope_(slope), inter_(inter), most_bytes_(most_bytes),
      slice_(static_cast<std::size_t>(grid.size[0] * grid.size[1])), integers_(std::is_same_v<T, float>) {
    border_.reserve(static_cast<std::size_t>(border::voxels(grid.size)));
    // Pages that are reserved take no memory before they are written to.
    if (integers_)
        integers_kept_.reserve(expected);
    else
        kept_.reserve(expected);
}

template <typename T>
void SliceStack<T>::append(std::span<const T> voxels) {
    while (!voxels.empty()) {
        const std::size_t taken = std::min(voxels.size(), room().size());
        std::copy_n(voxels.begin(), taken, room().begin());
        voxels = voxels.subspan(taken);
        took(taken);
    }
}

template <typename T>
void SliceStack<T>::took(std::size_t voxels) {
    count_ += static_cast<std::int64_t>(voxels);
    filled_ += voxels;
    if (filled_ == slice_.size())
        take_slice();
}

template <typename T>
void SliceStack<T>::check_bytes(std::size_t bytes) const {
    if (most_bytes_ > 0 && bytes > static_cast<std::size_t>(most_bytes_))
        throw std::bad_alloc();
}

template <typename T>
void SliceStack<T>::take_slice() {
    StopScope::check();
    filled_ = 0;
    const std::int64_t k = slices_++;
    if (k == 0)
        guess_ = likely_background(slice_);
    border::visit_slice(grid_.size, k, [&](std::int64_t first, std::int64_t count, std::int64_t step) {
        for (std::int64_t n = 0; n < count; ++n)
            border_.push_back(slice_[static_cast<std::size_t>(first + n * step)]);
    });
    if constexpr (std::is_same_v<T, float>)
        if (integers_ && !std::all_of(slice_.begin(), slice_.end(), is_int16))
            give_up_integers();

    const std::int64_t width = grid_.size[0];
    std::int64_t left = width, right = 0, first = grid_.size[1], last = 0;
    for (std::int64_t j = 0; j < grid_.size[1]; ++j) {
        const T* const row = slice_.data() + width * j;
        const T* const begin = first_other(row, row + width, guess_);
        if (begin == row + width)
            continue;
        const T* end = row + width;
        while (end[-1] == guess_)
            --end;
        left = std::min<std::int64_t>(left, begin - row);
        right = std::max<std::int64_t>(right, end - row);
        first = std::min(first, j);
        last = j + 1;
    }
    if (last == 0)
        return;
    parts_.push_back({k, left, first, right - left, last - first});
    if (integers_)
        keep(integers_kept_, parts_.back());
    else
        keep(kept_, parts_.back());
    check_bytes(integers_kept_.size() * sizeof(std::int16_t) + kept_.size() * sizeof(T));
}

template <typename T>
template <typename Kept>
void SliceStack<T>::keep(PageVector<Kept>& kept, const Part& part) const {
    for (std::int64_t j = part.j; j < part.j + part.height; ++j) {
        const T* const row = slice_.data() + part.i + grid_.size[0] * j;
        kept.insert(kept.end(), row, row + part.width);
    }
}

template <typename T>
void SliceStack<T>::give_up_integers() {
    integers_ = false;
    check_bytes(integers_kept_.size() * (sizeof(std::int16_t) + sizeof(T)));
    kept_.reserve(integers_kept_.capacity());
    kept_.assign(integers_kept_.begin(), integers_kept_.end());
    PageVector<std::int16_t>().swap(integers_kept_);
}

template <typename T>
CompactVolume SliceStack<T>::finish() && {
    PageVector<T>().swap(slice_);
    return integers_ ? finish(std::move(integers_kept_)) : finish(std::move(kept_));
}

template <typename T>
template <typename Kept>
CompactVolume SliceStack<T>::finish(PageVector<Kept> kept) const {
    PageVector<float> intensities(border_.size());
    std::transform(border_.begin(), border_.end(), intensities.begin(),
                   [this](T stored) { return border::intensity(stored, slope_, inter_); });
    const float background = border::most_frequent(std::move(intensities));
    // Stored values may differ that are one intensity. As in CompactVolume, the first one is background.
    const auto found = std::find_if(border_.begin(), border_.end(),
                                    [&](T stored) { return border::intensity(stored, slope_, inter_) == background; });
    if (found == border_.end() || *found != guess_)
        return from_whole(kept);
    if (parts_.empty())
        return CompactVolume(grid_, background, {}, {}, PageVector<Kept>(), slope_, inter_);

    Size begin = {grid_.size[0], grid_.size[1], parts_.front().k};
    Size end = {0, 0, parts_.back().k + 1};
    for (const Part& part : parts_) {
        begin = {std::min(begin[0], part.i), std::min(begin[1], part.j), begin[2]};
        end = {std::max(end[0], part.i + part.width), std::max(end[1], part.j + part.height), end[2]};
    }
    const Size size = {end[0] - begin[0], end[1] - begin[1], end[2] - begin[2]};
    // Rows move to their places in the box from the last one on. Each lies at its place or before it, so what is
    // overwritten has been moved already.
    auto from = static_cast<std::int64_t>(kept.size());
    check_bytes(static_cast<std::size_t>(size[0] * size[1] * size[2]) * sizeof(Kept));
    kept.resize(static_cast<std::size_t>(size[0] * size[1] * size[2]));
    Kept* to_end = kept.data() + kept.size();
    const auto fill_down_to = [&](Kept* place) {
        std::fill(place, to_end, static_cast<Kept>(guess_));
        to_end = place;
    };
    for (auto part = parts_.rbegin(); part != parts_.rend(); ++part)
        for (std::int64_t j = part->j + part->height; j-- > part->j;) {
            from -= part->width;
            Kept* const row =
                kept.data() + (part->i - begin[0]) + size[0] * ((j - begin[1]) + size[1] * (part->k - begin[2]));
            std::copy_backward(kept.data() + from, kept.data() + from + part->width, row + part->width);
            fill_down_to(row + part->width);
            to_end = row;
        }
    fill_down_to(kept.data());
    return CompactVolume(grid_, background, begin, size, std::move(kept), slope_, inter_);
}

template <typename T>
template <typename Kept>
CompactVolume SliceStack<T>::from_whole(const PageVector<Kept>& kept) const {
    check_bytes((kept.size() + static_cast<std::size_t>(grid_.voxels())) * sizeof(Kept));
    PageVector<Kept> whole(static_cast<std::size_t>(grid_.voxels()), static_cast<Kept>(guess_));
    const Kept* from = kept.data();
    for (const Part& part : parts_)
        for (std::int64_t j = part.j; j < part.j + part.height; ++j, from += part.width)
            std::copy_n(from, part.width, whole.data() + part.i + grid_.size[0] * (j + grid_.size[1] * part.k));
    return CompactVolume(grid_, std::move(whole), slope_, inter_);
}

template class SliceStack<float>;
template class SliceStack<std::uint8_t>;
template class SliceStack<std::int16_t>;
template class SliceStack<std::uint16_t>;

} // namespace mfres
