// SPDX-License-Identifier: MIT
#include "nifti_files.h"

#include <limits>

using namespace mfres;
using test::Bytes;
using test::content_of;
using test::read;

TEST_CASE("volumes: float32 is exact, int16 rounds and rejects what does not fit") {
    const test::TemporaryFolder folder;
    const Grid grid{{4, 3, 2}, {{{-1, 0, 0, 3}, {0, -1, 0, 2}, {0, 0, 1, 1}}}};
    Volume volume{grid, std::vector<float>(24)};
    for (std::size_t i = 0; i < 24; ++i)
        volume.voxels[i] = 0.1F * static_cast<float>(i) - 1.0F;
    const auto geometry = geometry_of(grid);
    REQUIRE_OK(write_nifti(folder / "f.nii.gz", volume, geometry, NiftiDatatype::float32, "floats", false));
    const auto floats = read(folder / "f.nii.gz");
    CHECK(floats.volume.voxels == volume.voxels);
    CHECK(floats.volume.grid == grid);
    CHECK(floats.storage.datatype == NiftiDatatype::float32);

    volume.voxels[0] = -32768.4F;
    volume.voxels[1] = 32767.0F;
    volume.voxels[2] = 2.6F;
    REQUIRE_OK(write_nifti(folder / "i.nii", volume, geometry, NiftiDatatype::int16, "integers", false));
    const auto integers = read(folder / "i.nii");
    CHECK(integers.volume.voxels[0] == -32768.0F);
    CHECK(integers.volume.voxels[1] == 32767.0F);
    CHECK(integers.volume.voxels[2] == 3.0F);
    CHECK(integers.storage.datatype == NiftiDatatype::int16);

    for (const float bad :
         {32768.0F, -32769.0F, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        volume.voxels[5] = bad;
        REQUIRE_CODE(write_nifti(folder / "b.nii", volume, geometry, NiftiDatatype::int16, "", true), invalid_argument);
        CHECK_FALSE(std::filesystem::exists(folder / "b.nii"));
    }
}

TEST_CASE("writing: header bytes, description, compression, overwriting and rejections") {
    const test::TemporaryFolder folder;
    const Grid grid{{4, 3, 2}, {{{-1, 0, 0, 3}, {0, -1, 0, 2}, {0, 0, 1, 1}}}};
    const LabelMap labels{grid, std::vector<std::uint8_t>(24, 4)};
    auto geometry = geometry_of(grid);
    REQUIRE_OK(write_nifti_labels(folder / "x.nii", labels, geometry, std::string(200, 'd'), false));
    const Bytes first = content_of(folder / "x.nii");
    REQUIRE(first.size() == 352 + 24);
    CHECK(std::string(reinterpret_cast<const char*>(first.data()) + 344, 4) == std::string("n+1\0", 4));
    CHECK(std::string(reinterpret_cast<const char*>(first.data()) + 148, 80) == std::string(79, 'd') + '\0');
    CHECK(first[123] == std::byte{2});
    CHECK(first[352] == std::byte{4});

    geometry.version = 2;
    REQUIRE_OK(write_nifti_labels(folder / "x2.nii", labels, geometry, "two", false));
    const Bytes second = content_of(folder / "x2.nii");
    REQUIRE(second.size() == 544 + 24);
    CHECK(std::string(reinterpret_cast<const char*>(second.data()) + 4, 8) == std::string("n+2\0\r\n\032\n", 8));
    geometry.version = 1;

    REQUIRE_OK(write_nifti_labels(folder / "x.nii.gz", labels, geometry, std::string(200, 'd'), false));
    const Bytes compressed = content_of(folder / "x.nii.gz");
    const auto inflated = gunzip(compressed, 1000, "x.nii.gz");
    REQUIRE_OK(inflated);
    CHECK(*inflated == first);

    REQUIRE_CODE(write_nifti_labels(folder / "x.nii", labels, geometry, "", false), file_exists);
    CHECK(content_of(folder / "x.nii") == first);
    REQUIRE_CODE(write_nifti_labels(folder / "x.img", labels, geometry, "", true), invalid_argument);
    REQUIRE_CODE(write_nifti_labels(folder / "x.gz", labels, geometry, "", true), invalid_argument);
    REQUIRE_CODE(write_nifti_labels(folder / "x.png", labels, geometry, "", true), invalid_argument);
    REQUIRE_CODE(write_nifti_labels(folder / "none/x.nii", labels, geometry, "", true), file_write);
    const LabelMap short_map{grid, std::vector<std::uint8_t>(23, 4)};
    REQUIRE_CODE(write_nifti_labels(folder / "y.nii", short_map, geometry, "", true), invalid_argument);
    const LabelMap empty{{{0, 3, 2}, grid.affine}, {}};
    REQUIRE_CODE(write_nifti_labels(folder / "y.nii", empty, geometry, "", true), invalid_argument);
    const LabelMap huge{{{1025, 1, 1}, grid.affine}, std::vector<std::uint8_t>(1025)};
    REQUIRE_CODE(write_nifti_labels(folder / "y.nii", huge, geometry, "", true), invalid_argument);
    const Volume volume{grid, std::vector<float>(24)};
    REQUIRE_CODE(write_nifti(folder / "y.nii", volume, geometry, NiftiDatatype::uint8, "", true), invalid_argument);
    geometry.version = 3;
    REQUIRE_CODE(write_nifti_labels(folder / "y.nii", labels, geometry, "", true), invalid_argument);
    CHECK_FALSE(std::filesystem::exists(folder / "y.nii"));
}
