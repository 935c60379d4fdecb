// The backward of every operation: in double precision against central differences, and every backend that trains
// against double precision. One table of cases for all.
#include "support/op_cases.h"
#include "support/training.h"
#include "train/loss.h"

#include <set>

using namespace mfres;
using test::Doubles;

namespace {

Doubles random_doubles(std::size_t count, std::uint64_t seed) {
    Random random(seed);
    Doubles values(count);
    for (double& value : values)
        value = random.normal();
    return values;
}

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

struct Setup {
    Weights weights;
    Tensor input;
    Doubles cotangent; ///< dL/d output
};

Setup setup(const Graph& graph, std::string_view name) {
    const std::uint64_t seed = test::hash(name);
    const Shape& output = graph.node(graph.outputs()[0]).shape;
    Setup made{test::random_weights(graph, seed), test::random_tensor(graph.node(0).shape, seed + 1),
               random_doubles(static_cast<std::size_t>(output.elements()), seed + 2)};
    for (double& value : made.cotangent)
        value = static_cast<double>(static_cast<float>(value)); // so that every backend gets the same one
    return made;
}

void fill(const StridedView<float>& to, const Doubles& values) {
    Tensor tensor(to.shape);
    std::transform(values.begin(), values.end(), tensor.data(), [](double value) { return static_cast<float>(value); });
    copy(as_const(view(tensor)), to);
}

/// One random class below `present` for each voxel.
std::vector<std::uint8_t> random_classes(const Shape& logits, std::uint64_t seed, std::uint64_t present) {
    Random random(seed);
    std::vector<std::uint8_t> classes(static_cast<std::size_t>(logits.elements() / logits[1]));
    for (auto& value : classes)
        value = static_cast<std::uint8_t>(random.below(present));
    return classes;
}

/// What a graph can be normalised with: the running statistics only matter where there is a BatchNorm.
std::vector<NormStatistics> statistics_of(const Graph& graph) {
    for (const Node& node : graph.nodes())
        if (node.kind() == OpKind::batch_norm)
            return {NormStatistics::running, NormStatistics::batch};
    return {NormStatistics::batch};
}

/// Two equal steps against double precision.
void check_step(TrainingExecutable& training, const Graph& graph, const Setup& made, NormStatistics statistics) {
    INFO("running statistics: " << (statistics == NormStatistics::running));
    test::DoubleTraining truth(graph, made.weights, made.input, 0.25);
    const Doubles expected = truth.forward(statistics);
    truth.backward(made.cotangent);
    const auto step = [&] {
        copy(view(made.input), training.input());
        REQUIRE_OK(training.forward(statistics));
        fill(training.output_gradient(), made.cotangent);
        REQUIRE_OK(training.backward());
    };
    step();
    CHECK(test::normalised_squared_error(test::dense(training.output()), expected) <= 1e-10);
    const Weights first = training.gradients();
    const Weights weights = training.weights();
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters) {
            INFO(parameter.name);
            const auto values = weights.at(parameter.name).values();
            const auto before = made.weights.at(parameter.name).values();
            if (parameter.learnable()) {
                REQUIRE(first.count(parameter.name) == 1);
                REQUIRE(first.at(parameter.name).shape() == parameter.shape);
                CHECK(test::normalised_squared_error(first.at(parameter.name), truth.gradients.at(parameter.name)) <=
                      1e-10);
            } else {
                CHECK(test::normalised_squared_error(weights.at(parameter.name), truth.parameters.at(parameter.name)) <=
                      1e-10);
            }
            if (parameter.learnable() || statistics == NormStatistics::running)
                CHECK(std::equal(values.begin(), values.end(), before.begin()));
        }
    // Nothing of the first step is left in the second; gradients take the place of those before.
    step();
    CHECK(test::same_bits(training.gradients(), first));
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
        const Setup made = setup(gradient_case.graph, gradient_case.name);
        for (const NormStatistics statistics : statistics_of(gradient_case.graph)) {
            INFO("running statistics: " << (statistics == NormStatistics::running));
            test::DoubleTraining training(gradient_case.graph, made.weights, made.input);
            training.forward(statistics);
            training.backward(made.cotangent);
            const auto loss = [&] { return dot(training.forward(statistics), made.cotangent); };
            CHECK(difference_error(training.input, training.input_gradient, 1e-5, loss) <= 1e-4);
            for (const Node& node : gradient_case.graph.nodes())
                for (const Parameter& parameter : node.parameters)
                    if (parameter.learnable()) {
                        INFO(parameter.name);
                        CHECK(difference_error(training.parameters.at(parameter.name),
                                               training.gradients.at(parameter.name), 1e-5, loss) <= 1e-4);
                    }
        }
    }
}

TEST_CASE("every backend that trains computes the forward, the running statistics and the gradients of every case") {
    for (const Backend* backend : test::training_backends()) {
        for (const auto& gradient_case : test::gradient_cases()) {
            INFO(backend->name() << ": " << gradient_case.name);
            const Graph& graph = gradient_case.graph;
            const Setup made = setup(graph, gradient_case.name);
            const auto training = test::compile_training(*backend, graph, made.weights, {.batch_norm_momentum = 0.25});
            REQUIRE(training->output().shape == graph.node(graph.outputs()[0]).shape);
            // Running statistics first: they leave themselves alone, so both have the same to start from.
            for (const NormStatistics statistics : statistics_of(graph))
                check_step(*training, graph, made, statistics);
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
                Doubles logits = random_doubles(static_cast<std::size_t>(shape.elements()), present + 7);
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
