// SPDX-License-Identifier: MIT
#include "train/recipe.h"

#include "core/json.h"
#include "core/try.h"
#include "imaging/labels.h"
#include "networks/deep_supervision.h"
#include "networks/registry.h"
#include "networks/schema.h"
#include "train/loss.h"

#include <mfres/trainer.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace mfres {

namespace {

using Size = std::array<std::int64_t, 3>;

/// The member of a Recipe that holds a value; its type determines the JSON type.
using Place = std::variant<std::int64_t*, std::uint64_t*, double*, bool*, std::string*, Size*>;

/// One key of the JSON object.
struct Field {
    std::string key;
    std::string help;
    Place (*place)(Recipe&);
    double least = 0.0;
    double most = 0.0;
    std::vector<std::string> choices{}; ///< of a string; empty for the network
};

// The table's lambdas differ in one member name only.
#define MFRES_FIELD(member) [](Recipe& recipe) -> Place { return &recipe.member; }

std::vector<std::string> names_of_losses() {
    std::vector<std::string> names;
    for (const LossDefinition& definition : loss_definitions())
        names.emplace_back(definition.name);
    return names;
}

std::string joined(const std::vector<std::string>& words) {
    std::string all;
    for (const std::string& word : words)
        all += (all.empty() ? "" : ", ") + word;
    return all;
}

const std::vector<Field>& fields() {
    constexpr double many = 1e9;
    static const std::vector<Field> all{
        {"network", "a registered network's name, or a variant as JSON", MFRES_FIELD(network)},
        {"loss", text("what is minimised: ", joined(names_of_losses())), MFRES_FIELD(loss), 0, 0, names_of_losses()},
        {"tversky_alpha", "weight of false positives", MFRES_FIELD(tversky_alpha), 0, 1},
        {"tversky_beta", "weight of false negatives", MFRES_FIELD(tversky_beta), 0, 1},
        {"tversky_gamma", "of focal-tversky, whose exponent is 1 / tversky_gamma", MFRES_FIELD(tversky_gamma), 1, 10},
        {"absent",
         "classes a batch does not hold: weighted as the formula says, or left out",
         MFRES_FIELD(absent),
         0,
         0,
         {"literal", "skip"}},
        {"loss_background", "whether the background is one of the classes of the overlap part of the loss",
         MFRES_FIELD(loss_background)},
        {"batch_dice", "sums over the batch before the quotient; false: the loss of each sample, then their mean",
         MFRES_FIELD(batch_dice)},
        {"overlap_weight", "weight of the overlap part of the loss, 0 = cross-entropy alone",
         MFRES_FIELD(overlap_weight), 0, 1000},
        {"ce_weight", "weight of the cross-entropy that is added; naming a loss sets it to that loss's, 0 for most",
         MFRES_FIELD(ce_weight), 0, 1000},
        {"focal_gamma", "cross-entropies are multiplied by (1 - p)^focal_gamma, 0 = they are not",
         MFRES_FIELD(focal_gamma), 0, 10},
        {"topk_percent", "the cross-entropy is the mean over that share of the batch's voxels, the hardest; 100 = all",
         MFRES_FIELD(topk_percent), 0.0001, 100},
        {"deep_supervision",
         "take the loss on outputs at 1/2 and 1/4 of the resolution, too, weighted 4/7, 2/7 and 1/7; they are not exported",
         MFRES_FIELD(deep_supervision)},
        {"teachers_sha256", "of the weights of the teachers, which --teacher names; \"\" = none",
         MFRES_FIELD(teachers_sha256)},
        {"distill_weight", "with teachers: the share of the cross-entropy that is against their probabilities",
         MFRES_FIELD(distill_weight), 1e-6, 1},
        {"distill_temperature", "logits of both sides are divided by it there, and the term multiplied by its square",
         MFRES_FIELD(distill_temperature), 0.1, 100},
        {"distill_mirror",
         "teachers label a mirror image of the crop, one of eight that every step draws, so that on average they label all",
         MFRES_FIELD(distill_mirror)},
        {"learning_rate", "of Adam, at the start", MFRES_FIELD(learning_rate), 1e-12, 10},
        {"adam_beta1", "decay of the first moment", MFRES_FIELD(adam_beta1), 0, 0.999999},
        {"adam_beta2", "decay of the second moment", MFRES_FIELD(adam_beta2), 0, 0.99999999},
        {"adam_epsilon", "keeps Adam's quotient finite", MFRES_FIELD(adam_epsilon), 1e-16, 1},
        {"l2", "times the weights is added to the gradient", MFRES_FIELD(l2), 0, 1},
        {"amsgrad", "divide by the largest second moment so far", MFRES_FIELD(amsgrad)},
        {"clip_norm", "scale gradients down to this norm, 0 = never", MFRES_FIELD(clip_norm), 0, 1e6},
        {"power", "of the polynomial decay, 0 = constant rate", MFRES_FIELD(power), 0, 10},
        {"warmup_steps", "the rate rises linearly over so many steps", MFRES_FIELD(warmup_steps), 0, many},
        {"steps", "length of the training in steps, instead of epochs", MFRES_FIELD(steps), 1, many},
        {"epochs", "length of the training in passes over the cases", MFRES_FIELD(epochs), 1, 1e6},
        {"validate_every", "steps between validations, 0 = after the last only", MFRES_FIELD(validate_every), 0, many},
        {"ema", "decay of the moving average of weights that is evaluated and exported, 0 = none", MFRES_FIELD(ema), 0,
         0.999999},
        {"batch_norm_momentum", "share of a batch in the running statistics", MFRES_FIELD(batch_norm_momentum), 1e-6,
         1},
        {"fixed_norm_steps", "the last so many steps normalise with the running statistics, as inference does",
         MFRES_FIELD(fixed_norm_steps), 0, many},
        {"normalisation",
         "of intensities, as the model will expect it; caches made of folders get it",
         MFRES_FIELD(normalisation),
         0,
         0,
         {"zscore-brain", "zscore-brain-clipped"}},
        {"init_seed", "of the initial weights", MFRES_FIELD(init_seed)},
        {"init_sha256", "of the weights to start from, which --init names; \"\" = new ones", MFRES_FIELD(init_sha256)},
        {"seed", "of batches and augmentation", MFRES_FIELD(seed)},
        {"batch", "samples per step", MFRES_FIELD(sampling.batch), 1, 1024},
        {"crop", "voxels of a sample along x, y, z", MFRES_FIELD(sampling.crop), 1, 1024},
        {"tumour_probability", "how often a crop is centred on tumour", MFRES_FIELD(sampling.tumour_probability), 0, 1},
        {"flips", "mirror along each axis with probability 1/2", MFRES_FIELD(sampling.flips)},
        {"rotation_degrees", "largest angle, about a random axis", MFRES_FIELD(sampling.rotation_degrees), 0, 180},
        {"rotation_probability", "how often a sample is rotated", MFRES_FIELD(sampling.rotation_probability), 0, 1},
        {"intensity_scale", "largest relative change of contrast", MFRES_FIELD(sampling.intensity_scale), 0, 0.9},
        {"intensity_shift", "largest shift, in standard deviations", MFRES_FIELD(sampling.intensity_shift), 0, 10},
        {"gamma", "largest change of the gamma exponent", MFRES_FIELD(sampling.gamma), 0, 0.9},
        {"noise", "standard deviation of added noise", MFRES_FIELD(sampling.noise), 0, 10},
        {"zoom", "largest relative change of size", MFRES_FIELD(sampling.zoom), 0, 0.5},
        {"modality_dropout", "how often a contrast is all 0, as a missing sequence; never T1ce and FLAIR both",
         MFRES_FIELD(sampling.modality_dropout), 0, 1},
        // clang-format off
        {"gamma_inverted", "how often gamma is applied to the negated intensities", MFRES_FIELD(sampling.gamma_inverted), 0, 1},
        {"histogram_shift", "largest shift of grey values, as a share of a tenth of their range", MFRES_FIELD(sampling.histogram_shift), 0, 0.49},
        {"histogram_shift_probability", "how often, per contrast", MFRES_FIELD(sampling.histogram_shift_probability), 0, 1},
        {"bias_field", "largest relative change of gain by a smooth field", MFRES_FIELD(sampling.bias_field), 0, 0.9},
        {"bias_field_probability", "how often, per contrast", MFRES_FIELD(sampling.bias_field_probability), 0, 1},
        {"blur", "largest sigma of a Gaussian blur, in voxels", MFRES_FIELD(sampling.blur), 0, 10},
        {"blur_probability", "how often, per contrast", MFRES_FIELD(sampling.blur_probability), 0, 1},
        {"low_resolution", "largest factor by which voxels are enlarged along all axes, 1 = never", MFRES_FIELD(sampling.low_resolution), 1, 10},
        {"low_resolution_probability", "how often, per contrast", MFRES_FIELD(sampling.low_resolution_probability), 0, 1},
        {"anisotropy", "largest factor by which slices are thickened along a random axis, 1 = never", MFRES_FIELD(sampling.anisotropy), 1, 10},
        {"anisotropy_probability", "how often, per contrast", MFRES_FIELD(sampling.anisotropy_probability), 0, 1},
        {"ringing", "largest share of frequencies cut off along a random axis (Gibbs ringing)", MFRES_FIELD(sampling.ringing), 0, 0.9},
        {"ringing_probability", "how often, per contrast", MFRES_FIELD(sampling.ringing_probability), 0, 1},
        {"ghost", "largest strength of shifted copies along a random axis (motion)", MFRES_FIELD(sampling.ghost), 0, 1},
        {"ghost_probability", "how often, per contrast", MFRES_FIELD(sampling.ghost_probability), 0, 1},
        {"elastic", "largest displacement of an elastic deformation, in voxels", MFRES_FIELD(sampling.elastic), 0, 10},
        {"elastic_probability", "how often a sample is deformed", MFRES_FIELD(sampling.elastic_probability), 0, 1},
        {"tumour_mixing", "how often a tumour of another case is placed into a sample", MFRES_FIELD(sampling.tumour_mixing), 0, 1},
        // clang-format on
        {"precision",
         "of activations and convolutions in training steps",
         MFRES_FIELD(precision),
         0,
         0,
         {"f32", "bf16", "fp16"}},
        {"allow_tf32", "f32 products may be taken in TF32 (10-bit mantissas)", MFRES_FIELD(allow_tf32)},
        {"deterministic", "equal bits in every run, even where that is slower", MFRES_FIELD(deterministic)},
    };
    return all;
}

#undef MFRES_FIELD

const Field* find_field(std::string_view key) {
    for (const Field& field : fields())
        if (field.key == key)
            return &field;
    return nullptr;
}

std::string shown(const Json& value) {
    std::string dumped = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    return dumped.size() > 80 ? dumped.substr(0, 77) + "..." : dumped;
}

Error invalid(const std::string& key, const Json& value, const std::string& problem) {
    return {ErrorCode::recipe_invalid, text("recipe key ", key, ": ", shown(value), " ", problem), key};
}

std::string allowed(const Field& field, const Place& place) {
    const std::string range = text(field.least, " to ", field.most);
    if (std::holds_alternative<std::int64_t*>(place))
        return text("an integer from ", static_cast<std::int64_t>(field.least), " to ",
                    static_cast<std::int64_t>(field.most));
    if (std::holds_alternative<std::uint64_t*>(place))
        return "an integer from 0 to 2^64 - 1";
    if (std::holds_alternative<double*>(place))
        return "a number from " + range;
    if (std::holds_alternative<bool*>(place))
        return "true or false";
    if (std::holds_alternative<Size*>(place))
        return text("a list of 3 integers from ", field.least, " to ", field.most);
    if (field.key == "init_sha256")
        return "empty or 64 lower-case hexadecimal digits";
    if (field.key == "teachers_sha256")
        return "empty, or as many times 64 lower-case hexadecimal digits as there are teachers, joined by commas";
    if (field.choices.empty())
        return "the name of a network or a variant";
    return "one of " + joined(field.choices);
}

bool integer_within(const Json& value, const Field& field) {
    if (!value.is_number_integer())
        return false;
    const auto number = value.get<double>(); // limits are far below 2^53, so rounding cannot carry a value across
    return number >= field.least && number <= field.most;
}

bool is_sha256(std::string_view given) {
    return given.size() == 64 && given.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Of a string without choices: empty, one SHA-256, or several joined by commas where that is allowed.
bool is_list_of_hashes(std::string_view given, bool several) {
    if (given.empty() || is_sha256(given))
        return true;
    return several && given.size() > 65 && given[64] == ',' && is_sha256(given.substr(0, 64)) &&
           is_list_of_hashes(given.substr(65), true);
}

/// Whether `value` has the type of `place` and lies within the field's range; then it is stored.
bool store(const Json& value, const Field& field, const Place& place) {
    if (auto* const* target = std::get_if<std::int64_t*>(&place)) {
        if (!integer_within(value, field))
            return false;
        **target = value.get<std::int64_t>();
    } else if (auto* const* seed = std::get_if<std::uint64_t*>(&place)) {
        if (!value.is_number_unsigned())
            return false;
        **seed = value.get<std::uint64_t>();
    } else if (auto* const* number = std::get_if<double*>(&place)) {
        if (!value.is_number() || !(value.get<double>() >= field.least && value.get<double>() <= field.most))
            return false;
        **number = value.get<double>();
    } else if (auto* const* flag = std::get_if<bool*>(&place)) {
        if (!value.is_boolean())
            return false;
        **flag = value.get<bool>();
    } else if (auto* const* size = std::get_if<Size*>(&place)) {
        if (!value.is_array() || value.size() != 3 ||
            !std::all_of(value.begin(), value.end(), [&](const Json& edge) { return integer_within(edge, field); }))
            return false;
        **size = value.get<Size>();
    } else if (auto* const* word = std::get_if<std::string*>(&place)) {
        if (!value.is_string())
            return false;
        const auto chosen = value.get<std::string>();
        if (!(field.choices.empty()
                  ? is_list_of_hashes(chosen, field.key == "teachers_sha256")
                  : std::find(field.choices.begin(), field.choices.end(), chosen) != field.choices.end()))
            return false;
        **word = chosen;
    }
    return true;
}

/// The network is the name of a variant or an object.
Status store_network(const Json& value, Recipe& recipe) {
    if (!value.is_string() && !value.is_object())
        return invalid("network", value, "is not the name of a network or a variant");
    const auto variant = parse_variant(value.is_string() ? value.get<std::string>() : value.dump());
    if (!variant)
        return invalid("network", value, "is rejected: " + variant.error().message);
    recipe.network = variant->json();
    return {};
}

/// Rules that involve several keys.
Status check_together(const Recipe& recipe) {
    MFRES_TRY(const Variant variant, parse_variant(recipe.network));
    if (variant.input_channels() != 4 || variant.label_classes() != tumour_classes)
        return invalid("network", variant.name(),
                       text("takes ", variant.input_channels(), " channels and tells ", variant.classes(),
                            " classes apart; training needs 4 and ", tumour_classes));
    for (const std::int64_t edge : recipe.sampling.crop)
        if (edge % variant.multiple() != 0)
            return invalid("crop", recipe.sampling.crop,
                           text("has an edge that is not a multiple of ", variant.multiple(), ", as ", variant.name(),
                                " needs it"));
    if (recipe.tversky_alpha + recipe.tversky_beta <= 0)
        return invalid("tversky_beta", recipe.tversky_beta, "must not be 0 together with tversky_alpha");
    MFRES_TRY(const LossDefinition* const loss, find_loss(recipe.loss));
    if (loss->overlap == nullptr && recipe.ce_weight <= 0)
        return invalid("ce_weight", recipe.ce_weight, "leaves nothing of the loss " + recipe.loss);
    if (recipe.overlap_weight + recipe.ce_weight <= 0)
        return invalid("overlap_weight", recipe.overlap_weight, "must not be 0 together with ce_weight");
    if (recipe.ce_weight <= 0 && recipe.focal_gamma > 0)
        return invalid("focal_gamma", recipe.focal_gamma, "changes the cross-entropy, whose ce_weight is 0");
    if (recipe.ce_weight <= 0 && !recipe.teachers_sha256.empty())
        return invalid("ce_weight", recipe.ce_weight,
                       "leaves nothing to teachers, which use a share of the cross-entropy");
    if (recipe.deep_supervision)
        if (const Status able = check_deep_supervision(variant); !able)
            return invalid("deep_supervision", recipe.deep_supervision, "is not possible: " + able.error().message);
    if (recipe.ce_weight <= 0 && recipe.topk_percent < 100)
        return invalid("topk_percent", recipe.topk_percent, "changes the cross-entropy, whose ce_weight is 0");
    return {};
}

/// The keys of the cross-entropy that `object` does not name become those of the loss that it names. focal_gamma and
/// topk_percent that were chosen for the loss before stay.
Status take_pointwise_part(const Json& object, const Recipe& base, Recipe& recipe) {
    MFRES_TRY(const LossDefinition* const before, find_loss(base.loss));
    MFRES_TRY(const LossDefinition* const after, find_loss(recipe.loss));
    const PointwiseLoss& part = after->pointwise;
    if (!object.contains("ce_weight"))
        recipe.ce_weight = part.weight;
    if (!object.contains("focal_gamma") && base.focal_gamma == before->pointwise.focal_gamma)
        recipe.focal_gamma = part.focal_gamma;
    if (!object.contains("topk_percent") && base.topk_percent == 100.0 * before->pointwise.top_share)
        recipe.topk_percent = 100.0 * part.top_share;
    return {};
}

Json value_of(const Field& field, const Recipe& recipe) {
    if (field.key == "network") {
        auto variant = parse_json(recipe.network, "variant");
        return variant ? std::move(variant).value() : Json(recipe.network);
    }
    Recipe copy = recipe; // a field's place is that of a recipe to be written
    return std::visit([](const auto* value) { return Json(*value); }, field.place(copy));
}

} // namespace

Result<Recipe> parse_recipe(std::string_view text_value, const Recipe& base) {
    const auto object = parse_strict(text_value, "recipe");
    if (!object)
        return Error{ErrorCode::recipe_invalid, object.error().message, object.error().where};
    Recipe recipe = base;
    MFRES_CHECK(store_network(object->value("network", value_of(*find_field("network"), base)), recipe));
    for (const auto& entry : object->items()) {
        const Field* field = find_field(entry.key());
        if (field == nullptr) {
            std::string known;
            for (const Field& candidate : fields())
                known += (known.empty() ? "" : ", ") + candidate.key;
            return invalid(entry.key(), entry.value(), "has an unknown key; known are " + known);
        }
        if (field->key != "network" && !store(entry.value(), *field, field->place(recipe)))
            return invalid(field->key, entry.value(), "is not " + allowed(*field, field->place(recipe)));
    }
    if (recipe.loss != base.loss)
        MFRES_CHECK(take_pointwise_part(*object, base, recipe));
    if (object->contains("steps") && object->contains("epochs"))
        return invalid("steps", object->at("steps"), "is given together with epochs; give the length in one of them");
    if (object->contains("steps"))
        recipe.epochs = 0;
    if (object->contains("epochs"))
        recipe.steps = 0;
    MFRES_CHECK(check_together(recipe));
    return recipe;
}

std::string recipe_with(const std::string& recipe, const ComputeOptions& compute) {
    Json changes = Json::object();
    if (compute.precision)
        changes["precision"] = to_string(*compute.precision);
    if (compute.tf32)
        changes["allow_tf32"] = true;
    if (!compute.deterministic)
        changes["deterministic"] = false;
    auto object = parse_strict(recipe, "recipe");
    if (changes.empty() || !object || !object->is_object())
        return recipe;
    object->update(changes);
    return object->dump();
}

Json to_json(const Recipe& recipe) {
    Json object = Json::object();
    for (const Field& field : fields())
        object[field.key] = value_of(field, recipe);
    object.erase(recipe.steps > 0 ? "epochs" : "steps");
    return object;
}

std::vector<std::string> recipe_differences(const Recipe& wanted, const Recipe& recorded) {
    std::vector<std::string> differences;
    for (const Field& field : fields()) {
        if (field.key == "steps" || field.key == "epochs" || field.key == "validate_every")
            continue;
        const Json here = value_of(field, wanted);
        const Json there = value_of(field, recorded);
        if (here != there)
            differences.push_back(text(field.key, " ", shown(here), " instead of ", shown(there)));
    }
    return differences;
}

std::int64_t total_steps(const Recipe& recipe, std::size_t cases) {
    if (recipe.steps > 0)
        return recipe.steps;
    return (recipe.epochs * static_cast<std::int64_t>(cases) + recipe.sampling.batch - 1) / recipe.sampling.batch;
}

double learning_rate(const Recipe& recipe, std::int64_t step, std::int64_t total) {
    const double left = 1.0 - static_cast<double>(step) / static_cast<double>(total);
    const double decayed = recipe.learning_rate * std::pow(std::max(left, 0.0), recipe.power);
    if (step >= recipe.warmup_steps)
        return decayed;
    return decayed * static_cast<double>(step + 1) / static_cast<double>(recipe.warmup_steps);
}

NormStatistics norm_statistics(const Recipe& recipe, std::int64_t step, std::int64_t total) {
    return step >= total - recipe.fixed_norm_steps ? NormStatistics::running : NormStatistics::batch;
}

OptimiserStep optimiser_step(const Recipe& recipe, std::int64_t step, std::int64_t total) {
    return {.step = step + 1,
            .learning_rate = learning_rate(recipe, step, total),
            .beta1 = recipe.adam_beta1,
            .beta2 = recipe.adam_beta2,
            .epsilon = recipe.adam_epsilon,
            .l2 = recipe.l2,
            .amsgrad = recipe.amsgrad,
            .clip_norm = recipe.clip_norm};
}

Result<Loss> loss_of(const Recipe& recipe, std::size_t outputs) {
    LossOptions options{.loss = recipe.loss,
                        .alpha = recipe.tversky_alpha,
                        .beta = recipe.tversky_beta,
                        .tversky_gamma = recipe.tversky_gamma,
                        .background = recipe.loss_background,
                        .batch = recipe.batch_dice,
                        .overlap_weight = recipe.overlap_weight,
                        .ce_weight = recipe.ce_weight,
                        .focal_gamma = recipe.focal_gamma,
                        .top_share = recipe.topk_percent / 100.0};
    MFRES_TRY(const Variant variant, parse_variant(recipe.network));
    options.outputs = variant.outputs();
    MFRES_TRY(options.absent, parse_absent(recipe.absent));
    MFRES_TRY(Loss loss, make_loss(options));
    if (!recipe.teachers_sha256.empty()) {
        loss.distillation = {recipe.distill_weight * loss.pointwise.weight, recipe.distill_temperature};
        loss.pointwise.weight *= 1.0 - recipe.distill_weight;
    }
    if (outputs > 1)
        loss.output_weights = output_weights(outputs);
    return loss;
}

std::vector<RecipeField> recipe_fields() {
    std::vector<RecipeField> all;
    Recipe standard;
    for (const Field& field : fields())
        all.push_back({field.key, allowed(field, field.place(standard)), value_of(field, standard).dump(), field.help});
    return all;
}

} // namespace mfres
