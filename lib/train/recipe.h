// SPDX-License-Identifier: MIT
// A training recipe: all settings that determine the trained weights, as one flat JSON object with a strict schema.
// It is recorded in every checkpoint and in the model files exported from them.
#pragma once

#include "backends/training.h"
#include "core/json_value.h"
#include "data/loader.h"

#include <mfres/compute.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace mfres {

/// Defaults are the paper's, or DMFNet's (batch, epochs) where the paper states none.
struct Recipe {
    std::string network = "mf-res2net"; ///< after parse_recipe: the variant's canonical JSON
    std::string precision = "f32";      ///< name of a Precision; of training steps: validations compute in f32
    bool allow_tf32 = false;            ///< see CompileOptions, as the next one
    bool deterministic = true;          ///< false: a resumed run may differ from one without a break

    std::string loss = "weighted-tversky"; ///< name of a loss of train/loss.h
    double tversky_alpha = 0.3;            ///< weight of false positives
    double tversky_beta = 0.7;             ///< weight of false negatives
    double tversky_gamma = 4.0 / 3.0;      ///< of focal-tversky
    std::string absent = "skip";           ///< "literal" or "skip": classes without voxels in a batch
    bool loss_background = true;           ///< whether the background is one of the overlap loss's classes
    bool batch_dice = true;                ///< class sums over the batch; false: each sample's loss, then their mean
    double overlap_weight = 1.0;           ///< of `loss` without its cross-entropy
    double ce_weight = 0.0;                ///< of the mean cross-entropy; naming a loss sets its default
    double focal_gamma = 0.0;              ///< cross-entropies times (1 - p)^focal_gamma
    double topk_percent = 100.0;           ///< the mean is over that share of the voxels, the hardest
    bool deep_supervision = false;         ///< also the loss of outputs at 1/2 and 1/4 of the resolution
    /// SHA-256 of the weights of the teachers, joined by commas; empty = no teachers.
    std::string teachers_sha256;
    double distill_weight = 0.5;      ///< with teachers: share of the cross-entropy against them
    double distill_temperature = 1.0; ///< of both sides of that cross-entropy
    bool distill_mirror = false;      ///< teachers label a drawn mirror image

    double learning_rate = 1e-3;
    double adam_beta1 = 0.9;
    double adam_beta2 = 0.999;
    double adam_epsilon = 1e-8;
    double l2 = 1e-5;
    bool amsgrad = false;
    double clip_norm = 0.0;            ///< 0 = gradients are not clipped
    double power = 0.9;                ///< of the polynomial decay; 0 = constant rate
    std::int64_t warmup_steps = 0;     ///< the rate rises linearly over so many steps
    std::int64_t steps = 0;            ///< 0 = as many as `epochs` take
    std::int64_t epochs = 500;         ///< 0 = `steps` decides
    std::int64_t validate_every = 500; ///< steps; 0 = after the last step only
    double ema = 0.0;                  ///< decay of the moving average of weights, 0 = none
    double batch_norm_momentum = 0.1;
    std::int64_t fixed_norm_steps = 0; ///< the last so many steps have NormStatistics::running

    std::string normalisation = "zscore-brain"; ///< name of a Normalisation: of the cases and of the model

    std::uint64_t init_seed = 1; ///< of the initial weights
    /// SHA-256 of the weights that training starts from, 64 hexadecimal digits; empty = drawn from init_seed.
    std::string init_sha256;
    std::uint64_t seed = 1; ///< of batches and augmentation
    Sampling sampling;
};

/// Reads a recipe: `base` with the keys of the JSON object `json` in place of its own. A length given in steps replaces
/// one in epochs and the other way round. Errors: recipe_invalid, naming key, value and what is allowed, for text that
/// is not such an object, unknown keys, wrong types, values out of range, a network that does not exist or does not
/// take four channels to four classes, and crops whose edges the network cannot halve often enough.
Result<Recipe> parse_recipe(std::string_view json, const Recipe& base = {});

/// The recipe as a JSON object of every key (of "steps" and "epochs" the one in effect), sorted: equal recipes give
/// equal text. Precondition: it came from parse_recipe.
Json to_json(const Recipe& recipe);

/// Keys of the canonical objects that differ, in words: "learning_rate 0.001 instead of 0.002". Keys that may change
/// when a run is resumed (steps, epochs, validate_every) are left out.
std::vector<std::string> recipe_differences(const Recipe& wanted, const Recipe& recorded);

/// Steps of the whole training over that many cases: `steps`, or all batches that `epochs` passes fill.
std::int64_t total_steps(const Recipe& recipe, std::size_t cases);

/// Learning rate of a step counted from 0: learning_rate * (1 - step / total)^power (polynomial decay), and during the
/// warm-up times (step + 1) / warmup_steps.
double learning_rate(const Recipe& recipe, std::int64_t step, std::int64_t total);

/// The statistics of a step counted from 0.
NormStatistics norm_statistics(const Recipe& recipe, std::int64_t step, std::int64_t total);

/// Adam's settings for a step counted from 0.
OptimiserStep optimiser_step(const Recipe& recipe, std::int64_t step, std::int64_t total);

/// The loss of a graph with so many outputs: several with deep supervision. Errors: those of make_loss.
Result<Loss> loss_of(const Recipe& recipe, std::size_t outputs);

} // namespace mfres
