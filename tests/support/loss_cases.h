// One table of losses that every backend has to compute: each overlap loss with each rule, and every way in which the
// parts of a loss are put together.
#pragma once

#include "core/random.h"
#include "core/try.h"
#include "support/check_backend.h"
#include "support/rank_cases.h"
#include "support/training.h"
#include "train/loss.h"

#include <string>
#include <vector>

namespace mfres::test {

struct NamedLoss {
    std::string name;
    LossOptions options;
};

inline std::vector<NamedLoss> loss_cases() {
    std::vector<NamedLoss> cases;
    for (const LossKind kind : loss_kinds())
        for (const Absent absent : absent_rules())
            cases.push_back(
                {std::string(name(kind)) + "." + std::string(name(absent)), {.kind = kind, .absent = absent}});
    const auto add = [&](const std::string& called, LossKind kind, const auto& change) {
        LossOptions options{.kind = kind};
        change(options);
        cases.push_back({called, options});
    };
    using O = LossOptions;
    // clang-format off
    add("dice-ce.weights",    LossKind::dice_ce, [](O& o) { o.overlap_weight = 0.25; o.ce_weight = 3.0; });
    add("dice-ce.focal",      LossKind::dice_ce, [](O& o) { o.focal_gamma = 2.0; });
    add("dice-ce.focal-half", LossKind::dice_ce, [](O& o) { o.focal_gamma = 0.5; });
    add("dice-ce.topk",       LossKind::dice_ce, [](O& o) { o.top_share = 0.1; });
    add("dice-ce.focal-topk", LossKind::dice_ce, [](O& o) { o.focal_gamma = 1.5; o.top_share = 0.3; });
    add("dice-ce.inside",     LossKind::dice_ce, [](O& o) { o.background = false; });
    add("dice-ce.sample",     LossKind::dice_ce, [](O& o) { o.batch = false; });
    add("ce",                 LossKind::dice, [](O& o) { o.overlap_weight = 0.0; o.ce_weight = 1.0; });
    add("ce.topk",            LossKind::dice, [](O& o) { o.overlap_weight = 0.0; o.ce_weight = 1.0; o.top_share = 0.05; });
    add("tversky.ce",         LossKind::weighted_tversky, [](O& o) { o.ce_weight = 0.5; });
    add("tversky.inside",     LossKind::weighted_tversky, [](O& o) { o.background = false; });
    add("tversky.sample",     LossKind::tversky, [](O& o) { o.batch = false; o.background = false; });
    add("gdl.inside",         LossKind::gdl, [](O& o) { o.background = false; o.batch = false; o.ce_weight = 0.1; o.focal_gamma = 2.0; });
    add("dice.half",          LossKind::dice, [](O& o) { o.overlap_weight = 0.5; o.batch = false; });
    // clang-format on
    return cases;
}

inline Loss loss_of(const LossOptions& options) {
    auto loss = make_loss(options);
    REQUIRE_OK(loss);
    return std::move(loss).value();
}

/// One random class below `present` for each voxel.
inline std::vector<std::uint8_t> random_classes(const Shape& logits, std::uint64_t seed, std::uint64_t present) {
    Random random(seed);
    std::vector<std::uint8_t> classes(static_cast<std::size_t>(logits.elements() / logits[1]));
    for (auto& value : classes)
        value = static_cast<std::uint8_t>(random.below(present));
    return classes;
}

/// A graph whose output is its input, through a learnable layer that changes nothing.
inline Graph identity_graph(const Shape& shape) {
    GraphBuilder builder;
    builder.output(builder.conv("same", builder.input(shape), Conv{.out_channels = shape[1]}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

inline Weights identity_weights(const Graph& graph) {
    Tensor weight(graph.node(1).parameters[0].shape, 0.0F);
    for (std::int64_t c = 0; c < weight.shape()[0]; ++c)
        weight[c * weight.shape()[1] + c] = 1.0F;
    return {{"same.weight", weight}};
}

/// Every loss of the table and its gradients against double precision.
inline void check_losses(const Backend& backend) {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{2, 4, 5, 3, 7});
    builder.output(builder.conv("head", x, Conv{.out_channels = 4}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    const Weights weights = random_weights(*graph, 3);
    const Tensor input = random_tensor(graph->node(0).shape, 4);
    const Shape& shape = graph->node(1).shape;
    DoubleTraining truth(*graph, weights, input);
    const Doubles logits = truth.forward();
    const auto training = compile_training(backend, *graph, weights);
    copy(view(input), training->input());
    REQUIRE_OK(training->forward());
    for (const auto& [called, options] : loss_cases())
        for (const std::uint64_t present : {4U, 3U, 1U}) {
            INFO(called << ", " << present);
            const Loss loss = loss_of(options);
            const auto classes = random_classes(shape, present, present);
            Doubles gradient(logits.size());
            const auto expected = reference::loss_and_gradient(shape, logits.data(), classes, loss, gradient.data(), 2);
            REQUIRE_OK(expected);
            const auto value = training->loss(classes, loss);
            REQUIRE_OK(value);
            CHECK(*value == Approx(*expected).margin(1e-6));
            CHECK(normalised_squared_error(dense(as_const(training->output_gradient())), gradient) <= 1e-10);
            REQUIRE_OK(training->backward());
            truth.backward(gradient);
            CHECK(normalised_squared_error(training->gradients().at("head.weight"),
                                           truth.gradients.at("head.weight")) <= 1e-9);
        }
}

/// Every loss of the table on `size` ranks with two samples each: value and gradient of the whole batch.
inline void check_losses_on_ranks(const Backend& backend, int size) {
    const Graph own = identity_graph(Shape{2, 4, 5, 3, 7});
    const Shape whole{2 * size, 4, 5, 3, 7};
    const Tensor logits = random_tensor(whole, 6);
    const auto classes = random_classes(whole, 7, 3);
    const std::size_t voxels = classes.size() / static_cast<std::size_t>(size);
    for (const auto& [called, options] : loss_cases()) {
        INFO(backend.name() << " on " << size << " ranks: " << called);
        const Loss loss = loss_of(options);
        Doubles gradient(doubles(logits).size());
        const auto expected =
            reference::loss_and_gradient(whole, doubles(logits).data(), classes, loss, gradient.data(), 1);
        REQUIRE_OK(expected);
        std::vector<double> values(static_cast<std::size_t>(size));
        std::vector<Tensor> gradients(static_cast<std::size_t>(size));
        require_on_ranks(size, [&](Communicator& ranks) -> Status {
            const auto rank = static_cast<std::size_t>(ranks.rank());
            MFRES_TRY(const auto training,
                      backend.compile_training(own, identity_weights(own), {.threads = 1, .ranks = &ranks}));
            fill(training->input(), part_of(logits, ranks));
            MFRES_CHECK(training->forward());
            MFRES_TRY(values[rank], training->loss(std::span(classes).subspan(rank * voxels, voxels), loss));
            gradients[rank] = dense(as_const(training->output_gradient()));
            return {};
        });
        for (std::size_t rank = 0; rank < values.size(); ++rank) {
            CHECK(values[rank] == Approx(*expected).margin(1e-6));
            CHECK(values[rank] == values[0]);
            const std::size_t part = gradient.size() / values.size();
            const Doubles of_rank(gradient.begin() + static_cast<std::ptrdiff_t>(rank * part),
                                  gradient.begin() + static_cast<std::ptrdiff_t>((rank + 1) * part));
            CHECK(normalised_squared_error(gradients[rank], of_rank) <= 1e-10);
        }
    }
}

} // namespace mfres::test
