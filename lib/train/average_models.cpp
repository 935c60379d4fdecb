// SPDX-License-Identifier: MIT
// The mean of the weights of several models: checkpoint averaging, and "model soups" (Wortsman et al. 2022) of runs that
// started from the same weights.
#include "core/guard.h"
#include "core/json_value.h"
#include "core/try.h"
#include "model/find_model.h"
#include "model/sha256.h"
#include "train/export.h"
#include "train/weight_dtype.h"

#include <mfres/trainer.h>

#include <algorithm>
#include <map>

namespace mfres {

namespace {

namespace fs = std::filesystem;

/// A checkpoint as the model that would be exported from it, any other file as a model file.
Result<Model> load_source(const fs::path& path) {
    if (path.extension() != ".ckpt")
        return load_named_model(path);
    MFRES_TRY(const Checkpoint checkpoint, read_checkpoint(path));
    MFRES_TRY(Model model, model_of(checkpoint));
    model.metadata.recipe_json =
        Json{{"recipe", to_json(checkpoint.recipe)}, {"steps_trained", checkpoint.step}}.dump();
    model.metadata.weights_sha256 = weights_sha256(model.weights);
    return model;
}

Status check_alike(const Model& first, const fs::path& first_path, const Model& other, const fs::path& path) {
    const auto differs = [&](const std::string& what, const std::string& here, const std::string& there) {
        return Error{ErrorCode::invalid_argument,
                     text(path.string(), " cannot be averaged with ", first_path.string(), ": its ", what, " is ",
                          there, ", not ", here),
                     path.string()};
    };
    if (first.variant.json() != other.variant.json())
        return differs("network", first.variant.json(), other.variant.json());
    if (first.metadata.modalities != other.metadata.modalities)
        return differs("list of modalities", Json(first.metadata.modalities).dump(),
                       Json(other.metadata.modalities).dump());
    if (first.metadata.normalisation != other.metadata.normalisation)
        return differs("normalisation", std::string(to_string(first.metadata.normalisation)),
                       std::string(to_string(other.metadata.normalisation)));
    if (first.metadata.label_scheme != other.metadata.label_scheme)
        return differs("label scheme", first.metadata.label_scheme, other.metadata.label_scheme);
    return {};
}

/// Sums in double precision, so that the order of the models changes no more than the last bit of a mean.
class Sum {
  public:
    void add(const Weights& weights) {
        for (const auto& [name, tensor] : weights) {
            std::vector<double>& sum = sums_[name];
            sum.resize(static_cast<std::size_t>(tensor.elements()));
            for (std::size_t i = 0; i < sum.size(); ++i)
                sum[i] += double{tensor[static_cast<std::int64_t>(i)]};
        }
        count_ += 1.0;
    }
    /// Writes the means into tensors of the same names and shapes.
    void mean(Weights& weights) const {
        for (auto& [name, tensor] : weights)
            std::transform(sums_.at(name).begin(), sums_.at(name).end(), tensor.data(),
                           [this](double sum) { return static_cast<float>(sum / count_); });
    }

  private:
    std::map<std::string, std::vector<double>> sums_;
    double count_ = 0.0;
};

Result<AveragedModel> mean_of(const std::vector<fs::path>& sources, const fs::path& model, bool overwrite,
                              WeightDtype dtype) {
    if (sources.size() < 2)
        return Error{ErrorCode::invalid_argument,
                     text("an average takes at least two models or checkpoints; there are ", sources.size()),
                     "sources"};
    MFRES_TRY(Model averaged, load_source(sources[0]));
    Sum sum;
    Json made_of = Json::array();
    for (const fs::path& source : sources) {
        MFRES_TRY(const Model one, load_source(source));
        MFRES_CHECK(check_alike(averaged, sources[0], one, source));
        sum.add(one.weights);
        made_of.push_back({{"weights_sha256", one.metadata.weights_sha256},
                           {"recipe", Json::parse(one.metadata.recipe_json, nullptr, false)}});
    }
    sum.mean(averaged.weights);
    averaged.metadata.quantization = {}; // ranges were measured on other weights
    averaged.metadata.recipe_json = Json{{"average_of", std::move(made_of)}}.dump();
    MFRES_CHECK(save_model(model, averaged, file_dtype(dtype), overwrite));
    return AveragedModel{averaged.variant.name(), sources.size()};
}

} // namespace

Result<AveragedModel> average_models(const std::vector<fs::path>& sources, const fs::path& model, bool overwrite,
                                     WeightDtype dtype) {
    return guarded(model, [&] { return mean_of(sources, model, overwrite, dtype); });
}

} // namespace mfres
