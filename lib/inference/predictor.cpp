// SPDX-License-Identifier: MIT
// One case in memory, top to bottom: check, prepare, run the network, label, undo.
#include "inference/predictor.h"

#include "core/control_group.h"
#include "core/format.h"
#include "core/guard.h"
#include "core/memory_usage.h"
#include "core/parallel.h"
#include "core/platform.h"
#include "core/try.h"
#include "imaging/plausibility.h"
#include "inference/box_source.h"
#include "inference/precision.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mfres {

namespace {

Status check_least(std::string_view option, double mm3) {
    if (mm3 >= 0.0 && std::isfinite(mm3))
        return {};
    return Error{ErrorCode::invalid_argument, text(option, " must be 0 or more, is ", mm3), std::string(option)};
}

/// Removes and relabels what is too small, with a warning for each kind.
void postprocess(LabelMap& labels, const PostprocessingSizes& sizes, std::vector<std::string>& warnings) {
    if (const std::int64_t dropped = remove_small_components(labels, sizes.min_component_mm3); dropped > 0)
        warnings.push_back(text("parts of the tumour below the least of ", sizes.min_component_mm3, " mm^3, ", dropped,
                                " voxels in all, are labelled as background"));
    if (const std::int64_t dropped =
            relabel_small_enhancing(labels, sizes.min_enhancing_mm3, sizes.min_enhancing_share);
        dropped > 0)
        warnings.push_back(text("enhancing tumour of ", dropped, " voxels is below the least of ",
                                least_enhancing(sizes), " and is labelled as necrotic core"));
}

void set_part(PredictionReport::Part& part, std::string_view name, const PartVolume& volume) {
    part.name = name;
    part.voxels = volume.voxels;
    part.millilitres = volume.millilitres;
}

/// The sizes of all parts, in the memory of those that were there before.
void set_parts(const TumourVolumes& volumes, PredictionReport& report) {
    report.regions.resize(tumour_regions.size());
    for (std::size_t n = 0; n < tumour_regions.size(); ++n)
        set_part(report.regions[n], name(tumour_regions[n]),
                 volumes.regions[static_cast<std::size_t>(tumour_regions[n])]);
    report.classes.resize(tumour_classes - 1);
    for (int tumour_class = 1; tumour_class < tumour_classes; ++tumour_class)
        set_part(report.classes[static_cast<std::size_t>(tumour_class - 1)], appearance(tumour_class).name,
                 volumes.classes[static_cast<std::size_t>(tumour_class)]);
}

/// An empty report that keeps its memory.
void clear(PredictionReport& report) {
    report.stages.clear();
    report.total_milliseconds = 0.0;
    report.warnings.clear();
}

/// What a process can take where addresses have 32 bits. Half of them, as other things lie between large arrays; 0 = more
/// than any machine has.
constexpr std::int64_t addressable_bytes = sizeof(void*) == 4 ? std::int64_t{1} << 31 : 0;

/// What the system's control group leaves of memory, and what addresses reach; 0 where there are no such limits.
std::int64_t system_memory(std::int64_t idle_bytes) {
    std::int64_t most = addressable_bytes;
    if (const auto limit = memory_limit(ControlGroups::of_this_process()))
        most = most > 0 ? std::min(most, *limit) : *limit;
    return most > 0 ? std::max<std::int64_t>(1, most - idle_bytes) : 0;
}

} // namespace

Status check_sizes(const PostprocessingSizes& sizes) {
    MFRES_CHECK(check_least("min_enhancing_mm3", sizes.min_enhancing_mm3));
    if (!(sizes.min_enhancing_share >= 0.0 && sizes.min_enhancing_share <= 1.0))
        return Error{ErrorCode::invalid_argument,
                     text("min_enhancing_share must be 0 to 1, is ", sizes.min_enhancing_share), "min_enhancing_share"};
    return check_least("min_component_mm3", sizes.min_component_mm3);
}

Result<PostprocessingSizes> CasePredictor::postprocessing(std::optional<double> min_component_mm3,
                                                          std::optional<double> min_enhancing_mm3) const {
    const PostprocessingSizes& recommended = model_->metadata.postprocessing;
    const PostprocessingSizes sizes{min_component_mm3.value_or(recommended.min_component_mm3),
                                    min_enhancing_mm3.value_or(recommended.min_enhancing_mm3),
                                    min_enhancing_mm3 ? 0.0 : recommended.min_enhancing_share};
    MFRES_CHECK(check_sizes(sizes));
    return sizes;
}

BrainBox PreparedCase::box(int threads) const {
    return {preprocessing.padded_size,
            [this, threads](const std::array<std::int64_t, 3>& offset, const StridedView<float>& input) {
                fill_input(preprocessing, loaded.scans, offset, input, threads);
            },
            {},
            [this](const std::array<std::int64_t, 3>& offset, LineSpans& needed) {
                add_brain(preprocessing, offset, needed);
            }};
}

Result<std::unique_ptr<CasePredictor>> CasePredictor::open(std::shared_ptr<const Model> model, std::string name,
                                                           const PredictorOptions& options) {
    if (options.max_memory < 0)
        return Error{ErrorCode::invalid_argument, text("max_memory must not be negative, is ", options.max_memory),
                     "max_memory"};
    if (!options.memory.allocate != !options.memory.release)
        return Error{ErrorCode::invalid_argument, "memory needs both functions, allocate and release, or none of them",
                     "memory"};
    std::unique_ptr<CasePredictor> opened(new CasePredictor);
    opened->arrays_ =
        std::make_unique<ArrayMemory>(options.memory.allocate, options.memory.release, options.keep_memory);
    opened->idle_bytes_ = resident_bytes();
    MFRES_TRY(opened->pool_, ThreadPool::create(options.compute));
    opened->options_ = options;
    opened->name_ = std::move(name);
    opened->model_ = std::move(model);
    MFRES_TRY(opened->input_, model_input(*opened->model_, opened->name_));
    MFRES_TRY(ChosenBackend chosen, choose_backend(*opened->model_, options.compute));
    opened->backend_ = chosen.backend;
    chosen.options.pool = opened->pool_;
    opened->used_ = run_info(*opened->backend_, chosen.options);
    opened->boxes_ = std::make_unique<BoxPredictor>(
        opened->model_->variant, opened->model_->weights, *opened->backend_,
        BoxPredictorOptions{std::move(chosen.options), options.mirror, options.max_memory,
                            system_memory(opened->idle_bytes_), resolve_threads(options.compute.threads),
                            options.keep_memory, options.skip_background});
    return opened;
}

Result<std::unique_ptr<CasePredictor>> CasePredictor::open(const std::filesystem::path& model,
                                                           const PredictorOptions& options) {
    const std::int64_t idle_bytes = resident_bytes();
    // What is wrong with the options shows before the model has been read.
    MFRES_CHECK(find_backend(options.compute.backend));
    MFRES_TRY(const std::filesystem::path file, find_model(model));
    MFRES_TRY(Model loaded, load_model(file));
    MFRES_TRY(auto opened, open(std::make_shared<const Model>(std::move(loaded)), file.string(), options));
    opened->idle_bytes_ = idle_bytes;
    return opened;
}

Status CasePredictor::check_classes() const {
    if (model_->variant.label_classes() == tumour_classes)
        return {};
    return Error{ErrorCode::model_metadata_invalid,
                 text(name_, " takes ", model_->variant.input_channels(), " channels and tells ",
                      model_->variant.classes(), " classes apart; segmentation needs 4 and ", tumour_classes),
                 name_};
}

Result<LabelCoding> CasePredictor::scheme(const std::string& wanted) const {
    return LabelCoding::parse(wanted.empty() || wanted == "auto" ? model_->metadata.label_scheme : wanted);
}

CaseOptions CasePredictor::options_of_case(bool resample) const {
    CaseOptions options = case_options(input_, resample, threads());
    options.accept = options_.accept;
    if (options_.max_memory > 0)
        options.max_memory = std::max<std::int64_t>(1, options_.max_memory - boxes_->budget().fixed());
    return options;
}

Result<Case> CasePredictor::load(const CaseFiles& files, AffineSource use, bool resample, bool any_contrasts) const {
    if (Status checked = check_contrasts(input_, present_in(files), any_contrasts, "case ", files.id); !checked) {
        Error error = checked.error();
        error.message += reasons_of_absence(files);
        return error;
    }
    CaseOptions options = options_of_case(resample);
    options.use = use;
    return load_case(files, options);
}

Result<Case> CasePredictor::load(const CaseVolumes& volumes, bool resample, bool any_contrasts) const {
    ModalitySet present{};
    for (std::size_t m = 0; m < present.size(); ++m)
        present[m] = volumes.volumes[m].voxels != nullptr;
    MFRES_CHECK(check_contrasts(input_, present, any_contrasts, "case ", volumes.id));
    return load_case(volumes.id, volumes.volumes, options_of_case(resample));
}

Result<PreparedCase> CasePredictor::prepare(Case loaded) const {
    MFRES_TRY(Preprocessing preprocessing,
              preprocess_case(loaded, preprocess_options(input_, loaded.present, threads())));
    return PreparedCase{std::move(loaded), std::move(preprocessing)};
}

void CasePredictor::begin_case() {
    reset_peak_resident();
    // The network of the case before stays for a case of the same size, unless memory was limited.
    if (options_.max_memory > 0)
        boxes_->drop();
    kept_bytes_ = boxes_->executable_bytes();
    cancelled_ = false;
}

void CasePredictor::log(LogLevel level, std::string_view message) const {
    if (options_.log && level <= options_.log_level)
        options_.log(level, message);
}

void CasePredictor::log_opened() const {
    if (options_.log)
        log(LogLevel::info, text("opened ", model_->variant.name(), " (", name_, ") on ", used_.engine, " in ",
                                 to_string(used_.precision), ", ", counted(threads(), "thread")));
}

void CasePredictor::log_case(const PredictionReport& report) const {
    if (!options_.log)
        return;
    for (const std::string& warning : report.warnings)
        log(LogLevel::warning, text("case ", report.case_id, ": ", warning));
    for (const auto& stage : report.stages)
        log(LogLevel::debug, text("case ", report.case_id, ": ", stage.name, " took ", stage.milliseconds, " ms"));
    log(LogLevel::info, text("case ", report.case_id, " was segmented in ", report.total_milliseconds, " ms"));
}

std::int64_t CasePredictor::measured_peak() const {
    const std::int64_t peak = peak_resident_bytes();
    return peak > 0 ? std::max<std::int64_t>(0, peak - idle_bytes_) : 0;
}

void CasePredictor::describe_run(PredictionReport& report) const {
    report.model_file = name_;
    report.network = model_->variant.name();
    report.weights_sha256 = model_->metadata.weights_sha256;
    report.used = used_;
    report.used.threads = threads();
    report.mirror_images = static_cast<std::int64_t>(mirror_images(options_.mirror));
    const std::vector<Chosen>& chosen = boxes_->chosen();
    report.chosen.resize(chosen.size());
    for (std::size_t n = 0; n < chosen.size(); ++n) {
        report.chosen[n].node = chosen[n].node;
        report.chosen[n].operation = chosen[n].operation;
        report.chosen[n].implementation = chosen[n].implementation;
    }
}

Result<LabelledCase> CasePredictor::label(Case& loaded, const CaseRequest& request, StageClock& clock,
                                          PredictionReport& report, LabelledCase reused) {
    MFRES_CHECK(clock.start("prepare"));
    MFRES_TRY(const Preprocessing preprocessing,
              preprocess_case(loaded, preprocess_options(input_, loaded.present, threads())));
    CaseMemory memory =
        case_memory(loaded.scans, loaded.scan_grid, loaded.original_grid, preprocessing.padded_size, request.kept);
    memory.inflated = loaded.inflated_bytes;
    if (loaded.resampled)
        memory.resampling = loaded.loading_bytes;
    memory.labels = request.labels && (loaded.resampled || !loaded.orientation.is_canonical());
    memory.components = request.sizes.min_component_mm3 > 0.0;
    memory.picture = request.picture;
    memory.probabilities = request.probabilities;
    memory.keep_network = options_.max_memory == 0;
    release_unused_memory();

    MFRES_CHECK(clock.start("compile"));
    MFRES_TRY(const auto tile, boxes_->compile_within_limit(memory));
    platform::give_back_reserved_pages(); // those of the files that the network has not taken
    const auto fill = [&](const std::array<std::int64_t, 3>& offset, const StridedView<float>& input) {
        fill_input(preprocessing, loaded.scans, offset, input, threads());
    };
    const auto filled = [&] {
        for (std::size_t m = 0; m < loaded.scans.size(); ++m)
            if (!request.kept[m])
                loaded.scans[m].clear();
        release_unused_memory();
    };
    const auto add_needed = [&](const std::array<std::int64_t, 3>& offset, LineSpans& needed) {
        add_brain(preprocessing, offset, needed);
    };
    // Held without allocations.
    const BrainBox box{preprocessing.padded_size, std::cref(fill), std::cref(filled), std::cref(add_needed)};
    MFRES_TRY(BoxPrediction predicted, boxes_->run(box, tile, request.probabilities, clock));

    describe_run(report);
    report.case_id = std::string_view(loaded.id);
    report.label_scheme = request.scheme.name();
    report.contrasts = loaded.present;
    report.grid_size = loaded.original_grid.size;
    report.network_size = tile;
    report.tiles = boxes_->tiles(box.size, tile);
    report.warnings = loaded.warnings;
    for (std::string& warning : absent_contrast_warnings(loaded.present))
        report.warnings.push_back(std::move(warning));
    report.warnings.insert(report.warnings.end(), boxes_->warnings().begin(), boxes_->warnings().end());
    for (std::size_t axis = 0; axis < 3; ++axis)
        report.brain_box_size[axis] = preprocessing.box_end[axis] - preprocessing.box_begin[axis];
    report.planned_peak_bytes = std::max(boxes_->budget().peak(memory, tile, boxes_->executable_bytes()),
                                         boxes_->budget().reading_peak(memory, kept_bytes_));
    if (!memory.keep_network)
        boxes_->drop();

    MFRES_CHECK(clock.start("restore"));
    LabelledCase result;
    result.classes = uncrop(preprocessing, predicted.classes, std::move(reused.classes));
    PageVector<std::uint8_t>().swap(predicted.classes);
    postprocess(result.classes, request.sizes, report.warnings);
    report.postprocessing = request.sizes;
    if (predicted.probabilities) {
        result.probabilities =
            uncrop(preprocessing, *predicted.probabilities, std::move(reused.probabilities).value_or(ProbabilityMap()));
        boxes_->recycle(*std::move(predicted.probabilities));
    }
    return result;
}

namespace {

/// Reads off the sizes of what has been translated.
Status report_volumes(const LabelTranslation& translation, const Case& loaded, PredictionReport& report) {
    MFRES_TRY(const TumourVolumes volumes,
              translation.finish(loaded.original_grid, RegionDefinition::brats, loaded.id));
    set_parts(volumes, report);
    return {};
}

} // namespace

Status write_labels(const Case& loaded, LabelMap& classes, const CaseRequest& request, LabelMap& labels,
                    PredictionReport& report) {
    restore_labels(loaded, classes, labels);
    LabelTranslation translation(request.scheme);
    translation.replace(labels.labels);
    return report_volumes(translation, loaded, report);
}

Status write_label_slices(const Case& loaded, const LabelMap& classes, const CaseRequest& request,
                          PredictionReport& report, const std::function<Status(std::span<const std::uint8_t>)>& take) {
    const auto& size = loaded.original_grid.size;
    LabelTranslation translation(request.scheme);
    PageVector<std::uint8_t> slice(static_cast<std::size_t>(size[0] * size[1]));
    for (std::int64_t k = 0; k < size[2]; ++k) {
        StopScope::check();
        restore_slice(loaded, classes, k, slice);
        translation.replace(slice);
        MFRES_CHECK(take(slice));
    }
    return report_volumes(translation, loaded, report);
}

Result<BoxPrediction> CasePredictor::label_box(const BrainBox& box, bool probabilities, StageClock& clock,
                                               PredictionReport& report) {
    MFRES_CHECK(clock.start("compile"));
    CaseMemory memory;
    memory.grid = memory.output = memory.box = box.size;
    memory.probabilities = probabilities;
    memory.keep_network = options_.max_memory == 0;
    MFRES_TRY(const auto tile, boxes_->compile_within_limit(memory));
    MFRES_TRY(BoxPrediction predicted, boxes_->run(box, tile, probabilities, clock));
    describe_run(report);
    report.grid_size = report.brain_box_size = box.size;
    report.network_size = tile;
    report.tiles = boxes_->tiles(box.size, tile);
    report.planned_peak_bytes = boxes_->budget().peak(memory, tile, boxes_->executable_bytes());
    if (!memory.keep_network)
        boxes_->drop();
    return predicted;
}

Status CasePredictor::warm_up(const std::array<std::int64_t, 3>& brain_size) {
    for (const std::int64_t edge : brain_size)
        if (edge < 1 || edge > 1024)
            return Error{
                ErrorCode::invalid_argument,
                text("brain_size must be 1..1024 per axis, is ", brain_size[0], "x", brain_size[1], "x", brain_size[2]),
                "brain_size"};
    const CaseScope scope(*this);
    PredictionReport report;
    const Progress silent;
    StageClock clock(report, silent, &cancelled_);
    const BrainBox box{padded_box(brain_size, input_.multiple),
                       [](const std::array<std::int64_t, 3>&, const StridedView<float>& input) {
                           const Tensor zeros(input.shape, 0.0F);
                           copy(view(zeros), input);
                       },
                       {},
                       [](const std::array<std::int64_t, 3>&, LineSpans& needed) { // the memory for it, too
                           for (std::int64_t x = 0; x < needed.size()[0]; ++x)
                               for (std::int64_t y = 0; y < needed.size()[1]; ++y)
                                   needed.add(x, y, 0, needed.size()[2]);
                       }};
    MFRES_CHECK(label_box(box, false, clock, report));
    return {};
}

// The public class ---------------------------------------------------------------------------------------------------

namespace {

/// In the memory that `result` has.
Status predict_case(CasePredictor& predictor, const CaseVolumes& volumes, const PredictOptions& options,
                    const Progress& progress, Prediction& result) {
    const CaseScope scope(predictor);
    CaseRequest request;
    MFRES_TRY(request.scheme, predictor.scheme(options.label_scheme));
    MFRES_TRY(request.sizes, predictor.postprocessing(options.min_component_mm3, options.min_enhancing_mm3));
    request.probabilities = options.probabilities;

    clear(result.report);
    StageClock clock(result.report, progress, predictor.cancelled());
    MFRES_CHECK(clock.start("read"));
    MFRES_TRY(Case loaded, predictor.load(volumes, options.resample, options.any_contrasts));
    // Probabilities of a case that is neither turned nor resampled are written where they are returned.
    LabelledCase& kept = predictor.kept_case();
    const bool direct = loaded.orientation.is_canonical() && !loaded.resampled;
    LabelledCase reused{std::move(kept.classes),
                        std::exchange(direct ? result.probabilities : kept.probabilities, std::nullopt)};
    MFRES_TRY(LabelledCase labelled, predictor.label(loaded, request, clock, result.report, std::move(reused)));
    if (predictor.keeps_memory()) // the two label maps may be swapped
        result.labels.labels.reserve(labelled.classes.labels.size());
    MFRES_CHECK(write_labels(loaded, labelled.classes, request, result.labels, result.report));
    ProbabilityMap returned = std::exchange(result.probabilities, std::nullopt).value_or(ProbabilityMap());
    if (labelled.probabilities) {
        MFRES_TRY(result.probabilities,
                  restore_probabilities(loaded, *std::move(labelled.probabilities), std::move(returned)));
    }
    if (predictor.keeps_memory())
        kept = std::move(labelled);
    clock.stop();
    result.report.measured_peak_bytes = predictor.measured_peak();
    predictor.log_case(result.report);
    return {};
}

} // namespace

Predictor::Predictor(std::unique_ptr<CasePredictor> inside) : inside_(std::move(inside)) {}
Predictor::Predictor(Predictor&&) noexcept = default;
Predictor& Predictor::operator=(Predictor&&) noexcept = default;
Predictor::~Predictor() = default;

/// The last step of open().
Result<Predictor> Predictor::opened(std::unique_ptr<CasePredictor> inside) {
    MFRES_CHECK(inside->check_classes());
    inside->log_opened();
    return Predictor(std::move(inside));
}

Result<Predictor> Predictor::open(const std::filesystem::path& model, const PredictorOptions& options) {
    return guarded(model, [&]() -> Result<Predictor> {
        MFRES_TRY(auto inside, CasePredictor::open(model, options));
        return opened(std::move(inside));
    });
}

Result<Predictor> Predictor::open(std::span<const std::byte> model, const PredictorOptions& options,
                                  const std::string& name) {
    return guarded(name, [&]() -> Result<Predictor> {
        MFRES_TRY(const SafetensorsFile file, parse_safetensors({model.begin(), model.end()}, name));
        MFRES_TRY(Model decoded, decode_model(file));
        MFRES_TRY(auto inside, CasePredictor::open(std::make_shared<const Model>(std::move(decoded)), name, options));
        return opened(std::move(inside));
    });
}

Result<Prediction> Predictor::predict(const CaseVolumes& volumes, const PredictOptions& options,
                                      const Progress& progress) {
    Prediction result;
    MFRES_CHECK(predict_into(result, volumes, options, progress));
    return result;
}

Status Predictor::predict_into(Prediction& result, const CaseVolumes& volumes, const PredictOptions& options,
                               const Progress& progress) {
    return guarded_case(*inside_, volumes.id,
                        [&] { return predict_case(*inside_, volumes, options, progress, result); });
}

Status Predictor::warm_up(const std::array<std::int64_t, 3>& brain_size) {
    return guarded_case(*inside_, "", [&] { return inside_->warm_up(brain_size); });
}

void Predictor::cancel() noexcept {
    inside_->cancel();
}

std::string_view to_string(LogLevel level) noexcept {
    switch (level) {
    case LogLevel::error: return "error";
    case LogLevel::warning: return "warning";
    case LogLevel::info: return "info";
    case LogLevel::debug: return "debug";
    }
    return "unknown";
}

std::vector<BackendInfo> available_backends() {
    std::vector<BackendInfo> all;
    for (const Backend* backend : backends())
        if (backend->available())
            all.push_back({std::string(backend->name()), backend->description()});
    return all;
}

Result<BackendInfo> backend_info(std::string_view name) {
    MFRES_TRY(const Backend* backend, find_backend(name));
    return BackendInfo{std::string(backend->name()), backend->description()};
}

std::string_view version() {
    return MFRES_VERSION;
}

} // namespace mfres
