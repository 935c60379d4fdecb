// SPDX-License-Identifier: MIT
#include "core/line_spans.h"

#include <algorithm>

namespace mfres {

void LineSpans::clear(const Size& size) {
    all_ = false;
    size_ = size;
    lines_.clear();
}

void LineSpans::add(std::int64_t x_begin, std::int64_t x_end, std::int64_t y, std::int64_t begin, std::int64_t end) {
    lines_.resize(lines());
    const LineSpan added{static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end)};
    for (std::int64_t x = x_begin; x < x_end; ++x) {
        LineSpan& line = lines_[index(x, y)];
        line = hull(line, added);
    }
}

void LineSpans::add(const LineSpans& other) {
    if (all_ || other.all_) {
        all_ = true;
        return;
    }
    if (other.lines_.empty())
        return;
    lines_.resize(lines());
    for (std::size_t i = 0; i < lines_.size(); ++i)
        lines_[i] = hull(lines_[i], other.lines_[i]);
}

void LineSpans::assign_grown(const LineSpans& inner, const Size& reach) {
    all_ = inner.all_;
    if (all_)
        return;
    clear(inner.size_);
    if (inner.lines_.empty())
        return;
    // The hull over a rectangle of lines is that over y, then over x.
    work_.resize(inner.lines_.size());
    for (std::int64_t x = 0; x < size_[0]; ++x)
        for (std::int64_t y = 0; y < size_[1]; ++y) {
            LineSpan all;
            for (std::int64_t near = std::max<std::int64_t>(0, y - reach[1]);
                 near <= std::min(size_[1] - 1, y + reach[1]); ++near)
                all = hull(all, inner.lines_[index(x, near)]);
            work_[index(x, y)] = all;
        }
    lines_.resize(work_.size());
    for (std::int64_t x = 0; x < size_[0]; ++x)
        for (std::int64_t y = 0; y < size_[1]; ++y) {
            LineSpan all;
            for (std::int64_t near = std::max<std::int64_t>(0, x - reach[0]);
                 near <= std::min(size_[0] - 1, x + reach[0]); ++near)
                all = hull(all, work_[index(near, y)]);
            if (!all.empty())
                all = {static_cast<std::int32_t>(std::max<std::int64_t>(0, all.begin - reach[2])),
                       static_cast<std::int32_t>(std::min(size_[2], all.end + reach[2]))};
            lines_[index(x, y)] = all;
        }
}

/// Fine voxel f lies between the coarse ones (f - 1) / 2 rounded down and the next; at the edges one has the weight 0.
void LineSpans::assign_halved(const LineSpans& fine) {
    all_ = fine.all_;
    if (all_)
        return;
    clear({fine.size_[0] / 2, fine.size_[1] / 2, fine.size_[2] / 2});
    const auto first = [](std::int64_t f) { return f == 0 ? std::int64_t{0} : (f - 1) / 2; };
    const auto last = [](std::int64_t f, std::int64_t edge) {
        return std::min(edge - 1, std::max<std::int64_t>(1, (f + 1) / 2));
    };
    for (std::int64_t x = 0; x < fine.size_[0]; ++x)
        for (std::int64_t y = 0; y < fine.size_[1]; ++y) {
            const LineSpan line = fine.line(x, y);
            if (line.empty())
                continue;
            const std::int64_t begin = first(line.begin);
            const std::int64_t end = last(line.end - 1, size_[2]) + 1;
            for (std::int64_t a = first(x); a <= last(x, size_[0]); ++a)
                for (std::int64_t b = first(y); b <= last(y, size_[1]); ++b)
                    add(a, b, begin, end);
        }
}

void LineSpans::mirror(const std::array<bool, 3>& axes) {
    const auto width = static_cast<std::ptrdiff_t>(size_[1]);
    if (axes[1])
        for (std::size_t row = 0; row < lines_.size(); row += static_cast<std::size_t>(size_[1]))
            std::reverse(lines_.begin() + static_cast<std::ptrdiff_t>(row),
                         lines_.begin() + static_cast<std::ptrdiff_t>(row) + width);
    if (axes[0]) {
        for (std::ptrdiff_t low = 0, high = static_cast<std::ptrdiff_t>(size_[0]) - 1; low < high && !lines_.empty();
             ++low, --high)
            std::swap_ranges(lines_.begin() + low * width, lines_.begin() + (low + 1) * width,
                             lines_.begin() + high * width);
    }
    if (axes[2])
        for (LineSpan& line : lines_)
            if (!line.empty())
                line = {static_cast<std::int32_t>(size_[2] - line.end),
                        static_cast<std::int32_t>(size_[2] - line.begin)};
}

std::int64_t LineSpans::voxels() const {
    std::int64_t count = 0;
    for (const LineSpan& line : lines_)
        count += line.end - line.begin;
    return count;
}

} // namespace mfres
