// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "core/try.h"
#include "imaging/case.h"
#include "imaging/nifti/gzip.h"
#include "nifti_bytes.h"
#include "support/catch.h"
#include "support/paths.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

using namespace mfres;
using test::Bytes;
using test::Recipe;

namespace {

constexpr std::array<const char*, 4> suffixes = {"_t1", "_t1ce", "_t2", "_flair"};

void touch(const std::filesystem::path& path) {
    std::filesystem::create_directories(path.parent_path());
    test::save(path, {});
}

void touch_case(const std::filesystem::path& folder) {
    for (const char* suffix : suffixes)
        touch(folder / (folder.filename().string() + suffix + ".nii.gz"));
}

bool mentions(const Error& error, const std::string& part) {
    return error.message.find(part) != std::string::npos;
}

/// Four valid, different 4x5x6 modalities and a segmentation; change a recipe and save again to spoil the case.
struct CaseOnDisk {
    test::TemporaryFolder folder;
    std::array<Recipe, 4> recipes;
    Recipe segmentation;

    CaseOnDisk() {
        for (std::size_t slot = 0; slot < 4; ++slot)
            for (int i = 0; i < 120; ++i)
                recipes[slot].values.push_back(static_cast<double>(i) * static_cast<double>(slot + 1));
        segmentation.datatype = 2;
        segmentation.bitpix = 8;
        for (int i = 0; i < 120; ++i)
            segmentation.values.push_back(i % 5);
    }

    CaseFiles save() const {
        CaseFiles files;
        files.id = "p1";
        for (std::size_t slot = 0; slot < 4; ++slot) {
            files.modalities[slot] = folder / ("p1" + std::string(suffixes[slot]) + ".nii");
            test::save(files.modalities[slot], recipes[slot].file());
        }
        files.segmentation = folder / "p1_seg.nii";
        test::save(*files.segmentation, segmentation.file());
        return files;
    }

    template <typename Change>
    void each(const Change& change) {
        for (auto& recipe : recipes)
            change(recipe);
        change(segmentation);
    }

    Result<Case> load(const CaseOptions& options = {}) const { return load_case(save(), options); }
};

Case loaded(Result<Case> result) {
    REQUIRE_OK(result);
    return std::move(result).value();
}

} // namespace

TEST_CASE("find_case: BraTS namings, suffix in any case, everything else ignored") {
    const test::TemporaryFolder folder;
    const auto old_style = folder / "BraTS19_CBICA_AAB_1";
    touch_case(old_style);
    touch(old_style / "BraTS19_CBICA_AAB_1_seg.nii.gz");
    touch(old_style / "notes.txt");
    touch(old_style / "BraTS19_CBICA_AAB_1_t1_mask.nii.gz");
    touch(old_style / "._BraTS19_CBICA_AAB_1_t1.nii.gz");
    touch(old_style / "BraTS19_CBICA_AAB_1_t1.json");
    auto files = find_case(old_style);
    REQUIRE_OK(files);
    CHECK(files->id == "BraTS19_CBICA_AAB_1");
    for (std::size_t slot = 0; slot < 4; ++slot)
        CHECK(files->modalities[slot].filename() == "BraTS19_CBICA_AAB_1" + std::string(suffixes[slot]) + ".nii.gz");
    REQUIRE(files->segmentation);
    CHECK(files->segmentation->filename() == "BraTS19_CBICA_AAB_1_seg.nii.gz");

    const auto new_style = folder / "BraTS-GLI-00005-100";
    for (const char* suffix : {"-T1N.NII", "-t1c.nii", "-t2w.nii.gz", "-T2f.nii.GZ"})
        touch(new_style / ("BraTS-GLI-00005-100" + std::string(suffix)));
    files = find_case(new_style / "");
    REQUIRE_OK(files);
    CHECK(files->id == "BraTS-GLI-00005-100");
    CHECK(files->modalities[0].filename() == "BraTS-GLI-00005-100-T1N.NII");
    CHECK(files->modalities[1].filename() == "BraTS-GLI-00005-100-t1c.nii");
    CHECK(files->modalities[2].filename() == "BraTS-GLI-00005-100-t2w.nii.gz");
    CHECK(files->modalities[3].filename() == "BraTS-GLI-00005-100-T2f.nii.GZ");
    CHECK_FALSE(files->segmentation);
}

TEST_CASE("find_case: missing and doubled modalities are named") {
    const test::TemporaryFolder folder;
    touch_case(folder / "a");
    std::filesystem::remove(folder / "a/a_t2.nii.gz");
    std::filesystem::remove(folder / "a/a_t1.nii.gz");
    const auto missing = find_case(folder / "a");
    REQUIRE_CODE(missing, modality_missing);
    CHECK(mentions(missing.error(), "for t1, t2;"));
    CHECK(mentions(missing.error(), "a_flair.nii.gz, a_t1ce.nii.gz"));

    touch_case(folder / "b");
    touch(folder / "b/b_t1ce.nii");
    const auto doubled = find_case(folder / "b");
    REQUIRE_CODE(doubled, modality_ambiguous);
    CHECK(mentions(doubled.error(), "b_t1ce.nii and b_t1ce.nii.gz"));
    std::filesystem::remove(folder / "b/b_t1ce.nii");
    touch(folder / "b/other-t2f.nii.gz"); // the other naming's FLAIR
    REQUIRE_CODE(find_case(folder / "b"), modality_ambiguous);
    std::filesystem::remove(folder / "b/other-t2f.nii.gz");
    touch(folder / "b/b_seg.nii");
    touch(folder / "b/b-seg.nii");
    REQUIRE_CODE(find_case(folder / "b"), modality_ambiguous);

    std::filesystem::create_directory(folder / "empty");
    REQUIRE_CODE(find_case(folder / "empty"), modality_missing);
    REQUIRE_CODE(find_case(folder / "none"), file_not_found);
    REQUIRE_CODE(find_case(folder / "a/a_flair.nii.gz"), invalid_argument);
}

TEST_CASE("find_cases: a single case, flat and grouped folders, sorted by id") {
    const test::TemporaryFolder folder;
    touch_case(folder / "set/HGG/c2");
    touch_case(folder / "set/HGG/c9");
    touch_case(folder / "set/LGG/c1");
    touch(folder / "set/name_mapping.csv");
    touch(folder / "set/survival_data.csv");
    touch(folder / "set/.cache/x_t1.nii.gz");
    std::filesystem::create_directories(folder / "set/logs");
    const auto ids = [](const std::filesystem::path& root) {
        const auto cases = find_cases(root);
        REQUIRE_OK(cases);
        std::vector<std::string> result;
        for (const auto& files : *cases)
            result.push_back(files.id);
        return result;
    };
    CHECK(ids(folder / "set") == std::vector<std::string>{"c1", "c2", "c9"});
    CHECK(ids(folder / "set/HGG") == std::vector<std::string>{"c2", "c9"});
    CHECK(ids(folder / "set/LGG/c1") == std::vector<std::string>{"c1"});
    CHECK(ids(folder.path()) == std::vector<std::string>{"c1", "c2", "c9"});

    touch_case(folder / "set/LGG/c2");
    REQUIRE_CODE(find_cases(folder / "set"), invalid_argument);
    std::filesystem::remove_all(folder / "set/LGG/c2");
    std::filesystem::remove(folder / "set/HGG/c9/c9_t1.nii.gz");
    REQUIRE_CODE(find_cases(folder / "set"), modality_missing);
    REQUIRE_CODE(find_cases(folder / "set/logs"), file_not_found);
    REQUIRE_CODE(find_cases(folder / "nowhere"), file_not_found);
}

TEST_CASE("a good case loads on any number of threads with the same result") {
    const CaseOnDisk disk;
    const Case one = loaded(disk.load({.threads = 1}));
    CHECK(one.id == "p1");
    CHECK(one.original_grid == Grid{{4, 5, 6}, {{{-1, 0, 0, 0}, {0, -1, 0, 4}, {0, 0, 1, 0}}}});
    CHECK(one.orientation.is_canonical());
    CHECK_FALSE(one.resampled);
    CHECK(one.warnings.empty());
    for (std::size_t slot = 0; slot < 4; ++slot)
        CHECK(one.scans[slot].volume().voxels[10] == 10.0F * static_cast<float>(slot + 1));
    for (const int threads : {0, 2, 3, 4, 16}) {
        const Case many = loaded(disk.load({.threads = threads}));
        for (std::size_t slot = 0; slot < 4; ++slot)
            CHECK(same_intensities(many.scans[slot], one.scans[slot]));
    }
}

TEST_CASE("every rejection that concerns the files of a case has its code and names the file") {
    const auto rejected = [](const CaseOnDisk& disk, const CaseOptions& options = {}) { return disk.load(options); };

    SECTION("a file is missing") {
        const CaseOnDisk disk;
        CaseFiles files = disk.save();
        std::filesystem::remove(files.modalities[2]);
        const auto result = load_case(files);
        REQUIRE_CODE(result, file_not_found);
        CHECK(mentions(result.error(), "p1_t2.nii"));
    }
    SECTION("two modalities are the same file, or have the same voxels") {
        CaseOnDisk disk;
        CaseFiles files = disk.save();
        files.modalities[3] = files.modalities[1];
        REQUIRE_CODE(load_case(files), modality_misnamed); // p1_t1ce.nii as FLAIR
        CaseOptions any_name;
        any_name.accept = {ErrorCode::modality_misnamed};
        REQUIRE_CODE(load_case(files, any_name), modality_duplicate);
        disk.recipes[2].values = disk.recipes[0].values;
        const auto result = rejected(disk);
        REQUIRE_CODE(result, modality_duplicate);
        CHECK(mentions(result.error(), "(t1)"));
        CHECK(mentions(result.error(), "(t2)"));
        disk.recipes[2].values[77] += 1; // one voxel makes the difference
        REQUIRE_OK(rejected(disk));
    }
    SECTION("grids of different size") {
        CaseOnDisk disk;
        disk.recipes[1].dim = {3, 5, 4, 6, 1, 1, 1, 1};
        const auto result = rejected(disk);
        REQUIRE_CODE(result, grid_size_mismatch);
        CHECK(mentions(result.error(), "p1_t1ce.nii has 5x4x6"));
        CHECK(mentions(result.error(), "4x5x6"));
    }
    SECTION("grids more than 0.1 mm apart") {
        CaseOnDisk disk;
        disk.recipes[3].srow[11] = 0.09;
        REQUIRE_OK(rejected(disk));
        disk.recipes[3].srow[11] = 0.11;
        const auto result = rejected(disk);
        REQUIRE_CODE(result, grid_position_mismatch);
        CHECK(mentions(result.error(), "p1_flair.nii"));
    }
    SECTION("grids that agree at one corner but not at the others") {
        CaseOnDisk disk;
        disk.recipes[3].srow[10] = 1.03; // 0.15 mm at the far end
        REQUIRE_CODE(rejected(disk), grid_position_mismatch);
    }
    SECTION("one modality in another orientation") {
        CaseOnDisk disk;
        disk.recipes[3].srow = {1, 0, 0, -3, 0, -1, 0, 4, 0, 0, 1, 0};
        REQUIRE_CODE(rejected(disk), grid_position_mismatch);
    }
    SECTION("sform and qform disagree, unless one is chosen") {
        CaseOnDisk disk;
        disk.each([](Recipe& r) {
            r.qform_code = 1;
            r.quatern = {0, 0, 1};
            r.qoffset = {0, 4, 0.6};
        });
        REQUIRE_CODE(rejected(disk), qform_sform_disagree);
        CHECK(loaded(rejected(disk, {.use = AffineSource::sform})).original_grid.affine[2][3] == 0.0);
        CHECK(loaded(rejected(disk, {.use = AffineSource::qform})).original_grid.affine[2][3] == Approx(0.6));
    }
    SECTION("no orientation") {
        CaseOnDisk disk;
        disk.recipes[0].sform_code = 0;
        REQUIRE_CODE(rejected(disk), orientation_missing);
    }
    SECTION("singular affine") {
        CaseOnDisk disk;
        disk.recipes[1].srow.fill(0);
        REQUIRE_CODE(rejected(disk), affine_singular);
    }
    SECTION("sheared affine") {
        CaseOnDisk disk;
        disk.each([](Recipe& r) { r.srow[1] = std::tan(1.5 / 57.29578); });
        REQUIRE_CODE(rejected(disk), affine_sheared);
    }
    SECTION("turned by 45 degrees") {
        CaseOnDisk disk;
        const double h = std::sqrt(0.5);
        disk.each([&](Recipe& r) { r.srow = {h, -h, 0, 0, h, h, 0, 0, 0, 0, 1, 0}; });
        REQUIRE_CODE(rejected(disk), orientation_oblique);
    }
    SECTION("voxel size outside 1 mm +- 5 %") {
        CaseOnDisk disk;
        for (const double mm : {0.94, 0.951, 1.049, 1.06, 2.0}) {
            const bool fine = std::abs(mm - 1.0) < 0.05;
            disk.each([&](Recipe& r) { r.srow[10] = mm; });
            INFO(mm);
            const auto result = rejected(disk);
            if (fine) {
                REQUIRE_OK(result);
            } else {
                REQUIRE_CODE(result, voxel_size_out_of_range);
                REQUIRE_OK(rejected(disk, {.resample = true}));
            }
        }
        REQUIRE_OK(rejected(disk, {.max_voxel_mm = 2.0}));
    }
    SECTION("not finite") {
        CaseOnDisk disk;
        disk.recipes[2].values[5] = std::numeric_limits<double>::quiet_NaN();
        const auto result = rejected(disk);
        REQUIRE_CODE(result, voxel_not_finite);
        CHECK(mentions(result.error(), "p1_t2.nii"));
        CHECK(mentions(result.error(), "NaN in 1"));
    }
    SECTION("constant") {
        CaseOnDisk disk;
        disk.recipes[3].values.assign(120, 7);
        const auto result = rejected(disk);
        REQUIRE_CODE(result, volume_constant);
        CHECK(mentions(result.error(), "120 voxels"));
        CHECK(mentions(result.error(), "p1_flair.nii is 7"));
    }
    SECTION("4-D, complex, too large for the cap") {
        CaseOnDisk disk;
        disk.recipes[1].dim = {4, 4, 5, 3, 2, 1, 1, 1};
        REQUIRE_CODE(rejected(disk), nifti_not_3d);
        CaseOnDisk complex;
        complex.recipes[1].datatype = 32;
        complex.recipes[1].bitpix = 64;
        REQUIRE_CODE(rejected(complex), nifti_datatype);
        REQUIRE_CODE(rejected(CaseOnDisk{}, {.max_bytes = 800}), nifti_too_large);
    }
    SECTION("options that make no sense") {
        REQUIRE_CODE(rejected(CaseOnDisk{}, {.min_voxel_mm = 2.0, .max_voxel_mm = 1.0}), invalid_argument);
        REQUIRE_CODE(rejected(CaseOnDisk{}, {.min_voxel_mm = 0.0}), invalid_argument);
        REQUIRE_CODE(rejected(CaseOnDisk{}, {.max_voxel_mm = std::nan("")}), invalid_argument);
    }
}

TEST_CASE("with several things wrong, the first modality in order speaks, on any number of threads") {
    CaseOnDisk disk;
    disk.recipes[1].values.assign(120, 7);
    disk.recipes[2].sform_code = 0;
    disk.recipes[3].dim[0] = 9;
    for (const int threads : {1, 2, 4})
        for (int round = 0; round < 5; ++round)
            REQUIRE_CODE(disk.load({.threads = threads}), volume_constant);
    disk.recipes[0].datatype = 128;
    REQUIRE_CODE(disk.load({.threads = 4}), nifti_datatype);
}

TEST_CASE("the same anatomy in 48 orientations loads identically, and labels land where they were") {
    // The world box of the default recipe: x -3..0, y 0..4, z 0..5. Values depend on the world position only.
    const auto intensity = [](const Point& p, std::size_t slot) {
        return std::round(p[0] * 7 + p[1] * 50 + p[2] * 500) * static_cast<double>(slot + 1) + 3;
    };
    const auto label = [](const Point& p) { return static_cast<double>(std::lround(-p[0] + 4 * p[1] + 20 * p[2])); };
    const std::array<double, 3> low = {-3, 0, 0};
    const std::array<double, 3> extent = {4, 5, 6};

    std::optional<Case> reference;
    std::optional<LabelMap> reference_labels;
    std::set<std::array<double, 12>> affines;
    std::array<int, 3> world_axis = {0, 1, 2};
    do
        for (int signs = 0; signs < 8; ++signs) {
            CaseOnDisk disk;
            Recipe turned;
            turned.srow.fill(0);
            for (int axis = 0; axis < 3; ++axis) {
                const int w = world_axis[axis];
                const bool backwards = ((signs >> axis) & 1) != 0;
                turned.dim[axis + 1] = static_cast<std::int64_t>(extent[w]);
                turned.srow[static_cast<std::size_t>(4 * w + axis)] = backwards ? -1 : 1;
                turned.srow[static_cast<std::size_t>(4 * w + 3)] = backwards ? low[w] + extent[w] - 1 : low[w];
            }
            affines.insert(turned.srow);
            const Affine affine = {{{turned.srow[0], turned.srow[1], turned.srow[2], turned.srow[3]},
                                    {turned.srow[4], turned.srow[5], turned.srow[6], turned.srow[7]},
                                    {turned.srow[8], turned.srow[9], turned.srow[10], turned.srow[11]}}};
            disk.each([&](Recipe& r) {
                r.dim = turned.dim;
                r.srow = turned.srow;
                r.values.clear();
            });
            for (std::int64_t k = 0; k < turned.dim[3]; ++k)
                for (std::int64_t j = 0; j < turned.dim[2]; ++j)
                    for (std::int64_t i = 0; i < turned.dim[1]; ++i) {
                        const Point p =
                            world(affine, {static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)});
                        for (std::size_t slot = 0; slot < 4; ++slot)
                            disk.recipes[slot].values.push_back(intensity(p, slot));
                        disk.segmentation.values.push_back(label(p));
                    }
            const CaseFiles files = disk.save();
            const Case turned_case = loaded(load_case(files));
            auto labels = load_segmentation(files, turned_case);
            REQUIRE_OK(labels);
            if (!reference) {
                reference = turned_case;
                reference_labels = *labels;
                CHECK(turned_case.scans[0].grid() == Grid{{4, 5, 6}, {{{-1, 0, 0, 0}, {0, -1, 0, 4}, {0, 0, 1, 0}}}});
            }
            for (std::size_t slot = 0; slot < 4; ++slot) {
                CHECK(same_intensities(turned_case.scans[slot], reference->scans[slot]));
                CHECK(turned_case.scans[slot].grid() == reference->scans[slot].grid());
            }
            CHECK(labels->labels == reference_labels->labels);
            CHECK(labels->grid == turned_case.scans[0].grid());

            const LabelMap restored = restore_labels(turned_case, std::move(labels).value());
            CHECK(restored.grid == Grid{{turned.dim[1], turned.dim[2], turned.dim[3]}, affine});
            CHECK(std::equal(restored.labels.begin(), restored.labels.end(), disk.segmentation.values.begin(),
                             disk.segmentation.values.end()));

            // Through a file: exactly the input's geometry and labels.
            const auto output = disk.folder / "labels.nii.gz";
            REQUIRE_OK(write_nifti_labels(output, restored, turned_case.geometry, "labels", false));
            const auto written = read_nifti_labels(output);
            REQUIRE_OK(written);
            CHECK(written->geometry == turned_case.geometry);
            CHECK(written->map.grid == turned_case.original_grid);
            CHECK(written->map.labels == restored.labels);
        }
    while (std::next_permutation(world_axis.begin(), world_axis.end()));
    CHECK(affines.size() == 48);
}

TEST_CASE("resampling to 1 mm is said aloud and labels come back onto the input's grid") {
    CaseOnDisk disk;
    disk.each([](Recipe& r) { r.srow = {0, 0, 2, -5, 2, 0, 0, -6, 0, 3, 0, 7}; }); // P-A, I-S, L-R in 2 x 3 x 2 mm
    const CaseFiles files = disk.save();
    const Case resampled = loaded(load_case(files, {.resample = true, .threads = 2}));
    CHECK(resampled.resampled);
    REQUIRE(resampled.warnings.size() == 1);
    CHECK(resampled.warnings[0].find("1 mm") != std::string::npos);
    CHECK(resampled.canonical_grid.size == std::array<std::int64_t, 3>{6, 4, 5});
    for (const auto& scan : resampled.scans) {
        CHECK(scan.grid().size == std::array<std::int64_t, 3>{12, 8, 15});
        const Point mm = voxel_size(scan.grid().affine);
        for (int axis = 0; axis < 3; ++axis)
            CHECK(mm[axis] == Approx(1.0));
    }
    // T1 grows by 1 per i, 4 per j, 20 per k of the input, that is linearly; trilinear interpolation keeps that. The
    // canonical voxel (6, 4, 7) lies at input index k = 2.25, i = 1.25 (both axes run backwards), j = 2.
    const Volume t1 = resampled.scans[0].volume();
    CHECK(t1.voxels[6 + 12 * (4 + 8 * 7)] == Approx(1.25 + 4 * 2 + 20 * 2.25));

    const auto labels = load_segmentation(files, resampled);
    REQUIRE_OK(labels);
    CHECK(labels->grid == t1.grid);
    const LabelMap restored = restore_labels(resampled, *labels);
    CHECK(restored.grid == resampled.original_grid);
    CHECK(std::equal(restored.labels.begin(), restored.labels.end(), disk.segmentation.values.begin(),
                     disk.segmentation.values.end()));
}

namespace {

/// Four heads of 0.5 x 0.5 x 0.7 mm in a background: one of whole numbers, one with fractions, one below 0, one noisy.
std::array<Volume, 4> fine_heads() {
    Random random(5);
    const Grid grid{{64, 60, 56}, {{{-0.5, 0, 0, 0}, {0, -0.5, 0, 9}, {0, 0, 0.7, 3}}}};
    std::array<Volume, 4> heads;
    for (std::size_t slot = 0; slot < 4; ++slot) {
        const float background = slot == 2 ? -70.0F : 0.0F;
        heads[slot] = {grid, {}};
        for (std::int64_t k = 0; k < 56; ++k)
            for (std::int64_t j = 0; j < 60; ++j)
                for (std::int64_t i = 0; i < 64; ++i) {
                    const double apart = std::hypot(static_cast<double>(i - 30), static_cast<double>(j - 31),
                                                    1.2 * static_cast<double>(k - 27));
                    const double value = apart < 22.0 ? random.uniform(10.0, 900.0) : 0.0;
                    const double noise = slot == 3 ? random.uniform(-1e-5, 1e-5) : 0.0;
                    const double stored = slot == 0 || slot == 2 ? std::floor(value) : value + noise;
                    heads[slot].voxels.push_back(static_cast<float>(stored) + background);
                }
    }
    return heads;
}

/// Less than what all four of them might take, more than what two of them do.
constexpr std::int64_t little_memory = 3'000'000;

void check_equal(const Case& singly, const Case& together) {
    CHECK(singly.resampled);
    CHECK(singly.loading_bytes <= little_memory);
    CHECK(singly.id == together.id);
    CHECK(singly.sources == together.sources);
    CHECK(singly.grid_source == together.grid_source);
    CHECK(singly.geometry == together.geometry);
    CHECK(singly.original_grid == together.original_grid);
    CHECK(singly.orientation == together.orientation);
    CHECK(singly.canonical_grid == together.canonical_grid);
    CHECK(singly.scan_grid == together.scan_grid);
    CHECK(singly.warnings == together.warnings);
    for (std::size_t slot = 0; slot < 4; ++slot) {
        CHECK(singly.scans[slot].grid() == together.scans[slot].grid());
        CHECK(singly.scans[slot].background() == together.scans[slot].background());
        CHECK(singly.scans[slot].kept_begin() == together.scans[slot].kept_begin());
        CHECK(singly.scans[slot].kept_size() == together.scans[slot].kept_size());
        CHECK(singly.scans[slot].bytes() == together.scans[slot].bytes());
        CHECK(same_intensities(singly.scans[slot], together.scans[slot]));
    }
}

} // namespace

TEST_CASE("contrasts that are read one by one make the case that they make all at once") {
    const test::TemporaryFolder folder;
    const std::array<Volume, 4> heads = fine_heads();
    const std::array<Orientation, 7> orientations = {{{{0, 1, 2}, {}},
                                                      {{0, 1, 2}, {true, true, true}},
                                                      {{0, 2, 1}, {false, false, true}},
                                                      {{1, 0, 2}, {true, false, false}},
                                                      {{1, 2, 0}, {false, true, false}},
                                                      {{2, 0, 1}, {true, false, true}},
                                                      {{2, 1, 0}, {false, true, true}}}};
    std::optional<Case> first;
    for (std::size_t turn = 0; turn < orientations.size(); ++turn) {
        INFO("orientation " << turn);
        CaseFiles files;
        files.id = "fine";
        std::array<VolumeView, 4> views;
        std::array<Volume, 4> turned;
        for (std::size_t slot = 0; slot < 4; ++slot) {
            turned[slot] = reorient(heads[slot], orientations[turn]);
            views[slot] = VolumeView::of(turned[slot]);
            files.modalities[slot] = folder / (text(turn, suffixes[slot], turn % 2 == 0 ? ".nii" : ".nii.gz"));
            REQUIRE_OK(write_nifti(files.modalities[slot], turned[slot], geometry_of(turned[slot].grid),
                                   slot == 0 ? NiftiDatatype::int16 : NiftiDatatype::float32, "", false));
        }
        const Case together = loaded(load_case(files, {.resample = true, .threads = 2}));
        for (const int threads : {1, 3})
            check_equal(loaded(load_case(files, {.resample = true, .max_memory = little_memory, .threads = threads})),
                        together);
        check_equal(loaded(load_case("fine", views, {.resample = true, .max_memory = little_memory})),
                    loaded(load_case("fine", views, {.resample = true})));

        // Labels come back as if the whole map were resampled and turned.
        LabelMap labels{together.scan_grid, {}};
        Random random(turn);
        for (std::int64_t n = 0; n < labels.grid.voxels(); ++n)
            labels.labels.push_back(static_cast<std::uint8_t>(random.below(4)));
        auto fine = resample_nearest(labels, together.canonical_grid, 2);
        REQUIRE_OK(fine);
        const LabelMap expected = reorient(std::move(fine).value(), inverse(together.orientation));
        CHECK(restore_labels(together, labels).labels == expected.labels);
        const auto slice = static_cast<std::size_t>(expected.grid.size[0] * expected.grid.size[1]);
        std::vector<std::uint8_t> parts(expected.labels.size());
        for (std::int64_t k = 0; k < expected.grid.size[2]; ++k)
            restore_slice(together, labels, k, std::span(parts).subspan(static_cast<std::size_t>(k) * slice, slice));
        CHECK(parts == expected.labels);
    }
}

TEST_CASE("contrasts that are read one by one are rejected as all at once, and for memory in time") {
    const test::TemporaryFolder folder;
    std::array<Volume, 4> heads = fine_heads();
    CaseFiles files;
    files.id = "fine";
    const auto save = [&](std::size_t slot) {
        files.modalities[slot] = folder / text("fine", suffixes[slot], ".nii");
        REQUIRE_OK(write_nifti(files.modalities[slot], heads[slot], geometry_of(heads[slot].grid),
                               NiftiDatatype::float32, "", true));
    };
    for (std::size_t slot = 0; slot < 4; ++slot)
        save(slot);
    const auto code_of_both = [&] {
        const auto together = load_case(files, {.resample = true});
        const auto singly = load_case(files, {.resample = true, .max_memory = little_memory});
        REQUIRE_FALSE(together.ok());
        REQUIRE_FALSE(singly.ok());
        CHECK(singly.error().code == together.error().code);
        CHECK(singly.error().message == together.error().message);
        return singly.error().code;
    };
    REQUIRE_OK(load_case(files, {.resample = true, .max_memory = little_memory}));
    // One scan is too large, which shows while it is read; then its marks are.
    REQUIRE_CODE(load_case(files, {.resample = true, .max_memory = 100'000}), memory_limit);
    REQUIRE_CODE(load_case(files, {.resample = true, .max_memory = 1'000'000}), memory_limit);

    heads[2] = heads[1];
    save(2);
    CHECK(code_of_both() == ErrorCode::modality_duplicate);
    heads[3].grid.affine[0][3] += 1.0;
    save(3);
    CHECK(code_of_both() == ErrorCode::grid_position_mismatch);
    heads[3].voxels[77] = std::numeric_limits<float>::infinity();
    save(3);
    CHECK(code_of_both() == ErrorCode::voxel_not_finite);
    heads[1].voxels.assign(heads[1].voxels.size(), 4.0F);
    save(1);
    CHECK(code_of_both() == ErrorCode::volume_constant);
}

TEST_CASE("resampling has limits: grids beyond 1024 or below 2 voxels, and the cap") {
    CaseOnDisk disk;
    disk.each([](Recipe& r) { r.srow = {-300, 0, 0, 0, 0, -1, 0, 4, 0, 0, 1, 0}; });
    REQUIRE_CODE(disk.load({.resample = true}), voxel_size_out_of_range);
    disk.each([](Recipe& r) { r.srow = {-0.1, 0, 0, 0, 0, -1, 0, 4, 0, 0, 1, 0}; });
    REQUIRE_CODE(disk.load({.resample = true}), voxel_size_out_of_range);
    disk.each([](Recipe& r) { r.srow = {-200, 0, 0, 0, 0, -100, 0, 4, 0, 0, 100, 0}; });
    REQUIRE_CODE(disk.load({.resample = true, .max_bytes = 1U << 20U}), nifti_too_large);
    // In range: not touched, even if resampling is allowed.
    disk.each([](Recipe& r) { r.srow = {-1.04, 0, 0, 0, 0, -1, 0, 4, 0, 0, 0.96, 0}; });
    const Case untouched = loaded(disk.load({.resample = true}));
    CHECK_FALSE(untouched.resampled);
    CHECK(untouched.warnings.empty());
}

TEST_CASE("a tilted head is accepted with a warning") {
    CaseOnDisk disk;
    const double c = std::cos(20 / 57.29578);
    const double s = std::sin(20 / 57.29578);
    disk.each([&](Recipe& r) { r.srow = {-1, 0, 0, 0, 0, -c, -s, 4, 0, -s, c, 0}; });
    const Case tilted = loaded(disk.load());
    REQUIRE(tilted.warnings.size() == 1);
    CHECK(tilted.warnings[0].find("turned by 20") != std::string::npos);
    CHECK(tilted.orientation.is_canonical());
}

TEST_CASE("a segmentation has to be there, fit the grid and hold labels") {
    CaseOnDisk disk;
    CaseFiles files = disk.save();
    const Case good = loaded(load_case(files));
    const auto labels = load_segmentation(files, good);
    REQUIRE_OK(labels);
    CHECK(std::equal(labels->labels.begin(), labels->labels.end(), disk.segmentation.values.begin(),
                     disk.segmentation.values.end()));
    const auto spoiled = [&](const auto& change) {
        CaseOnDisk other;
        change(other.segmentation);
        const CaseFiles other_files = other.save();
        return load_segmentation(other_files, good);
    };
    REQUIRE_CODE(spoiled([](Recipe& r) { r.dim = {3, 6, 5, 4, 1, 1, 1, 1}; }), grid_size_mismatch);
    REQUIRE_CODE(spoiled([](Recipe& r) { r.srow[3] = 1; }), grid_position_mismatch);
    REQUIRE_CODE(spoiled([](Recipe& r) {
                     r.datatype = 16;
                     r.bitpix = 32;
                     r.values[4] = 2.5;
                 }),
                 label_outside_scheme);
    files.segmentation.reset();
    REQUIRE_CODE(load_segmentation(files, good), file_not_found);
}

TEST_CASE("real patients as published: scaled int16, and int16 with header extensions") {
    struct Expected {
        const char* folder;
        std::array<float, 4> voxel; ///< (90, 140, 70) of each modality
        std::array<double, 4> sum;
        std::array<std::int64_t, 5> labels; ///< counts of 0, 1, 2, 3, 4
    };
    const std::vector<Expected> patients = {
        {"data/real/original/TCGA-FG-6692",
         {0.7844663262367249F, 0.6794689893722534F, 0.3027695119380951F, 0.5705348253250122F},
         {1019594.1560455095, 965590.7072902492, 702917.8853631569, 1132535.347474161},
         {8897821, 2477, 20862, 0, 6840}},
        {"data/real/original/BraTS2021_01481",
         {809, 751, 649, 1014},
         {1022302058, 961547628, 1124501205, 1388534450},
         {8871488, 1501, 52436, 0, 2575}},
        {"data/real/train/Brats18_2013_23_1",
         {115, 58, 26, 46},
         {148201530, 58864634, 66417871, 79273175},
         {0, 0, 0, 0, 0}},
    };
    for (const auto& patient : patients) {
        const auto folder = test::shared_data(patient.folder);
        if (!folder)
            return;
        INFO(patient.folder);
        const auto files = find_case(*folder);
        REQUIRE_OK(files);
        const Case read = loaded(load_case(*files, {.threads = 2}));
        CHECK(read.original_grid == Grid{{240, 240, 155}, {{{-1, 0, 0, 0}, {0, -1, 0, 239}, {0, 0, 1, 0}}}});
        CHECK(read.orientation.is_canonical());
        CHECK(read.warnings.empty());
        for (std::size_t slot = 0; slot < 4; ++slot) {
            const auto voxels = read.scans[slot].volume().voxels;
            CHECK(voxels[90 + 240 * (140 + 240 * 70)] == patient.voxel[slot]);
            CHECK(std::accumulate(voxels.begin(), voxels.end(), 0.0) == Approx(patient.sum[slot]).epsilon(1e-7));
        }
        auto labels = load_segmentation(*files, read);
        REQUIRE_OK(labels);
        if (patient.labels[0] > 0)
            for (std::uint8_t value = 0; value < 5; ++value)
                CHECK(std::count(labels->labels.begin(), labels->labels.end(), value) == patient.labels[value]);

        const test::TemporaryFolder output;
        const LabelMap restored = restore_labels(read, std::move(labels).value());
        REQUIRE_OK(write_nifti_labels(output / "x.nii.gz", restored, read.geometry, "labels", false));
        const auto again = read_nifti_labels(output / "x.nii.gz");
        REQUIRE_OK(again);
        CHECK(again->map.labels == restored.labels);
        CHECK(again->geometry == read.geometry);
    }
}
