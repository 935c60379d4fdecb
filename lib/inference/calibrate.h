// SPDX-License-Identifier: MIT
// Ranges of activations for int8, measured on cases: see graph/quantization.h for what they are used for.
#pragma once

#include "backends/backend.h"
#include "inference/box_source.h"
#include "model/model.h"

#include <mfres/compute.h>
#include <mfres/plausibility.h>
#include <mfres/predictor.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// How the range of a tensor is chosen.
enum class CalibrationMethod : std::uint8_t {
    minmax,     ///< the largest magnitude there is
    percentile, ///< that which a share of 10^-4 of the values other than 0 exceeds
    mse,        ///< the one with the least squared error of rounding and clamping, from histograms of 2048 bins
};
inline constexpr std::array<CalibrationMethod, 3> calibration_methods = {
    CalibrationMethod::minmax, CalibrationMethod::percentile, CalibrationMethod::mse};

/// "minmax", "percentile", "mse"
std::string_view to_string(CalibrationMethod method) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
Result<CalibrationMethod> parse_calibration_method(std::string_view text);

struct CalibrationOptions {
    ComputeOptions compute; ///< the precision is f32, whatever it says
    CalibrationMethod method = CalibrationMethod::minmax;
    /// Convolutions of the inference form that stay in f32: their names, "first" (those that read the input) or "last"
    /// (those that leave an output).
    std::vector<std::string> keep = {"first", "last"};
    AcceptedChecks accept{}; ///< as in PredictorOptions
};

/// Runs the network in f32 on the brain box of every case and measures what each convolution reads. Tensors without a
/// negative value get ranges from 0, others symmetric ones. The record's weights are floats.
/// Errors: those of BoxSource::load and the backend; dataset_empty; invalid_argument (a name in `keep` that is no
/// convolution, nothing left to quantize); model_metadata_invalid (channels that are not the four contrasts);
/// logits_not_finite (a value that is NaN or infinite); interrupted.
Result<QuantizationRecord> calibrate(const Model& model, const std::vector<BoxSource>& cases,
                                     const CalibrationOptions& options, const Progress& progress = {});

/// Magnitudes of a tensor's values, without zeros: bin i of `counts` holds those from i to i + 1 times largest / bins.
struct Magnitudes {
    static constexpr std::size_t bins = 2048;
    float least = 0.0F; ///< of the values themselves
    float most = 0.0F;
    std::vector<double> counts = std::vector<double>(bins, 0.0);

    float largest() const { return most > -least ? most : -least; }
};

/// The range that a method makes of them.
ActivationRange range_of(const Magnitudes& magnitudes, CalibrationMethod method);

} // namespace mfres
