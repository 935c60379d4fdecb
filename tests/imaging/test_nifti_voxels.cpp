// SPDX-License-Identifier: MIT
#include "nifti_files.h"

#include <cmath>
#include <limits>

using namespace mfres;
using test::read;
using test::Recipe;

TEST_CASE("every scalar type, byte order and version gives the same intensities") {
    const test::TemporaryFolder folder;
    for (const auto& [datatype, bits] : std::vector<std::pair<int, int>>{
             {2, 8}, {256, 8}, {4, 16}, {512, 16}, {8, 32}, {768, 32}, {16, 32}, {64, 64}, {1024, 64}, {1280, 64}})
        for (const int version : {1, 2})
            for (const bool big_endian : {false, true})
                for (const bool scaled : {false, true}) {
                    Recipe recipe;
                    recipe.version = version;
                    recipe.big_endian = big_endian;
                    recipe.datatype = datatype;
                    recipe.bitpix = bits;
                    recipe.slope = scaled ? 0.5 : 0.0;
                    recipe.inter = -3.0;
                    test::save(folder / "x.nii", recipe.file());
                    const auto result = read(folder / "x.nii");
                    INFO("datatype " << datatype << ", version " << version << ", big-endian " << big_endian);
                    REQUIRE(result.volume.voxels.size() == 120);
                    for (int i = 0; i < 120; ++i)
                        REQUIRE(result.volume.voxels[static_cast<std::size_t>(i)] ==
                                (scaled ? 0.5F * static_cast<float>(i + 1) - 3.0F : static_cast<float>(i + 1)));
                    CHECK(result.storage.big_endian == big_endian);
                    CHECK(static_cast<int>(result.storage.datatype) == datatype);
                    CHECK(result.geometry.version == version);
                    CHECK(result.volume.grid.affine[1][3] == 4.0);
                }
}

TEST_CASE("the extremes of signed and unsigned types keep their sign") {
    const test::TemporaryFolder folder;
    const auto first_voxel = [&](int datatype, int bits, double value, bool big_endian) {
        Recipe recipe;
        recipe.datatype = datatype;
        recipe.bitpix = bits;
        recipe.big_endian = big_endian;
        recipe.values.assign(120, value);
        test::save(folder / "x.nii", recipe.file());
        return read(folder / "x.nii").volume.voxels[0];
    };
    for (const bool big_endian : {false, true}) {
        CHECK(first_voxel(256, 8, -128, big_endian) == -128.0F);
        CHECK(first_voxel(2, 8, 255, big_endian) == 255.0F);
        CHECK(first_voxel(4, 16, -32768, big_endian) == -32768.0F);
        CHECK(first_voxel(512, 16, 65535, big_endian) == 65535.0F);
        CHECK(first_voxel(8, 32, -2147483648.0, big_endian) == -2147483648.0F);
        CHECK(first_voxel(768, 32, 4294967295.0, big_endian) == 4294967295.0F);
        CHECK(first_voxel(1024, 64, -0x1p62, big_endian) == -0x1p62F);
        CHECK(first_voxel(1280, 64, 0x1p63, big_endian) == 0x1p63F);
        CHECK(first_voxel(64, 64, 1e-30, big_endian) == 1e-30F);
    }
}

TEST_CASE("slope 0 and slope NaN mean no scaling, whatever the intercept") {
    const test::TemporaryFolder folder;
    for (const double slope : {0.0, std::nan("")})
        for (const double inter : {0.0, 5.0, std::nan("")}) {
            Recipe recipe;
            recipe.slope = slope;
            recipe.inter = inter;
            test::save(folder / "x.nii", recipe.file());
            CHECK(read(folder / "x.nii").volume.voxels[7] == 8.0F);
        }
    Recipe intercept_only;
    intercept_only.slope = 1.0;
    intercept_only.inter = -32768.0;
    test::save(folder / "x.nii", intercept_only.file());
    CHECK(read(folder / "x.nii").volume.voxels[7] == -32760.0F);
}

TEST_CASE("a raw background that scaling maps to zero becomes exactly zero") {
    const test::TemporaryFolder folder;
    Recipe recipe;
    recipe.datatype = 4;
    recipe.bitpix = 16;
    recipe.slope = 1.5259021893143654e-05;
    recipe.inter = 0.5000076293945312;
    recipe.values.assign(120, -32768);
    recipe.values[5] = 32767;
    test::save(folder / "x.nii", recipe.file());
    const auto result = read(folder / "x.nii");
    CHECK(result.volume.voxels[0] == 0.0F);
    CHECK(result.volume.voxels[5] == Approx(1.0));
}

TEST_CASE("labels may be stored as floats or scaled, as long as they are whole numbers") {
    const test::TemporaryFolder folder;
    Recipe recipe;
    recipe.values.assign(120, 0);
    recipe.values[3] = 4;
    recipe.values[9] = 255;
    const auto labels = [&] {
        test::save(folder / "x.nii", recipe.file());
        return read_nifti_labels(folder / "x.nii");
    };
    auto result = labels();
    REQUIRE_OK(result);
    CHECK(result->map.labels[3] == 4);
    CHECK(result->map.labels[9] == 255);
    recipe.values[9] = 120;
    recipe.slope = 0.5;
    recipe.inter = 1;
    result = labels();
    REQUIRE_OK(result);
    CHECK(result->map.labels[3] == 3);
    CHECK(result->map.labels[9] == 61);
    recipe.slope = 0;
    for (const double bad : {-1.0, 256.0, 1.5, 1e30, -0.001}) {
        recipe.values[3] = bad;
        recipe.values[50] = bad;
        const auto rejected = labels();
        REQUIRE_CODE(rejected, label_outside_scheme);
        CHECK(rejected.error().message.find("in 2 of 120 voxels, the first at (3, 0, 0)") != std::string::npos);
    }
    recipe.values[3] = std::nan("");
    REQUIRE_CODE(labels(), voxel_not_finite);
}

TEST_CASE("labels through a slope are rounded within a step of it, and what lies between labels is rejected") {
    const test::TemporaryFolder folder;
    Recipe recipe;
    const auto labels = [&] {
        test::save(folder / "x.nii", recipe.file());
        return read_nifti_labels(folder / "x.nii");
    };
    recipe.values.assign(120, 0);
    recipe.values[3] = 2;
    recipe.slope = 1.000015; // 2.00003
    auto result = labels();
    REQUIRE_OK(result);
    CHECK(result->map.labels[3] == 2);
    recipe.datatype = 2; // uint8, whose 256 steps lie between 0 and 4
    recipe.bitpix = 8;
    recipe.slope = 4.0 / 255.0;
    const std::vector<double> stored = {0, 64, 127, 128, 191, 255};
    std::copy(stored.begin(), stored.end(), recipe.values.begin());
    result = labels();
    REQUIRE_OK(result);
    const std::vector<std::uint8_t> expected = {0, 1, 2, 2, 3, 4};
    CHECK(std::equal(expected.begin(), expected.end(), result->map.labels.begin()));
    recipe.values[7] = 130; // 2.039
    REQUIRE_CODE(labels(), label_outside_scheme);
    recipe.values[7] = 3;
    recipe.slope = 0.5; // 1.5 is half a step away, and no label
    REQUIRE_CODE(labels(), label_outside_scheme);
}

TEST_CASE("voxels that are not finite are counted and located") {
    const test::TemporaryFolder folder;
    Recipe recipe;
    recipe.values.assign(120, 1);
    recipe.values[4 * 5 * 2 + 4 + 3] = std::nan(""); // (3, 1, 2)
    recipe.values[100] = std::numeric_limits<double>::infinity();
    recipe.values[101] = -std::numeric_limits<double>::infinity();
    test::save(folder / "x.nii", recipe.file());
    const auto result = read_nifti(folder / "x.nii");
    REQUIRE_CODE(result, voxel_not_finite);
    CHECK(result.error().message.find("NaN in 1") != std::string::npos);
    CHECK(result.error().message.find("in 2 of 120 voxels") != std::string::npos);
    CHECK(result.error().message.find("(3, 1, 2)") != std::string::npos);
}
