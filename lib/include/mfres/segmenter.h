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
#include <mfres/export.h>
#include <mfres/predictor.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
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

inline constexpr std::array<ProbabilityFormat, 2> probability_formats = {ProbabilityFormat::float32,
                                                                         ProbabilityFormat::uint8};

/// "float32", "uint8"
MFRES_EXPORT std::string_view to_string(ProbabilityFormat format) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<ProbabilityFormat> parse_probability_format(std::string_view text);

struct SegmentOptions {
    AffineSource affine = AffineSource::automatic;
    bool resample = false;         ///< accept other voxel sizes: resample in, and the labels back out
    std::string label_scheme;      ///< a scheme or mapping as in CaseFiles::label_scheme; empty = the model's
    std::filesystem::path output;  ///< label map to write (.nii or .nii.gz); empty = none
    std::filesystem::path preview; ///< PNG to write; empty = none
    /// See PostprocessingSizes; 0 = never. Without a value: what the model file recommends, or never.
    std::optional<double> min_enhancing_mm3; ///< in place of what the model recommends in mm^3 and as a share
    std::optional<double> min_component_mm3; ///< likewise
    bool overwrite = true;                   ///< false = file_exists where output, preview or probabilities exist
    /// 4-D NIfTI (.nii or .nii.gz) to write, axes x, y, z, class, as Prediction::probabilities; empty = none.
    std::filesystem::path probabilities{};
    ProbabilityFormat probability_format = ProbabilityFormat::float32;
    /// Draw into the preview where the probability of any tumour is one half, and where no class reaches two thirds.
    bool preview_uncertainty = false;
    bool any_contrasts = false;        ///< as in PredictOptions
    bool return_probabilities = false; ///< give Segmentation::probabilities also without a file of them
    /// Give Segmentation::labels. Without them the file is written a slice at a time, and what it takes in memory does not
    /// depend on the input's voxel size.
    bool return_labels = true;
};

/// Everything worth knowing about one segmentation, for reports.
struct SegmentReport : PredictionReport {
    std::array<std::string, 4> inputs; ///< empty where a contrast is absent
    std::string output;
    std::string preview;
    std::string probabilities;
};

/// The report as a JSON object; with `choices` also the implementation of every step.
MFRES_EXPORT std::string to_json(const SegmentReport& report, bool choices = true);
/// The report for a person, about 20 lines.
MFRES_EXPORT std::string to_text(const SegmentReport& report);

struct Segmentation {
    LabelMap labels; ///< on the input's grid, in the label scheme; empty where they are not returned
    std::optional<ProbabilityMap> probabilities; ///< where they or a file of them were asked for
    SegmentReport report;
};

/// A Predictor with files around it. One thread at a time may use a Segmenter.
class MFRES_EXPORT Segmenter {
  public:
    /// Errors: those of Predictor::open.
    static Result<Segmenter> open(const std::filesystem::path& model, const SegmenterOptions& options);
    /// The same for the bytes of a model file, as Predictor::open.
    static Result<Segmenter> open(std::span<const std::byte> model, const SegmenterOptions& options,
                                  const std::string& name = "model");

    /// Segments one case. Any error means that no file was written. Errors: everything that ErrorCode lists for NIfTI
    /// files, grids and volumes, memory_limit, logits_not_finite, interrupted, file_write, file_exists.
    Result<Segmentation> segment(const CaseFiles& files, const SegmentOptions& options, const Progress& progress = {});

    /// The same for volumes in memory. Files that are written have their grid. SegmentOptions::affine is not used.
    Result<Segmentation> segment(const CaseVolumes& volumes, const SegmentOptions& options,
                                 const Progress& progress = {});

    /// The same model, for results in memory alone.
    Predictor& predictor() { return predictor_; }

  private:
    explicit Segmenter(Predictor predictor) : predictor_(std::move(predictor)) {}
    Predictor predictor_;
};

} // namespace mfres
