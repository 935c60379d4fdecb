// SPDX-License-Identifier: MIT
#include "train/checkpoint_model.h"

#include "core/try.h"
#include "networks/deep_supervision.h"

#include <mfres/normalisation.h>

namespace mfres {

Result<Model> model_of(const Checkpoint& checkpoint) {
    MFRES_TRY(const Variant variant, parse_variant(checkpoint.recipe.network));
    Model model{variant, {}, without_heads(checkpoint.evaluated())};
    MFRES_TRY(model.metadata.normalisation, parse_normalisation(checkpoint.recipe.normalisation));
    if (checkpoint.recipe.sampling.modality_dropout > 0.0)
        model.metadata.modality_subsets = dropout_subsets();
    return model;
}

} // namespace mfres
