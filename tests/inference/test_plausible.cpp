// SPDX-License-Identifier: MIT
// Faults that public data has: the labels are those of the untouched case, or the case is rejected.
#include "imaging/nifti/nifti.h"
#include "phantom/phantom.h"
#include "support/cases.h"
#include "support/disturbed.h"

#include <mfres/predictor.h>
#include <mfres/segmenter.h>

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
