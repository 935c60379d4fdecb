// SPDX-License-Identifier: MIT
// Whole cases through the library: files in, label map out, and nothing out where something is wrong.
#include "core/file.h"
#include "core/memory_usage.h"
#include "core/try.h"
#include "imaging/case.h"
#include "imaging/labels.h"
#include "imaging/preprocess.h"
#include "support/cases.h"
#include "support/program.h"
#include "support/run_graph.h"

#include <mfres/segmenter.h>

#include <nlohmann/json.hpp>

#include <set>

using namespace mfres;

namespace {

Segmenter open(const std::filesystem::path& model, const SegmenterOptions& options = {}) {
    auto segmenter = Segmenter::open(model, options);
    REQUIRE_OK(segmenter);
    return std::move(segmenter).value();
}

Segmentation segment(Segmenter& segmenter, const CaseFiles& files, const SegmentOptions& options = {}) {
    auto result = segmenter.segment(files, options);
    REQUIRE_OK(result);
    return std::move(result).value();
}

/// One whose activations outweigh the volumes; mf-res2net's are too few for tiles to save anything in a small case.
constexpr std::string_view heavy_network = R"({"network": "dmfnet", "n": 32})";

CaseFiles write_larger_case(const test::TemporaryFolder& folder) {
    const auto phantom = make_phantom({.seed = 8, .size = {96, 112, 80}, .threads = 2});
    REQUIRE_OK(phantom);
    return test::write_case(folder, phantom->volumes, geometry_of(phantom->labels.grid));
}

} // namespace

TEST_CASE("every backend labels a phantom alike, and the label file lies where the input lies") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const auto model = test::write_model(folder, test::small_network);
    Segmenter truth_segmenter = open(model, {.compute = {.backend = "reference"}});
    const Segmentation truth = segment(truth_segmenter, files);
    const std::set<int> values(truth.labels.labels.begin(), truth.labels.labels.end());
    CHECK(values.size() > 1); // random weights, but not one label everywhere
    for (const int value : values)
        CHECK((value == 0 || value == 1 || value == 2 || value == 4));
    for (const auto& backend : available_backends()) {
        INFO(backend.name);
        Segmenter segmenter = open(model, {.compute = {.backend = backend.name}});
        const Segmentation result =
            segment(segmenter, files, {.output = folder / "labels.nii.gz", .preview = folder / "preview.png"});
        CHECK(test::agreement(result.labels, truth.labels) >= 0.9999);
        test::check_same_geometry(folder / "labels.nii.gz", files);
        const auto written = read_nifti_labels(folder / "labels.nii.gz");
        REQUIRE_OK(written);
        CHECK(written->map.labels == result.labels.labels);
        CHECK(std::filesystem::file_size(folder / "preview.png") > 1000);
        CHECK(result.report.used.backend == backend.name);
        CHECK(result.report.tiles == 1);
        CHECK(result.report.total_milliseconds > 0);
        CHECK(result.report.planned_peak_bytes > 0);
        CHECK_FALSE(result.report.chosen.empty());
    }
}

TEST_CASE("the same case ten times gives the same labels, also with a model opened anew") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const auto model = test::write_model(folder, test::small_network);
    for (const int threads : {1, 2}) {
        Segmenter kept = open(model, {.compute = {.threads = threads}});
        const Segmentation first = segment(kept, files);
        for (int run = 0; run < 8; ++run)
            REQUIRE(segment(kept, files).labels.labels == first.labels.labels);
        Segmenter anew = open(model, {.compute = {.threads = threads}});
        CHECK(segment(anew, files).labels.labels == first.labels.labels);
    }
}

TEST_CASE("under a memory limit the network runs in tiles, keeps to the limit and labels nearly the same") {
    const test::TemporaryFolder folder;
    const CaseFiles files = write_larger_case(folder);
    const auto model = test::write_model(folder, heavy_network);
    Segmenter whole = open(model);
    const Segmentation one_pass = segment(whole, files);
    REQUIRE(one_pass.report.tiles == 1);

    SECTION("a limit that the whole box fits into changes nothing") {
        Segmenter roomy = open(model, {.max_memory = one_pass.report.planned_peak_bytes * 2});
        const Segmentation same = segment(roomy, files);
        CHECK(same.report.tiles == 1);
        CHECK(same.labels.labels == one_pass.labels.labels);
    }
    SECTION("a tighter one leads to tiles") {
        const std::int64_t limit = one_pass.report.planned_peak_bytes * 97 / 100;
        Segmenter tight = open(model, {.max_memory = limit});
        const Segmentation tiled = segment(tight, files);
        CHECK(tiled.report.tiles > 1);
        CHECK(tiled.report.planned_peak_bytes <= limit);
        // Untrained weights label by texture, so a seam shows more than it would with a trained model.
        CHECK(test::agreement(tiled.labels, one_pass.labels) >= 0.95);
    }
    SECTION("one too tight is rejected with the need") {
        Segmenter hopeless = open(model, {.max_memory = 1 << 20});
        REQUIRE_CODE(hopeless.segment(files, {.output = folder / "labels.nii"}), memory_limit);
        CHECK_FALSE(std::filesystem::exists(folder / "labels.nii"));
    }
}

TEST_CASE("a whole head fits into 128 MiB, with the labels of one pass and the peak that was planned") {
    const bool resampled = GENERATE(false, true); // of voxels of 2 mm: the resampled scans are floats
    INFO((resampled ? "resampled" : "as it is"));
    const test::TemporaryFolder folder;
    CaseFiles files;
    {
        const std::array<std::int64_t, 3> size =
            resampled ? std::array<std::int64_t, 3>{120, 120, 78} : std::array<std::int64_t, 3>{240, 240, 155};
        auto phantom = make_phantom({.seed = 3, .size = size, .threads = 2});
        REQUIRE_OK(phantom);
        files.id = "head";
        for (const Modality modality : modalities) { // stored as published cases are
            auto& file = files.modalities[static_cast<std::size_t>(modality)];
            file = folder / (std::string(name(modality)) + ".nii");
            Volume& volume = phantom->volumes[static_cast<std::size_t>(modality)];
            for (auto& row : volume.grid.affine)
                for (double& element : row)
                    element *= resampled ? 2.0 : 1.0;
            REQUIRE_OK(write_nifti(file, volume, geometry_of(volume.grid), NiftiDatatype::int16, "synthetic", true));
        }
    }
    const auto model = std::filesystem::path(MFRES_SOURCE_DIR) / "models" / "mf-res2net.safetensors";
    constexpr std::int64_t limit = std::int64_t{128} << 20;
    LabelMap one_pass;
    for (const bool limited : {true, false}) {
        release_unused_memory();
        Segmenter segmenter = open(model, {.max_memory = limited ? limit : 0});
        Segmentation result = segment(segmenter, files, {.resample = resampled, .output = folder / "labels.nii.gz"});
        const auto planned = static_cast<double>(result.report.planned_peak_bytes);
        const auto measured = static_cast<double>(result.report.measured_peak_bytes);
        INFO("planned " << planned << ", measured " << measured << ", tiles " << result.report.tiles);
        if (limited) {
            CHECK(result.report.tiles > 1);
            CHECK(result.report.planned_peak_bytes <= limit);
            one_pass = std::move(result.labels);
        } else {
            CHECK(result.report.tiles == 1);
            CHECK(test::agreement(result.labels, one_pass) >= 0.999);
        }
        if (test::resident_memory_is_ours && measured > 0) {
            CHECK(measured <= (limited ? limit : 1.1 * planned));
            CHECK(measured >= 0.85 * planned);
        }
    }
}

TEST_CASE("mirrored labels are those of the mean probability over all mirror images") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const auto file = test::write_model(folder, test::small_network);

    // The same by hand: eight inputs mirrored element by element, softmax and mean in double precision.
    const auto model = load_model(file);
    REQUIRE_OK(model);
    const auto loaded = load_case(files, {});
    REQUIRE_OK(loaded);
    const auto preprocessing = plan_preprocessing(loaded->scans);
    REQUIRE_OK(preprocessing);
    const std::int64_t nx = preprocessing->padded_size[0];
    const std::int64_t ny = preprocessing->padded_size[1];
    const std::int64_t nz = preprocessing->padded_size[2];
    const auto graph = build_network(model->variant, preprocessing->padded_size);
    REQUIRE_OK(graph);
    const auto reference = find_backend("reference");
    REQUIRE_OK(reference);
    const auto executable = (*reference)->compile(*graph, model->weights, {});
    REQUIRE_OK(executable);
    Tensor input({1, 4, nx, ny, nz});
    fill_input(*preprocessing, loaded->scans, {0, 0, 0}, view(input), 1);
    std::vector<double> mean(static_cast<std::size_t>(4 * nx * ny * nz), 0.0);
    const auto mirrored_element = [&](const Tensor& tensor, unsigned image, std::int64_t c, std::int64_t x,
                                      std::int64_t y, std::int64_t z) {
        return view(tensor).at(0, c, (image & 1U) != 0 ? nx - 1 - x : x, (image & 2U) != 0 ? ny - 1 - y : y,
                               (image & 4U) != 0 ? nz - 1 - z : z);
    };
    const auto each_voxel = [&](const auto& body) {
        std::size_t voxel = 0;
        for (std::int64_t x = 0; x < nx; ++x)
            for (std::int64_t y = 0; y < ny; ++y)
                for (std::int64_t z = 0; z < nz; ++z)
                    body(x, y, z, voxel++);
    };
    for (unsigned image = 0; image < 8; ++image) {
        Tensor turned(input.shape());
        each_voxel([&](std::int64_t x, std::int64_t y, std::int64_t z, std::size_t) {
            for (std::int64_t c = 0; c < 4; ++c)
                view(turned).at(0, c, x, y, z) = mirrored_element(input, image, c, x, y, z);
        });
        const auto logits = test::run(**executable, turned);
        REQUIRE_OK(logits);
        each_voxel([&](std::int64_t x, std::int64_t y, std::int64_t z, std::size_t voxel) {
            double total = 0.0;
            for (std::int64_t c = 0; c < 4; ++c)
                total += std::exp(static_cast<double>(mirrored_element(*logits, image, c, x, y, z)));
            for (std::int64_t c = 0; c < 4; ++c)
                mean[4 * voxel + static_cast<std::size_t>(c)] +=
                    std::exp(static_cast<double>(mirrored_element(*logits, image, c, x, y, z))) / total;
        });
    }
    std::vector<std::uint8_t> classes;
    for (std::size_t voxel = 0; voxel < mean.size() / 4; ++voxel) {
        const auto first = mean.begin() + static_cast<std::ptrdiff_t>(4 * voxel);
        classes.push_back(static_cast<std::uint8_t>(std::max_element(first, first + 4) - first));
    }
    LabelMap expected = uncrop(*preprocessing, classes);
    REQUIRE_OK(classes_to_labels(expected, LabelScheme::brats, "expected"));

    Segmenter plain = open(file);
    Segmenter mirrors = open(file, {.mirror = {true, true, true}});
    const Segmentation mean_labels = segment(mirrors, files);
    CHECK(test::agreement(mean_labels.labels, expected) >= 0.9999);
    CHECK(test::agreement(mean_labels.labels, segment(plain, files).labels) <
          0.999); // random weights see the difference
    CHECK(mean_labels.report.mirror_images == 8);
    CHECK(nlohmann::json::parse(to_json(mean_labels.report))["passes"] == 8);
    CHECK(model_sentence(mean_labels.report).find("mean of 8 mirror images") != std::string::npos);

    double last = 0.0;
    REQUIRE_OK(mirrors.segment(files, {}, [&](std::string_view stage, double done) {
        if (stage == "network") {
            CHECK(done >= last);
            last = done;
        }
        return true;
    }));
    CHECK(last > 0.95);
}

TEST_CASE("mirror images keep to a memory limit, in tiles") {
    const test::TemporaryFolder folder;
    const CaseFiles files = write_larger_case(folder);
    const auto model = test::write_model(folder, heavy_network);
    Segmenter whole = open(model, {.mirror = {true, false, false}});
    const Segmentation one_tile = segment(whole, files);
    REQUIRE(one_tile.report.tiles == 1);
    const std::int64_t limit = one_tile.report.planned_peak_bytes * 97 / 100;
    Segmenter tight = open(model, {.max_memory = limit, .mirror = {true, false, false}});
    const Segmentation tiled = segment(tight, files);
    CHECK(tiled.report.tiles > 1);
    CHECK(tiled.report.mirror_images == 2);
    CHECK(tiled.report.planned_peak_bytes <= limit);
    CHECK(test::agreement(tiled.labels, one_tile.labels) >= 0.95);
}

TEST_CASE("the label scheme asked for is what the file holds") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    Segmenter segmenter = open(test::write_model(folder, test::small_network));
    const Segmentation brats = segment(segmenter, files);
    const Segmentation brats2023 = segment(segmenter, files, {.label_scheme = "brats2023"});
    for (std::size_t i = 0; i < brats.labels.labels.size(); ++i)
        REQUIRE(brats2023.labels.labels[i] == (brats.labels.labels[i] == 4 ? 3 : brats.labels.labels[i]));
    REQUIRE_CODE(segmenter.segment(files, {.label_scheme = "brats1999"}), invalid_argument);
    // Every scheme and mapping holds the same classes, and a picture shows them alike.
    const auto drawn = [&](const std::string& scheme) {
        const Segmentation made = segment(segmenter, files, {.label_scheme = scheme, .preview = folder / "p.png"});
        CHECK(made.report.label_scheme == scheme);
        LabelMap classes = made.labels;
        const auto coding = LabelCoding::parse(scheme);
        REQUIRE_OK(coding);
        REQUIRE_OK(labels_to_classes(classes, *coding, "written"));
        const auto png = read_file(folder / "p.png", 1 << 24);
        REQUIRE_OK(png);
        return std::pair{classes.labels, *png};
    };
    const auto in_brats = drawn("brats");
    for (const std::string scheme : {"brats2024", "brats-ped", "msd", "7:ncr,8:ed,9:et"}) {
        INFO(scheme);
        CHECK((drawn(scheme) == in_brats));
    }
    REQUIRE_CODE(segmenter.segment(files, {.label_scheme = "1:et"}), label_outside_scheme);
}

TEST_CASE("outputs that are one file, or an input, are rejected before anything is read") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    Segmenter segmenter = open(test::write_model(folder, test::small_network));
    const std::string before = test::file_text(files.modalities[3]);
    const auto refused = [&](const SegmentOptions& options) {
        const auto result = segmenter.segment(files, options, [](std::string_view, double) {
            FAIL("nothing may be read");
            return true;
        });
        REQUIRE_CODE(result, invalid_argument);
        return result.error().message;
    };
    CHECK(refused({.output = folder / "x.nii.gz", .probabilities = folder / "x.nii.gz"}).find("both") !=
          std::string::npos);
    CHECK(refused({.output = folder / "x.nii.gz", .preview = folder / "." / "x.nii.gz"}).find("picture") !=
          std::string::npos);
    CHECK(refused({.output = files.modalities[3]}).find("input") != std::string::npos);
    std::filesystem::create_hard_link(files.modalities[3], folder / "linked.nii.gz");
    CHECK(refused({.output = folder / "linked.nii.gz"}).find("input") != std::string::npos);
    CHECK(test::file_text(files.modalities[3]) == before);
}

TEST_CASE("volumes in the report are those of the map that is written, also where a case was resampled") {
    const test::TemporaryFolder folder;
    const Phantom& phantom = test::small_phantom();
    std::array<Volume, 4> stretched = phantom.volumes;
    for (Volume& volume : stretched)
        for (auto& row : volume.grid.affine)
            row[2] *= 1.5;
    const CaseFiles files = test::write_case(folder, stretched, geometry_of(stretched[0].grid));
    Segmenter segmenter = open(test::write_model(folder, test::small_network));
    const Segmentation made = segment(segmenter, files, {.resample = true, .label_scheme = "brats"});
    constexpr std::array<int, 3> labels = {1, 2, 4};
    for (std::size_t c = 0; c < 3; ++c) {
        INFO(made.report.classes[c].name);
        const auto voxels = std::count(made.labels.labels.begin(), made.labels.labels.end(), labels[c]);
        CHECK(made.report.classes[c].voxels == voxels);
        CHECK(made.report.classes[c].millilitres == Approx(static_cast<double>(voxels) * 1.5 / 1000.0).epsilon(1e-6));
    }
}

TEST_CASE("labels that are not returned are written a slice at a time, and are the same file and report") {
    const test::TemporaryFolder folder;
    Segmenter segmenter = open(test::write_model(folder, test::small_network));
    for (const bool resampled : {false, true}) {
        std::array<Volume, 4> volumes = test::small_phantom().volumes;
        for (Volume& volume : volumes) {
            for (auto& row : volume.grid.affine)
                row[2] *= resampled ? 1.5 : 1.0;
            volume = reorient(std::move(volume), {{1, 2, 0}, {false, true, false}});
        }
        const CaseFiles files = test::write_case(folder, volumes, geometry_of(volumes[0].grid));
        for (const char* const ending : {".nii", ".nii.gz"}) {
            const auto whole = folder / text("whole", ending);
            const auto slices = folder / text("slices", ending);
            const Segmentation a = segment(segmenter, files, {.resample = true, .output = whole});
            const Segmentation b =
                segment(segmenter, files, {.resample = true, .output = slices, .return_labels = false});
            CHECK(b.labels.labels.empty());
            const auto first = read_file(whole, 1U << 24U);
            const auto second = read_file(slices, 1U << 24U);
            REQUIRE_OK(first);
            REQUIRE_OK(second);
            CHECK(*first == *second);
            const auto read = read_nifti_labels(slices);
            REQUIRE_OK(read);
            CHECK(read->map.labels == a.labels.labels);
            for (std::size_t c = 0; c < a.report.classes.size(); ++c)
                CHECK(a.report.classes[c].voxels == b.report.classes[c].voxels);
        }
        // A class that the mapping has no value for, which shows after the last slice.
        const auto nothing = folder / "nothing.nii";
        for (const bool returned : {false, true})
            REQUIRE_CODE(
                segmenter.segment(
                    files, {.resample = true, .label_scheme = "7:ncr", .output = nothing, .return_labels = returned}),
                label_outside_scheme);
        CHECK_FALSE(std::filesystem::exists(nothing));
    }
}

TEST_CASE("a case that is rejected leaves no file behind, whatever is wrong") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    const NiftiGeometry good = geometry_of(test::small_phantom().volumes[0].grid);

    struct Refusal {
        std::string what;
        ErrorCode code;
        std::function<void(std::array<Volume, 4>&, std::array<NiftiGeometry, 4>&)> spoil;
    };
    const auto geometry_all = [](auto change) {
        return [change](auto&, std::array<NiftiGeometry, 4>& geometries) {
            for (NiftiGeometry& geometry : geometries)
                change(geometry);
        };
    };
    const std::vector<Refusal> rejections = {
        {"two modalities are the same volume", ErrorCode::modality_duplicate,
         [](auto& volumes, auto&) { volumes[2].voxels = volumes[1].voxels; }},
        {"one volume is larger", ErrorCode::grid_size_mismatch,
         [](auto& volumes, auto&) {
             volumes[3].grid.size[2] += 1;
             volumes[3].voxels.resize(static_cast<std::size_t>(volumes[3].grid.voxels()), 0.0F);
         }},
        {"one volume lies elsewhere", ErrorCode::grid_position_mismatch,
         [](auto&, auto& geometries) {
             geometries[1].srow[0][3] += 0.2;
             geometries[1].qoffset[0] += 0.2;
         }},
        {"qform and sform disagree", ErrorCode::qform_sform_disagree,
         geometry_all([](NiftiGeometry& geometry) { geometry.qoffset[2] += 0.6; })},
        {"no orientation", ErrorCode::orientation_missing,
         geometry_all([](NiftiGeometry& geometry) { geometry.qform_code = geometry.sform_code = 0; })},
        {"a singular affine", ErrorCode::affine_singular, geometry_all([](NiftiGeometry& geometry) {
             geometry.qform_code = 0;
             geometry.srow[1] = geometry.srow[0];
         })},
        {"a sheared affine", ErrorCode::affine_sheared, geometry_all([](NiftiGeometry& geometry) {
             geometry.qform_code = 0;
             geometry.srow[0][1] = 0.05;
         })},
        {"voxels of 2 mm", ErrorCode::voxel_size_out_of_range, geometry_all([](NiftiGeometry& geometry) {
             geometry.qform_code = 0;
             for (auto& row : geometry.srow)
                 for (int axis = 0; axis < 3; ++axis)
                     row[static_cast<std::size_t>(axis)] *= 2;
         })},
        {"a NaN voxel", ErrorCode::voxel_not_finite,
         [](auto& volumes, auto&) { volumes[3].voxels[777] = std::nanf(""); }},
        {"an infinite voxel", ErrorCode::voxel_not_finite,
         [](auto& volumes, auto&) { volumes[0].voxels[777] = std::numeric_limits<float>::infinity(); }},
        {"a constant volume", ErrorCode::volume_constant,
         [](auto& volumes, auto&) { std::fill(volumes[1].voxels.begin(), volumes[1].voxels.end(), 7.0F); }},
        {"hardly any brain", ErrorCode::brain_too_small,
         [](auto& volumes, auto&) {
             for (std::size_t m = 0; m < 4; ++m) {
                 std::fill(volumes[m].voxels.begin(), volumes[m].voxels.end(), 0.0F);
                 for (std::size_t i = 0; i < 40; ++i)
                     volumes[m].voxels[100000 + i] = static_cast<float>(i * (m + 1) + 1);
             }
         }},
    };
    Segmenter segmenter = open(model);
    for (const Refusal& rejection : rejections) {
        INFO(rejection.what);
        std::array<Volume, 4> volumes = test::small_phantom().volumes;
        std::array<NiftiGeometry, 4> geometries;
        geometries.fill(good);
        rejection.spoil(volumes, geometries);
        CaseFiles files;
        files.id = "bad";
        for (std::size_t m = 0; m < 4; ++m) {
            files.modalities[m] = folder / ("bad" + std::to_string(m) + ".nii");
            REQUIRE_OK(
                write_nifti(files.modalities[m], volumes[m], geometries[m], NiftiDatatype::float32, "bad", true));
        }
        const auto result =
            segmenter.segment(files, {.output = folder / "labels.nii.gz", .preview = folder / "preview.png"});
        REQUIRE_FALSE(result.ok());
        INFO(result.error().message);
        CHECK(name(result.error().code) == name(rejection.code));
        CHECK_FALSE(std::filesystem::exists(folder / "labels.nii.gz"));
        CHECK_FALSE(std::filesystem::exists(folder / "preview.png"));
    }
}

TEST_CASE("weights that make the logits overflow are rejected at the end, with nothing written") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    auto variant = parse_variant(test::small_network);
    REQUIRE_OK(variant);
    auto model = init_model(*variant, 1);
    REQUIRE_OK(model);
    test::take_any_brain(model->metadata);
    for (float& value : model->weights.at("head.conv.weight").values())
        value = 3e38F;
    const auto path = folder / "overflow.safetensors";
    REQUIRE_OK(save_model(path, *model));
    for (const auto& backend : available_backends()) {
        INFO(backend.name);
        Segmenter segmenter = open(path, {.compute = {.backend = backend.name}});
        REQUIRE_CODE(segmenter.segment(files, {.output = folder / "labels.nii", .preview = folder / "p.png"}),
                     logits_not_finite);
        CHECK_FALSE(std::filesystem::exists(folder / "labels.nii"));
        CHECK_FALSE(std::filesystem::exists(folder / "p.png"));
    }
}

TEST_CASE("resampling is an explicit choice, is reported, and comes back on the input's grid") {
    const test::TemporaryFolder folder;
    std::array<Volume, 4> volumes = test::small_phantom().volumes;
    Grid grid = volumes[0].grid;
    for (auto& row : grid.affine)
        for (std::size_t axis = 0; axis < 3; ++axis)
            row[axis] *= 1.25;
    const CaseFiles files = test::write_case(folder, volumes, geometry_of(grid), "coarse");
    Segmenter segmenter = open(test::write_model(folder, test::small_network));
    REQUIRE_CODE(segmenter.segment(files, {.output = folder / "labels.nii.gz"}), voxel_size_out_of_range);
    CHECK_FALSE(std::filesystem::exists(folder / "labels.nii.gz"));
    const Segmentation result = segment(segmenter, files, {.resample = true, .output = folder / "labels.nii.gz"});
    test::check_same_geometry(folder / "labels.nii.gz", files);
    CHECK_FALSE(result.report.warnings.empty());
}

TEST_CASE("progress is told stage by stage and can stop the work without leaving a file") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    Segmenter segmenter = open(test::write_model(folder, test::small_network));
    std::vector<std::string> stages;
    const auto result = segmenter.segment(files, {}, [&](std::string_view stage, double done) {
        CHECK(done >= 0.0);
        CHECK(done <= 1.0);
        if (stages.empty() || stages.back() != stage)
            stages.emplace_back(stage);
        return true;
    });
    REQUIRE_OK(result);
    CHECK(stages.front() == "read");
    CHECK(std::find(stages.begin(), stages.end(), "network") != stages.end());
    int calls = 0;
    const SegmentOptions options{.output = folder / "labels.nii.gz"};
    REQUIRE_CODE(segmenter.segment(files, options, [&](std::string_view, double) { return ++calls < 12; }),
                 interrupted);
    CHECK_FALSE(std::filesystem::exists(folder / "labels.nii.gz"));
}

TEST_CASE("outputs that cannot be written are rejected before the work") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    Segmenter segmenter = open(test::write_model(folder, test::small_network));
    REQUIRE_CODE(segmenter.segment(files, {.output = folder / "missing" / "labels.nii.gz"}), file_write);
    REQUIRE_CODE(segmenter.segment(files, {.output = folder / "labels.png"}), invalid_argument);
    REQUIRE_OK(write_file_atomically(folder / "labels.nii", "mine"));
    REQUIRE_CODE(segmenter.segment(files, {.output = folder / "labels.nii", .overwrite = false}), file_exists);
    CHECK(std::filesystem::file_size(folder / "labels.nii") == 4);

    // The label map cannot be put in place: the picture of an earlier run stays as it was.
    REQUIRE_OK(write_file_atomically(folder / "p.png", "old"));
    std::filesystem::create_directory(folder / "folder.nii");
    const SegmentOptions hopeless{.output = folder / "folder.nii", .preview = folder / "p.png"};
    REQUIRE_CODE(segmenter.segment(files, hopeless), file_write);
    CHECK(std::filesystem::file_size(folder / "p.png") == 3);
}

TEST_CASE("the plan of a second case counts what is kept of the first") {
    const test::TemporaryFolder folder;
    const auto small = make_phantom({.seed = 2, .size = {48, 48, 48}, .threads = 2});
    REQUIRE_OK(small);
    const CaseFiles big_files = test::write_case(folder);
    const CaseFiles small_files = test::write_case(folder, small->volumes, geometry_of(small->labels.grid), "small");
    Segmenter segmenter = open(test::write_model(folder));
    const std::int64_t alone = segment(segmenter, small_files).report.planned_peak_bytes;
    segment(segmenter, big_files);
    CHECK(segment(segmenter, small_files).report.planned_peak_bytes > alone);
}

TEST_CASE("the report is JSON with everything in it") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    Segmenter segmenter = open(test::write_model(folder, test::small_network));
    const Segmentation result = segment(segmenter, files, {.output = folder / "labels.nii.gz"});
    const auto json = nlohmann::json::parse(to_json(result.report));
    for (const char* key : {"case", "network", "model", "backend", "inputs", "output", "grid_size", "brain_box_size",
                            "classes", "regions", "stages_ms", "total_ms", "planned_peak_bytes", "measured_peak_bytes",
                            "warnings", "chosen", "notice"}) {
        INFO(key);
        CHECK(json.contains(key));
    }
    CHECK(json["mirror_images"] == 1);
    CHECK(json["passes"] == 1);
    CHECK(json["model"]["weights_sha256"].get<std::string>().size() == 64);
    CHECK(json["grid_size"] == nlohmann::json({64, 72, 56}));
    std::int64_t labelled = 0;
    for (const auto& [name, part] : json["classes"].items())
        labelled += part["voxels"].get<std::int64_t>();
    const auto nonzero = std::count_if(result.labels.labels.begin(), result.labels.labels.end(),
                                       [](std::uint8_t label) { return label != 0; });
    CHECK(labelled == nonzero);
    CHECK(json["regions"]["WT"]["voxels"] == labelled);
    CHECK(to_text(result.report).find("not a medical device") != std::string::npos);
}

TEST_CASE("opening rejects what cannot work") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    REQUIRE_CODE(Segmenter::open(folder / "missing.safetensors", {}), file_not_found);
    REQUIRE_CODE(Segmenter::open(model, {.compute = {.backend = "gpu9000"}}), backend_unknown);
    REQUIRE_CODE(Segmenter::open(model, {.compute = {.threads = -1}}), invalid_argument);
    for (const SegmenterOptions& relaxed :
         {SegmenterOptions{.compute = {.backend = "reference", .precision = Precision::fp16}},
          SegmenterOptions{.compute = {.backend = "reference", .tf32 = true}},
          SegmenterOptions{.compute = {.backend = "reference", .deterministic = false}}})
        REQUIRE_CODE(Segmenter::open(model, relaxed), operation_unsupported);
    const auto three = test::write_model(folder, R"({"network": "mf-res2net", "classes": 3})");
    REQUIRE_CODE(Segmenter::open(three, {}), model_metadata_invalid);
    auto swapped = load_model(test::write_model(folder, test::small_network));
    REQUIRE_OK(swapped);
    swapped->metadata.modalities = {"flair", "t1ce", "t2", "t1"};
    REQUIRE_OK(save_model(folder / "swapped.safetensors", *swapped));
    REQUIRE_OK(Segmenter::open(folder / "swapped.safetensors", {})); // any order of the four contrasts is fed
    const auto two = test::write_model(folder, R"({"network": "mf-res2net", "input_channels": 2})");
    REQUIRE_CODE(Segmenter::open(two, {}), model_metadata_invalid);
}
