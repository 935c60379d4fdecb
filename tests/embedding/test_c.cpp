// SPDX-License-Identifier: MIT
// The plain C interface does what the C++ one does.
#include "core/file.h"
#include "support/c_case.h"

#include <mfres/mfres.h>
#include <mfres/segmenter.h>

#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <thread>

using namespace mfres;

namespace {

using Handle = std::unique_ptr<mfres_segmenter, decltype(&mfres_close)>;

Handle opened(const std::filesystem::path& model, const mfres_options& options) {
    Handle handle(mfres_open(model.c_str(), &options), mfres_close);
    INFO(mfres_error_message(nullptr));
    REQUIRE(handle != nullptr);
    CHECK(std::string(mfres_error_name(nullptr)).empty());
    return handle;
}

mfres_options reference_options() {
    mfres_options options{};
    options.struct_size = sizeof options;
    options.backend = "reference";
    options.threads = 2;
    return options;
}

/// Memory for all that a prediction of the small phantom gives.
struct COutput {
    std::vector<std::uint8_t> labels;
    std::vector<float> probabilities;
    mfres_output output{};

    COutput() {
        const auto voxels = static_cast<std::size_t>(test::small_phantom().volumes[0].grid.voxels());
        labels.assign(voxels, 255);
        probabilities.assign(MFRES_CLASSES * voxels, -1.0F);
        output = {sizeof output, labels.data(), labels.size(), probabilities.data(), probabilities.size()};
    }
    COutput(const COutput&) = delete;
};

/// The files of a case as C names them.
struct CFiles {
    mfres_files files{};

    explicit CFiles(const CaseFiles& of) {
        files = {sizeof files,
                 nullptr,
                 nullptr,
                 of.modalities[0].c_str(),
                 of.modalities[1].c_str(),
                 of.modalities[2].c_str(),
                 of.modalities[3].c_str()};
    }
};

mfres_output to_file(const std::filesystem::path& labels) {
    mfres_output output{};
    output.struct_size = sizeof output;
    output.label_file = labels.c_str();
    return output;
}

mfres_files in_folder(const std::filesystem::path& folder) {
    mfres_files files{};
    files.struct_size = sizeof files;
    files.folder = folder.c_str();
    return files;
}

nlohmann::json report_of(mfres_segmenter* segmenter) {
    return nlohmann::json::parse(mfres_report(segmenter));
}

} // namespace

TEST_CASE("plain C: open, segment a folder and named files, read the report, close") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const Handle handle = opened(test::write_model(folder, test::small_network), reference_options());
    mfres_segmenter* const segmenter = handle.get();

    CHECK(std::string(mfres_report(segmenter)).empty());
    const auto a = folder / "a.nii";
    const auto b = folder / "b.nii";
    const auto home = files.modalities[0].parent_path();
    const mfres_files by_folder = in_folder(home);
    mfres_output output = to_file(a);
    REQUIRE(mfres_segment(segmenter, &by_folder, nullptr, &output) == 0);
    CHECK(report_of(segmenter)["backend"]["name"] == "reference");
    CHECK(report_of(segmenter)["case"] == "phantom");
    CFiles by_name(files);
    by_name.files.id = "mine";
    output = to_file(b);
    REQUIRE(mfres_segment(segmenter, &by_name.files, nullptr, &output) == 0);
    CHECK(report_of(segmenter)["case"] == "mine");
    CHECK(std::string(mfres_error_name(segmenter)).empty());
    const auto from_folder = read_nifti_labels(a);
    const auto from_files = read_nifti_labels(b);
    REQUIRE_OK(from_folder);
    REQUIRE_OK(from_files);
    CHECK(from_folder->map.labels == from_files->map.labels);

    output.keep_existing = 1;
    CHECK(mfres_segment(segmenter, &by_name.files, nullptr, &output) == -1);
    CHECK(std::string(mfres_error_name(segmenter)) == "file_exists");
    CHECK(std::string(mfres_error_place(segmenter)) == b.string());
    CHECK(std::string(mfres_report(segmenter)).empty());
    output.keep_existing = 0;
    const auto missing = folder / "missing";
    const mfres_files nowhere = in_folder(missing);
    CHECK(mfres_segment(segmenter, &nowhere, nullptr, &output) == -1);
    CHECK(std::string(mfres_error_name(segmenter)) == "file_not_found");
    CHECK(std::string(mfres_error_place(segmenter)) == missing.string());
    by_name.files.t1ce = nullptr;
    CHECK(mfres_segment(segmenter, &by_name.files, nullptr, &output) == -1);
    CHECK(std::string(mfres_error_message(segmenter)).find("t1ce") != std::string::npos);
    by_name.files.folder = home.c_str();
    CHECK(mfres_segment(segmenter, &by_name.files, nullptr, &output) == -1);
    CHECK(std::string(mfres_error_message(segmenter)).find("one or the other") != std::string::npos);
    mfres_files none{};
    none.struct_size = sizeof none;
    CHECK(mfres_segment(segmenter, &none, nullptr, &output) == -1);
    CHECK(std::string(mfres_error_message(segmenter)).find("no folder and no file") != std::string::npos);
}

TEST_CASE("plain C: files to memory and memory to files, with every kind of output") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const Handle handle = opened(test::write_model(folder, test::small_network), reference_options());
    const CFiles named(files);
    const test::CCase c;
    COutput of_volumes;
    REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &of_volumes.output) == 0);
    const mfres_output& sizes = of_volumes.output;
    const auto region = [&](const char* name) { return report_of(handle.get())["regions"][name]["voxels"]; };
    CHECK(region("WT") == sizes.region_voxels[0]);
    CHECK(region("TC") == sizes.region_voxels[1]);
    CHECK(region("ET") == sizes.region_voxels[2]);
    CHECK(sizes.region_voxels[0] == sizes.class_voxels[1] + sizes.class_voxels[2] + sizes.class_voxels[3]);
    CHECK(sizes.region_voxels[2] == sizes.class_voxels[3]);
    CHECK(sizes.region_ml[0] == Approx(1e-3 * static_cast<double>(sizes.region_voxels[0])));

    mfres_grid grid{};
    grid.struct_size = sizeof grid;
    REQUIRE(mfres_read_grid(named.files.t1, nullptr, &grid) == 0);
    CHECK(std::equal(grid.size, grid.size + 3, c.volumes[0].size));
    CHECK(grid.affine[0][0] == c.volumes[0].affine[0][0]);
    grid.size[0] = 0;
    REQUIRE(mfres_read_grid(files.modalities[0].parent_path().c_str(), "sform", &grid) == 0);
    CHECK(grid.size[0] == c.volumes[0].size[0]);
    COutput of_files;
    REQUIRE(mfres_segment(handle.get(), &named.files, nullptr, &of_files.output) == 0);
    CHECK(of_files.labels == of_volumes.labels);
    CHECK(of_files.probabilities == of_volumes.probabilities);
    CHECK(std::equal(sizes.class_ml, sizes.class_ml + MFRES_CLASSES, of_files.output.class_ml));
    of_files.output.labels_size -= 1;
    CHECK(mfres_segment(handle.get(), &named.files, nullptr, &of_files.output) == -1);
    CHECK(std::string(mfres_error_place(handle.get())) == "labels_size");

    COutput written;
    const auto labels = folder / "labels.nii.gz";
    const auto probabilities = folder / "probabilities.nii";
    written.output.label_file = labels.c_str();
    written.output.probability_file = probabilities.c_str();
    written.output.probability_format = "uint8";
    REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &written.output) == 0);
    CHECK(written.labels == of_volumes.labels);
    CHECK(written.probabilities == of_volumes.probabilities);
    CHECK(report_of(handle.get())["output"] == labels.string());
    const auto read = read_nifti_labels(labels);
    REQUIRE_OK(read);
    CHECK(read->map.labels == of_volumes.labels);
    CHECK(std::filesystem::exists(probabilities));
    written.output.probability_format = "int3";
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &written.output) == -1);
    written.output.probability_format = nullptr;
    written.output.label_file = named.files.t1;
    CHECK(mfres_segment(handle.get(), &named.files, nullptr, &written.output) == -1); // an output that is an input

    CHECK(mfres_read_grid((folder / "none.nii").c_str(), nullptr, &grid) == -1);
    CHECK(std::string(mfres_error_name(nullptr)) == "file_not_found");
    CHECK(mfres_read_grid(named.files.t1, "both", &grid) == -1);
    CHECK(mfres_read_grid(nullptr, nullptr, &grid) == -1);
}

TEST_CASE("plain C: volumes in memory give the labels of C++ and of files, and probabilities") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const auto model = test::write_model(folder, test::small_network);
    const Handle handle = opened(model, reference_options());
    const test::CCase c;
    COutput out;
    REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0);

    auto segmenter = Segmenter::open(model, {.compute = {.backend = "reference", .threads = 2}});
    REQUIRE_OK(segmenter);
    CaseVolumes volumes;
    for (std::size_t m = 0; m < 4; ++m)
        volumes.volumes[m] = VolumeView::of(test::small_phantom().volumes[m]);
    const auto predicted = segmenter->predictor().predict(volumes, {.probabilities = true});
    REQUIRE_OK(predicted);
    CHECK(out.labels == predicted->labels.labels);
    CHECK(out.probabilities == predicted->probabilities->values);
    const auto segmented = segmenter->segment(files, {});
    REQUIRE_OK(segmented);
    CHECK(out.labels == segmented->labels.labels);
    CHECK(report_of(handle.get())["case"] == "phantom");

    // The model from memory, and labels alone.
    const auto bytes = read_file(model, std::uint64_t{1} << 30U);
    REQUIRE_OK(bytes);
    const mfres_options options = reference_options();
    const Handle from_bytes(mfres_open_bytes(bytes->data(), bytes->size(), "mine", &options), mfres_close);
    REQUIRE(from_bytes != nullptr);
    COutput again;
    again.output.probabilities = nullptr;
    REQUIRE(mfres_predict(from_bytes.get(), &c.patient, nullptr, &again.output) == 0);
    CHECK(again.labels == out.labels);
    CHECK(again.probabilities.front() == -1.0F);
    CHECK(std::string(mfres_report(from_bytes.get())).find("\"mine\"") != std::string::npos);
}

TEST_CASE("plain C: every scalar type, scaling and strides are read") {
    const test::TemporaryFolder folder;
    const Handle handle = opened(test::write_model(folder, test::small_network), reference_options());
    // The phantom in whole numbers, which both sides hold exactly.
    std::array<Volume, 4> rounded;
    for (std::size_t m = 0; m < 4; ++m) {
        rounded[m] = test::small_phantom().volumes[m];
        for (float& voxel : rounded[m].voxels)
            voxel = std::min(250.0F, std::floor(voxel / 8.0F));
    }
    test::CCase plain;
    for (std::size_t m = 0; m < 4; ++m)
        plain.volumes[m].voxels = rounded[m].voxels.data();
    COutput wanted;
    REQUIRE(mfres_predict(handle.get(), &plain.patient, nullptr, &wanted.output) == 0);

    const std::vector<std::uint8_t> bytes(rounded[0].voxels.begin(), rounded[0].voxels.end());
    std::vector<std::int32_t> doubled; // stored * 0.5
    std::vector<double> reversed(rounded[2].voxels.rbegin(), rounded[2].voxels.rend());
    for (const float voxel : rounded[1].voxels)
        doubled.push_back(2 * static_cast<std::int32_t>(voxel));
    test::CCase mixed;
    for (std::size_t m = 0; m < 4; ++m)
        mixed.volumes[m].voxels = rounded[m].voxels.data();
    mixed.volumes[0].voxels = bytes.data();
    mixed.volumes[0].type = MFRES_UINT8;
    mixed.volumes[1].voxels = doubled.data();
    mixed.volumes[1].type = MFRES_INT32;
    mixed.volumes[1].slope = 0.5;
    mixed.volumes[2].voxels = reversed.data() + reversed.size() - 1;
    mixed.volumes[2].type = MFRES_FLOAT64;
    const auto* const size = mixed.volumes[2].size;
    const std::int64_t strides[] = {-1, -size[0], -size[0] * size[1]};
    std::copy_n(strides, 3, mixed.volumes[2].strides);
    COutput read;
    REQUIRE(mfres_predict(handle.get(), &mixed.patient, nullptr, &read.output) == 0);
    CHECK(read.labels == wanted.labels);

    mixed.volumes[3].type = 3;
    CHECK(mfres_predict(handle.get(), &mixed.patient, nullptr, &read.output) == -1);
    CHECK(std::string(mfres_error_message(handle.get())).find("flair is 3") != std::string::npos);
    CHECK(std::string(mfres_error_place(handle.get())) == "flair");
    CHECK(std::string(mfres_report(handle.get())).empty());
}

TEST_CASE("plain C: options reach the segmenter") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const auto model = test::write_model(folder, test::small_network);
    mfres_options options = reference_options();
    options.precision = "bf16";
    options.wait_policy = "passive";
    options.mirror = "x";
    options.accept = "modality_moved,gzip_corrupt";
    CHECK(mfres_open(model.c_str(), &options) == nullptr);
    CHECK(std::string(mfres_error_name(nullptr)) == "invalid_argument");
    options.accept = "modality_moved,brain_implausible";
    mfres_request request{};
    request.struct_size = sizeof request;
    request.min_component_mm3 = 9.0;
    request.min_enhancing_mm3 = 1e9;
    request.label_scheme = "brats2023";
    {
        const Handle handle = opened(model, options);
        const CFiles named(files);
        mfres_output none{};
        none.struct_size = sizeof none;
        REQUIRE(mfres_segment(handle.get(), &named.files, &request, &none) == 0);
        const auto report = report_of(handle.get());
        CHECK(report["backend"]["precision"] == "bf16");
        CHECK(report["mirror_images"] == 2);
        CHECK(report["classes"]["enhancing tumour"]["voxels"] == 0);
        CHECK(report["label_scheme"] == "brats2023");
        request.min_component_mm3 = -1.0;
        const auto file = folder / "b.nii";
        mfres_output output = to_file(file);
        CHECK(mfres_segment(handle.get(), &named.files, &request, &output) == -1);
        CHECK(std::string(mfres_error_message(handle.get())).find("min_component_mm3") != std::string::npos);
        CHECK_FALSE(std::filesystem::exists(file));
    }
    options.mirror = "w";
    CHECK(mfres_open(model.c_str(), &options) == nullptr);
    CHECK(std::string(mfres_error_name(nullptr)) == "invalid_argument");
}

TEST_CASE("plain C: progress is reported, and a call can be stopped") {
    const test::TemporaryFolder folder;
    const Handle handle = opened(test::write_model(folder, test::small_network), reference_options());
    const test::CCase c;
    COutput out;
    std::vector<std::string> stages;
    mfres_request request{};
    request.struct_size = sizeof request;
    request.progress = [](void* data, const char* stage, double done) {
        static_cast<std::vector<std::string>*>(data)->emplace_back(stage);
        return done >= 0.0 && done <= 1.0 ? 0 : 1;
    };
    request.progress_data = &stages;
    REQUIRE(mfres_predict(handle.get(), &c.patient, &request, &out.output) == 0);
    CHECK(stages.front() == "read");
    CHECK(std::find(stages.begin(), stages.end(), "network") != stages.end());

    request.progress = [](void*, const char* stage, double) { return std::string(stage) == "network" ? 1 : 0; };
    CHECK(mfres_predict(handle.get(), &c.patient, &request, &out.output) == -1);
    CHECK(std::string(mfres_error_name(handle.get())) == "interrupted");
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0); // the segmenter stays usable
}

TEST_CASE("plain C: a network runs in a thread pool that the caller lends") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    const test::CCase c;
    int backends = 0;
    for (const BackendInfo& backend : available_backends()) {
        if (backend.name != "onednn" && backend.name != "native")
            continue;
        ++backends;
        INFO(backend.name);
        mfres_options options = reference_options();
        options.backend = backend.name.c_str();
        COutput own;
        REQUIRE(mfres_predict(opened(model, options).get(), &c.patient, nullptr, &own.output) == 0);

        std::atomic<int> loops{0};
        options.parallel_for = [](void* data, int parts, void (*part)(void*, int), void* part_data) {
            ++*static_cast<std::atomic<int>*>(data);
            std::vector<std::thread> threads;
            for (int index = 1; index < parts; ++index)
                threads.emplace_back(part, part_data, index);
            part(part_data, 0);
            for (std::thread& thread : threads)
                thread.join();
        };
        options.parallel_data = &loops;
        COutput lent;
        REQUIRE(mfres_predict(opened(model, options).get(), &c.patient, nullptr, &lent.output) == 0);
        CHECK(loops > 0);
        CHECK(lent.labels == own.labels);
    }
    if (backends == 0)
        std::puts("SKIPPED: only the onednn and native backends run in a pool of the caller");
}

TEST_CASE("plain C: structs of older and newer programs") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    mfres_options options = reference_options();
    options.struct_size = 0;
    CHECK(mfres_open(model.c_str(), &options) == nullptr);
    CHECK(std::string(mfres_error_message(nullptr)).find("struct_size is 0") != std::string::npos);

    struct Newer {
        mfres_options known;
        std::int64_t added;
    } newer{reference_options(), 0};
    newer.known.struct_size = sizeof newer;
    CHECK(Handle(mfres_open(model.c_str(), &newer.known), mfres_close) != nullptr);
    newer.added = 1;
    CHECK(mfres_open(model.c_str(), &newer.known) == nullptr);
    CHECK(std::string(mfres_error_message(nullptr)).find("newer mfres.h") != std::string::npos);

    const Handle handle = opened(model, reference_options());
    test::CCase c;
    COutput out;
    c.volumes[1].struct_size = 8;
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == -1);
    CHECK(std::string(mfres_error_message(handle.get())).find("mfres_volume.struct_size is 8") != std::string::npos);
    c.volumes[1].struct_size = sizeof(mfres_volume);
    out.output.struct_size = 1;
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == -1);
    out.output.struct_size = sizeof out.output;
    c.patient.struct_size = 0;
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == -1);
}

TEST_CASE("plain C: a size of 0 is what the model recommends, unless that is turned off") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    auto model = load_model(test::write_model(folder, test::small_network));
    REQUIRE_OK(model);
    model->metadata.postprocessing = {20.0, 1e9};
    const auto path = (folder / "recommends.safetensors").string();
    REQUIRE_OK(save_model(path, *model));
    const Handle handle = opened(path, reference_options());
    const test::CCase c;
    const auto report_with = [&](double min_component, int none) {
        mfres_request request{};
        request.struct_size = sizeof request;
        request.min_component_mm3 = min_component;
        request.no_recommended_sizes = none;
        const CFiles named(files);
        COutput out;
        REQUIRE(mfres_segment(handle.get(), &named.files, &request, &out.output) == 0);
        const auto of_files = report_of(handle.get())["postprocessing"];
        REQUIRE(mfres_predict(handle.get(), &c.patient, &request, &out.output) == 0);
        CHECK(report_of(handle.get())["postprocessing"] == of_files);
        return of_files;
    };
    const auto sizes = [](double component, double enhancing) {
        return nlohmann::json{
            {"min_component_mm3", component}, {"min_enhancing_mm3", enhancing}, {"min_enhancing_share", 0.0}};
    };
    CHECK(report_with(0.0, 0) == sizes(20.0, 1e9));
    CHECK(report_with(7.0, 0) == sizes(7.0, 1e9));
    CHECK(report_with(7.0, 1) == sizes(7.0, 0.0));
}

TEST_CASE("plain C: wrong arguments are errors, not crashes") {
    CHECK(mfres_open(nullptr, nullptr) == nullptr);
    CHECK(std::string(mfres_error_name(nullptr)) == "invalid_argument");
    CHECK(mfres_open("x.safetensors", nullptr) == nullptr);
    CHECK(std::string(mfres_error_name(nullptr)) == "file_not_found");
    CHECK(mfres_open_bytes(nullptr, 0, nullptr, nullptr) == nullptr);
    CHECK(mfres_open_bytes("not a model", 11, nullptr, nullptr) == nullptr);
    CHECK(std::string(mfres_error_name(nullptr)).rfind("model_", 0) == 0);
    CHECK(mfres_segment(nullptr, nullptr, nullptr, nullptr) == -1);
    CHECK(std::string(mfres_error_message(nullptr)).find("segmenter") != std::string::npos);
    CHECK(mfres_predict(nullptr, nullptr, nullptr, nullptr) == -1);
    mfres_close(nullptr);
    mfres_cancel(nullptr);
    CHECK(std::string(mfres_report(nullptr)).empty());
    CHECK(mfres_warm_up(nullptr, nullptr) == -1);
    CHECK(version() == mfres_version());
    CHECK(mfres_version_number() == MFRES_VERSION_NUMBER);
    CHECK(mfres_c_interface() == MFRES_C_INTERFACE);
    CHECK(available_backends()[0].name == mfres_backend_name(0));
    CHECK(mfres_backend_name(-1) == nullptr);
    CHECK(mfres_backend_name(static_cast<int>(available_backends().size())) == nullptr);

    const test::TemporaryFolder folder;
    const Handle handle = opened(test::write_model(folder, test::small_network), reference_options());
    test::CCase c;
    COutput out;
    CHECK(mfres_predict(handle.get(), nullptr, nullptr, &out.output) == -1);
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, nullptr) == -1);
    CHECK(std::string(mfres_error_message(handle.get())).find("output") != std::string::npos);
    out.output.labels_size -= 1;
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == -1);
    CHECK(std::string(mfres_error_message(handle.get())).find("labels_size") != std::string::npos);
    out.output.labels_size += 1;
    c.volumes[0].voxels = nullptr;
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == -1);
    CHECK(std::string(mfres_error_message(handle.get())).find("t1.voxels") != std::string::npos);
    c.patient.t1 = nullptr;
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == -1);
    CHECK(std::string(mfres_error_name(handle.get())) == "modality_missing");
    // The error of one segmenter is not that of another, nor of the thread.
    CHECK(std::string(mfres_error_name(nullptr)).empty());
}

TEST_CASE("plain C: a program with smaller structs keeps working") {
    // What lies behind the part that the program has must be neither read nor written.
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    const test::CCase c;
    COutput wanted;
    REQUIRE(mfres_predict(opened(model, reference_options()).get(), &c.patient, nullptr, &wanted.output) == 0);

    mfres_options options;
    std::memset(&options, 0xAB, sizeof options);
    options.struct_size = offsetof(mfres_options, device);
    options.backend = "reference";
    options.precision = options.wait_policy = options.mirror = options.accept = nullptr;
    options.max_memory = 0;
    options.threads = 2;
    const Handle handle = opened(model, options);
    mfres_request request;
    std::memset(&request, 0xAB, sizeof request);
    request.struct_size = offsetof(mfres_request, min_enhancing_mm3);
    request.label_scheme = nullptr;
    test::CCase small;
    for (mfres_volume& volume : small.volumes) {
        std::memset(volume.strides, 0xAB, sizeof volume - offsetof(mfres_volume, strides));
        volume.struct_size = offsetof(mfres_volume, strides);
    }
    COutput out;
    out.output.struct_size = offsetof(mfres_output, probabilities);
    std::memset(&out.output.probabilities, 0xAB, sizeof out.output - offsetof(mfres_output, probabilities));
    REQUIRE(mfres_predict(handle.get(), &small.patient, &request, &out.output) == 0);
    CHECK(out.labels == wanted.labels);
    const auto* const bytes = reinterpret_cast<const unsigned char*>(&out.output);
    CHECK(std::all_of(bytes + offsetof(mfres_output, probabilities), bytes + sizeof out.output,
                      [](int byte) { return byte == 0xAB; }));

    const CaseFiles on_disk = test::write_case(folder);
    const auto home = on_disk.modalities[0].parent_path();
    mfres_files files;
    std::memset(&files, 0xAB, sizeof files);
    files.struct_size = offsetof(mfres_files, t1);
    files.id = nullptr;
    files.folder = home.c_str();
    REQUIRE(mfres_segment(handle.get(), &files, nullptr, &out.output) == 0);
    CHECK(out.labels == wanted.labels);
}

TEST_CASE("plain C: large arrays come from the caller's allocator, and all of them go back") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    struct Counts {
        std::atomic<std::int64_t> blocks{0};
        std::atomic<std::int64_t> bytes{0};
        std::atomic<std::int64_t> calls{0};
        std::atomic<std::int64_t> misaligned{0};
        std::atomic<std::int64_t> failing{0}; ///< number of the call that gives nothing; 0 = none
    } counts;
    mfres_options options = reference_options();
    options.memory_data = &counts;
    options.allocate = [](void* data, std::size_t bytes, std::size_t alignment) -> void* {
        Counts& all = *static_cast<Counts*>(data);
        if (++all.calls == all.failing)
            return nullptr;
        void* const memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
        ++all.blocks;
        all.bytes += static_cast<std::int64_t>(bytes);
        return memory;
    };
    CHECK(mfres_open(model.c_str(), &options) == nullptr);
    CHECK(std::string(mfres_error_message(nullptr)).find("allocate and release") != std::string::npos);
    options.release = [](void* data, void* memory, std::size_t bytes) {
        Counts& all = *static_cast<Counts*>(data);
        --all.blocks;
        all.bytes -= static_cast<std::int64_t>(bytes);
        std::free(memory);
    };
    const test::CCase c;
    COutput plain;
    REQUIRE(mfres_predict(opened(model, reference_options()).get(), &c.patient, nullptr, &plain.output) == 0);
    for (const int keep : {0, 1}) {
        options.keep_memory = keep;
        Handle handle = opened(model, options);
        COutput out;
        REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0);
        CHECK(out.labels == plain.labels);
        CHECK(out.probabilities == plain.probabilities);
        CHECK(counts.calls > 4);
        CHECK(counts.bytes > 0);
        const std::int64_t before = counts.calls;
        REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0);
        CHECK((counts.calls == before) == (keep == 1));
        handle.reset();
        CHECK(counts.blocks == 0);
        CHECK(counts.bytes == 0);
    }
    options.keep_memory = 0;
    const Handle handle = opened(model, options);
    for (int failing = 1; failing <= 8; ++failing) {
        counts.calls = 0;
        counts.failing = failing;
        COutput out;
        const int status = mfres_predict(handle.get(), &c.patient, nullptr, &out.output);
        if (counts.calls >= failing) {
            CHECK(status == -1);
            CHECK(std::string(mfres_error_name(handle.get())) == "memory_limit");
        }
    }
    counts.failing = 0;
    COutput out;
    REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0);
    CHECK(out.labels == plain.labels);
}

TEST_CASE("plain C: the log gets what was opened, segmented and rejected, up to its level") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    std::vector<std::pair<int, std::string>> messages;
    mfres_options options = reference_options();
    options.log_data = &messages;
    options.log = [](void* data, int level, const char* message) {
        static_cast<std::vector<std::pair<int, std::string>>*>(data)->emplace_back(level, message);
    };
    const auto has = [&](int level, std::string_view words) {
        return std::any_of(messages.begin(), messages.end(), [&](const auto& one) {
            return one.first == level && one.second.find(words) != std::string::npos;
        });
    };
    test::CCase c;
    COutput out;
    {
        const Handle handle = opened(model, options);
        CHECK(has(MFRES_LOG_INFO, "reference"));
        REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0);
        CHECK(has(MFRES_LOG_INFO, "case phantom was segmented"));
        CHECK_FALSE(has(MFRES_LOG_DEBUG, ""));
        c.patient.t1 = nullptr;
        CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == -1);
        CHECK(has(MFRES_LOG_ERROR, mfres_error_message(handle.get())));
        c.patient.t1 = &c.volumes[0];
    }
    messages.clear();
    options.log_level = MFRES_LOG_DEBUG;
    REQUIRE(mfres_predict(opened(model, options).get(), &c.patient, nullptr, &out.output) == 0);
    CHECK(has(MFRES_LOG_DEBUG, "network took"));
    messages.clear();
    options.log_level = MFRES_LOG_ERROR;
    REQUIRE(mfres_predict(opened(model, options).get(), &c.patient, nullptr, &out.output) == 0);
    CHECK(messages.empty());
    options.log_level = 9;
    CHECK(mfres_open(model.c_str(), &options) == nullptr);
}

TEST_CASE("plain C: cancelled from another thread, and warmed up") {
    const test::TemporaryFolder folder;
    const Handle handle = opened(test::write_model(folder, test::small_network), reference_options());
    const test::CCase c;
    COutput out;
    mfres_cancel(handle.get()); // nothing is running
    REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0);
    mfres_request request{};
    request.struct_size = sizeof request;
    request.progress_data = handle.get();
    request.progress = [](void* data, const char* stage, double) {
        if (std::string(stage) == "network")
            std::thread(mfres_cancel, static_cast<mfres_segmenter*>(data)).join();
        return 0;
    };
    CHECK(mfres_predict(handle.get(), &c.patient, &request, &out.output) == -1);
    CHECK(std::string(mfres_error_name(handle.get())) == "interrupted");
    CHECK(std::string(mfres_error_place(handle.get())) == "network");
    const std::int64_t brain[3] = {30, 40, 20};
    CHECK(mfres_warm_up(handle.get(), brain) == 0);
    const std::int64_t none[3] = {30, 0, 20};
    CHECK(mfres_warm_up(handle.get(), none) == -1);
    CHECK(std::string(mfres_error_place(handle.get())) == "brain_size");
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0);
}

TEST_CASE("plain C: cancelled at any moment, the call is interrupted or complete, and the next one is right") {
    const test::TemporaryFolder folder;
    mfres_options options = reference_options();
    options.backend = nullptr;
    options.keep_memory = 1;
    const Handle handle = opened(test::write_model(folder, test::small_network), options);
    const test::CCase c;
    COutput wanted;
    REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &wanted.output) == 0);
    int interrupted = 0;
    for (int n = 0; n < 40; ++n) {
        std::thread other([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(700 * n));
            mfres_cancel(handle.get());
        });
        COutput out;
        const int status = mfres_predict(handle.get(), &c.patient, nullptr, &out.output);
        other.join();
        if (status == 0) {
            CHECK(out.labels == wanted.labels);
        } else {
            CHECK(std::string(mfres_error_name(handle.get())) == "interrupted");
            ++interrupted;
        }
        REQUIRE(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0);
        CHECK(out.labels == wanted.labels);
        CHECK(out.probabilities == wanted.probabilities);
    }
    CHECK(interrupted > 0);
}

TEST_CASE("plain C: CPUs, devices and wrong lists of CPUs") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    mfres_options options = reference_options();
    const int cpus[] = {1000000};
    options.cpu_count = 1;
    CHECK(mfres_open(model.c_str(), &options) == nullptr);
    CHECK(std::string(mfres_error_message(nullptr)).find("cpus") != std::string::npos);
    options.cpus = cpus;
    CHECK(mfres_open(model.c_str(), &options) == nullptr);
    CHECK(std::string(mfres_error_message(nullptr)).find("CPU 1000000") != std::string::npos);
    options.cpu_count = 0;
    CHECK(opened(model, options) != nullptr);
}
