// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "imaging/geometry.h"
#include "nifti_files.h"

#include <cmath>
#include <numbers>

using namespace mfres;
using test::read;
using test::Recipe;

TEST_CASE("metres and micrometres become millimetres, the stored geometry stays") {
    const test::TemporaryFolder folder;
    for (const auto& [unit, factor] :
         std::vector<std::pair<int, double>>{{0, 1.0}, {1, 1000.0}, {2, 1.0}, {3, 0.001}}) {
        Recipe recipe;
        recipe.units = unit + 8; // seconds along the fourth axis
        test::save(folder / "x.nii", recipe.file());
        const auto result = read(folder / "x.nii");
        CHECK(result.volume.grid.affine[0][0] == -factor);
        CHECK(result.volume.grid.affine[1][3] == 4 * factor);
        CHECK(result.geometry.srow[0][0] == -1.0);
        CHECK(result.geometry.xyzt_units == unit + 8);
    }
}

TEST_CASE("qform: quaternion, offset, voxel sizes and handedness") {
    const test::TemporaryFolder folder;
    Recipe recipe;
    recipe.sform_code = 0;
    recipe.qform_code = 1;
    const double half = 15.0 * std::numbers::pi / 180.0;
    recipe.quatern = {0, 0, std::sin(half)}; // 30 degrees about z
    recipe.qoffset = {1, 2, 3};
    recipe.pixdim = {-1, 2, 3, 4, 0, 0, 0, 0};
    for (const int version : {1, 2}) {
        recipe.version = version;
        test::save(folder / "x.nii", recipe.file());
        const auto affine = read(folder / "x.nii").volume.grid.affine;
        const double c = std::cos(2 * half);
        const double s = std::sin(2 * half);
        const Affine expected = {{{2 * c, -3 * s, 0, 1}, {2 * s, 3 * c, 0, 2}, {0, 0, -4, 3}}};
        for (int row = 0; row < 3; ++row)
            for (int axis = 0; axis < 4; ++axis)
                CHECK(affine[row][axis] == Approx(expected[row][axis]).margin(1e-6));
    }
    recipe.pixdim[0] = 0; // stands for 1
    test::save(folder / "x.nii", recipe.file());
    CHECK(read(folder / "x.nii").volume.grid.affine[2][2] == Approx(4.0));
}

TEST_CASE("sform and qform: which one is used") {
    const test::TemporaryFolder folder;
    Recipe recipe;
    recipe.qform_code = 1;
    recipe.quatern = {0, 0, 1}; // diag(-1, -1, 1), as the sform
    recipe.qoffset = {0, 4, 0.49};
    const auto with = [&](AffineSource use) {
        test::save(folder / "x.nii", recipe.file());
        return read_nifti(folder / "x.nii", {.use = use});
    };
    const auto close = with(AffineSource::automatic);
    REQUIRE_OK(close);
    CHECK(close->volume.grid.affine[2][3] == 0.0); // the sform's
    recipe.qoffset[2] = 0.51;
    REQUIRE_CODE(with(AffineSource::automatic), qform_sform_disagree);
    const auto sform = with(AffineSource::sform);
    REQUIRE_OK(sform);
    CHECK(sform->volume.grid.affine[2][3] == 0.0);
    const auto qform = with(AffineSource::qform);
    REQUIRE_OK(qform);
    CHECK(qform->volume.grid.affine[2][3] == Approx(0.51));
    recipe.qform_code = 0; // then the quaternion does not count
    REQUIRE_OK(with(AffineSource::automatic));
    REQUIRE_CODE(with(AffineSource::qform), orientation_missing);
    recipe.qform_code = 1;
    recipe.sform_code = 0;
    const auto only = with(AffineSource::automatic);
    REQUIRE_OK(only);
    CHECK(only->volume.grid.affine[2][3] == Approx(0.51));
    REQUIRE_CODE(with(AffineSource::sform), orientation_missing);
}

TEST_CASE("geometry of random grids survives writing and reading bit for bit") {
    const test::TemporaryFolder folder;
    Random random(11);
    for (int round = 0; round < 40; ++round) {
        // A rotation from a random quaternion, a random reflection, anisotropic voxels.
        NiftiGeometry geometry;
        geometry.version = 1 + round % 2;
        const auto stored = [&](double value) {
            return geometry.version == 1 ? static_cast<double>(static_cast<float>(value)) : value;
        };
        std::array<double, 4> q{};
        double length = 0;
        for (auto& part : q) {
            part = random.normal();
            length += part * part;
        }
        for (int i = 0; i < 3; ++i) {
            geometry.quatern[i] = stored(q[i + 1] / std::sqrt(length) * (q[0] < 0 ? -1 : 1));
            geometry.qoffset[i] = stored(random.uniform(-200, 200));
        }
        geometry.pixdim = {round % 3 == 0 ? -1.0 : 1.0,
                           stored(random.uniform(0.3, 4)),
                           stored(random.uniform(0.3, 4)),
                           stored(random.uniform(0.3, 4)),
                           stored(random.uniform()),
                           0,
                           1,
                           2};
        geometry.qform_code = 1 + round % 4;
        geometry.xyzt_units = 10;
        for (auto& row : geometry.srow) // unused, but kept
            for (auto& value : row)
                value = stored(random.uniform(-1, 1));
        LabelMap labels{{{3, 4, 5}, {}}, std::vector<std::uint8_t>(60, 1)};
        REQUIRE_OK(write_nifti_labels(folder / "x.nii.gz", labels, geometry, "", true));
        const auto once = read_nifti_labels(folder / "x.nii.gz");
        REQUIRE_OK(once);
        CHECK(once->geometry == geometry);
        CHECK(shear_degrees(once->map.grid.affine) < 0.01);
        CHECK((determinant(once->map.grid.affine) < 0) == (geometry.pixdim[0] < 0));

        // And a grid of our own: its sform is exact, its qform says the same.
        Grid grid = once->map.grid;
        for (auto& row : grid.affine)
            for (auto& value : row)
                value = static_cast<double>(static_cast<float>(value));
        const NiftiGeometry own = geometry_of(grid);
        REQUIRE_OK(write_nifti_labels(folder / "y.nii", {grid, labels.labels}, own, "", true));
        const auto automatic = read_nifti_labels(folder / "y.nii");
        REQUIRE_OK(automatic);
        CHECK(automatic->map.grid == grid);
        CHECK(automatic->geometry == own);
        const auto by_qform = read_nifti_labels(folder / "y.nii", {.use = AffineSource::qform});
        REQUIRE_OK(by_qform);
        CHECK(max_corner_distance(by_qform->map.grid, grid) < 1e-3);
    }
}

TEST_CASE("a sform sheared by 0.9 degrees is still accepted") {
    const test::TemporaryFolder folder;
    Recipe recipe;
    recipe.srow[1] = std::tan(0.9 / 57.29578);
    test::save(folder / "x.nii", recipe.file());
    REQUIRE_OK(read_nifti(folder / "x.nii"));
}
