// SPDX-License-Identifier: MIT
// Robustness of a segmentation: cases are shifted, mirrored, cropped or changed in intensity, segmented again, and
// compared with the labels of the original case and with the reference.
//
//   auto segmenter = mfres::Segmenter::open("model.safetensors", {});
//   auto cases = mfres::find_cases("validation");
//   auto report = mfres::measure_robustness(*segmenter, *cases, {});
//   std::cout << mfres::to_markdown(*report);
#pragma once

#include <mfres/case.h>
#include <mfres/metrics.h>
#include <mfres/segmenter.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// A change of a case. Random numbers depend on the seed and the modality only.
enum class Disturbance : std::uint8_t {
    none,       ///< no change
    shift,      ///< the field of view shifted by up to 7, 5 and 3 voxels
    tight_crop, ///< cropped to the brain
    loose_crop, ///< 20 more voxels of background on every side
    mirror,     ///< left and right exchanged
    scale,      ///< every modality times a factor between 1/3 and 3, plus an offset
    contrast,   ///< gamma of 0.8 or 1.25, depending on the modality
    bias_field, ///< times exp(f), f a quadratic polynomial of the position with |f| <= 0.2
    noise,      ///< Gaussian noise of a tenth of the brain's standard deviation
    /// Slices of 3 mm from inferior to superior: each is the mean over its thickness, with linear interpolation between.
    thick_slices,
};
inline constexpr std::array<Disturbance, 10> disturbances = {
    Disturbance::none,   Disturbance::shift,       Disturbance::tight_crop, Disturbance::loose_crop,
    Disturbance::mirror, Disturbance::scale,       Disturbance::contrast,   Disturbance::bias_field,
    Disturbance::noise,  Disturbance::thick_slices};

/// "none", "shift", "tight-crop", "loose-crop", "mirror", "scale", "contrast", "bias-field", "noise", "thick-slices"
std::string_view name(Disturbance disturbance) noexcept;

struct RobustnessOptions {
    std::uint64_t seed = 1; ///< of noise, bias fields and factors
    AffineSource affine = AffineSource::automatic;
    bool resample = false;                     ///< as in SegmentOptions
    int threads = 0;                           ///< for reading; 0 = all processors this process may use
    std::string label_scheme{};                ///< of the references: as `wanted` of choose_labels
    std::optional<double> min_enhancing_mm3{}; ///< as in SegmentOptions
    std::optional<double> min_component_mm3{}; ///< likewise
};

/// One case under one disturbance. Regions are those of RegionDefinition::brats in the order of
/// tumour_regions; Dice is 1 if both sides are empty.
struct RobustnessCase {
    std::string id;
    std::array<double, 3> agreement{};           ///< Dice with the labels of the original case
    std::optional<std::array<double, 3>> dice;   ///< with the reference, if the case has one
    std::optional<std::int64_t> false_enhancing; ///< enhancing voxels that are not enhancing in the reference
    friend bool operator==(const RobustnessCase&, const RobustnessCase&) = default;
};

struct RobustnessRow {
    Disturbance disturbance = Disturbance::none;
    std::vector<RobustnessCase> cases;
};

struct RobustnessReport {
    std::string model;                    ///< model_sentence
    PostprocessingSizes postprocessing{}; ///< that was applied
    std::uint64_t seed = 1;
    std::vector<RobustnessRow> rows; ///< in the order of `disturbances`
    std::string labels{};            ///< what the references were read as, and why; empty without references
};

/// Labels every case under every disturbance. Cases are brought to canonical orientation once and disturbed in memory.
/// A case of a training cache is rebuilt on its brain box: each contrast's z-scores, shifted so that the least is 1,
/// with 0 around the brain. Errors: dataset_empty (no case), interrupted, those of load_case, of the segmentation's
/// file, of reading a cache, and of Predictor::predict.
Result<RobustnessReport> measure_robustness(Segmenter& segmenter, const CaseSet& cases,
                                            const RobustnessOptions& options, const Progress& progress = {});

/// A table of means over the cases and the lowest agreement, with a line that states model and settings.
std::string to_markdown(const RobustnessReport& report);
/// The table and all cases as a JSON object.
std::string to_json(const RobustnessReport& report);

} // namespace mfres
