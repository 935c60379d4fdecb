// SPDX-License-Identifier: MIT
// Models from checkpoints.
#pragma once

#include "model/model.h"
#include "train/checkpoint.h"
#include "train/run.h"

#include <mfres/trainer.h>

#include <string_view>

namespace mfres {

/// How weights of convolutions are stored: "f32", "f16" or "bf16". Errors: invalid_argument.
Result<Dtype> parse_storage(std::string_view storage);

/// The network with the weights that are evaluated (the moving average if there is one) and without the heads of deep
/// supervision. The metadata state the normalisation of the recipe. They declare no subsets of the contrasts, also with
/// modality dropout: which ones are good enough is measured. Recipe and hash of the weights are the caller's.
/// Errors: those of parse_variant and parse_normalisation.
Result<Model> model_of(const Checkpoint& checkpoint);

/// Writes model.safetensors of a run from best.ckpt, or from last.ckpt where nothing was validated or best.ckpt is not
/// that of the best validation (a warning). Errors: those of read_checkpoint for last.ckpt and of save_model.
Result<ExportedModel> export_best(Run& run);

} // namespace mfres
