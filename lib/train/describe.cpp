// SPDX-License-Identifier: MIT
// What a recipe and a run's folder hold, without a training.
#include "core/guard.h"
#include "core/try.h"
#include "train/checkpoint.h"
#include "train/recipe.h"

#include <mfres/trainer.h>

#include <filesystem>
#include <system_error>

namespace mfres {

Result<RecipeDescription> describe_recipe(std::string_view json, std::size_t cases) {
    return guarded("recipe", [&]() -> Result<RecipeDescription> {
        MFRES_TRY(const Recipe recipe, parse_recipe(json));
        MFRES_TRY(const Normalisation normalisation, parse_normalisation(recipe.normalisation));
        return RecipeDescription{to_json(recipe).dump(), recipe.loss, recipe.sampling.crop, recipe.sampling.batch,
                                 total_steps(recipe, cases), normalisation};
    });
}

Result<std::optional<RunProgress>> run_progress(const std::filesystem::path& run) {
    return guarded(run, [&]() -> Result<std::optional<RunProgress>> {
        CheckpointFolder checkpoints(run);
        std::error_code ignored;
        if (!std::filesystem::exists(checkpoints.last(), ignored) &&
            !std::filesystem::exists(checkpoints.previous(), ignored))
            return std::optional<RunProgress>();
        MFRES_TRY(const auto found, checkpoints.load());
        return std::optional(RunProgress{found.checkpoint.step, found.checkpoint.seconds});
    });
}

} // namespace mfres
