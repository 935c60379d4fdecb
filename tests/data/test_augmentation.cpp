// SPDX-License-Identifier: MIT
#include "data/augmentation.h"
#include "support/cached_cases.h"
#include "support/catch.h"

#include <algorithm>
#include <numbers>

using namespace mfres;

namespace {

using Index = std::array<std::int64_t, 3>;
using Place = std::array<double, 3>;

/// A crop with its memory.
struct Taken {
    Index extents;
    std::vector<float> images;
    std::vector<std::uint8_t> classes, brain;

    explicit Taken(const Index& size)
        : extents(size), images(static_cast<std::size_t>(4 * size[0] * size[1] * size[2]), 1e9F),
          classes(images.size() / 4, 99), brain(images.size() / 4, 99) {}

    Crop crop() { return {extents, images.data(), classes.data(), brain.data()}; }
    std::size_t index(const Index& v) const {
        return static_cast<std::size_t>((v[0] * extents[1] + v[1]) * extents[2] + v[2]);
    }
    float image(std::size_t m, const Index& v) const { return images[m * classes.size() + index(v)]; }
};

template <typename Visit>
void for_voxels(const Index& extents, const Visit& visit) {
    for (std::int64_t x = 0; x < extents[0]; ++x)
        for (std::int64_t y = 0; y < extents[1]; ++y)
            for (std::int64_t z = 0; z < extents[2]; ++z)
                visit(Index{x, y, z});
}

/// Where in the box a crop voxel looks, in double precision and straight from the definition: undo the mirroring, then
/// the zoom, then turn back about the axis.
Place looks_at(const Pose& pose, const Index& extents, const Index& voxel) {
    Place from_centre{};
    for (std::size_t a = 0; a < 3; ++a) {
        from_centre[a] = static_cast<double>(voxel[a]) - 0.5 * static_cast<double>(extents[a] - 1);
        from_centre[a] *= (pose.flip[a] ? -1.0 : 1.0) / pose.zoom;
    }
    Place turned = from_centre;
    const double cosine = std::cos(pose.radians);
    const double sine = std::sin(pose.radians);
    const auto [u, v] = pose.axis == 0   ? std::pair<std::size_t, std::size_t>{1, 2}
                        : pose.axis == 1 ? std::pair<std::size_t, std::size_t>{2, 0}
                                         : std::pair<std::size_t, std::size_t>{0, 1};
    turned[u] = cosine * from_centre[u] + sine * from_centre[v];
    turned[v] = cosine * from_centre[v] - sine * from_centre[u];
    for (std::size_t a = 0; a < 3; ++a)
        turned[a] += static_cast<double>(pose.begin[a]) + 0.5 * static_cast<double>(extents[a] - 1);
    return turned;
}

double trilinear(const CachedCase& source, std::size_t modality, const Place& p) {
    double sum = 0.0;
    for (int corner = 0; corner < 8; ++corner) {
        Index v{};
        double weight = 1.0;
        for (std::size_t a = 0; a < 3; ++a) {
            const double low = std::floor(p[a]);
            const bool high = ((corner >> a) & 1) != 0;
            v[a] = static_cast<std::int64_t>(low) + (high ? 1 : 0);
            weight *= high ? p[a] - low : 1.0 - (p[a] - low);
        }
        sum += weight * test::score(source, modality, v[0], v[1], v[2]);
    }
    return sum;
}

std::uint8_t label_at(const CachedCase& source, const std::vector<std::uint8_t>& labels, const Index& v) {
    for (std::size_t a = 0; a < 3; ++a)
        if (v[a] < 0 || v[a] >= source.size[a])
            return 0;
    return labels[test::at(source, v[0], v[1], v[2])];
}

/// Whether the nearest voxel is beyond doubt: not within rounding of half way between two.
bool unambiguous(const Place& p) {
    return std::all_of(p.begin(), p.end(), [](double x) { return std::abs(x - std::floor(x) - 0.5) > 1e-6; });
}

/// A case with one bright brain voxel, which is also the only tumour voxel, in a brain that fills its box.
CachedCase one_point(const Index& size, const Index& point) {
    CachedCase made;
    made.size = size;
    const auto voxels = static_cast<std::size_t>(made.voxels());
    made.classes.assign(voxels, 0);
    made.brain.assign(voxels, 1);
    for (auto& modality : made.modalities)
        modality.quanta = std::vector<std::uint8_t>(voxels, 0);
    const std::size_t index = test::at(made, point[0], point[1], point[2]);
    made.classes[index] = 1;
    for (auto& modality : made.modalities)
        std::get<0>(modality.quanta)[index] = 1;
    return made;
}

/// The only voxel of class 1.
Index tumour_place(const Taken& taken) {
    Index found{-1, -1, -1};
    int count = 0;
    for_voxels(taken.extents, [&](const Index& v) {
        if (taken.classes[taken.index(v)] == 1) {
            found = v;
            ++count;
        }
    });
    REQUIRE(count == 1);
    return found;
}

} // namespace

TEST_CASE("resampled crops are what the definition says, voxel by voxel") {
    const CachedCase source = test::ellipsoid_case({21, 26, 18}, 3);
    const Index extents = {16, 20, 14};
    for (int axis = 0; axis < 3; ++axis)
        for (const auto& [degrees, zoom, flips, begin] : {std::tuple{7.3, 1.0, 0, Index{2, 3, 1}},
                                                          {-31.0, 1.0, 5, Index{4, -6, 2}},
                                                          {0.0, 1.27, 2, Index{1, 1, 3}},
                                                          {90.0, 1.0, 7, Index{3, 2, 1}},
                                                          {12.0, 0.71, 3, Index{-4, 9, 0}}}) {
            Pose pose;
            pose.begin = begin;
            pose.axis = axis;
            pose.radians = degrees * std::numbers::pi / 180.0;
            pose.zoom = zoom;
            pose.flip = {(flips & 1) != 0, (flips & 2) != 0, (flips & 4) != 0};
            INFO("axis " << axis << ", " << degrees << " degrees, zoom " << zoom << ", flips " << flips);
            Taken taken(extents);
            resample_crop(source, pose, taken.crop());
            double worst = 0.0;
            int compared = 0;
            for_voxels(extents, [&](const Index& v) {
                const Place place = looks_at(pose, extents, v);
                if (!unambiguous(place))
                    return;
                ++compared;
                const Index nearest = {std::lround(place[0]), std::lround(place[1]), std::lround(place[2])};
                const std::uint8_t brain = label_at(source, source.brain, nearest);
                REQUIRE(taken.brain[taken.index(v)] == brain);
                REQUIRE(taken.classes[taken.index(v)] == label_at(source, source.classes, nearest));
                for (std::size_t m = 0; m < 4; ++m)
                    worst = std::max(
                        worst, std::abs(double(taken.image(m, v)) - (brain != 0 ? trilinear(source, m, place) : 0.0)));
            });
            CHECK(worst < 2e-5);
            CHECK(compared > 3000);
        }
}

TEST_CASE("an elastic deformation is part of the one resampling, within its bound, and does not fold") {
    const CachedCase source = test::ellipsoid_case({41, 46, 38}, 3);
    const Index extents = {36, 40, 44};
    Pose pose;
    pose.begin = {2, 3, -4};
    pose.axis = 1;
    pose.radians = 0.2;
    pose.flip = {true, false, true};
    for (const double amplitude : {5.3, 0.0}) {
        Warp warp(extents, amplitude, 11);
        Taken taken(extents);
        take_crop(source, pose, taken.crop(), &warp);
        std::vector<Place> moves;
        for_voxels(extents, [&](const Index& v) {
            const auto& row = warp.row(v[0], v[1]);
            Place move{};
            for (std::size_t a = 0; a < 3; ++a)
                move[a] = std::ldexp(double(row[a][static_cast<std::size_t>(v[2])]), -32);
            moves.push_back(move);
        });
        double worst = 0.0;
        double farthest = 0.0;
        for_voxels(extents, [&](const Index& v) {
            Place place = looks_at(pose, extents, v);
            for (std::size_t a = 0; a < 3; ++a) {
                place[a] += moves[taken.index(v)][a];
                farthest = std::max(farthest, std::abs(moves[taken.index(v)][a]));
            }
            if (!unambiguous(place))
                return;
            const Index nearest = {std::lround(place[0]), std::lround(place[1]), std::lround(place[2])};
            const std::uint8_t brain = label_at(source, source.brain, nearest);
            REQUIRE(taken.brain[taken.index(v)] == brain);
            REQUIRE(taken.classes[taken.index(v)] == label_at(source, source.classes, nearest));
            for (std::size_t m = 0; m < 4; ++m)
                worst = std::max(
                    worst, std::abs(double(taken.image(m, v)) - (brain != 0 ? trilinear(source, m, place) : 0.0)));
        });
        CHECK(worst < 4e-5);
        CHECK(farthest <= amplitude);
        CHECK(farthest >= 0.3 * amplitude);
        double sum = 0.0; // of squares of the derivatives, at most
        for_voxels({extents[0] - 1, extents[1] - 1, extents[2] - 1}, [&](const Index& v) {
            double squares = 0.0;
            for (std::size_t along = 0; along < 3; ++along) {
                Index next = v;
                ++next[along];
                for (std::size_t a = 0; a < 3; ++a)
                    squares += std::pow(moves[taken.index(next)][a] - moves[taken.index(v)][a], 2.0);
            }
            sum = std::max(sum, squares);
        });
        CHECK(sum < 1.0);
        if (amplitude == 0.0) {
            Taken plain(extents);
            take_crop(source, pose, plain.crop());
            CHECK(plain.images == taken.images);
            CHECK(plain.classes == taken.classes);
        }
    }
}

TEST_CASE("a positive angle turns x to y, y to z and z to x") {
    const Index extents = {21, 21, 21};
    const Index centre = {10, 10, 10};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        Index before = centre;
        Index after = centre;
        before[(axis + 1) % 3] += 6; // at 90 degrees from the first of the two turned axes to the second
        after[(axis + 2) % 3] += 6;
        const CachedCase source = one_point(extents, before);
        Pose pose;
        pose.axis = static_cast<int>(axis);
        pose.radians = std::numbers::pi / 2.0;
        Taken taken(extents);
        take_crop(source, pose, taken.crop());
        CHECK(tumour_place(taken) == after);
        CHECK(taken.image(0, after) == Approx(1.0).margin(1e-6));

        // A small angle moves the point by angle times distance in the same direction.
        pose.radians = 10.0 * std::numbers::pi / 180.0;
        take_crop(source, pose, taken.crop());
        Index moved = before;
        moved[(axis + 2) % 3] += 1; // 6 sin 10 degrees = 1.04, 6 cos 10 degrees = 5.91
        CHECK(tumour_place(taken) == moved);
    }
}

TEST_CASE("zoom enlarges about the crop's centre, and mirroring comes last") {
    const CachedCase source = one_point({21, 21, 21}, {14, 10, 7});
    Pose pose;
    pose.zoom = 2.0;
    Taken taken({21, 21, 21});
    take_crop(source, pose, taken.crop());
    CHECK(taken.image(0, {18, 10, 4}) == Approx(1.0));
    CHECK(taken.image(0, {17, 10, 4}) == Approx(0.5));
    pose.zoom = 1.0;
    pose.axis = 2;
    pose.radians = std::numbers::pi / 2.0; // (4, 0) goes to (0, 4), then to (0, -4)
    pose.flip = {false, true, false};
    take_crop(source, pose, taken.crop());
    CHECK(tumour_place(taken) == Index{10, 6, 7});
}

TEST_CASE("copying and resampling by nothing are the same bits, mirrored or not, inside the box or beyond it") {
    const CachedCase source = test::ellipsoid_case({17, 12, 15}, 4);
    for (const Index& extents : {Index{8, 8, 8}, {9, 7, 5}, {24, 20, 22}, {17, 12, 15}})
        for (const Index& begin : {Index{2, 1, 3}, {-3, -4, -5}, {6, 8, 9}, {40, 0, 0}, {0, 0, -30}})
            for (int flips = 0; flips < 8; ++flips) {
                Pose pose;
                pose.begin = begin;
                pose.flip = {(flips & 1) != 0, (flips & 2) != 0, (flips & 4) != 0};
                Taken copied(extents);
                Taken resampled(extents);
                take_crop(source, pose, copied.crop());
                resample_crop(source, pose, resampled.crop());
                REQUIRE(copied.images == resampled.images);
                REQUIRE(copied.classes == resampled.classes);
                REQUIRE(copied.brain == resampled.brain);
                for_voxels(extents, [&](const Index& v) {
                    Index from{};
                    for (std::size_t a = 0; a < 3; ++a)
                        from[a] = begin[a] + (pose.flip[a] ? extents[a] - 1 - v[a] : v[a]);
                    for (std::size_t m = 0; m < 4; ++m)
                        REQUIRE(copied.image(m, v) == test::score(source, m, from[0], from[1], from[2]));
                    REQUIRE(copied.classes[copied.index(v)] == label_at(source, source.classes, from));
                    REQUIRE(copied.brain[copied.index(v)] == label_at(source, source.brain, from));
                });
            }
}

TEST_CASE("boxes one voxel thin can be turned") {
    for (const Index& size : {Index{1, 9, 9}, {9, 1, 9}, {9, 9, 1}, {1, 1, 1}}) {
        CachedCase source = one_point(size, {size[0] / 2, size[1] / 2, size[2] / 2});
        Pose pose;
        pose.begin = {size[0] / 2 - 3, size[1] / 2 - 3, size[2] / 2 - 3};
        pose.radians = 0.1;
        pose.axis = 1;
        Taken taken({7, 7, 7});
        take_crop(source, pose, taken.crop());
        CHECK(taken.image(3, {3, 3, 3}) == Approx(1.0).margin(1e-6));
        CHECK(std::all_of(taken.images.begin(), taken.images.end(), [](float v) { return v >= 0.0F && v <= 1.0F; }));
    }
}

TEST_CASE("intensities change inside the brain only, and as asked") {
    const CachedCase source = test::ellipsoid_case({20, 20, 20}, 5);
    Taken before({20, 20, 20});
    take_crop(source, {}, before.crop());
    const std::size_t voxels = before.classes.size();
    const std::vector<float> original(before.images.begin(),
                                      before.images.begin() + static_cast<std::ptrdiff_t>(voxels));
    const auto changed = [&](const IntensityChange& change) {
        auto image = original;
        change_intensity(image, before.brain, change);
        for (std::size_t i = 0; i < voxels; ++i)
            if (before.brain[i] == 0)
                REQUIRE(image[i] == original[i]);
        return image;
    };
    const auto each_brain_voxel = [&](const auto& visit) {
        for (std::size_t i = 0; i < voxels; ++i)
            if (before.brain[i] != 0)
                visit(i);
    };
    CHECK(changed({}) == original);

    const auto scaled = changed({.scale = 1.25, .shift = -0.5});
    each_brain_voxel([&](std::size_t i) { REQUIRE(scaled[i] == Approx(1.25 * original[i] - 0.5).margin(1e-5)); });

    // Quanta 0 to 255 with 1/16 per step from -8: the brain of this size holds both ends.
    const auto bent = changed({.gamma = 2.0});
    each_brain_voxel([&](std::size_t i) {
        const double t = (double(original[i]) + 8.0) / (255.0 / 16.0);
        REQUIRE(bent[i] == Approx(-8.0 + t * t * 255.0 / 16.0).margin(1e-4));
    });

    const auto inverted = changed({.gamma = 2.0, .inverted = true});
    each_brain_voxel([&](std::size_t i) {
        const double t = (double(original[i]) + 8.0) / (255.0 / 16.0);
        REQUIRE(inverted[i] == Approx(-8.0 + (1.0 - (1.0 - t) * (1.0 - t)) * 255.0 / 16.0).margin(1e-4));
    });

    const auto noisy = changed({.noise = 0.3, .noise_seed = 17});
    double sum = 0.0;
    double squares = 0.0;
    double fourth = 0.0;
    double count = 0.0;
    each_brain_voxel([&](std::size_t i) {
        const double n = (double(noisy[i]) - double(original[i])) / 0.3;
        sum += n;
        squares += n * n;
        fourth += n * n * n * n;
        count += 1.0;
    });
    REQUIRE(count > 4000);
    CHECK(std::abs(sum / count) < 4.0 / std::sqrt(count));
    CHECK(std::abs(squares / count - 1.0) < 4.0 * std::sqrt(2.0 / count));
    CHECK(std::abs(fourth / count - 3.0) < 4.0 * std::sqrt(96.0 / count)); // a normal distribution's kurtosis
    CHECK(changed({.noise = 0.3, .noise_seed = 17}) == noisy);
    CHECK(changed({.noise = 0.3, .noise_seed = 18}) != noisy);

    // A crop without contrast has nothing to bend.
    std::vector<float> flat(voxels, 2.0F);
    change_intensity(flat, before.brain, {.gamma = 1.1});
    CHECK(flat == std::vector<float>(voxels, 2.0F));
}
