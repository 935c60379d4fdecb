// SPDX-License-Identifier: MIT
// The plain C interface: a thin wrapper over Segmenter and its Predictor.
#include <mfres/mfres.h>

#include "core/guard.h"
#include "core/try.h"

#include <mfres/case.h>
#include <mfres/plausibility.h>
#include <mfres/segmenter.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace {

/// The last error as C reads it. It keeps texts that are too long for the memory there is out: a message is lost rather
/// than the program.
struct LastError {
    std::string name;
    std::string message;

    void set(std::string_view code, std::string_view sentence) noexcept {
        try {
            name = code;
            message = sentence;
        } catch (const std::exception&) {
            message.clear();
        }
    }
};

/// Of calls without a segmenter.
LastError& error_of_thread() {
    thread_local LastError error;
    return error;
}

} // namespace

struct mfres_segmenter {
    mfres::Segmenter segmenter;
    LastError error;
};

namespace {

using mfres::Error;
using mfres::ErrorCode;
using mfres::Result;
using mfres::Status;
using mfres::text;

/// Runs `body`, which gives a Status, and keeps exceptions (of allocations, above all) inside.
template <typename Body>
int guarded(mfres_segmenter* segmenter, const Body& body) noexcept {
    LastError& error = segmenter ? segmenter->error : error_of_thread();
    error.set("", "");
    const Status status = mfres::guarded("", body);
    if (status)
        return 0;
    error.set(mfres::name(status.error().code), status.error().message);
    return -1;
}

Error missing(const char* name) {
    return {ErrorCode::invalid_argument, std::string(name) + " must not be NULL", name};
}

/// The caller's struct as this library knows it: what an older caller does not have is zero. `since` is the size of the
/// struct in the first version that had it.
template <typename Struct>
Result<Struct> known_part(const Struct* given, const char* name, std::size_t since) {
    Struct known{};
    if (!given)
        return known;
    const std::size_t size = given->struct_size;
    if (size < since)
        return Error{
            ErrorCode::invalid_argument,
            text(name, ".struct_size is ", size, "; it must be set to sizeof(", name, "), which is at least ", since),
            name};
    const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
    if (size > sizeof(Struct) && std::any_of(bytes + sizeof(Struct), bytes + size, [](int byte) { return byte != 0; }))
        return Error{ErrorCode::invalid_argument,
                     text(name, " sets a member that mfres ", mfres::version(),
                          " does not have: the program was compiled with a newer mfres.h"),
                     name};
    std::memcpy(&known, bytes, std::min(size, sizeof(Struct)));
    return known;
}

// The sizes of version 0.1.
constexpr std::size_t options_size = offsetof(mfres_options, parallel_data) + sizeof(void*);
constexpr std::size_t request_size = offsetof(mfres_request, progress_data) + sizeof(void*);
constexpr std::size_t volume_size = offsetof(mfres_volume, inter) + sizeof(double);
constexpr std::size_t case_size = offsetof(mfres_case, flair) + sizeof(void*);
constexpr std::size_t output_size = offsetof(mfres_output, report) + sizeof(char*);

/// The checks in a list with commas between.
Result<mfres::AcceptedChecks> accepted_checks(const char* list) {
    mfres::AcceptedChecks accepted;
    std::string_view rest = list ? list : "";
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find(','), rest.size());
        MFRES_TRY(const mfres::ErrorCode check, mfres::parse_plausibility_check(rest.substr(0, end)));
        accepted.insert(check);
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return accepted;
}

/// Members that are NULL keep their defaults.
Result<mfres::SegmenterOptions> segmenter_options(const mfres_options* caller) {
    MFRES_TRY(const mfres_options given, known_part(caller, "mfres_options", options_size));
    mfres::SegmenterOptions setup;
    mfres::ComputeOptions& compute = setup.compute;
    if (given.backend)
        compute.backend = given.backend;
    if (given.precision && std::string_view(given.precision) != "auto") {
        MFRES_TRY(compute.precision, mfres::parse_precision(given.precision));
    }
    if (given.wait_policy) {
        MFRES_TRY(compute.wait_policy, mfres::parse_wait_policy(given.wait_policy));
    }
    if (given.mirror) {
        MFRES_TRY(setup.mirror, mfres::parse_mirror_axes(given.mirror));
    }
    compute.deterministic = given.nondeterministic == 0;
    compute.threads = given.threads;
    setup.max_memory = given.max_memory;
    if (given.parallel_for)
        compute.parallel_for = [loop = given.parallel_for,
                                data = given.parallel_data](int parts, const std::function<void(int)>& part) {
            loop(
                data, parts,
                [](void* body, int index) { (*static_cast<const std::function<void(int)>*>(body))(index); },
                const_cast<std::function<void(int)>*>(&part));
        };
    MFRES_TRY(setup.accept, accepted_checks(given.accept));
    return setup;
}

mfres::Progress progress_of(const mfres_request& request) {
    if (!request.progress)
        return {};
    return [call = request.progress, data = request.progress_data](std::string_view stage, double done) {
        return call(data, std::string(stage).c_str(), done) == 0;
    };
}

mfres_segmenter* opened(Result<mfres::Segmenter> segmenter, Status& status) {
    if (segmenter)
        return new mfres_segmenter{std::move(segmenter).value(), {}};
    status = std::move(segmenter).error();
    return nullptr;
}

Result<mfres::ScalarType> scalar_type(std::int32_t code, const char* contrast) {
    using mfres::ScalarType;
    constexpr std::pair<std::int32_t, ScalarType> types[] = {
        {MFRES_UINT8, ScalarType::uint8},     {MFRES_INT8, ScalarType::int8},     {MFRES_UINT16, ScalarType::uint16},
        {MFRES_INT16, ScalarType::int16},     {MFRES_UINT32, ScalarType::uint32}, {MFRES_INT32, ScalarType::int32},
        {MFRES_UINT64, ScalarType::uint64},   {MFRES_INT64, ScalarType::int64},   {MFRES_FLOAT32, ScalarType::float32},
        {MFRES_FLOAT64, ScalarType::float64},
    };
    for (const auto& [number, type] : types)
        if (number == code)
            return type;
    return Error{ErrorCode::invalid_argument,
                 text("the type of ", contrast, " is ", code, ", which is none of MFRES_UINT8 to MFRES_UINT64"),
                 contrast};
}

Result<mfres::VolumeView> view_of(const mfres_volume* caller, const char* contrast) {
    MFRES_TRY(const mfres_volume given, known_part(caller, "mfres_volume", volume_size));
    mfres::VolumeView view;
    if (!caller)
        return view;
    if (!given.voxels)
        return missing((std::string(contrast) + ".voxels").c_str());
    view.voxels = given.voxels;
    MFRES_TRY(view.type, scalar_type(given.type, contrast));
    std::copy_n(given.size, 3, view.grid.size.begin());
    std::copy_n(given.strides, 3, view.strides.begin());
    for (std::size_t row = 0; row < 3; ++row)
        std::copy_n(given.affine[row], 4, view.grid.affine[row].begin());
    view.slope = given.slope;
    view.inter = given.inter;
    return view;
}

Result<mfres::CaseVolumes> volumes_of(const mfres_case* caller) {
    MFRES_TRY(const mfres_case given, known_part(caller, "mfres_case", case_size));
    mfres::CaseVolumes volumes;
    volumes.id = given.id ? given.id : "";
    const std::array<const mfres_volume*, 4> contrasts{given.t1, given.t1ce, given.t2, given.flair};
    for (const mfres::Modality modality : mfres::modalities) {
        MFRES_TRY(volumes[modality],
                  view_of(contrasts[static_cast<std::size_t>(modality)], mfres::name(modality).data()));
    }
    return volumes;
}

Status check_space(const char* member, const void* memory, std::size_t space, std::size_t wanted) {
    if (!memory || space >= wanted)
        return {};
    return Error{ErrorCode::invalid_argument, text(member, " is ", space, "; the result has ", wanted, " elements"),
                 member};
}

/// Whether the result will fit, before it is computed. The contrasts have one grid, which predict() checks.
Status check_space(const mfres_output& output, const mfres::CaseVolumes& volumes) {
    std::size_t voxels = 0;
    for (const mfres::VolumeView& view : volumes.volumes)
        if (view.voxels && voxels == 0) {
            voxels = 1;
            for (const std::int64_t extent : view.grid.size) // those outside 2..1024 are rejected by predict()
                voxels *= static_cast<std::size_t>(std::clamp<std::int64_t>(extent, 1, 1024));
        }
    MFRES_CHECK(check_space("labels_size", output.labels, output.labels_size, voxels));
    return check_space("probabilities_size", output.probabilities, output.probabilities_size, MFRES_CLASSES * voxels);
}

/// NULL if there is no memory for it.
char* c_string(const std::string& words) {
    auto* copy = static_cast<char*>(std::malloc(words.size() + 1));
    if (copy)
        std::memcpy(copy, words.c_str(), words.size() + 1);
    return copy;
}

/// No value for a size that the model decides.
std::optional<double> size_of(double given, const mfres_request& request) {
    return given == 0.0 && request.no_recommended_sizes == 0 ? std::nullopt : std::optional(given);
}

/// What the options of cases in memory and in files have in common.
template <typename Options>
Options case_options(const mfres_request& request) {
    Options options;
    options.resample = request.resample != 0;
    options.label_scheme = request.label_scheme ? request.label_scheme : "";
    options.min_enhancing_mm3 = size_of(request.min_enhancing_mm3, request);
    options.min_component_mm3 = size_of(request.min_component_mm3, request);
    return options;
}

Status predict(mfres_segmenter& segmenter, const mfres_case* patient, const mfres_request* wanted,
               mfres_output* caller) {
    MFRES_TRY(const mfres_output output, known_part(caller, "mfres_output", output_size));
    caller->report = nullptr;
    MFRES_TRY(const mfres_request request, known_part(wanted, "mfres_request", request_size));
    MFRES_TRY(const mfres::CaseVolumes volumes, volumes_of(patient));
    MFRES_CHECK(check_space(output, volumes));
    auto options = case_options<mfres::PredictOptions>(request);
    options.probabilities = output.probabilities != nullptr;
    MFRES_TRY(const mfres::Prediction result,
              segmenter.segmenter.predictor().predict(volumes, options, progress_of(request)));
    if (output.labels)
        std::copy(result.labels.labels.begin(), result.labels.labels.end(), output.labels);
    if (result.probabilities)
        std::copy(result.probabilities->values.begin(), result.probabilities->values.end(), output.probabilities);
    caller->report = c_string(mfres::to_json(result.report));
    return {};
}

Status segment(mfres_segmenter& segmenter, const mfres::CaseFiles& files, const mfres_request* wanted,
               const char* output, char** report) {
    MFRES_TRY(const mfres_request request, known_part(wanted, "mfres_request", request_size));
    auto options = case_options<mfres::SegmentOptions>(request);
    options.output = output;
    MFRES_TRY(const mfres::Segmentation result, segmenter.segmenter.segment(files, options, progress_of(request)));
    if (report)
        *report = c_string(mfres::to_json(result.report));
    return {};
}

} // namespace

const char* mfres_version(void) {
    return mfres::version().data();
}

mfres_segmenter* mfres_open(const char* model, const mfres_options* options) {
    mfres_segmenter* handle = nullptr;
    guarded(nullptr, [&]() -> Status {
        if (!model)
            return missing("model");
        MFRES_TRY(const mfres::SegmenterOptions setup, segmenter_options(options));
        Status status;
        handle = opened(mfres::Segmenter::open(model, setup), status);
        return status;
    });
    return handle;
}

mfres_segmenter* mfres_open_bytes(const void* bytes, size_t size, const char* name, const mfres_options* options) {
    mfres_segmenter* handle = nullptr;
    guarded(nullptr, [&]() -> Status {
        if (!bytes)
            return missing("bytes");
        MFRES_TRY(const mfres::SegmenterOptions setup, segmenter_options(options));
        Status status;
        handle = opened(
            mfres::Segmenter::open({static_cast<const std::byte*>(bytes), size}, setup, name ? name : "model"), status);
        return status;
    });
    return handle;
}

const char* mfres_error_name(const mfres_segmenter* segmenter) {
    return (segmenter ? segmenter->error : error_of_thread()).name.c_str();
}

const char* mfres_error_message(const mfres_segmenter* segmenter) {
    return (segmenter ? segmenter->error : error_of_thread()).message.c_str();
}

int mfres_predict(mfres_segmenter* segmenter, const mfres_case* patient, const mfres_request* request,
                  mfres_output* output) {
    return guarded(segmenter, [&]() -> Status {
        if (!segmenter || !patient || !output)
            return missing(!segmenter ? "segmenter" : !patient ? "patient" : "output");
        return predict(*segmenter, patient, request, output);
    });
}

int mfres_segment_folder(mfres_segmenter* segmenter, const char* folder, const mfres_request* request,
                         const char* output, char** report) {
    if (report)
        *report = nullptr;
    return guarded(segmenter, [&]() -> Status {
        if (!segmenter || !folder || !output)
            return missing(!segmenter ? "segmenter" : !folder ? "folder" : "output");
        MFRES_TRY(const mfres::CaseFiles files, mfres::find_case(folder, true));
        return segment(*segmenter, files, request, output, report);
    });
}

int mfres_segment_files(mfres_segmenter* segmenter, const char* t1, const char* t1ce, const char* t2, const char* flair,
                        const mfres_request* request, const char* output, char** report) {
    if (report)
        *report = nullptr;
    return guarded(segmenter, [&]() -> Status {
        if (!segmenter || !output)
            return missing(!segmenter ? "segmenter" : "output");
        mfres::CaseFiles files;
        const std::array<const char*, 4> named{t1, t1ce, t2, flair};
        for (const mfres::Modality modality : mfres::modalities) {
            const auto i = static_cast<std::size_t>(modality);
            if (!named[i])
                return missing(mfres::name(modality).data());
            files.modalities[i] = named[i];
        }
        files.id = files.modalities[0].parent_path().filename().string();
        return segment(*segmenter, files, request, output, report);
    });
}

void mfres_free(char* report) {
    std::free(report);
}

void mfres_close(mfres_segmenter* segmenter) {
    delete segmenter;
}
