// SPDX-License-Identifier: MIT
// What a model expects of a case: contrasts and their order, normalisation, voxel size. The one place where that is
// checked, for every use of a model on cases.
#pragma once

#include "imaging/case.h"
#include "imaging/preprocess.h"
#include "model/model.h"

#include <mfres/normalisation.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

struct ModelInput {
    std::array<Modality, 4> channels = modalities; ///< of the network's input
    Normalisation normalisation = Normalisation::zscore_brain;
    std::vector<ModalitySet> subsets; ///< contrasts that suffice besides all four
    double voxel_min_mm = 0.95;
    double voxel_max_mm = 1.05;
    double brain_min_ml = 400.0;
    double brain_max_ml = 2500.0;
    std::int64_t multiple = 16; ///< of the padded box's edges
};

/// `where` names the model in messages. Errors: model_metadata_invalid for channels that are not the four contrasts,
/// each once.
Result<ModelInput> model_input(const Model& model, const std::string& where);

/// Whether the model was trained for cases with these contrasts.
bool trained_for(const ModelInput& input, const ModalitySet& present);

/// Whether the model takes a case with these contrasts. `any` accepts every subset that is not empty. `kind` and `id` name
/// the case in the error. Errors: modality_missing, with the subsets that would do, and the models that come with mfres
/// and take this one.
Status check_contrasts(const ModelInput& input, const ModalitySet& present, bool any, std::string_view kind,
                       std::string_view id);

/// Sentences that say what cannot be judged without the absent contrasts. Empty for all four.
std::vector<std::string> absent_contrast_warnings(const ModalitySet& present);

/// How to load a case for the model. Absent contrasts are allowed: check_contrasts decides about them.
CaseOptions case_options(const ModelInput& input, bool resample, int threads);

/// How to preprocess a case for the model.
PreprocessOptions preprocess_options(const ModelInput& input, const ModalitySet& present, int threads);

} // namespace mfres
