#include "support/catch.h"
#include "support/op_cases.h"
#include "support/run_graph.h"

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
    for (const Backend* backend : backends()) {
        for (const auto& op_case : test::op_cases()) {
            INFO(backend->name() << ": " << op_case.name);
            const std::uint64_t seed = test::hash(op_case.name);
            const Weights weights = test::random_weights(op_case.graph, seed);
            const Tensor input = test::random_tensor(op_case.graph.node(0).shape, seed + 1);
            REQUIRE(backend->unsupported(op_case.graph, {}).empty());
            auto executable = backend->compile(op_case.graph, weights, {});
            REQUIRE_OK(executable);
            const auto truth = test::run_double(op_case.graph, weights, input);
            const auto first = test::run(**executable, input);
            REQUIRE_OK(first);
            CHECK(test::normalised_squared_error(*first, truth) <= 1e-10);
            // The input memory may be reused by run(); a second run from a fresh input must give the same bits.
            const auto second = test::run(**executable, input);
            REQUIRE_OK(second);
            CHECK(std::equal(first->values().begin(), first->values().end(), second->values().begin()));
        }
    }
}

TEST_CASE("a NaN among the weights' products reaches the logits") {
    // ReLU is where engines differ: max(NaN, 0) is 0 on x86. The reference keeps NaN; for the others what counts is
    // that a convolution, the last operation of every network, does.
    for (const Backend* backend : backends()) {
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
