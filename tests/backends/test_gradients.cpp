// SPDX-License-Identifier: MIT
// The backward of every operation: in double precision against central differences, and every backend that trains
// against double precision. One table of cases for all.
#include "support/check_backend.h"
#include "support/loss_cases.h"
#include "support/op_cases.h"
#include "support/training.h"

#include <set>

using namespace mfres;
using test::Doubles;

namespace {

double dot(const Doubles& a, const Doubles& b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i)
        sum += a[i] * b[i];
    return sum;
}

/// At most `count` of `size` indices: all of them, or random ones.
std::vector<std::size_t> some_indices(std::size_t size, std::size_t count, std::uint64_t seed) {
    Random random(seed);
    std::vector<std::size_t> indices;
    for (std::size_t i = 0; i < std::min(size, count); ++i)
        indices.push_back(size <= count ? i : random.index(size));
    return indices;
}

/// Central differences of `loss` by some of `values`, against `gradient`, as a relative error over those. The step has
/// to be short where ReLU or a maximum could change sides.
template <typename LossFunction>
double difference_error(Doubles& values, const Doubles& gradient, double step, const LossFunction& loss) {
    Doubles numeric;
    Doubles analytic;
    for (const std::size_t i : some_indices(values.size(), 16, values.size())) {
        const double value = values[i];
        values[i] = value + step;
        const double above = loss();
        values[i] = value - step;
        const double below = loss();
        values[i] = value;
        numeric.push_back((above - below) / (2 * step));
        analytic.push_back(gradient[i]);
    }
    return test::relative_error(analytic, numeric);
}

} // namespace

TEST_CASE("the gradient table has at least 40 rows, every operation, and reads each network's input both ways") {
    const auto cases = test::gradient_cases();
    CHECK(cases.size() >= 40);
    std::set<OpKind> kinds;
    std::set<std::string> names;
    for (const auto& gradient_case : cases) {
        CHECK(names.insert(gradient_case.name).second);
        for (const Node& node : gradient_case.graph.nodes())
            kinds.insert(node.kind());
    }
    std::set<OpKind> trained;
    for (std::size_t kind = 0; kind < std::variant_size_v<Op>; ++kind)
        if (!is_inference_only(static_cast<OpKind>(kind)))
            trained.insert(static_cast<OpKind>(kind));
    CHECK(kinds == trained);
}

TEST_CASE("the double-precision backward equals central differences") {
    for (const auto& gradient_case : test::gradient_cases()) {
        INFO(gradient_case.name);
        const test::TrainingSetup made = test::training_setup(gradient_case.graph, gradient_case.name);
        for (const NormStatistics statistics : test::statistics_of(gradient_case.graph)) {
            INFO("running statistics: " << (statistics == NormStatistics::running));
            test::DoubleTraining training(gradient_case.graph, made.weights, made.input);
            training.forward(statistics);
            training.backward(made.cotangent);
            const auto loss = [&] { return dot(training.forward(statistics), made.cotangent); };
            CHECK(difference_error(training.input, training.input_gradient, 1e-6, loss) <= 1e-4);
            for (const Node& node : gradient_case.graph.nodes())
                for (const Parameter& parameter : node.parameters)
                    if (parameter.learnable()) {
                        INFO(parameter.name);
                        CHECK(difference_error(training.parameters.at(parameter.name),
                                               training.gradients.at(parameter.name), 1e-6, loss) <= 1e-4);
                    }
        }
    }
}

TEST_CASE("every backend that trains computes the forward, the running statistics and the gradients of every case") {
    for (const Backend* backend : test::training_backends()) {
        for (const auto& gradient_case : test::gradient_cases()) {
            INFO(backend->name() << ": " << gradient_case.name);
            test::check_gradient_case(*backend, gradient_case);
        }
    }
}

TEST_CASE("the gradient of every loss by the logits equals central differences") {
    for (test::NamedLoss named : test::loss_cases())
        for (const std::uint64_t present : {4U, 3U, 1U}) {
            const Shape shape{2, test::channels_of(named.options.outputs), 3, 2, 4};
            const Doubles targets = test::doubles(test::random_targets(shape, 12));
            INFO(named.name << ", " << present << " classes present");
            // The default epsilon of 1e-4 makes an absent class so heavy that the loss is 1 - 1e-6, and its
            // rounding all that differences would see.
            named.options.weight_epsilon = 0.1;
            const Loss loss = test::loss_of(named);
            const auto classes = test::random_classes(shape, present, present);
            Doubles logits = test::random_doubles(static_cast<std::size_t>(shape.elements()), present + 7);
            Doubles gradient(logits.size());
            Doubles unused(logits.size());
            REQUIRE_OK(reference::loss_and_gradient(shape, logits.data(), classes, loss, gradient.data(), 2,
                                                    single_rank(), targets.data()));
            const auto value = [&] {
                return *reference::loss_and_gradient(shape, logits.data(), classes, loss, unused.data(), 1,
                                                     single_rank(), targets.data());
            };
            // A short step keeps the choice of the hardest voxels as it is.
            CHECK(difference_error(logits, gradient, loss.pointwise.top_share < 1.0 ? 1e-6 : 1e-3, value) <= 1e-4);
        }
}

TEST_CASE("ops of imported networks are run, and rejected for training, by every backend that trains") {
    std::set<OpKind> rejected;
    for (const auto& op_case : test::op_cases()) {
        const auto found = inference_only_ops(op_case.graph, "has no gradient");
        if (found.empty())
            continue;
        INFO(op_case.name);
        for (const Node& node : op_case.graph.nodes())
            if (is_inference_only(node.kind()))
                rejected.insert(node.kind());
        for (const Backend* backend : test::training_backends()) {
            INFO(backend->name());
            const auto training =
                backend->compile_training(op_case.graph, test::random_weights(op_case.graph, 1), {.threads = 1});
            REQUIRE_CODE(training, operation_unsupported);
            CHECK(training.error().where == found.front().node);
            CHECK(training.error().message.find(found.front().reason) != std::string::npos);
        }
    }
    CHECK(rejected == std::set{OpKind::conv_transpose, OpKind::group_norm, OpKind::prelu, OpKind::elu, OpKind::sigmoid,
                               OpKind::multiply});
}

TEST_CASE("every backend that trains computes every loss and its gradient") {
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        test::check_losses(*backend);
    }
}

namespace {

/// Loss and output gradient of a backend for given logits.
std::pair<double, Tensor> loss_of_logits(TrainingExecutable& training, const Tensor& logits,
                                         const std::vector<std::uint8_t>& classes, const Loss& loss) {
    copy(view(logits), training.input());
    REQUIRE_OK(training.forward());
    const auto value = training.loss(classes, loss);
    REQUIRE_OK(value);
    return {*value, test::dense(as_const(training.output_gradient()))};
}

} // namespace

TEST_CASE("voxels as hard as the last one chosen share its place, on every backend that trains") {
    const Graph graph = test::identity_graph(Shape{2, 4, 2, 2, 2});
    // All voxels alike but one, which is harder: of 16 voxels 4 are chosen, so the other 15 share 3 places.
    Tensor logits(graph.node(0).shape, 0.0F);
    view(logits).at(1, 2, 1, 0, 1) = 3.0F;
    const std::vector<std::uint8_t> classes(16, 0);
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const auto training = test::compile_training(*backend, graph, test::identity_weights(graph));
        const LossOptions options{.overlap_weight = 0.0, .ce_weight = 1.0, .top_share = 0.25};
        const auto [value, gradient] = loss_of_logits(*training, logits, classes, test::loss_of(options));
        const double hard = std::log(3.0 + std::exp(3.0));
        CHECK(value == Approx((hard + 3.0 * std::log(4.0)) / 4.0).epsilon(1e-6));
        const auto g = view(gradient);
        for (const std::int64_t x : {0, 1})
            CHECK(g.at(0, 0, x, 0, 0) == Approx(3.0 / 15.0 * (0.25 - 1.0) / 4.0).epsilon(1e-5));
        CHECK(g.at(1, 0, 1, 0, 1) == Approx((std::exp(-hard) - 1.0) / 4.0).epsilon(1e-5));
    }
}

TEST_CASE("certain logits, right or wrong, have a finite loss and gradient on every backend that trains") {
    const Graph graph = test::identity_graph(Shape{1, 4, 2, 2, 2});
    Tensor logits(graph.node(0).shape, -500.0F);
    for (std::int64_t x = 0; x < 2; ++x)
        for (std::int64_t y = 0; y < 2; ++y)
            for (std::int64_t z = 0; z < 2; ++z)
                view(logits).at(0, 1, x, y, z) = 500.0F;
    const std::vector<std::uint8_t> classes{1, 1, 1, 1, 1, 1, 1, 2}; // the last one is wrong by 1000
    for (const Backend* backend : test::training_backends())
        for (const double gamma : {0.0, 0.5, 2.0})
            for (const double share : {1.0, 0.5}) {
                INFO(backend->name() << ", gamma " << gamma << ", share " << share);
                const auto training = test::compile_training(*backend, graph, test::identity_weights(graph));
                const LossOptions options{
                    .overlap_weight = 0.0, .ce_weight = 1.0, .focal_gamma = gamma, .top_share = share};
                const auto [value, gradient] = loss_of_logits(*training, logits, classes, test::loss_of(options));
                CHECK(value == Approx(1000.0 / (8.0 * share)).epsilon(1e-6));
                CHECK(view(gradient).at(0, 2, 1, 1, 1) == Approx(-1.0 / (8.0 * share)).epsilon(1e-6));
                CHECK(view(gradient).at(0, 1, 1, 1, 1) == Approx(1.0 / (8.0 * share)).epsilon(1e-6));
                CHECK(view(gradient).at(0, 1, 0, 0, 0) == Approx(0.0).margin(1e-12));
            }
}

TEST_CASE("a logit that is no number gives a loss that is none, whatever the parts, on every backend that trains") {
    const std::vector<std::uint8_t> classes{0, 1, 2, 3, 0, 1, 2, 3};
    for (const Backend* backend : test::training_backends())
        for (const Outputs outputs : {Outputs::classes, Outputs::regions}) {
            const Graph graph = test::identity_graph(Shape{1, test::channels_of(outputs), 2, 2, 2});
            Tensor logits = test::random_tensor(graph.node(0).shape, 3);
            view(logits).at(0, 1, 1, 1, 0) = std::numeric_limits<float>::quiet_NaN();
            for (const test::NamedLoss& named : test::loss_cases(outputs)) {
                INFO(backend->name() << ": " << named.name);
                const auto training = test::compile_training(*backend, graph, test::identity_weights(graph));
                CHECK(std::isnan(loss_of_logits(*training, logits, classes, test::loss_of(named)).first));
            }
        }
}

TEST_CASE("every loss has the same bits on one thread and on several, on every backend that trains") {
    for (const Backend* backend : test::training_backends())
        for (const Outputs outputs : {Outputs::classes, Outputs::regions}) {
            const Graph graph = test::identity_graph(Shape{3, test::channels_of(outputs), 20, 17, 19});
            const Tensor logits = test::random_tensor(graph.node(0).shape, 5);
            const auto classes = test::random_classes(graph.node(0).shape, 6, 4);
            const Tensor targets = test::random_targets(graph.node(0).shape, 7);
            const auto one = test::compile_training(*backend, graph, test::identity_weights(graph), {.threads = 1});
            const auto three = test::compile_training(*backend, graph, test::identity_weights(graph), {.threads = 3});
            for (const test::NamedLoss& named : test::loss_cases(outputs)) {
                INFO(backend->name() << ": " << named.name);
                for (TrainingExecutable* training : {one.get(), three.get()})
                    if (named.distillation.weight > 0.0)
                        test::fill_targets(*training, targets);
                const auto a = loss_of_logits(*one, logits, classes, test::loss_of(named));
                const auto b = loss_of_logits(*three, logits, classes, test::loss_of(named));
                CHECK(a.first == b.first);
                CHECK(std::equal(a.second.values().begin(), a.second.values().end(), b.second.values().begin()));
            }
        }
}

TEST_CASE("a loss of regions needs as many channels, on every backend that trains") {
    const Graph graph = test::identity_graph(Shape{1, 4, 2, 2, 2});
    const std::vector<std::uint8_t> classes{0, 1, 2, 3, 0, 1, 2, 3};
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const auto training = test::compile_training(*backend, graph, test::identity_weights(graph));
        REQUIRE_OK(training->forward());
        const auto rejected = training->loss(classes, test::loss_of({.outputs = Outputs::regions}));
        REQUIRE_CODE(rejected, invalid_argument);
        CHECK(rejected.error().message.find("3 channels") != std::string::npos);
    }
}

TEST_CASE("several outputs have their own losses and gradients, on every backend that trains") {
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        test::check_several_outputs(*backend);
        if (backend->name() != "reference") // keeps every value
            test::check_several_outputs_again(*backend);
    }
}

TEST_CASE("outputs that cannot be trained together are rejected by every backend that trains") {
    const auto graph_of = [](const Shape& second) {
        GraphBuilder builder;
        const NodeId x = builder.input(Shape{1, 2, 8, 8, 8});
        builder.output(builder.conv("a", x, Conv{.out_channels = 4}));
        builder.output(builder.conv("b", builder.adaptive_avg_pool("pool", x, {second[2], second[3], second[4]}),
                                    Conv{.out_channels = second[1]}));
        auto graph = builder.finish();
        REQUIRE_OK(graph);
        return std::move(graph).value();
    };
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const Graph good = graph_of(Shape{1, 4, 4, 4, 4});
        REQUIRE_OK(backend->compile_training(good, test::random_weights(good, 1), {}));
        for (const Shape& bad : {Shape{1, 3, 4, 4, 4}, Shape{1, 4, 4, 4, 2}, Shape{1, 4, 5, 5, 5}}) {
            const Graph graph = graph_of(bad);
            REQUIRE_CODE(backend->compile_training(graph, test::random_weights(graph, 1), {}), graph_invalid);
        }
    }
}
