// SPDX-License-Identifier: MIT
// All of the CUDA backend that is not a GPU's: planning, steps, dispatch, state and the kernels' per-element functions,
// run on the host against the tables that every backend has to pass.
#include "backends/cuda/backend.h"
#include "backends/cuda/convolution_cache.h"
#include "backends/cuda/engine.h"
#include "core/random.h"
#include "core/try.h"
#include "cuda/on_host.h"
#include "gpu/network.h"
#include "support/check_arguments.h"
#include "support/check_backend.h"
#include "support/loss_cases.h"
#include "support/op_cases.h"
#include "support/rank_cases.h"
#include "support/ranks.h"
#include "train/loss.h"

#include <cmath>
#include <limits>
#include <optional>

using namespace mfres;

namespace {} // namespace

TEST_CASE("the cuda backend rejects the same arguments as every other backend") {
    test::check_rejected_arguments(test::on_host());
    test::check_rejected_training_arguments(test::on_host());
}

TEST_CASE("the kernels compute every op case") {
    for (const auto& op_case : test::op_cases()) {
        INFO(op_case.name);
        test::check_op_case(test::on_host(), op_case);
    }
}

TEST_CASE("the kernels compute the forward, the running statistics and the gradients of every case") {
    for (const auto& gradient_case : test::gradient_cases()) {
        INFO(gradient_case.name);
        test::check_gradient_case(test::on_host(), gradient_case);
    }
}

namespace {

/// Down, a unit with all kinds of steps, up and a head with bias: what the recipes train, small.
Graph small_network(std::int64_t batch = 2) {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{batch, 3, 8, 6, 10});
    const auto conv = [](std::int64_t width, std::int64_t stride = 1) {
        return Conv{
            .out_channels = width, .kernel = {3, 3, 3}, .stride = {stride, stride, stride}, .padding = {1, 1, 1}};
    };
    NodeId y = builder.relu("r1", builder.batch_norm("n1", builder.conv("c1", x, conv(8, 2))));
    const NodeId a = builder.slice("a", y, 0, 4);
    const NodeId b =
        builder.relu("r2", builder.batch_norm("n2", builder.conv("c2", builder.slice("b", y, 4, 8), conv(4))));
    y = builder.sum("s", {builder.instance_norm("n3", builder.conv("c3", builder.concat("cat", {a, b}), conv(8))), y});
    y = builder.upsample2("up", builder.leaky_relu("r3", y, 0.1));
    builder.output(builder.conv("head", y, Conv{.out_channels = 4, .bias = true}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

std::vector<std::uint8_t> classes_of(const Graph& graph) {
    const Shape& shape = graph.node(graph.outputs()[0]).shape;
    Random random(5);
    std::vector<std::uint8_t> classes(static_cast<std::size_t>(shape.elements() / shape[1]));
    for (auto& value : classes)
        value = static_cast<std::uint8_t>(random.below(4));
    return classes;
}

Loss weighted_tversky() {
    auto loss = make_loss({});
    REQUIRE_OK(loss);
    return std::move(loss).value();
}

/// One step on a batch that depends on `number`.
double train_step(TrainingExecutable& training, const Graph& graph, std::int64_t number, bool amsgrad = false) {
    const Tensor image = test::random_tensor(graph.node(0).shape, static_cast<std::uint64_t>(number));
    copy(view(image), training.input());
    REQUIRE_OK(training.forward());
    const auto loss = training.loss(classes_of(graph), weighted_tversky());
    REQUIRE_OK(loss);
    REQUIRE_OK(training.backward());
    const auto norm = training.update(
        {.step = number, .learning_rate = 0.01, .amsgrad = amsgrad, .clip_norm = number % 2 == 0 ? 0.01 : 0.0});
    REQUIRE_OK(norm);
    return *loss;
}

double largest_difference(const Weights& a, const Weights& b) {
    REQUIRE(a.size() == b.size());
    double most = 0.0;
    for (const auto& [name, tensor] : a) {
        const auto other = b.find(name);
        REQUIRE(other != b.end());
        for (std::int64_t i = 0; i < tensor.elements(); ++i)
            most = std::max(most, std::abs(double{tensor[i]} - double{other->second[i]}));
    }
    return most;
}

} // namespace

TEST_CASE("loss, its gradient, clipping, Adam and AMSGrad are the reference's over five steps") {
    const Graph graph = small_network();
    const Weights weights = test::random_weights(graph, 1);
    for (const bool amsgrad : {false, true}) {
        INFO("amsgrad " << amsgrad);
        const TrainingOptions options{.amsgrad = amsgrad};
        const auto ours = test::compile_training(test::on_host(), graph, weights, options);
        const auto theirs = test::compile_training(**find_backend("reference"), graph, weights, options);
        for (std::int64_t number = 1; number <= 5; ++number)
            CHECK(train_step(*ours, graph, number, amsgrad) ==
                  Approx(train_step(*theirs, graph, number, amsgrad)).epsilon(1e-5));
        CHECK(largest_difference(ours->weights(), theirs->weights()) <= 2e-4);
        CHECK(largest_difference(ours->state().second_moment, theirs->state().second_moment) <= 1e-5);
        CHECK(ours->state().largest_second_moment.empty() == !amsgrad);
    }
}

TEST_CASE("the kernels compute every loss and its gradient") {
    test::check_losses(test::on_host());
}

TEST_CASE("the kernels compute the losses of several outputs and their gradients") {
    test::check_several_outputs(test::on_host());
    test::check_several_outputs_again(test::on_host());
}

TEST_CASE("a checkpoint goes from one backend to the other and back without a changed bit") {
    const Graph graph = small_network();
    const auto reference = test::compile_training(**find_backend("reference"), graph, test::random_weights(graph, 1));
    for (const std::int64_t number : {1, 2})
        train_step(*reference, graph, number);
    const TrainingState before = reference->state();
    const auto ours = test::compile_training(test::on_host(), graph, test::random_weights(graph, 2));
    REQUIRE_OK(ours->set_state(before));
    CHECK(test::same_bits(ours->state(), before));
    CHECK(test::same_bits(ours->weights(), before.weights));
    REQUIRE_OK(reference->set_state(ours->state()));
    CHECK(train_step(*ours, graph, 3) == Approx(train_step(*reference, graph, 3)).epsilon(1e-5));

    TrainingState bad = before;
    bad.first_moment.erase("c1.weight");
    const TrainingState kept = ours->state();
    REQUIRE_CODE(ours->set_state(bad), model_tensor_missing);
    CHECK(test::same_bits(ours->state(), kept));
}

TEST_CASE("two steps, state, another executable, two steps: the bits of four steps, in every precision") {
    const Graph graph = small_network();
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::fp16}) {
        INFO(to_string(precision));
        const TrainingOptions options{.precision = precision};
        const auto whole = test::compile_training(test::on_host(), graph, test::random_weights(graph, 1), options);
        const auto before = test::compile_training(test::on_host(), graph, test::random_weights(graph, 1), options);
        const auto after = test::compile_training(test::on_host(), graph, test::random_weights(graph, 2), options);
        for (const std::int64_t number : {1, 2})
            CHECK(train_step(*before, graph, number) == train_step(*whole, graph, number));
        REQUIRE_OK(after->set_state(before->state()));
        for (const std::int64_t number : {3, 4})
            CHECK(train_step(*after, graph, number) == train_step(*whole, graph, number));
        CHECK(test::same_bits(after->state(), whole->state()));
    }
}

TEST_CASE("short precisions stay near f32: op cases to 2 %, gradients of a network to 10 %") {
    for (const Precision precision : {Precision::bf16, Precision::fp16}) {
        INFO(to_string(precision));
        for (const auto& op_case : test::op_cases()) {
            if (test::may_reject(test::on_host(), op_case.graph))
                continue;
            INFO(op_case.name);
            const Weights weights = test::random_weights(op_case.graph, 3);
            const Tensor input = test::random_tensor(op_case.graph.node(0).shape, 4);
            const auto got = test::run(test::on_host(), op_case.graph, weights, input, {.precision = precision});
            REQUIRE_OK(got);
            CHECK(test::normalised_squared_error(*got, test::run_double(op_case.graph, weights, input)) <= 4e-4);
        }
        const Graph graph = small_network();
        const auto gradients = [&](Precision of) {
            const auto training =
                test::compile_training(test::on_host(), graph, test::random_weights(graph, 1), {.precision = of});
            train_step(*training, graph, 1);
            return training->gradients();
        };
        const Weights expected = gradients(Precision::f32);
        for (const auto& [name, tensor] : gradients(precision)) {
            INFO(name);
            CHECK(test::relative_error(tensor.values(), expected.at(name).values()) <= 0.1);
        }
    }
}

TEST_CASE("a step that overflows in fp16 is left out and told by an infinite norm, in f32 it is an error") {
    const Graph graph = small_network();
    for (const Precision precision : {Precision::fp16, Precision::f32}) {
        const auto training =
            test::compile_training(test::on_host(), graph, test::random_weights(graph, 1), {.precision = precision});
        train_step(*training, graph, 1);
        const Tensor gradient(training->output().shape,
                              precision == Precision::fp16 ? 4.0F : std::numeric_limits<float>::infinity());
        const TrainingState before = training->state();
        const auto update = [&] {
            REQUIRE_OK(training->forward(NormStatistics::running)); // backward() may write over what it reads
            copy(view(gradient), training->output_gradient());
            REQUIRE_OK(training->backward());
            return training->update({.step = 2});
        };
        auto norm = update();
        if (precision == Precision::f32) {
            REQUIRE_CODE(norm, training_diverged);
        } else {
            REQUIRE_OK(norm);
            CHECK(std::isinf(*norm));
        }
        TrainingState after = training->state();
        if (precision == Precision::fp16) { // nothing has changed but the scale
            REQUIRE((before.loss_scaling && after.loss_scaling));
            CHECK(after.loss_scaling->scale == 0.5 * before.loss_scaling->scale);
            after.loss_scaling = before.loss_scaling;
        }
        CHECK(test::same_bits(after, before));
        for (int halvings = 0; precision == Precision::fp16 && halvings < 16 && std::isinf(*norm); ++halvings) {
            norm = update();
            REQUIRE_OK(norm);
        }
        CHECK((precision == Precision::f32 || std::isfinite(*norm)));
    }
}

TEST_CASE("activations computed again change no bit: every gradient case, and a network in every precision") {
    std::int64_t again = 0;
    for (const auto& gradient_case : test::gradient_cases()) {
        INFO(gradient_case.name);
        again += test::check_recomputation(test::on_host(), gradient_case.graph,
                                           test::training_setup(gradient_case.graph, gradient_case.name));
    }
    CHECK(again > 10);
    const Graph graph = small_network();
    test::TrainingSetup made = test::training_setup(graph, "small network");
    for (double& value : made.cotangent)
        value *= 0x1p-14; // which the loss scale of fp16 does not carry beyond what it can hold
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::fp16}) {
        INFO(to_string(precision));
        CHECK(test::check_recomputation(test::on_host(), graph, made, {.precision = precision}) > 0);
    }
    const auto whole = test::GpuNetwork::make({16, 16, 16}, 2);
    REQUIRE_OK(whole);
    CHECK(test::check_recomputation(test::on_host(), *whole, test::training_setup(*whole, "mf-res2net")) > 50);
}

TEST_CASE("training that would hold more than allowed is rejected, and a batch that does not fit is explained") {
    const Graph graph = small_network();
    const Weights weights = test::random_weights(graph, 1);
    const std::int64_t needed = test::compile_training(test::on_host(), graph, weights)->peak_bytes();
    CHECK(test::compile_training(test::on_host(), graph, weights, {.memory_cap = needed})->peak_bytes() == needed);
    const std::int64_t least = test::least_memory_cap(test::on_host(), graph, weights, {}, needed);
    CHECK(least < needed);
    REQUIRE_CODE(test::on_host().compile_training(graph, weights, {.memory_cap = least - 64}), memory_limit);
    CHECK(test::compile_training(test::on_host(), graph, weights, {.precision = Precision::bf16})->peak_bytes() <
          needed);
    REQUIRE_CODE(test::on_host().compile_training(graph, weights, {.batch_norm_momentum = -0.5}), invalid_argument);

    const auto training = test::compile_training(test::on_host(), graph, weights);
    REQUIRE_OK(training->forward());
    auto classes = classes_of(graph);
    classes.pop_back();
    REQUIRE_CODE(training->loss(classes, weighted_tversky()), invalid_argument);
    classes = classes_of(graph);
    classes[17] = 4;
    REQUIRE_CODE(training->loss(classes, weighted_tversky()), invalid_argument);
}

TEST_CASE("a sum and a concat of more operands than one launch takes, forward and backward") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 2, 3, 4, 5});
    std::vector<NodeId> branches;
    for (int i = 0; i < 19; ++i)
        branches.push_back(builder.conv("c" + std::to_string(i), x, Conv{.out_channels = 3}));
    const NodeId sum = builder.relu("r", builder.sum("s", branches));
    const NodeId all = builder.concat("cat", branches);
    builder.output(builder.concat("out", {sum, all, builder.scaled_add("w", branches)}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    test::check_op_case(test::on_host(), {"many operands", *graph});
    test::check_gradient_case(test::on_host(), {"many operands", *graph});
}

TEST_CASE("a gradient of more terms than one launch takes is gathered") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 2, 3, 4, 5});
    const NodeId y = builder.relu("r", builder.batch_norm("n", builder.conv("c", x, Conv{.out_channels = 4})));
    std::vector<NodeId> readers;
    for (int i = 0; i < 11; ++i)
        readers.push_back(builder.conv("k" + std::to_string(i), y, Conv{.out_channels = 2}));
    readers.push_back(builder.slice("p", y, 1, 3));
    const NodeId up = builder.upsample2("up", y);
    for (int i = 0; i < 10; ++i)
        readers.push_back(builder.max_pool("m" + std::to_string(i),
                                           builder.conv("u" + std::to_string(i), up, Conv{.out_channels = 2})));
    builder.output(builder.sum("s", readers));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    test::check_gradient_case(test::on_host(), {"many readers", *graph});
}

TEST_CASE("every fp16 and bf16 number survives the way to float and back, and rounding is to nearest even") {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        const auto half = cuda::Fp16{static_cast<std::uint16_t>(bits)};
        const auto brain = cuda::Bf16{static_cast<std::uint16_t>(bits)};
        if (!std::isnan(cuda::widen(half)))
            REQUIRE(cuda::narrowed<cuda::Fp16>(cuda::widen(half)).bits == bits);
        else
            REQUIRE(std::isnan(cuda::widen(cuda::narrowed<cuda::Fp16>(cuda::widen(half)))));
        if (!std::isnan(cuda::widen(brain)))
            REQUIRE(cuda::narrowed<cuda::Bf16>(cuda::widen(brain)).bits == bits);
        else
            REQUIRE(std::isnan(cuda::widen(cuda::narrowed<cuda::Bf16>(cuda::widen(brain)))));
    }
    const auto rounded = [](float value) { return cuda::widen(cuda::narrowed<cuda::Fp16>(value)); };
    CHECK(rounded(1.0F + 0x1p-11F) == 1.0F);
    CHECK(rounded(1.0F + 0x3p-11F) == 1.0F + 0x1p-9F);
    CHECK(rounded(65519.0F) == 65504.0F);
    CHECK(std::isinf(rounded(65520.0F)));
    CHECK(rounded(0x1p-25F) == 0.0F);
    CHECK(rounded(0x1.8p-25F) == 0x1p-24F);
    CHECK(rounded(-0x1p-14F) == -0x1p-14F);
}

TEST_CASE("an observer sees every step and may stop a run") {
    const Graph graph = small_network();
    auto executable = test::on_host().compile(graph, test::random_weights(graph, 1), {});
    REQUIRE_OK(executable);
    int seen = 0;
    REQUIRE_OK((*executable)->run([&](int done, int total) {
        CHECK(done == ++seen);
        CHECK(total == static_cast<int>((*executable)->chosen().size()));
        return true;
    }));
    CHECK(seen == static_cast<int>((*executable)->chosen().size()));
    REQUIRE_CODE((*executable)->run([](int done, int) { return done < 2; }), interrupted);
}

TEST_CASE("labels taken on the device: the lowest of equal logits, and logits that are not finite are rejected") {
    GraphBuilder builder;
    builder.output(builder.conv("c", builder.input(Shape{1, 1, 2, 3, 4}), Conv{.out_channels = 3, .bias = true}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::fp16}) {
        INFO(to_string(precision));
        const auto labels_with = [&](float weight, float bias, std::vector<std::uint8_t>& labels) -> Status {
            Weights weights;
            weights.emplace("c.weight", Tensor(Shape{3, 1, 1, 1, 1}, weight));
            Tensor biases(Shape{3}, 0.0F);
            biases[1] = biases[2] = bias;
            weights.emplace("c.bias", std::move(biases));
            MFRES_TRY(const auto executable, test::on_host().compile(*graph, weights, {.precision = precision}));
            copy(view(test::random_tensor(graph->node(0).shape, 1)), executable->input());
            MFRES_CHECK(executable->run());
            return executable->labels(0, labels, 1);
        };
        std::vector<std::uint8_t> labels(24);
        REQUIRE_OK(labels_with(0.5F, 1.0F, labels));
        CHECK(labels == std::vector<std::uint8_t>(24, 1));
        REQUIRE_OK(labels_with(0.5F, 0.0F, labels));
        CHECK(labels == std::vector<std::uint8_t>(24, 0));
        const Status rejected = labels_with(0.0F, std::numeric_limits<float>::infinity(), labels);
        REQUIRE_CODE(rejected, logits_not_finite);
        CHECK(rejected.error().message.find("48 of 72 logits are not finite (0 NaN, 48 infinite)") !=
              std::string::npos);
    }
}

namespace {

/// The same where sums over ranks go by way of the host in place of the device.
const Backend& staged_on_host() {
    static const cuda::CudaBackend backend(
        "cuda", "kernels of the cuda backend on the host, sums by way of it",
        [](int) { return Result<std::unique_ptr<cuda::Engine>>(cuda::make_host_engine(true)); },
        [] { return Status(); }, [] { return 1; });
    return backend;
}

/// Four steps on two samples, or one of them on each of two ranks.
Result<TrainingState> train_four_steps(const Backend& backend, const Graph& graph, const TrainingOptions& options) {
    const Graph whole = small_network(2);
    const Weights weights = test::random_weights(whole, 1);
    const auto classes = classes_of(whole);
    MFRES_TRY(const auto training, backend.compile_training(graph, weights, options));
    const std::int64_t first = options.ranks ? options.ranks->rank() : 0;
    const std::size_t voxels = classes.size() / 2 * static_cast<std::size_t>(graph.node(0).shape[0]);
    for (std::int64_t number = 1; number <= 4; ++number) {
        const Tensor all = test::random_tensor(whole.node(0).shape, static_cast<std::uint64_t>(number));
        Tensor own(graph.node(0).shape);
        std::copy_n(all.data() + first * own.elements(), own.elements(), own.data());
        copy(as_const(view(own)), training->input());
        MFRES_CHECK(training->forward());
        MFRES_TRY(const double loss,
                  training->loss(std::span(classes).subspan(static_cast<std::size_t>(first) * voxels, voxels),
                                 weighted_tversky()));
        if (!std::isfinite(loss))
            return Error{ErrorCode::internal, "the loss is not finite", {}};
        MFRES_CHECK(training->backward());
        MFRES_TRY(const double norm, training->update({.step = number, .learning_rate = 0.01}));
        if (!(norm > 0.0))
            return Error{ErrorCode::internal, "there is no gradient", {}};
    }
    return training->state();
}

} // namespace

TEST_CASE(
    "two ranks with one sample each train as one with both, and equal bits whatever carries the sums in which parts") {
    const auto alone = train_four_steps(test::on_host(), small_network(2), {});
    REQUIRE_OK(alone);
    const Graph half = small_network(1);
    std::optional<TrainingState> first;
    for (const Backend* backend : {&test::on_host(), &staged_on_host()})
        for (const std::int64_t bucket_bytes : {std::int64_t{1}, std::int64_t{2000}, std::int64_t{1} << 40U}) {
            INFO(backend->description() << ", parts of " << bucket_bytes << " bytes");
            std::vector<TrainingState> states(2);
            test::require_on_ranks(2, [&](Communicator& ranks) -> Status {
                MFRES_TRY(states[static_cast<std::size_t>(ranks.rank())],
                          train_four_steps(*backend, half, {.ranks = &ranks, .bucket_bytes = bucket_bytes}));
                return {};
            });
            CHECK(test::same_bits(states[0], states[1]));
            CHECK(largest_difference(states[0].weights, alone->weights) <= 5e-4);
            CHECK(largest_difference(states[0].first_moment, alone->first_moment) <= 1e-4);
            if (!first)
                first = states[0];
            CHECK(test::same_bits(states[0], *first));
        }
}

TEST_CASE("every loss on two ranks of the cuda backend is that of one with all samples, whatever carries the sums") {
    test::check_losses_on_ranks(test::on_host(), 2);
    test::check_losses_on_ranks(staged_on_host(), 2);
}

TEST_CASE("every gradient case on two and three ranks of the cuda backend is that of one with all samples") {
    for (const auto& gradient_case : test::gradient_cases())
        for (const int size : {2, 3}) {
            INFO(gradient_case.name << " on " << size << " ranks");
            test::check_on_ranks(test::on_host(), gradient_case.graph, test::hash(gradient_case.name), size,
                                 NormStatistics::batch);
        }
}

TEST_CASE("an error of one rank ends the calls of the others on the cuda backend too") {
    const Graph graph = small_network(1);
    for (const Backend* backend : {&test::on_host(), &staged_on_host()}) {
        const auto results = test::on_ranks(2, [&](Communicator& ranks) -> Status {
            MFRES_TRY(const auto training,
                      backend->compile_training(graph, test::random_weights(graph, 5), {.ranks = &ranks}));
            if (ranks.rank() == 1)
                return Error{ErrorCode::cache_damaged, "case 7 is broken", {}};
            return training->forward();
        });
        REQUIRE_CODE(results[0], cache_damaged);
        CHECK(results[0].error().message.find("on rank 1: case 7 is broken") != std::string::npos);
    }
}

TEST_CASE("ranks agree on NCCL only where all have one version of it and a device each") {
    using cuda::DeviceIdentity;
    const auto identity = [](std::uint64_t device, std::int64_t nccl) { return DeviceIdentity{{device, 7}, nccl}; };
    const auto reason = [](std::vector<DeviceIdentity> all) { return cuda::why_not_nccl(all); };
    CHECK(reason({identity(1, 22809), identity(2, 22809), identity(3, 22809)}).empty());
    CHECK(reason({identity(1, 22809), identity(2, 0)}) == "rank 1 has no NCCL library");
    CHECK(reason({identity(1, 0), identity(2, 22809)}) == "rank 0 has no NCCL library");
    CHECK(reason({identity(1, 22809), identity(2, 22703)}) == "rank 1 has NCCL 22703 and rank 0 22809");
    CHECK(reason({identity(1, 22809), identity(2, 22809), identity(1, 22809)}) == "ranks 0 and 2 share a device");

    test::require_on_ranks(3, [&](Communicator& ranks) -> Status {
        const auto all = cuda::exchange_identities(ranks, identity(static_cast<std::uint64_t>(ranks.rank()), 1));
        for (std::uint64_t rank = 0; rank < 3; ++rank)
            if (!(all.at(rank) == identity(rank, 1)))
                return Error{ErrorCode::internal, "an identity is wrong", {}};
        return {};
    });
}

TEST_CASE("statistics of all ranks are not taken a second time where activations are computed again") {
    const Graph half = small_network(1);
    const Weights weights = test::random_weights(half, 1);
    const std::int64_t most = test::compile_training(test::on_host(), half, weights)->peak_bytes();
    const std::int64_t least = test::least_memory_cap(test::on_host(), half, weights, {}, most);
    REQUIRE(least < most);
    std::array<std::vector<TrainingState>, 2> states;
    for (std::size_t again : {0U, 1U}) {
        states[again].resize(2);
        test::require_on_ranks(2, [&](Communicator& ranks) -> Status {
            TrainingOptions options;
            options.memory_cap = again ? least : 0;
            options.ranks = &ranks;
            MFRES_TRY(states[again][static_cast<std::size_t>(ranks.rank())],
                      train_four_steps(test::on_host(), half, options));
            return {};
        });
    }
    CHECK(test::same_bits(states[1][0], states[0][0]));
    CHECK(test::same_bits(states[1][1], states[0][0]));
}

TEST_CASE("convolutions with the same spec and rules are made once, failures to make one each time") {
    class Named final : public cuda::Convolution {
      public:
        explicit Named(int number) : number_(number) {}
        std::string implementation() const override { return std::to_string(number_); }
        std::int64_t workspace_bytes() const override { return 0; }
        cuda::ElementType result_type() const override { return cuda::ElementType::f32; }
        void run(const cuda::ConvolutionArrays&) override {}

      private:
        int number_;
    };
    int calls = 0;
    cuda::ConvolutionCache cache(
        [&](const cuda::ConvolutionSpec& spec, const cuda::ConvolutionRules&) -> std::unique_ptr<cuda::Convolution> {
            ++calls;
            if (spec.conv.groups == 3)
                throw cuda::EngineError(ErrorCode::backend_failed, "no");
            return spec.residual ? nullptr : std::make_unique<Named>(calls);
        });
    cuda::ConvolutionSpec spec;
    spec.conv.out_channels = 8;
    spec.in = Shape{1, 4, 8, 8, 8};
    spec.out = Shape{1, 8, 8, 8, 8};
    const cuda::ConvolutionRules rules;
    CHECK(cache.get(spec, rules)->implementation() == "1");
    CHECK(cache.get(spec, rules)->implementation() == "1");
    const auto differs = [&](const auto& change) {
        cuda::ConvolutionSpec other = spec;
        cuda::ConvolutionRules other_rules = rules;
        change(other, other_rules);
        const int before = calls;
        (void)cache.get(other, other_rules);
        return calls == before + 1;
    };
    CHECK(differs([](auto& s, auto&) { s.in[2] = 9; }));
    CHECK(differs([](auto& s, auto&) { s.out[0] = 2; }));
    CHECK(differs([](auto& s, auto&) { s.conv.kernel[1] = 3; }));
    CHECK(differs([](auto& s, auto&) { s.conv.stride[0] = 2; }));
    CHECK(differs([](auto& s, auto&) { s.conv.padding[2] = 1; }));
    CHECK(differs([](auto& s, auto&) { s.conv.dilation[2] = 2; }));
    CHECK(differs([](auto& s, auto&) { s.conv.groups = 2; }));
    CHECK(differs([](auto& s, auto&) { s.pass = cuda::ConvolutionPass::weight_gradient; }));
    CHECK(differs([](auto& s, auto&) { s.type = cuda::ElementType::bf16; }));
    CHECK(differs([](auto& s, auto&) { s.bias = true; }));
    CHECK(differs([](auto& s, auto&) { s.activation = {Activation::Kind::leaky_relu, 0.1F}; }));
    CHECK(differs([](auto& s, auto&) { s.activation = {Activation::Kind::leaky_relu, 0.2F}; }));
    CHECK(differs([](auto&, auto& r) { r.allow_tf32 = true; }));
    CHECK(differs([](auto&, auto& r) { r.deterministic = false; }));
    CHECK(differs([](auto&, auto& r) { r.workspace_limit = 1; }));
    CHECK(cache.get(spec, rules)->implementation() == "1");

    spec.residual = true;
    const int before = calls;
    CHECK(cache.get(spec, rules) == nullptr);
    CHECK(cache.get(spec, rules) == nullptr);
    CHECK(calls == before + 1);
    spec.conv.groups = 3;
    CHECK_THROWS_AS(cache.get(spec, rules), cuda::EngineError);
    CHECK_THROWS_AS(cache.get(spec, rules), cuda::EngineError);
    CHECK(calls == before + 3);
}
