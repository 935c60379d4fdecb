// SPDX-License-Identifier: MIT
#include "imaging/geometry.h"

#include "core/parallel.h"
#include "core/try.h"
#include "imaging/reorient.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

namespace mfres {

namespace {

constexpr double degrees_per_radian = 180.0 / std::numbers::pi;

/// Signs of the canonical axes in the world: left is -x, posterior is -y, superior is +z.
constexpr std::array<double, 3> canonical_sign = {-1.0, -1.0, 1.0};

Point column(const Affine& affine, int axis) {
    return {affine[0][axis], affine[1][axis], affine[2][axis]};
}

double dot(const Point& a, const Point& b) {
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

double length(const Point& a) {
    return std::hypot(a[0], a[1], a[2]);
}

Point cross(const Point& a, const Point& b) {
    return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

bool all_finite(const Affine& affine) {
    return std::all_of(affine.begin(), affine.end(), [](const auto& row) {
        return std::all_of(row.begin(), row.end(), [](double value) { return std::isfinite(value); });
    });
}

/// The world axis nearest to a direction.
int dominant_axis(const Point& direction) {
    int best = 0;
    for (int axis = 1; axis < 3; ++axis)
        if (std::abs(direction[axis]) > std::abs(direction[best]))
            best = axis;
    return best;
}

double angle_to_world_axis(const Point& direction) {
    const double cosine = std::abs(direction[dominant_axis(direction)]) / length(direction);
    return std::acos(std::min(cosine, 1.0)) * degrees_per_radian;
}

/// Indices of one grid as indices of another: a voxel of `target` as a place in `source`.
Result<Affine> index_map(const Grid& source, const Grid& target) {
    const auto to_source = inverse(source.affine);
    if (!to_source)
        return Error{ErrorCode::affine_singular, "the affine of the grid to resample from has no inverse", ""};
    return compose(*to_source, target.affine);
}

/// The source index of a voxel of the target.
Point source_index(const Affine& map, const std::array<std::int64_t, 3>& voxel) {
    const Point start = world(map, {0.0, static_cast<double>(voxel[1]), static_cast<double>(voxel[2])});
    const auto step = static_cast<double>(voxel[0]);
    return {start[0] + step * map[0][0], start[1] + step * map[1][0], start[2] + step * map[2][0]};
}

/// Calls visit(i, source index) for the voxels of row (j, k) of the target.
template <typename Visit>
void visit_row(const Affine& map, std::int64_t count, std::int64_t j, std::int64_t k, const Visit& visit) {
    const Point start = world(map, {0.0, static_cast<double>(j), static_cast<double>(k)});
    for (std::int64_t i = 0; i < count; ++i) {
        const auto step = static_cast<double>(i);
        visit(i, Point{start[0] + step * map[0][0], start[1] + step * map[1][0], start[2] + step * map[2][0]});
    }
}

/// Calls visit(output offset, source index) for every voxel of `target`, in slabs on several threads.
template <typename Visit>
Status visit_positions(const Grid& source, const Grid& target, int threads, const Visit& visit) {
    MFRES_TRY(const Affine map, index_map(source, target));
    parallel_ranges(target.size[2], threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t k = begin; k < end; ++k)
            for (std::int64_t j = 0; j < target.size[1]; ++j) {
                const std::int64_t row = target.size[0] * (j + target.size[1] * k);
                visit_row(map, target.size[0], j, k,
                          [&](std::int64_t i, const Point& position) { visit(row + i, position); });
            }
    });
    return {};
}

/// A position along one axis as two neighbouring voxels and the weight of the upper one.
struct Between {
    std::int64_t lower;
    std::int64_t upper;
    float weight;
};

Between between(double position, std::int64_t size) {
    const double inside = std::clamp(position, 0.0, static_cast<double>(size - 1));
    const auto lower = static_cast<std::int64_t>(inside);
    return {lower, std::min(lower + 1, size - 1), static_cast<float>(inside - static_cast<double>(lower))};
}

std::int64_t nearest(double position, std::int64_t size) {
    constexpr double tie = 0.5 + 1e-6; // ties are independent of rounding errors
    const double inside = std::clamp(std::ceil(position - tie), 0.0, static_cast<double>(size - 1));
    return static_cast<std::int64_t>(inside);
}

/// The nearest label at a place of the grid.
std::uint8_t nearest_label(const LabelMap& source, const Point& position) {
    const auto& size = source.grid.size;
    const std::int64_t i = nearest(position[0], size[0]);
    const std::int64_t j = nearest(position[1], size[1]);
    const std::int64_t k = nearest(position[2], size[2]);
    return source.labels[static_cast<std::size_t>(i + size[0] * (j + size[1] * k))];
}

/// The axis of the turned grid that leads from one plane of the array to the next.
std::size_t axis_of_planes(const Orientation& orientation) {
    return static_cast<std::size_t>(inverse(orientation).axis[2]);
}

/// The planes of a tissue volume that interpolation needs at the moment.
class Planes {
  public:
    explicit Planes(const TissuePlanes& source)
        : source_(&source), width_(size_before(source.grid.size, source.orientation)[0]),
          voxels_(static_cast<std::size_t>(width_ * size_before(source.grid.size, source.orientation)[1])) {}

    /// Keeps the planes first to last, and reads those of them that are not there.
    Status move_to(std::int64_t first, std::int64_t last) {
        std::vector<Plane> next;
        for (std::int64_t k = first; k <= last; ++k)
            if (k >= first_ && k < first_ + std::ssize(planes_)) {
                next.push_back(std::move(planes_[static_cast<std::size_t>(k - first_)]));
            } else {
                next.push_back({std::vector<float>(voxels_), std::vector<std::uint8_t>(voxels_)});
                MFRES_CHECK(source_->read(k, next.back().values, next.back().tissue));
            }
        planes_ = std::move(next);
        first_ = first;
        return {};
    }

    /// The mean of the surrounding voxels that are tissue. Precondition: their planes are kept.
    float interpolate(const Point& position, float outside) const {
        constexpr double least_weight = 0.5 - 1e-6; // a voxel half way is tissue, independent of rounding errors
        std::array<Between, 3> at{};
        std::array<std::array<Place, 2>, 3> places{}; // of the lower and the upper neighbour along each axis
        for (std::size_t axis = 0; axis < 3; ++axis) {
            at[axis] = between(position[axis], source_->grid.size[axis]);
            places[axis] = {place(axis, at[axis].lower), place(axis, at[axis].upper)};
        }
        double weights = 0.0;
        double sum = 0.0;
        for (unsigned corner = 0; corner < 8; ++corner) {
            double weight = 1.0;
            Place voxel{-first_, 0};
            for (std::size_t axis = 0; axis < 3; ++axis) {
                const std::size_t upper = corner >> axis & 1U;
                voxel.plane += places[axis][upper].plane;
                voxel.index += places[axis][upper].index;
                weight *= static_cast<double>(upper != 0 ? at[axis].weight : 1.0F - at[axis].weight);
            }
            const Plane& plane = planes_[static_cast<std::size_t>(voxel.plane)];
            const auto index = static_cast<std::size_t>(voxel.index);
            if (plane.tissue[index] == 0)
                continue;
            weights += weight;
            sum += weight * static_cast<double>(plane.values[index]);
        }
        return weights >= least_weight ? static_cast<float>(sum / weights) : outside;
    }

  private:
    struct Plane {
        std::vector<float> values;
        std::vector<std::uint8_t> tissue;
    };
    struct Place {
        std::int64_t plane;
        std::int64_t index; ///< in the plane
    };

    /// What an index along an axis of the grid adds to the place among the planes.
    Place place(std::size_t axis, std::int64_t at) const {
        const Orientation& orientation = source_->orientation;
        const std::int64_t index = orientation.flip[axis] ? source_->grid.size[axis] - 1 - at : at;
        if (orientation.axis[axis] == 2)
            return {index, 0};
        return {0, orientation.axis[axis] == 1 ? index * width_ : index};
    }

    const TissuePlanes* source_;
    std::int64_t width_;
    std::size_t voxels_;
    std::int64_t first_ = 0;
    std::vector<Plane> planes_;
};

/// The first and the last plane of the source that plane k of the target lies between.
std::array<std::int64_t, 2> planes_around(const Affine& map, const TissuePlanes& source, const Grid& target,
                                          std::int64_t k) {
    constexpr double rounding = 1e-6; // of a corner's position against that of the voxels, in planes
    const Orientation& orientation = source.orientation;
    const std::size_t axis = axis_of_planes(orientation);
    const std::array<std::int64_t, 3> size = size_before(target.size, orientation);
    double lowest = std::numeric_limits<double>::infinity();
    double highest = -lowest;
    for (const std::int64_t i : {std::int64_t{0}, size[0] - 1})
        for (const std::int64_t j : {std::int64_t{0}, size[1] - 1}) {
            const double at = source_index(map, turned({i, j, k}, target.size, orientation))[axis];
            lowest = std::min(lowest, at);
            highest = std::max(highest, at);
        }
    const std::int64_t planes = source.grid.size[axis];
    const std::int64_t first = between(lowest - rounding, planes).lower;
    const std::int64_t last = between(highest + rounding, planes).upper;
    if (orientation.flip[axis])
        return {planes - 1 - last, planes - 1 - first};
    return {first, last};
}

} // namespace

Point world(const Affine& affine, const Point& index) {
    Point position{};
    for (int row = 0; row < 3; ++row)
        position[row] =
            affine[row][0] * index[0] + affine[row][1] * index[1] + affine[row][2] * index[2] + affine[row][3];
    return position;
}

Point voxel_size(const Affine& affine) {
    return {length(column(affine, 0)), length(column(affine, 1)), length(column(affine, 2))};
}

double determinant(const Affine& affine) {
    return dot(column(affine, 0), cross(column(affine, 1), column(affine, 2)));
}

std::optional<Affine> inverse(const Affine& affine) {
    if (!all_finite(affine))
        return std::nullopt;
    constexpr double smallest_share = 1e-6;
    const Point size = voxel_size(affine);
    const double volume = determinant(affine);
    if (!(std::abs(volume) > smallest_share * size[0] * size[1] * size[2]))
        return std::nullopt;
    Affine result{};
    for (int row = 0; row < 3; ++row) {
        const Point reciprocal = cross(column(affine, (row + 1) % 3), column(affine, (row + 2) % 3));
        for (int axis = 0; axis < 3; ++axis)
            result[row][axis] = reciprocal[axis] / volume;
        result[row][3] = -dot(reciprocal, column(affine, 3)) / volume;
    }
    if (!all_finite(result))
        return std::nullopt;
    return result;
}

Affine compose(const Affine& second, const Affine& first) {
    Affine result{};
    for (int row = 0; row < 3; ++row) {
        for (int axis = 0; axis < 4; ++axis)
            for (int inner = 0; inner < 3; ++inner)
                result[row][axis] += second[row][inner] * first[inner][axis];
        result[row][3] += second[row][3];
    }
    return result;
}

double max_corner_distance(const Grid& a, const Grid& b) {
    double largest = 0.0;
    for (int corner = 0; corner < 8; ++corner) {
        Point index_a{};
        Point index_b{};
        for (int axis = 0; axis < 3; ++axis)
            if ((corner >> axis) & 1) {
                index_a[axis] = static_cast<double>(a.size[axis] - 1);
                index_b[axis] = static_cast<double>(b.size[axis] - 1);
            }
        const Point p = world(a.affine, index_a);
        const Point q = world(b.affine, index_b);
        largest = std::max(largest, std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]));
    }
    return largest;
}

double shear_degrees(const Affine& affine) {
    double largest = 0.0;
    for (int axis = 0; axis < 3; ++axis) {
        const Point a = column(affine, axis);
        const Point b = column(affine, (axis + 1) % 3);
        const double cosine = std::min(std::abs(dot(a, b)) / (length(a) * length(b)), 1.0);
        largest = std::max(largest, std::asin(cosine) * degrees_per_radian);
    }
    return largest;
}

double tilt_degrees(const Affine& affine) {
    double largest = 0.0;
    for (int axis = 0; axis < 3; ++axis)
        largest = std::max(largest, angle_to_world_axis(column(affine, axis)));
    return largest;
}

Result<Orientation> orientation_of(const Affine& affine, std::string_view where) {
    constexpr double limit = 45.0 - 1e-6; // at exactly 45 degrees, rounding errors would decide
    Orientation orientation;
    std::array<bool, 3> claimed{};
    for (int axis = 0; axis < 3; ++axis) {
        const Point direction = column(affine, axis);
        const int c = dominant_axis(direction);
        const double angle = angle_to_world_axis(direction);
        if (angle >= limit || claimed[c])
            return Error{ErrorCode::orientation_oblique,
                         text(where,
                              " is turned so far that its axes cannot be read as left/right, "
                              "anterior/posterior and superior/inferior: voxel axis ",
                              "ijk"[axis], " is ", angle, " degrees away from the nearest of them",
                              claimed[c] ? ", which another axis is nearest to as well" : "", " (limit 45)"),
                         std::string(where)};
        claimed[c] = true;
        orientation.axis[c] = axis;
        orientation.flip[c] = direction[c] * canonical_sign[c] < 0.0;
    }
    return orientation;
}

Orientation inverse(const Orientation& orientation) {
    Orientation result;
    for (int c = 0; c < 3; ++c) {
        result.axis[orientation.axis[c]] = c;
        result.flip[orientation.axis[c]] = orientation.flip[c];
    }
    return result;
}

Grid reorient(const Grid& grid, const Orientation& orientation) {
    Grid result;
    Point origin{};
    for (int c = 0; c < 3; ++c) {
        const int axis = orientation.axis[c];
        result.size[c] = grid.size[axis];
        if (orientation.flip[c])
            origin[axis] = static_cast<double>(grid.size[axis] - 1);
        for (int row = 0; row < 3; ++row) // 0 - x rather than -x: no negative zeros
            result.affine[row][c] = orientation.flip[c] ? 0.0 - grid.affine[row][axis] : grid.affine[row][axis];
    }
    const Point position = world(grid.affine, origin);
    for (int row = 0; row < 3; ++row)
        result.affine[row][3] = position[row];
    return result;
}

Volume reorient(Volume volume, const Orientation& orientation) {
    if (orientation.is_canonical())
        return volume;
    return {reorient(volume.grid, orientation), reorient(volume.voxels, volume.grid.size, orientation)};
}

LabelMap reorient(LabelMap labels, const Orientation& orientation) {
    if (orientation.is_canonical())
        return labels;
    return {reorient(labels.grid, orientation), reorient(labels.labels, labels.grid.size, orientation)};
}

Grid with_voxel_size(const Grid& grid, double mm) {
    Grid result;
    const Point size = voxel_size(grid.affine);
    Point origin{}; // of the new voxel (0, 0, 0), in old indices
    for (int axis = 0; axis < 3; ++axis) {
        const double old_voxels = static_cast<double>(grid.size[axis]);
        const double step = mm / size[axis];
        const double voxels = std::max(1.0, std::round(old_voxels / step));
        result.size[axis] = static_cast<std::int64_t>(std::min(voxels, 1e9));
        origin[axis] = (old_voxels - voxels * step) / 2.0 + step / 2.0 - 0.5;
        for (int row = 0; row < 3; ++row)
            result.affine[row][axis] = grid.affine[row][axis] * step;
    }
    const Point position = world(grid.affine, origin);
    for (int row = 0; row < 3; ++row)
        result.affine[row][3] = position[row];
    return result;
}

Result<Volume> resample_linear(const Volume& source, const Grid& target, int threads) {
    Volume result{target, std::vector<float>(static_cast<std::size_t>(target.voxels()))};
    const auto& size = source.grid.size;
    const float* voxels = source.voxels.data();
    MFRES_CHECK(visit_positions(source.grid, target, threads, [&](std::int64_t offset, const Point& position) {
        const Between x = between(position[0], size[0]);
        const Between y = between(position[1], size[1]);
        const Between z = between(position[2], size[2]);
        const auto along_x = [&](std::int64_t j, std::int64_t k) {
            const float* row = voxels + size[0] * (j + size[1] * k);
            return row[x.lower] + x.weight * (row[x.upper] - row[x.lower]);
        };
        const auto along_y = [&](std::int64_t k) {
            const float lower = along_x(y.lower, k);
            return lower + y.weight * (along_x(y.upper, k) - lower);
        };
        const float lower = along_y(z.lower);
        result.voxels[static_cast<std::size_t>(offset)] = lower + z.weight * (along_y(z.upper) - lower);
    }));
    return result;
}

Status resample_tissue(const TissuePlanes& source, float outside, const Grid& target, int threads,
                       const std::function<void(std::span<const float>)>& take) {
    MFRES_TRY(const Affine map, index_map(source.grid, target));
    const std::array<std::int64_t, 3> size = size_before(target.size, source.orientation);
    Planes planes(source);
    std::vector<float> plane(static_cast<std::size_t>(size[0] * size[1]));
    for (std::int64_t k = 0; k < size[2]; ++k) {
        const auto [first, last] = planes_around(map, source, target, k);
        MFRES_CHECK(planes.move_to(first, last));
        parallel_ranges(size[1], threads, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t j = begin; j < end; ++j)
                for (std::int64_t i = 0; i < size[0]; ++i)
                    plane[static_cast<std::size_t>(i + size[0] * j)] = planes.interpolate(
                        source_index(map, turned({i, j, k}, target.size, source.orientation)), outside);
        });
        take(plane);
    }
    return {};
}

Result<LabelMap> resample_nearest(const LabelMap& source, const Grid& target, int threads) {
    LabelMap result{target, std::vector<std::uint8_t>(static_cast<std::size_t>(target.voxels()))};
    MFRES_CHECK(visit_positions(source.grid, target, threads, [&](std::int64_t offset, const Point& position) {
        result.labels[static_cast<std::size_t>(offset)] = nearest_label(source, position);
    }));
    return result;
}

Status resample_nearest_plane(const LabelMap& source, const Grid& target, const Orientation& orientation,
                              std::int64_t k, std::span<std::uint8_t> plane, int threads) {
    MFRES_TRY(const Affine map, index_map(source.grid, target));
    const std::array<std::int64_t, 3> size = size_before(target.size, orientation);
    parallel_ranges(size[1], threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j)
            for (std::int64_t i = 0; i < size[0]; ++i)
                plane[static_cast<std::size_t>(i + size[0] * j)] =
                    nearest_label(source, source_index(map, turned({i, j, k}, target.size, orientation)));
    });
    return {};
}

std::array<std::int64_t, 3> size_before(const std::array<std::int64_t, 3>& size, const Orientation& orientation) {
    std::array<std::int64_t, 3> before{};
    for (std::size_t c = 0; c < 3; ++c)
        before[static_cast<std::size_t>(orientation.axis[c])] = size[c];
    return before;
}

std::array<std::int64_t, 3> turned(const std::array<std::int64_t, 3>& voxel, const std::array<std::int64_t, 3>& size,
                                   const Orientation& orientation) {
    std::array<std::int64_t, 3> result{};
    for (std::size_t c = 0; c < 3; ++c) {
        const std::int64_t at = voxel[static_cast<std::size_t>(orientation.axis[c])];
        result[c] = orientation.flip[c] ? size[c] - 1 - at : at;
    }
    return result;
}

} // namespace mfres
