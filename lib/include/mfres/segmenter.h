// SPDX-License-Identifier: MIT
// Segmentation of brain tumours: open a model once, then feed it cases.
//
//   auto segmenter = mfres::Segmenter::open("model.safetensors", {});
//   auto files = mfres::find_case("BraTS19_CBICA_AAB_1");
//   auto result = segmenter->segment(*files, {.output = "labels.nii.gz"});
//
// Research use only: not a medical device.
#pragma once

#include <mfres/case.h>
#include <mfres/predictor.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace mfres {

using SegmenterOptions = PredictorOptions;

/// How probabilities are written.
enum class ProbabilityFormat : std::uint8_t {
    float32, ///< rounded to what float16 can hold: 11 significant bits, in half the compressed size
    uint8,   ///< steps of 1/255, by scl_slope
};

/// "float32", "uint8"
std::string_view name(ProbabilityFormat format) noexcept;
/// The format of that name. Errors: invalid_argument.
Result<ProbabilityFormat> parse_probability_format(std::string_view text);

struct SegmentOptions {
    std::string affine = "auto";   ///< "auto", "sform" or "qform": which to believe where a header has both
    bool resample = false;         ///< accept other voxel sizes: resample in, and the labels back out
    std::string label_scheme;      ///< "brats" (0, 1, 2, 4) or "brats2023" (0, 1, 2, 3); empty = the model's
    std::filesystem::path output;  ///< label map to write (.nii or .nii.gz); empty = none
    std::filesystem::path preview; ///< PNG to write; empty = none
    /// See PostprocessingSizes; 0 = never. Without a value: what the model file recommends, or never.
    std::optional<double> min_enhancing_mm3;
    std::optional<double> min_component_mm3; ///< likewise
    bool overwrite = true;                   ///< false = file_exists where output, preview or probabilities exist
    /// 4-D NIfTI (.nii or .nii.gz) to write, axes x, y, z, class, as Prediction::probabilities; empty = none.
    std::filesystem::path probabilities{};
    ProbabilityFormat probability_format = ProbabilityFormat::float32;
    /// Draw into the preview where the probability of any tumour is one half, and where no class reaches two thirds.
    bool preview_uncertainty = false;
    bool any_contrasts = false; ///< as in PredictOptions
};

/// Everything worth knowing about one segmentation, for reports.
struct SegmentReport : PredictionReport {
    std::array<std::string, 4> inputs; ///< empty where a contrast is absent
    std::string output;
    std::string preview;
    std::string probabilities;
};

/// The report as a JSON object; with `choices` also the implementation of every step.
std::string to_json(const SegmentReport& report, bool choices = true);
/// The report for a person, about 20 lines.
std::string to_text(const SegmentReport& report);

struct Segmentation {
    LabelMap labels;                             ///< on the input's grid, in the label scheme
    std::optional<ProbabilityMap> probabilities; ///< where a file of them was asked for
    SegmentReport report;
};

/// A Predictor with files around it. One thread at a time may use a Segmenter.
class Segmenter {
  public:
    /// Errors: those of Predictor::open.
    static Result<Segmenter> open(const std::filesystem::path& model, const SegmenterOptions& options);

    /// Segments one case. Any error means that no file was written. Errors: everything that ErrorCode lists for NIfTI
    /// files, grids and volumes, memory_limit, logits_not_finite, interrupted, file_write, file_exists.
    Result<Segmentation> segment(const CaseFiles& files, const SegmentOptions& options, const Progress& progress = {});

    /// The same model for volumes in memory.
    Predictor& predictor() { return predictor_; }

  private:
    explicit Segmenter(Predictor predictor) : predictor_(std::move(predictor)) {}
    Predictor predictor_;
};

} // namespace mfres
