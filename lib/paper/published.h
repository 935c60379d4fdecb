// What the paper printed for the rows of an experiment.
#pragma once

#include <mfres/experiment.h>

#include <optional>

namespace mfres {

/// The published figures of a row: those of Table 1 for a loss that MF-RES2Net as registered is trained with, those of
/// Table 2 for a registered network. Nothing for any other row, e.g. a variant.
std::optional<PublishedFigures> published_row(ExperimentTable table, const ExperimentRow& row);

} // namespace mfres
