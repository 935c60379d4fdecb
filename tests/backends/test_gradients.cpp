// The backward of every operation: in double precision against central differences, and every backend that trains
// against double precision. One table of cases for all.
#include "support/check_backend.h"
#include "support/op_cases.h"
#include "support/training.h"
#include "train/loss.h"

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
        indices.push_back(size <= count ? i : random.below(size));
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

/// One random class below `present` for each voxel.
std::vector<std::uint8_t> random_classes(const Shape& logits, std::uint64_t seed, std::uint64_t present) {
    Random random(seed);
    std::vector<std::uint8_t> classes(static_cast<std::size_t>(logits.elements() / logits[1]));
    for (auto& value : classes)
        value = static_cast<std::uint8_t>(random.below(present));
    return classes;
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
    CHECK(kinds.size() == std::variant_size_v<Op>);
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
    const Shape shape{2, 4, 3, 2, 4};
    for (const LossKind kind : loss_kinds())
        for (const Absent absent : absent_rules())
            for (const std::uint64_t present : {4U, 3U, 1U}) {
                INFO(name(kind) << ", " << name(absent) << ", " << present << " classes present");
                // The default epsilon of 1e-4 makes an absent class so heavy that the loss is 1 - 1e-6, and its
                // rounding all that differences would see.
                const auto loss = make_loss({.kind = kind, .absent = absent, .weight_epsilon = 0.1});
                REQUIRE_OK(loss);
                const auto classes = random_classes(shape, present, present);
                Doubles logits = test::random_doubles(static_cast<std::size_t>(shape.elements()), present + 7);
                Doubles gradient(logits.size());
                Doubles unused(logits.size());
                REQUIRE_OK(reference::loss_and_gradient(shape, logits.data(), classes, *loss, gradient.data(), 2));
                const auto value = [&] {
                    return *reference::loss_and_gradient(shape, logits.data(), classes, *loss, unused.data(), 1);
                };
                CHECK(difference_error(logits, gradient, 1e-3, value) <= 1e-4);
            }
}

TEST_CASE("every backend that trains computes every loss and its gradient") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{2, 4, 5, 3, 7});
    builder.output(builder.conv("head", x, Conv{.out_channels = 4}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    const Weights weights = test::random_weights(*graph, 3);
    const Tensor input = test::random_tensor(graph->node(0).shape, 4);
    const Shape& shape = graph->node(1).shape;
    test::DoubleTraining truth(*graph, weights, input);
    const Doubles logits = truth.forward();
    for (const Backend* backend : test::training_backends()) {
        const auto training = test::compile_training(*backend, *graph, weights);
        copy(view(input), training->input());
        REQUIRE_OK(training->forward());
        for (const LossKind kind : loss_kinds())
            for (const Absent absent : absent_rules())
                for (const std::uint64_t present : {4U, 3U, 1U}) {
                    INFO(backend->name() << ": " << name(kind) << ", " << name(absent) << ", " << present);
                    const auto loss = make_loss({.kind = kind, .absent = absent});
                    REQUIRE_OK(loss);
                    const auto classes = random_classes(shape, present, present);
                    Doubles gradient(logits.size());
                    const auto expected =
                        reference::loss_and_gradient(shape, logits.data(), classes, *loss, gradient.data(), 2);
                    REQUIRE_OK(expected);
                    const auto value = training->loss(classes, *loss);
                    REQUIRE_OK(value);
                    CHECK(*value == Approx(*expected).margin(1e-6));
                    CHECK(test::normalised_squared_error(test::dense(as_const(training->output_gradient())),
                                                         gradient) <= 1e-10);
                    REQUIRE_OK(training->backward());
                    truth.backward(gradient);
                    CHECK(test::normalised_squared_error(training->gradients().at("head.weight"),
                                                         truth.gradients.at("head.weight")) <= 1e-9);
                }
    }
}
