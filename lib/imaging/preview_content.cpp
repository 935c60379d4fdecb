// SPDX-License-Identifier: MIT
#include "imaging/preview_content.h"

#include "core/format.h"
#include "core/try.h"
#include "imaging/compact_volume.h"
#include "imaging/labels.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace mfres::preview {

namespace {

std::string in_words(const Index3& size) {
    return text(size[0], "x", size[1], "x", size[2]);
}

Status check_size(const Grid& grid, const Grid& expected, std::size_t elements, std::string_view what) {
    if (grid.size != expected.size)
        return Error{ErrorCode::grid_size_mismatch,
                     text("a preview needs equal grids, but the ", what, " has ", in_words(grid.size),
                          " voxels and FLAIR ", in_words(expected.size)),
                     std::string(what)};
    const bool empty = std::any_of(grid.size.begin(), grid.size.end(), [](std::int64_t n) { return n < 1; });
    if (empty || static_cast<std::uint64_t>(grid.voxels()) != elements)
        return Error{ErrorCode::invalid_argument,
                     text("the ", what, " of a preview holds ", elements, " values for a grid of ", in_words(grid.size),
                          " voxels"),
                     std::string(what)};
    return {};
}

Status check_volume(const Volume& volume, const Grid& expected, std::string_view what) {
    MFRES_CHECK(check_size(volume.grid, expected, volume.voxels.size(), what));
    const auto bad =
        std::count_if(volume.voxels.begin(), volume.voxels.end(), [](float v) { return !std::isfinite(v); });
    if (bad > 0)
        return Error{ErrorCode::voxel_not_finite,
                     text("the ", what, " of a preview holds ", bad, " voxels that are NaN or infinite"),
                     std::string(what)};
    return {};
}

Status check_labels(const LabelMap& map, const Grid& expected, std::string_view what) {
    MFRES_CHECK(check_size(map.grid, expected, map.labels.size(), what));
    const auto bad = std::find_if(map.labels.begin(), map.labels.end(), [](std::uint8_t label) { return label > 4; });
    if (bad != map.labels.end())
        return Error{ErrorCode::label_outside_scheme,
                     text("the ", what, " of a preview holds the label ", static_cast<int>(*bad),
                          ", but only 0 to 4 have a meaning"),
                     std::string(what)};
    return {};
}

template <typename Visit>
void for_voxels(const Grid& grid, const Visit& visit) {
    std::size_t index = 0;
    for (std::int64_t k = 0; k < grid.size[2]; ++k)
        for (std::int64_t j = 0; j < grid.size[1]; ++j)
            for (std::int64_t i = 0; i < grid.size[0]; ++i)
                visit(Index3{i, j, k}, index++);
}

} // namespace

std::uint8_t class_of(std::uint8_t label) {
    return label == 3 ? 4 : label;
}

std::array<double, 3> class_volumes(const LabelMap& map) {
    const auto classes = preview_classes();
    const double voxel = voxel_millilitres(map.grid);
    std::array<double, 3> volumes{};
    for (const std::uint8_t label : map.labels)
        for (std::size_t c = 0; c < classes.size(); ++c)
            if (class_of(label) == classes[c].label)
                volumes[c] += voxel;
    return volumes;
}

std::string millilitres(double volume) {
    std::array<char, 48> line{};
    print_classic(line.data(), line.size(), volume > 0 && volume < 1 ? "%.3f ml" : "%.1f ml", volume);
    return line.data();
}

Status check_input(const Volume& flair, const Volume& t1ce, const LabelMap& labels, const PreviewOptions& options) {
    MFRES_CHECK(check_volume(flair, flair.grid, "FLAIR"));
    MFRES_CHECK(check_volume(t1ce, flair.grid, "T1ce"));
    MFRES_CHECK(check_labels(labels, flair.grid, "label map"));
    if (options.reference != nullptr)
        MFRES_CHECK(check_labels(*options.reference, flair.grid, "reference label map"));
    if (const ProbabilityMap* map = options.probabilities) {
        const auto classes = static_cast<std::size_t>(std::max<std::int64_t>(1, map->classes));
        MFRES_CHECK(check_size(map->grid, flair.grid, map->values.size() / classes, "probability map"));
    }
    return {};
}

Result<std::array<double, 3>> spacing_of(const Grid& grid) {
    std::array<double, 3> spacing{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        spacing[axis] = std::hypot(grid.affine[0][axis], grid.affine[1][axis], grid.affine[2][axis]);
        if (!std::isfinite(spacing[axis]) || spacing[axis] <= 0)
            return Error{ErrorCode::affine_singular,
                         text("a preview needs voxels of a finite size, but voxels measure ", spacing[axis],
                              " mm along axis ", axis),
                         "affine"};
    }
    return spacing;
}

Window window_of(const Volume& volume) {
    const float background = border_value(volume);
    std::vector<float> brain;
    std::copy_if(volume.voxels.begin(), volume.voxels.end(), std::back_inserter(brain),
                 [&](float v) { return v != background; });
    return window_of(std::move(brain), background);
}

Window window_of(std::vector<float> brain, float background) {
    Window window;
    window.background = background;
    if (brain.empty())
        return window;
    const auto percentile = [&](double share) {
        const auto rank = static_cast<std::ptrdiff_t>(share * static_cast<double>(brain.size() - 1));
        std::nth_element(brain.begin(), brain.begin() + rank, brain.end());
        return brain[static_cast<std::size_t>(rank)];
    };
    window.low = percentile(0.01);
    window.high = percentile(0.997);
    if (window.high <= window.low)
        window.high = window.low + 1.0F;
    return window;
}

Box brain_box(const Volume& flair, const Volume& t1ce, float flair_background, float t1ce_background,
              const std::array<double, 3>& spacing) {
    const Grid& grid = flair.grid;
    Box box = {grid.size, {-1, -1, -1}};
    for_voxels(grid, [&](const Index3& p, std::size_t index) {
        if (flair.voxels[index] == flair_background && t1ce.voxels[index] == t1ce_background)
            return;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            box.low[axis] = std::min(box.low[axis], p[axis]);
            box.high[axis] = std::max(box.high[axis], p[axis]);
        }
    });
    for (std::size_t axis = 0; axis < 3; ++axis) {
        if (box.high[axis] < 0)
            return {{0, 0, 0}, {grid.size[0] - 1, grid.size[1] - 1, grid.size[2] - 1}};
        const auto margin = static_cast<std::int64_t>(std::ceil(5.0 / spacing[axis]));
        box.low[axis] = std::max<std::int64_t>(box.low[axis] - margin, 0);
        box.high[axis] = std::min(box.high[axis] + margin, grid.size[axis] - 1);
    }
    return box;
}

namespace {

/// As slices_through, without another choice where none belongs.
std::optional<Index3> widest_slices(const LabelMap& map, const std::function<bool(std::uint8_t)>& belongs) {
    std::array<bool, 256> chosen{};
    for (unsigned value = 0; value < chosen.size(); ++value)
        chosen[value] = belongs(static_cast<std::uint8_t>(value));
    std::array<std::vector<std::int64_t>, 3> area;
    std::array<double, 3> centroid{};
    std::int64_t count = 0;
    for (std::size_t axis = 0; axis < 3; ++axis)
        area[axis].resize(static_cast<std::size_t>(map.grid.size[axis]));
    for_voxels(map.grid, [&](const Index3& p, std::size_t index) {
        if (!chosen[map.labels[index]])
            return;
        ++count;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            ++area[axis][static_cast<std::size_t>(p[axis])];
            centroid[axis] += static_cast<double>(p[axis]);
        }
    });
    if (count == 0)
        return std::nullopt;
    Index3 slices{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const double middle = centroid[axis] / static_cast<double>(count);
        std::int64_t largest = 0;
        double nearest = std::numeric_limits<double>::infinity();
        for (std::size_t n = 0; n < area[axis].size(); ++n) {
            const double distance = std::abs(static_cast<double>(n) - middle);
            if (area[axis][n] > largest || (area[axis][n] == largest && distance < nearest)) {
                largest = area[axis][n];
                nearest = distance;
                slices[axis] = static_cast<std::int64_t>(n);
            }
        }
    }
    return slices;
}

} // namespace

Index3 slices_through(const LabelMap& map, const Box& box, const std::function<bool(std::uint8_t)>& belongs) {
    if (const auto slices = widest_slices(map, belongs))
        return *slices;
    if (const auto slices = widest_slices(map, [](std::uint8_t value) { return value != 0; }))
        return *slices;
    Index3 middle{};
    for (std::size_t axis = 0; axis < 3; ++axis)
        middle[axis] = (box.low[axis] + box.high[axis]) / 2;
    return middle;
}

} // namespace mfres::preview
