// SPDX-License-Identifier: MIT
// Segmentation of brain tumours in memory: open a model once, then pass it volumes.
//
//   auto predictor = mfres::Predictor::open("mf-res2net", {});
//   mfres::CaseVolumes volumes;
//   volumes.id = "patient 7";
//   volumes[mfres::Modality::t1] = mfres::VolumeView::of(t1); // and the other three
//   auto prediction = predictor->predict(volumes, {.probabilities = true});
//
// For files see <mfres/segmenter.h>, which adds reading and writing to a Predictor.
// Research use only: not a medical device.
#pragma once

#include <mfres/compute.h>
#include <mfres/export.h>
#include <mfres/plausibility.h>
#include <mfres/postprocessing.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Which of the axes x (left and right), y and z are mirrored.
using MirrorAxes = std::array<bool, 3>;

/// "x", "xz", "zyx": letters in any order, each at most once; "" = none. Errors: invalid_argument (names the text).
MFRES_EXPORT Result<MirrorAxes> parse_mirror_axes(std::string_view letters);

/// Where the arrays of a case (voxels, masks, activations) come from in place of the system: both functions, or none.
/// They are called from any thread, also from several at once.
struct MemoryHooks {
    /// Memory that starts at a multiple of `alignment`, a power of 2; null if there is none. For arrays of 64 KiB and more.
    std::function<void*(std::size_t bytes, std::size_t alignment)> allocate{};
    std::function<void(void* memory, std::size_t bytes)> release{}; ///< gives it back
};

enum class LogLevel : std::uint8_t {
    error = 1, ///< a call failed: its error
    warning,   ///< the warnings of a case's report
    info,      ///< a model was opened, a case was segmented
    debug,     ///< the time of each stage
};

/// "error", "warning", "info", "debug"
MFRES_EXPORT std::string_view to_string(LogLevel level) noexcept;

/// Gets one message, a sentence without a line break, in the thread of the call that it is about.
using Log = std::function<void(LogLevel level, std::string_view message)>;

struct PredictorOptions {
    ComputeOptions compute;
    /// Bytes that this library may allocate, 0 = no limit. If a pass over the whole brain box needs more than the
    /// limit, the network runs on overlapping tiles (sliding window).
    std::int64_t max_memory = 0;
    /// Test-time augmentation: the network also runs on the input mirrored along these axes and their combinations.
    /// Labels are the argmax of the mean softmax of all runs. Takes 2, 4 or 8 times as long.
    MirrorAxes mirror{};
    /// Does not compute what only voxels outside the brain depend on, in the levels where that saves time. Results are the
    /// same bits with and without, because labels outside the brain are background.
    bool skip_background = true;
    AcceptedChecks accept{}; ///< checks that give a warning in the report instead of rejecting the case
    MemoryHooks memory{};
    /// Keeps the arrays of a case for the next one, in exchange for memory: a case then takes none from the system if the
    /// one before had its size. Arrays that a case does not use are given back after it.
    bool keep_memory = false;
    Log log{};
    LogLevel log_level = LogLevel::info; ///< messages up to it
};

/// Called with the name of the running stage and the share of it that is done, 0..1. Return false to stop
/// (interrupted).
using Progress = std::function<bool(std::string_view stage, double done)>;

/// How one case was segmented, and the volumes of the tumour's parts.
struct PredictionReport {
    std::string case_id;
    std::string model_file;
    std::string network;
    std::string weights_sha256;
    RunInfo used;
    std::string label_scheme;
    ModalitySet contrasts = all_modalities;       ///< present in the case
    std::array<std::int64_t, 3> grid_size{};      ///< of the input, voxels
    std::array<std::int64_t, 3> brain_box_size{}; ///< voxels
    std::array<std::int64_t, 3> network_size{};   ///< input of the network: the padded brain box, or a tile
    std::int64_t tiles = 1;
    std::int64_t mirror_images = 1; ///< inferences of each tile, see PredictorOptions::mirror

    struct Stage {
        std::string name;
        double milliseconds = 0;
    };
    std::vector<Stage> stages;
    double total_milliseconds = 0;

    struct Part {
        std::string name;
        std::int64_t voxels = 0;
        double millilitres = 0;
    };
    std::vector<Part> classes;          ///< without background
    std::vector<Part> regions;          ///< WT, TC, ET (BraTS definition)
    PostprocessingSizes postprocessing; ///< the thresholds that were applied

    /// Peak memory in bytes, as planned by the library, and as measured: how far the resident memory of the process
    /// rose above that before open(); 0 where the system does not report it.
    std::int64_t planned_peak_bytes = 0;
    std::int64_t measured_peak_bytes = 0;

    struct Choice {
        std::string node;
        std::string operation;
        std::string implementation;
    };
    std::vector<Choice> chosen; ///< the backend's implementation of each op
    std::vector<std::string> warnings;
};

/// The report as a JSON object; with `choices` also the implementation of each op.
MFRES_EXPORT std::string to_json(const PredictionReport& report, bool choices = true);

/// "Predictions by mf-res2net (FILE, weights SHA-256 ...) on oneDNN 2.6.3 in f32.": what made the labels, for tables.
MFRES_EXPORT std::string model_sentence(const PredictionReport& report);

/// The contrasts of one patient at one time, in memory. All on one grid, co-registered and skull-stripped.
struct CaseVolumes {
    std::string id; ///< for messages and the report
    /// Indexed by Modality. A volume without voxels is an absent contrast; only models trained for that accept it.
    std::array<VolumeView, 4> volumes;

    VolumeView& operator[](Modality modality) { return volumes[static_cast<std::size_t>(modality)]; }
    const VolumeView& operator[](Modality modality) const { return volumes[static_cast<std::size_t>(modality)]; }
};

struct PredictOptions {
    bool resample = false;                   ///< accept other voxel sizes: resample the input, and the labels back
    std::string label_scheme;                ///< a scheme or mapping as in CaseFiles::label_scheme; empty = the model's
    std::optional<double> min_enhancing_mm3; ///< as in SegmentOptions
    std::optional<double> min_component_mm3; ///< as in SegmentOptions
    bool probabilities = false;              ///< also give the probability of every class
    /// Accept any subset of the contrasts, also one that the model was not trained for. For measurements.
    bool any_contrasts = false;
};

struct Prediction {
    LabelMap labels; ///< on the input's grid, in the label scheme
    /// If asked for: on the input's grid, in the order of the network's classes (background, necrotic and non-enhancing
    /// core, oedema, enhancing tumour): the softmax, averaged over mirrored inputs. Postprocessing changes labels only.
    /// Outside the brain, background is 1. Interpolated linearly where the input was resampled.
    std::optional<ProbabilityMap> probabilities;
    PredictionReport report;
};

class CasePredictor; // lib/inference/predictor.h: what Segmenter, calibration and others share

/// Holds one model. One thread at a time may use a Predictor, but for cancel().
class MFRES_EXPORT Predictor {
  public:
    /// `model`: a model file, or the name of weights that come with mfres ("mf-res2net-half"; see find_model).
    /// Errors: those of the model file (model_*), backend_unknown, backend_unavailable, operation_unsupported (a
    /// precision or numerics option that the backend does not have), invalid_argument, file_not_found.
    static Result<Predictor> open(const std::filesystem::path& model, const PredictorOptions& options);
    /// The same for the bytes of a model file. They are not needed after the call. `name` stands in messages and
    /// reports where a file's path would.
    static Result<Predictor> open(std::span<const std::byte> model, const PredictorOptions& options,
                                  const std::string& name = "model");

    Predictor(Predictor&&) noexcept;
    Predictor& operator=(Predictor&&) noexcept;
    ~Predictor();

    /// Segments one case. Errors: modality_missing (a contrast is absent, and the model was not trained for that;
    /// names the subsets it was trained for), invalid_argument (sizes outside 2..1024, an affine that is not finite,
    /// options), grid_size_mismatch and grid_position_mismatch (corners more than 0.1 mm apart), affine_singular,
    /// affine_sheared, orientation_oblique, voxel_size_out_of_range, voxel_not_finite, volume_constant,
    /// modality_duplicate, brain_too_small, the plausibility_checks that are not accepted, nifti_too_large, memory_limit, logits_not_finite, interrupted.
    Result<Prediction> predict(const CaseVolumes& volumes, const PredictOptions& options = {},
                               const Progress& progress = {});

    /// The same into an object whose memory is reused. After an error its content is unspecified.
    Status predict_into(Prediction& result, const CaseVolumes& volumes, const PredictOptions& options = {},
                        const Progress& progress = {});

    /// Prepares for cases whose brain has that extent in voxels along x, y and z: compiles the network, takes its memory
    /// and runs it once on zeros. Errors: invalid_argument (an extent outside 1..1024), those of compiling and running,
    /// memory_limit, interrupted.
    Status warm_up(const std::array<std::int64_t, 3>& brain_size);

    /// Stops the call of predict(), warm_up() or Segmenter::segment() that is running: it fails with interrupted. No
    /// effect if none is running. Any thread may call it.
    void cancel() noexcept;

    CasePredictor& inside() { return *inside_; } ///< for this library

  private:
    explicit Predictor(std::unique_ptr<CasePredictor> inside);
    static Result<Predictor> opened(std::unique_ptr<CasePredictor> inside);
    std::unique_ptr<CasePredictor> inside_;
};

/// A model file, from its path or from the name of weights that come with mfres: a word without folder and ending that
/// names no file. Those are looked for in $MFRES_MODELS, in share/mfres/models beside the folder of the running program
/// or of this library (as installed), and in the source tree of a build. Errors: file_not_found for a name that none of
/// these has; a path is returned as it is.
MFRES_EXPORT Result<std::filesystem::path> find_model(const std::filesystem::path& model);

struct BackendInfo {
    std::string name;
    std::string engine;
};
/// The backends of this build, fastest first.
MFRES_EXPORT std::vector<BackendInfo> available_backends();
/// The backend of that name; of "auto": the first of available_backends(). Errors: backend_unknown, backend_unavailable.
MFRES_EXPORT Result<BackendInfo> backend_info(std::string_view name);

/// "0.1.0"
MFRES_EXPORT std::string_view version();

} // namespace mfres
