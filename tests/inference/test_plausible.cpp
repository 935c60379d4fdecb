// SPDX-License-Identifier: MIT
// Faults that public data has: the labels are those of the untouched case, or the case is rejected.
#include "imaging/nifti/nifti.h"
#include "phantom/phantom.h"
#include "support/cases.h"
#include "support/disturbed.h"

#include <mfres/predictor.h>
#include <mfres/segmenter.h>

#include <algorithm>
#include <cmath>
#include <limits>

using namespace mfres;

namespace {

using Volumes = std::array<Volume, 4>;

std::filesystem::path shipped(const std::string& name) {
    return std::filesystem::path(MFRES_SOURCE_DIR) / "models" / (name + ".safetensors");
}

const Volumes& head() {
    static const Volumes volumes = [] {
        auto made = make_phantom({.seed = 3, .threads = 2});
        REQUIRE_OK(made);
        return std::move(made->volumes);
    }();
    return volumes;
}

Result<Prediction> predict(Predictor& predictor, const Volumes& volumes, const PredictOptions& options = {}) {
    CaseVolumes views;
    views.id = "head";
    for (std::size_t m = 0; m < 4; ++m)
        views.volumes[m] = VolumeView::of(volumes[m]);
    return predictor.predict(views, options);
}

/// Dice of the whole tumour. Voxels of `b` beyond the grid of `a`, which begins where that of `b` does, are not looked at.
double dice(const LabelMap& a, const LabelMap& b) {
    std::int64_t both = 0;
    std::int64_t sum = 0;
    const auto& size = a.grid.size;
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (std::int64_t i = 0; i < size[0]; ++i) {
                const bool first = a.labels[test::offset_of(a.grid, {i, j, k})] != 0;
                const bool second = b.labels[test::offset_of(b.grid, {i, j, k})] != 0;
                both += first && second ? 1 : 0;
                sum += (first ? 1 : 0) + (second ? 1 : 0);
            }
    REQUIRE(sum > 20000); // the network finds the tumour
    return 2.0 * static_cast<double>(both) / static_cast<double>(sum);
}

} // namespace

TEST_CASE("noise, padding and ringing around the brain leave the labels of the untouched case") {
    auto predictor = Predictor::open(shipped("mf-res2net-quarter"), {.compute = {.threads = 2}});
    REQUIRE_OK(predictor);
    const auto expected = predict(*predictor, head());
    REQUIRE_OK(expected);
    CHECK(expected->report.warnings.empty());
    Volumes volumes = head();
    bool told = true;
    SECTION("noise of 1e-6 in FLAIR") {
        test::add_noise_around(volumes[3], 1e-6, 1);
    }
    SECTION("noise in all contrasts") {
        for (std::size_t m = 0; m < 4; ++m)
            test::add_noise_around(volumes[m], 1e-6, m);
    }
    SECTION("ringing of splines in FLAIR") {
        test::ring(volumes[3]);
    }
    SECTION("zeros around scores of the whole volume") {
        for (Volume& volume : volumes) {
            test::standardise(volume);
            volume = test::padded(volume, {0, 0, 0}, {10, 10, 5}, 0.0F);
        }
        told = false;
    }
    const auto result = predict(*predictor, volumes);
    REQUIRE_OK(result);
    CHECK(dice(expected->labels, result->labels) > 0.99);
    CHECK(result->report.warnings.empty() != told);
}

namespace {

/// The brain of a head: where a contrast is not 0.
std::vector<bool> brain_of(const Volumes& volumes) {
    std::vector<bool> brain(volumes[0].voxels.size());
    for (const Volume& volume : volumes)
        for (std::size_t i = 0; i < brain.size(); ++i)
            brain[i] = brain[i] || volume.voxels[i] != 0.0F;
    return brain;
}

/// The lowest plane of the brain above which `share` of its voxels lie below.
std::int64_t plane_above(const Volumes& volumes, double share) {
    const std::vector<bool> brain = brain_of(volumes);
    const auto& size = volumes[0].grid.size;
    const auto all = static_cast<double>(std::count(brain.begin(), brain.end(), true));
    std::int64_t below = 0;
    for (std::int64_t k = 0; k < size[2]; ++k) {
        const auto plane = brain.begin() + size[0] * size[1] * k;
        below += std::count(plane, plane + size[0] * size[1], true);
        if (static_cast<double>(below) >= share * all)
            return k;
    }
    return size[2];
}

} // namespace

TEST_CASE("a contrast that shows a little less than the others has the same labels whatever its background is") {
    auto predictor = Predictor::open(shipped("mf-res2net-quarter"), {.compute = {.threads = 2}});
    REQUIRE_OK(predictor);
    const std::int64_t cut = plane_above(head(), 0.02);
    const std::vector<bool> brain = brain_of(head());
    const auto with_background = [&](float background) {
        Volumes volumes = head();
        for (std::size_t m = 0; m < 4; ++m)
            for (std::size_t i = 0; i < brain.size(); ++i) {
                const auto k = static_cast<std::int64_t>(i) / (volumes[m].grid.size[0] * volumes[m].grid.size[1]);
                if (!brain[i] || (m == 3 && k < cut))
                    volumes[m].voxels[i] = background;
            }
        return volumes;
    };
    const auto expected = predict(*predictor, with_background(0.0F));
    REQUIRE_OK(expected);
    for (const float background : {-1024.0F, -32768.0F}) {
        INFO("background " << background);
        const auto result = predict(*predictor, with_background(background));
        REQUIRE_OK(result);
        CHECK(dice(expected->labels, result->labels) > 0.99);
    }
}

TEST_CASE("a background that was mixed into the rim of the brain is rejected") {
    auto predictor = Predictor::open(shipped("mf-res2net-quarter"), {.compute = {.threads = 2}});
    REQUIRE_OK(predictor);
    Volumes volumes = head();
    const std::vector<bool> brain = brain_of(volumes);
    std::vector<float>& flair = volumes[3].voxels;
    for (std::size_t i = 0; i < brain.size(); ++i)
        if (!brain[i])
            flair[i] = -32768.0F;
    const std::vector<float> sharp = flair;
    for (std::size_t i = 1; i < flair.size(); ++i) // as half a voxel's move by interpolation leaves it
        flair[i] = 0.5F * (sharp[i] + sharp[i - 1]);
    const auto result = predict(*predictor, volumes);
    REQUIRE_CODE(result, intensity_outliers);
    CHECK(result.error().message.find("(FLAIR)") != std::string::npos);
    CHECK(result.error().message.find("-32768") != std::string::npos);
}

TEST_CASE("a wild voxel changes nothing where the model clips, and is rejected where it does not") {
    const test::TemporaryFolder folder;
    auto model = load_model(shipped("mf-res2net-quarter"));
    REQUIRE_OK(model);
    model->metadata.normalisation = Normalisation::zscore_brain_clipped;
    REQUIRE_OK(save_model(folder / "clipped.safetensors", *model, Dtype::f32, true));
    auto clipping = Predictor::open(folder / "clipped.safetensors", {.compute = {.threads = 2}});
    REQUIRE_OK(clipping);
    const auto expected = predict(*clipping, head());
    REQUIRE_OK(expected);
    Volumes volumes = head();
    volumes[1].voxels[test::offset_of(volumes[1].grid, {120, 120, 77})] = 1e9F;
    const auto clipped = predict(*clipping, volumes);
    REQUIRE_OK(clipped);
    CHECK(dice(expected->labels, clipped->labels) > 0.99);

    model->metadata.normalisation = Normalisation::zscore_brain;
    REQUIRE_OK(save_model(folder / "usual.safetensors", *model, Dtype::f32, true));
    auto usual = Predictor::open(folder / "usual.safetensors", {.compute = {.threads = 2}});
    REQUIRE_OK(usual);
    REQUIRE_CODE(predict(*usual, volumes), intensity_outliers);
}

TEST_CASE("an accepted check stands in the report, and another model's limits are its own") {
    const test::TemporaryFolder folder;
    const Volumes& small = test::small_phantom().volumes;
    auto usual = Predictor::open(shipped("mf-res2net-quarter"), {.compute = {.threads = 2}});
    REQUIRE_OK(usual);
    REQUIRE_CODE(predict(*usual, small), brain_implausible);
    auto accepting = Predictor::open(shipped("mf-res2net-quarter"),
                                     {.compute = {.threads = 2}, .accept = {ErrorCode::brain_implausible}});
    REQUIRE_OK(accepting);
    const auto accepted = predict(*accepting, small);
    REQUIRE_OK(accepted);
    REQUIRE(accepted->report.warnings.size() == 1);
    CHECK(accepted->report.warnings[0].find("(accepted: brain_implausible)") != std::string::npos);
    auto own = Predictor::open(test::write_model(folder, test::small_network), {.compute = {.threads = 2}});
    REQUIRE_OK(own);
    const auto result = predict(*own, small);
    REQUIRE_OK(result);
    CHECK(result->report.warnings.empty());
}

namespace {

/// Dice of each region between two maps of BraTS labels on one grid.
std::array<double, 3> region_dice(const LabelMap& a, const LabelMap& b) {
    const auto in_region = [](std::uint8_t label, std::size_t region) {
        return region == 0 ? label != 0 : region == 1 ? label == 1 || label == 4 : label == 4;
    };
    std::array<double, 3> result{};
    for (std::size_t region = 0; region < result.size(); ++region) {
        std::int64_t both = 0;
        std::int64_t sum = 0;
        for (std::size_t i = 0; i < a.labels.size(); ++i) {
            const bool first = in_region(a.labels[i], region);
            const bool second = in_region(b.labels[i], region);
            both += first && second ? 1 : 0;
            sum += (first ? 1 : 0) + (second ? 1 : 0);
        }
        REQUIRE(sum > 2000); // enough voxels for a hundredth
        result[region] = 2.0 * static_cast<double>(both) / static_cast<double>(sum);
    }
    return result;
}

} // namespace

TEST_CASE("a real patient with noise around the brain or a wild voxel gets the labels of the untouched case") {
    const auto root = test::shared_data("data/real/original/BraTS2021_01481");
    if (!root)
        return;
    const auto files = find_case(*root);
    REQUIRE_OK(files);
    Volumes untouched;
    for (std::size_t m = 0; m < untouched.size(); ++m) {
        auto read = read_nifti(files->modalities[m]);
        REQUIRE_OK(read);
        untouched[m] = std::move(read->volume);
    }
    auto predictor = Predictor::open(shipped("mf-res2net-quarter"), {.compute = {.threads = 2}});
    REQUIRE_OK(predictor);
    const PredictOptions options{.label_scheme = "brats"};
    const auto expected = predict(*predictor, untouched, options);
    REQUIRE_OK(expected);
    const auto check = [&](const char* what, const Volumes& volumes) {
        INFO(what);
        const auto result = predict(*predictor, volumes, options);
        REQUIRE_OK(result);
        for (const double dice : region_dice(expected->labels, result->labels))
            CHECK(dice >= 0.99);
    };
    Volumes volumes = untouched;
    test::add_noise_around(volumes[3], 1e-6, 1);
    check("FLAIR with noise of 1e-6 around it", volumes);
    for (std::size_t m = 0; m < 3; ++m)
        test::add_noise_around(volumes[m], 1e-6, m + 2);
    check("all contrasts with noise of 1e-6", volumes);
    volumes = untouched;
    float& voxel = volumes[1].voxels[test::offset_of(volumes[1].grid, {120, 120, 77})];
    REQUIRE(voxel != 0.0F); // tissue
    voxel = 1e9F;
    check("a voxel of 1e9 in T1ce", volumes);
}
