// SPDX-License-Identifier: MIT
#include "data/sampling.h"
#include "data/tumour_mixing.h"
#include "support/cached_cases.h"
#include "support/catch.h"

#include <algorithm>
#include <numbers>
#include <optional>

using namespace mfres;

namespace {

using Triple = std::array<std::int64_t, 3>;

/// A case whose tumour is gone.
CachedCase healthy_case(const Triple& size, std::uint64_t seed) {
    CachedCase made = test::ellipsoid_case(size, seed);
    std::fill(made.classes.begin(), made.classes.end(), std::uint8_t{0});
    return made;
}

/// A crop with its memory.
struct Taken {
    Triple extents;
    std::vector<float> images;
    std::vector<std::uint8_t> classes, brain;

    Taken(const CachedCase& source, const Triple& size)
        : extents(size), images(static_cast<std::size_t>(4 * size[0] * size[1] * size[2])), classes(images.size() / 4),
          brain(images.size() / 4) {
        take_crop(source, {}, crop());
    }
    Crop crop() { return {extents, images.data(), classes.data(), brain.data()}; }
    std::size_t index(const Triple& v) const {
        return static_cast<std::size_t>((v[0] * extents[1] + v[1]) * extents[2] + v[2]);
    }
};

template <typename Visit>
void for_voxels(const Triple& extents, const Visit& visit) {
    for (std::int64_t x = 0; x < extents[0]; ++x)
        for (std::int64_t y = 0; y < extents[1]; ++y)
            for (std::int64_t z = 0; z < extents[2]; ++z)
                visit(Triple{x, y, z});
}

std::optional<std::size_t> in_box(const CachedCase& source, const Triple& v) {
    for (std::size_t axis = 0; axis < 3; ++axis)
        if (v[axis] < 0 || v[axis] >= source.size[axis])
            return std::nullopt;
    return test::at(source, v[0], v[1], v[2]);
}

/// What the donor was moved by, from the only shift that explains all classes; none if they do not tell.
std::optional<Triple> shift_of(const CachedCase& donor, const Taken& before, const Taken& after) {
    std::vector<Triple> placed, tumour;
    for_voxels(after.extents, [&](const Triple& v) {
        if (after.classes[after.index(v)] != before.classes[before.index(v)])
            placed.push_back(v);
    });
    for_voxels(donor.size, [&](const Triple& v) {
        if (donor.classes[test::at(donor, v[0], v[1], v[2])] != 0)
            tumour.push_back(v);
    });
    for (const Triple& from : tumour) {
        const Triple shift = {placed[0][0] - from[0], placed[0][1] - from[1], placed[0][2] - from[2]};
        const bool explains = std::all_of(placed.begin(), placed.end(), [&](const Triple& v) {
            const auto index = in_box(donor, {v[0] - shift[0], v[1] - shift[1], v[2] - shift[2]});
            return index && donor.classes[*index] == after.classes[after.index(v)];
        });
        if (explains)
            return shift;
    }
    return std::nullopt;
}

/// The distance of a place of the donor from its tumour.
double distance_to_tumour(const std::vector<Triple>& tumour, const Triple& v) {
    double least = 1e9;
    for (const Triple& t : tumour)
        least = std::min(least, double((t[0] - v[0]) * (t[0] - v[0]) + (t[1] - v[1]) * (t[1] - v[1]) +
                                       (t[2] - v[2]) * (t[2] - v[2])));
    return std::sqrt(least);
}

struct Sums {
    double count = 0.0, sum = 0.0, squares = 0.0;

    double mean() const { return sum / count; }
    double deviation() const { return std::sqrt(squares / count - mean() * mean()); }
    void add(double value) {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
};

} // namespace

TEST_CASE("a placed tumour is the donor's, fades into matched surroundings, and nothing else changes") {
    const CachedCase donor = test::ellipsoid_case({24, 26, 22}, 8);
    CachedCase healthy = healthy_case({40, 38, 44}, 2);
    for (auto& modality : healthy.modalities)
        modality.offset += 1.0F; // so that there is something to match
    healthy.modalities[1].scale *= 0.75F;
    std::vector<Triple> tumour;
    for_voxels(donor.size, [&](const Triple& v) {
        if (donor.classes[test::at(donor, v[0], v[1], v[2])] != 0)
            tumour.push_back(v);
    });
    const Taken before(healthy, healthy.size);
    int whole = 0;
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
        Taken after = before;
        REQUIRE(mix_tumour(donor, {.seed = seed}, after.crop()));
        CHECK(after.brain == before.brain);
        const auto shift = shift_of(donor, before, after);
        REQUIRE(shift);
        std::array<Sums, 4> margin, around;
        std::vector<double> share(after.classes.size(), 0.0);
        std::vector<std::size_t> source(after.classes.size(), 0);
        bool cut = false;
        for (const Triple& t : tumour) {
            const Triple v = {t[0] + (*shift)[0], t[1] + (*shift)[1], t[2] + (*shift)[2]};
            const auto index = in_box(healthy, v);
            cut = cut || !index || healthy.brain[*index] == 0;
        }
        for_voxels(after.extents, [&](const Triple& v) {
            const std::size_t i = after.index(v);
            const Triple from = {v[0] - (*shift)[0], v[1] - (*shift)[1], v[2] - (*shift)[2]};
            const auto index = in_box(donor, from);
            if (!index || donor.brain[*index] == 0 || healthy.brain[i] == 0)
                return;
            const double distance = distance_to_tumour(tumour, from);
            if (distance >= 6.0)
                return;
            share[i] = 1.0 - distance / 6.0;
            source[i] = *index;
            REQUIRE(after.classes[i] == donor.classes[*index]);
            for (std::size_t m = 0; m < 4 && distance > 0.0; ++m) {
                margin[m].add(test::score(donor, m, from[0], from[1], from[2]));
                around[m].add(before.images[m * share.size() + i]);
            }
        });
        REQUIRE(margin[0].count >= 64.0);
        for (std::size_t i = 0; i < share.size(); ++i)
            for (std::size_t m = 0; m < 4; ++m) {
                const float was = before.images[m * share.size() + i];
                const float is = after.images[m * share.size() + i];
                if (share[i] == 0.0) {
                    REQUIRE(is == was);
                    REQUIRE(after.classes[i] == 0);
                    continue;
                }
                const double factor = around[m].deviation() / margin[m].deviation();
                REQUIRE(factor > 0.5);
                REQUIRE(factor < 2.0);
                const auto& modality = donor.modalities[m];
                const double quantum =
                    std::visit([&](const auto& quanta) { return double(quanta[source[i]]); }, modality.quanta);
                const double score = quantum * double(modality.scale) + double(modality.offset);
                const double matched = (score - margin[m].mean()) * factor + around[m].mean();
                REQUIRE(double(is) == Approx((1.0 - share[i]) * double(was) + share[i] * matched).margin(1e-4));
            }
        if (cut)
            continue;
        ++whole;
        for (std::uint8_t label = 1; label < 4; ++label)
            CHECK(std::count(after.classes.begin(), after.classes.end(), label) ==
                  std::count(donor.classes.begin(), donor.classes.end(), label));
    }
    CHECK(whole >= 1);
}

TEST_CASE("tumours are placed on brain, beside the one that is there, turned and mirrored") {
    const CachedCase donor = test::ellipsoid_case({24, 26, 22}, 8);
    const CachedCase target = test::ellipsoid_case({48, 50, 46}, 2);
    const auto tumour_of = [](const std::vector<std::uint8_t>& classes) {
        return std::count_if(classes.begin(), classes.end(), [](auto c) { return c != 0; });
    };
    const Taken before(target, target.size);
    const auto own = tumour_of(before.classes);
    const auto placed = tumour_of(donor.classes);
    int found = 0;
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
        TumourMix mix{.seed = seed};
        mix.pose.axis = static_cast<int>(seed % 3);
        mix.pose.radians = 0.25;
        mix.pose.flip = {seed % 2 == 0, false, seed % 5 == 0};
        Taken after = before;
        if (!mix_tumour(donor, mix, after.crop())) {
            CHECK(after.images == before.images);
            CHECK(after.classes == before.classes);
            continue;
        }
        ++found;
        // Turned, a tumour keeps its size up to what rounding at its surface makes; cuts and overlaps are bounded.
        CHECK(static_cast<double>(tumour_of(after.classes)) <= static_cast<double>(own) + 1.15 * double(placed));
        CHECK(static_cast<double>(tumour_of(after.classes)) >= static_cast<double>(own) + 0.3 * double(placed));
        for (std::size_t i = 0; i < after.classes.size(); ++i) {
            if (after.brain[i] == 0)
                REQUIRE(after.classes[i] == 0);
            if (before.classes[i] != 0)
                REQUIRE(after.classes[i] != 0);
        }
    }
    CHECK(found >= 6);
    // Where all brain is tumour already, or there is too little of it, nothing is placed.
    Taken full = before;
    std::fill(full.classes.begin(), full.classes.end(), std::uint8_t{2});
    CHECK_FALSE(mix_tumour(donor, {}, full.crop()));
    const CachedCase small = healthy_case({6, 6, 6}, 3);
    Taken little(small, {30, 30, 30});
    const auto untouched = little.images;
    CHECK_FALSE(mix_tumour(donor, {}, little.crop()));
    CHECK(little.images == untouched);
}

TEST_CASE("tumour in the crop that only the margin covers stays as it is") {
    const CachedCase donor = test::ellipsoid_case({24, 26, 22}, 8);
    CachedCase target = healthy_case({40, 40, 40}, 2);
    for_voxels(target.size, [&](const Triple& v) { // a lattice that every margin meets and that covers little
        const std::size_t i = test::at(target, v[0], v[1], v[2]);
        if (v[0] % 3 == 0 && v[1] % 3 == 0 && v[2] % 3 == 0 && target.brain[i] != 0)
            target.classes[i] = 2;
    });
    const Taken before(target, target.size);
    Taken after = before;
    REQUIRE(mix_tumour(donor, {.seed = 1}, after.crop()));
    CHECK(after.classes != before.classes);
    const std::size_t voxels = after.classes.size();
    std::size_t kept = 0, covered = 0;
    for (std::size_t i = 0; i < voxels; ++i) {
        if (before.classes[i] == 0)
            continue;
        REQUIRE(after.classes[i] != 0);
        (after.images[i] == before.images[i] ? kept : covered) += 1;
    }
    CHECK(covered > 5);
    CHECK(kept > 200);
}

TEST_CASE("tumours are not placed into fluid") {
    const CachedCase donor = test::ellipsoid_case({24, 26, 22}, 8);
    CachedCase target = healthy_case({44, 40, 40}, 2);
    const auto is_fluid = [](const Triple& v) { return v[0] >= 20; };
    for (const std::size_t m : {2U, 3U}) { // T2 and FLAIR
        std::vector<std::uint8_t> quanta(target.brain.size(), 0);
        for_voxels(target.size, [&](const Triple& v) {
            const std::size_t i = test::at(target, v[0], v[1], v[2]);
            quanta[i] = static_cast<std::uint8_t>(target.brain[i] == 0 ? 0 : is_fluid(v) ? (m == 2 ? 7 : 1) : 4);
        });
        target.modalities[m] = {std::move(quanta), 0.5F, -2.0F}; // 1.5 and -1.5, or 0
    }
    const Taken before(target, target.size);
    int found = 0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        Taken after = before;
        if (!mix_tumour(donor, {.seed = seed}, after.crop()))
            continue;
        ++found;
        double placed = 0.0, wet = 0.0;
        for_voxels(after.extents, [&](const Triple& v) {
            if (after.classes[after.index(v)] == 0)
                return;
            placed += 1.0;
            wet += is_fluid(v) ? 1.0 : 0.0;
        });
        CHECK(wet <= 0.23 * placed); // of 90 % or more that lie on brain
    }
    CHECK(found >= 10);
}

TEST_CASE("donors are other cases with a tumour, each as often") {
    std::vector<CacheEntry> entries(5);
    for (std::size_t i = 0; i < entries.size(); ++i)
        entries[i].class_voxels = {100, 0, i == 2 ? 0 : 7, 0};
    std::array<int, 5> drawn{};
    for (std::uint64_t number = 0; number < 300; ++number) {
        const auto donor = donor_of(entries, 1, number);
        REQUIRE(donor);
        ++drawn[*donor];
    }
    CHECK(drawn == std::array<int, 5>{100, 0, 0, 100, 100});
    entries.resize(3);
    CHECK(donor_of(entries, 2, 5) == std::optional<std::size_t>(1));
    CHECK_FALSE(donor_of(std::span(entries).first(1), 0, 9));
}
