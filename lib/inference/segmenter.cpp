// One case from files to label map, top to bottom: read and reject, prepare, run the network, label, undo, write.
#include <mfres/segmenter.h>

#include "backends/backend.h"
#include "core/file.h"
#include "core/memory_usage.h"
#include "core/parallel.h"
#include "core/thread_pool.h"
#include "core/try.h"
#include "graph/complexity.h"
#include "imaging/case.h"
#include "imaging/labels.h"
#include "imaging/preprocess.h"
#include "imaging/preview.h"
#include "inference/precision.h"
#include "inference/sliding_window.h"
#include "inference/test_time_augmentation.h"
#include "model/model.h"

#include <chrono>
#include <cmath>
#include <limits>
#include <new>
#include <optional>

namespace mfres {

namespace {

/// Voxels that neighbouring tiles share along each axis, when the brain box does not fit into memory in one piece.
constexpr std::int64_t tile_overlap = 32;

/// What no plan lists: pages of code, thread stacks, slack of the allocator; and once a network is compiled the
/// engine's code and the kernels it generates. Measured on x86-64 with oneDNN 2.6.3.
constexpr std::int64_t process_overhead = std::int64_t{8} << 20;
constexpr std::int64_t engine_overhead = std::int64_t{16} << 20;

using Size = std::array<std::int64_t, 3>;

std::int64_t float_bytes(const Size& size, std::int64_t maps) {
    return size[0] * size[1] * size[2] * maps * static_cast<std::int64_t>(sizeof(float));
}

/// Times the stages of one case and passes progress on to the caller.
class StageClock {
  public:
    StageClock(SegmentReport& report, const Progress& progress) : report_(report), progress_(progress) {}

    /// Ends the stage before and starts `name`; interrupted if the caller wants to stop.
    Status start(std::string name) {
        stop();
        stage_ = std::move(name);
        start_ = Clock::now();
        return show(0.0);
    }

    Status show(double done) const {
        if (progress_ && !progress_(stage_, done))
            return Error{ErrorCode::interrupted, text("stopped on request during stage '", stage_, "'"), stage_};
        return {};
    }

    void stop() {
        if (stage_.empty())
            return;
        const std::chrono::duration<double, std::milli> elapsed = Clock::now() - start_;
        report_.stages.push_back({stage_, elapsed.count()});
        report_.total_milliseconds += elapsed.count();
        stage_.clear();
    }

    const std::string& stage() const { return stage_; }

  private:
    using Clock = std::chrono::steady_clock;
    SegmentReport& report_;
    const Progress& progress_;
    std::string stage_;
    Clock::time_point start_;
};

Status check_label_output(const std::filesystem::path& path, bool overwrite) {
    const std::string name = path.filename().string();
    const auto ends_with = [&](std::string_view suffix) {
        return name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
    };
    if (!path.empty() && !ends_with(".nii") && !ends_with(".nii.gz"))
        return Error{ErrorCode::invalid_argument, text("the label map ", path.string(), " must end in .nii or .nii.gz"),
                     path.string()};
    return check_output(path, overwrite);
}

Status check_least(std::string_view option, double mm3) {
    if (mm3 >= 0.0 && std::isfinite(mm3))
        return {};
    return Error{ErrorCode::invalid_argument, text(option, " must be 0 or more, is ", mm3), std::string(option)};
}

/// What the request leaves out as too small, with a warning for each kind.
void drop_what_is_small(LabelMap& labels, const SegmentOptions& request, std::vector<std::string>& warnings) {
    if (const std::int64_t dropped = remove_small_components(labels, request.min_component_mm3); dropped > 0)
        warnings.push_back(text("parts of the tumour below the least of ", request.min_component_mm3, " mm^3, ",
                                dropped, " voxels in all, are labelled as background"));
    if (const std::int64_t dropped = relabel_small_enhancing(labels, request.min_enhancing_mm3); dropped > 0)
        warnings.push_back(text("enhancing tumour of ", dropped, " voxels is below the least of ",
                                request.min_enhancing_mm3, " mm^3 and is labelled as necrotic core"));
}

std::int64_t weight_bytes(const Weights& weights) {
    std::int64_t bytes = 0;
    for (const auto& [name, tensor] : weights)
        bytes += tensor.elements() * static_cast<std::int64_t>(sizeof(float));
    return bytes;
}

std::vector<SegmentReport::Part> parts(const TumourVolumes& volumes, bool regions) {
    std::vector<SegmentReport::Part> all;
    if (regions)
        for (const TumourRegion region : tumour_regions) {
            const PartVolume& part = volumes.regions[static_cast<std::size_t>(region)];
            all.push_back({std::string(name(region)), part.voxels, part.millilitres});
        }
    else
        for (int tumour_class = 1; tumour_class < tumour_classes; ++tumour_class) {
            const PartVolume& part = volumes.classes[static_cast<std::size_t>(tumour_class)];
            all.push_back({std::string(appearance(tumour_class).name), part.voxels, part.millilitres});
        }
    return all;
}

/// A model that wants its input prepared in another way than ours would run and mislabel: rejected.
Status check_preprocessing(const ModelMetadata& metadata, const std::filesystem::path& model) {
    std::string wanted;
    std::string ours;
    for (const std::string& modality : metadata.modalities)
        wanted += (wanted.empty() ? "" : ",") + modality;
    for (const Modality modality : modalities)
        ours += (ours.empty() ? "" : ",") + std::string(name(modality));
    if (wanted != ours || metadata.normalisation != "zscore-brain")
        return Error{ErrorCode::model_metadata_invalid,
                     text(model.string(), " wants channels ", wanted, " normalised by ", metadata.normalisation,
                          "; segmentation feeds ", ours, " normalised by zscore-brain"),
                     model.string()};
    return {};
}

/// What decides how much memory a case needs.
struct Frame {
    Size grid{};              ///< voxels of the scans
    Size box{};               ///< of the padded brain box
    bool keep_images = false; ///< FLAIR and T1ce are needed after the network has run
    bool keep_network = true; ///< the compiled network stays for the next case
    std::int64_t scans = 0;   ///< bytes of the four, cut to what is not background
    std::int64_t images = 0;  ///< of FLAIR and T1ce among them
    std::int64_t reading = 0; ///< most bytes of voxels while the files were read
};

Frame frame_of(const std::array<CompactVolume, 4>& scans, const Size& box, int threads) {
    Frame frame;
    frame.grid = scans[0].grid().size;
    frame.box = box;
    std::int64_t largest = 0; // of one file, whole and cut
    for (std::size_t m = 0; m < scans.size(); ++m) {
        frame.scans += scans[m].bytes();
        largest = std::max(largest, scans[m].whole_bytes());
        if (modalities[m] == Modality::flair || modalities[m] == Modality::t1ce)
            frame.images += scans[m].bytes();
    }
    frame.reading = frame.scans + largest * std::min<std::int64_t>(threads, std::ssize(scans));
    return frame;
}

std::int64_t voxels(const Size& size) {
    return size[0] * size[1] * size[2];
}

} // namespace

struct Segmenter::State {
    std::string model_file;
    Model model;
    const Backend* backend = nullptr;
    SegmenterOptions options;
    CompileOptions arithmetic;
    MirrorAxes mirror{};
    int threads = 1;
    std::shared_ptr<ThreadPool> pool;
    std::int64_t idle_bytes = 0; ///< resident memory before the model was opened

    /// Whether probabilities are averaged over mirror images.
    bool mirrors() const { return mirror_images(mirror) > 1; }

    /// The network compiled for one input size, kept for the next case of that size.
    Size compiled_size{};
    std::unique_ptr<Executable> executable;

    Status compile(const Size& size) {
        if (executable && compiled_size == size)
            return {};
        executable.reset(); // two at a time would double the memory
        MFRES_TRY(const Graph graph, build_network(model.variant, {size[0], size[1], size[2]}));
        MFRES_TRY(executable, backend->compile(graph, model.weights, arithmetic));
        compiled_size = size;
        release_unused_memory();
        return {};
    }

    /// Bytes of weights and activations of a pass over `size` voxels, as the backend plans them.
    std::int64_t estimated_bytes(const Size& size) const {
        const auto graph = build_network(model.variant, {size[0], size[1], size[2]});
        if (!graph)
            return std::numeric_limits<std::int64_t>::max();
        return backend->planned_activations(*graph) + weight_bytes(model.weights);
    }

    /// Most bytes held while a case runs through an executable of `executable_bytes`: the weights, and at the worst
    /// moment the files being read, the network with the scans that are still needed, or what is written at the end.
    std::int64_t peak_bytes(const Frame& frame, const Size& tile, std::int64_t executable_bytes) const {
        const bool one_pass = tile == frame.box && !mirrors();
        const std::int64_t labels = voxels(frame.grid);
        const std::int64_t images = frame.keep_images ? frame.images : 0;
        const std::int64_t running = engine_overhead + executable_bytes + voxels(frame.box) +
                                     (one_pass ? images : frame.scans) +
                                     (mirrors() ? float_bytes(tile, model.variant.classes()) : 0);
        // Two volumes of floats and a copy of their brains for a picture; labels, their file, and that compressed.
        const std::int64_t picture = frame.keep_images ? images + 3 * float_bytes(frame.grid, 1) + labels : 0;
        const std::int64_t ending =
            std::max(picture, 3 * labels) + engine_overhead + (frame.keep_network ? executable_bytes : 0);
        return process_overhead + weight_bytes(model.weights) +
               std::max({frame.reading, frame.scans + labels, running, ending});
    }

    /// Compiles for the whole box, or for the tile that labels it with the least work within the memory limit.
    Result<Size> compile_within_limit(const Frame& frame) {
        if (options.max_memory == 0) {
            MFRES_CHECK(compile(frame.box));
            return frame.box;
        }
        // The plan does not know the backend's scratch memory; what compiling shows corrects it.
        double correction = 1.0;
        for (int attempt = 0; attempt < 4; ++attempt) {
            MFRES_TRY(const Size tile,
                      choose_tile(frame.box, tile_overlap, model.variant.multiple(), options.max_memory,
                                  [&](const Size& candidate) {
                                      return peak_bytes(
                                          frame, candidate,
                                          static_cast<std::int64_t>(correction *
                                                                    static_cast<double>(estimated_bytes(candidate))));
                                  }));
            MFRES_CHECK(compile(tile));
            if (peak_bytes(frame, tile, executable->peak_bytes()) <= options.max_memory)
                return tile;
            correction = std::max(correction * 1.02, 1.001 * static_cast<double>(executable->peak_bytes()) /
                                                         static_cast<double>(estimated_bytes(tile)));
        }
        return Error{ErrorCode::memory_limit,
                     text("no tile of the network fits into the ", options.max_memory, " bytes allowed"),
                     {}};
    }

    Status run_pass(StageClock& clock, std::size_t pass, std::size_t passes) const {
        Status observed;
        const auto status = executable->run([&](int done, int total) {
            observed = clock.show((static_cast<double>(pass) + static_cast<double>(done) / total) /
                                  static_cast<double>(passes));
            return observed.ok();
        });
        return observed.ok() ? status : observed;
    }

    /// Classes of the padded box, [x][y][z]. Scans that are not needed any more are cleared.
    Result<std::vector<std::uint8_t>> label_box(const Preprocessing& preprocessing, std::array<CompactVolume, 4>& scans,
                                                const Frame& frame, const Size& tile, StageClock& clock) {
        const Size& box = frame.box;
        std::vector<std::uint8_t> classes(static_cast<std::size_t>(voxels(box)));
        if (tile == box && !mirrors()) {
            MFRES_CHECK(clock.start("fill input"));
            fill_input(preprocessing, scans, {0, 0, 0}, executable->input(), threads);
            for (const Modality modality : modalities)
                if (!frame.keep_images || modality == Modality::t1 || modality == Modality::t2)
                    scans[static_cast<std::size_t>(modality)].clear();
            release_unused_memory();
            MFRES_CHECK(clock.start("network"));
            MFRES_CHECK(run_pass(clock, 0, 1));
            MFRES_CHECK(clock.start("labels"));
            MFRES_CHECK(executable->labels(0, classes, threads));
            return classes;
        }
        MFRES_CHECK(clock.start("network"));
        MFRES_TRY(TilePlan plan, plan_tiles(box, tile, tile_overlap, model.variant.multiple()));
        const std::size_t tiles = plan.count();
        MFRES_TRY(TileLabels labels, TileLabels::create(std::move(plan), classes, threads));
        std::optional<ProbabilityMean> mean;
        if (mirrors())
            mean.emplace(executable->output(0).shape);
        for (std::size_t n = 0; n < tiles; ++n) {
            MFRES_CHECK(run_images(preprocessing, scans, labels.plan().offset(n), n, tiles, mean, clock));
            MFRES_CHECK(labels.add(mean ? mean->sums() : executable->output(0)));
        }
        return classes;
    }

    /// One tile and its mirror images, whose probabilities go into `mean` if there is one.
    Status run_images(const Preprocessing& preprocessing, const std::array<CompactVolume, 4>& scans, const Size& offset,
                      std::size_t tile, std::size_t tiles, std::optional<ProbabilityMean>& mean,
                      StageClock& clock) const {
        if (mean)
            mean->clear();
        const std::size_t images = mirror_images(mirror);
        for (std::size_t n = 0; n < images; ++n) {
            const MirrorAxes image = mirror_image(mirror, n);
            fill_input(preprocessing, scans, offset, mirrored(executable->input(), image), threads);
            MFRES_CHECK(run_pass(clock, tile * images + n, tiles * images));
            if (mean)
                MFRES_CHECK(mean->add(mirrored(executable->output(0), image), threads, offset));
        }
        return {};
    }

    void describe_run(SegmentReport& report, const CaseFiles& files, const SegmentOptions& request,
                      LabelScheme scheme) const {
        report.case_id = files.id;
        report.model_file = model_file;
        report.network = model.variant.name();
        report.weights_sha256 = model.metadata.weights_sha256;
        report.backend = backend->name();
        report.backend_engine = backend->description();
        report.precision = name(arithmetic.precision);
        report.allow_tf32 = options.allow_tf32;
        report.deterministic = options.deterministic;
        report.threads = threads;
        report.label_scheme = name(scheme);
        for (std::size_t i = 0; i < 4; ++i)
            report.inputs[i] = files.modalities[i].string();
        report.output = request.output.string();
        report.preview = request.preview.string();
        for (const Chosen& chosen : executable->chosen())
            report.chosen.push_back({chosen.node, chosen.operation, chosen.implementation});
    }

    void describe_case(SegmentReport& report, const Case& loaded, const Preprocessing& preprocessing,
                       const Size& tile) const {
        report.grid_size = loaded.original_grid.size;
        report.network_size = tile;
        report.mirror_images = static_cast<std::int64_t>(mirror_images(mirror));
        report.warnings = loaded.warnings;
        for (std::size_t axis = 0; axis < 3; ++axis)
            report.brain_box_size[axis] = preprocessing.box_end[axis] - preprocessing.box_begin[axis];
        if (const auto plan = plan_tiles(preprocessing.padded_size, tile, tile_overlap, model.variant.multiple()))
            report.tiles = static_cast<std::int64_t>(plan->count());
    }

    Result<Segmentation> segment(const CaseFiles& files, const SegmentOptions& request, const Progress& progress);
};

Result<Segmentation> Segmenter::State::segment(const CaseFiles& files, const SegmentOptions& request,
                                               const Progress& progress) {
    MFRES_TRY(const AffineSource use, affine_source(request.affine));
    MFRES_TRY(const LabelScheme scheme,
              label_scheme(request.label_scheme.empty() ? model.metadata.label_scheme : request.label_scheme));
    MFRES_CHECK(check_least("min_enhancing_mm3", request.min_enhancing_mm3));
    MFRES_CHECK(check_least("min_component_mm3", request.min_component_mm3));
    MFRES_CHECK(check_label_output(request.output, request.overwrite));
    if (!request.preview.empty())
        MFRES_CHECK(can_draw_previews());
    MFRES_CHECK(check_output(request.preview, request.overwrite));

    Segmentation result;
    SegmentReport& report = result.report;
    const ThreadPoolScope work(pool.get());
    reset_peak_resident();
    StageClock clock(report, progress);
    // The network of the case before stays for a case of the same size, unless memory was limited.
    if (options.max_memory > 0)
        executable.reset();
    const std::int64_t kept_bytes = executable ? executable->peak_bytes() : 0;

    MFRES_CHECK(clock.start("read"));
    CaseOptions case_options;
    case_options.use = use;
    case_options.resample = request.resample;
    case_options.min_voxel_mm = model.metadata.voxel_min_mm;
    case_options.max_voxel_mm = model.metadata.voxel_max_mm;
    case_options.threads = threads;
    MFRES_TRY(Case loaded, load_case(files, case_options));

    MFRES_CHECK(clock.start("prepare"));
    MFRES_TRY(
        const Preprocessing preprocessing,
        plan_preprocessing(loaded.scans, {.multiple = static_cast<int>(model.variant.multiple()), .threads = threads}));
    Frame frame = frame_of(loaded.scans, preprocessing.padded_size, threads);
    frame.keep_images = !request.preview.empty();
    frame.keep_network = options.max_memory == 0;
    release_unused_memory();

    MFRES_CHECK(clock.start("compile"));
    MFRES_TRY(const Size tile, compile_within_limit(frame));

    MFRES_TRY(std::vector<std::uint8_t> classes, label_box(preprocessing, loaded.scans, frame, tile, clock));

    describe_run(report, files, request, scheme);
    describe_case(report, loaded, preprocessing, tile);
    report.planned_peak_bytes = std::max(peak_bytes(frame, tile, executable->peak_bytes()),
                                         process_overhead + weight_bytes(model.weights) + frame.reading +
                                             (kept_bytes > 0 ? engine_overhead + kept_bytes : 0));
    if (!frame.keep_network)
        executable.reset();

    MFRES_CHECK(clock.start("restore"));
    LabelMap labels = uncrop(preprocessing, classes);
    std::vector<std::uint8_t>().swap(classes);
    drop_what_is_small(labels, request, report.warnings);
    MFRES_TRY(const TumourVolumes volumes, tumour_volumes(labels, RegionDefinition::brats, files.id));
    MFRES_CHECK(classes_to_labels(labels, scheme, files.id));
    report.classes = parts(volumes, false);
    report.regions = parts(volumes, true);

    // Both files lie complete on the disk before the first is put in place: they appear together or not at all.
    std::optional<PendingFile> picture;
    if (!request.preview.empty()) {
        MFRES_CHECK(clock.start("preview"));
        MFRES_TRY(const auto png,
                  encode_preview(loaded.scans[static_cast<std::size_t>(Modality::flair)].volume(),
                                 loaded.scans[static_cast<std::size_t>(Modality::t1ce)].volume(), labels,
                                 {.title = text(files.id, "   ", report.network, " (", report.backend, ")")}));
        MFRES_TRY(picture, PendingFile::write(request.preview, png, request.overwrite));
    }
    MFRES_CHECK(clock.start("write"));
    result.labels = restore_labels(loaded, std::move(labels));
    if (!request.output.empty()) {
        MFRES_TRY(const auto nifti, encode_nifti_labels(request.output, result.labels, loaded.geometry,
                                                        "mfres " MFRES_VERSION ", research use only"));
        MFRES_TRY(PendingFile file, PendingFile::write(request.output, nifti, request.overwrite));
        MFRES_CHECK(file.commit());
    }
    if (picture)
        MFRES_CHECK(picture->commit());
    clock.stop();

    if (const std::int64_t peak = peak_resident_bytes(); peak > 0)
        report.measured_peak_bytes = std::max<std::int64_t>(0, peak - idle_bytes);
    return result;
}

Segmenter::Segmenter(std::unique_ptr<State> state) : state_(std::move(state)) {}
Segmenter::Segmenter(Segmenter&&) noexcept = default;
Segmenter& Segmenter::operator=(Segmenter&&) noexcept = default;
Segmenter::~Segmenter() = default;

Result<Segmenter> Segmenter::open(const std::filesystem::path& model, const SegmenterOptions& options) {
    if (options.max_memory < 0)
        return Error{ErrorCode::invalid_argument, text("max_memory must not be negative, is ", options.max_memory),
                     "max_memory"};
    auto state = std::make_unique<State>();
    MFRES_TRY(state->mirror, parse_mirror_axes(options.mirror));
    state->idle_bytes = resident_bytes();
    MFRES_TRY(state->pool,
              ThreadPool::create({options.threads, options.waiting, options.processors, options.parallel_for}));
    state->options = options;
    state->threads = resolve_threads(options.threads);
    state->model_file = model.string();
    MFRES_TRY(state->backend, find_backend(options.backend));
    MFRES_TRY(state->model, load_model(model));
    if (state->model.variant.classes() != tumour_classes || state->model.variant.input_channels() != 4)
        return Error{ErrorCode::model_metadata_invalid,
                     text(model.string(), " takes ", state->model.variant.input_channels(), " channels and tells ",
                          state->model.variant.classes(), " classes apart; segmentation needs 4 and ", tumour_classes),
                     model.string()};
    MFRES_CHECK(check_preprocessing(state->model.metadata, model));
    MFRES_TRY(state->arithmetic, compile_options(state->model, *state->backend, options.precision,
                                                 {.threads = options.threads,
                                                  .allow_tf32 = options.allow_tf32,
                                                  .deterministic = options.deterministic}));
    state->arithmetic.pool = state->pool;
    return Segmenter(std::move(state));
}

Result<Segmentation> Segmenter::segment(const CaseFiles& files, const SegmentOptions& options,
                                        const Progress& progress) {
    try {
        return state_->segment(files, options, progress);
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, text("case ", files.id, " needs more memory than the system gives"),
                     files.id};
    } catch (const std::exception& error) {
        return Error{ErrorCode::internal, text("case ", files.id, ": ", error.what()), files.id};
    }
}

std::vector<BackendInfo> available_backends() {
    std::vector<BackendInfo> all;
    for (const Backend* backend : backends())
        if (backend->available())
            all.push_back({std::string(backend->name()), backend->description()});
    return all;
}

std::string_view version() {
    return MFRES_VERSION;
}

} // namespace mfres
