// SPDX-License-Identifier: MIT
// Training runs with everything that a recipe can add to the paper's: more parts of the loss, deep supervision,
// teachers; and the average of what they leave.
#include "graph/complexity.h"
#include "model/model.h"
#include "networks/deep_supervision.h"
#include "support/program.h"
#include "support/training.h"
#include "support/training_runs.h"
#include "train/teachers.h"

#include <mfres/trainer.h>

#include <cmath>

namespace mfres {

namespace {

using test::check_equal_bits;
using test::check_rejected;
using test::check_same_training;
using test::checkpoint_of;
using test::noting;
using test::small_model;
using test::TemporaryFolder;
using test::tiny_recipe;
using test::tiny_run;
using test::train;

std::filesystem::path saved(const TemporaryFolder& folder, const std::string& name, const Model& model) {
    REQUIRE_OK(save_model(folder / name, model));
    return folder / name;
}

std::string first_training_backend() {
    return std::string(test::training_backends()[0]->name());
}

/// The parameters that only a checkpoint has.
std::vector<std::string> heads_of(const Weights& weights) {
    std::vector<std::string> heads;
    for (const auto& [name, tensor] : weights)
        if (is_head_parameter(name))
            heads.push_back(name);
    return heads;
}

} // namespace

TEST_CASE("train 20 is train 10 and resume 10 with every part of the loss, deep supervision and teachers") {
    const TemporaryFolder folder;
    const auto first_teacher = saved(folder, "one.safetensors", small_model(11));
    const auto second_teacher = saved(folder, "two.safetensors", small_model(12));
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const std::string name(backend->name());
        const std::string recipe = tiny_recipe({{"loss", "dice-ce"},
                                                {"loss_background", false},
                                                {"batch_dice", false},
                                                {"overlap_weight", 0.7},
                                                {"ce_weight", 1.5},
                                                {"focal_gamma", 1.5},
                                                {"topk_percent", 20.0},
                                                {"deep_supervision", true},
                                                {"distill_weight", 0.4},
                                                {"distill_temperature", 2.0},
                                                {"distill_mirror", true},
                                                {"ema", 0.9},
                                                {"amsgrad", true},
                                                {"fixed_norm_steps", 4},
                                                {"warmup_steps", 5},
                                                {"clip_norm", 1.0}});
        TrainerOptions whole = tiny_run(folder / (name + "-whole"), name, recipe);
        TrainerOptions parts = tiny_run(folder / (name + "-parts"), name, recipe);
        whole.teachers = parts.teachers = {first_teacher, second_teacher};
        if (name != "reference") // whole boxes take the reference backend too long
            whole.validation = parts.validation = test::validation_cases().path();
        std::vector<double> losses;
        std::vector<double> again;
        const TrainReport once = train(whole, noting(losses));
        CHECK(train(parts, noting(again, 10)).step == 10);
        parts.resume = true;
        parts.recipe = "{}";
        const TrainReport second = train(parts, noting(again));
        CHECK(second.warnings.empty());
        REQUIRE(losses.size() == 20);
        CHECK(losses == again);
        const Checkpoint last = checkpoint_of(folder / (name + "-whole") / "last.ckpt");
        check_same_training(last, checkpoint_of(folder / (name + "-parts") / "last.ckpt"));

        // Heads are in the checkpoint, learn, and are not exported.
        const std::vector<std::string> heads{"deep1.conv.weight", "deep2.conv.weight"};
        CHECK(heads_of(last.state.weights) == heads);
        CHECK(heads_of(last.state.first_moment) == heads);
        CHECK(heads_of(last.average) == heads);
        for (const std::string& head : heads)
            CHECK(std::any_of(last.state.first_moment.at(head).values().begin(),
                              last.state.first_moment.at(head).values().end(), [](float m) { return m != 0.0F; }));
        const auto a = load_model(once.model);
        const auto b = load_model(second.model);
        REQUIRE_OK(a);
        REQUIRE_OK(b);
        CHECK(a->metadata.weights_sha256 == b->metadata.weights_sha256);
        CHECK(heads_of(a->weights).empty());
        CHECK(a->weights.size() + heads.size() == last.state.weights.size());
    }
}

TEST_CASE("a network of regions is trained, resumed, taught by one of classes and exported") {
    const TemporaryFolder folder;
    auto network = nlohmann::json::parse(test::small_network);
    network["outputs"] = "regions";
    const auto teacher = saved(folder, "classes.safetensors", small_model(11));
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const std::string name(backend->name());
        const std::string recipe = tiny_recipe({{"network", network},
                                                {"loss", "dice-ce"},
                                                {"topk_percent", 20.0},
                                                {"deep_supervision", true},
                                                {"distill_temperature", 2.0}});
        TrainerOptions whole = tiny_run(folder / (name + "-whole"), name, recipe);
        TrainerOptions parts = tiny_run(folder / (name + "-parts"), name, recipe);
        whole.teachers = parts.teachers = {teacher};
        if (name != "reference")
            whole.validation = parts.validation = test::validation_cases().path();
        std::vector<double> losses;
        std::vector<double> again;
        const TrainReport once = train(whole, noting(losses));
        train(parts, noting(again, 10));
        parts.resume = true;
        parts.recipe = "{}";
        train(parts, noting(again));
        CHECK(losses == again);
        check_same_training(checkpoint_of(folder / (name + "-whole") / "last.ckpt"),
                            checkpoint_of(folder / (name + "-parts") / "last.ckpt"));
        const auto model = load_model(once.model);
        REQUIRE_OK(model);
        CHECK(model->variant.outputs() == Outputs::regions);
    }
    // Classes follow no regions, which need not be nested.
    const auto of_regions = saved(folder, "regions.safetensors", small_model(12, network.dump()));
    TrainerOptions wrong =
        tiny_run(folder / "wrong", first_training_backend(), tiny_recipe({{"steps", 2}, {"loss", "dice-ce"}}));
    wrong.teachers = {of_regions};
    check_rejected(wrong, ErrorCode::invalid_argument, {"tells regions"});
}

TEST_CASE("regions follow a teacher of classes by their sums, and one of regions by its sigmoids") {
    const TemporaryFolder folder;
    auto network = nlohmann::json::parse(test::small_network);
    network["outputs"] = "regions";
    const Backend& reference = **find_backend("reference");
    const Tensor images = test::random_tensor(Shape{1, 4, 16, 16, 16}, 3);
    const auto answers = [&](const std::filesystem::path& teacher, Outputs outputs, double temperature) {
        const auto teachers = Teachers::open({teacher}, reference, {.crop = {16, 16, 16}, .outputs = outputs});
        REQUIRE_OK(teachers);
        Tensor targets(Shape{1, outputs == Outputs::regions ? 3 : 4, 16, 16, 16});
        REQUIRE_OK(teachers->predict(view(images), temperature, view(targets)));
        return targets;
    };
    const auto classes = saved(folder, "classes.safetensors", small_model(11));
    const Tensor four = answers(classes, Outputs::classes, 1.0);
    const Tensor three = answers(classes, Outputs::regions, 1.0);
    const std::int64_t voxels = 16 * 16 * 16;
    for (std::int64_t v = 0; v < voxels; v += 97) {
        const auto p = [&](std::int64_t c) { return double{four[c * voxels + v]}; };
        CHECK(three[v] == Approx(p(1) + p(2) + p(3)).epsilon(1e-5));
        CHECK(three[voxels + v] == Approx(p(1) + p(3)).epsilon(1e-5));
        CHECK(three[2 * voxels + v] == Approx(p(3)).epsilon(1e-5));
    }
    const auto regions = saved(folder, "regions.safetensors", small_model(12, network.dump()));
    const Tensor plain = answers(regions, Outputs::regions, 1.0);
    const Tensor soft = answers(regions, Outputs::regions, 2.0);
    for (std::int64_t i = 0; i < plain.elements(); i += 97) {
        const double logit = std::log(double{plain[i]} / (1.0 - double{plain[i]}));
        CHECK(soft[i] == Approx(1.0 / (1.0 + std::exp(-logit / 2.0))).epsilon(1e-4));
    }
}

TEST_CASE("a run has the teachers that its recipe records, and no others") {
    const TemporaryFolder folder;
    const auto good = saved(folder, "good.safetensors", small_model(11));
    const auto other = saved(folder, "other.safetensors", small_model(12));
    TrainerOptions options =
        tiny_run(folder / "run", first_training_backend(), tiny_recipe({{"steps", 2}, {"loss", "dice-ce"}}));
    options.teachers = {good};
    train(options);
    const Recipe recorded = checkpoint_of(folder / "run" / "last.ckpt").recipe;
    CHECK(recorded.teachers_sha256 == small_model(11).metadata.weights_sha256);

    TrainerOptions resumed = options;
    resumed.resume = true;
    resumed.recipe = R"({"steps": 3})";
    for (const std::vector<std::filesystem::path>& wrong :
         std::vector<std::vector<std::filesystem::path>>{{}, {other}, {good, other}}) {
        resumed.teachers = wrong;
        check_rejected(resumed, ErrorCode::checkpoint_mismatch, {"teachers"});
    }
    resumed.teachers = {good};
    CHECK(train(resumed).step == 3);

    const auto rejected = [&](const nlohmann::json& recipe, const std::vector<std::filesystem::path>& teachers,
                              ErrorCode code, const std::string& words) {
        TrainerOptions wrong = tiny_run(folder / "new", first_training_backend(), tiny_recipe(recipe));
        wrong.teachers = teachers;
        check_rejected(wrong, code, {words});
        CHECK_FALSE(std::filesystem::exists(folder / "new"));
    };
    const std::string hash = recorded.teachers_sha256;
    rejected({{"loss", "dice-ce"}, {"teachers_sha256", hash}}, {}, ErrorCode::recipe_invalid, hash);
    rejected({{"loss", "dice-ce"}, {"teachers_sha256", hash}}, {other}, ErrorCode::recipe_invalid, hash);
    rejected({{"loss", "dice"}}, {good}, ErrorCode::recipe_invalid, "ce_weight");
    rejected({{"loss", "dice-ce"}}, {folder / "absent.safetensors"}, ErrorCode::file_not_found, "absent");
    const auto three =
        saved(folder, "three.safetensors",
              small_model(1, R"({"network": "mf-res2net", "widths": [8, 16], "decoder": [8, 4], "units": [2, 2],
                           "decoder_units": [1, 1], "classes": 3})"));
    rejected({{"loss", "dice-ce"}}, {three}, ErrorCode::invalid_argument, "tells 3 classes apart");
}

TEST_CASE("a network follows its teacher: the same network has the least loss against itself") {
    // Of the cross-entropy against fixed targets the least value is that of the network whose targets they are.
    const TemporaryFolder folder;
    const Model teacher = small_model(11);
    const auto path = saved(folder, "teacher.safetensors", teacher);
    const auto teachers = Teachers::open({path, path}, **find_backend("reference"), {.crop = {16, 16, 16}, .batch = 2});
    REQUIRE_OK(teachers);
    const std::string& hash = teacher.metadata.weights_sha256;
    CHECK(teachers->sha256() == hash + "," + hash);
    const Tensor images = test::random_tensor(Shape{2, 4, 16, 16, 16}, 3);
    Tensor targets(Shape{2, 4, 16, 16, 16});
    REQUIRE_OK(teachers->predict(view(images), 1.0, view(targets)));

    const auto graph = build_network(teacher.variant, {16, 16, 16}, 2);
    REQUIRE_OK(graph);
    const auto executable = (*find_backend("reference"))->compile(*graph, teacher.weights, {});
    REQUIRE_OK(executable);
    copy(view(images), (*executable)->input());
    REQUIRE_OK((*executable)->run());
    const Tensor logits = test::dense((*executable)->output(0));
    const auto z = view(logits);
    const auto softmax_at = [&](std::int64_t c, double temperature) {
        double sum = 0.0;
        for (std::int64_t k = 0; k < 4; ++k)
            sum += std::exp((double{z.at(1, k, 3, 4, 5)} - double{z.at(1, c, 3, 4, 5)}) / temperature);
        return 1.0 / sum;
    };
    for (const double temperature : {1.0, 2.5}) {
        REQUIRE_OK(teachers->predict(view(images), temperature, view(targets)));
        for (std::int64_t c = 0; c < 4; ++c)
            CHECK(view(targets).at(1, c, 3, 4, 5) == Approx(softmax_at(c, temperature)).epsilon(1e-4));
    }
    // Shown the mirrored image, they give the mirrored answer turned back.
    const MirrorAxes axes{true, false, true};
    Tensor of_mirrored(targets.shape());
    REQUIRE_OK(teachers->predict(mirrored(view(images), axes), 1.0, view(of_mirrored)));
    Tensor turned_back(targets.shape());
    copy(mirrored(view(std::as_const(of_mirrored)), axes), view(turned_back));
    Tensor answer(targets.shape());
    REQUIRE_OK(teachers->predict(view(images), 1.0, view(answer), axes));
    CHECK(test::relative_error(answer.values(), turned_back.values()) <= 1e-6);
    REQUIRE_OK(teachers->predict(view(images), 1.0, view(answer)));
    CHECK(test::relative_error(answer.values(), turned_back.values()) > 1e-3);
    // At the teacher's own logits the gradient of the term vanishes.
    Loss loss;
    loss.distillation = {1.0, 2.5};
    const test::Doubles z64 = test::doubles(logits);
    test::Doubles gradient(z64.size());
    const std::vector<std::uint8_t> classes(2 * 16 * 16 * 16, 0);
    const test::Doubles t64 = test::doubles(targets);
    REQUIRE_OK(reference::loss_and_gradient(logits.shape(), z64.data(), classes, loss, gradient.data(), 1,
                                            single_rank(), t64.data()));
    for (const double slope : gradient)
        CHECK(std::abs(slope) <= 1e-6);
}

TEST_CASE("heads stand on the decoder's maps at a half and a quarter, for networks that have them") {
    const auto shapes = [](std::string_view network) {
        const auto variant = parse_variant(network);
        REQUIRE_OK(variant);
        const auto graph = build_with_heads(*variant, {32, 48, 64}, 2);
        REQUIRE_OK(graph);
        const auto plain = build_network(*variant, {32, 48, 64}, 2);
        REQUIRE_OK(plain);
        REQUIRE_OK(check_weights(*plain, without_heads(init_weights(*graph, 1))));
        check_equal_bits(without_heads(init_weights(*graph, 3)), init_weights(*plain, 3));
        std::vector<Shape> all;
        for (const NodeId output : graph->outputs())
            all.push_back(graph->node(output).shape);
        return all;
    };
    const std::vector<Shape> three{Shape{2, 4, 32, 48, 64}, Shape{2, 4, 16, 24, 32}, Shape{2, 4, 8, 12, 16}};
    CHECK(shapes("mf-res2net") == three);
    CHECK(shapes(R"({"network": "mf-res2net", "order": "pre", "decoder_units": [1, 2, 3, 1]})") == three);
    CHECK(shapes(R"({"network": "mf-res2net", "widths": [8, 16], "decoder": [8, 4], "units": [2, 2],
                     "decoder_units": [1, 1]})") == std::vector<Shape>{three[0], three[1]});
    CHECK(output_weights(3) == std::vector<double>{1 / 1.75, 0.5 / 1.75, 0.25 / 1.75});

    const auto rejected = parse_recipe(R"({"network": "3d-unet", "deep_supervision": true})");
    REQUIRE_CODE(rejected, recipe_invalid);
    CHECK(rejected.error().message.find("3d-unet") != std::string::npos);
    CHECK(rejected.error().message.find("mf-res2net") != std::string::npos);
    REQUIRE_CODE(parse_recipe(R"({"network": {"network": "mf-res2net", "widths": [8], "decoder": [4], "units": [2],
                                  "decoder_units": [1]}, "deep_supervision": true})"),
                 recipe_invalid);
}

TEST_CASE("models and checkpoints are averaged value by value") {
    const TemporaryFolder folder;
    const Model a = small_model(1);
    const Model b = small_model(2);
    Model c = small_model(3);
    c.weights.at("enc1.down.bn.running_var") = Tensor(c.weights.at("enc1.down.bn.running_var").shape(), 7.0F);
    const auto paths = std::vector{saved(folder, "a.safetensors", a), saved(folder, "b.safetensors", b),
                                   saved(folder, "c.safetensors", c)};
    const auto made = average_models(paths, folder / "mean.safetensors", false);
    REQUIRE_OK(made);
    CHECK(made->models == 3);
    const auto mean = load_model(folder / "mean.safetensors");
    REQUIRE_OK(mean);
    CHECK(mean->variant.json() == a.variant.json());
    for (const auto& [name, tensor] : mean->weights) {
        INFO(name);
        for (std::int64_t i = 0; i < tensor.elements(); i += 7)
            CHECK(tensor[i] == static_cast<float>((double{a.weights.at(name)[i]} + double{b.weights.at(name)[i]} +
                                                   double{c.weights.at(name)[i]}) /
                                                  3.0));
    }
    CHECK(mean->weights.at("enc1.down.bn.running_var")[0] == 3.0F);
    const auto record = nlohmann::json::parse(mean->metadata.recipe_json);
    REQUIRE(record["average_of"].size() == 3);
    CHECK(record["average_of"][1]["weights_sha256"] == b.metadata.weights_sha256);

    // A mean of means of means: each holds the records of what it was made of.
    auto deep = folder / "mean.safetensors";
    for (const char* name : {"mean2.safetensors", "mean3.safetensors", "mean4.safetensors"}) {
        REQUIRE_OK(average_models({deep, deep}, folder / name, false));
        deep = folder / name;
    }
    REQUIRE_OK(load_model(deep));

    // A checkpoint counts as what would be exported from it: without heads, and its moving average.
    train(tiny_run(folder / "run", first_training_backend(),
                   tiny_recipe({{"steps", 2}, {"deep_supervision", true}, {"ema", 0.5}})));
    const auto last = folder / "run" / "last.ckpt";
    REQUIRE_OK(average_models({last, last}, folder / "same.safetensors", false));
    const auto same = load_model(folder / "same.safetensors");
    REQUIRE_OK(same);
    check_equal_bits(same->weights, without_heads(checkpoint_of(last).average));

    const auto out = folder / "mean.safetensors";
    REQUIRE_CODE(average_models({paths[0]}, out, true), invalid_argument);
    REQUIRE_CODE(average_models(paths, out, false), file_exists);
    REQUIRE_CODE(average_models(paths, out, true, WeightDtype::int8), invalid_argument);
    REQUIRE_CODE(average_models({paths[0], folder / "absent.safetensors"}, out, true), file_not_found);
    const auto wider =
        saved(folder, "wider.safetensors", small_model(1, R"({"network": "mf-res2net", "widths": [16, 16, 24, 32],
                                                "decoder": [16, 8, 8, 4]})"));
    const auto different = average_models({paths[0], wider}, out, true);
    REQUIRE_CODE(different, invalid_argument);
    CHECK(different.error().message.find("wider.safetensors") != std::string::npos);
    CHECK(different.error().message.find("network") != std::string::npos);
}

TEST_CASE("a recipe of version 0.1 still loads, and new keys have the paper's values") {
    const std::string recorded =
        R"({"absent":"skip","adam_beta1":0.9,"adam_beta2":0.999,"adam_epsilon":1e-08,"allow_tf32":false,"amsgrad":false,
            "batch":2,"batch_norm_momentum":0.1,"clip_norm":5.0,"crop":[64,64,64],"deterministic":true,"ema":0.0,
            "fixed_norm_steps":0,"flips":true,"gamma":0.0,"init_seed":1,"init_sha256":"","intensity_scale":0.1,
            "intensity_shift":0.1,"l2":1e-05,"learning_rate":0.001,"loss":"weighted-tversky",
            "network":{"network":"mf-res2net","widths":[16,32,64,128]},"noise":0.0,"power":0.9,"precision":"f32",
            "rotation_degrees":10.0,"rotation_probability":1.0,"seed":1,"steps":2000,"tumour_probability":0.7,
            "tversky_alpha":0.3,"tversky_beta":0.7,"validate_every":250,"warmup_steps":0,"zoom":0.0})";
    const auto recipe = parse_recipe(recorded);
    REQUIRE_OK(recipe);
    CHECK(recipe->steps == 2000);
    CHECK(recipe->sampling.crop == std::array<std::int64_t, 3>{64, 64, 64});
    CHECK(recipe->ce_weight == 0.0);
    CHECK(recipe->overlap_weight == 1.0);
    CHECK(recipe->topk_percent == 100.0);
    CHECK(recipe->focal_gamma == 0.0);
    CHECK(recipe->batch_dice);
    CHECK(recipe->loss_background);
    CHECK_FALSE(recipe->deep_supervision);
    CHECK(recipe->teachers_sha256.empty());
}

} // namespace mfres
