// SPDX-License-Identifier: MIT
// What needs GPUs: ranks that share one or have one each, and crops cut on the device.
#include "data/augmentation.h"
#include "gpu/network.h"
#include "gpu/phantom_batch.h"
#include "support/check_backend.h"
#include "support/rank_cases.h"
#include "train/loss.h"

#include <cstdio>

using namespace mfres;

namespace {

const Backend* cuda() {
    const auto found = find_backend("cuda");
    if (found)
        return *found;
    std::printf("SKIPPED: %s\n", found.error().message.c_str());
    return nullptr;
}

struct Trained {
    std::vector<double> losses;
    Weights weights;
    std::string carrier; ///< of the sums
};

/// Steps on the rank's sample of a batch of as many as there are ranks, or of `samples`.
Result<Trained> train(const Backend& backend, Communicator& ranks, int device, std::int64_t samples) {
    const std::int64_t own = samples / ranks.size();
    MFRES_TRY(const Graph graph, test::GpuNetwork::make({48, 48, 48}, own));
    MFRES_TRY(const auto training,
              backend.compile_training(graph, test::random_weights(graph, 1), {.ranks = &ranks, .device = device}));
    const auto batch = test::phantom_batch({48, 48, 48}, samples);
    MFRES_TRY(const Loss loss, make_loss({}));
    const std::size_t voxels = batch.classes.size() / static_cast<std::size_t>(ranks.size());
    Trained trained;
    for (std::int64_t step = 1; step <= 4; ++step) { // from the second on recorded
        test::fill(training->input(), test::part_of(batch.image, ranks));
        MFRES_CHECK(training->forward());
        MFRES_TRY(const double value,
                  training->loss(
                      std::span(batch.classes).subspan(static_cast<std::size_t>(ranks.rank()) * voxels, voxels), loss));
        MFRES_CHECK(training->backward());
        MFRES_CHECK(training->update({.step = step, .learning_rate = 1e-4, .clip_norm = 5.0}));
        trained.losses.push_back(value);
    }
    trained.weights = training->weights();
    for (const Chosen& chosen : training->chosen())
        if (chosen.operation == "sums over ranks")
            trained.carrier = chosen.implementation;
    return trained;
}

void check_ranks(const Backend& backend, int size, bool own_devices) {
    std::vector<Trained> all(static_cast<std::size_t>(size));
    test::require_on_ranks(size, [&](Communicator& ranks) -> Status {
        MFRES_TRY(all[static_cast<std::size_t>(ranks.rank())],
                  train(backend, ranks, own_devices ? ranks.rank() : 0, size));
        return {};
    });
    const auto alone = train(backend, single_rank(), 0, size);
    REQUIRE_OK(alone);
    std::printf("    %d ranks, sums by %s\n", size, all[0].carrier.c_str());
    for (const Trained& one : all) {
        CHECK(one.losses == all[0].losses);
        CHECK(test::same_bits(one.weights, all[0].weights));
    }
    // The first loss is before any gradient; later ones part as rounding grows in a network at random weights.
    CHECK(std::abs(all[0].losses[0] - alone->losses[0]) <= 1e-5);
    CHECK(all[0].losses[3] < all[0].losses[0]);
}

} // namespace

TEST_CASE("two ranks on one GPU train alike, their sums by way of the host") {
    if (const Backend* backend = cuda())
        check_ranks(*backend, 2, false);
}

TEST_CASE("a rank on every GPU trains alike, their sums through NCCL where it is") {
    const Backend* backend = cuda();
    if (!backend)
        return;
    if (backend->devices() < 2) {
        std::printf("SKIPPED: this needs two GPUs, and there is one\n");
        return;
    }
    check_ranks(*backend, backend->devices(), true);
}

TEST_CASE("crops cut on the GPU are those that lib/train cuts, the same bits every time") {
    const Backend* backend = cuda();
    if (!backend)
        return;
    auto source = std::make_shared<CachedCase>();
    source->size = {40, 50, 45};
    const auto voxels = static_cast<std::size_t>(source->voxels());
    Random random(1);
    source->classes.resize(voxels);
    source->brain.resize(voxels);
    for (std::size_t i = 0; i < voxels; ++i) {
        source->classes[i] = static_cast<std::uint8_t>(random.below(4));
        source->brain[i] = random.below(8) != 0 ? 1 : 0;
    }
    for (std::size_t m = 0; m < 4; ++m) {
        std::vector<std::uint8_t> quanta(voxels);
        for (std::size_t i = 0; i < voxels; ++i)
            quanta[i] = source->brain[i] != 0 ? static_cast<std::uint8_t>(random.below(256)) : std::uint8_t{0};
        source->modalities[m] = {std::move(quanta), 0.02F, -2.5F};
    }
    Pose pose;
    pose.begin = {3, -4, 6};
    pose.flip = {true, false, true};
    pose.radians = 0.3;
    pose.zoom = 1.1;
    const std::array<std::int64_t, 3> extents = {32, 32, 32};
    std::array<IntensityChange, 4> changes;
    changes[0] = {.gamma = 1.2, .scale = 1.1, .shift = 0.1, .noise = 0.1, .noise_seed = 7};
    const CropRequest crop{source, source_of(*source), walk_of(pose, extents), changes};

    // A network that hands on its input shows the crop as its output.
    GraphBuilder builder;
    builder.output(builder.conv("c", builder.input(Shape{1, 4, 32, 32, 32}), Conv{.out_channels = 4}));
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    Weights weights = test::random_weights(*graph, 1);
    Tensor& kernel = weights.begin()->second;
    for (std::int64_t i = 0; i < 16; ++i)
        kernel[i] = i % 5 == 0 ? 1.0F : 0.0F;
    const auto training = test::compile_training(*backend, *graph, weights);
    const auto cut = [&] {
        REQUIRE_OK(training->start_crops(std::span(&crop, 1)));
        REQUIRE_OK(training->take_crops());
        REQUIRE_OK(training->forward());
        return test::dense(training->output());
    };
    const Tensor first = cut();
    const Tensor second = cut();
    CHECK(std::equal(first.values().begin(), first.values().end(), second.values().begin()));

    Tensor expected(first.shape());
    std::vector<std::uint8_t> classes(32 * 32 * 32), brain(32 * 32 * 32);
    take_crop(*source, pose, {extents, expected.data(), classes.data(), brain.data()});
    change_intensity({expected.data(), brain.size()}, brain, changes[0]);
    double most = 0.0;
    for (std::int64_t i = 0; i < expected.elements(); ++i)
        most = std::max(most, std::abs(double{expected[i]} - double{first[i]}));
    std::printf("    largest difference %.2g\n", most);
    CHECK(most <= 1e-4);
}
