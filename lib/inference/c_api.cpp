// SPDX-License-Identifier: MIT
// The plain C interface: a thin wrapper over Segmenter and its Predictor.
#include <mfres/mfres.h>

#include "core/guard.h"
#include "core/try.h"

#include <mfres/case.h>
#include <mfres/case_images.h>
#include <mfres/plausibility.h>
#include <mfres/segmenter.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#define MFRES_TEXT_OF(number) #number
#define MFRES_TEXT(number) MFRES_TEXT_OF(number)

namespace {

/// The last error as C reads it. It keeps texts that are too long for the memory there is out: a message is lost rather
/// than the program.
struct LastError {
    std::string name;
    std::string message;
    std::string place;

    void clear() noexcept {
        name.clear();
        message.clear();
        place.clear();
    }

    void set(const mfres::Error& error) noexcept {
        clear();
        try {
            name = mfres::name(error.code);
            message = error.message;
            place = error.where;
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
    mfres::CaseVolumes volumes;   ///< of the last case in memory; its id's memory is reused
    mfres::Prediction prediction; ///< of the last case without files; its memory is reused
    /// Of the last case; nothing if that failed.
    std::variant<std::monostate, const mfres::PredictionReport*, mfres::SegmentReport> report;
    std::string json;
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
    error.clear();
    const Status status = mfres::guarded("", body);
    if (status)
        return 0;
    error.set(status.error());
    return -1;
}

Error missing(const char* name) {
    return {ErrorCode::invalid_argument, std::string(name) + " must not be NULL", name};
}

/// The caller's struct as this library knows it: what an older caller does not have is zero. `least` is the size that it
/// has to have at least.
template <typename Struct>
Result<Struct> known_part(const Struct* given, const char* name, std::size_t least) {
    Struct known{};
    if (!given)
        return known;
    const std::size_t size = given->struct_size;
    if (size < least)
        return Error{
            ErrorCode::invalid_argument,
            text(name, ".struct_size is ", size, "; it must be set to sizeof(", name, "), which is at least ", least),
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

// A caller may have less of a struct than version 1 has: what is not there is zero. Some of it has to be there.
#define MFRES_SIZE_OF(Struct, last) (offsetof(Struct, last) + sizeof(Struct::last))
constexpr std::size_t least_options = sizeof(std::size_t);
constexpr std::size_t least_request = sizeof(std::size_t);
constexpr std::size_t least_volume = MFRES_SIZE_OF(mfres_volume, affine);
constexpr std::size_t least_case = MFRES_SIZE_OF(mfres_case, t1);
constexpr std::size_t least_files = MFRES_SIZE_OF(mfres_files, folder);
constexpr std::size_t least_grid = MFRES_SIZE_OF(mfres_grid, affine);
constexpr std::size_t least_output = MFRES_SIZE_OF(mfres_output, labels_size);
// A struct ends with its last member: padding behind it would hold anything, and a member that is added later would be
// read from it.
static_assert(MFRES_SIZE_OF(mfres_options, keep_memory) + (sizeof(void*) == 4 ? sizeof(int) : 0) ==
                  sizeof(mfres_options) &&
              MFRES_SIZE_OF(mfres_request, progress_data) == sizeof(mfres_request) &&
              MFRES_SIZE_OF(mfres_volume, inter) == sizeof(mfres_volume) &&
              MFRES_SIZE_OF(mfres_case, flair) == sizeof(mfres_case) &&
              MFRES_SIZE_OF(mfres_files, affine) == sizeof(mfres_files) &&
              MFRES_SIZE_OF(mfres_grid, affine) == sizeof(mfres_grid) &&
              MFRES_SIZE_OF(mfres_output, region_ml) == sizeof(mfres_output));
#undef MFRES_SIZE_OF

constexpr std::string_view version_of_header =
    MFRES_TEXT(MFRES_VERSION_MAJOR) "." MFRES_TEXT(MFRES_VERSION_MINOR) "." MFRES_TEXT(MFRES_VERSION_PATCH);
static_assert(version_of_header == MFRES_VERSION, "mfres.h states another version than CMakeLists.txt");

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

void set_memory(const mfres_options& given, mfres::MemoryHooks& memory) {
    if (given.allocate)
        memory.allocate = [call = given.allocate, data = given.memory_data](std::size_t bytes, std::size_t alignment) {
            return call(data, bytes, alignment);
        };
    if (given.release)
        memory.release = [call = given.release, data = given.memory_data](void* array, std::size_t bytes) {
            call(data, array, bytes);
        };
}

static_assert(MFRES_LOG_ERROR == static_cast<int>(mfres::LogLevel::error) &&
              MFRES_LOG_WARNING == static_cast<int>(mfres::LogLevel::warning) &&
              MFRES_LOG_INFO == static_cast<int>(mfres::LogLevel::info) &&
              MFRES_LOG_DEBUG == static_cast<int>(mfres::LogLevel::debug));

Status set_log(const mfres_options& given, mfres::SegmenterOptions& setup) {
    if (given.log_level < 0 || given.log_level > MFRES_LOG_DEBUG)
        return Error{ErrorCode::invalid_argument,
                     text("log_level is ", given.log_level, ", which is none of MFRES_LOG_ERROR to MFRES_LOG_DEBUG"),
                     "log_level"};
    if (given.log_level != 0)
        setup.log_level = static_cast<mfres::LogLevel>(given.log_level);
    if (given.log)
        setup.log = [call = given.log, data = given.log_data](mfres::LogLevel level, std::string_view message) {
            call(data, static_cast<int>(level), std::string(message).c_str());
        };
    return {};
}

/// Members that are NULL keep their defaults.
Result<mfres::SegmenterOptions> segmenter_options(const mfres_options* caller) {
    MFRES_TRY(const mfres_options given, known_part(caller, "mfres_options", least_options));
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
    compute.tf32 = given.tf32 != 0;
    if (given.device != 0)
        compute.device = given.device;
    if (given.cpu_count > 0 && !given.cpus)
        return missing("cpus");
    if (given.cpus)
        compute.cpus.assign(given.cpus, given.cpus + given.cpu_count);
    setup.max_memory = given.max_memory;
    setup.keep_memory = given.keep_memory != 0;
    set_memory(given, setup.memory);
    MFRES_CHECK(set_log(given, setup));
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
        return new mfres_segmenter{std::move(segmenter).value(), {}, {}, {}, {}, {}};
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
    MFRES_TRY(const mfres_volume given, known_part(caller, "mfres_volume", least_volume));
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

/// In the memory that `volumes` has.
Status set_volumes(const mfres_case* caller, mfres::CaseVolumes& volumes) {
    MFRES_TRY(const mfres_case given, known_part(caller, "mfres_case", least_case));
    volumes.id = given.id ? given.id : "";
    const std::array<const mfres_volume*, 4> contrasts{given.t1, given.t1ce, given.t2, given.flair};
    for (const mfres::Modality modality : mfres::modalities) {
        MFRES_TRY(volumes[modality],
                  view_of(contrasts[static_cast<std::size_t>(modality)], mfres::name(modality).data()));
    }
    return {};
}

Status check_space(const char* member, const void* memory, std::size_t space, std::size_t wanted) {
    if (!memory || space >= wanted)
        return {};
    return Error{ErrorCode::invalid_argument, text(member, " is ", space, "; the result has ", wanted, " elements"),
                 member};
}

/// Whether the result will fit, before it is computed.
Status check_space(const mfres_output& output, const std::array<std::int64_t, 3>& size) {
    std::size_t voxels = 1;
    for (const std::int64_t extent : size) // those outside 2..1024 are rejected later
        voxels *= static_cast<std::size_t>(std::clamp<std::int64_t>(extent, 1, 1024));
    MFRES_CHECK(check_space("labels_size", output.labels, output.labels_size, voxels));
    return check_space("probabilities_size", output.probabilities, output.probabilities_size, MFRES_CLASSES * voxels);
}

/// The contrasts have one grid, which is checked later.
Status check_space(const mfres_output& output, const mfres::CaseVolumes& volumes) {
    const auto first = std::find_if(volumes.volumes.begin(), volumes.volumes.end(),
                                    [](const mfres::VolumeView& view) { return view.voxels != nullptr; });
    return first == volumes.volumes.end() ? Status() : check_space(output, first->grid.size);
}

/// The file that stands for the geometry of all. Precondition: there is one.
const std::filesystem::path& first_of(const mfres::CaseFiles& files) {
    return *std::find_if(files.modalities.begin(), files.modalities.end(),
                         [](const std::filesystem::path& file) { return !file.empty(); });
}

Status check_space(const mfres_output& output, const mfres::CaseFiles& files, mfres::AffineSource affine) {
    if (!output.labels && !output.probabilities)
        return {};
    MFRES_TRY(const mfres::Grid grid, mfres::read_grid(first_of(files), affine));
    return check_space(output, grid.size);
}

/// No value for a size that the model decides.
std::optional<double> size_of(double given, const mfres_request& request) {
    return given == 0.0 && request.no_recommended_sizes == 0 ? std::nullopt : std::optional(given);
}

/// What the options of cases with and without files have in common.
template <typename Options>
Options case_options(const mfres_request& request) {
    Options options;
    options.resample = request.resample != 0;
    options.label_scheme = request.label_scheme ? request.label_scheme : "";
    options.min_enhancing_mm3 = size_of(request.min_enhancing_mm3, request);
    options.min_component_mm3 = size_of(request.min_component_mm3, request);
    options.any_contrasts = request.any_contrasts != 0;
    return options;
}

Result<mfres::SegmentOptions> segment_options(const mfres_request& request, const mfres_output& output) {
    auto options = case_options<mfres::SegmentOptions>(request);
    options.preview_uncertainty = request.preview_uncertainty != 0;
    options.overwrite = output.keep_existing == 0;
    options.return_probabilities = output.probabilities != nullptr;
    const auto path = [](const char* given) { return std::filesystem::path(given ? given : ""); };
    options.output = path(output.label_file);
    options.preview = path(output.preview_file);
    options.probabilities = path(output.probability_file);
    if (output.probability_format) {
        MFRES_TRY(options.probability_format, mfres::parse_probability_format(output.probability_format));
    }
    return options;
}

/// The parts of a tumour in the order of the report, `first` the index of its first.
template <std::size_t Count>
void copy_parts(const std::vector<mfres::PredictionReport::Part>& parts, std::size_t first,
                std::int64_t (&voxels)[Count], double (&millilitres)[Count]) {
    for (std::size_t n = first; n < Count && n - first < parts.size(); ++n) {
        voxels[n] = parts[n - first].voxels;
        millilitres[n] = parts[n - first].millilitres;
    }
}

/// Into the caller's memory. Its struct may be one of an older version, so that it has to end where that one does.
void copy_result(const mfres::LabelMap& labels, const std::optional<mfres::ProbabilityMap>& probabilities,
                 const mfres::PredictionReport& report, mfres_output output, mfres_output& caller) {
    if (output.labels)
        std::copy(labels.labels.begin(), labels.labels.end(), output.labels);
    if (output.probabilities && probabilities)
        std::copy(probabilities->values.begin(), probabilities->values.end(), output.probabilities);
    copy_parts(report.classes, 1, output.class_voxels, output.class_ml);
    copy_parts(report.regions, 0, output.region_voxels, output.region_ml);
    std::memcpy(&caller, &output, std::min(output.struct_size, sizeof output));
}

/// Files are those of `images`, or none where a case comes from memory.
template <typename Images>
Status segment(mfres_segmenter& handle, const Images& images, const mfres::SegmentOptions& options,
               const mfres_request& request, const mfres_output& output, mfres_output& caller) {
    MFRES_TRY(mfres::Segmentation result, handle.segmenter.segment(images, options, progress_of(request)));
    copy_result(result.labels, result.probabilities, result.report, output, caller);
    handle.report = std::move(result.report);
    return {};
}

Status predict(mfres_segmenter& handle, const mfres_case* patient, const mfres_request* wanted, mfres_output* caller) {
    handle.report = std::monostate();
    MFRES_TRY(const mfres_output output, known_part(caller, "mfres_output", least_output));
    MFRES_TRY(const mfres_request request, known_part(wanted, "mfres_request", least_request));
    mfres::CaseVolumes& volumes = handle.volumes;
    MFRES_CHECK(set_volumes(patient, volumes));
    MFRES_CHECK(check_space(output, volumes));
    if (output.label_file || output.probability_file || output.preview_file) {
        MFRES_TRY(const auto with_files, segment_options(request, output));
        return segment(handle, volumes, with_files, request, output, *caller);
    }
    auto options = case_options<mfres::PredictOptions>(request);
    options.probabilities = output.probabilities != nullptr;
    MFRES_CHECK(handle.segmenter.predictor().predict_into(handle.prediction, volumes, options, progress_of(request)));
    const mfres::Prediction& result = handle.prediction;
    copy_result(result.labels, result.probabilities, result.report, output, *caller);
    handle.report = &result.report;
    return {};
}

Result<mfres::AffineSource> affine_source(const char* given) {
    return given ? mfres::parse_affine_source(given) : mfres::AffineSource::automatic;
}

Result<mfres::CaseFiles> files_of(const mfres_files& given) {
    const std::array<const char*, 4> named{given.t1, given.t1ce, given.t2, given.flair};
    const bool any = std::any_of(named.begin(), named.end(), [](const char* file) { return file != nullptr; });
    if (any == (given.folder != nullptr))
        return Error{ErrorCode::invalid_argument,
                     any ? "mfres_files names a folder and files; give one or the other"
                         : "mfres_files names no folder and no file",
                     "folder"};
    mfres::CaseFiles files;
    if (given.folder) {
        MFRES_TRY(files, mfres::find_case(given.folder, true));
    } else {
        for (std::size_t i = 0; i < named.size(); ++i)
            files.modalities[i] = named[i] ? named[i] : "";
        files.id = first_of(files).parent_path().filename().string();
    }
    if (given.id)
        files.id = given.id;
    return files;
}

Status segment_files(mfres_segmenter& handle, const mfres_files* caller_files, const mfres_request* wanted,
                     mfres_output* caller) {
    handle.report = std::monostate();
    MFRES_TRY(const mfres_output output, known_part(caller, "mfres_output", least_output));
    MFRES_TRY(const mfres_request request, known_part(wanted, "mfres_request", least_request));
    MFRES_TRY(const mfres_files given, known_part(caller_files, "mfres_files", least_files));
    MFRES_TRY(const mfres::CaseFiles files, files_of(given));
    MFRES_TRY(auto options, segment_options(request, output));
    MFRES_TRY(options.affine, affine_source(given.affine));
    MFRES_CHECK(check_space(output, files, options.affine));
    return segment(handle, files, options, request, output, *caller);
}

/// Names that live as long as the program, also of backends that are added at run time.
const char* kept_name(const std::string& name) {
    static std::mutex lock;
    static std::set<std::string> names;
    const std::lock_guard guard(lock);
    return names.insert(name).first->c_str();
}

} // namespace

const char* mfres_version(void) {
    return mfres::version().data();
}

int mfres_version_number(void) {
    return MFRES_VERSION_NUMBER;
}

int mfres_c_interface(void) {
    return MFRES_C_INTERFACE;
}

const char* mfres_backend_name(int index) {
    try {
        const auto all = mfres::available_backends();
        if (index < 0 || static_cast<std::size_t>(index) >= all.size())
            return nullptr;
        return kept_name(all[static_cast<std::size_t>(index)].name);
    } catch (const std::exception&) {
        return nullptr;
    }
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

const char* mfres_error_place(const mfres_segmenter* segmenter) {
    return (segmenter ? segmenter->error : error_of_thread()).place.c_str();
}

int mfres_warm_up(mfres_segmenter* segmenter, const int64_t brain_size[3]) {
    return guarded(segmenter, [&]() -> Status {
        if (!segmenter || !brain_size)
            return missing(!segmenter ? "segmenter" : "brain_size");
        return segmenter->segmenter.predictor().warm_up({brain_size[0], brain_size[1], brain_size[2]});
    });
}

int mfres_predict(mfres_segmenter* segmenter, const mfres_case* patient, const mfres_request* request,
                  mfres_output* output) {
    return guarded(segmenter, [&]() -> Status {
        if (!segmenter || !patient || !output)
            return missing(!segmenter ? "segmenter" : !patient ? "patient" : "output");
        return predict(*segmenter, patient, request, output);
    });
}

int mfres_segment(mfres_segmenter* segmenter, const mfres_files* files, const mfres_request* request,
                  mfres_output* output) {
    return guarded(segmenter, [&]() -> Status {
        if (!segmenter || !files || !output)
            return missing(!segmenter ? "segmenter" : !files ? "files" : "output");
        return segment_files(*segmenter, files, request, output);
    });
}

const char* mfres_report(mfres_segmenter* segmenter) {
    if (!segmenter)
        return "";
    try {
        segmenter->json.clear();
        if (const auto* const of_memory = std::get_if<const mfres::PredictionReport*>(&segmenter->report))
            segmenter->json = mfres::to_json(**of_memory);
        else if (const auto* const of_files = std::get_if<mfres::SegmentReport>(&segmenter->report))
            segmenter->json = mfres::to_json(*of_files);
    } catch (const std::exception&) {
        segmenter->json.clear();
    }
    return segmenter->json.c_str();
}

void mfres_cancel(mfres_segmenter* segmenter) {
    if (segmenter)
        segmenter->segmenter.predictor().cancel();
}

int mfres_read_grid(const char* path, const char* affine, mfres_grid* grid) {
    return guarded(nullptr, [&]() -> Status {
        if (!path || !grid)
            return missing(!path ? "path" : "grid");
        MFRES_TRY(mfres_grid known, known_part(grid, "mfres_grid", least_grid));
        MFRES_TRY(const mfres::AffineSource source, affine_source(affine));
        std::filesystem::path file = path;
        if (std::error_code none; std::filesystem::is_directory(file, none)) {
            MFRES_TRY(const mfres::CaseFiles files, mfres::find_case(file, true));
            file = first_of(files);
        }
        MFRES_TRY(const mfres::Grid read, mfres::read_grid(file, source));
        std::copy(read.size.begin(), read.size.end(), known.size);
        for (std::size_t row = 0; row < 3; ++row)
            std::copy(read.affine[row].begin(), read.affine[row].end(), known.affine[row]);
        std::memcpy(grid, &known, std::min(known.struct_size, sizeof known));
        return {};
    });
}

void mfres_close(mfres_segmenter* segmenter) {
    delete segmenter;
}
