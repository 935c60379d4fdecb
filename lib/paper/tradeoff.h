// The picture of a comparison of networks: what each reaches over what a pass of it costs.
#pragma once

#include "report/drawing.h"

#include <mfres/experiment.h>

namespace mfres {

/// Mean Dice of each region over the milliseconds of a pass, on a logarithmic axis, one column of markers per network
/// with its name and the memory it holds. Rows that lack either are left out; without any, the frame is empty.
Drawing draw_tradeoff(const ExperimentReport& report);

} // namespace mfres
