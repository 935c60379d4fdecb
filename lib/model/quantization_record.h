// SPDX-License-Identifier: MIT
// Quantization of a model file as JSON, the value of the metadata key mfres.quantisation:
//   {"calibration": "minmax", "percentile" or "mse",
//    "cases": 8,                                  cases the ranges were measured on, at least 1
//    "weights": "float" or "int8",                how the weights of the quantized convolutions are stored
//    "ranges": {"enc2.down.conv": [0, 5.25], ...} ActivationRanges of graph/quantization.h: [least, most]}
#pragma once

#include "graph/quantization.h"

#include <mfres/status.h>

#include <string>

namespace mfres {

struct QuantizationRecord {
    std::string calibration = "percentile";
    int cases = 0;
    bool int8_weights = false; ///< the file holds integers and runs in int8 by default
    ActivationRanges ranges;   ///< empty: the model was not calibrated
};

/// Error: model_metadata_invalid, `where` = the key.
Result<QuantizationRecord> quantization_from_json(const std::string& json);

/// The inverse.
std::string to_json(const QuantizationRecord& record);

} // namespace mfres
