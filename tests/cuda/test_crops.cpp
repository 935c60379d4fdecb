// SPDX-License-Identifier: MIT
// Crops cut by the kernels against those that lib/train cuts, and batches fed to an executable either way.
#include "backends/cuda/crop_cutter.h"
#include "backends/cuda/backend.h"
#include "cuda/on_host.h"
#include "data/augmentation.h"
#include "support/cached_cases.h"
#include "support/check_backend.h"
#include "support/training.h"
#include "train/feed.h"
#include "train/loss.h"

#include <cmath>

using namespace mfres;

namespace {

using Extents = std::array<std::int64_t, 3>;

struct Cut {
    std::vector<float> images;
    std::vector<std::uint8_t> classes;
};

/// As lib/train does it.
Cut expected(const CachedCase& source, const Pose& pose, const Extents& extents,
             const std::array<IntensityChange, 4>& changes) {
    const auto voxels = static_cast<std::size_t>(extents[0] * extents[1] * extents[2]);
    Cut cut{std::vector<float>(4 * voxels), std::vector<std::uint8_t>(voxels)};
    std::vector<std::uint8_t> brain(voxels);
    take_crop(source, pose, {extents, cut.images.data(), cut.classes.data(), brain.data()});
    for (std::size_t m = 0; m < 4; ++m)
        change_intensity(std::span(cut.images).subspan(m * voxels, voxels), brain, changes[m]);
    return cut;
}

/// Largest difference of images where they differ by more than some last bits of the values on the way.
double largest_difference(std::span<const float> a, std::span<const float> b) {
    double most = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i)
        most = std::max(most, std::abs(double{a[i]} - double{b[i]}));
    return most;
}

std::array<IntensityChange, 4> some_changes(std::uint64_t seed) {
    Random random(seed);
    std::array<IntensityChange, 4> changes;
    for (std::size_t m = 0; m < 4; ++m) {
        changes[m].gamma = m == 1 ? 1.0 : random.uniform(0.7, 1.3);
        changes[m].inverted = random.below(2) == 1;
        changes[m].scale = m == 2 ? 1.0 : random.uniform(0.8, 1.2);
        changes[m].shift = random.uniform(-0.2, 0.2);
        changes[m].noise = m == 3 ? 0.0 : 0.1;
        changes[m].noise_seed = random.next();
    }
    if (random.below(2) == 1)
        changes[random.below(4)] = IntensityChange::to_nothing();
    return changes;
}

} // namespace

TEST_CASE("the kernels cut, turn, mirror and vary crops as lib/train does") {
    const auto source = std::make_shared<const CachedCase>(test::ellipsoid_case({13, 20, 17}));
    const auto flat = std::make_shared<const CachedCase>(test::ellipsoid_case({9, 1, 12}, 2));
    Random random(5);
    for (int round = 0; round < 40; ++round) {
        const auto& one = round % 5 == 4 ? flat : source;
        const Extents extents = round % 3 == 0   ? Extents{8, 10, 6}
                                : round % 3 == 1 ? Extents{16, 24, 20} // the whole box and more
                                                 : Extents{5, 7, 3};
        Pose pose;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            pose.begin[axis] = static_cast<std::int64_t>(random.below(12)) - 5;
            pose.flip[axis] = random.below(2) == 1;
        }
        pose.axis = static_cast<int>(random.below(3));
        if (round % 4 != 0) { // else nothing is interpolated
            pose.radians = random.uniform(-0.6, 0.6);
            pose.zoom = random.uniform(0.8, 1.2);
        }
        const auto changes = round % 2 == 0 ? std::array<IntensityChange, 4>{} : some_changes(random.next());
        INFO("round " << round);
        const auto engine = cuda::make_host_engine();
        const std::int64_t voxels = extents[0] * extents[1] * extents[2];
        cuda::CropCutter cutter(*engine, 2, extents);
        Pose other = pose; // a second sample, so that one does not write over the other
        other.begin[0] += 1;
        const std::vector<CropRequest> crops = {{one, source_of(*one), walk_of(pose, extents), changes},
                                                {one, source_of(*one), walk_of(other, extents), changes}};
        cutter.start(crops);
        Cut got{std::vector<float>(static_cast<std::size_t>(8 * voxels)),
                std::vector<std::uint8_t>(static_cast<std::size_t>(2 * voxels))};
        cutter.take(got.images.data(), got.classes.data());
        for (const std::size_t sample : {0U, 1U}) {
            const Cut truth = expected(*one, sample == 0 ? pose : other, extents, changes);
            const auto images = std::span(got.images).subspan(sample * truth.images.size(), truth.images.size());
            const auto classes = std::span(got.classes).subspan(sample * truth.classes.size(), truth.classes.size());
            CHECK(std::equal(classes.begin(), classes.end(), truth.classes.begin()));
            CHECK(largest_difference(images, truth.images) <= 2e-5);
            for (std::size_t m = 0; m < 4; ++m)
                if (changes[m].scale == 0.0) {
                    const auto dropped = images.subspan(m * classes.size(), classes.size());
                    CHECK(std::all_of(dropped.begin(), dropped.end(), [](float v) { return v == 0.0F; }));
                }
        }
    }
}

namespace {

Graph small_network(std::int64_t batch) {
    GraphBuilder builder;
    const Conv k3{.out_channels = 8, .kernel = {3, 3, 3}, .padding = {1, 1, 1}};
    const NodeId x = builder.conv("first", builder.input(Shape{batch, 4, 8, 10, 6}), k3);
    builder.output(
        builder.conv("head", builder.relu("r", builder.batch_norm("n", x)), Conv{.out_channels = 4, .bias = true}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

FeedSource feed_source() {
    FeedSource source;
    source.cache = std::make_shared<test::MemoryCache>(std::vector<CachedCase>{test::ellipsoid_case({13, 20, 17}),
                                                                               test::ellipsoid_case({10, 9, 11}, 2),
                                                                               test::ellipsoid_case({16, 12, 8}, 3)});
    source.sampling.batch = 2;
    source.sampling.crop = {8, 10, 6};
    source.sampling.tumour_probability = 0.5;
    source.sampling.intensity_scale = source.sampling.intensity_shift = source.sampling.gamma = 0.1;
    source.sampling.noise = 0.05;
    source.sampling.zoom = 0.1;
    source.sampling.modality_dropout = 0.3;
    source.seed = 7;
    source.end_step = 4;
    return source;
}

/// Losses of training steps from `source.first_step` to its end, and the weights after.
struct Fed {
    std::vector<double> losses;
    TrainingState state;
};

Fed train(const Backend& backend, const FeedSource& source, bool ahead, const TrainingState* state = nullptr) {
    const Graph graph = small_network(2);
    const auto training = test::compile_training(backend, graph, test::random_weights(graph, 1));
    if (state)
        REQUIRE_OK(training->set_state(*state));
    auto feed = BatchFeed::start(*training, source);
    REQUIRE_OK(feed);
    const auto loss = make_loss({});
    REQUIRE_OK(loss);
    Fed fed;
    for (std::int64_t step = source.first_step; step < source.end_step; ++step) {
        REQUIRE_OK(feed->next());
        REQUIRE_OK(training->forward());
        if (ahead)
            feed->prepare();
        const auto value = feed->loss(*loss);
        REQUIRE_OK(value);
        fed.losses.push_back(*value);
        REQUIRE_OK(training->backward());
        REQUIRE_OK(training->update({.step = step + 1, .learning_rate = 0.01}));
    }
    fed.state = training->state();
    return fed;
}

} // namespace

TEST_CASE("batches cut on the device train as those of the loader's threads, made ahead or not, and go on exactly") {
    const FeedSource source = feed_source();
    const Fed device = train(test::on_host(), source, true);
    const Fed host = train(**find_backend("reference"), source, true);
    REQUIRE(device.losses.size() == 4);
    for (std::size_t i = 0; i < 4; ++i)
        CHECK(device.losses[i] == Approx(host.losses[i]).epsilon(1e-5));
    const Fed unhurried = train(test::on_host(), source, false);
    CHECK(unhurried.losses == device.losses);
    CHECK(test::same_bits(unhurried.state, device.state));

    FeedSource hard = source; // with what the loader's threads alone can make
    hard.sampling.blur = 1.0;
    hard.sampling.elastic = 2.0;
    hard.sampling.blur_probability = hard.sampling.elastic_probability = 0.7;
    const Fed hard_device = train(test::on_host(), hard, true);
    const Fed hard_host = train(**find_backend("reference"), hard, true);
    for (std::size_t i = 0; i < 4; ++i) {
        CHECK(hard_device.losses[i] == Approx(hard_host.losses[i]).epsilon(1e-5));
        CHECK(hard_device.losses[i] != device.losses[i]);
    }

    FeedSource first = source, second = source;
    first.end_step = second.first_step = 2;
    const Fed before = train(test::on_host(), first, true);
    const Fed after = train(test::on_host(), second, true, &before.state);
    CHECK(after.losses == std::vector<double>(device.losses.begin() + 2, device.losses.end()));
    CHECK(test::same_bits(after.state, device.state));
}

TEST_CASE("crops that do not fit an executable are rejected, and classes of crops count only where there are some") {
    const Graph graph = small_network(2);
    const Weights weights = test::random_weights(graph, 1);
    const auto training = test::compile_training(test::on_host(), graph, weights);
    REQUIRE(training->cuts_crops());
    REQUIRE_CODE(training->start_crops({}), invalid_argument);
    const auto loss = make_loss({});
    REQUIRE_OK(training->forward());
    REQUIRE_CODE(training->loss({}, *loss), invalid_argument);

    const auto source = std::make_shared<const CachedCase>(test::ellipsoid_case({13, 20, 17}));
    const CropRequest crop{source, source_of(*source), walk_of({}, {8, 10, 6}), {}};
    const std::vector<CropRequest> crops = {crop, crop};
    const std::int64_t before = training->peak_bytes();
    REQUIRE_OK(training->start_crops(crops));
    CHECK(training->peak_bytes() >= before + 2 * 13 * 20 * 17 * 7);
    REQUIRE_OK(training->take_crops());
    REQUIRE_OK(training->forward());
    REQUIRE_OK(training->loss({}, *loss));
    const std::vector<std::uint8_t> classes(2 * 8 * 10 * 6, 1);
    REQUIRE_OK(training->loss(classes, *loss));
    REQUIRE_CODE(training->loss({}, *loss), invalid_argument);

    const auto small = test::compile_training(test::on_host(), graph, weights, {.memory_cap = before});
    REQUIRE_CODE(small->start_crops(crops), memory_limit);
    const auto reference = test::compile_training(**find_backend("reference"), graph, weights);
    CHECK_FALSE(reference->cuts_crops());
    REQUIRE_CODE(reference->start_crops(crops), operation_unsupported);
}
