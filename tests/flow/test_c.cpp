// SPDX-License-Identifier: MIT
// The plain C interface does what the C++ one does.
#include "core/file.h"
#include "support/cases.h"

#include <mfres/mfres.h>
#include <mfres/segmenter.h>

#include <nlohmann/json.hpp>

#include <atomic>
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

/// A volume as C describes it.
mfres_volume c_volume(const Volume& volume) {
    mfres_volume view{};
    view.struct_size = sizeof view;
    view.voxels = volume.voxels.data();
    view.type = MFRES_FLOAT32;
    std::copy(volume.grid.size.begin(), volume.grid.size.end(), view.size);
    for (std::size_t row = 0; row < 3; ++row)
        std::copy(volume.grid.affine[row].begin(), volume.grid.affine[row].end(), view.affine[row]);
    return view;
}

/// The small phantom as C describes it.
struct CCase {
    std::array<mfres_volume, 4> volumes;
    mfres_case patient{};

    CCase() {
        const Phantom& phantom = test::small_phantom();
        for (std::size_t m = 0; m < 4; ++m)
            volumes[m] = c_volume(phantom.volumes[m]);
        patient = {sizeof patient, "phantom", &volumes[0], &volumes[1], &volumes[2], &volumes[3]};
    }
    CCase(const CCase&) = delete;
};

/// Memory for all that a prediction of the small phantom gives.
struct COutput {
    std::vector<std::uint8_t> labels;
    std::vector<float> probabilities;
    mfres_output output{};

    COutput() {
        const auto voxels = static_cast<std::size_t>(test::small_phantom().volumes[0].grid.voxels());
        labels.assign(voxels, 255);
        probabilities.assign(MFRES_CLASSES * voxels, -1.0F);
        output = {sizeof output, labels.data(), labels.size(), probabilities.data(), probabilities.size(), nullptr};
    }
    ~COutput() { mfres_free(output.report); }
    COutput(const COutput&) = delete;
};

} // namespace

TEST_CASE("plain C: open, segment a folder and named files, read the report, close") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const Handle handle = opened(test::write_model(folder, test::small_network), reference_options());
    mfres_segmenter* const segmenter = handle.get();

    const auto a = folder / "a.nii";
    const auto b = folder / "b.nii";
    char* report = nullptr;
    REQUIRE(mfres_segment_folder(segmenter, files.modalities[0].parent_path().c_str(), nullptr, a.c_str(), &report) ==
            0);
    CHECK(nlohmann::json::parse(report)["backend"]["name"] == "reference");
    mfres_free(report);
    REQUIRE(mfres_segment_files(segmenter, files.modalities[0].c_str(), files.modalities[1].c_str(),
                                files.modalities[2].c_str(), files.modalities[3].c_str(), nullptr, b.c_str(),
                                nullptr) == 0);
    CHECK(std::string(mfres_error_name(segmenter)).empty());
    const auto from_folder = read_nifti_labels(a);
    const auto from_files = read_nifti_labels(b);
    REQUIRE_OK(from_folder);
    REQUIRE_OK(from_files);
    CHECK(from_folder->map.labels == from_files->map.labels);

    CHECK(mfres_segment_folder(segmenter, (folder / "missing").c_str(), nullptr, a.c_str(), &report) == -1);
    CHECK(std::string(mfres_error_name(segmenter)) == "file_not_found");
    CHECK(report == nullptr);
    CHECK(mfres_segment_files(segmenter, files.modalities[0].c_str(), nullptr, nullptr, nullptr, nullptr, a.c_str(),
                              nullptr) == -1);
    CHECK(std::string(mfres_error_message(segmenter)).find("t1ce") != std::string::npos);
}

TEST_CASE("plain C: volumes in memory give the labels of C++ and of files, and probabilities") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const auto model = test::write_model(folder, test::small_network);
    const Handle handle = opened(model, reference_options());
    const CCase c;
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
    const auto report = nlohmann::json::parse(out.output.report);
    CHECK(report["case"] == "phantom");

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
    CHECK(std::string(again.output.report).find("\"mine\"") != std::string::npos);
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
    CCase plain;
    for (std::size_t m = 0; m < 4; ++m)
        plain.volumes[m].voxels = rounded[m].voxels.data();
    COutput wanted;
    REQUIRE(mfres_predict(handle.get(), &plain.patient, nullptr, &wanted.output) == 0);

    const std::vector<std::uint8_t> bytes(rounded[0].voxels.begin(), rounded[0].voxels.end());
    std::vector<std::int32_t> doubled; // stored * 0.5
    std::vector<double> reversed(rounded[2].voxels.rbegin(), rounded[2].voxels.rend());
    for (const float voxel : rounded[1].voxels)
        doubled.push_back(2 * static_cast<std::int32_t>(voxel));
    CCase mixed;
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
    CHECK(read.output.report == nullptr);
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
        char* text = nullptr;
        REQUIRE(mfres_segment_folder(handle.get(), files.modalities[0].parent_path().c_str(), &request,
                                     (folder / "a.nii").c_str(), &text) == 0);
        const auto report = nlohmann::json::parse(text);
        mfres_free(text);
        CHECK(report["backend"]["precision"] == "bf16");
        CHECK(report["mirror_images"] == 2);
        CHECK(report["classes"]["enhancing tumour"]["voxels"] == 0);
        CHECK(report["label_scheme"] == "brats2023");
        request.min_component_mm3 = -1.0;
        CHECK(mfres_segment_folder(handle.get(), files.modalities[0].parent_path().c_str(), &request,
                                   (folder / "b.nii").c_str(), nullptr) == -1);
        CHECK(std::string(mfres_error_message(handle.get())).find("min_component_mm3") != std::string::npos);
        CHECK_FALSE(std::filesystem::exists(folder / "b.nii"));
    }
    options.mirror = "w";
    CHECK(mfres_open(model.c_str(), &options) == nullptr);
    CHECK(std::string(mfres_error_name(nullptr)) == "invalid_argument");
}

TEST_CASE("plain C: progress is reported, and a call can be stopped") {
    const test::TemporaryFolder folder;
    const Handle handle = opened(test::write_model(folder, test::small_network), reference_options());
    const CCase c;
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
    mfres_free(out.output.report);
    CHECK(mfres_predict(handle.get(), &c.patient, &request, &out.output) == -1);
    CHECK(std::string(mfres_error_name(handle.get())) == "interrupted");
    CHECK(out.output.report == nullptr);
    CHECK(mfres_predict(handle.get(), &c.patient, nullptr, &out.output) == 0); // the segmenter stays usable
}

TEST_CASE("plain C: a network runs in a thread pool that the caller lends") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    const CCase c;
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
    CCase c;
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
    const CCase c;
    const auto report_with = [&](double min_component, int none) {
        mfres_request request{};
        request.struct_size = sizeof request;
        request.min_component_mm3 = min_component;
        request.no_recommended_sizes = none;
        char* text = nullptr;
        REQUIRE(mfres_segment_folder(handle.get(), files.modalities[0].parent_path().c_str(), &request,
                                     (folder / "a.nii").c_str(), &text) == 0);
        const auto of_files = nlohmann::json::parse(text)["postprocessing"];
        mfres_free(text);
        COutput out;
        REQUIRE(mfres_predict(handle.get(), &c.patient, &request, &out.output) == 0);
        CHECK(nlohmann::json::parse(out.output.report)["postprocessing"] == of_files);
        return of_files;
    };
    const auto sizes = [](double component, double enhancing) {
        return nlohmann::json{{"min_component_mm3", component}, {"min_enhancing_mm3", enhancing}};
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
    CHECK(mfres_segment_folder(nullptr, "a", nullptr, "b", nullptr) == -1);
    CHECK(std::string(mfres_error_message(nullptr)).find("segmenter") != std::string::npos);
    CHECK(mfres_predict(nullptr, nullptr, nullptr, nullptr) == -1);
    mfres_close(nullptr);
    mfres_free(nullptr);
    CHECK(version() == mfres_version());

    const test::TemporaryFolder folder;
    const Handle handle = opened(test::write_model(folder, test::small_network), reference_options());
    CCase c;
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
