// SPDX-License-Identifier: MIT
// Start of a run: recipe, weights, state and cases of a new run, or those of a recorded one that is resumed, on every
// rank.
#pragma once

#include "train/log.h"
#include "train/run.h"

#include <string>

namespace mfres {

/// The run of the options, without state and cases. The root rank claims the folder; a new run has its recipe, with the
/// hashes of initial weights and teachers, and is checked before a folder is made.
/// Errors: recipe_invalid, those of load_model and teachers_sha256, of RunFolder::claim_new and claim_existing.
Result<Run> claim_run(const TrainerOptions& options);

/// Completes a run. The root rank reads the checkpoint of a run that is resumed, opens the cases and checks them
/// against those recorded. The other ranks receive recipe, state and weights from it and open the same cases. Errors:
/// checkpoint_mismatch (another recipe, fold or data, fewer steps than trained), recipe_invalid, those of
/// CheckpointFolder::load and open_run_data, those of any other rank.
Status start_run(Run& run, TrainLog& log);

/// Initial weights of the recipe, drawn from its seed. Errors: those of parse_variant and init_model.
Result<Weights> draw_weights(const Recipe& recipe);

/// checkpoint_mismatch, for a run that cannot be resumed because of the difference.
Error resume_mismatch(const Run& run, const std::string& difference);

/// The beginning of a fingerprint, for messages; "none" for an empty one.
std::string fingerprint_words(const std::string& fingerprint);

} // namespace mfres
