// SPDX-License-Identifier: MIT
#include "core/file.h"
#include "core/random.h"
#include "imaging/compact_volume.h"
#include "imaging/nifti/nifti.h"
#include "support/catch.h"
#include "support/paths.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>

using namespace mfres;

namespace {

using Index = std::array<std::int64_t, 3>;

constexpr Index grid_size = {13, 9, 11};

/// `value()` in the voxels 3..7, 2..6, 4..9, background elsewhere.
template <typename Value>
Volume block(float background, const Value& value) {
    Volume volume{{grid_size, {{{-1, 0, 0, 3}, {0, -1, 0, 4}, {0, 0, 1, 5}}}}, {}};
    for (std::int64_t k = 0; k < grid_size[2]; ++k)
        for (std::int64_t j = 0; j < grid_size[1]; ++j)
            for (std::int64_t i = 0; i < grid_size[0]; ++i)
                volume.voxels.push_back(i >= 3 && i < 8 && j >= 2 && j < 7 && k >= 4 && k < 10 ? value() : background);
    return volume;
}

CompactVolume scan_of(const Volume& volume) {
    auto scan = make_scan(volume);
    REQUIRE_OK(scan);
    return std::move(scan).value();
}

} // namespace

TEST_CASE("a scan gives back every voxel and keeps only the box of what is not background") {
    Random random(4);
    const bool whole_numbers = GENERATE(true, false);
    const float background = GENERATE(0.0F, -300.0F, 7.0F);
    const Volume volume = block(background, [&] {
        return whole_numbers ? static_cast<float>(random.below(2000)) + 10.0F
                             : static_cast<float>(random.uniform(10.0, 20.0));
    });
    const CompactVolume scan = scan_of(volume);
    CHECK(scan.background() == background);
    CHECK(scan.kept_begin() == Index{3, 2, 4});
    CHECK(scan.kept_size() == Index{5, 5, 6});
    CHECK(scan.bytes() == 150 * (whole_numbers ? 2 : 4));
    CHECK(scan.whole_bytes() == volume.grid.voxels() * (whole_numbers ? 2 : 4));
    CHECK(scan.volume().voxels == volume.voxels);
    CHECK(scan.volume().grid == volume.grid);
    std::vector<float> part(7);
    scan.read(1, 3, 5, 7, part.data());
    CHECK(std::equal(part.begin(), part.end(), volume.voxels.begin() + 1 + 13 * (3 + 9 * 5)));
    CHECK(same_intensities(scan, scan_of(volume)));
}

TEST_CASE("scans of one volume in different types are the same, and one other voxel is enough to differ") {
    Random random(5);
    Volume volume = block(0.0F, [&] { return static_cast<float>(random.below(200)) + 1.0F; });
    const CompactVolume narrow(volume.grid, PageVector<std::uint8_t>(volume.voxels.begin(), volume.voxels.end()), 1.0,
                               0.0);
    CHECK(narrow.bytes() == 150);
    CHECK(same_intensities(narrow, scan_of(volume)));
    volume.voxels[4 + 13 * (3 + 9 * 5)] += 0.5F;
    CHECK_FALSE(same_intensities(narrow, scan_of(volume)));
}

TEST_CASE("a scan without background around it keeps everything, a constant one nothing") {
    Random random(6);
    Volume noise = block(0.0F, [] { return 1.0F; });
    for (float& value : noise.voxels)
        value = static_cast<float>(random.uniform(0.0, 1.0));
    CHECK(scan_of(noise).kept_size() == grid_size);
    CHECK(scan_of(noise).volume().voxels == noise.voxels);
    Volume constant = noise;
    std::fill(constant.voxels.begin(), constant.voxels.end(), 3.5F);
    CHECK(scan_of(constant).constant());
    CHECK(scan_of(constant).volume().voxels == constant.voxels);
    CHECK_FALSE(scan_of(noise).constant());
}

TEST_CASE("the background is that of the intensities, also with a negative slope") {
    // Two stored values are equally frequent on the border; the smaller intensity wins, which is the greater stored
    // one.
    Volume volume = block(0.0F, [] { return 9.0F; });
    PageVector<std::int16_t> stored(volume.voxels.size(), 5);
    volume.voxels.assign(volume.voxels.size(), 0.0F);
    for (std::size_t n = 0; n < stored.size(); ++n) {
        stored[n] = n % 2 == 0 ? std::int16_t{5} : std::int16_t{3};
        volume.voxels[n] = static_cast<float>(stored[n] * -2.0 + 1.0);
    }
    const CompactVolume scan(volume.grid, stored, -2.0, 1.0);
    CHECK(scan.background() == border_value(volume));
    CHECK(scan.volume().voxels == volume.voxels);
}

TEST_CASE("stored values are counted as they are read") {
    const Grid grid{grid_size, {{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}}};
    const auto check = [&]<typename T>(T background, double slope, double inter) {
        PageVector<T> stored(static_cast<std::size_t>(grid.voxels()), background);
        Random random(6);
        for (std::size_t n = 400; n < 900; ++n) // the extremes of the type among them
            stored[n] = static_cast<T>(random.below(3) == 0 ? random.next() : random.below(4));
        stored[500] = std::numeric_limits<T>::lowest();
        stored[501] = std::numeric_limits<T>::max();
        const CompactVolume scan(grid, std::move(stored), slope, inter);
        REQUIRE(scan.stored_values() == std::size_t{1} << (8 * sizeof(T)));
        CHECK(scan.kept_size() != grid_size);
        std::vector<std::uint32_t> counts(scan.stored_values());
        std::map<float, std::int64_t> expected;
        std::vector<float> values(11);
        std::int64_t outside = 0;
        for (std::int64_t k = 0; k < grid_size[2]; ++k)
            for (std::int64_t j = 0; j < grid_size[1]; ++j) {
                outside += scan.count(1, j, k, 11, counts);
                scan.read(1, j, k, 11, values.data());
                for (const float value : values)
                    ++expected[value];
            }
        std::map<float, std::int64_t> found;
        if (outside > 0)
            found[scan.background()] = outside;
        for (std::size_t n = 0; n < counts.size(); ++n)
            if (counts[n] > 0)
                found[scan.intensity(n)] += counts[n];
        CHECK(found == expected);
    };
    check(std::int16_t{-3}, 1.0, 0.0);
    check(std::uint16_t{7}, -0.25, 1000.0);
    check(std::uint8_t{0}, 1.0, -5.5);
    CHECK(scan_of(block(0.0F, [] { return 0.5F; })).stored_values() == 0);
}

TEST_CASE("turning a scan over is turning its volume over, in all 48 orientations") {
    Random random(8);
    const Volume volume = block(-1.0F, [&] { return static_cast<float>(random.uniform(1.0, 2.0)); });
    const CompactVolume scan = scan_of(volume);
    std::array<int, 3> axes = {0, 1, 2};
    do
        for (int flips = 0; flips < 8; ++flips) {
            const Orientation orientation{axes, {(flips & 1) != 0, (flips & 2) != 0, (flips & 4) != 0}};
            const Volume turned = reorient(volume, orientation);
            const CompactVolume same = reorient(scan, orientation);
            REQUIRE(same.grid() == turned.grid);
            REQUIRE(same.volume().voxels == turned.voxels);
        }
    while (std::next_permutation(axes.begin(), axes.end()));
}

TEST_CASE("volumes that do not fill their grid make no scan") {
    Volume volume = block(0.0F, [] { return 1.0F; });
    volume.voxels.pop_back();
    REQUIRE_CODE(make_scan(volume), invalid_argument);
    REQUIRE_CODE(make_scan({}), invalid_argument);
}

TEST_CASE("files of every type are read as scans of the same intensities as volumes") {
    for (const char* file : {"anatomical.nii", "avg152T1_LR_nifti.nii.gz", "avg152T1_LR_nifti2.nii.gz", "big.nii.gz",
                             "little.nii.gz", "with_extension.nii.gz"}) {
        const auto path = test::shared_data(std::string("data/nifti/") + file);
        if (!path)
            return;
        INFO(file);
        const auto volume = read_nifti(*path);
        const auto scan = read_nifti_scan(*path);
        REQUIRE(volume.ok() == scan.ok());
        if (!volume)
            continue;
        CHECK(scan->scan.volume().voxels == volume->volume.voxels);
        CHECK(scan->scan.background() == border_value(volume->volume));
        CHECK(scan->geometry == volume->geometry);
    }
}

TEST_CASE("integers that scaling carries beyond floats are rejected with counts in a scan as in a volume") {
    const test::TemporaryFolder folder;
    Volume volume = block(0.0F, [] { return 1000.0F; });
    const auto path = folder / "x.nii";
    REQUIRE_OK(write_nifti(path, volume, geometry_of(volume.grid), NiftiDatatype::int16, "test", true));
    REQUIRE_OK(read_nifti_scan(path));
    auto bytes = read_file(path, 1 << 20);
    REQUIRE_OK(bytes);
    const float slope = 1e36F;
    std::memcpy(bytes->data() + 112, &slope, sizeof slope); // scl_slope of NIfTI-1
    REQUIRE_OK(write_file_atomically(path, *bytes));
    const auto scan = read_nifti_scan(path);
    REQUIRE_CODE(scan, voxel_not_finite);
    CHECK(scan.error().message == read_nifti(path).error().message);
    CHECK(scan.error().message.find("150") != std::string::npos);
}
