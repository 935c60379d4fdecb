// SPDX-License-Identifier: MIT
// Models from checkpoints.
#pragma once

#include "model/model.h"
#include "train/checkpoint.h"
#include "train/run.h"

#include <mfres/trainer.h>

namespace mfres {

/// The network with the weights that are evaluated (the moving average if there is one) and without the heads of deep
/// supervision. The metadata state the normalisation of the recipe. They declare no subsets of the contrasts, also with
/// modality dropout: which ones are good enough is measured. Recipe and hash of the weights are the caller's.
/// Errors: those of parse_variant and parse_normalisation.
Result<Model> model_of(const Checkpoint& checkpoint);

/// A checkpoint as a model file holds it, and what it came from.
struct CheckpointModel {
    Model model; ///< with the recipe and the hash of the weights
    ExportedModel facts;
};

/// Errors: those of model_of.
Result<CheckpointModel> exported_model(const Checkpoint& checkpoint);

/// Writes model.safetensors of a run from best.ckpt, or from last.ckpt where nothing was validated or best.ckpt is not
/// that of the best validation (a warning). Errors: those of read_checkpoint for last.ckpt and of save_model.
Result<ExportedModel> export_best(Run& run);

} // namespace mfres
