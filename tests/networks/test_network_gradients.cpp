// SPDX-License-Identifier: MIT
// One whole training step's loss and gradients of every registered network, on every backend that trains, against
// double precision. Narrow variants with the full networks' structure; tests/train/test_torch.cpp has a full one.
#include "networks/registry.h"
#include "support/network_runs.h"
#include "support/training.h"
#include "train/loss.h"

#include <set>

using namespace mfres;
using test::Doubles;

namespace {

struct NetworkCase {
    std::string json;
    Axes size;
    std::int64_t batch;
};

const std::vector<NetworkCase>& network_cases() {
    static const std::vector<NetworkCase> cases{
        {R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})", {32, 16, 32}, 2},
        {R"({"network": "3d-espnet", "widths": [4, 4, 8, 8], "spatial_kernels": [3, 5, 7, 9]})", {16, 16, 32}, 2},
        {R"({"network": "dmfnet", "n": 8, "channels": 16, "groups": 4})", {32, 16, 32}, 2},
        {R"({"network": "mfnet-96", "n": 8, "channels": 12, "groups": 4})", {32, 16, 32}, 2},
        {R"({"network": "mfnet-112", "n": 8, "channels": 16, "groups": 2})", {32, 16, 32}, 2},
        {R"({"network": "mfnet-128", "n": 4, "channels": 16, "groups": 4})", {32, 16, 32}, 2},
        {R"({"network": "3d-unet", "widths": [4, 6, 8, 16]})", {16, 16, 24}, 2},
        {R"({"network": "3d-unetpp", "widths": [2, 3, 4, 6, 8]})", {16, 16, 32}, 2},
        {R"({"network": "no-new-net", "widths": [3, 6, 12, 16, 20]})", {16, 32, 32}, 2},
        {R"({"network": "no-new-net-as-counted", "widths": [4, 6, 8, 12, 16]})", {32, 32, 16}, 2},
    };
    return cases;
}

/// Weak residual branches keep rounding from growing layer by layer, see tests/train/test_torch.cpp.
Weights well_conditioned_weights(const Graph& graph) {
    Weights weights = test::random_weights(graph, 1);
    for (auto& [name, tensor] : weights)
        if (name.find(".fuse2.bn.weight") != std::string::npos)
            for (float& value : tensor.values())
                value *= 0.1F;
    return weights;
}

double squared_norm(const Doubles& values) {
    double sum = 0.0;
    for (const double value : values)
        sum += value * value;
    return sum;
}

/// Half of the parameters to 1e-3, all to 3e-2: rounding can put the input of a ReLU on the other side of 0, which
/// changes the gradients of all layers before it. A gradient that is zero in truth, of a bias before a normalisation
/// say, may be 1e-5 of the whole.
void check_gradients(const Weights& gradients, const std::map<std::string, Doubles>& truth) {
    double whole = 0.0;
    for (const auto& [name, wanted] : truth)
        whole += squared_norm(wanted);
    Doubles errors;
    for (const auto& [name, gradient] : gradients) {
        INFO(name);
        const Doubles& wanted = truth.at(name);
        Doubles difference = test::doubles(gradient);
        for (std::size_t i = 0; i < wanted.size(); ++i)
            difference[i] -= wanted[i];
        const double norm = std::sqrt(squared_norm(wanted)) + 1e-5 * std::sqrt(whole) / 3e-2;
        errors.push_back(std::sqrt(squared_norm(difference)) / norm);
        CHECK(errors.back() <= 3e-2);
    }
    std::sort(errors.begin(), errors.end());
    REQUIRE_FALSE(errors.empty());
    CHECK(errors[errors.size() / 2] <= 1e-3);
}

} // namespace

TEST_CASE("the network-gradient table has every registered network") {
    std::set<std::string> found;
    for (const NetworkCase& network_case : network_cases()) {
        const auto variant = parse_variant(network_case.json);
        REQUIRE_OK(variant);
        for (const std::string& name : network_names())
            if (network_case.json.find('"' + name + '"') != std::string::npos)
                found.insert(name);
    }
    CHECK(found.size() == network_names().size());
}

TEST_CASE("every backend that trains has the loss and the gradients of every network") {
    for (const NetworkCase& network_case : network_cases()) {
        const auto variant = parse_variant(network_case.json);
        REQUIRE_OK(variant);
        const auto graph = build_network(*variant, network_case.size, network_case.batch);
        REQUIRE_OK(graph);
        const Weights weights = well_conditioned_weights(*graph);
        const Tensor input = test::random_tensor(graph->node(0).shape, 2);
        const Shape& output = graph->node(graph->outputs()[0]).shape;
        std::vector<std::uint8_t> classes(static_cast<std::size_t>(output.elements() / output[1]));
        Random random(3);
        for (auto& value : classes)
            value = static_cast<std::uint8_t>(random.below(4));
        const auto loss = make_loss({});
        REQUIRE_OK(loss);

        test::DoubleTraining truth(*graph, weights, input);
        const Doubles logits = truth.forward();
        Doubles slopes(logits.size());
        const auto expected = reference::loss_and_gradient(output, logits.data(), classes, *loss, slopes.data(), 2);
        REQUIRE_OK(expected);
        truth.backward(slopes);

        for (const Backend* backend : test::training_backends()) {
            INFO(backend->name() << ": " << network_case.json);
            const auto training = test::compile_training(*backend, *graph, weights, {.threads = 1});
            copy(view(input), training->input());
            REQUIRE_OK(training->forward());
            CHECK(test::relative_error(test::dense(training->output()).values(), logits) <= 1e-4);
            const auto value = training->loss(classes, *loss);
            REQUIRE_OK(value);
            CHECK(std::abs(*value - *expected) <= 1e-5);
            REQUIRE_OK(training->backward());
            check_gradients(training->gradients(), truth.gradients);
        }
    }
}
