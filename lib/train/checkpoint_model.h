// SPDX-License-Identifier: MIT
// The model that a checkpoint holds.
#pragma once

#include "model/model.h"
#include "train/checkpoint.h"

namespace mfres {

/// The network with the weights that are evaluated (the moving average if there is one) and without the heads of deep
/// supervision. The metadata state the normalisation of the recipe, and with modality dropout the subsets of contrasts
/// that were trained; recipe and hash of the weights are the caller's.
/// Errors: those of parse_variant and parse_normalisation.
Result<Model> model_of(const Checkpoint& checkpoint);

} // namespace mfres
