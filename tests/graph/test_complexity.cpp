// SPDX-License-Identifier: MIT
// The three counting conventions, operation by operation, against numbers worked out by hand.
#include "graph/complexity.h"
#include "support/catch.h"
#include "support/graphs.h"

using namespace mfres;
using test::finished;

namespace {

/// Counts of the last node of a graph whose input is [2, 6, 4, 5, 8] (1920 elements).
template <typename Build>
ComplexityCounts counts_of(const Build& build, SeenByTable2 seen = nullptr) {
    GraphBuilder builder;
    const NodeId input = builder.input({2, 6, 4, 5, 8});
    const NodeId last = build(builder, input);
    const auto counts = count_operations(finished(builder, last), seen);
    REQUIRE_OK(counts);
    return counts->nodes.back();
}

void check_counts(const ComplexityCounts& counts, const ComplexityCounts& expected) {
    CHECK(counts.learnables == expected.learnables);
    CHECK(counts.macs == expected.macs);
    CHECK(counts.table2_flops == expected.table2_flops);
    CHECK(counts.eq11_parameters == expected.eq11_parameters);
    CHECK(counts.eq13_flops == expected.eq13_flops);
    CHECK(counts.activation_bytes == expected.activation_bytes);
}

bool sees_no_conv(const Node& node) {
    return node.kind() != OpKind::conv;
}

} // namespace

TEST_CASE("a convolution counts as the formulas say") {
    // 6 -> 9 channels in 3 groups, kernel 3x2x1, stride 2 along x, no padding: output 2x9x1x4x8 = 576 elements.
    // Window: 6 / 3 * 3 * 2 * 1 = 12 weights, 12 * 9 = 108 in all; MACs 12 * 576 = 6912.
    Conv conv{9, {3, 2, 1}, {2, 1, 1}, {1, 1, 1}, {0, 0, 0}, 3, false};
    const auto plain = counts_of([&](GraphBuilder& b, NodeId x) { return b.conv("n", x, conv); });
    check_counts(plain, {108, 6912, 6912, 117, 13824, 2304});
    conv.bias = true;
    const auto biased = counts_of([&](GraphBuilder& b, NodeId x) { return b.conv("n", x, conv); });
    check_counts(biased, {117, 6912, 6912 + 576, 117, 13824, 2304});
    const auto unseen = counts_of([&](GraphBuilder& b, NodeId x) { return b.conv("n", x, conv); }, sees_no_conv);
    check_counts(unseen, {117, 6912, 0, 117, 13824, 2304});
}

TEST_CASE("every other operation counts as the table says") {
    using B = GraphBuilder;
    check_counts(counts_of([](B& b, NodeId x) { return b.batch_norm("n", x); }), {12, 0, 1920, 0, 0, 7680});
    check_counts(counts_of([](B& b, NodeId x) { return b.instance_norm("n", x); }), {12, 0, 1920, 0, 0, 7680});
    check_counts(counts_of([](B& b, NodeId x) { return b.relu("n", x); }), {0, 0, 1920, 0, 0, 7680});
    check_counts(counts_of([](B& b, NodeId x) { return b.leaky_relu("n", x, 0.01); }), {0, 0, 1920, 0, 0, 7680});
    check_counts(counts_of([](B& b, NodeId x) { return b.max_pool("n", x); }),
                 {0, 0, 1920, 0, 0, 2 * 6 * 2 * 2 * 4 * 4});
    check_counts(counts_of([](B& b, NodeId x) { return b.upsample2("n", x); }), {0, 0, 8 * 1920, 0, 0, 8 * 7680});
    check_counts(counts_of([](B& b, NodeId x) { return b.sum("n", {x, x}); }), {0, 0, 0, 0, 0, 7680});
    check_counts(counts_of([](B& b, NodeId x) { return b.scaled_add("n", {x, x, x}); }), {3, 0, 0, 0, 0, 7680});
    check_counts(counts_of([](B& b, NodeId x) { return b.concat("n", {x, x}); }), {0, 0, 0, 0, 0, 15360});
    check_counts(counts_of([](B& b, NodeId x) { return b.slice("n", x, 0, 2); }), {0, 0, 0, 0, 0, 2560});
    check_counts(counts_of([](B& b, NodeId x) { return b.softmax("n", x); }), {0, 0, 0, 0, 0, 7680});
    check_counts(counts_of([](B&, NodeId x) { return x; }), {0, 0, 0, 0, 0, 7680});
}

TEST_CASE("an adaptive pooling has a count only where the Table 2 counter did not see it") {
    GraphBuilder seen;
    NodeId x = seen.input({1, 2, 8, 8, 8});
    const auto rejected = count_operations(finished(seen, seen.adaptive_avg_pool("pool", x, {3, 3, 3})));
    REQUIRE_CODE(rejected, operation_unsupported);
    CHECK(rejected.error().where == "pool");

    GraphBuilder unseen;
    x = unseen.input({1, 2, 8, 8, 8});
    const auto counted = count_operations(finished(unseen, unseen.adaptive_avg_pool("pool", x, {3, 3, 3})),
                                          [](const Node& node) { return node.kind() != OpKind::adaptive_avg_pool; });
    REQUIRE_OK(counted);
    check_counts(counted->nodes.back(), {0, 0, 0, 0, 0, 2 * 27 * 4});
}

TEST_CASE("a count that leaves 64 bits is an error, not a wrong number") {
    GraphBuilder one;
    NodeId x = one.input({1, 1, 8192, 8192, 8192});
    Conv conv{1, {1023, 1023, 1023}, {1, 1, 1}, {1, 1, 1}, {511, 511, 511}, 1, false};
    const auto product = count_operations(finished(one, one.conv("huge", x, conv)));
    REQUIRE_CODE(product, size_overflow);
    CHECK(product.error().where == "huge");

    // Each layer has 2^39 * 201^3 < 2^62 MACs, several of them together do not fit.
    GraphBuilder many;
    x = many.input({1, 1, 8192, 8192, 8192});
    conv.kernel = {201, 201, 201};
    conv.padding = {100, 100, 100};
    for (int i = 0; i < 3; ++i)
        x = many.conv("layer" + std::to_string(i), x, conv);
    const auto sum = count_operations(finished(many, x));
    REQUIRE_CODE(sum, size_overflow);
    CHECK(sum.error().where == "layer1");

    // Weights alone: 2^31 channels in and out.
    GraphBuilder wide;
    x = wide.input({1, std::int64_t{1} << 31, 1, 1, 1});
    Conv dense{std::int64_t{1} << 31, {7, 7, 7}, {1, 1, 1}, {1, 1, 1}, {3, 3, 3}, 1, false};
    REQUIRE_CODE(count_operations(finished(wide, wide.conv("dense", x, dense))), size_overflow);
}

TEST_CASE("totals are the sums of the nodes") {
    GraphBuilder builder;
    NodeId x = builder.input({1, 2, 4, 4, 4});
    x = builder.conv("a", x, Conv{4, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, 1, true});
    x = builder.relu("b", builder.batch_norm("c", x));
    const auto counts = count_operations(finished(builder, x));
    REQUIRE_OK(counts);
    REQUIRE(counts->nodes.size() == 4);
    // Weights 2 * 27 * 4 = 216, bias 4, norm 8. MACs 54 * 4 * 64 = 13824; bias, norm and ReLU 256 each.
    check_counts(counts->total, {228, 13824, 13824 + 3 * 256, 220, 27648, (128 + 3 * 256) * 4});
}

TEST_CASE("planned activations of a chain are two neighbours at a time") {
    // Three convolutions of equal size: input and output of one layer are alive together, nothing else.
    GraphBuilder builder;
    NodeId x = builder.input({1, 4, 16, 16, 16});
    const Conv conv{4, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, 1, false};
    for (const char* name : {"a", "b", "c"})
        x = builder.relu(std::string(name) + ".relu",
                         builder.batch_norm(std::string(name) + ".bn", builder.conv(name, x, conv)));
    const ActivationMemory memory = plan_activations(finished(builder, x));
    const std::int64_t map = 4 * 16 * 16 * 16 * 4;
    CHECK(memory.lower_bound == 2 * map);
    CHECK(memory.planned == 2 * map);
}
