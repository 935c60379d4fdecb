// SPDX-License-Identifier: MIT
// The measurements of a training run as tables.
#pragma once

#include <mfres/trainer.h>

#include <span>
#include <string>

namespace mfres {

/// metrics.csv: step, loss, learning_rate, gradient_norm, seconds, voxels_per_second, wait_share, wt, tc, et,
/// skipped; one line per row under a header line; the Dice columns are empty where nothing was evaluated.
std::string metrics_csv(std::span<const TrainRow> rows);

/// validation.csv: step, case, wt, tc, et; per validation one line for each case and one for "mean".
std::string validation_csv(std::span<const Validation> validations);

} // namespace mfres
