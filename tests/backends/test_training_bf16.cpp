// SPDX-License-Identifier: MIT
// Training in bf16 with the oneDNN backend: the arithmetic (see Bf16Rounding), what it promises besides, and that it
// learns as f32 does.
#include "backends/planned/training_fusion.h"
#include "core/half.h"
#include "gpu/phantom_batch.h"
#include "graph/commute.h"
#include "support/check_backend.h"
#include "support/graphs.h"
#include "support/program.h"
#include "train/loss.h"

#include <cstdio>

using namespace mfres;
using test::finished;
using test::network;

namespace {

/// One thread: those that wait for each other on a busy machine take far longer.
const TrainingOptions in_bf16{.threads = 1, .precision = Precision::bf16, .batch_norm_momentum = 0.25};

/// The square of the largest relative error of one rounding to bf16, which has 8 significant bits: half a unit in the
/// last place of 1 is 2^-8.
constexpr double rounding_error = 0x1p-16;

/// Null where oneDNN is absent or this processor lacks the instructions; says so.
const Backend* onednn_with_bf16() {
    const Backend* backend = test::backend_or_skip("onednn");
    if (!backend)
        return nullptr;
    GraphBuilder builder;
    const Graph graph = finished(builder, builder.relu("r", builder.input(Shape{1, 1, 1, 1, 1})));
    const auto compiled = backend->compile_training(graph, {}, in_bf16);
    if (compiled)
        return backend;
    REQUIRE_CODE(compiled, operation_unsupported);
    CHECK(compiled.error().message.find("AVX512-BF16") != std::string::npos);
    std::printf("SKIPPED: %s\n", compiled.error().message.c_str());
    return nullptr;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// What bf16 training of a graph defines, with the weights of those convolutions exact that got f32 kernels.
test::Bf16Rounding rounding_of(const TrainingExecutable& training, const Graph& graph) {
    std::set<std::string> forward, backward;
    for (const Chosen& step : training.chosen()) {
        if (step.operation == "conv" && contains(step.implementation, "in f32"))
            forward.insert(step.node);
        if (step.operation == "conv backward" &&
            contains(step.implementation.substr(0, step.implementation.find("weights ")), "in f32"))
            backward.insert(step.node);
    }
    return {graph, forward, backward};
}

Loss weighted_tversky() {
    auto loss = make_loss({});
    REQUIRE_OK(loss);
    return std::move(loss).value();
}

} // namespace

TEST_CASE(
    "training in bf16 rounds where it says it does: every gradient case against double precision with its rounding") {
    const Backend* backend = onednn_with_bf16();
    if (!backend)
        return;
    for (const auto& gradient_case : test::gradient_cases()) {
        INFO(gradient_case.name);
        const test::TrainingSetup made = test::training_setup(gradient_case.graph, gradient_case.name);
        const auto training = test::compile_training(*backend, gradient_case.graph, made.weights, in_bf16);
        const Graph graph = move_pointwise_before_whole_upsample(gradient_case.graph); // what is trained
        for (const NormStatistics statistics : test::statistics_of(graph)) {
            INFO("running statistics: " << (statistics == NormStatistics::running));
            test::DoubleTraining truth(graph, made.weights, made.input, in_bf16.batch_norm_momentum);
            truth.rounding = rounding_of(*training, graph);
            const test::Doubles expected = truth.forward(statistics);
            truth.backward(made.cotangent);
            const auto step = [&] {
                copy(view(made.input), training->input());
                REQUIRE_OK(training->forward(statistics));
                test::fill(training->output_gradient(), made.cotangent);
                REQUIRE_OK(training->backward());
            };
            step();
            // A sum in f32 lies on the other side of a half now and then: a value in some hundreds is one step off.
            const double output_error = test::normalised_squared_error(test::dense(training->output()), expected);
            CHECK(output_error <= 0.02 * rounding_error);
            const Weights gradients = training->gradients();
            const Weights weights = training->weights();
            for (const Node& node : graph.nodes())
                for (const Parameter& parameter : node.parameters) {
                    INFO(parameter.name);
                    const bool learnable = parameter.learnable(); // else a running statistic
                    const Tensor& got = (learnable ? gradients : weights).at(parameter.name);
                    const test::Doubles& own = (learnable ? truth.gradients : truth.parameters).at(parameter.name);
                    CHECK(test::normalised_squared_error(got, own) <= 0.02 * rounding_error);
                }
            // Nothing of one step is left in the next.
            step();
            CHECK(test::same_bits(training->gradients(), gradients));
        }
    }
}

TEST_CASE("what training in bf16 computes is as far from the truth as its roundings: every case of operations") {
    const Backend* backend = onednn_with_bf16();
    if (!backend)
        return;
    int in_f32 = 0;
    for (const auto& op_case : test::op_cases()) {
        INFO(op_case.name);
        const Graph& graph = op_case.graph;
        const Weights weights = test::random_weights(graph, 3);
        if (!inference_only_ops(graph, "").empty()) {
            REQUIRE_CODE(backend->compile_training(graph, weights, in_bf16), operation_unsupported);
            continue;
        }
        const Tensor input = test::random_tensor(graph.node(0).shape, 4);
        const auto training = test::compile_training(*backend, graph, weights, in_bf16);
        for (const Chosen& step : training->chosen())
            in_f32 += contains(step.implementation, "in f32") ? 1 : 0;
        copy(view(input), training->input());
        REQUIRE_OK(training->forward(NormStatistics::running));
        // The input, and a value and weights for every op: each at most that far off, and none of them with another.
        const auto ops = static_cast<double>(fuse_training_ops(graph).size());
        CHECK(
            test::normalised_squared_error(test::dense(training->output()), test::run_double(graph, weights, input)) <=
            (1.0 + 2.0 * ops) * rounding_error);
    }
    CHECK(in_f32 > 0); // dilated kernels, for which oneDNN has no compiled one
}

TEST_CASE("a value that is stored as bf16 is rounded once, to the nearest and ties to even") {
    const Backend* backend = onednn_with_bf16();
    if (!backend)
        return;
    const Shape shape{1, 6, 3, 5, 7};
    const Tensor input = test::random_tensor(shape, 6);
    const auto rounded = [](float value) { return bf16_to_f32(f32_to_bf16(value)); };
    const auto output_of = [&](const Graph& graph) {
        const auto training = test::compile_training(*backend, graph, {}, in_bf16);
        copy(view(input), training->input());
        REQUIRE_OK(training->forward());
        return test::dense(training->output());
    };
    GraphBuilder joined; // channels go by several ways and come together again
    const NodeId x = joined.input(shape);
    const NodeId head = joined.slice("head", x, 0, 2);
    const NodeId tail = joined.slice("tail", x, 2, 6);
    const Tensor same = output_of(finished(joined, joined.concat("cat", {head, joined.slice("all", tail, 0, 4)})));
    GraphBuilder added;
    const NodeId y = added.input(shape);
    const Tensor sum = output_of(finished(added, added.sum("sum", {added.leaky_relu("l", y, 0.3), y})));
    for (std::int64_t i = 0; i < input.elements(); ++i) {
        const float value = rounded(input[i]);
        CHECK(same[i] == value);
        CHECK(sum[i] == rounded(rounded(value > 0.0F ? value : 0.3F * value) + value));
    }
}

TEST_CASE("a step of mf-res2net in bf16: bf16 kernels alone, and loss and gradients near those of double precision") {
    const Backend* backend = onednn_with_bf16();
    if (!backend)
        return;
    // Three voxels along x in the deepest level: with fewer than taps, oneDNN 3 has no right kernel for bf16.
    const Axes size{48, 32, 32};
    const Graph graph = test::well_conditioned(network("mf-res2net", size));
    const Weights weights = test::random_weights(graph, 41);
    const auto batch = test::phantom_batch(size, 1);
    test::DoubleTraining truth(graph, weights, batch.image);
    const test::Doubles logits = truth.forward();
    test::Doubles slopes(logits.size());
    const auto expected = reference::loss_and_gradient(graph.node(graph.outputs()[0]).shape, logits.data(),
                                                       batch.classes, weighted_tversky(), slopes.data(), 2);
    REQUIRE_OK(expected);
    truth.backward(slopes);

    const auto training = test::compile_training(*backend, graph, weights, in_bf16);
    for (const Chosen& step : training->chosen()) {
        INFO(step.node << " (" << step.operation << ") got " << step.implementation);
        CHECK_FALSE(contains(step.implementation, "in f32"));
        CHECK(contains(step.operation, "conv") == contains(step.implementation, "bf16"));
    }
    copy(view(batch.image), training->input());
    REQUIRE_OK(training->forward());
    const auto loss = training->loss(batch.classes, weighted_tversky());
    REQUIRE_OK(loss);
    REQUIRE_OK(training->backward());
    CHECK(*loss == Approx(*expected).epsilon(0.001));
    // Errors of some 2^-8 a rounding that add up along the way: about 150 steps forward and back, each independent.
    const Weights gradients = training->gradients();
    double squares = 0.0;
    double differences = 0.0;
    for (const auto& [name, gradient] : gradients)
        for (std::size_t i = 0; i < gradient.values().size(); ++i) {
            const double own = truth.gradients.at(name)[i];
            squares += own * own;
            differences += (double{gradient.values()[i]} - own) * (double{gradient.values()[i]} - own);
        }
    CHECK(std::sqrt(differences / squares) <= 0.05);
    int compared = 0;
    for (const auto& [name, gradient] : gradients) {
        INFO(name);
        double own = 0.0;
        for (const double value : truth.gradients.at(name))
            own += value * value;
        if (own <
            1e-4 *
                squares) // under 1 % of it all: some are what is left of sums that cancel, as of a shift before a norm
            continue;
        ++compared;
        CHECK(test::relative_error(gradient.values(), truth.gradients.at(name)) <= 0.1);
    }
    CHECK(compared >= 10);
}

TEST_CASE("30 steps on a phantom's crop bring bf16 to the loss that f32 comes to") {
    const Backend* backend = onednn_with_bf16();
    if (!backend)
        return;
    const Graph graph = network("mf-res2net", {32, 32, 32});
    const auto batch = test::phantom_batch({32, 32, 32}, 1);
    const auto dice = make_loss({.loss = "dice"});
    REQUIRE_OK(dice);
    const auto losses = [&](Precision precision) {
        const auto training = test::compile_training(*backend, graph, test::random_weights(graph, 1),
                                                     {.threads = 1, .precision = precision});
        std::vector<double> all;
        for (std::int64_t step = 1; step <= 30; ++step) {
            copy(view(batch.image), training->input());
            REQUIRE_OK(training->forward());
            const auto loss = training->loss(batch.classes, *dice);
            REQUIRE_OK(loss);
            all.push_back(*loss);
            REQUIRE_OK(training->backward());
            REQUIRE_OK(training->update({.step = step, .learning_rate = 0.01}));
        }
        return all;
    };
    const std::vector<double> f32 = losses(Precision::f32);
    const std::vector<double> bf16 = losses(Precision::bf16);
    CHECK(bf16.front() == Approx(f32.front()).epsilon(0.01));
    CHECK(f32.back() < 0.8 * f32.front());
    CHECK(std::abs(bf16.back() - f32.back()) <= 0.1 * (f32.front() - f32.back()));
}

TEST_CASE("two steps in bf16, state, another executable, two steps: the bits of four steps") {
    const Backend* backend = onednn_with_bf16();
    if (!backend)
        return;
    const Graph graph = network("mf-res2net", {16, 16, 16}, 2);
    const auto step = [&](TrainingExecutable& training, std::int64_t number) {
        const Tensor input = test::random_tensor(graph.node(0).shape, static_cast<std::uint64_t>(number));
        copy(view(input), training.input());
        REQUIRE_OK(training.forward());
        const auto loss = training.loss(std::vector<std::uint8_t>(2 * 16 * 16 * 16, 1), weighted_tversky());
        REQUIRE_OK(loss);
        REQUIRE_OK(training.backward());
        REQUIRE_OK(training.update({.step = number}));
        return *loss;
    };
    const auto whole = test::compile_training(*backend, graph, test::random_weights(graph, 1), in_bf16);
    const auto before = test::compile_training(*backend, graph, test::random_weights(graph, 1), in_bf16);
    const auto after = test::compile_training(*backend, graph, test::random_weights(graph, 2), in_bf16);
    for (const std::int64_t number : {1, 2})
        CHECK(step(*before, number) == step(*whole, number));
    REQUIRE_OK(after->set_state(before->state()));
    for (const std::int64_t number : {3, 4})
        CHECK(step(*after, number) == step(*whole, number));
    CHECK(test::same_bits(after->state(), whole->state()));
    // What Adam changes is f32: some weight is none that bf16 has.
    const Tensor weight = whole->weights().at("head.conv.weight");
    CHECK(std::any_of(weight.values().begin(), weight.values().end(),
                      [](float value) { return value != bf16_to_f32(f32_to_bf16(value)); }));
}

TEST_CASE("activations computed again in bf16 change no bit: every gradient case and a network") {
    const Backend* backend = onednn_with_bf16();
    if (!backend)
        return;
    const TrainingOptions options{.threads = 1, .precision = Precision::bf16};
    std::int64_t again = 0;
    for (const auto& gradient_case : test::gradient_cases()) {
        INFO(gradient_case.name);
        again += test::check_recomputation(*backend, gradient_case.graph,
                                           test::training_setup(gradient_case.graph, gradient_case.name), options);
    }
    CHECK(again > 10);
    const Graph graph = network("mf-res2net", {16, 16, 32});
    CHECK(test::check_recomputation(*backend, graph, test::training_setup(graph, "mf-res2net"), options) > 50);
}

TEST_CASE("the threads change no bit of bf16 where no convolution is split") {
    const Backend* backend = onednn_with_bf16();
    if (!backend)
        return;
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{2, 6, 24, 20, 22});
    const NodeId norm = builder.relu("r", builder.batch_norm("bn", x));
    const NodeId fine = builder.upsample2("up", builder.max_pool("pool", norm));
    const NodeId sum = builder.scaled_add("sum", {builder.leaky_relu("l", norm, 0.1), fine});
    const Graph graph = finished(builder, builder.instance_norm("in", builder.concat("cat", {sum, x})));
    const test::TrainingSetup made = test::training_setup(graph, "threads");
    std::vector<Weights> gradients;
    for (const int threads : {1, 2, 5}) {
        const auto training =
            test::compile_training(*backend, graph, made.weights, {.threads = threads, .precision = Precision::bf16});
        copy(view(made.input), training->input());
        REQUIRE_OK(training->forward());
        test::fill(training->output_gradient(), made.cotangent);
        REQUIRE_OK(training->backward());
        gradients.push_back(training->gradients());
    }
    CHECK(test::same_bits(gradients[1], gradients[0]));
    CHECK(test::same_bits(gradients[2], gradients[0]));
}

TEST_CASE("the memory of training in bf16 counts two bytes an element") {
    const Backend* backend = onednn_with_bf16();
    if (!backend)
        return;
    const Graph graph = network("mf-res2net", {64, 64, 64});
    const Weights weights = test::random_weights(graph, 1);
    const auto held = [&](Precision precision) {
        return test::compile_training(*backend, graph, weights, {.threads = 1, .precision = precision})->peak_bytes();
    };
    std::int64_t parameters = 0; // and gradients and two moments, f32 in both
    for (const auto& [name, tensor] : weights)
        parameters += 16 * tensor.elements();
    // Kernels of the two differ in workspace.
    CHECK(held(Precision::bf16) - parameters <= (held(Precision::f32) - parameters) * 2 / 3);
}

TEST_CASE("training with oneDNN rejects fp16 and int8 and says why") {
    const Backend* backend = test::backend_or_skip("onednn");
    if (!backend)
        return;
    GraphBuilder builder;
    const Graph graph = finished(builder, builder.relu("r", builder.input(Shape{1, 1, 2, 2, 2})));
    for (const Precision precision : {Precision::fp16, Precision::int8}) {
        const auto rejected = backend->compile_training(graph, {}, {.precision = precision});
        REQUIRE_CODE(rejected, operation_unsupported);
        CHECK(contains(rejected.error().message, std::string(to_string(precision))));
    }
    const auto relaxed = backend->compile_training(graph, {}, {.precision = Precision::bf16, .allow_tf32 = true});
    REQUIRE_CODE(relaxed, operation_unsupported);
}

TEST_CASE("mfres train rejects bf16 with the reason on a processor without its instructions") {
    if (!onednn_with_bf16())
        return;
    const test::TemporaryFolder folder;
    REQUIRE(test::run_program({"phantom", "--size", "48,56,48", "--out", folder / "cases" / "phantom"}).exit_code == 0);
    // oneDNN leaves out what the variable does, as it would on an older processor.
    const auto trained = test::run_command({"env",         "ONEDNN_MAX_CPU_ISA=AVX512_CORE",
                                            MFRES_PROGRAM, "train",
                                            "--backend",   "onednn",
                                            "--precision", "bf16",
                                            "--crop",      "16",
                                            "--batch",     "1",
                                            "--steps",     "1",
                                            "--threads",   "1",
                                            "--data",      folder / "cases",
                                            "--out",       folder / "run"});
    CHECK(trained.exit_code == 5);
    CHECK(contains(trained.err, "this processor has neither AVX512-BF16 nor AMX"));
}

TEST_CASE("in bf16 pointwise convolutions of an upsampled value run before it, and their gradients are the same") {
    GraphBuilder builder;
    const NodeId x = builder.conv("before", builder.input(Shape{2, 3, 4, 5, 3}), Conv{.out_channels = 6});
    const NodeId up = builder.upsample2("up", x);
    const NodeId a = builder.relu("a.relu", builder.batch_norm("a.bn", builder.conv("a", up, Conv{.out_channels = 2})));
    const NodeId b = builder.conv("b", up, Conv{.out_channels = 2, .bias = true});
    const NodeId joined = builder.concat("joined", {builder.upsample2("up2", x), a, b});
    const Graph graph = finished(builder, builder.conv("head", joined, Conv{.out_channels = 3}));
    const Graph moved = move_pointwise_before_whole_upsample(graph);
    // a and b at low resolution, and an upsampling behind each in place of the one in front; the concat stays.
    CHECK(moved.size() == graph.size() + 1);
    int low = 0;
    for (const Node& node : moved.nodes())
        low += node.kind() == OpKind::conv && node.shape[2] == 4 ? 1 : 0;
    CHECK(low == 3);

    const test::TrainingSetup made = test::training_setup(graph, "moved");
    test::DoubleTraining before(graph, made.weights, made.input);
    test::DoubleTraining after(moved, made.weights, made.input);
    const test::Doubles expected = before.forward();
    CHECK(test::relative_error(after.forward(), expected) <= 1e-12);
    before.backward(made.cotangent);
    after.backward(made.cotangent);
    CHECK(test::relative_error(after.input_gradient, before.input_gradient) <= 1e-12);
    for (const auto& [name, gradient] : before.gradients) {
        INFO(name);
        CHECK(test::relative_error(after.gradients.at(name), gradient) <= 1e-12);
    }
    if (const Backend* backend = onednn_with_bf16()) {
        const auto training = test::compile_training(*backend, graph, made.weights, in_bf16);
        CHECK(test::same_bits(training->weights(), made.weights));
        int ups = 0;
        for (const Chosen& step : training->chosen())
            ups += step.operation == "upsample" ? 1 : 0;
        CHECK(ups == 3);
    }
}
