// SPDX-License-Identifier: MIT
#include "support/catch.h"
#include "support/check_backend.h"
#include "support/op_cases.h"
#include "support/run_graph.h"

#include <algorithm>
#include <set>

using namespace mfres;

TEST_CASE("the op-case table has at least 200 rows and every operation") {
    const auto cases = test::op_cases();
    CHECK(cases.size() >= 200);
    std::set<OpKind> kinds;
    std::set<std::string> names;
    for (const auto& op_case : cases) {
        CHECK(names.insert(op_case.name).second);
        for (const Node& node : op_case.graph.nodes())
            kinds.insert(node.kind());
    }
    CHECK(kinds.size() == std::variant_size_v<Op>);
}

TEST_CASE("every backend computes every op case") {
    for (const Backend* backend : test::usable_backends()) {
        for (const auto& op_case : test::op_cases()) {
            INFO(backend->name() << ": " << op_case.name);
            test::check_op_case(*backend, op_case);
        }
    }
}

TEST_CASE("short list: every operation once on every backend, forward and backward") {
    // Small enough for tools that watch every access to memory.
    const auto training = test::training_backends();
    for (const Backend* backend : test::usable_backends()) {
        std::set<OpKind> seen;
        const auto is_new = [&](const Graph& graph) {
            bool found = false;
            for (const Node& node : graph.nodes())
                found = seen.insert(node.kind()).second || found;
            return found;
        };
        for (const auto& op_case : test::op_cases())
            if (is_new(op_case.graph)) {
                INFO(backend->name() << ": " << op_case.name);
                test::check_op_case(*backend, op_case);
            }
        seen.clear();
        if (std::find(training.begin(), training.end(), backend) == training.end())
            continue;
        for (const auto& gradient_case : test::gradient_cases())
            if (is_new(gradient_case.graph)) {
                INFO(backend->name() << ": " << gradient_case.name);
                test::check_gradient_case(*backend, gradient_case);
            }
    }
}

TEST_CASE("a NaN among the weights' products reaches the logits") {
    // ReLU is where engines differ: max(NaN, 0) is 0 on x86. The reference keeps NaN; for the others what counts is
    // that a convolution, the last operation of every network, does.
    for (const Backend* backend : test::usable_backends()) {
        for (const auto& op_case : test::op_cases()) {
            if (backend->name() != "reference" && op_case.name.rfind("conv to", 0) != 0)
                continue;
            INFO(backend->name() << ": " << op_case.name);
            const Weights weights = test::random_weights(op_case.graph, 1);
            Tensor input = test::random_tensor(op_case.graph.node(0).shape, 2);
            for (float& value : input.values())
                value = std::nanf("");
            const auto output = test::run(*backend, op_case.graph, weights, input);
            REQUIRE_OK(output);
            CHECK(std::any_of(output->values().begin(), output->values().end(),
                              [](float value) { return std::isnan(value); }));
        }
    }
}
