// SPDX-License-Identifier: MIT
// Mirror images: views, combinations, and the mean of probabilities.
#include "inference/test_time_augmentation.h"
#include "support/catch.h"

#include <cmath>
#include <limits>
#include <set>

using namespace mfres;

TEST_CASE("mirror axes are letters of xyz, each at most once") {
    const auto axes = parse_mirror_axes("zx");
    REQUIRE_OK(axes);
    CHECK(*axes == MirrorAxes{true, false, true});
    const auto none = parse_mirror_axes("");
    REQUIRE_OK(none);
    CHECK(*none == MirrorAxes{});
    for (const char* wrong : {"a", "xx", "x,y", "X", " "}) {
        const auto rejected = parse_mirror_axes(wrong);
        REQUIRE_CODE(rejected, invalid_argument);
        CHECK(rejected.error().message.find(wrong) != std::string::npos);
    }
}

TEST_CASE("mirror images are all combinations of the axes, the plain one first") {
    for (const MirrorAxes& axes :
         {MirrorAxes{}, MirrorAxes{false, true, false}, MirrorAxes{true, false, true}, MirrorAxes{true, true, true}}) {
        std::set<MirrorAxes> seen;
        for (std::size_t n = 0; n < mirror_images(axes); ++n) {
            const MirrorAxes image = mirror_image(axes, n);
            for (std::size_t axis = 0; axis < 3; ++axis)
                CHECK((axes[axis] || !image[axis]));
            seen.insert(image);
        }
        CHECK(seen.size() == mirror_images(axes));
        CHECK(mirror_image(axes, 0) == MirrorAxes{});
    }
    CHECK(mirror_images({true, true, true}) == 8);
}

TEST_CASE("a mirrored view counts its axes from the other end and back again") {
    Tensor tensor({1, 2, 3, 4, 5});
    for (std::int64_t i = 0; i < tensor.elements(); ++i)
        tensor[i] = static_cast<float>(i);
    const StridedView<float> plain = view(tensor);
    for (std::size_t n = 0; n < 8; ++n) {
        const MirrorAxes image = mirror_image({true, true, true}, n);
        const StridedView<float> turned = mirrored(plain, image);
        for (std::int64_t c = 0; c < 2; ++c)
            for (std::int64_t x = 0; x < 3; ++x)
                for (std::int64_t y = 0; y < 4; ++y)
                    for (std::int64_t z = 0; z < 5; ++z)
                        CHECK(turned.at(0, c, x, y, z) ==
                              plain.at(0, c, image[0] ? 2 - x : x, image[1] ? 3 - y : y, image[2] ? 4 - z : z));
        const StridedView<float> back = mirrored(turned, image);
        CHECK(back.data == plain.data);
        CHECK(back.strides == plain.strides);
    }
}

TEST_CASE("the mean of probabilities is that of their softmax, whatever the threads") {
    const Shape shape{1, 3, 4, 5, 6};
    std::vector<double> expected(static_cast<std::size_t>(shape.elements()), 0.0);
    ProbabilityMean one(shape);
    ProbabilityMean many(shape);
    const auto add = [&](float scale) {
        Tensor logits(shape);
        for (std::int64_t i = 0; i < logits.elements(); ++i)
            logits[i] = scale * static_cast<float>((i * 37) % 101 - 50); // also where exp() of it would overflow
        const std::int64_t voxels = shape.elements() / 3;
        for (std::int64_t v = 0; v < voxels; ++v) {
            double total = 0.0;
            for (std::int64_t c = 0; c < 3; ++c)
                total += std::exp(static_cast<double>(logits[c * voxels + v]) - static_cast<double>(logits[v]));
            for (std::int64_t c = 0; c < 3; ++c)
                expected[static_cast<std::size_t>(c * voxels + v)] +=
                    std::exp(static_cast<double>(logits[c * voxels + v]) - static_cast<double>(logits[v])) / total;
        }
        REQUIRE_OK(one.add(view(std::as_const(logits)), 1));
        REQUIRE_OK(many.add(view(std::as_const(logits)), 3));
    };
    add(0.1F);
    add(3.0F);
    const float* const sums = one.sums().data;
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
        CHECK(std::abs(sums[i] - expected[static_cast<std::size_t>(i)]) < 1e-5);
        CHECK(sums[i] == many.sums().data[i]);
    }
    one.clear();
    CHECK(one.sums().data[7] == 0.0F);
}

TEST_CASE("the mean of regions is that of their sigmoids") {
    const Shape shape{1, 3, 2, 3, 4};
    ProbabilityMean mean(shape, Outputs::regions);
    std::vector<double> expected(static_cast<std::size_t>(shape.elements()), 0.0);
    for (const float scale : {0.1F, 4.0F}) {
        Tensor logits(shape);
        for (std::int64_t i = 0; i < logits.elements(); ++i) {
            logits[i] = scale * static_cast<float>((i * 37) % 101 - 50);
            expected[static_cast<std::size_t>(i)] += 1.0 / (1.0 + std::exp(-double{logits[i]}));
        }
        REQUIRE_OK(mean.add(view(std::as_const(logits)), 2));
    }
    for (std::int64_t i = 0; i < shape.elements(); ++i)
        CHECK(std::abs(mean.sums().data[i] - expected[static_cast<std::size_t>(i)]) < 1e-6);
    const Tensor four({1, 4, 2, 3, 4}, 0.0F);
    REQUIRE_CODE(ProbabilityMean(four.shape(), Outputs::regions).add(view(four), 1), invalid_argument);
}

TEST_CASE("logits that are not finite or of another shape are rejected") {
    ProbabilityMean mean({1, 2, 2, 2, 2});
    Tensor logits({1, 2, 2, 2, 2}, 0.0F);
    REQUIRE_CODE(mean.add({}, 1), invalid_argument);
    const Tensor other({1, 2, 2, 2, 3}, 0.0F);
    REQUIRE_CODE(mean.add(view(other), 1), invalid_argument);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        logits[5] = bad;
        REQUIRE_CODE(mean.add(view(std::as_const(logits)), 1), logits_not_finite);
    }
}
