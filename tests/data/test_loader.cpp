// SPDX-License-Identifier: MIT
#include "data/loader.h"
#include "support/cached_cases.h"
#include "support/catch.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

using namespace mfres;

namespace {

std::shared_ptr<test::MemoryCache> small_cache(std::size_t cases = 5) {
    std::vector<CachedCase> made;
    for (std::size_t i = 0; i < cases; ++i)
        made.push_back(test::ellipsoid_case({18 + static_cast<std::int64_t>(i), 20, 16}, i + 1));
    return std::make_shared<test::MemoryCache>(std::move(made));
}

/// Every option on.
Sampling busy_sampling() {
    Sampling sampling;
    sampling.batch = 3;
    sampling.crop = {12, 16, 8};
    sampling.tumour_probability = 0.5;
    sampling.rotation_probability = 0.7;
    sampling.intensity_scale = 0.1;
    sampling.intensity_shift = 0.1;
    sampling.gamma = 0.2;
    sampling.noise = 0.05;
    sampling.zoom = 0.1;
    sampling.modality_dropout = 0.2;
    return sampling;
}

/// The same with all that hosts make.
Sampling busiest_sampling() {
    Sampling sampling = busy_sampling();
    sampling.gamma_inverted = 0.5;
    sampling.histogram_shift = 0.4;
    sampling.bias_field = 0.4;
    sampling.blur = 1.0;
    sampling.low_resolution = 2.0;
    sampling.anisotropy = 4.0;
    sampling.ringing = 0.4;
    sampling.ghost = 0.3;
    sampling.elastic = 2.0;
    sampling.tumour_mixing = 0.5;
    for (double* const often :
         {&sampling.histogram_shift_probability, &sampling.bias_field_probability, &sampling.blur_probability,
          &sampling.low_resolution_probability, &sampling.anisotropy_probability, &sampling.ringing_probability,
          &sampling.ghost_probability, &sampling.elastic_probability})
        *often = 0.5;
    return sampling;
}

/// Crops as they lie in the cache.
Sampling plain_sampling(std::int64_t batch, const std::array<std::int64_t, 3>& crop) {
    Sampling sampling;
    sampling.batch = batch;
    sampling.crop = crop;
    sampling.flips = false;
    sampling.rotation_degrees = 0.0;
    return sampling;
}

Batch batch_of(const Cache& cache, const Sampling& sampling, std::uint64_t seed, std::int64_t step) {
    auto batch = make_batch(cache, sampling, seed, step);
    REQUIRE_OK(batch);
    return std::move(batch).value();
}

std::unique_ptr<Loader> start(const std::shared_ptr<const Cache>& cache, const Sampling& sampling, std::uint64_t seed,
                              std::int64_t first_step, int threads, int ahead = 2) {
    auto loader = Loader::start(cache, sampling, seed, first_step, threads, ahead);
    REQUIRE_OK(loader);
    return std::move(loader).value();
}

bool same(const Batch& a, const Batch& b) {
    return a.step == b.step && a.cases == b.cases && a.classes == b.classes && a.images.shape() == b.images.shape() &&
           std::equal(a.images.values().begin(), a.images.values().end(), b.images.values().begin());
}

/// Values of one channel of one sample.
std::span<const float> channel(const Batch& batch, std::int64_t sample, std::int64_t modality) {
    const Shape& shape = batch.images.shape();
    const std::int64_t voxels = shape[2] * shape[3] * shape[4];
    return batch.images.values().subspan(static_cast<std::size_t>((sample * 4 + modality) * voxels),
                                         static_cast<std::size_t>(voxels));
}

} // namespace

TEST_CASE("one seed gives the same batches for any number of threads and from any first step") {
    const auto cache = small_cache();
    const Sampling sampling = GENERATE(busy_sampling(), busiest_sampling());
    std::vector<Batch> truth;
    for (std::int64_t step = 0; step < 12; ++step)
        truth.push_back(batch_of(*cache, sampling, 42, step));
    for (const int threads : {0, 1, 3})
        for (const std::int64_t first : {0, 7}) {
            INFO(threads << " threads from step " << first);
            const auto loader = start(cache, sampling, 42, first, threads, threads == 3 ? 5 : 2);
            for (std::int64_t step = first; step < 12; ++step) {
                const auto batch = loader->next();
                REQUIRE_OK(batch);
                REQUIRE(batch->step == step);
                REQUIRE(same(*batch, truth[static_cast<std::size_t>(step)]));
            }
        }
    CHECK_FALSE(same(batch_of(*cache, sampling, 43, 3), truth[3]));
    for (std::size_t step = 1; step < truth.size(); ++step)
        CHECK(truth[step].classes != truth[step - 1].classes);
}

TEST_CASE("the parts of a batch are its samples, bit for bit, whoever makes them") {
    const auto cache = small_cache();
    Sampling sampling = busiest_sampling();
    sampling.batch = 6;
    for (const std::int64_t step : {0, 3}) {
        const Batch whole = batch_of(*cache, sampling, 42, step);
        for (const int count : {1, 2, 3, 6}) {
            INFO(count << " parts of step " << step);
            std::vector<float> images;
            std::vector<std::uint8_t> classes;
            std::vector<std::size_t> cases;
            for (int index = 0; index < count; ++index) {
                const auto part = make_batch(*cache, sampling, 42, step, {index, count});
                REQUIRE_OK(part);
                CHECK(part->images.shape() == Shape{6 / count, 4, 12, 16, 8});
                images.insert(images.end(), part->images.values().begin(), part->images.values().end());
                classes.insert(classes.end(), part->classes.begin(), part->classes.end());
                cases.insert(cases.end(), part->cases.begin(), part->cases.end());
            }
            CHECK(std::equal(images.begin(), images.end(), whole.images.values().begin(), whole.images.values().end()));
            CHECK(classes == whole.classes);
            CHECK(cases == whole.cases);
        }
    }
    auto loader = Loader::start(cache, sampling, 42, 3, 2, 2, {1, 2});
    REQUIRE_OK(loader);
    const auto loaded = (*loader)->next();
    REQUIRE_OK(loaded);
    const auto made = make_batch(*cache, sampling, 42, 3, {1, 2});
    REQUIRE_OK(made);
    CHECK(same(*loaded, *made));
    for (const BatchPart& part : {BatchPart{0, 4}, BatchPart{2, 2}, BatchPart{-1, 2}, BatchPart{0, 0}}) {
        REQUIRE_CODE(make_batch(*cache, sampling, 42, 3, part), invalid_argument);
        REQUIRE_CODE(Loader::start(cache, sampling, 42, 3, 1, 2, part), invalid_argument);
    }
}

TEST_CASE("a batch has the documented shape and every voxel is written") {
    const auto cache = small_cache();
    for (const bool intensities : {false, true}) {
        Sampling sampling = intensities ? busiest_sampling() : busy_sampling();
        if (!intensities)
            sampling.intensity_scale = sampling.intensity_shift = sampling.gamma = sampling.noise =
                sampling.modality_dropout = 0.0;
        const Batch batch = batch_of(*cache, sampling, 1, 4);
        CHECK(batch.images.shape() == Shape{3, 4, 12, 16, 8});
        CHECK(batch.classes.size() == 3 * 12 * 16 * 8);
        CHECK(batch.cases.size() == 3);
        CHECK(std::all_of(batch.classes.begin(), batch.classes.end(), [](auto c) { return c < 4; }));
        CHECK(std::all_of(batch.images.values().begin(), batch.images.values().end(),
                          [](float v) { return std::isfinite(v) && std::abs(v) < 40.0F; }));
    }
}

TEST_CASE("every case comes once per pass, in another order each time") {
    const auto cache = small_cache(7);
    Sampling sampling = plain_sampling(3, {4, 4, 4}); // 7 steps of 3 are 3 passes over 7 cases
    std::vector<std::size_t> drawn;
    for (std::int64_t step = 0; step < 70; ++step) {
        const Batch batch = batch_of(*cache, sampling, 5, step);
        drawn.insert(drawn.end(), batch.cases.begin(), batch.cases.end());
    }
    std::set<std::vector<std::size_t>> orders;
    for (std::size_t pass = 0; pass < 30; ++pass) {
        const std::vector<std::size_t> order(drawn.begin() + static_cast<std::ptrdiff_t>(7 * pass),
                                             drawn.begin() + static_cast<std::ptrdiff_t>(7 * pass + 7));
        CHECK(std::set<std::size_t>(order.begin(), order.end()).size() == 7);
        orders.insert(order);
    }
    CHECK(orders.size() >= 29); // 5040 orders: two equal ones among 30 are rare
    std::array<int, 7> first{};
    for (std::size_t pass = 0; pass < 30; ++pass)
        ++first[drawn[7 * pass]];
    CHECK(*std::max_element(first.begin(), first.end()) < 15);
    // A batch larger than the data set spans passes.
    sampling.batch = 20;
    const Batch large = batch_of(*cache, sampling, 5, 0);
    CHECK(std::vector<std::size_t>(drawn.begin(), drawn.begin() + 20) == large.cases);
}

TEST_CASE("crops lie anywhere in the box, and a larger crop holds the whole box among zeros") {
    CachedCase numbered = test::ellipsoid_case({9, 8, 7});
    std::fill(numbered.brain.begin(), numbered.brain.end(), std::uint8_t{1});
    for (auto& modality : numbered.modalities) {
        std::vector<std::int16_t> quanta(numbered.brain.size());
        for (std::size_t i = 0; i < quanta.size(); ++i)
            quanta[i] = static_cast<std::int16_t>(i + 1); // tells where a voxel came from
        modality = {std::move(quanta), 1.0F, 0.0F};
    }
    const auto cache = std::make_shared<test::MemoryCache>(std::vector<CachedCase>{numbered});
    std::array<std::set<std::int64_t>, 3> begins;
    for (std::int64_t step = 0; step < 60; ++step) {
        const Batch batch = batch_of(*cache, plain_sampling(1, {6, 8, 3}), 9, step);
        const auto corner = static_cast<std::int64_t>(channel(batch, 0, 0)[0]) - 1;
        begins[0].insert(corner / 56);
        begins[1].insert(corner / 7 % 8);
        begins[2].insert(corner % 7);
    }
    CHECK(begins[0] == std::set<std::int64_t>{0, 1, 2, 3});
    CHECK(begins[1] == std::set<std::int64_t>{0});
    CHECK(begins[2] == std::set<std::int64_t>{0, 1, 2, 3, 4});

    const Batch padded = batch_of(*cache, plain_sampling(1, {16, 9, 7}), 9, 0);
    std::multiset<float> values(channel(padded, 0, 2).begin(), channel(padded, 0, 2).end());
    CHECK(values.count(0.0F) == 16 * 9 * 7 - 9 * 8 * 7);
    for (int i = 1; i <= 9 * 8 * 7; ++i)
        REQUIRE(values.count(static_cast<float>(i)) == 1);
    const auto tumour = [](const auto& classes) {
        return std::count_if(classes.begin(), classes.end(), [](auto c) { return c != 0; });
    };
    CHECK(tumour(padded.classes) == tumour(numbered.classes));
}

TEST_CASE("a tumour probability of 1 always shows tumour, at the centre where the box allows it") {
    // One tumour voxel in a corner of the box, one in the middle.
    CachedCase corner = test::ellipsoid_case({20, 20, 20});
    std::fill(corner.classes.begin(), corner.classes.end(), std::uint8_t{0});
    CachedCase middle = corner;
    CachedCase none = corner;
    corner.classes[test::at(corner, 19, 0, 19)] = 2;
    middle.classes[test::at(middle, 9, 10, 11)] = 3;
    const auto cache = std::make_shared<test::MemoryCache>(std::vector<CachedCase>{corner, middle, none});
    Sampling sampling = plain_sampling(3, {6, 6, 5});
    sampling.tumour_probability = 1.0;
    for (std::int64_t step = 0; step < 20; ++step) {
        const Batch batch = batch_of(*cache, sampling, 3, step);
        for (std::size_t i = 0; i < 3; ++i) {
            const std::span<const std::uint8_t> classes(batch.classes.data() + 180 * i, 180);
            const auto found = std::find_if(classes.begin(), classes.end(), [](auto c) { return c != 0; });
            const auto place = found - classes.begin();
            if (batch.cases[i] == 0)
                CHECK(place == (5 * 6 + 0) * 5 + 4);
            else if (batch.cases[i] == 1)
                CHECK(place == (3 * 6 + 3) * 5 + 2);
            else
                CHECK(found == classes.end());
        }
    }
    // Turned and mirrored about its centre, a crop keeps the tumour voxel it was centred on.
    sampling.flips = true;
    sampling.rotation_degrees = 30.0;
    sampling.crop = {7, 7, 7};
    for (std::int64_t step = 0; step < 20; ++step) {
        const Batch batch = batch_of(*cache, sampling, 4, step);
        for (std::size_t i = 0; i < 3; ++i)
            if (batch.cases[i] == 1)
                CHECK(batch.classes[343 * i + (3 * 7 + 3) * 7 + 3] == 3);
    }
}

TEST_CASE("tumour voxels are drawn evenly, and as often as asked") {
    const auto cache = std::make_shared<test::MemoryCache>(std::vector<CachedCase>{test::ellipsoid_case({24, 24, 24})});
    Sampling sampling = plain_sampling(1, {1, 1, 1}); // a crop of one voxel shows which was drawn
    std::array<double, 4> share{};
    const auto& counts = cache->entries()[0].class_voxels;
    const double tumour = static_cast<double>(counts[1] + counts[2] + counts[3]);
    constexpr int draws = 3000;
    for (const double probability : {1.0, 0.4, 0.0}) {
        sampling.tumour_probability = probability;
        share.fill(0.0);
        for (std::int64_t step = 0; step < draws; ++step)
            share[batch_of(*cache, sampling, 6, step).classes[0]] += 1.0 / draws;
        for (std::size_t c = 1; c < 4; ++c) {
            const double expected = probability * static_cast<double>(counts[c]) / tumour +
                                    (1.0 - probability) * static_cast<double>(counts[c]) / (24.0 * 24.0 * 24.0);
            INFO("class " << c << ", probability " << probability);
            CHECK(std::abs(share[c] - expected) < 4.0 * std::sqrt(expected / draws));
        }
    }
}

TEST_CASE("flips, rotations and zooms happen as often as asked, and one option leaves the draws of others alone") {
    const auto cache = small_cache(1);
    Sampling plain = plain_sampling(1, {18, 20, 16}); // the whole box: only the variation differs
    const Batch untouched = batch_of(*cache, plain, 1, 0);
    Sampling flipping = plain;
    flipping.flips = true;
    std::set<std::vector<std::uint8_t>> mirrored;
    for (std::int64_t step = 0; step < 60; ++step)
        mirrored.insert(batch_of(*cache, flipping, 1, step).classes);
    CHECK(mirrored.size() == 8);
    CHECK(mirrored.count(untouched.classes) == 1);

    Sampling turning = plain;
    turning.rotation_degrees = 20.0;
    turning.rotation_probability = 0.25;
    int turned = 0;
    for (std::int64_t step = 0; step < 200; ++step)
        turned += same(batch_of(*cache, turning, 1, step), batch_of(*cache, plain, 1, step)) ? 0 : 1;
    CHECK(turned > 50 - 25);
    CHECK(turned < 50 + 25);

    // Intensity options must not move the crop: the classes stay.
    Sampling bright = flipping;
    bright.intensity_shift = 0.5;
    bright.noise = 0.1;
    for (std::int64_t step = 0; step < 5; ++step)
        CHECK(batch_of(*cache, bright, 1, step).classes == batch_of(*cache, flipping, 1, step).classes);
}

TEST_CASE("intensity options keep their ranges, differ between modalities, and leave all but the brain at 0") {
    const auto cache = small_cache(2);
    const Sampling plain = plain_sampling(2, {22, 22, 22});
    Sampling varied = plain;
    varied.intensity_scale = 0.2;
    std::set<float> factors;
    for (std::int64_t step = 0; step < 10; ++step) {
        const Batch before = batch_of(*cache, plain, 2, step);
        const Batch after = batch_of(*cache, varied, 2, step);
        CHECK(before.classes == after.classes);
        for (std::int64_t sample = 0; sample < 2; ++sample)
            for (std::int64_t m = 0; m < 4; ++m) {
                const auto a = channel(before, sample, m);
                const auto b = channel(after, sample, m);
                float factor = 0.0F;
                for (std::size_t i = 0; i < a.size(); ++i)
                    if (std::abs(a[i]) > 1.0F && factor == 0.0F)
                        factor = b[i] / a[i];
                CHECK(factor >= 0.8F);
                CHECK(factor <= 1.2F);
                factors.insert(factor);
                for (std::size_t i = 0; i < a.size(); ++i)
                    REQUIRE(b[i] == Approx(a[i] * factor).margin(1e-5));
            }
    }
    CHECK(factors.size() > 60);

    Sampling everything = busiest_sampling();
    everything.crop = {22, 22, 22};
    const Batch batch = batch_of(*cache, everything, 2, 0);
    for (std::int64_t m = 0; m < 4; ++m) // a corner of so large a crop is outside the box however it is turned
        CHECK(channel(batch, 0, m)[0] == 0.0F);
}

TEST_CASE("contrasts are dropped as often as the rule says, T1ce and FLAIR never both, and the rest keeps its bits") {
    const auto cache = std::make_shared<test::MemoryCache>(std::vector<CachedCase>{test::ellipsoid_case({8, 8, 8})});
    Sampling plain = plain_sampling(4, {8, 8, 8});
    plain.intensity_scale = plain.gamma = plain.noise = 0.1;
    plain.flips = true;
    for (const double p : {0.3, 1.0, 0.0}) {
        Sampling dropping = plain;
        dropping.modality_dropout = p;
        std::array<double, 16> share{}; // of each set of dropped contrasts, bit m for modality m
        constexpr int steps = 1000;
        for (std::int64_t step = 0; step < steps; ++step) {
            const Batch before = batch_of(*cache, plain, 21, step);
            const Batch after = batch_of(*cache, dropping, 21, step);
            REQUIRE(after.classes == before.classes);
            for (std::int64_t sample = 0; sample < 4; ++sample) {
                std::size_t dropped = 0;
                for (std::int64_t m = 0; m < 4; ++m) {
                    const auto is = channel(after, sample, m), was = channel(before, sample, m);
                    if (std::all_of(is.begin(), is.end(), [](float v) { return v == 0.0F; }))
                        dropped |= std::size_t{1} << static_cast<std::size_t>(m);
                    else
                        REQUIRE(std::equal(is.begin(), is.end(), was.begin()));
                }
                share[dropped] += 0.25 / steps;
            }
        }
        for (std::size_t dropped = 0; dropped < 16; ++dropped) {
            const bool t1 = (dropped & 1U) != 0, t1ce = (dropped & 2U) != 0;
            const bool t2 = (dropped & 4U) != 0, flair = (dropped & 8U) != 0;
            const double pair = t1ce && flair ? 0.0 : t1ce || flair ? p * (1 - p) + p * p / 2 : (1 - p) * (1 - p);
            const double expected = (t1 ? p : 1 - p) * (t2 ? p : 1 - p) * pair;
            INFO("p " << p << ", set " << dropped);
            if (expected == 0.0 || expected == 1.0)
                CHECK(share[dropped] == Approx(expected));
            else
                CHECK(std::abs(share[dropped] - expected) < 4.0 * std::sqrt(expected / (4.0 * steps)));
        }
    }
}

TEST_CASE("artefacts are drawn as often as asked, within their ranges, and none moves another's numbers") {
    const CachedCase source = test::ellipsoid_case({16, 16, 16});
    const test::MemoryCache cache({source});
    const Sampling all = busiest_sampling();
    Sampling blurring = busy_sampling();
    blurring.blur = all.blur;
    blurring.blur_probability = all.blur_probability;
    std::array<double, 8> share{};
    constexpr int draws = 1000;
    for (int i = 0; i < draws; ++i) {
        const Random random = Random(31).fork(static_cast<std::uint64_t>(i));
        const SampleDraw drawn = draw_sample(source, cache.entries()[0], all, random);
        const SampleDraw blurred = draw_sample(source, cache.entries()[0], blurring, random);
        REQUIRE(drawn.pose.begin == blurred.pose.begin);
        REQUIRE(drawn.pose.radians == blurred.pose.radians);
        for (std::size_t m = 0; m < 4; ++m) {
            const Artefacts& a = drawn.artefacts[m];
            REQUIRE(a.blur == blurred.artefacts[m].blur);
            REQUIRE(drawn.intensities[m].gamma == blurred.intensities[m].gamma);
            REQUIRE(drawn.intensities[m].noise_seed == blurred.intensities[m].noise_seed);
            if (drawn.intensities[m].leaves_nothing()) {
                REQUIRE_FALSE(a.any());
                continue;
            }
            const std::array<bool, 8> happens = {a.histogram_shift > 0.0, a.bias_field > 0.0,           a.blur > 0.0,
                                                 a.low_resolution > 1.0,  a.slice_thickness > 1.0,      a.ringing > 0.0,
                                                 a.ghost > 0.0,           drawn.intensities[m].inverted};
            for (std::size_t kind = 0; kind < 8; ++kind)
                share[kind] += happens[kind] ? 1.0 / (4 * draws) : 0.0;
            REQUIRE(a.blur <= all.blur);
            REQUIRE(a.bias_field <= all.bias_field);
            REQUIRE(a.low_resolution <= all.low_resolution);
            REQUIRE(a.slice_thickness <= all.anisotropy);
            REQUIRE(a.ringing <= all.ringing);
            REQUIRE(a.ghost <= all.ghost);
            if (a.ghost > 0.0) {
                const std::int64_t extent = all.crop[static_cast<std::size_t>(a.ghost_axis)];
                REQUIRE(8 * a.ghost_shift >= extent);
                REQUIRE(2 * a.ghost_shift <= extent);
            }
        }
        REQUIRE(drawn.warp <= all.elastic);
    }
    const double kept = (2.0 * 0.8 + 2.0 * (0.8 + 0.2 * 0.2 / 2.0)) / 4.0; // contrasts that are not dropped
    for (const double of_kind : share)
        CHECK(std::abs(of_kind - 0.5 * kept) < 4.0 * std::sqrt(0.25 / (4.0 * draws)));

    const SampleDraw plain = draw_sample(source, cache.entries()[0], Sampling{}, Random(1));
    CHECK_FALSE(plain.changes_intensities());
    CHECK(plain.warp == 0.0);
    CHECK_FALSE(made_on_host(busy_sampling()));
    CHECK(made_on_host(blurring));
    REQUIRE_CODE(make_batch(cache, blurring, 1, 0, {}, BatchForm::crops), invalid_argument);
}

TEST_CASE("tumours of other cases come as often as asked, and never where there is no other case") {
    std::vector<CachedCase> cases;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        cases.push_back(test::ellipsoid_case({26, 28, 24}, seed));
        if (seed > 1)
            std::fill(cases.back().classes.begin(), cases.back().classes.end(), std::uint8_t{0});
    }
    const test::MemoryCache cache(cases);
    const Sampling plain = plain_sampling(3, {26, 28, 24}); // one pass a step
    Sampling mixing = plain;
    mixing.tumour_mixing = 0.5;
    int mixed = 0;
    constexpr int steps = 150;
    for (std::int64_t step = 0; step < steps; ++step) {
        const Batch before = batch_of(cache, plain, 12, step);
        const Batch after = batch_of(cache, mixing, 12, step);
        REQUIRE(after.cases == before.cases);
        const std::size_t voxels = before.classes.size() / 3;
        for (std::size_t i = 0; i < 3; ++i) {
            const auto tumour = std::count_if(after.classes.begin() + static_cast<std::ptrdiff_t>(i * voxels),
                                              after.classes.begin() + static_cast<std::ptrdiff_t>((i + 1) * voxels),
                                              [](auto c) { return c != 0; });
            if (after.cases[i] == 0) // the only one that has a tumour gets none
                REQUIRE(std::equal(channel(before, static_cast<std::int64_t>(i), 1).begin(),
                                   channel(before, static_cast<std::int64_t>(i), 1).end(),
                                   channel(after, static_cast<std::int64_t>(i), 1).begin()));
            else
                mixed += tumour > 0 ? 1 : 0;
        }
    }
    CHECK(std::abs(mixed - steps) < 4.0 * std::sqrt(0.5 * steps)); // half of 2 samples a step: all found a place
}

TEST_CASE("errors come with the step where they happened") {
    const auto cache = small_cache(4);
    cache->broken = 2;
    const Sampling sampling = plain_sampling(1, {4, 4, 4});
    for (const int threads : {0, 1, 3}) {
        INFO(threads << " threads");
        const auto loader = start(cache, sampling, 8, 0, threads);
        int failures = 0;
        for (std::int64_t step = 0; step < 8; ++step) {
            const auto expected = make_batch(*cache, sampling, 8, step);
            const auto batch = loader->next();
            REQUIRE(batch.ok() == expected.ok());
            if (!batch) {
                ++failures;
                REQUIRE_CODE(batch, cache_damaged);
            } else {
                CHECK(same(*batch, *expected));
            }
        }
        CHECK(failures == 2);
    }
}

TEST_CASE("options out of range are rejected") {
    const auto cache = small_cache(1);
    const auto rejected = [&](const auto& change) {
        Sampling sampling = busy_sampling();
        change(sampling);
        REQUIRE_CODE(make_batch(*cache, sampling, 1, 0), invalid_argument);
        REQUIRE_CODE(Loader::start(cache, sampling, 1, 0, 1), invalid_argument);
    };
    rejected([](Sampling& s) { s.batch = 0; });
    rejected([](Sampling& s) { s.batch = std::int64_t{1} << 40; });
    rejected([](Sampling& s) { s.crop[1] = 0; });
    rejected([](Sampling& s) { s.crop[2] = 5000; });
    rejected([](Sampling& s) { s.tumour_probability = 1.01; });
    rejected([](Sampling& s) { s.tumour_probability = std::nan(""); });
    rejected([](Sampling& s) { s.rotation_degrees = -1.0; });
    rejected([](Sampling& s) { s.rotation_probability = -0.1; });
    rejected([](Sampling& s) { s.intensity_scale = 1.0; });
    rejected([](Sampling& s) { s.intensity_shift = -0.1; });
    rejected([](Sampling& s) { s.gamma = 1.0; });
    rejected([](Sampling& s) { s.noise = HUGE_VAL; });
    rejected([](Sampling& s) { s.zoom = 1.0; });
    rejected([](Sampling& s) { s.modality_dropout = 1.5; });
    rejected([](Sampling& s) { s.gamma_inverted = -0.5; });
    rejected([](Sampling& s) { s.histogram_shift = 0.5; });
    rejected([](Sampling& s) { s.bias_field = 1.0; });
    rejected([](Sampling& s) { s.blur = -1.0; });
    rejected([](Sampling& s) { s.low_resolution = 0.5; });
    rejected([](Sampling& s) { s.anisotropy = std::nan(""); });
    rejected([](Sampling& s) { s.ringing = 1.0; });
    rejected([](Sampling& s) { s.ghost = 1.1; });
    rejected([](Sampling& s) { s.elastic = 11.0; });
    rejected([](Sampling& s) { s.elastic_probability = 2.0; });
    rejected([](Sampling& s) { s.tumour_mixing = -1.0; });
    const Sampling good = busy_sampling();
    REQUIRE_CODE(make_batch(*cache, good, 1, -1), invalid_argument);
    REQUIRE_CODE(Loader::start(cache, good, 1, -1, 1), invalid_argument);
    REQUIRE_CODE(Loader::start(cache, good, 1, 0, -1), invalid_argument);
    REQUIRE_CODE(Loader::start(cache, good, 1, 0, 1, 0), invalid_argument);
    REQUIRE_CODE(make_batch(test::MemoryCache({}), good, 1, 0), dataset_empty);
    REQUIRE_CODE(Loader::start(nullptr, good, 1, 0, 1), invalid_argument);
}

namespace {

/// Counts what is loaded, and takes its time.
class SlowCache final : public Cache {
  public:
    explicit SlowCache(std::shared_ptr<const Cache> inner) : inner_(std::move(inner)) {}
    const std::vector<CacheEntry>& entries() const override { return inner_->entries(); }
    const std::string& fingerprint() const override { return inner_->fingerprint(); }
    Result<std::shared_ptr<const CachedCase>> load(std::size_t index) const override {
        ++loads;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return inner_->load(index);
    }
    void keep_at_most(std::uint64_t) const override {}

    mutable std::atomic<int> loads{0};

  private:
    std::shared_ptr<const Cache> inner_;
};

} // namespace

TEST_CASE("workers stay at most so many batches ahead, and stop when the loader goes") {
    const auto cache = std::make_shared<SlowCache>(small_cache(3));
    const Sampling sampling = plain_sampling(1, {4, 4, 4});
    {
        const auto loader = start(cache, sampling, 1, 0, 3, 2);
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        CHECK(cache->loads == 2);
        REQUIRE_OK(loader->next());
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        CHECK(cache->loads == 3);
    }
    for (int run = 0; run < 20; ++run) // at whatever the workers are doing
        for (const int threads : {1, 4}) {
            const auto loader = start(cache, sampling, 1, 0, threads, 8);
            if (run % 2 == 0)
                REQUIRE_OK(loader->next());
        }
    const int loads = cache->loads;
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    CHECK(cache->loads == loads);
}

TEST_CASE("waiting is measured") {
    const auto cache = std::make_shared<SlowCache>(small_cache(3));
    const Sampling sampling = plain_sampling(2, {4, 4, 4});
    const auto inside = start(cache, sampling, 1, 0, 0);
    CHECK(inside->waited_seconds() == 0.0);
    REQUIRE_OK(inside->next());
    CHECK(inside->waited_seconds() >= 0.010);
    const auto ahead = start(cache, sampling, 1, 0, 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    REQUIRE_OK(ahead->next());
    CHECK(ahead->waited_seconds() < 0.1);
}
