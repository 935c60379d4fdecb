// SPDX-License-Identifier: MIT
// Losses, optimiser and whole training steps against PyTorch, whose side was written from the formulas and the
// description of the network alone.
#include "backends/planned/host_parameters.h"
#include "networks/registry.h"
#include "support/loss_cases.h"
#include "support/python.h"
#include "support/training.h"

#include <nlohmann/json.hpp>

using namespace mfres;
using test::Doubles;

namespace {

double largest_difference(std::span<const float> ours, const Doubles& theirs) {
    REQUIRE(ours.size() == theirs.size());
    double most = 0.0;
    for (std::size_t i = 0; i < theirs.size(); ++i)
        most = std::max(most, std::abs(double{ours[i]} - theirs[i]));
    return most;
}

/// Logits of one batch and the truth of each voxel, classes `present`..3 absent.
struct LossCase {
    Tensor logits;
    std::vector<std::uint8_t> classes;
    Tensor classes_as_floats;
};

LossCase loss_case(const Shape& shape, double spread, std::uint64_t present) {
    LossCase made{test::random_tensor(shape, present), {}, Tensor(Shape{shape[0], shape[2], shape[3], shape[4]})};
    Random random(present + 100);
    for (float& value : made.logits.values())
        value *= static_cast<float>(spread);
    for (float& value : made.classes_as_floats.values()) {
        // Mostly background, as in a brain.
        const std::uint64_t drawn = random.uniform() < 0.8 ? 0 : random.below(present);
        made.classes.push_back(static_cast<std::uint8_t>(drawn));
        value = static_cast<float>(drawn);
    }
    return made;
}

/// What the script has to know of the losses of the table.
std::string described_losses() {
    nlohmann::json all;
    for (const test::NamedLoss& named : test::loss_cases()) {
        const auto& [called, options, distillation] = named;
        const PointwiseLoss pointwise = test::loss_of(named).pointwise;
        all[called] = {{"distill_weight", distillation.weight},
                       {"distill_temperature", distillation.temperature},
                       {"kind", options.loss},
                       {"absent", name(options.absent)},
                       {"background", options.background},
                       {"batch", options.batch},
                       {"regions", options.outputs == Outputs::regions},
                       {"overlap_weight", options.overlap_weight},
                       {"tversky_gamma", options.tversky_gamma},
                       {"ce_weight", pointwise.weight},
                       {"focal_gamma", pointwise.focal_gamma},
                       {"top_share", pointwise.top_share}};
    }
    return all.dump();
}

/// A batch that can be learned: three nested balls, whose class shifts the modalities, and noise.
struct TrainingCase {
    Graph graph;
    Weights weights;
    Tensor input;
    std::vector<std::uint8_t> classes;
};

TrainingCase training_case(std::string_view json, const Axes& size, std::int64_t batch) {
    const auto variant = parse_variant(json);
    REQUIRE_OK(variant);
    auto graph = build_network(*variant, size, batch);
    REQUIRE_OK(graph);
    TrainingCase made{*graph, test::random_weights(*graph, 1), test::random_tensor(graph->node(0).shape, 2), {}};
    const auto image = view(made.input);
    for (std::int64_t n = 0; n < batch; ++n)
        for (std::int64_t x = 0; x < size[0]; ++x)
            for (std::int64_t y = 0; y < size[1]; ++y)
                for (std::int64_t z = 0; z < size[2]; ++z) {
                    const auto away = [&](std::int64_t i, std::int64_t extent) {
                        return 2.0 * (static_cast<double>(i) + 0.5) / static_cast<double>(extent) - 1.0;
                    };
                    const double r =
                        std::hypot(away(x, size[0]), away(y, size[1]), away(z, size[2])) + 0.1 * static_cast<double>(n);
                    const auto label = static_cast<std::uint8_t>(r < 0.35 ? 3 : r < 0.55 ? 1 : r < 0.8 ? 2 : 0);
                    made.classes.push_back(label);
                    for (std::int64_t c = 0; c < 4; ++c)
                        image.at(n, c, x, y, z) += c == label ? 1.5F : 0.0F;
                }
    return made;
}

/// Residual branches that start weak, as after zero initialisation of their last scale (Goyal et al. 2017, "Accurate,
/// large minibatch SGD"). With strong ones batch normalisation amplifies rounding from layer to layer: PyTorch's own
/// float32 and float64 losses then part by 10^-3 in the second step.
void weaken_branches(Weights& weights) {
    for (auto& [name, tensor] : weights)
        if (name.find(".fuse2.bn.weight") != std::string::npos)
            for (float& value : tensor.values())
                value *= 0.1F;
}

/// Steps in PyTorch, in double precision; its results in `folder`.
void train_in_torch(const std::string& python, const TrainingCase& made, int steps, std::string_view what,
                    const test::TemporaryFolder& folder) {
    Weights tensors = made.weights;
    const Shape& shape = made.input.shape();
    Tensor classes(Shape{shape[0], shape[2], shape[3], shape[4]});
    std::copy(made.classes.begin(), made.classes.end(), classes.data());
    tensors.emplace("input", made.input);
    tensors.emplace("classes", std::move(classes));
    test::write_tensors(folder / "case.safetensors", tensors);
    test::require_python(
        python, "train/torch_mf_res2net.py",
        {(folder / "case.safetensors").string(), folder.path().string(), std::to_string(steps), std::string(what)});
}

/// PyTorch's state before step `step`, counted from 0, rounded to float32.
TrainingState torch_state(const test::TemporaryFolder& folder, std::size_t step) {
    const auto file = read_safetensors(folder / text("state.", step, ".safetensors"));
    REQUIRE_OK(file);
    const auto tensors = decode_tensors(*file);
    REQUIRE_OK(tensors);
    TrainingState state;
    for (const auto& [name, tensor] : *tensors) {
        const std::size_t dot = name.find('.');
        const std::string kind = name.substr(0, dot);
        (kind == "weight"  ? state.weights
         : kind == "first" ? state.first_moment
                           : state.second_moment)
            .emplace(name.substr(dot + 1), tensor);
    }
    return state;
}

/// One step of ours on the case's batch; returns the loss.
double train_step(TrainingExecutable& training, const TrainingCase& made, const Loss& loss, std::int64_t step) {
    copy(view(made.input), training.input());
    REQUIRE_OK(training.forward());
    const auto value = training.loss(made.classes, loss);
    REQUIRE_OK(value);
    REQUIRE_OK(training.backward());
    REQUIRE_OK(training.update({.step = step, .learning_rate = 1e-3, .l2 = 1e-5}));
    return *value;
}

/// How far `ours` is from `theirs`, compared with how far that is from `before`, over all tensors.
double error_of_change(const Weights& ours, const Weights& theirs, const Weights& before) {
    double difference = 0.0;
    double change = 0.0;
    for (const auto& [name, tensor] : theirs)
        for (std::int64_t i = 0; i < tensor.elements(); ++i) {
            difference += std::pow(double{ours.at(name)[i]} - double{tensor[i]}, 2);
            change += std::pow(double{before.at(name)[i]} - double{tensor[i]}, 2);
        }
    return std::sqrt(difference / change);
}

Loss paper_loss() {
    auto loss = make_loss({.loss = "weighted-tversky", .absent = Absent::skip});
    REQUIRE_OK(loss);
    return std::move(loss).value();
}

constexpr std::string_view two_levels =
    R"({"network": "mf-res2net", "widths": [8, 16], "decoder": [8, 4], "units": [2, 2], "decoder_units": [1, 1]})";
constexpr std::string_view four_levels =
    R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})";

} // namespace

TEST_CASE("every loss and its gradient equal PyTorch's with autograd") {
    const auto python = test::python_with("torch, numpy");
    if (!python)
        return;
    std::vector<LossCase> cases;
    for (const std::uint64_t present : {4U, 3U, 2U, 1U})
        cases.push_back(loss_case(Shape{2, 4, 5, 4, 6}, 1.0, present));
    cases.push_back(loss_case(Shape{1, 4, 24, 20, 16}, 4.0, 4));
    cases.push_back(loss_case(Shape{3, 2, 4, 4, 4}, 2.0, 2));
    for (const std::uint64_t present : {4U, 3U, 1U}) // for regions, too
        cases.push_back(loss_case(Shape{2, 3, 5, 4, 6}, 2.0, present));
    Weights tensors;
    for (std::size_t k = 0; k < cases.size(); ++k) {
        tensors.emplace(text("logits.", k), cases[k].logits);
        tensors.emplace(text("classes.", k), cases[k].classes_as_floats);
        tensors.emplace(text("targets.", k), test::random_targets(cases[k].logits.shape(), k));
    }
    const test::TemporaryFolder folder;
    test::write_tensors(folder / "case.safetensors", tensors);
    REQUIRE_OK(write_file_atomically(folder / "losses.json", described_losses()));
    test::require_python(*python, "train/torch_losses.py",
                         {"losses", (folder / "case.safetensors").string(), folder.path().string()});
    for (std::size_t k = 0; k < cases.size(); ++k)
        for (const test::NamedLoss& named : test::loss_cases()) {
            if ((named.options.outputs == Outputs::regions) != (cases[k].logits.shape()[1] == region_count))
                continue;
            const std::string name_of_case = text(named.name, ".", k);
            INFO(name_of_case);
            const Loss loss = test::loss_of(named);
            const Doubles targets = test::doubles(tensors.at(text("targets.", k)));
            const Doubles logits = test::doubles(cases[k].logits);
            Doubles gradient(logits.size());
            const auto value = reference::loss_and_gradient(cases[k].logits.shape(), logits.data(), cases[k].classes,
                                                            loss, gradient.data(), 2, single_rank(), targets.data());
            REQUIRE_OK(value);
            const Doubles theirs = test::read_doubles(folder / (name_of_case + ".f64"));
            REQUIRE(theirs.size() == 1);
            CHECK(std::abs(*value - theirs[0]) <= 1e-9);
            const Doubles their_gradient = test::read_doubles(folder / (name_of_case + ".grad.f64"));
            REQUIRE(their_gradient.size() == gradient.size());
            CHECK(test::relative_error(gradient, their_gradient) <= 1e-7);
        }
}

TEST_CASE("ten steps of Adam with L2, AMSGrad and clipping equal PyTorch's") {
    const auto python = test::python_with("torch, numpy");
    if (!python)
        return;
    GraphBuilder builder;
    builder.output(builder.conv("c", builder.input(Shape{1, 8, 1, 1, 1}), Conv{.out_channels = 16}));
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    const Shape& shape = graph->node(1).parameters[0].shape;
    const Tensor start = test::random_tensor(shape, 1);
    Tensor gradients = test::random_tensor(Shape{10, shape.elements()}, 2);
    for (std::int64_t i = 0; i < gradients.elements(); ++i) // a burst in the middle and a quiet end
        gradients[i] *= i / shape.elements() == 4 ? 30.0F : i / shape.elements() > 6 ? 0.01F : 1.0F;
    const test::TemporaryFolder folder;
    Tensor by_step(Shape{10, shape[0], shape[1], 1, 1});
    std::copy(gradients.values().begin(), gradients.values().end(), by_step.data());
    Tensor flat_start(Shape{shape[0], shape[1], 1, 1});
    std::copy(start.values().begin(), start.values().end(), flat_start.data());
    test::write_tensors(folder / "case.safetensors", {{"start", flat_start}, {"gradients", by_step}});
    test::require_python(*python, "train/torch_losses.py",
                         {"adam", (folder / "case.safetensors").string(), folder.path().string()});
    for (const bool amsgrad : {false, true})
        for (const int clip : {0, 1}) {
            INFO("amsgrad " << amsgrad << ", clip " << clip);
            HostParameters parameters(*graph, {{"c.weight", start}}, amsgrad, 2);
            for (std::int64_t step = 1; step <= 10; ++step) {
                std::copy_n(gradients.data() + (step - 1) * shape.elements(), shape.elements(),
                            parameters.gradient("c.weight"));
                REQUIRE_OK(update_parameters(parameters, {.step = step,
                                                          .learning_rate = 1e-2,
                                                          .l2 = 1e-2,
                                                          .amsgrad = amsgrad,
                                                          .clip_norm = static_cast<double>(clip)}));
            }
            const Weights after = parameters.weights();
            const Doubles theirs = test::read_doubles(folder / text(amsgrad ? 1 : 0, ".", clip, ".f64"));
            CHECK(largest_difference(after.at("c.weight").values(), theirs) <= 1e-6);
            CHECK(largest_difference(start.values(), theirs) > 1e-2);
        }
}

TEST_CASE("mf-res2net in double precision: logits, loss and gradients of PyTorch") {
    const auto python = test::python_with("torch, numpy");
    if (!python)
        return;
    const TrainingCase made = training_case(four_levels, {32, 16, 48}, 2);
    const test::TemporaryFolder folder;
    train_in_torch(*python, made, 1, "losses", folder);
    test::DoubleTraining training(made.graph, made.weights, made.input);
    const Doubles logits = training.forward();
    CHECK(test::relative_error(logits, test::read_doubles(folder / "output.f64")) <= 1e-9);
    Doubles gradient(logits.size());
    const Shape& shape = made.graph.node(made.graph.outputs()[0]).shape;
    const auto value =
        reference::loss_and_gradient(shape, logits.data(), made.classes, paper_loss(), gradient.data(), 2);
    REQUIRE_OK(value);
    CHECK(std::abs(*value - test::read_doubles(folder / "losses.f64")[0]) <= 1e-9);
    training.backward(gradient);
    for (const Node& node : made.graph.nodes())
        for (const Parameter& parameter : node.parameters)
            if (parameter.learnable()) {
                INFO(parameter.name);
                const Doubles theirs = test::read_doubles(folder / ("grad." + parameter.name + ".f64"));
                REQUIRE(theirs.size() == static_cast<std::size_t>(parameter.shape.elements()));
                CHECK(test::relative_error(training.gradients.at(parameter.name), theirs) <= 1e-6);
            }
}

TEST_CASE("ten training steps of a two-level mf-res2net have PyTorch's losses on every backend that trains") {
    const auto python = test::python_with("torch, numpy");
    if (!python)
        return;
    TrainingCase made = training_case(two_levels, {24, 16, 32}, 2);
    weaken_branches(made.weights);
    const test::TemporaryFolder folder;
    train_in_torch(*python, made, 10, "states", folder);
    const Doubles theirs = test::read_doubles(folder / "losses.f64");
    REQUIRE(theirs.size() == 10);
    CHECK(theirs.back() < 0.99 * theirs.front());
    for (const Backend* backend : test::training_backends()) {
        const auto training = test::compile_training(*backend, made.graph, made.weights, {.threads = 1});
        for (std::size_t step = 0; step < theirs.size(); ++step) {
            INFO(backend->name() << ", step " << step + 1);
            const double loss = train_step(*training, made, paper_loss(), static_cast<std::int64_t>(step) + 1);
            CHECK(std::abs(loss - theirs[step]) <= 1e-5);
        }
        const TrainingState end = torch_state(folder, 10);
        CHECK(error_of_change(training->weights(), end.weights, made.weights) <= 1e-3);
    }
}

/// Steps that each start where PyTorch's did, on every backend that `trains`: the loss, and what the step changes.
template <typename Trains>
void check_each_step(const TrainingCase& made, int steps, const Trains& trains) {
    const auto python = test::python_with("torch, numpy");
    if (!python)
        return;
    const test::TemporaryFolder folder;
    train_in_torch(*python, made, steps, "states", folder);
    const Doubles theirs = test::read_doubles(folder / "losses.f64");
    REQUIRE(theirs.size() == static_cast<std::size_t>(steps));
    CHECK(theirs.back() < 0.99 * theirs.front());
    for (const Backend* backend : test::training_backends()) {
        if (!trains(*backend))
            continue;
        const auto training = test::compile_training(*backend, made.graph, made.weights, {.threads = 1});
        for (std::size_t step = 0; step < theirs.size(); ++step) {
            INFO(backend->name() << ", step " << step + 1);
            const TrainingState before = torch_state(folder, step);
            const TrainingState after = torch_state(folder, step + 1);
            REQUIRE_OK(training->set_state(before));
            const double loss = train_step(*training, made, paper_loss(), static_cast<std::int64_t>(step) + 1);
            CHECK(std::abs(loss - theirs[step]) <= 1e-5);
            const TrainingState ours = training->state();
            for (const auto map :
                 {&TrainingState::weights, &TrainingState::first_moment, &TrainingState::second_moment})
                CHECK(error_of_change(ours.*map, after.*map, before.*map) <= 1e-2);
        }
    }
}

// Four levels are deep enough for rounding to grow a thousandfold in ten free steps, in PyTorch as here: its own
// float32 and float64 losses differ by 10^-4 then. So every step starts where PyTorch's did.
TEST_CASE("each of ten training steps of mf-res2net is PyTorch's on every backend that trains") {
    TrainingCase made = training_case(four_levels, {32, 16, 32}, 2);
    weaken_branches(made.weights);
    check_each_step(made, 10, [](const Backend&) { return true; });
}

TEST_CASE("each of three training steps of mf-res2net at its full widths is PyTorch's") {
    TrainingCase made = training_case("mf-res2net", {32, 32, 32}, 2);
    weaken_branches(made.weights);
    // Plain loops take minutes for this.
    check_each_step(made, 3, [](const Backend& backend) { return backend.name() != "reference"; });
}
