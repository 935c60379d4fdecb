// The golden files in training mode: batch statistics, a loss, and its gradient by every parameter, computed by
// independent PyTorch definitions.
#include "support/golden.h"
#include "support/network_runs.h"
#include "support/paths.h"
#include "support/training.h"

using namespace mfres;

namespace {

/// mean over all elements of log_softmax(logits) * c, c of the logits' shape, and its gradient by the logits:
/// (c_k - p_k * sum over channels of c) / elements.
double mean_log_probability(const Tensor& logits, const Tensor& c, Tensor& gradient) {
    const Shape& shape = logits.shape();
    const auto count = static_cast<double>(shape.elements());
    const std::int64_t voxels = shape[2] * shape[3] * shape[4];
    double loss = 0.0;
    for (std::int64_t voxel = 0; voxel < shape[0] * voxels; ++voxel) {
        const std::int64_t first = voxel / voxels * shape[1] * voxels + voxel % voxels;
        const std::int64_t end = first + shape[1] * voxels;
        double exponentials = 0.0;
        double factors = 0.0;
        for (std::int64_t i = first; i < end; i += voxels) {
            exponentials += std::exp(double{logits[i]});
            factors += c[i];
        }
        for (std::int64_t i = first; i < end; i += voxels) {
            loss += c[i] * (logits[i] - std::log(exponentials)) / count;
            gradient[i] = static_cast<float>((c[i] - std::exp(double{logits[i]}) / exponentials * factors) / count);
        }
    }
    return loss;
}

void check_golden(const std::filesystem::path& path) {
    const auto golden = test::load_golden(path);
    REQUIRE_OK(golden);
    const auto backends = test::training_backends();
    REQUIRE_FALSE(backends.empty());
    for (const Backend* backend : backends) {
        INFO(backend->name());
        const auto training = test::compile_training(*backend, golden->graph, golden->weights);
        copy(view(golden->values.at("input")), training->input());
        REQUIRE_OK(training->forward());
        const Tensor logits = test::dense(training->output());
        CHECK(test::largest_difference(logits, golden->values.at("train.output")) <= 1e-4);

        Tensor gradient(logits.shape());
        const double loss = mean_log_probability(logits, golden->values.at("train.cotangent"), gradient);
        CHECK(std::abs(loss - double{golden->values.at("train.loss")[0]}) <= 1e-5);
        copy(as_const(view(gradient)), training->output_gradient());
        REQUIRE_OK(training->backward());
        const Weights gradients = training->gradients();
        std::size_t compared = 0;
        for (const auto& [name, tensor] : golden->values) {
            if (name.rfind("grad.", 0) != 0)
                continue;
            INFO(name);
            REQUIRE(gradients.count(name.substr(5)) == 1);
            const Tensor& ours = gradients.at(name.substr(5));
            REQUIRE(ours.shape() == tensor.shape());
            CHECK(test::relative_error(ours.values(), tensor.values()) <= 1e-3);
            ++compared;
        }
        CHECK(compared > 100);
        CHECK(compared == gradients.size());
    }
}

} // namespace

TEST_CASE("every backend that trains reproduces the golden training step of mf-res2net") {
    if (const auto path = test::shared_data("data/golden/mf-res2net-small.safetensors"))
        check_golden(*path);
}

TEST_CASE("every backend that trains reproduces the golden training step of dmfnet") {
    if (const auto path = test::shared_data("data/golden/dmfnet-small.safetensors"))
        check_golden(*path);
}
