#include "core/file.h"
#include "core/random.h"
#include "imaging/geometry.h"
#include "imaging/nifti/gzip.h"
#include "imaging/nifti/nifti.h"
#include "nifti_bytes.h"
#include "support/catch.h"
#include "support/paths.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <optional>

using namespace mfres;
using test::Bytes;
using test::Recipe;

namespace {

NiftiVolume read(const std::filesystem::path& path, const NiftiReadOptions& options = {}) {
    auto result = read_nifti(path, options);
    REQUIRE_OK(result);
    return std::move(result).value();
}

float voxel(const NiftiVolume& read, std::int64_t i, std::int64_t j, std::int64_t k) {
    const auto& size = read.volume.grid.size;
    return read.volume.voxels[static_cast<std::size_t>(i + size[0] * (j + size[1] * k))];
}

double sum(const NiftiVolume& read) {
    return std::accumulate(read.volume.voxels.begin(), read.volume.voxels.end(), 0.0);
}

Bytes zipped(const Bytes& content) {
    auto result = gzip(content);
    REQUIRE_OK(result);
    return std::move(result).value();
}

Bytes content_of(const std::filesystem::path& path) {
    auto bytes = read_file(path, 1U << 30U);
    REQUIRE_OK(bytes);
    return std::move(bytes).value();
}

/// A conformance file, or nothing where the shared data is absent.
std::optional<std::filesystem::path> conformance(const std::string& name) {
    return test::shared_data("data/nifti/" + name);
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

TEST_CASE("header extensions of any length are passed over") {
    const test::TemporaryFolder folder;
    for (const double offset : {352.0, 353.0, 736.0, 4576.0, 700001.0}) {
        Recipe recipe;
        recipe.vox_offset = offset;
        const Bytes file = recipe.file();
        test::save(folder / "x.nii", file);
        test::save(folder / "y.nii.gz", zipped(file));
        CHECK(read(folder / "x.nii").volume.voxels[0] == 1.0F);
        CHECK(read(folder / "y.nii.gz").volume.voxels[119] == 120.0F);
        CHECK(read(folder / "y.nii.gz").storage.vox_offset == static_cast<std::int64_t>(offset));
    }
}

TEST_CASE("pairs work in any mixture of compression, case, and with an offset in the .img") {
    Recipe recipe;
    recipe.magic = std::string("ni1\0", 4);
    recipe.vox_offset = 16;
    const Bytes header = recipe.header();
    Bytes voxels(16);
    const Bytes data = recipe.data();
    voxels.insert(voxels.end(), data.begin(), data.end());
    for (const auto& [header_name, voxels_name] :
         std::vector<std::pair<std::string, std::string>>{{"x.hdr", "x.img"},
                                                          {"x.hdr.gz", "x.img"},
                                                          {"x.hdr", "x.img.gz"},
                                                          {"x.hdr.gz", "x.img.gz"},
                                                          {"X.HDR", "X.IMG"},
                                                          {"X.HDR.GZ", "X.IMG.GZ"}}) {
        const test::TemporaryFolder folder;
        const auto store = [&](const std::string& file, const Bytes& bytes) {
            test::save(folder / file, file.ends_with("z") || file.ends_with("Z") ? zipped(bytes) : bytes);
        };
        store(header_name, header);
        store(voxels_name, voxels);
        for (const auto& named : {header_name, voxels_name}) {
            INFO(header_name << " and " << voxels_name << ", named " << named);
            CHECK(read(folder / named).volume.voxels[119] == 120.0F);
        }
    }
}

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

TEST_CASE("sform and qform: who is believed") {
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
