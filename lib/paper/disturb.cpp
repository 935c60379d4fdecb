// SPDX-License-Identifier: MIT
#include "paper/disturb.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

namespace mfres {

namespace {

constexpr std::array<std::int64_t, 3> shift_voxels{7, 5, 3};
constexpr std::int64_t loose_voxels = 20;
constexpr double largest_factor = 3.0;
constexpr double largest_offset = 2.0; // of the brain's standard deviation
constexpr double contrast_gamma = 1.25;
constexpr double bias_strength = 0.2;
constexpr double noise_share = 0.1;
constexpr double slice_mm = 3.0;

/// The index in the original of voxel n of a window along an axis.
std::int64_t source_index(const Window& window, std::size_t axis, std::int64_t n) {
    return window.mirrored[axis] ? window.begin[axis] + window.size[axis] - 1 - n : window.begin[axis] + n;
}

/// Calls work(index in the window, index in the original) for every voxel that is in both.
template <typename Work>
void for_common(const Window& window, const std::array<std::int64_t, 3>& original, const Work& work) {
    const auto inside = [&](std::size_t axis, std::int64_t index) { return index >= 0 && index < original[axis]; };
    for (std::int64_t k = 0; k < window.size[2]; ++k)
        for (std::int64_t j = 0; j < window.size[1]; ++j) {
            const std::int64_t from_j = source_index(window, 1, j);
            const std::int64_t from_k = source_index(window, 2, k);
            if (!inside(1, from_j) || !inside(2, from_k))
                continue;
            for (std::int64_t i = 0; i < window.size[0]; ++i)
                if (const std::int64_t from_i = source_index(window, 0, i); inside(0, from_i))
                    work(static_cast<std::size_t>(i + window.size[0] * (j + window.size[1] * k)),
                         static_cast<std::size_t>(from_i + original[0] * (from_j + original[1] * from_k)));
        }
}

Grid grid_of(const Window& window, const Grid& original) {
    Grid grid{window.size, original.affine};
    for (auto& row : grid.affine) // the world position of its voxel (0, 0, 0)
        row[3] = row[0] * static_cast<double>(window.begin[0]) + row[1] * static_cast<double>(window.begin[1]) +
                 row[2] * static_cast<double>(window.begin[2]) + row[3];
    return grid;
}

/// Minimum, maximum, mean and standard deviation of the voxels that are not background.
struct Spread {
    double least = std::numeric_limits<double>::infinity();
    double greatest = -std::numeric_limits<double>::infinity();
    double mean = 0.0;
    double deviation = 0.0;
};

Spread spread_of(const Volume& volume, float background) {
    Spread spread;
    double sum = 0.0;
    double squares = 0.0;
    std::int64_t count = 0;
    for (const float voxel : volume.voxels)
        if (voxel != background) {
            spread.least = std::min<double>(spread.least, voxel);
            spread.greatest = std::max<double>(spread.greatest, voxel);
            sum += voxel;
            squares += static_cast<double>(voxel) * voxel;
            ++count;
        }
    if (count > 0) {
        spread.mean = sum / static_cast<double>(count);
        spread.deviation = std::sqrt(std::max(0.0, squares / static_cast<double>(count) - spread.mean * spread.mean));
    }
    return spread;
}

/// Replaces every voxel that is not background by change(value, i, j, k), which never becomes equal to the background.
template <typename Change>
void change_each(Volume& volume, float background, const Change& change) {
    std::size_t index = 0;
    for (std::int64_t k = 0; k < volume.grid.size[2]; ++k)
        for (std::int64_t j = 0; j < volume.grid.size[1]; ++j)
            for (std::int64_t i = 0; i < volume.grid.size[0]; ++i, ++index) {
                float& voxel = volume.voxels[index];
                if (voxel == background)
                    continue;
                voxel = static_cast<float>(change(static_cast<double>(voxel), i, j, k));
                // A value within a few rounding errors of the background would be read as background.
                const float apart = std::max(std::abs(background), 1.0F) * 1e-4F;
                if (std::abs(voxel - background) < apart)
                    voxel = background + apart;
            }
}

void add_bias(Volume& volume, float background, Random stream) {
    // f = sum of c_m m over the monomials m of degree 1 and 2 in coordinates from -1 to 1, scaled to |f| <= strength.
    std::array<double, 9> weight{};
    double bound = 0.0;
    for (double& c : weight) {
        c = stream.uniform(-1.0, 1.0);
        bound += std::abs(c);
    }
    const auto place = [&](std::size_t axis, std::int64_t index) {
        return 2.0 * static_cast<double>(index) /
                   static_cast<double>(std::max<std::int64_t>(1, volume.grid.size[axis] - 1)) -
               1.0;
    };
    change_each(volume, background, [&](double value, std::int64_t i, std::int64_t j, std::int64_t k) {
        const double x = place(0, i);
        const double y = place(1, j);
        const double z = place(2, k);
        const std::array<double, 9> monomial{x, y, z, x * x, y * y, z * z, x * y, y * z, z * x};
        double f = 0.0;
        for (std::size_t m = 0; m < monomial.size(); ++m)
            f += weight[m] * monomial[m];
        return background + (value - background) * std::exp(bias_strength * f / bound);
    });
}

/// One column of voxels along the third axis as slices of `thickness` voxels show it. Slice s is the mean of the voxels
/// s * thickness to (s + 1) * thickness - 1 that are not background. Between the middles of two slices, values are
/// interpolated linearly; where one of them is all background, or beyond the last, the other counts alone.
void thicken(std::span<double> column, double background, std::int64_t thickness, std::vector<double>& slices) {
    const auto length = static_cast<std::int64_t>(column.size());
    slices.clear();
    for (std::int64_t begin = 0; begin < length; begin += thickness) {
        double sum = 0.0;
        int count = 0;
        for (std::int64_t k = begin; k < std::min(begin + thickness, length); ++k)
            if (const double value = column[static_cast<std::size_t>(k)]; value != background) {
                sum += value;
                ++count;
            }
        slices.push_back(count > 0 ? sum / count : background);
    }
    const auto slice = [&](std::int64_t s) {
        return s < 0 || s >= static_cast<std::int64_t>(slices.size()) ? background
                                                                      : slices[static_cast<std::size_t>(s)];
    };
    for (std::int64_t k = 0; k < length; ++k) {
        double& value = column[static_cast<std::size_t>(k)];
        if (value == background)
            continue;
        const double place =
            (static_cast<double>(k) + 0.5) / static_cast<double>(thickness) - 0.5; // 0 = slice 0's middle
        const auto below = static_cast<std::int64_t>(std::floor(place));
        const double share = place - static_cast<double>(below);
        const double a = slice(below);
        const double b = slice(below + 1);
        value = a == background ? b : b == background ? a : (1.0 - share) * a + share * b;
    }
}

void thicken_slices(Volume& volume, float background) {
    const auto& affine = volume.grid.affine;
    const double spacing = std::hypot(affine[0][2], affine[1][2], affine[2][2]);
    const std::int64_t thickness = std::max<std::int64_t>(1, std::llround(slice_mm / std::max(spacing, 1e-3)));
    const std::int64_t plane = volume.grid.size[0] * volume.grid.size[1];
    const std::int64_t length = volume.grid.size[2];
    std::vector<double> thick(static_cast<std::size_t>(volume.grid.voxels()));
    std::vector<double> column(static_cast<std::size_t>(length));
    std::vector<double> slices;
    for (std::int64_t at = 0; at < plane; ++at) {
        for (std::int64_t k = 0; k < length; ++k)
            column[static_cast<std::size_t>(k)] = volume.voxels[static_cast<std::size_t>(at + plane * k)];
        thicken(column, background, thickness, slices);
        for (std::int64_t k = 0; k < length; ++k)
            thick[static_cast<std::size_t>(at + plane * k)] = column[static_cast<std::size_t>(k)];
    }
    const double* const next = thick.data();
    change_each(volume, background, [&](double, std::int64_t i, std::int64_t j, std::int64_t k) {
        return next[i + volume.grid.size[0] * j + plane * k];
    });
}

} // namespace

std::string_view name(Disturbance disturbance) noexcept {
    switch (disturbance) {
    case Disturbance::none: return "none";
    case Disturbance::shift: return "shift";
    case Disturbance::tight_crop: return "tight-crop";
    case Disturbance::loose_crop: return "loose-crop";
    case Disturbance::mirror: return "mirror";
    case Disturbance::scale: return "scale";
    case Disturbance::contrast: return "contrast";
    case Disturbance::bias_field: return "bias-field";
    case Disturbance::noise: return "noise";
    case Disturbance::thick_slices: return "thick-slices";
    }
    return "";
}

Volume seen_through(const Volume& volume, const Window& window, float outside) {
    Volume seen{grid_of(window, volume.grid), {}};
    seen.voxels.assign(static_cast<std::size_t>(seen.grid.voxels()), outside);
    for_common(window, volume.grid.size,
               [&](std::size_t to, std::size_t from) { seen.voxels[to] = volume.voxels[from]; });
    return seen;
}

LabelMap put_back(const LabelMap& labels, const Window& window, const Grid& original) {
    LabelMap back{original, std::vector<std::uint8_t>(static_cast<std::size_t>(original.voxels()))};
    for_common(window, original.size, [&](std::size_t from, std::size_t to) { back.labels[to] = labels.labels[from]; });
    return back;
}

Window window_of(Disturbance disturbance, const std::array<std::int64_t, 3>& size,
                 const std::array<std::int64_t, 3>& brain_begin, const std::array<std::int64_t, 3>& brain_end) {
    Window window{{}, size, {}};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        if (disturbance == Disturbance::shift) {
            // Towards the wider margin, limited by it.
            const std::int64_t before = brain_begin[axis];
            const std::int64_t behind = size[axis] - brain_end[axis];
            window.begin[axis] =
                before >= behind ? std::min(shift_voxels[axis], before) : -std::min(shift_voxels[axis], behind);
        }
        if (disturbance == Disturbance::tight_crop) {
            window.begin[axis] = brain_begin[axis];
            window.size[axis] = brain_end[axis] - brain_begin[axis];
        }
        if (disturbance == Disturbance::loose_crop) {
            window.begin[axis] = -loose_voxels;
            window.size[axis] = size[axis] + 2 * loose_voxels;
        }
    }
    window.mirrored[0] = disturbance == Disturbance::mirror;
    return window;
}

void change_voxels(Disturbance disturbance, Volume& volume, float background, Random stream) {
    const Spread spread = spread_of(volume, background);
    switch (disturbance) {
    case Disturbance::none:
    case Disturbance::shift:
    case Disturbance::tight_crop:
    case Disturbance::loose_crop:
    case Disturbance::mirror: return;
    case Disturbance::scale: {
        const double factor = std::pow(largest_factor, stream.uniform(-1.0, 1.0));
        const double offset = spread.deviation * stream.uniform(0.0, largest_offset);
        change_each(volume, background, [&](double value, auto...) { return factor * value + offset; });
        return;
    }
    case Disturbance::contrast: {
        const double gamma = stream.below(2) == 0 ? contrast_gamma : 1.0 / contrast_gamma;
        const double range = spread.greatest - spread.least;
        change_each(volume, background, [&](double value, auto...) {
            return range > 0.0 ? spread.least + range * std::pow((value - spread.least) / range, gamma) : value;
        });
        return;
    }
    case Disturbance::bias_field: add_bias(volume, background, stream); return;
    case Disturbance::noise:
        change_each(volume, background,
                    [&](double value, auto...) { return value + noise_share * spread.deviation * stream.normal(); });
        return;
    case Disturbance::thick_slices: thicken_slices(volume, background); return;
    }
}

} // namespace mfres
