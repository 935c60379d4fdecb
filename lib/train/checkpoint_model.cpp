// SPDX-License-Identifier: MIT
#include "train/checkpoint_model.h"

#include "core/try.h"
#include "model/sha256.h"
#include "networks/deep_supervision.h"

#include <mfres/normalisation.h>

#include <nlohmann/json.hpp>

#include <utility>

namespace mfres {

Result<Model> model_of(const Checkpoint& checkpoint) {
    MFRES_TRY(const Variant variant, parse_variant(checkpoint.recipe.network));
    Model model{variant, {}, without_heads(checkpoint.evaluated())};
    MFRES_TRY(model.metadata.normalisation, parse_normalisation(checkpoint.recipe.normalisation));
    if (checkpoint.recipe.sampling.modality_dropout > 0.0)
        model.metadata.modality_subsets = dropout_subsets();
    return model;
}

namespace {

using nlohmann::json;

/// The validation of exactly these weights; null without one.
const Validation* own_validation(const Checkpoint& checkpoint) {
    const bool validated = !checkpoint.validations.empty() && checkpoint.validations.back().step == checkpoint.step;
    return validated ? &checkpoint.validations.back() : nullptr;
}

json recipe_record(const Checkpoint& checkpoint) {
    json record = {{"recipe", to_json(checkpoint.recipe)},    {"steps_trained", checkpoint.step},
                   {"epochs_trained", checkpoint.epoch},      {"data_sha256", checkpoint.data_fingerprint},
                   {"averaged", !checkpoint.average.empty()}, {"backend", checkpoint.backend}};
    if (!checkpoint.data.fold.empty())
        record["fold"] = checkpoint.data.fold;
    if (const Validation* validation = own_validation(checkpoint))
        record["validation"] = {{"data_sha256", checkpoint.validation_fingerprint},
                                {"cases", validation->cases.size()},
                                {"dice_wt_tc_et", validation->mean}};
    return record;
}

} // namespace

Result<CheckpointModel> exported_model(const Checkpoint& checkpoint) {
    MFRES_TRY(Model model, model_of(checkpoint));
    model.metadata.recipe_json = recipe_record(checkpoint).dump();
    model.metadata.weights_sha256 = weights_sha256(model.weights);
    ExportedModel facts{model.variant.name(), checkpoint.step, !checkpoint.average.empty(), std::nullopt, {}};
    if (const Validation* validation = own_validation(checkpoint))
        facts.dice = validation->mean;
    return CheckpointModel{std::move(model), std::move(facts)};
}

} // namespace mfres
