// SPDX-License-Identifier: MIT
// The model that a checkpoint holds.
#pragma once

#include "model/model.h"
#include "train/checkpoint.h"

#include <mfres/trainer.h>

namespace mfres {

/// The network with the weights that are evaluated (the moving average if there is one) and without the heads of deep
/// supervision. The metadata state the normalisation of the recipe, and with modality dropout the subsets of contrasts
/// that were trained; recipe and hash of the weights are the caller's.
/// Errors: those of parse_variant and parse_normalisation.
Result<Model> model_of(const Checkpoint& checkpoint);

/// A checkpoint as a model file holds it, and what it came from.
struct CheckpointModel {
    Model model; ///< with the recipe and the hash of the weights
    ExportedModel facts;
};

/// Errors: those of model_of.
Result<CheckpointModel> exported_model(const Checkpoint& checkpoint);

} // namespace mfres
