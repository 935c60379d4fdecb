// Segmentation of brain tumours: open a model once, then feed it cases.
//
//   auto segmenter = mfres::Segmenter::open("model.safetensors", {});
//   auto files = mfres::find_case("BraTS19_CBICA_AAB_1");
//   auto result = segmenter->segment(*files, {.output = "labels.nii.gz"});
//
// Research use only: not a medical device.
#pragma once

#include <mfres/case.h>
#include <mfres/status.h>
#include <mfres/threads.h>
#include <mfres/volume.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

struct SegmenterOptions {
    std::string backend = "auto"; ///< "auto" = the fastest in this build; see available_backends()
    int threads = 0;              ///< 0 = all processors this process may use
    /// What activations and weights of convolutions are stored as; sums are taken in f32 or better, or in whole
    /// numbers. "f32", "bf16", "fp16" or "int8", where backend and processor have it (else operation_unsupported); int8
    /// needs a model that was calibrated. "auto" = int8 for a model file that holds integers, where that can run, else
    /// f32
    std::string precision = "auto";
    /// Bytes this library may use on top of what the process had before, 0 = no limit. With a limit that the whole
    /// brain box does not fit into, the network runs tile by tile.
    std::int64_t max_memory = 0;
    /// Axes along which the brain is also shown mirrored: letters of "xyz", x being left and right. Labels are those of
    /// the mean probability over all combinations, in 2, 4 or 8 times the time. Empty = as it is only.
    std::string mirror;
    /// Lets a GPU round the operands of f32 products to 10 bits (TF32). operation_unsupported where there is none.
    bool allow_tf32 = false;
    /// False lets an engine be faster and not give equal bits in every run. operation_unsupported where it cannot.
    bool deterministic = true;
    std::string waiting = "auto";  ///< as in ThreadOptions, like the two below
    std::vector<int> processors{}; ///< for the network's threads
    ParallelFor parallel_for{};    ///< instead of threads of ours
};

struct SegmentOptions {
    std::string affine = "auto";   ///< "auto", "sform" or "qform": which to believe where a header has both
    bool resample = false;         ///< accept other voxel sizes: resample in, and the labels back out
    std::string label_scheme;      ///< "brats" (0, 1, 2, 4) or "brats2023" (0, 1, 2, 3); empty = the model's
    std::filesystem::path output;  ///< label map to write (.nii or .nii.gz); empty = none
    std::filesystem::path preview; ///< PNG to write; empty = none
    /// Enhancing tumour of less than so many mm^3 in all becomes necrotic and non-enhancing core; 0 = never.
    double min_enhancing_mm3 = 0.0;
    /// Connected parts of the tumour of less than so many mm^3 become background, but for the largest; 0 = never.
    double min_component_mm3 = 0.0;
    bool overwrite = true; ///< false = file_exists where output or preview exists
};

/// Called with the name of the running stage and the share of it that is done, 0..1. Return false to stop
/// (interrupted).
using Progress = std::function<bool(std::string_view stage, double done)>;

/// Everything worth knowing about one segmentation, for reports.
struct SegmentReport {
    std::string case_id;
    std::string model_file;
    std::string network;
    std::string weights_sha256;
    std::string backend;        ///< e.g. "onednn"
    std::string backend_engine; ///< e.g. "oneDNN 2.6.3"
    std::string precision;
    bool allow_tf32 = false;
    bool deterministic = true;
    int threads = 0;
    std::string label_scheme;
    std::array<std::string, 4> inputs;
    std::string output;
    std::string preview;
    std::array<std::int64_t, 3> grid_size{};      ///< of the input, voxels
    std::array<std::int64_t, 3> brain_box_size{}; ///< voxels
    std::array<std::int64_t, 3> network_size{};   ///< of one pass: the padded box, or one tile
    std::int64_t tiles = 1;
    std::int64_t mirror_images = 1; ///< passes over every tile, see SegmenterOptions::mirror

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
    std::vector<Part> classes; ///< without background
    std::vector<Part> regions; ///< WT, TC, ET (BraTS definition)

    /// What the library planned to hold at most, and what the process held at most on top of its state before open().
    /// Both in bytes; measured is 0 where the system does not tell.
    std::int64_t planned_peak_bytes = 0;
    std::int64_t measured_peak_bytes = 0;

    struct Choice {
        std::string node;
        std::string operation;
        std::string implementation;
    };
    std::vector<Choice> chosen; ///< what the backend picked for each step
    std::vector<std::string> warnings;
};

/// The report as a JSON object; with `choices` also the implementation of every step.
std::string to_json(const SegmentReport& report, bool choices = true);
/// The report for a person, about 20 lines.
std::string to_text(const SegmentReport& report);

/// "Predictions by mf-res2net (FILE, weights SHA-256 ...) on oneDNN 2.6.3 in f32.": what made the labels, for tables.
std::string model_sentence(const SegmentReport& report);

struct Segmentation {
    LabelMap labels; ///< on the input's grid, in the label scheme
    SegmentReport report;
};

/// Holds one model. One thread at a time may use a Segmenter.
class Segmenter {
  public:
    /// Errors: those of the model file (model_*), backend_unknown, backend_unavailable,
    /// operation_unsupported (a precision or relaxation that the backend does not have), invalid_argument.
    static Result<Segmenter> open(const std::filesystem::path& model, const SegmenterOptions& options);

    Segmenter(Segmenter&&) noexcept;
    Segmenter& operator=(Segmenter&&) noexcept;
    ~Segmenter();

    /// Segments one case. Any error means that no file was written. Errors: everything that ErrorCode lists for NIfTI
    /// files, grids and volumes, memory_limit, logits_not_finite, interrupted, file_write, file_exists.
    Result<Segmentation> segment(const CaseFiles& files, const SegmentOptions& options, const Progress& progress = {});

  private:
    struct State;
    explicit Segmenter(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

struct BackendInfo {
    std::string name;
    std::string engine;
};
/// The backends of this build, fastest first.
std::vector<BackendInfo> available_backends();

/// "0.1.0"
std::string_view version();

} // namespace mfres
