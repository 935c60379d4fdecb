// SPDX-License-Identifier: MIT
// What needs a GPU: the whole network on synthetic patients, in every precision, and a resume that is exact to the bit.
#include "core/random.h"
#include "gpu/network.h"
#include "gpu/phantom_batch.h"
#include "support/check_backend.h"
#include "train/loss.h"

#include <cmath>
#include <cstdio>
#include <limits>

using namespace mfres;

namespace {

/// The cuda backend, or null after saying why there is none.
const Backend* cuda() {
    const auto found = find_backend("cuda");
    if (found)
        return *found;
    std::printf("SKIPPED: %s\n", found.error().message.c_str());
    return nullptr;
}

constexpr Precision training_precisions[] = {Precision::f32, Precision::bf16, Precision::fp16};

Loss weighted_tversky() {
    auto loss = make_loss({});
    REQUIRE_OK(loss);
    return std::move(loss).value();
}

double step(TrainingExecutable& training, const test::PhantomBatch& batch, std::int64_t number) {
    copy(view(batch.image), training.input());
    REQUIRE_OK(training.forward());
    const auto loss = training.loss(batch.classes, weighted_tversky());
    REQUIRE_OK(loss);
    REQUIRE_OK(training.backward());
    REQUIRE_OK(training.update({.step = number, .learning_rate = 3e-3, .clip_norm = 5.0}));
    return *loss;
}

} // namespace

TEST_CASE("50 training steps on phantoms lower the loss on the GPU in every precision") {
    const Backend* backend = cuda();
    if (!backend)
        return;
    const auto graph = test::GpuNetwork::make({64, 64, 64}, 2);
    REQUIRE_OK(graph);
    const auto batch = test::phantom_batch({64, 64, 64}, 2);
    for (const Precision precision : training_precisions) {
        INFO(to_string(precision));
        const auto training =
            test::compile_training(*backend, *graph, test::random_weights(*graph, 1), {.precision = precision});
        const double first = step(*training, batch, 1);
        double last = first;
        for (std::int64_t number = 2; number <= 50; ++number)
            last = step(*training, batch, number);
        std::printf("    %s: loss %.4f to %.4f, %lld MiB\n", std::string(to_string(precision)).c_str(), first, last,
                    static_cast<long long>(training->peak_bytes() >> 20));
        CHECK(last < 0.7 * first);
    }
}

TEST_CASE("on the GPU 4 steps are 2 steps, the state in another executable, 2 steps, bit by bit") {
    const Backend* backend = cuda();
    if (!backend)
        return;
    const auto graph = test::GpuNetwork::make({48, 48, 48}, 1);
    REQUIRE_OK(graph);
    const auto batch = test::phantom_batch({48, 48, 48}, 1);
    for (const Precision precision : training_precisions) {
        INFO(to_string(precision));
        const TrainingOptions options{.precision = precision};
        const auto whole = test::compile_training(*backend, *graph, test::random_weights(*graph, 1), options);
        const auto before = test::compile_training(*backend, *graph, test::random_weights(*graph, 1), options);
        const auto after = test::compile_training(*backend, *graph, test::random_weights(*graph, 2), options);
        for (const std::int64_t number : {1, 2})
            CHECK(step(*before, batch, number) == step(*whole, batch, number));
        REQUIRE_OK(after->set_state(before->state()));
        for (const std::int64_t number : {3, 4})
            CHECK(step(*after, batch, number) == step(*whole, batch, number));
        CHECK(test::same_bits(after->state(), whole->state()));
    }
}

TEST_CASE("the network's logits on the GPU are the reference's, and in short precisions most labels are") {
    const Backend* backend = cuda();
    if (!backend)
        return;
    const auto graph = test::GpuNetwork::make({48, 32, 48}, 1);
    REQUIRE_OK(graph);
    const Weights weights = test::random_weights(*graph, 3);
    const auto batch = test::phantom_batch({48, 32, 48}, 1);
    const auto expected = test::run(**find_backend("reference"), *graph, weights, batch.image);
    REQUIRE_OK(expected);
    const auto label = [](const Tensor& logits, std::int64_t voxel) {
        const std::int64_t voxels = logits.elements() / 4;
        std::int64_t best = 0;
        for (std::int64_t c = 1; c < 4; ++c)
            if (logits[c * voxels + voxel] > logits[best * voxels + voxel])
                best = c;
        return best;
    };
    for (const Precision precision : training_precisions) {
        INFO(to_string(precision));
        const auto got = test::run(*backend, *graph, weights, batch.image, {.precision = precision});
        REQUIRE_OK(got);
        std::int64_t same = 0;
        for (std::int64_t voxel = 0; voxel < got->elements() / 4; ++voxel)
            same += label(*got, voxel) == label(*expected, voxel) ? 1 : 0;
        const double share = 4.0 * static_cast<double>(same) / static_cast<double>(got->elements());
        CHECK(share >= (precision == Precision::f32 ? 0.9999 : 0.98));
    }
}

TEST_CASE("a NaN passes a convolution with ReLU on the GPU in every precision") {
    const Backend* backend = cuda();
    if (!backend)
        return;
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 8, 8, 8, 8});
    builder.output(builder.relu("r", builder.conv("c", x, Conv{.out_channels = 8, .bias = true})));
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    Tensor image = test::random_tensor(graph->node(0).shape, 1);
    image[0] = std::numeric_limits<float>::quiet_NaN(); // channel 0 of the first voxel, which all channels there read
    for (const Precision precision : training_precisions) {
        INFO(to_string(precision));
        const auto got = test::run(*backend, *graph, test::random_weights(*graph, 1), image, {.precision = precision});
        REQUIRE_OK(got);
        for (std::int64_t channel = 0; channel < 8; ++channel) {
            CHECK(std::isnan((*got)[channel * 512]));
            CHECK_FALSE(std::isnan((*got)[channel * 512 + 1]));
        }
    }
}
