// SPDX-License-Identifier: MIT
// The golden files in training mode: batch statistics, a loss, and its gradient by every parameter, computed in float32
// by independent PyTorch definitions.
//
// Batch normalisation over the few voxels of these small inputs amplifies rounding, and a ReLU whose input rounds to
// the other side of 0 changes the gradient of every layer before it, so the recorded numbers carry some. How much was
// measured with the PyTorch definitions that recorded them: run in float32 they give every recorded bit, run in float64
// they differ by what `Rounding` says. Our double precision has to be exactly as far from the recorded numbers as
// PyTorch's; a backend as near as the tolerance (output 1e-4, loss 1e-5, gradients 1e-3) or as a small multiple of what
// they are off.
#include "support/golden.h"
#include "support/network_runs.h"
#include "support/paths.h"
#include "support/training.h"

using namespace mfres;
using test::Doubles;

namespace {

/// How far PyTorch in float64 is from what it recorded in float32; of gradients the relative errors by parameter.
struct Rounding {
    double output;          ///< largest difference
    double middle_gradient; ///< median over parameters
    double worst_gradient;
    double whole_gradient; ///< of all parameters as one vector
};

/// mean over all elements of log_softmax(logits) * c, c of the logits' shape, and its gradient by the logits:
/// (c_k - p_k * sum over channels of c) / elements.
double mean_log_probability(const Shape& shape, const Doubles& logits, const Tensor& c, Doubles& gradient) {
    const auto count = static_cast<double>(shape.elements());
    const std::int64_t voxels = shape[2] * shape[3] * shape[4];
    double loss = 0.0;
    gradient.resize(logits.size());
    for (std::int64_t voxel = 0; voxel < shape[0] * voxels; ++voxel) {
        const std::int64_t first = voxel / voxels * shape[1] * voxels + voxel % voxels;
        double exponentials = 0.0;
        double factors = 0.0;
        for (std::int64_t i = first; i < first + shape[1] * voxels; i += voxels) {
            exponentials += std::exp(logits[static_cast<std::size_t>(i)]);
            factors += c[i];
        }
        for (std::int64_t i = first; i < first + shape[1] * voxels; i += voxels) {
            const double logit = logits[static_cast<std::size_t>(i)];
            loss += c[i] * (logit - std::log(exponentials)) / count;
            gradient[static_cast<std::size_t>(i)] = (c[i] - std::exp(logit) / exponentials * factors) / count;
        }
    }
    return loss;
}

double largest_difference(const Doubles& a, const Tensor& b) {
    REQUIRE(static_cast<std::int64_t>(a.size()) == b.elements());
    double most = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i)
        most = std::max(most, std::abs(a[i] - double{b[static_cast<std::int64_t>(i)]}));
    return most;
}

/// Relative errors of gradients against the recorded ones.
template <typename Gradients>
Rounding gradient_errors(const Gradients& gradients, const Weights& recorded) {
    Doubles errors;
    Doubles ours;
    Doubles theirs;
    for (const auto& [name, tensor] : recorded)
        if (name.rfind("grad.", 0) == 0) {
            INFO(name);
            REQUIRE(gradients.count(name.substr(5)) == 1);
            const Doubles& gradient = gradients.at(name.substr(5));
            errors.push_back(test::relative_error(gradient, tensor.values()));
            ours.insert(ours.end(), gradient.begin(), gradient.end());
            theirs.insert(theirs.end(), tensor.values().begin(), tensor.values().end());
        }
    REQUIRE(errors.size() > 100);
    std::sort(errors.begin(), errors.end());
    return {0.0, errors[errors.size() / 2], errors.back(), test::relative_error(ours, theirs)};
}

std::map<std::string, Doubles> as_doubles(const Weights& weights) {
    std::map<std::string, Doubles> all;
    for (const auto& [name, tensor] : weights)
        all[name] = test::doubles(tensor);
    return all;
}

void check_golden(const std::filesystem::path& path, const Rounding& rounding) {
    const auto golden = test::load_golden(path);
    REQUIRE_OK(golden);
    const Weights& recorded = golden->values;
    const Tensor& output = recorded.at("train.output");
    const Tensor& cotangent = recorded.at("train.cotangent");
    const double recorded_loss = recorded.at("train.loss")[0];

    test::DoubleTraining truth(golden->graph, golden->weights, recorded.at("input"));
    const Doubles logits = truth.forward();
    Doubles slopes;
    CHECK(std::abs(mean_log_probability(output.shape(), logits, cotangent, slopes) - recorded_loss) <= 1e-5);
    CHECK(largest_difference(logits, output) == Approx(rounding.output).epsilon(0.01));
    truth.backward(slopes);
    const Rounding of_truth = gradient_errors(truth.gradients, recorded);
    CHECK(of_truth.middle_gradient == Approx(rounding.middle_gradient).epsilon(0.01));
    CHECK(of_truth.worst_gradient == Approx(rounding.worst_gradient).epsilon(0.01));
    CHECK(of_truth.whole_gradient == Approx(rounding.whole_gradient).epsilon(0.01));

    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const auto training = test::compile_training(*backend, golden->graph, golden->weights);
        copy(view(recorded.at("input")), training->input());
        REQUIRE_OK(training->forward());
        const Doubles ours = test::doubles(test::dense(training->output()));
        CHECK(largest_difference(ours, output) <= std::max(1e-4, 2 * rounding.output));
        CHECK(std::abs(mean_log_probability(output.shape(), ours, cotangent, slopes) - recorded_loss) <= 1e-5);
        Tensor gradient(output.shape());
        std::transform(slopes.begin(), slopes.end(), gradient.data(), [](double v) { return static_cast<float>(v); });
        copy(as_const(view(gradient)), training->output_gradient());
        REQUIRE_OK(training->backward());
        const Rounding of_ours = gradient_errors(as_doubles(training->gradients()), recorded);
        CHECK(of_ours.middle_gradient <= std::max(1e-3, 2 * rounding.middle_gradient));
        CHECK(of_ours.whole_gradient <= std::max(1e-3, 4 * rounding.whole_gradient));
    }
}

} // namespace

TEST_CASE("every backend that trains reproduces the golden training step of mf-res2net") {
    if (const auto path = test::shared_data("data/golden/mf-res2net-small.safetensors"))
        check_golden(*path, {1.39740e-2, 8.84e-2, 0.547, 0.1001});
}

TEST_CASE("every backend that trains reproduces the golden training step of dmfnet") {
    if (const auto path = test::shared_data("data/golden/dmfnet-small.safetensors"))
        check_golden(*path, {9.589e-5, 1.264e-2, 0.1495, 1.210e-2});
}
