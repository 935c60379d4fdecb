// SPDX-License-Identifier: MIT
// Voxels of a caller's memory as a compact volume.
#include "imaging/compact_volume.h"

#include "core/try.h"
#include "imaging/border.h"
#include "imaging/slice_stack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

namespace mfres {

namespace {

constexpr std::int64_t least_extent = 2;
constexpr std::int64_t largest_extent = 1024;

Error invalid(std::string_view where, const std::string& problem) {
    return {ErrorCode::invalid_argument, text(where, " ", problem), std::string(where)};
}

Status check_view(const VolumeView& view, std::string_view where) {
    const auto& size = view.grid.size;
    if (view.voxels == nullptr)
        return invalid(where, "has no voxels");
    for (const std::int64_t extent : size)
        if (extent < least_extent || extent > largest_extent)
            return invalid(where, text("has a grid of ", size[0], "x", size[1], "x", size[2], " voxels; ", least_extent,
                                       " to ", largest_extent, " per axis are allowed"));
    for (const auto& row : view.grid.affine)
        if (std::any_of(row.begin(), row.end(), [](double value) { return !std::isfinite(value); }))
            return invalid(where, "has an affine with an entry that is NaN or infinite");
    if (std::isinf(view.slope) || !std::isfinite(view.inter))
        return invalid(where, text("has a scaling of ", view.slope, " and ", view.inter, ", which is not finite"));
    const auto zeros = std::count(view.strides.begin(), view.strides.end(), 0);
    if (zeros != 0 && zeros != 3)
        return invalid(where, text("has strides of ", view.strides[0], ", ", view.strides[1], " and ", view.strides[2],
                                   " scalars; give all three, or none for contiguous voxels"));
    return {};
}

/// What must not be there.
struct NotFinite {
    std::int64_t count = 0;
    std::int64_t nan = 0;
    std::array<std::int64_t, 3> first{};
};

/// Calls visit(row of stored values, j) for the rows along i of slice k.
template <typename T, typename Visit>
void for_rows(const VolumeView& view, std::int64_t k, const Visit& visit) {
    const auto& size = view.grid.size;
    std::array<std::int64_t, 3> strides = view.strides;
    if (strides == std::array<std::int64_t, 3>{})
        strides = {1, size[0], size[0] * size[1]};
    const auto* const bytes = static_cast<const std::byte*>(view.voxels);
    constexpr auto scalar = static_cast<std::int64_t>(sizeof(T));
    std::array<T, largest_extent> row;
    const std::span<const T> values(row.data(), static_cast<std::size_t>(size[0]));
    for (std::int64_t j = 0; j < size[1]; ++j) {
        // The caller's memory need not be aligned.
        const std::byte* const from = bytes + (j * strides[1] + k * strides[2]) * scalar;
        if (strides[0] == 1)
            std::memcpy(row.data(), from, values.size_bytes());
        else
            for (std::int64_t i = 0; i < size[0]; ++i)
                std::memcpy(&row[static_cast<std::size_t>(i)], from + i * strides[0] * scalar, sizeof(T));
        visit(values, j);
    }
}

/// Slope and intercept that are applied to stored values.
struct Scaling {
    double slope = 1.0;
    double inter = 0.0;
};

Scaling scaling_of(const VolumeView& view) {
    const bool scaled = view.slope != 0.0 && !std::isnan(view.slope);
    return scaled ? Scaling{view.slope, view.inter} : Scaling{};
}

/// Calls visit(a value of the view's type); nothing where the type is unknown.
template <typename Visit>
auto with_type(ScalarType type, const Visit& visit) -> std::optional<decltype(visit(0.0F))> {
    switch (type) {
    case ScalarType::uint8: return visit(std::uint8_t{});
    case ScalarType::int8: return visit(std::int8_t{});
    case ScalarType::uint16: return visit(std::uint16_t{});
    case ScalarType::int16: return visit(std::int16_t{});
    case ScalarType::uint32: return visit(std::uint32_t{});
    case ScalarType::int32: return visit(std::int32_t{});
    case ScalarType::uint64: return visit(std::uint64_t{});
    case ScalarType::int64: return visit(std::int64_t{});
    case ScalarType::float32: return visit(0.0F);
    case ScalarType::float64: return visit(0.0);
    }
    return std::nullopt;
}

template <typename T>
Result<CompactVolume> converted(const VolumeView& view, std::string_view where, std::int64_t most_bytes) {
    const Scaling scaling = scaling_of(view);
    constexpr bool kept =
        std::is_same_v<T, std::uint8_t> || std::is_same_v<T, std::int16_t> || std::is_same_v<T, std::uint16_t>;
    using Kept = std::conditional_t<kept, T, float>;
    const auto& size = view.grid.size;
    SliceStack<Kept> stack(view.grid, kept ? scaling.slope : 1.0, kept ? scaling.inter : 0.0,
                           static_cast<std::size_t>(view.grid.voxels()), most_bytes);
    PageVector<Kept> slice;
    NotFinite bad;
    std::array<float, largest_extent> intensities;
    for (std::int64_t k = 0; k < size[2]; ++k) {
        slice.clear();
        for_rows<T>(view, k, [&](std::span<const T> row, std::int64_t j) {
            bool finite = true;
            for (std::size_t i = 0; i < row.size(); ++i) {
                intensities[i] = border::intensity(row[i], scaling.slope, scaling.inter);
                finite &= std::isfinite(intensities[i]);
            }
            for (std::size_t i = 0; !finite && i < row.size(); ++i) {
                if (std::isfinite(intensities[i]))
                    continue;
                if (bad.count++ == 0)
                    bad.first = {static_cast<std::int64_t>(i), j, k};
                bad.nan += std::isnan(static_cast<double>(row[i]) * scaling.slope + scaling.inter) ? 1 : 0;
            }
            if constexpr (kept)
                slice.insert(slice.end(), row.begin(), row.end());
            else
                slice.insert(slice.end(), intensities.begin(), intensities.begin() + std::ssize(row));
        });
        stack.append(slice);
    }
    if (bad.count > 0)
        return Error{ErrorCode::voxel_not_finite,
                     text(where, " has NaN in ", bad.nan, " and infinite or too large values in ", bad.count - bad.nan,
                          " of ", view.grid.voxels(), " voxels, the first at (", bad.first[0], ", ", bad.first[1], ", ",
                          bad.first[2], ")"),
                     std::string(where)};
    return std::move(stack).finish();
}

} // namespace

Result<CompactVolume> compact_volume_of(const VolumeView& view, std::string_view where, std::int64_t most_bytes) {
    MFRES_CHECK(check_view(view, where));
    auto made = with_type(view.type, [&]<typename T>(T) { return converted<T>(view, where, most_bytes); });
    return made ? *std::move(made) : invalid(where, "has voxels of an unknown type");
}

void read_slice(const VolumeView& view, std::int64_t k, std::span<float> slice) {
    const Scaling scaling = scaling_of(view);
    with_type(view.type, [&]<typename T>(T) {
        for_rows<T>(view, k, [&](std::span<const T> row, std::int64_t j) {
            float* const to = slice.data() + view.grid.size[0] * j;
            for (std::size_t i = 0; i < row.size(); ++i)
                to[i] = border::intensity(row[i], scaling.slope, scaling.inter);
        });
        return true;
    });
}

} // namespace mfres
