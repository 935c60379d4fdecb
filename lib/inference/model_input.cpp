// SPDX-License-Identifier: MIT
#include "inference/model_input.h"

#include "core/try.h"
#include "model/find_model.h"
#include "model/metadata.h"
#include "model/safetensors.h"

#include <algorithm>

namespace mfres {

namespace {

/// What each contrast is needed for.
std::string_view judged_by(Modality modality) {
    switch (modality) {
    case Modality::t1:
        return "whether what is bright in T1ce was so before the contrast agent (blood, for example) cannot be judged, "
               "and may be labelled as enhancing tumour";
    case Modality::t1ce:
        return "enhancing tumour cannot be judged, nor where the tumour core ends: only its whole extent is reliable";
    case Modality::t2: return "fluid (cysts, necrosis) is told from oedema less reliably";
    case Modality::flair:
        return "the extent of oedema cannot be judged reliably: it is not told from normal fluid, which is as bright "
               "in T2";
    }
    return "";
}

std::string listed(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names)
        list += (list.empty() ? "" : ",") + name;
    return list;
}

/// Says which of the weights that come with mfres take a case with these contrasts; empty if none do.
std::string models_for(const ModalitySet& present) {
    std::string named;
    for (const std::filesystem::path& file : shipped_models())
        if (const auto stored = read_safetensors(file)) { // the metadata alone are decoded
            const auto metadata = metadata_from_strings(stored->metadata);
            if (metadata &&
                std::count(metadata->modality_subsets.begin(), metadata->modality_subsets.end(), present) > 0)
                named += (named.empty() ? "" : ", ") + file.stem().string();
        }
    return named.empty() ? std::string() : text(", and of the models that come with mfres ", named, " for this set");
}

} // namespace

Result<ModelInput> model_input(const Model& model, const std::string& where) {
    const ModelMetadata& metadata = model.metadata;
    ModelInput input;
    ModalitySet known{};
    bool fits = metadata.modalities.size() == input.channels.size() && model.variant.input_channels() == 4;
    for (std::size_t channel = 0; fits && channel < input.channels.size(); ++channel) {
        const auto found = std::find_if(modalities.begin(), modalities.end(), [&](Modality modality) {
            return name(modality) == metadata.modalities[channel];
        });
        fits = found != modalities.end();
        if (fits) {
            input.channels[channel] = *found;
            known[static_cast<std::size_t>(*found)] = true;
        }
    }
    if (!fits || known != all_modalities)
        return Error{ErrorCode::model_metadata_invalid,
                     text(where, " takes ", model.variant.input_channels(), " channels, ", listed(metadata.modalities),
                          "; a case has ", names(all_modalities), ", each of which has to be one channel"),
                     where};
    input.normalisation = metadata.normalisation;
    input.subsets = metadata.modality_subsets;
    input.voxel_min_mm = metadata.voxel_min_mm;
    input.voxel_max_mm = metadata.voxel_max_mm;
    input.brain_min_ml = metadata.brain_min_ml;
    input.brain_max_ml = metadata.brain_max_ml;
    input.multiple = model.variant.multiple();
    return input;
}

bool trained_for(const ModelInput& input, const ModalitySet& present) {
    return present == all_modalities ||
           std::find(input.subsets.begin(), input.subsets.end(), present) != input.subsets.end();
}

Status check_contrasts(const ModelInput& input, const ModalitySet& present, bool any, std::string_view kind,
                       std::string_view id) {
    if (trained_for(input, present) || (any && present != ModalitySet{}))
        return {};
    ModalitySet absent{};
    for (std::size_t m = 0; m < absent.size(); ++m)
        absent[m] = !present[m];
    std::string sets = names(all_modalities);
    for (const ModalitySet& subset : input.subsets)
        sets += "; " + names(subset);
    const std::string where = text(kind, id);
    return Error{ErrorCode::modality_missing,
                 text(where, " lacks ", names(absent), "; the model was trained for ", sets, models_for(present)),
                 where};
}

std::vector<std::string> absent_contrast_warnings(const ModalitySet& present) {
    constexpr std::array<std::string_view, 4> words = {"T1", "T1ce", "T2", "FLAIR"};
    std::vector<std::string> warnings;
    for (const Modality modality : modalities)
        if (const auto m = static_cast<std::size_t>(modality); !present[m])
            warnings.push_back(text("without ", words[m], " ", judged_by(modality)));
    return warnings;
}

CaseOptions case_options(const ModelInput& input, bool resample, int threads) {
    CaseOptions options;
    options.resample = resample;
    options.min_voxel_mm = input.voxel_min_mm;
    options.max_voxel_mm = input.voxel_max_mm;
    options.min_brain_ml = input.brain_min_ml;
    options.max_brain_ml = input.brain_max_ml;
    options.threads = threads;
    options.allow_absent = true;
    return options;
}

PreprocessOptions preprocess_options(const ModelInput& input, const ModalitySet& present, int threads) {
    PreprocessOptions options;
    options.multiple = static_cast<int>(input.multiple);
    options.threads = threads;
    options.normalisation = input.normalisation;
    options.channels = input.channels;
    options.present = present;
    return options;
}

} // namespace mfres
