// SPDX-License-Identifier: MIT
// One table of losses that every backend has to compute: each overlap loss with each rule, and every way in which the
// parts of a loss are put together.
#pragma once

#include "core/random.h"
#include "core/try.h"
#include "support/check_backend.h"
#include "support/rank_cases.h"
#include "support/training.h"
#include "train/loss.h"

#include <cmath>
#include <string>
#include <vector>

namespace mfres::test {

struct NamedLoss {
    std::string name;
    LossOptions options;
    DistillationLoss distillation{};
};

inline std::vector<NamedLoss> loss_cases() {
    std::vector<NamedLoss> cases;
    for (const LossDefinition& definition : loss_definitions())
        for (const Absent absent : absent_rules()) {
            const std::string loss(definition.name);
            cases.push_back({loss + "." + std::string(name(absent)), {.loss = loss, .absent = absent}});
        }
    const auto add = [&](const std::string& called, const char* loss, const auto& change) {
        LossOptions options{.loss = loss};
        change(options);
        cases.push_back({called, options});
    };
    using O = LossOptions;
    // clang-format off
    add("dice-ce.weights",    "dice-ce", [](O& o) { o.overlap_weight = 0.25; o.ce_weight = 3.0; });
    add("dice-ce.focal",      "dice-ce", [](O& o) { o.focal_gamma = 2.0; });
    add("dice-ce.focal-half", "dice-ce", [](O& o) { o.focal_gamma = 0.5; });
    add("dice-ce.topk",       "dice-ce", [](O& o) { o.top_share = 0.1; });
    add("dice-ce.focal-topk", "dice-ce", [](O& o) { o.focal_gamma = 1.5; o.top_share = 0.3; });
    add("dice-ce.inside",     "dice-ce", [](O& o) { o.background = false; });
    add("dice-ce.sample",     "dice-ce", [](O& o) { o.batch = false; });
    add("ce",                 "dice", [](O& o) { o.overlap_weight = 0.0; o.ce_weight = 1.0; });
    add("ce.topk",            "dice", [](O& o) { o.overlap_weight = 0.0; o.ce_weight = 1.0; o.top_share = 0.05; });
    add("tversky.ce",         "weighted-tversky", [](O& o) { o.ce_weight = 0.5; });
    add("tversky.inside",     "weighted-tversky", [](O& o) { o.background = false; });
    add("tversky.sample",     "tversky", [](O& o) { o.batch = false; o.background = false; });
    add("gdl.inside",         "gdl", [](O& o) { o.background = false; o.batch = false; o.ce_weight = 0.1; o.focal_gamma = 2.0; });
    add("focal-tversky.wide", "focal-tversky", [](O& o) { o.tversky_gamma = 3.0; o.background = false; o.batch = false; });
    add("focal.topk",         "focal", [](O& o) { o.focal_gamma = 1.0; o.top_share = 0.2; });
    add("dice.half",          "dice", [](O& o) { o.overlap_weight = 0.5; o.batch = false; });
    // clang-format on
    const LossOptions half{.loss = "dice-ce", .ce_weight = 0.5};
    cases.push_back({"distillation", half, {0.5, 1.0}});
    cases.push_back({"distillation.warm", half, {0.5, 3.0}});
    cases.push_back({"distillation.alone", {.batch = false, .overlap_weight = 1e-3, .ce_weight = 0.0}, {2.0, 0.5}});
    // The same with regions in place of classes.
    const std::size_t of_classes = cases.size();
    for (std::size_t i = 0; i < of_classes; ++i) {
        NamedLoss named = cases[i];
        named.name += ".regions";
        named.options.outputs = Outputs::regions;
        cases.push_back(named);
    }
    return cases;
}

/// Those for logits of so many channels.
inline std::vector<NamedLoss> loss_cases(Outputs outputs) {
    std::vector<NamedLoss> cases = loss_cases();
    std::erase_if(cases, [&](const NamedLoss& named) { return named.options.outputs != outputs; });
    return cases;
}

inline std::int64_t channels_of(Outputs outputs) {
    return outputs == Outputs::regions ? region_count : 4;
}

inline Loss loss_of(const LossOptions& options) {
    auto loss = make_loss(options);
    REQUIRE_OK(loss);
    return std::move(loss).value();
}

inline Loss loss_of(const NamedLoss& named) {
    Loss loss = loss_of(named.options);
    loss.distillation = named.distillation;
    return loss;
}

/// Random probabilities in the shape of logits, as targets of distillation.
inline Tensor random_targets(const Shape& shape, std::uint64_t seed) {
    Tensor targets = random_tensor(shape, seed);
    const auto values = view(targets);
    for (std::int64_t n = 0; n < shape[0]; ++n)
        for (std::int64_t x = 0; x < shape[2]; ++x)
            for (std::int64_t y = 0; y < shape[3]; ++y)
                for (std::int64_t z = 0; z < shape[4]; ++z) {
                    float sum = 0.0F;
                    for (std::int64_t c = 0; c < shape[1]; ++c)
                        sum += values.at(n, c, x, y, z) = std::exp(2.0F * values.at(n, c, x, y, z));
                    for (std::int64_t c = 0; c < shape[1]; ++c)
                        values.at(n, c, x, y, z) /= sum;
                }
    return targets;
}

inline void fill_targets(TrainingExecutable& training, const Tensor& targets) {
    const auto to = training.targets();
    REQUIRE_OK(to);
    copy(view(targets), *to);
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

/// Every loss of the table for such outputs and its gradients against double precision.
inline void check_losses(const Backend& backend, Outputs outputs) {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{2, 4, 5, 3, 7});
    builder.output(builder.conv("head", x, Conv{.out_channels = channels_of(outputs)}));
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
    const Tensor targets = random_targets(shape, 8);
    const Doubles exact_targets = doubles(targets);
    for (const NamedLoss& named : loss_cases(outputs))
        for (const std::uint64_t present : {4U, 3U, 1U}) {
            INFO(named.name << ", " << present);
            const Loss loss = loss_of(named);
            if (loss.distillation.weight > 0.0)
                fill_targets(*training, targets);
            const auto classes = random_classes(shape, present, present);
            Doubles gradient(logits.size());
            const auto expected = reference::loss_and_gradient(shape, logits.data(), classes, loss, gradient.data(), 2,
                                                               single_rank(), exact_targets.data());
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

/// The same for all outputs.
inline void check_losses(const Backend& backend) {
    for (const Outputs outputs : {Outputs::classes, Outputs::regions})
        check_losses(backend, outputs);
}

/// Every loss of the table for such outputs on `size` ranks with two samples each: value and gradient of the whole batch.
inline void check_losses_on_ranks(const Backend& backend, int size, Outputs outputs) {
    const std::int64_t channels = channels_of(outputs);
    const Graph own = identity_graph(Shape{2, channels, 5, 3, 7});
    const Shape whole{2 * size, channels, 5, 3, 7};
    const Tensor logits = random_tensor(whole, 6);
    const auto classes = random_classes(whole, 7, 3);
    const std::size_t voxels = classes.size() / static_cast<std::size_t>(size);
    const Tensor targets = random_targets(whole, 8);
    const Doubles exact_targets = doubles(targets);
    for (const NamedLoss& named : loss_cases(outputs)) {
        INFO(backend.name() << " on " << size << " ranks: " << named.name);
        const Loss loss = loss_of(named);
        Doubles gradient(doubles(logits).size());
        const auto expected = reference::loss_and_gradient(whole, doubles(logits).data(), classes, loss,
                                                           gradient.data(), 1, single_rank(), exact_targets.data());
        REQUIRE_OK(expected);
        std::vector<double> values(static_cast<std::size_t>(size));
        std::vector<Tensor> gradients(static_cast<std::size_t>(size));
        require_on_ranks(size, [&](Communicator& ranks) -> Status {
            const auto rank = static_cast<std::size_t>(ranks.rank());
            MFRES_TRY(const auto training,
                      backend.compile_training(own, identity_weights(own), {.threads = 1, .ranks = &ranks}));
            fill(training->input(), part_of(logits, ranks));
            if (loss.distillation.weight > 0.0) {
                MFRES_TRY(const StridedView<float> to, training->targets());
                fill(to, part_of(targets, ranks));
            }
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

/// The same for all outputs.
inline void check_losses_on_ranks(const Backend& backend, int size) {
    for (const Outputs outputs : {Outputs::classes, Outputs::regions})
        check_losses_on_ranks(backend, size, outputs);
}

/// A graph with logits at full, half and a quarter of the resolution, as deep supervision has them; the map at half of
/// it is read by two heads and by what follows.
inline Graph graph_of_three_outputs(std::int64_t batch, std::int64_t channels = 4) {
    GraphBuilder builder;
    const Conv down{.out_channels = 6, .kernel = {3, 3, 3}, .stride = {2, 2, 2}, .padding = {1, 1, 1}};
    const NodeId x = builder.input(Shape{batch, 3, 8, 12, 4});
    const NodeId half = builder.relu("r1", builder.batch_norm("n1", builder.conv("c1", x, down)));
    const NodeId quarter = builder.relu("r2", builder.batch_norm("n2", builder.conv("c2", half, down)));
    const NodeId up = builder.sum("s", {builder.upsample2("up1", quarter), half});
    const NodeId full = builder.upsample2("up2", up);
    builder.output(builder.conv("head", full, Conv{.out_channels = channels, .bias = true}));
    builder.output(builder.conv("head2", up, Conv{.out_channels = channels}));
    builder.output(builder.conv("head4", quarter, Conv{.out_channels = channels}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

/// The loss on several outputs, the gradient of each, and those of all parameters, against double precision.
inline void check_several_outputs(const Backend& backend, Outputs outputs, const TrainingOptions& options) {
    const Graph graph = graph_of_three_outputs(2, channels_of(outputs));
    const Weights weights = random_weights(graph, 3);
    const Tensor input = random_tensor(graph.node(0).shape, 4);
    DoubleTraining truth(graph, weights, input);
    truth.forward();
    const Shape& first = graph.node(graph.outputs()[0]).shape;
    const auto classes = random_classes(first, 5, 4);
    const Tensor targets = random_targets(first, 6);
    const Doubles exact_targets = doubles(targets);
    const auto training = compile_training(backend, graph, weights, options);
    REQUIRE(training->outputs() == 3);
    copy(view(input), training->input());
    for (const NamedLoss& named : loss_cases(outputs)) {
        INFO(named.name);
        Loss loss = loss_of(named);
        if (loss.distillation.weight > 0.0)
            fill_targets(*training, targets);
        REQUIRE_CODE(training->loss(classes, loss), invalid_argument); // it has no weights for three outputs
        loss.output_weights = {0.5, 0.3, 0.2};
        double expected = 0.0;
        std::vector<Doubles> gradients;
        for (std::size_t k = 0; k < 3; ++k) {
            const Shape& shape = graph.node(graph.outputs()[k]).shape;
            std::vector<std::uint8_t> own;
            const std::int64_t n = first[2] / shape[2];
            for (std::int64_t i = 0; i < first.elements() / first[1]; ++i)
                if (i % first[4] % n == 0 && i / first[4] % first[3] % n == 0 &&
                    i / first[4] / first[3] % first[2] % n == 0)
                    own.push_back(classes[static_cast<std::size_t>(i)]);
            Loss of_output = loss_of(named);
            if (k > 0) { // the teachers' share goes to the labels
                of_output.pointwise.weight += of_output.distillation.weight;
                of_output.distillation.weight = 0.0;
            }
            Doubles& gradient = gradients.emplace_back(static_cast<std::size_t>(shape.elements()));
            const auto value =
                reference::loss_and_gradient(shape, truth.value(graph.outputs()[k]).data(), own, of_output,
                                             gradient.data(), 2, single_rank(), exact_targets.data());
            REQUIRE_OK(value);
            expected += loss.output_weights[k] * *value;
            for (double& slope : gradient)
                slope *= loss.output_weights[k];
        }
        REQUIRE_OK(training->forward());
        const auto value = training->loss(classes, loss);
        REQUIRE_OK(value);
        CHECK(*value == Approx(expected).margin(1e-6));
        for (std::size_t k = 0; k < 3; ++k) {
            INFO("output " << k);
            CHECK(relative_error(dense(training->output(k)).values(), truth.value(graph.outputs()[k])) <= 1e-4);
            CHECK(relative_error(dense(as_const(training->output_gradient(k))).values(), gradients[k]) <= 1e-3);
        }
        REQUIRE_OK(training->backward());
        truth.backward(gradients);
        for (const auto& [name, gradient] : training->gradients()) {
            INFO(name);
            if (truth.gradients.at(name) != Doubles(truth.gradients.at(name).size()))
                CHECK(relative_error(gradient.values(), truth.gradients.at(name)) <= 1e-3);
        }
    }
}

/// The same for classes and regions.
inline void check_several_outputs(const Backend& backend, const TrainingOptions& options = {}) {
    for (const Outputs outputs : {Outputs::classes, Outputs::regions})
        check_several_outputs(backend, outputs, options);
}

/// The same where activations are computed a second time.
inline void check_several_outputs_again(const Backend& backend) {
    const Graph graph = graph_of_three_outputs(2);
    const Weights weights = random_weights(graph, 3);
    const std::int64_t most = compile_training(backend, graph, weights)->peak_bytes();
    const std::int64_t least = least_memory_cap(backend, graph, weights, {}, most);
    REQUIRE(least < most);
    check_several_outputs(backend, Outputs::classes, {.memory_cap = least});
}

} // namespace mfres::test
