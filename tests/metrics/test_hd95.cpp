// SPDX-License-Identifier: MIT
// The surface distance: by hand where a hand can, against SciPy where it cannot.
#include "core/file.h"
#include "core/random.h"
#include "core/try.h"
#include "metrics/surface_distance.h"
#include "support/catch.h"
#include "support/paths.h"

#include <mfres/metrics.h>

#include <cmath>
#include <cstdio>
#include <sstream>

using namespace mfres;

namespace {

using Size = std::array<std::int64_t, 3>;
using Spacing = std::array<double, 3>;

std::string content_of(const std::filesystem::path& path) {
    const auto bytes = read_file(path, 1U << 20U);
    REQUIRE_OK(bytes);
    return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

/// Two masks on one grid, empty at first.
struct Pair {
    Size size;
    Spacing spacing;
    std::vector<std::uint8_t> a, b;

    Pair(const Size& grid, const Spacing& mm)
        : size(grid), spacing(mm), a(static_cast<std::size_t>(grid[0] * grid[1] * grid[2])), b(a) {}

    std::size_t at(std::int64_t i, std::int64_t j, std::int64_t k) const {
        return static_cast<std::size_t>(i + size[0] * (j + size[1] * k));
    }
};

std::optional<double> hd95(const Pair& pair) {
    const auto result = hausdorff95(pair.a, pair.b, pair.size, pair.spacing);
    REQUIRE_OK(result);
    return *result;
}

/// A union of ellipsoids with random centres and radii, some of them cut off by the edge of the grid.
void add_blobs(std::vector<std::uint8_t>& mask, const Pair& pair, int blobs, Random& random) {
    for (int blob = 0; blob < blobs; ++blob) {
        std::array<double, 3> centre{};
        std::array<double, 3> radius{};
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const auto extent = static_cast<double>(pair.size[axis]);
            centre[axis] = random.uniform(0.0, extent);
            radius[axis] = random.uniform(1.0, 0.3 * extent + 1.0);
        }
        for (std::int64_t k = 0; k < pair.size[2]; ++k)
            for (std::int64_t j = 0; j < pair.size[1]; ++j)
                for (std::int64_t i = 0; i < pair.size[0]; ++i) {
                    const double x = (static_cast<double>(i) - centre[0]) / radius[0];
                    const double y = (static_cast<double>(j) - centre[1]) / radius[1];
                    const double z = (static_cast<double>(k) - centre[2]) / radius[2];
                    if (x * x + y * y + z * z <= 1.0)
                        mask[pair.at(i, j, k)] = 1;
                }
    }
    mask[static_cast<std::size_t>(random.below(mask.size()))] = 1; // never empty, and now and then a far speck
}

Pair random_pair(std::uint64_t seed) {
    Random random(seed);
    Size size{};
    Spacing spacing{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        size[axis] = 6 + static_cast<std::int64_t>(random.below(40));
        spacing[axis] = random.uniform(0.3, 4.0);
    }
    Pair pair(size, seed % 4 == 0 ? Spacing{1.0, 1.0, 1.0} : spacing);
    add_blobs(pair.a, pair, 1 + static_cast<int>(random.below(4)), random);
    add_blobs(pair.b, pair, 1 + static_cast<int>(random.below(4)), random);
    return pair;
}

std::vector<Pair> random_pairs() {
    std::vector<Pair> pairs;
    for (std::uint64_t seed = 1; seed <= 32; ++seed)
        pairs.push_back(random_pair(seed));
    // Grids that are a plane or a line of voxels, where every voxel of a mask is surface.
    for (const Size& size : {Size{17, 1, 9}, Size{1, 1, 30}}) {
        Random random(77);
        pairs.emplace_back(size, Spacing{0.7, 1.3, 2.1});
        add_blobs(pairs.back().a, pairs.back(), 2, random);
        add_blobs(pairs.back().b, pairs.back(), 2, random);
    }
    return pairs;
}

/// A Python that has SciPy: the one on the path, or the system's, whose packages a virtual environment hides.
std::optional<std::string> python_with_scipy() {
    for (const std::string python : {"python3", "/usr/bin/python3"})
        if (std::system((python + " -c 'import scipy.ndimage' >/dev/null 2>&1").c_str()) == 0)
            return python;
    return std::nullopt;
}

/// What hd95_oracle.py answers for these pairs.
std::vector<double> ask_scipy(const std::string& python, const std::vector<Pair>& pairs) {
    const test::TemporaryFolder folder;
    std::string list;
    for (std::size_t p = 0; p < pairs.size(); ++p) {
        const Pair& pair = pairs[p];
        std::vector<std::uint8_t> both = pair.a;
        both.insert(both.end(), pair.b.begin(), pair.b.end());
        REQUIRE_OK(write_file_atomically(folder / (std::to_string(p) + ".bin"), std::as_bytes(std::span(both))));
        std::array<char, 256> line{};
        std::snprintf(line.data(), line.size(), "%zu %d %d %d %.17g %.17g %.17g\n", p, static_cast<int>(pair.size[0]),
                      static_cast<int>(pair.size[1]), static_cast<int>(pair.size[2]), pair.spacing[0], pair.spacing[1],
                      pair.spacing[2]);
        list += line.data();
    }
    REQUIRE_OK(write_file_atomically(folder / "pairs.txt", list));
    const std::string command = python + " '" + MFRES_SOURCE_DIR + "/tests/metrics/hd95_oracle.py' '" +
                                folder.path().string() + "' >'" + (folder / "out").string() + "' 2>&1";
    const int status = std::system(command.c_str());
    const std::string output = content_of(folder / "out");
    INFO(output);
    REQUIRE(status == 0);
    std::istringstream numbers(output);
    std::vector<double> answers;
    for (double answer = 0.0; numbers >> answer;)
        answers.push_back(answer);
    REQUIRE(answers.size() == pairs.size());
    return answers;
}

} // namespace

TEST_CASE("single voxels lie their distance apart, with the spacing of each axis") {
    Pair pair({8, 9, 10}, {0.5, 2.0, 3.0});
    pair.a[pair.at(1, 1, 1)] = 1;
    pair.b[pair.at(5, 4, 1)] = 1;
    CHECK(hd95(pair) == std::sqrt(2.0 * 2.0 + 6.0 * 6.0)); // 4 steps of 0.5 mm and 3 of 2 mm
    pair.b.assign(pair.b.size(), 0);
    pair.b[pair.at(1, 1, 5)] = 255; // any value but 0 is inside
    CHECK(hd95(pair) == 12.0);
}

TEST_CASE("equal masks are no distance apart, and an empty one has no distance") {
    Pair pair({12, 12, 12}, {1.0, 1.0, 1.0});
    CHECK(hd95(pair) == std::nullopt);
    Random random(3);
    add_blobs(pair.a, pair, 3, random);
    CHECK(hd95(pair) == std::nullopt);
    pair.b = pair.a;
    CHECK(hd95(pair) == 0.0);
}

TEST_CASE("the interior of a mask is no surface, and beyond the array is outside") {
    // A block that fills the grid but for a shell against the whole grid: surfaces are the two shells.
    Pair pair({7, 7, 7}, {1.0, 1.0, 1.0});
    pair.a.assign(pair.a.size(), 1);
    for (std::int64_t k = 1; k < 6; ++k)
        for (std::int64_t j = 1; j < 6; ++j)
            for (std::int64_t i = 1; i < 6; ++i)
                pair.b[pair.at(i, j, k)] = 1;
    const auto distances =
        pooled_surface_distances({pair.a, pair.size, {false, true}}, {pair.b, pair.size, {false, true}}, pair.spacing);
    // Shell of 7^3: 343 - 125 voxels; of 5^3: 125 - 27. Of the outer ones the 6 * 25 face voxels are 1 mm away, the
    // 12 * 5 on edges sqrt 2, the 8 corners sqrt 3; all the inner ones 1 mm.
    REQUIRE(distances.size() == 218 + 98);
    const auto count = [&](double value) { return std::count(distances.begin(), distances.end(), value); };
    CHECK(count(1.0) == 150 + 98);
    CHECK(count(std::sqrt(2.0)) == 60);
    CHECK(count(std::sqrt(3.0)) == 8);
    // 0.95 * 315 = 299.25: the 299th and the 300th in order (from 0) are both sqrt 2.
    CHECK(hd95(pair) == std::sqrt(2.0));
}

TEST_CASE("both directions are pooled before the percentile is taken") {
    // a is one voxel; b is that voxel and one 10 mm away. Distances: a to b 0; b to a 0 and 10. Their 95th percentile
    // lies at 1.9 of 0..2: 9 mm. The larger of the two directed percentiles would be 9.5 mm.
    Pair pair({11, 1, 1}, {1.0, 1.0, 1.0});
    pair.a[0] = pair.b[0] = pair.b[10] = 1;
    const auto result = hd95(pair);
    REQUIRE(result.has_value());
    CHECK(*result == Approx(9.0).epsilon(1e-14));
}

TEST_CASE("the quantile interpolates as NumPy does by default") {
    CHECK(quantile({}, 0.5) == std::nullopt);
    CHECK(quantile({4.0}, 0.95) == 4.0);
    CHECK(quantile({3.0, 1.0, 2.0}, 0.5) == 2.0);
    CHECK(quantile({4.0, 1.0, 3.0, 2.0}, 0.25) == 1.75);
    CHECK(quantile({4.0, 1.0, 3.0, 2.0}, 0.0) == 1.0);
    CHECK(quantile({4.0, 1.0, 3.0, 2.0}, 1.0) == 4.0);
}

TEST_CASE("the distance is symmetric, grows with the spacing and does not feel where the grid ends") {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        INFO("seed " << seed);
        const Pair pair = random_pair(seed);
        const auto distance = hd95(pair);
        REQUIRE(distance.has_value());
        Pair exchanged = pair;
        std::swap(exchanged.a, exchanged.b);
        CHECK(hd95(exchanged) == distance);
        Pair doubled = pair;
        for (double& mm : doubled.spacing)
            mm *= 2.0; // a power of two, so exactly twice
        CHECK(hd95(doubled) == 2.0 * *distance);
        Pair wider({pair.size[0] + 5, pair.size[1] + 3, pair.size[2] + 4}, pair.spacing);
        for (std::int64_t k = 0; k < pair.size[2]; ++k)
            for (std::int64_t j = 0; j < pair.size[1]; ++j)
                for (std::int64_t i = 0; i < pair.size[0]; ++i) {
                    wider.a[wider.at(i + 2, j + 3, k + 1)] = pair.a[pair.at(i, j, k)];
                    wider.b[wider.at(i + 2, j + 3, k + 1)] = pair.b[pair.at(i, j, k)];
                }
        CHECK(hd95(wider) == distance);
    }
}

TEST_CASE("random masks with random spacing: the same as SciPy by medpy's definition") {
    const auto python = python_with_scipy();
    if (!python) {
        std::printf("SKIPPED: there is no python3 with the scipy package\n");
        return;
    }
    const std::vector<Pair> pairs = random_pairs();
    const std::vector<double> answers = ask_scipy(*python, pairs);
    for (std::size_t p = 0; p < pairs.size(); ++p) {
        INFO("pair " << p << ", " << pairs[p].size[0] << "x" << pairs[p].size[1] << "x" << pairs[p].size[2]);
        const auto ours = hd95(pairs[p]);
        REQUIRE(ours.has_value());
        CHECK(std::abs(*ours - answers[p]) <= 1e-9 * answers[p]);
    }
}

TEST_CASE("masks that do not fit their grid and spacing that makes no sense are rejected") {
    const std::vector<std::uint8_t> mask(24, 1);
    REQUIRE_CODE(hausdorff95(mask, mask, {2, 3, 5}, {1, 1, 1}), invalid_argument);
    REQUIRE_CODE(hausdorff95(mask, std::span(mask).first(23), {2, 3, 4}, {1, 1, 1}), invalid_argument);
    REQUIRE_CODE(hausdorff95(mask, mask, {-2, -3, 4}, {1, 1, 1}), invalid_argument);
    for (const double bad : {0.0, -1.0, std::nan(""), HUGE_VAL})
        REQUIRE_CODE(hausdorff95(mask, mask, {2, 3, 4}, {1, bad, 1}), invalid_argument);
    REQUIRE_OK(hausdorff95({}, {}, {0, 0, 0}, {1, 1, 1}));
}
