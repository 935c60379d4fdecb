// SPDX-License-Identifier: MIT
// Plot of a comparison of networks: Dice over the time of one inference.
#pragma once

#include "paper/experiment.h"
#include "report/drawing.h"

namespace mfres {

/// Mean Dice of each region over the milliseconds of an inference on a logarithmic axis: one column of markers per
/// network with its name and peak memory. Rows without Dice or cost are omitted.
Drawing draw_tradeoff(const ExperimentReport& report);

} // namespace mfres
