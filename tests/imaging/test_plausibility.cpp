// SPDX-License-Identifier: MIT
// Cases that are not what they are given as: each rejected by its code, each accepted by it.
#include "imaging/plausibility.h"
#include "phantom/phantom.h"
#include "support/cases.h"
#include "support/disturbed.h"

#include <algorithm>
#include <cmath>

using namespace mfres;

namespace {

using Volumes = std::array<Volume, 4>;
using test::Index;

const Volumes& head() {
    static const Volumes volumes = [] {
        auto made = make_phantom({.seed = 11, .threads = 2});
        REQUIRE_OK(made);
        return std::move(made->volumes);
    }();
    return volumes;
}

struct Outcome {
    Result<Preprocessing> preprocessing;
    std::vector<std::string> warnings;
};

Outcome outcome_of(const Volumes& volumes, const CaseOptions& options = {.threads = 2},
                   Normalisation normalisation = Normalisation::zscore_brain) {
    std::array<VolumeView, 4> views;
    for (std::size_t m = 0; m < 4; ++m)
        views[m] = VolumeView::of(volumes[m]);
    auto loaded = load_case("head", views, options);
    REQUIRE_OK(loaded);
    Outcome outcome{preprocess_case(*loaded, {.threads = 2, .normalisation = normalisation}), {}};
    outcome.warnings = loaded->warnings;
    return outcome;
}

/// Rejected with the code and a sentence that has all `words`; accepted by the code with one warning that names it.
void check_rejected(const Volumes& volumes, ErrorCode code, const std::vector<std::string>& words,
                    AcceptedChecks others = {}) {
    CaseOptions options{.threads = 2};
    options.accept = others;
    const Outcome rejected = outcome_of(volumes, options);
    REQUIRE_FALSE(rejected.preprocessing.ok());
    const Error& error = rejected.preprocessing.error();
    INFO(error.message);
    CHECK(name(error.code) == name(code));
    for (const std::string& word : words) {
        INFO(word);
        CHECK(error.message.find(word) != std::string::npos);
    }
    CHECK_FALSE(error.where.empty());
    options.accept.insert(code);
    const Outcome accepted = outcome_of(volumes, options);
    REQUIRE_OK(accepted.preprocessing);
    const std::string mark = "(accepted: " + std::string(name(code)) + ")";
    CHECK(std::any_of(accepted.warnings.begin(), accepted.warnings.end(),
                      [&](const std::string& warning) { return warning.find(mark) != std::string::npos; }));
}

/// Tissue in every voxel of 0 inside an ellipsoid around the grid's middle.
void add_skull(Volume& volume, std::uint64_t seed) {
    Random random(seed);
    const Index& size = volume.grid.size;
    constexpr std::array<double, 3> radius = {90.0, 110.0, 95.0};
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (std::int64_t i = 0; i < size[0]; ++i) {
                double sum = 0.0;
                const Index at = {i, j, k};
                for (std::size_t axis = 0; axis < 3; ++axis)
                    sum += std::pow(
                        (static_cast<double>(at[axis]) - 0.5 * static_cast<double>(size[axis])) / radius[axis], 2);
                if (float& value = volume.voxels[test::offset_of(volume.grid, at)]; sum <= 1.0 && value == 0.0F)
                    value = static_cast<float>(random.uniform(100.0, 600.0));
            }
}

} // namespace

TEST_CASE("a phantom of an adult's size passes every check without a warning") {
    const Outcome outcome = outcome_of(head());
    REQUIRE_OK(outcome.preprocessing);
    INFO((outcome.warnings.empty() ? "" : outcome.warnings[0]));
    CHECK(outcome.warnings.empty());
}

TEST_CASE("a brain of 2 x 2 x 2 voxels is too small") {
    Volumes volumes;
    for (std::size_t m = 0; m < 4; ++m) {
        volumes[m].grid = {{8, 8, 8}, {{{-1, 0, 0, 0}, {0, -1, 0, 7}, {0, 0, 1, 0}}}};
        volumes[m].voxels.assign(512, 0.0F);
        for (std::size_t n = 0; n < 8; ++n)
            volumes[m].voxels[3 + n % 2 + 8 * (3 + n / 2 % 2 + 8 * (3 + n / 4))] =
                static_cast<float>(100 + (n * (2 * m + 3)) % 8);
    }
    check_rejected(volumes, ErrorCode::brain_implausible, {"head", "0.01 ml", "400 ml"},
                   {ErrorCode::modality_correlation, ErrorCode::intensity_outliers});
}

TEST_CASE("a head with its skull is too large, in all contrasts or in one") {
    SECTION("all") {
        Volumes volumes = head();
        for (std::size_t m = 0; m < 4; ++m)
            add_skull(volumes[m], m);
        check_rejected(volumes, ErrorCode::brain_implausible, {"skull", "2500 ml"}, {ErrorCode::brain_at_border});
    }
    SECTION("T2") {
        Volumes volumes = head();
        add_skull(volumes[2], 1);
        const Outcome outcome = outcome_of(volumes);
        REQUIRE_CODE(outcome.preprocessing, brain_implausible);
        CHECK(outcome.preprocessing.error().message.find("skull of t2 of head (T2)") != std::string::npos);
    }
    SECTION("all, noisy around") {
        Volumes volumes = head();
        Random random(3);
        for (Volume& volume : volumes)
            for (float& value : volume.voxels)
                if (value == 0.0F)
                    value = static_cast<float>(random.uniform(0.0, 60.0));
        const Outcome outcome = outcome_of(volumes);
        REQUIRE_CODE(outcome.preprocessing, brain_implausible);
        CHECK(outcome.preprocessing.error().message.find("background") != std::string::npos);
    }
}

TEST_CASE("a brain that is cut off at the border is not whole") {
    Volumes volumes = head();
    for (Volume& volume : volumes) { // the lower half is not there
        const std::int64_t cut = volume.grid.size[2] / 2;
        volume.voxels.erase(volume.voxels.begin(),
                            volume.voxels.begin() + volume.grid.size[0] * volume.grid.size[1] * cut);
        volume.grid.size[2] -= cut;
    }
    check_rejected(volumes, ErrorCode::brain_at_border, {"% of the border", "2 %"});
}

TEST_CASE("half a field of view is rejected with the contrast that has it") {
    Volumes volumes = head();
    auto& flair = volumes[3].voxels;
    std::fill(flair.begin(), flair.begin() + static_cast<std::ptrdiff_t>(flair.size() / 2), 0.0F);
    check_rejected(volumes, ErrorCode::modality_coverage, {"flair of head (FLAIR) shows", "95 %"});
}

TEST_CASE("a contrast that lies elsewhere is rejected") {
    Volumes volumes = head();
    volumes[3] = test::moved(volumes[3], {12, 12, 6});
    check_rejected(volumes, ErrorCode::modality_moved, {"flair of head (FLAIR) is not where", "95 %"},
                   {ErrorCode::modality_coverage, ErrorCode::modality_correlation});
}

TEST_CASE("T1 given as T1ce after other scaling and a little noise is rejected") {
    Volumes volumes = head();
    Random random(5);
    volumes[1] = volumes[0];
    for (float& value : volumes[1].voxels)
        if (value != 0.0F)
            value = static_cast<float>(1.7 * static_cast<double>(value) + 50.0 + random.uniform(-10.0, 10.0));
    check_rejected(volumes, ErrorCode::modality_correlation, {"T1)", "T1ce)", "0.97"});
}

TEST_CASE("one wild voxel is rejected, and clipped by a normalisation that does so") {
    const Outcome expected = outcome_of(head(), {.threads = 2}, Normalisation::zscore_brain_clipped);
    REQUIRE_OK(expected.preprocessing);
    Volumes volumes = head();
    volumes[1].voxels[test::offset_of(volumes[1].grid, {120, 120, 77})] = 1e9F;
    check_rejected(volumes, ErrorCode::intensity_outliers, {"t1ce of head (T1ce)", "zscore-brain-clipped"});
    const Outcome clipped = outcome_of(volumes, {.threads = 2}, Normalisation::zscore_brain_clipped);
    REQUIRE_OK(clipped.preprocessing);
    CHECK(clipped.preprocessing->brain_voxels == expected.preprocessing->brain_voxels);
    CHECK(clipped.preprocessing->intensity[1].mean == Approx(expected.preprocessing->intensity[1].mean).epsilon(1e-4));
    CHECK(clipped.preprocessing->intensity[1].stddev ==
          Approx(expected.preprocessing->intensity[1].stddev).epsilon(1e-4));
}

TEST_CASE("T1 and T1ce that are swapped are a warning where names do not tell") {
    Volumes volumes = head();
    // Contrast agent: 3 % of the voxels of T1ce are far brighter.
    Random random(6);
    for (float& value : volumes[1].voxels)
        if (value != 0.0F && random.below(100) < 3)
            value *= 4.0F;
    CHECK(outcome_of(volumes).warnings.empty());
    std::swap(volumes[0], volumes[1]);
    const Outcome swapped = outcome_of(volumes);
    REQUIRE_OK(swapped.preprocessing);
    REQUIRE(swapped.warnings.size() == 1);
    CHECK(swapped.warnings[0].find("may be swapped") != std::string::npos);
}

TEST_CASE("what is not connected to the brain and a noisy background are told") {
    Volumes volumes = head();
    for (Volume& volume : volumes)
        for (std::int64_t k = 2; k < 15; ++k)
            for (std::int64_t i = 2; i < 15; ++i)
                for (std::int64_t j = 2; j < 15; ++j)
                    volume.voxels[test::offset_of(volume.grid, {i, j, k})] = static_cast<float>(300 + i * j);
    test::add_noise_around(volumes[3], 1e-6, 2);
    const Outcome outcome = outcome_of(volumes);
    REQUIRE_OK(outcome.preprocessing);
    REQUIRE(outcome.warnings.size() == 2);
    CHECK(outcome.warnings[0].find("2.2 ml of head") != std::string::npos);
    CHECK(outcome.warnings[1].find("the background of flair of head (FLAIR) is noisy") != std::string::npos);
}

TEST_CASE("file names that contradict what they are given as are rejected") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    CaseFiles swapped = files;
    std::swap(swapped.modalities[0], swapped.modalities[1]);
    const auto rejected = load_case(swapped);
    REQUIRE_CODE(rejected, modality_misnamed);
    CHECK(rejected.error().message.find("phantom_t1ce.nii.gz is given as t1, but its name says t1ce") !=
          std::string::npos);
    CaseOptions options;
    options.accept = {ErrorCode::modality_misnamed};
    const auto accepted = load_case(swapped, options);
    REQUIRE_OK(accepted);
    REQUIRE(accepted->warnings.size() == 2);
    CHECK(accepted->warnings[0].find("(accepted: modality_misnamed)") != std::string::npos);

    CaseFiles labels = files;
    labels.modalities[0] = folder / "phantom" / "phantom_seg.nii.gz";
    const auto labels_as_t1 = load_case(labels);
    REQUIRE_CODE(labels_as_t1, modality_misnamed);
    CHECK(labels_as_t1.error().message.find("says segmentation") != std::string::npos);
}

TEST_CASE("words at the end of a file's name say what it holds") {
    const auto slot = [](const char* file) { return named_slot(file); };
    CHECK(slot("a/p_t1.nii.gz") == std::optional<std::size_t>(0));
    CHECK(slot("T1.nii") == std::optional<std::size_t>(0));
    CHECK(slot("sub-01_ce_T1Gd.img") == std::optional<std::size_t>(1));
    CHECK(slot("x-t1c.nii.gz") == std::optional<std::size_t>(1));
    CHECK(slot("x-t2w.hdr") == std::optional<std::size_t>(2));
    CHECK(slot("x.FLAIR.nii") == std::optional<std::size_t>(3));
    CHECK(slot("x_seg.nii.gz") == std::optional<std::size_t>(segmentation_slot));
    for (const char* file : {"x.nii.gz", "bat1.nii", "t1.txt", "flair", "x_t1_brain.nii.gz", ""})
        CHECK_FALSE(slot(file).has_value());
}

TEST_CASE("only checks of plausibility can be accepted") {
    REQUIRE_CODE(parse_plausibility_check("voxel_not_finite"), invalid_argument);
    REQUIRE_CODE(parse_plausibility_check(""), invalid_argument);
    for (const ErrorCode code : plausibility_checks) {
        const auto parsed = parse_plausibility_check(name(code));
        REQUIRE_OK(parsed);
        CHECK(*parsed == code);
        CHECK(plausibility_check_names().find(name(code)) != std::string::npos);
    }
    const test::TemporaryFolder folder;
    CaseOptions options;
    options.accept = {ErrorCode::voxel_not_finite};
    REQUIRE_CODE(load_case(test::write_case(folder), options), invalid_argument);
    options.accept = {};
    options.min_brain_ml = 3000.0;
    REQUIRE_CODE(load_case(test::write_case(folder), options), invalid_argument);
}
