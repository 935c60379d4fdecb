// SPDX-License-Identifier: MIT
#include "metrics/surface_distance.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mfres {

namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

using Size = std::array<std::int64_t, 3>;

/// A range of voxels along every axis; empty unless begin < end.
struct Box {
    Size begin{};
    Size end{};

    bool empty() const { return begin[0] >= end[0]; }
    Size size() const { return {end[0] - begin[0], end[1] - begin[1], end[2] - begin[2]}; }
};

std::int64_t elements(const Size& size) {
    return size[0] * size[1] * size[2];
}

const std::uint8_t* row_of(const Mask& mask, std::int64_t j, std::int64_t k) {
    return mask.values.data() + mask.size[0] * (j + mask.size[1] * k);
}

Box bounding_box(const Mask& mask) {
    Box box{mask.size, {0, 0, 0}};
    const auto inside = [&](std::uint8_t value) { return mask.inside[value]; };
    for (std::int64_t k = 0; k < mask.size[2]; ++k)
        for (std::int64_t j = 0; j < mask.size[1]; ++j) {
            const std::uint8_t* row = row_of(mask, j, k);
            const std::uint8_t* row_end = row + mask.size[0];
            const std::uint8_t* first = std::find_if(row, row_end, inside);
            if (first == row_end)
                continue;
            const std::uint8_t* last = row_end - 1;
            while (!inside(*last))
                --last;
            const Size low = {first - row, j, k};
            const Size high = {last - row + 1, j + 1, k + 1};
            for (std::size_t axis = 0; axis < 3; ++axis) {
                box.begin[axis] = std::min(box.begin[axis], low[axis]);
                box.end[axis] = std::max(box.end[axis], high[axis]);
            }
        }
    return box;
}

Box common_box(const Box& a, const Box& b) {
    Box box;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        box.begin[axis] = std::min(a.begin[axis], b.begin[axis]);
        box.end[axis] = std::max(a.end[axis], b.end[axis]);
    }
    return box;
}

/// 1 on the voxels of the box that are inside the mask and have a 6-neighbour outside, else 0. The box contains the
/// whole mask, so that everything around the box is outside.
std::vector<std::uint8_t> surface(const Mask& mask, const Box& box) {
    const Size size = box.size();
    const Size padded = {size[0] + 2, size[1] + 2, size[2] + 2};
    const std::int64_t across = padded[0];
    const std::int64_t through = padded[0] * padded[1];
    std::vector<std::uint8_t> solid(static_cast<std::size_t>(elements(padded)));
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j) {
            const std::uint8_t* row = row_of(mask, box.begin[1] + j, box.begin[2] + k) + box.begin[0];
            std::uint8_t* out = solid.data() + 1 + across * (j + 1) + through * (k + 1);
            for (std::int64_t i = 0; i < size[0]; ++i)
                out[i] = mask.inside[row[i]];
        }
    std::vector<std::uint8_t> result(static_cast<std::size_t>(elements(size)));
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j) {
            const std::uint8_t* in = solid.data() + 1 + across * (j + 1) + through * (k + 1);
            std::uint8_t* out = result.data() + size[0] * (j + size[1] * k);
            for (std::int64_t i = 0; i < size[0]; ++i) {
                const std::uint8_t interior =
                    in[i - 1] & in[i + 1] & in[i - across] & in[i + across] & in[i - through] & in[i + through];
                out[i] = in[i] & static_cast<std::uint8_t>(interior ^ 1U);
            }
        }
    return result;
}

/// The lower envelope of parabolas over a line of samples: min over v of ((x - v) spacing)^2 + height(v)
/// (Felzenszwalb and Huttenlocher 2012, algorithm DT). Samples of infinite height are skipped.
class LowerEnvelope {
  public:
    LowerEnvelope(std::int64_t longest, double spacing)
        : spacing_(spacing), origins_(static_cast<std::size_t>(longest)), heights_(static_cast<std::size_t>(longest)),
          starts_(static_cast<std::size_t>(longest) + 1) {}

    /// Builds the envelope of the `count` heights first[0], first[stride], ... False if all are infinite.
    bool build(const double* first, std::int64_t stride, std::int64_t count) {
        parabolas_ = 0;
        for (std::int64_t v = 0; v < count; ++v)
            if (const double height = first[v * stride]; height < infinite)
                add(v, height);
        starts_[parabolas_] = infinite;
        return parabolas_ > 0;
    }

    /// Calls visit(x, minimum at x) for x = 0, 1, ..., count - 1. Precondition: build() was true.
    template <typename Visit>
    void evaluate(std::int64_t count, const Visit& visit) const {
        std::size_t lowest = 0;
        for (std::int64_t x = 0; x < count; ++x) {
            while (starts_[lowest + 1] < static_cast<double>(x))
                ++lowest;
            const double distance = static_cast<double>(x - origins_[lowest]) * spacing_;
            visit(x, distance * distance + heights_[lowest]);
        }
    }

  private:
    /// Adds a parabola, and removes those that are never the lowest any more.
    void add(std::int64_t v, double height) {
        double start = -infinite;
        while (parabolas_ > 0) {
            const std::int64_t u = origins_[parabolas_ - 1];
            const double lead = (height - heights_[parabolas_ - 1]) / (spacing_ * spacing_);
            start = 0.5 * (static_cast<double>(u + v) + lead / static_cast<double>(v - u));
            if (start > starts_[parabolas_ - 1])
                break;
            --parabolas_;
            start = -infinite;
        }
        origins_[parabolas_] = v;
        heights_[parabolas_] = height;
        starts_[parabolas_] = start;
        ++parabolas_;
    }

    double spacing_;
    std::size_t parabolas_ = 0;
    std::vector<std::int64_t> origins_;
    std::vector<double> heights_;
    std::vector<double> starts_; ///< from where on each parabola is the lowest, in samples
};

/// Squared distance of every voxel to the nearest feature in its line along i; infinite in lines without one.
std::vector<double> squared_row_distances(const std::vector<std::uint8_t>& features, const Size& size, double spacing) {
    std::vector<double> squared(features.size(), infinite);
    const auto square = [spacing](std::int64_t steps) {
        const double distance = static_cast<double>(steps) * spacing;
        return distance * distance;
    };
    for (std::int64_t row = 0; row < size[1] * size[2]; ++row) {
        const std::uint8_t* feature = features.data() + size[0] * row;
        double* out = squared.data() + size[0] * row;
        const std::int64_t first = std::find(feature, feature + size[0], 1) - feature;
        if (first == size[0])
            continue;
        for (std::int64_t i = first, nearest = first; i < size[0]; ++i) {
            nearest = feature[i] != 0 ? i : nearest;
            out[i] = square(i - nearest);
        }
        std::int64_t nearest = size[0] - 1;
        while (feature[nearest] == 0)
            --nearest;
        for (std::int64_t i = nearest; i >= 0; --i) {
            nearest = feature[i] != 0 ? i : nearest;
            out[i] = std::min(out[i], square(nearest - i));
        }
    }
    return squared;
}

/// Extends squared distances within lines along i to planes, by the envelope along j.
void extend_along_j(std::vector<double>& squared, const Size& size, double spacing) {
    LowerEnvelope envelope(size[1], spacing);
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t i = 0; i < size[0]; ++i) {
            double* line = squared.data() + i + size[0] * size[1] * k;
            if (envelope.build(line, size[0], size[1]))
                envelope.evaluate(size[1], [&](std::int64_t j, double value) { line[j * size[0]] = value; });
        }
}

/// Appends the distance of every query voxel to the nearest feature. The envelope along k is computed for lines that
/// contain a query voxel only.
void append_distances(const std::vector<std::uint8_t>& queries, const std::vector<std::uint8_t>& features,
                      const Size& size, const std::array<double, 3>& spacing, std::vector<double>& distances) {
    std::vector<double> squared = squared_row_distances(features, size, spacing[0]);
    extend_along_j(squared, size, spacing[1]);
    const std::int64_t plane = size[0] * size[1];
    std::vector<std::uint8_t> asked(static_cast<std::size_t>(plane));
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t p = 0; p < plane; ++p)
            asked[static_cast<std::size_t>(p)] |= queries[static_cast<std::size_t>(p + plane * k)];
    LowerEnvelope envelope(size[2], spacing[2]);
    for (std::int64_t p = 0; p < plane; ++p) {
        if (asked[static_cast<std::size_t>(p)] == 0 || !envelope.build(squared.data() + p, plane, size[2]))
            continue;
        envelope.evaluate(size[2], [&](std::int64_t k, double value) {
            if (queries[static_cast<std::size_t>(p + plane * k)] != 0)
                distances.push_back(std::sqrt(value));
        });
    }
}

} // namespace

std::vector<double> pooled_surface_distances(const Mask& a, const Mask& b, const std::array<double, 3>& spacing_mm) {
    const Box box_a = bounding_box(a);
    const Box box_b = bounding_box(b);
    std::vector<double> distances;
    if (box_a.empty() || box_b.empty())
        return distances;
    // Both surfaces lie in this box, and so do the shortest distances between them.
    const Box box = common_box(box_a, box_b);
    const auto surface_a = surface(a, box);
    const auto surface_b = surface(b, box);
    append_distances(surface_a, surface_b, box.size(), spacing_mm, distances);
    append_distances(surface_b, surface_a, box.size(), spacing_mm, distances);
    return distances;
}

std::optional<double> quantile(std::vector<double> values, double p) {
    if (values.empty())
        return std::nullopt;
    const double position = static_cast<double>(values.size() - 1) * p;
    const auto rank = static_cast<std::ptrdiff_t>(position);
    const auto lower = values.begin() + rank;
    std::nth_element(values.begin(), lower, values.end());
    const double share = position - static_cast<double>(rank);
    if (share == 0.0)
        return *lower;
    const double upper = *std::min_element(lower + 1, values.end());
    return *lower + (upper - *lower) * share;
}

} // namespace mfres
