// SPDX-License-Identifier: MIT
// Published figures of the rows of an experiment.
#pragma once

#include "paper/experiment.h"

#include <optional>

namespace mfres {

/// The published figures of a row: those of Table 1 for the registered MF-RES2Net trained with a loss, those of Table 2
/// for a registered network. Nothing for other rows, e.g. variants.
std::optional<PublishedFigures> published_row(ExperimentTable table, const ExperimentRow& row);

} // namespace mfres
