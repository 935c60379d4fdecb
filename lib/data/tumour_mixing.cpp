// SPDX-License-Identifier: MIT
#include "data/tumour_mixing.h"

#include "core/random.h"

#include <mfres/volume.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace mfres {

namespace {

using Triple = std::array<std::int64_t, 3>;

constexpr int most_tries = 32;
constexpr std::size_t most_tested = 4096; ///< tumour voxels that a place is tested with
constexpr double least_ring = 64.0;       ///< voxels, for statistics

/// The square of the distance at which nothing of the donor is left.
constexpr int beyond_margin = static_cast<int>((tumour_margin + 1) * (tumour_margin + 1));
static_assert(beyond_margin <= std::numeric_limits<std::uint8_t>::max());

/// A box of the donor as the crop will show it: its tumour and what is around.
struct Piece {
    Triple extents{};
    std::vector<float> images; ///< [4][x][y][z]
    std::vector<std::uint8_t> classes, brain;
    std::vector<std::uint8_t> squared_distance; ///< to the tumour, at most beyond_margin

    std::int64_t voxels() const { return extents[0] * extents[1] * extents[2]; }
};

/// Calls visit(index, place) for all voxels of a box.
template <typename Visit>
void for_voxels(const Triple& extents, const Visit& visit) {
    std::size_t index = 0;
    Triple v{};
    for (v[0] = 0; v[0] < extents[0]; ++v[0])
        for (v[1] = 0; v[1] < extents[1]; ++v[1])
            for (v[2] = 0; v[2] < extents[2]; ++v[2], ++index)
                visit(index, v);
}

/// The lowest and the highest tumour voxel along each axis.
std::pair<Triple, Triple> bounds_of_tumour(const CachedCase& donor) {
    Triple low = donor.size;
    Triple high{};
    for_voxels(donor.size, [&](std::size_t index, const Triple& v) {
        if (donor.classes[index] == 0)
            return;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            low[axis] = std::min(low[axis], v[axis]);
            high[axis] = std::max(high[axis], v[axis]);
        }
    });
    return {low, high};
}

/// Exact below beyond_margin, for which no axis has more than the margin: squares added one axis after the other, and
/// of all sums the least.
void measure_distances(Piece& piece) {
    piece.squared_distance.resize(piece.classes.size());
    for (std::size_t i = 0; i < piece.classes.size(); ++i)
        piece.squared_distance[i] = piece.classes[i] != 0 ? std::uint8_t{0} : std::uint8_t{beyond_margin};
    const Triple strides = {piece.extents[1] * piece.extents[2], piece.extents[2], 1};
    std::vector<std::uint8_t> before;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        before = piece.squared_distance;
        for_voxels(piece.extents, [&](std::size_t index, const Triple& v) {
            int least = before[index];
            for (std::int64_t t = -tumour_margin; t <= tumour_margin; ++t)
                if (v[axis] + t >= 0 && v[axis] + t < piece.extents[axis]) {
                    const auto from = static_cast<std::size_t>(static_cast<std::int64_t>(index) + t * strides[axis]);
                    least = std::min(least, before[from] + static_cast<int>(t * t));
                }
            piece.squared_distance[index] = static_cast<std::uint8_t>(least);
        });
    }
}

Piece piece_of(const CachedCase& donor, Pose pose) {
    const auto [low, high] = bounds_of_tumour(donor);
    std::array<double, 3> edges{};
    for (std::size_t axis = 0; axis < 3; ++axis)
        edges[axis] = static_cast<double>(high[axis] - low[axis] + 1) * pose.zoom;
    const auto a = static_cast<std::size_t>(pose.axis);
    const double cosine = std::abs(std::cos(pose.radians));
    const double sine = std::abs(std::sin(pose.radians));
    std::array<double, 3> turned = edges;
    turned[(a + 1) % 3] = cosine * edges[(a + 1) % 3] + sine * edges[(a + 2) % 3];
    turned[(a + 2) % 3] = cosine * edges[(a + 2) % 3] + sine * edges[(a + 1) % 3];
    Piece piece;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        piece.extents[axis] = static_cast<std::int64_t>(std::ceil(turned[axis])) + 2 * (tumour_margin + 1);
        pose.begin[axis] = (low[axis] + high[axis] + 1 - piece.extents[axis]) / 2;
    }
    const auto voxels = static_cast<std::size_t>(piece.voxels());
    piece.images.resize(4 * voxels);
    piece.classes.resize(voxels);
    piece.brain.resize(voxels);
    take_crop(donor, pose, {piece.extents, piece.images.data(), piece.classes.data(), piece.brain.data()});
    measure_distances(piece);
    return piece;
}

/// The index of a place in the crop, or none.
std::optional<std::size_t> index_in(const Crop& crop, const Triple& begin, const Triple& v) {
    std::int64_t index = 0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t place = begin[axis] + v[axis];
        if (place < 0 || place >= crop.extents[axis])
            return std::nullopt;
        index = index * crop.extents[axis] + place;
    }
    return static_cast<std::size_t>(index);
}

/// As ventricles are: no tumour grows in them.
bool is_fluid(const Crop& crop, std::size_t index) {
    const auto voxels = static_cast<std::size_t>(crop.extents[0] * crop.extents[1] * crop.extents[2]);
    const auto score = [&](Modality modality) {
        return crop.images[static_cast<std::size_t>(modality) * voxels + index];
    };
    return score(Modality::t2) > 1.0F && score(Modality::flair) < -1.0F;
}

bool is_plausible(const Crop& crop, const std::vector<Triple>& tumour, const Triple& begin) {
    std::size_t shown = 0, on_brain = 0, on_tumour = 0, on_fluid = 0;
    for (const Triple& v : tumour)
        if (const auto index = index_in(crop, begin, v)) {
            ++shown;
            on_brain += crop.brain[*index] != 0 ? 1 : 0;
            on_tumour += crop.classes[*index] != 0 ? 1 : 0;
            on_fluid += is_fluid(crop, *index) ? 1 : 0;
        }
    return shown > 0 && 2 * shown >= tumour.size() && 10 * on_brain >= 9 * shown && 10 * on_tumour <= shown &&
           5 * on_fluid <= shown;
}

/// Where in the crop the piece begins.
std::optional<Triple> find_place(const Piece& piece, const Crop& crop, std::uint64_t seed) {
    std::vector<Triple> tumour;
    for_voxels(piece.extents, [&](std::size_t index, const Triple& v) {
        if (piece.classes[index] != 0)
            tumour.push_back(v);
    });
    const std::size_t step = (tumour.size() + most_tested - 1) / most_tested;
    for (std::size_t i = 0; step > 1 && i * step < tumour.size(); ++i)
        tumour[i] = tumour[i * step];
    if (step > 1)
        tumour.resize((tumour.size() + step - 1) / step);
    Random random(seed);
    for (int tries = 0; tries < most_tries; ++tries) {
        Triple begin{};
        Triple centre{};
        for (std::size_t axis = 0; axis < 3; ++axis) {
            centre[axis] = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(crop.extents[axis])));
            begin[axis] = centre[axis] - piece.extents[axis] / 2;
        }
        if (crop.brain[*index_in(crop, centre, {})] != 0 && is_plausible(crop, tumour, begin))
            return begin;
    }
    return std::nullopt;
}

/// Calls visit(in the piece, in the crop) for voxels up to the margin from the tumour that are brain in both.
template <typename Visit>
void for_common_brain(const Piece& piece, const Crop& crop, const Triple& begin, const Visit& visit) {
    for_voxels(piece.extents, [&](std::size_t from, const Triple& v) {
        if (piece.brain[from] == 0 || piece.squared_distance[from] >= beyond_margin)
            return;
        const auto to = index_in(crop, begin, v);
        if (to && crop.brain[*to] != 0)
            visit(from, *to);
    });
}

/// z' * factor + offset, a modality.
struct Match {
    double factor = 1.0;
    double offset = 0.0;
};

struct Sums {
    double count = 0.0, sum = 0.0, squares = 0.0;

    void add(double value) {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    double mean() const { return sum / count; }
    double deviation() const { return std::sqrt(std::max(0.0, squares / count - mean() * mean())); }
};

std::array<Match, 4> match_margins(const Piece& piece, const Crop& crop, const Triple& begin) {
    const auto piece_voxels = static_cast<std::size_t>(piece.voxels());
    const auto crop_voxels = static_cast<std::size_t>(crop.extents[0] * crop.extents[1] * crop.extents[2]);
    std::array<Sums, 4> donor;
    std::array<Sums, 4> crops;
    for_common_brain(piece, crop, begin, [&](std::size_t from, std::size_t to) {
        if (piece.classes[from] != 0 || crop.classes[to] != 0)
            return;
        for (std::size_t m = 0; m < 4; ++m) {
            donor[m].add(piece.images[m * piece_voxels + from]);
            crops[m].add(crop.images[m * crop_voxels + to]);
        }
    });
    std::array<Match, 4> matches;
    for (std::size_t m = 0; m < 4 && donor[m].count >= least_ring; ++m) {
        if (donor[m].deviation() > 0.0)
            matches[m].factor = std::clamp(crops[m].deviation() / donor[m].deviation(), 0.5, 2.0);
        matches[m].offset = crops[m].mean() - donor[m].mean() * matches[m].factor;
    }
    return matches;
}

} // namespace

bool mix_tumour(const CachedCase& donor, const TumourMix& mix, const Crop& crop) {
    const Piece piece = piece_of(donor, mix.pose);
    const auto begin = find_place(piece, crop, mix.seed);
    if (!begin)
        return false;
    const std::array<Match, 4> matches = match_margins(piece, crop, *begin);
    const auto piece_voxels = static_cast<std::size_t>(piece.voxels());
    const auto crop_voxels = static_cast<std::size_t>(crop.extents[0] * crop.extents[1] * crop.extents[2]);
    for_common_brain(piece, crop, *begin, [&](std::size_t from, std::size_t to) {
        if (piece.classes[from] == 0 && crop.classes[to] != 0)
            return;
        const float distance = std::sqrt(static_cast<float>(piece.squared_distance[from]));
        const float share = 1.0F - distance / static_cast<float>(tumour_margin + 1);
        for (std::size_t m = 0; m < 4; ++m) {
            float& value = crop.images[m * crop_voxels + to];
            const float placed = piece.images[m * piece_voxels + from] * static_cast<float>(matches[m].factor) +
                                 static_cast<float>(matches[m].offset);
            value = (1.0F - share) * value + share * placed;
        }
        if (piece.classes[from] != 0)
            crop.classes[to] = piece.classes[from];
    });
    return true;
}

} // namespace mfres
