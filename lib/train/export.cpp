// SPDX-License-Identifier: MIT
#include "train/export.h"

#include "core/guard.h"
#include "core/json_value.h"
#include "core/try.h"
#include "model/sha256.h"
#include "networks/deep_supervision.h"
#include "train/weight_dtype.h"

#include <mfres/normalisation.h>

#include <utility>

namespace mfres {

namespace {

/// The last validation, if the weights of the checkpoint are those that it evaluated.
const Validation* own_validation(const Checkpoint& checkpoint) {
    const bool validated = !checkpoint.validations.empty() && checkpoint.validations.back().step == checkpoint.step;
    return validated ? &checkpoint.validations.back() : nullptr;
}

Json recipe_record(const Checkpoint& checkpoint) {
    Json record = {{"recipe", to_json(checkpoint.recipe)},    {"steps_trained", checkpoint.step},
                   {"epochs_trained", checkpoint.epoch},      {"data_sha256", checkpoint.data_fingerprint},
                   {"averaged", !checkpoint.average.empty()}, {"backend", checkpoint.backend}};
    if (!checkpoint.data.fold.empty())
        record["fold"] = checkpoint.data.fold;
    if (const Validation* const validation = own_validation(checkpoint))
        record["validation"] = {{"data_sha256", checkpoint.validation_fingerprint},
                                {"cases", validation->cases.size()},
                                {"dice_wt_tc_et", validation->mean}};
    return record;
}

Result<ExportedModel> export_model(const Checkpoint& checkpoint, const std::filesystem::path& path, bool overwrite,
                                   Dtype dtype) {
    MFRES_TRY(CheckpointModel exported, exported_model(checkpoint));
    MFRES_CHECK(save_model(path, exported.model, dtype, overwrite));
    return std::move(exported.facts);
}

} // namespace

Result<Model> model_of(const Checkpoint& checkpoint) {
    MFRES_TRY(const Variant variant, parse_variant(checkpoint.recipe.network));
    // Made before the model: where a later member throws, GCC 12 destroys what an empty list has not made yet.
    Weights weights = without_heads(checkpoint.evaluated());
    Model model{variant, {}, std::move(weights)};
    MFRES_TRY(model.metadata.normalisation, parse_normalisation(checkpoint.recipe.normalisation));
    return model;
}

Result<CheckpointModel> exported_model(const Checkpoint& checkpoint) {
    MFRES_TRY(Model model, model_of(checkpoint));
    model.metadata.recipe_json = recipe_record(checkpoint).dump();
    model.metadata.weights_sha256 = weights_sha256(model.weights);
    ExportedModel facts{model.variant.name(), checkpoint.step, !checkpoint.average.empty(), std::nullopt, {}};
    if (const Validation* const validation = own_validation(checkpoint))
        facts.dice = validation->mean;
    if (checkpoint.recipe.sampling.modality_dropout > 0.0)
        facts.warnings.emplace_back(
            "the model was trained with modality dropout and declares no subset of the contrasts: measure it with "
            "'mfres evaluate --drop all', then declare the subsets that are good enough with 'mfres convert --subsets'");
    return CheckpointModel{std::move(model), std::move(facts)};
}

Result<ExportedModel> export_best(Run& run) {
    const std::filesystem::path path = run.folder / "model.safetensors";
    std::string problem;
    if (run.now.best) {
        const auto best = read_checkpoint(run.folder / "best.ckpt");
        if (best && best->step == run.now.validations[*run.now.best].step)
            return export_model(*best, path, true, Dtype::f32);
        if (!best && best.error().code == ErrorCode::memory_limit) // says nothing about the file
            return best.error();
        problem = best ? text("best.ckpt is of step ", best->step) : best.error().message;
    }
    MFRES_TRY(const Checkpoint last, read_checkpoint(run.folder.checkpoints().last()));
    MFRES_TRY(ExportedModel exported, export_model(last, path, true, Dtype::f32));
    if (!problem.empty())
        exported.warnings.push_back("the model was made from the last checkpoint, not the best: " + problem);
    return exported;
}

Result<ExportedModel> export_checkpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& model,
                                        bool overwrite, WeightDtype dtype) {
    return guarded(checkpoint, [&]() -> Result<ExportedModel> {
        MFRES_TRY(const Checkpoint loaded, read_checkpoint(checkpoint));
        return export_model(loaded, model, overwrite, file_dtype(dtype));
    });
}

} // namespace mfres
