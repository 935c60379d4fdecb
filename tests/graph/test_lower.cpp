// SPDX-License-Identifier: MIT
// Lowered programs against the graphs they were made of, both executed in double precision.
#include "graph/lower.h"
#include "graph/rewrite.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/op_cases.h"
#include "support/run_graph.h"
#include "support/run_plain.h"

#include <set>

using namespace mfres;

namespace {

/// sum (a - b)^2 / sum b^2
double relative_error(const std::vector<double>& got, const std::vector<double>& truth) {
    REQUIRE(got.size() == truth.size());
    double difference = 0.0;
    double norm = 1e-300;
    for (std::size_t i = 0; i < got.size(); ++i) {
        difference += (got[i] - truth[i]) * (got[i] - truth[i]);
        norm += truth[i] * truth[i];
    }
    return difference / norm;
}

/// What the two lowerings promise about their steps: unique names, and no more than `axes` axes.
void check_form(const plain::Program& program, int axes) {
    std::set<std::string> names{program.input_name};
    for (std::size_t i = 0; i < program.steps.size(); ++i) {
        const plain::Step& step = program.steps[i];
        INFO(step.name);
        CHECK(names.insert(step.name).second);
        CHECK(step.shape.rank() <= axes);
        for (const plain::ValueId input : step.inputs)
            CHECK(input <= static_cast<plain::ValueId>(i));
    }
    std::set<std::string> constants;
    for (const plain::Constant& constant : program.constants) {
        INFO(constant.name);
        CHECK(constants.insert(constant.name).second);
    }
}

} // namespace

TEST_CASE("a program of volumes computes every op case") {
    for (const auto& op_case : test::op_cases()) {
        INFO(op_case.name);
        const Weights weights = test::random_weights(op_case.graph, 1);
        const Tensor input = test::random_tensor(op_case.graph.node(0).shape, 2);
        const auto program = lower_to_volumes(op_case.graph, weights);
        REQUIRE_OK(program);
        check_form(*program, 5);
        const auto outputs = test::PlainInterpreter(*program).run(input);
        REQUIRE(outputs.size() == 1);
        // Matrices of resampling are float constants, hence not the last digits of a double.
        CHECK(relative_error(outputs[0], test::run_double(op_case.graph, weights, input)) <= 1e-13);
    }
}

TEST_CASE("a program of planes computes every op case, with at most four axes inside") {
    int rejected = 0;
    for (const auto& op_case : test::op_cases()) {
        INFO(op_case.name);
        const Weights weights = test::random_weights(op_case.graph, 1);
        const Tensor input = test::random_tensor(op_case.graph.node(0).shape, 2);
        const auto planes = lower_to_planes(op_case.graph, weights);
        const auto& nodes = op_case.graph.nodes();
        if (std::any_of(nodes.begin(), nodes.end(),
                        [&](const Node& node) { return why_not_planes(op_case.graph, node).has_value(); })) {
            REQUIRE_CODE(planes, operation_unsupported);
            ++rejected;
            continue;
        }
        REQUIRE_OK(planes);
        check_form(*planes, 4);
        const auto program = lower_to_planes(op_case.graph, weights, Ends::volumes);
        REQUIRE_OK(program);
        check_form(*program, 5);
        CHECK(program->shape(program->outputs[0]) == op_case.graph.node(op_case.graph.outputs()[0]).shape);
        const auto outputs = test::PlainInterpreter(*program).run(input);
        CHECK(relative_error(outputs[0], test::run_double(op_case.graph, weights, input)) <= 1e-13);
    }
    CHECK(rejected == 6); // two transposed convolutions, and products that broadcast
}

TEST_CASE("a program keeps the parameters' names and all outputs") {
    GraphBuilder builder;
    const NodeId x = builder.input({1, 3, 4, 4, 6});
    const NodeId c = builder.conv("c", x, Conv{.out_channels = 2, .kernel = {1, 3, 3}, .padding = {0, 1, 1}});
    const NodeId n = builder.batch_norm("n", c);
    builder.output(n);
    builder.output(x);
    builder.output(c);
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    const Weights weights = test::random_weights(*graph, 3);
    for (const bool planes : {false, true}) {
        const auto program =
            planes ? lower_to_planes(*graph, weights, Ends::volumes) : lower_to_volumes(*graph, weights);
        REQUIRE_OK(program);
        std::set<std::string> names;
        for (const plain::Constant& constant : program->constants)
            names.insert(constant.name);
        for (const auto& [name, tensor] : weights)
            CHECK(names.count(name) == 1);
        const Tensor input = test::random_tensor(graph->node(0).shape, 4);
        const auto outputs = test::PlainInterpreter(*program).run(input);
        REQUIRE(outputs.size() == 3);
        CHECK(relative_error(outputs[0], test::run_double(*graph, weights, input)) <= 1e-13);
        CHECK(relative_error(outputs[1], {input.values().begin(), input.values().end()}) == 0.0);
    }
    Weights missing = weights;
    missing.erase("c.weight");
    REQUIRE_CODE(lower_to_planes(*graph, missing), model_tensor_missing);
    REQUIRE_CODE(lower_to_volumes(*graph, missing), model_tensor_missing);
}

TEST_CASE("k1 and k(1,3,3) convolutions move nothing in a program of planes") {
    GraphBuilder builder;
    const NodeId x = builder.input({1, 4, 6, 5, 7});
    const NodeId a = builder.conv("a", x, Conv{.out_channels = 8});
    builder.output(builder.conv("b", a, Conv{.out_channels = 8, .kernel = {1, 3, 3}, .padding = {0, 1, 1}}));
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    const auto program = lower_to_planes(*graph, test::random_weights(*graph, 1));
    REQUIRE_OK(program);
    REQUIRE(program->steps.size() == 2);
    CHECK(std::holds_alternative<plain::Conv>(program->steps[0].op));
    CHECK(std::holds_alternative<plain::Conv>(program->steps[1].op));
    CHECK(program->steps[1].shape == Shape{6, 8, 5, 7});
}
