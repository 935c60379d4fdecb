// SPDX-License-Identifier: MIT
// Recipes: defaults, strict reading, canonical text, schedule.
#include "support/cases.h"
#include "support/catch.h"
#include "train/recipe.h"

#include <mfres/trainer.h>

#include <cmath>

namespace mfres {

namespace {

Recipe parsed(std::string_view json, const Recipe& base = {}) {
    auto recipe = parse_recipe(json, base);
    REQUIRE_OK(recipe);
    return std::move(recipe).value();
}

} // namespace

TEST_CASE("the default recipe is the paper's") {
    const Recipe recipe = parsed("{}");
    const nlohmann::json json = to_json(recipe);
    CHECK(json["network"]["network"] == "mf-res2net");
    CHECK(json["loss"] == "weighted-tversky");
    CHECK(json["learning_rate"] == 1e-3);
    CHECK(json["l2"] == 1e-5);
    CHECK(json["epochs"] == 500);
    CHECK_FALSE(json.contains("steps"));
    CHECK(json["batch"] == 8);
    CHECK(json["crop"] == nlohmann::json({128, 128, 128}));
    CHECK(json["rotation_degrees"] == 10.0);
    CHECK(json["tumour_probability"] == 0.0);
    CHECK(json["power"] == 0.9);
    CHECK(json["amsgrad"] == false);
}

TEST_CASE("every key of a recipe reads back as it was written") {
    // One value per key that is not its default.
    const nlohmann::json all = {{"network", {{"network", "mf-res2net"}, {"widths", {16, 32, 64, 128}}}},
                                {"loss", "gdl"},
                                {"tversky_alpha", 0.25},
                                {"tversky_beta", 0.5},
                                {"tversky_gamma", 2.0},
                                {"absent", "literal"},
                                {"loss_background", false},
                                {"batch_dice", false},
                                {"overlap_weight", 0.5},
                                {"ce_weight", 0.25},
                                {"focal_gamma", 2.0},
                                {"topk_percent", 10.0},
                                {"deep_supervision", true},
                                {"teachers_sha256", std::string(64, 'b') + "," + std::string(64, '0')},
                                {"distill_weight", 0.25},
                                {"distill_temperature", 2.0},
                                {"distill_mirror", true},
                                {"learning_rate", 0.0123456789012345},
                                {"adam_beta1", 0.8},
                                {"adam_beta2", 0.99},
                                {"adam_epsilon", 1e-7},
                                {"l2", 0.0},
                                {"amsgrad", true},
                                {"clip_norm", 5.0},
                                {"power", 1.0},
                                {"warmup_steps", 100},
                                {"steps", 1234},
                                {"validate_every", 7},
                                {"ema", 0.99},
                                {"batch_norm_momentum", 0.2},
                                {"fixed_norm_steps", 34},
                                {"normalisation", "zscore-brain-clipped"},
                                {"init_seed", 18446744073709551615U},
                                {"init_sha256", std::string(32, 'a') + std::string(32, '9')},
                                {"seed", 9007199254740993U},
                                {"batch", 2},
                                {"crop", {64, 80, 96}},
                                {"tumour_probability", 0.7},
                                {"flips", false},
                                {"rotation_degrees", 15.0},
                                {"rotation_probability", 0.5},
                                {"intensity_scale", 0.1},
                                {"intensity_shift", 0.2},
                                {"gamma", 0.3},
                                {"noise", 0.05},
                                {"zoom", 0.125},
                                {"modality_dropout", 0.2},
                                {"gamma_inverted", 0.1},
                                {"histogram_shift", 0.3},
                                {"histogram_shift_probability", 0.15},
                                {"bias_field", 0.25},
                                {"bias_field_probability", 0.3},
                                {"blur", 1.0},
                                {"blur_probability", 0.25},
                                {"low_resolution", 2.0},
                                {"low_resolution_probability", 0.35},
                                {"anisotropy", 5.0},
                                {"anisotropy_probability", 0.4},
                                {"ringing", 0.45},
                                {"ringing_probability", 0.05},
                                {"ghost", 0.2},
                                {"ghost_probability", 0.07},
                                {"elastic", 4.0},
                                {"elastic_probability", 0.5},
                                {"tumour_mixing", 0.2},
                                {"precision", "bf16"},
                                {"allow_tf32", true},
                                {"deterministic", false}};
    const Recipe recipe = parsed(all.dump());
    const nlohmann::json written = to_json(recipe);
    for (const auto& [key, value] : all.items()) {
        INFO(key);
        if (key == "network")
            CHECK(written[key]["widths"] == value["widths"]);
        else
            CHECK(written[key] == value);
    }
    for (const RecipeField& field : recipe_fields()) {
        INFO(field.key);
        CHECK((field.key == "epochs" || all.contains(field.key)));
        CHECK_FALSE(field.allowed.empty());
        CHECK_FALSE(field.help.empty());
    }
    CHECK(written.size() == all.size());
    CHECK(to_json(parsed(written.dump())).dump() == written.dump());
    CHECK(recipe_differences(parsed(written.dump()), recipe).empty());
    CHECK(recipe.seed == 9007199254740993U);
    CHECK(recipe.sampling.crop == std::array<std::int64_t, 3>{64, 80, 96});
}

TEST_CASE("precision, TF32 and determinism of the compute options replace the keys of a recipe") {
    const std::string recipe = R"({"precision": "bf16", "steps": 7})";
    CHECK(recipe_with(recipe, {}) == recipe);
    const Recipe replaced =
        parsed(recipe_with(recipe, {.precision = Precision::f32, .tf32 = true, .deterministic = false}));
    CHECK(replaced.precision == "f32");
    CHECK(replaced.allow_tf32);
    CHECK_FALSE(replaced.deterministic);
    CHECK(replaced.steps == 7);
    for (const std::string broken : {"", "[1]", R"({"steps": 1, "steps": 2})"}) // for parse_recipe to reject
        CHECK(recipe_with(broken, {.tf32 = true}) == broken);
}

TEST_CASE("a recipe that violates the schema is rejected by key and value") {
    struct Case {
        const char* json;
        const char* key;
        const char* shown; ///< must stand in the message
    };
    const std::vector<Case> cases = {
        {R"({"learning_rat": 1})", "learning_rat", "unknown key"},
        {R"({"learning_rate": 0})", "learning_rate", "0"},
        {R"({"learning_rate": -0.001})", "learning_rate", "-0.001"},
        {R"({"learning_rate": "0.001"})", "learning_rate", "\"0.001\""},
        {R"({"learning_rate": 1e400})", "", "1e400"},
        {R"({"batch": 0})", "batch", "0"},
        {R"({"batch": 1.5})", "batch", "1.5"},
        {R"({"batch": 18446744073709551615})", "batch", "18446744073709551615"},
        {R"({"crop": [64, 64]})", "crop", "[64,64]"},
        {R"({"crop": 64})", "crop", "64"},
        {R"({"crop": [64, 64, 72]})", "crop", "multiple of 16"},
        {R"({"crop": [64, 64, -16]})", "crop", "-16"},
        {R"({"flips": 1})", "flips", "true or false"},
        {R"({"amsgrad": null})", "amsgrad", "null"},
        {R"({"loss": "dise"})", "loss", "dise"},
        {R"({"overlap_weight": 0})", "overlap_weight", "together with ce_weight"},
        {R"({"ce_weight": -1})", "ce_weight", "-1"},
        {R"({"loss": "focal", "ce_weight": 0})", "ce_weight", "leaves nothing of the loss focal"},
        {R"({"loss": "hinge"})", "loss", "focal-tversky"},
        {R"({"tversky_gamma": 0.5})", "tversky_gamma", "a number from 1 to 10"},
        {R"({"focal_gamma": 2})", "focal_gamma", "whose ce_weight is 0"},
        {R"({"topk_percent": 10})", "topk_percent", "whose ce_weight is 0"},
        {R"({"topk_percent": 0, "ce_weight": 1})", "topk_percent", "0"},
        {R"({"batch_dice": 1})", "batch_dice", "true or false"},
        {R"({"network": "3d-unet", "deep_supervision": true})", "deep_supervision", "mf-res2net"},
        {R"({"teachers_sha256": "abc"})", "teachers_sha256", "joined by commas"},
        {R"({"distill_weight": 1.5})", "distill_weight", "1.5"},
        {R"({"distill_temperature": 0})", "distill_temperature", "0"},
        {R"({"absent": "zero"})", "absent", "literal, skip"},
        {R"({"seed": -1})", "seed", "-1"},
        {R"({"steps": 0})", "steps", "0"},
        {R"({"steps": 10, "epochs": 10})", "steps", "epochs"},
        {R"({"ema": 1.0})", "ema", "1.0"},
        {R"({"modality_dropout": 1.5})", "modality_dropout", "1.5"},
        {R"({"blur": -1})", "blur", "a number from 0 to 10"},
        {R"({"low_resolution": 0})", "low_resolution", "a number from 1 to 10"},
        {R"({"tumour_mixing": 2})", "tumour_mixing", "a number from 0 to 1"},
        {R"({"elastic": 11})", "elastic", "a number from 0 to 10"},
        {R"({"network": "mf-res3net"})", "network", "mf-res3net"},
        {R"({"network": {"network": "mf-res2net", "classes": 3}})", "network", "3"},
        {R"({"network": {"network": "mf-res2net", "input_channels": 2}})", "network", "2"},
        {R"({"network": 7})", "network", "7"},
        {R"({"tversky_alpha": 0, "tversky_beta": 0})", "tversky_beta", "0"},
        {R"({"precision": "f16"})", "precision", "f16"},
        {R"({"fixed_norm_steps": -1})", "fixed_norm_steps", "-1"},
        {R"({"init_sha256": "abc"})", "init_sha256", "abc"},
        {R"({"init_sha256": 7})", "init_sha256", "64 lower-case hexadecimal digits"},
        {R"({"seed": 1, "seed": 2})", "/seed", "more than once"},
        {R"([1, 2])", "/", "recipe"},
        {R"({"seed": 1)", "line 1, column 11", "recipe is not JSON"},
        {"", "line 1, column 1", "recipe is not JSON"},
    };
    for (const Case& bad : cases) {
        INFO(bad.json);
        const auto recipe = parse_recipe(bad.json);
        REQUIRE_CODE(recipe, recipe_invalid);
        if (*bad.key != '\0')
            CHECK(recipe.error().where == bad.key);
        CHECK(recipe.error().message.find(bad.shown) != std::string::npos);
    }
}

TEST_CASE("keys that are not given keep the base's values, and a length replaces the other") {
    const Recipe base = parsed(R"({"steps": 100, "seed": 5})");
    CHECK(parsed("{}", base).steps == 100);
    const Recipe changed = parsed(R"({"epochs": 3})", base);
    CHECK(changed.steps == 0);
    CHECK(changed.epochs == 3);
    CHECK(changed.seed == 5);
    CHECK(recipe_differences(changed, base).empty()); // the length may change
    const auto differences = recipe_differences(parsed(R"({"seed": 6})", base), base);
    REQUIRE(differences.size() == 1);
    CHECK(differences[0] == "seed 6 instead of 5");
}

TEST_CASE("naming a loss brings its own weight of the cross-entropy") {
    CHECK(parsed("{}").ce_weight == 0.0);
    const Recipe dice_ce = parsed(R"({"loss": "dice-ce"})");
    CHECK(dice_ce.ce_weight == 1.0);
    CHECK(parsed(R"({"loss": "dice-ce", "ce_weight": 0.5})").ce_weight == 0.5);
    CHECK(parsed(R"({"ce_weight": 0.5})").ce_weight == 0.5);
    CHECK(parsed(R"({"loss": "dice-ce"})", parsed(R"({"loss": "dice-ce", "ce_weight": 0.5})")).ce_weight == 0.5);
    CHECK(parsed(R"({"loss": "dice"})", dice_ce).ce_weight == 0.0);
    const Recipe topk = parsed(R"({"loss": "topk"})");
    CHECK(topk.ce_weight == 1.0);
    CHECK(topk.topk_percent == 10.0);
    CHECK(parsed(R"({"loss": "dice"})", topk).topk_percent == 100.0);
    CHECK(parsed(R"({"loss": "focal"})", topk).topk_percent == 100.0);
    CHECK(parsed(R"({"loss": "focal"})").focal_gamma == 2.0);
    CHECK(parsed(R"({"loss": "focal", "focal_gamma": 1})").focal_gamma == 1.0);
    CHECK(parsed(R"({"loss": "dice-ce"})", parsed(R"({"loss": "focal", "focal_gamma": 1})")).focal_gamma == 1.0);
}

TEST_CASE("epochs count passes over the cases") {
    CHECK(total_steps(parsed(R"({"epochs": 500})"), 335) == 20938); // 335 * 500 / 8, rounded up
    CHECK(total_steps(parsed(R"({"epochs": 2, "batch": 4})"), 6) == 3);
    CHECK(total_steps(parsed(R"({"steps": 77})"), 6) == 77);
}

TEST_CASE("the rate decays as a polynomial after a linear warm-up") {
    const Recipe recipe = parsed(R"({"learning_rate": 0.01, "power": 0.9, "steps": 100})");
    CHECK(learning_rate(recipe, 0, 100) == 0.01);
    CHECK(learning_rate(recipe, 50, 100) == Approx(0.01 * std::pow(0.5, 0.9)));
    CHECK(learning_rate(recipe, 99, 100) == Approx(0.01 * std::pow(0.01, 0.9)));
    const Recipe constant = parsed(R"({"power": 0})");
    CHECK(learning_rate(constant, 99, 100) == 1e-3);
    const Recipe warm = parsed(R"({"power": 0, "warmup_steps": 4})");
    CHECK(learning_rate(warm, 0, 100) == Approx(0.25e-3));
    CHECK(learning_rate(warm, 3, 100) == 1e-3);
    CHECK(learning_rate(warm, 4, 100) == 1e-3);
    const OptimiserStep step = optimiser_step(parsed(R"({"clip_norm": 2, "amsgrad": true})"), 4, 10);
    CHECK(step.step == 5); // Adam counts from 1
    CHECK(step.clip_norm == 2.0);
    CHECK(step.amsgrad);
}

TEST_CASE("the last steps of a recipe normalise with the running statistics") {
    const auto running_from = [](std::int64_t fixed, std::int64_t total) {
        Recipe recipe;
        recipe.fixed_norm_steps = fixed;
        std::int64_t first = 0;
        while (first < total && norm_statistics(recipe, first, total) == NormStatistics::batch)
            ++first;
        for (std::int64_t step = first; step < total; ++step)
            CHECK(norm_statistics(recipe, step, total) == NormStatistics::running);
        return first;
    };
    CHECK(running_from(0, 20) == 20);
    CHECK(running_from(5, 20) == 15);
    CHECK(running_from(20, 20) == 0);
    CHECK(running_from(100, 20) == 0);
}

} // namespace mfres
