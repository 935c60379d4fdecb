// SPDX-License-Identifier: MIT
// Files of other programs: samples of the NIfTI project, nibabel and FSL.
#include "nifti_files.h"

#include <numeric>

using namespace mfres;
using test::conformance;
using test::read;

namespace {

float voxel(const NiftiVolume& read, std::int64_t i, std::int64_t j, std::int64_t k) {
    const auto& size = read.volume.grid.size;
    return read.volume.voxels[static_cast<std::size_t>(i + size[0] * (j + size[1] * k))];
}

double sum(const NiftiVolume& read) {
    return std::accumulate(read.volume.voxels.begin(), read.volume.voxels.end(), 0.0);
}

} // namespace

TEST_CASE("conformance: the official sample in NIfTI-1, NIfTI-2, plain and compressed") {
    const auto plain = conformance("avg152T1_LR_nifti.nii");
    const auto compressed = conformance("avg152T1_LR_nifti.nii.gz");
    const auto second = conformance("avg152T1_LR_nifti2.nii.gz");
    if (!plain || !compressed || !second)
        return;
    const auto a = read(*plain);
    const auto b = read(*compressed);
    const auto c = read(*second);
    CHECK(a.volume.grid == Grid{{91, 109, 91}, {{{-2, 0, 0, 90}, {0, 2, 0, -126}, {0, 0, 2, -72}}}});
    CHECK(voxel(a, 45, 54, 45) == 121.0F);
    CHECK(voxel(a, 30, 60, 40) == 255.0F);
    CHECK(sum(a) == 74825382.0);
    CHECK(b.volume.voxels == a.volume.voxels);
    CHECK(b.geometry == a.geometry);
    CHECK(c.volume.voxels == a.volume.voxels);
    CHECK(c.volume.grid == a.volume.grid);
    CHECK(a.geometry.qform_code == 0);
    CHECK(a.geometry.sform_code == 4);
    CHECK(a.storage.datatype == NiftiDatatype::uint8);
    CHECK(a.storage.big_endian);
    CHECK_FALSE(a.storage.compressed);
    CHECK(b.storage.compressed);
    CHECK(c.geometry.version == 2);
    CHECK(c.storage.datatype == NiftiDatatype::float32);
    CHECK_FALSE(c.storage.big_endian);
    CHECK(c.storage.vox_offset == 544);
}

TEST_CASE("conformance: both byte orders read equal") {
    const auto big = conformance("big.nii.gz");
    const auto little = conformance("little.nii.gz");
    if (!big || !little)
        return;
    const auto a = read(*big);
    const auto b = read(*little);
    CHECK(a.storage.big_endian);
    CHECK_FALSE(b.storage.big_endian);
    CHECK(a.volume.voxels == b.volume.voxels);
    CHECK(a.volume.grid == b.volume.grid);
    CHECK(a.geometry == b.geometry);
    CHECK(voxel(a, 32, 32, 10) == -1.2852673530578613F);
    CHECK(voxel(a, 20, 40, 5) == -2.0453953742980957F);
    CHECK(a.volume.grid.affine == Affine{{{-4, 0, 0, 0}, {0, 4, 0, 0}, {0, 0, 6, 0}}}); // from the qform
    CHECK(a.geometry.pixdim[0] == -1.0);
}

TEST_CASE("conformance: extension, oblique and big-endian files") {
    const auto extended = conformance("with_extension.nii.gz");
    const auto anatomical = conformance("anatomical.nii");
    const auto moved = conformance("reoriented_anat_moved.nii");
    const auto tiny = conformance("standard.nii.gz");
    if (!extended || !anatomical || !moved || !tiny)
        return;
    const auto a = read(*extended);
    CHECK(a.storage.vox_offset == 736);
    CHECK(a.volume.grid.size == std::array<std::int64_t, 3>{161, 191, 151});
    CHECK(voxel(a, 80, 95, 75) == 1.0F);
    CHECK(sum(a) == 1472871.0);
    const auto b = read(*anatomical);
    CHECK(voxel(b, 16, 20, 12) == 11881.0F);
    CHECK(voxel(b, 5, 6, 7) == 9844.0F);
    CHECK(sum(b) == 284166082.0);
    const auto c = read(*moved);
    CHECK(voxel(c, 10, 13, 11) == 8117.22021484375F);
    CHECK(c.volume.grid.affine[1][3] == -47.97758483886719);
    const auto d = read(*tiny);
    CHECK(d.volume.grid.affine == Affine{{{1, 0, 0, 0}, {0, 3, 0, 0}, {0, 0, 2, 0}}});
    CHECK(voxel(d, 1, 0, 0) == 255.0F);
    CHECK(voxel(d, 3, 0, 0) == 0.0F);
    CHECK(sum(d) == 7650.0);
}

TEST_CASE("conformance: header and voxel pairs, named by either half") {
    const auto header = conformance("air.hdr.gz");
    const auto voxels = conformance("air.img.gz");
    const auto header2 = conformance("air2.hdr.gz");
    const auto voxels2 = conformance("air2.img.gz");
    if (!header || !voxels || !header2 || !voxels2)
        return;
    const auto a = read(*header);
    CHECK(a.volume.grid.size == std::array<std::int64_t, 3>{79, 67, 64});
    CHECK(voxel(a, 40, 30, 32) == 31.940162658691406F);
    CHECK(voxel(a, 39, 33, 20) == 67.87284851074219F);
    for (const auto& other : {*voxels, *header2, *voxels2}) {
        const auto b = read(other);
        CHECK(b.volume.voxels == a.volume.voxels);
        CHECK(b.volume.grid == a.volume.grid);
    }
    CHECK(read(*header2).geometry.version == 2);
}

TEST_CASE("conformance: what is no single scalar volume is rejected with its own code") {
    const std::vector<std::pair<const char*, ErrorCode>> rejected = {
        {"example4d.nii.gz", ErrorCode::nifti_not_3d}, {"example_nifti2.nii.gz", ErrorCode::nifti_not_3d},
        {"functional.nii", ErrorCode::nifti_not_3d},   {"5D_small.nii", ErrorCode::nifti_not_3d},
        {"5D_zeros.nii.gz", ErrorCode::nifti_not_3d},  {"row_major.dconn.nii", ErrorCode::nifti_not_3d},
        {"analyze.hdr", ErrorCode::not_nifti},         {"not-nifti.nii", ErrorCode::not_nifti},
        {"nifti1.hdr", ErrorCode::file_not_found}, // headers without their .img
        {"nifti2.hdr", ErrorCode::file_not_found},
    };
    for (const auto& [file, code] : rejected) {
        const auto path = conformance(file);
        if (!path)
            return;
        const auto result = read_nifti(*path);
        INFO(file);
        REQUIRE_FALSE(result.ok());
        INFO(result.error().message);
        CHECK(name(result.error().code) == name(code));
        CHECK(result.error().message.find(file) != std::string::npos);
        CHECK(name(read_nifti_labels(*path).error().code) == name(code));
    }
}

TEST_CASE("conformance: labels written with a file's geometry read back with the same geometry") {
    const test::TemporaryFolder folder;
    for (const char* file :
         {"avg152T1_LR_nifti.nii", "avg152T1_LR_nifti2.nii.gz", "big.nii.gz", "little.nii.gz", "with_extension.nii.gz",
          "air.hdr.gz", "air2.hdr.gz", "anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz"}) {
        const auto path = conformance(file);
        if (!path)
            return;
        INFO(file);
        const auto original = read(*path);
        LabelMap labels{original.volume.grid, std::vector<std::uint8_t>(original.volume.voxels.size())};
        for (std::size_t i = 0; i < labels.labels.size(); ++i)
            labels.labels[i] = static_cast<std::uint8_t>(i % 5);
        for (const char* output : {"labels.nii", "labels.nii.gz"}) {
            REQUIRE_OK(write_nifti_labels(folder / output, labels, original.geometry, "labels", true));
            const auto again = read_nifti_labels(folder / output);
            REQUIRE_OK(again);
            CHECK(again->geometry == original.geometry);
            CHECK(again->map.grid == original.volume.grid);
            CHECK(again->map.labels == labels.labels);
            CHECK(again->storage.datatype == NiftiDatatype::uint8);
        }
    }
}
