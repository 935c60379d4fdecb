// SPDX-License-Identifier: MIT
#include "phantom/phantom.h"

#include "support/catch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace mfres;

namespace {

Phantom small_phantom(std::uint64_t seed, int threads = 2) {
    PhantomOptions options;
    options.seed = seed;
    options.size = {64, 64, 48};
    options.threads = threads;
    auto phantom = make_phantom(options);
    REQUIRE_OK(phantom);
    return std::move(phantom).value();
}

const std::vector<float>& voxels(const Phantom& phantom, Modality modality) {
    return phantom.volumes[static_cast<std::size_t>(modality)].voxels;
}

double mean_where(const Phantom& phantom, Modality modality, std::uint8_t label) {
    double sum = 0;
    double count = 0;
    for (std::size_t n = 0; n < phantom.labels.labels.size(); ++n)
        if (phantom.labels.labels[n] == label) {
            sum += voxels(phantom, modality)[n];
            ++count;
        }
    REQUIRE(count > 0);
    return sum / count;
}

/// Indices of brain voxels without tumour.
std::vector<std::size_t> healthy_voxels(const Phantom& phantom) {
    std::vector<std::size_t> result;
    for (std::size_t n = 0; n < phantom.labels.labels.size(); ++n)
        if (phantom.labels.labels[n] == 0 && voxels(phantom, Modality::t1)[n] > 0)
            result.push_back(n);
    return result;
}

/// The intensity that `share` of the healthy brain stays below.
double healthy_quantile(const Phantom& phantom, Modality modality, double share) {
    std::vector<float> values;
    for (const auto n : healthy_voxels(phantom))
        values.push_back(voxels(phantom, modality)[n]);
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size()))];
}

double healthy_median(const Phantom& phantom, Modality modality) {
    return healthy_quantile(phantom, modality, 0.5);
}

double correlation(const Phantom& phantom, Modality a, Modality b, const std::vector<std::size_t>& where) {
    double sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0;
    for (const auto n : where) {
        const double x = voxels(phantom, a)[n];
        const double y = voxels(phantom, b)[n];
        sa += x;
        sb += y;
        saa += x * x;
        sbb += y * y;
        sab += x * y;
    }
    const auto count = static_cast<double>(where.size());
    return (sab - sa * sb / count) / std::sqrt((saa - sa * sa / count) * (sbb - sb * sb / count));
}

bool same_bits(const Phantom& a, const Phantom& b) {
    for (std::size_t m = 0; m < a.volumes.size(); ++m)
        if (a.volumes[m].voxels != b.volumes[m].voxels)
            return false;
    return a.labels.labels == b.labels.labels;
}

std::int64_t count_label(const LabelMap& map, std::uint8_t label) {
    return std::count(map.labels.begin(), map.labels.end(), label);
}

/// Number of core voxels with a face neighbour that is neither core nor enhancing.
std::int64_t open_core_voxels(const LabelMap& map) {
    const auto& size = map.grid.size;
    const auto at = [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        return map.labels[static_cast<std::size_t>(i + size[0] * (j + size[1] * k))];
    };
    std::int64_t open = 0;
    for (std::int64_t k = 1; k + 1 < size[2]; ++k)
        for (std::int64_t j = 1; j + 1 < size[1]; ++j)
            for (std::int64_t i = 1; i + 1 < size[0]; ++i) {
                if (at(i, j, k) != 1)
                    continue;
                for (const auto label : {at(i - 1, j, k), at(i + 1, j, k), at(i, j - 1, k), at(i, j + 1, k),
                                         at(i, j, k - 1), at(i, j, k + 1)})
                    if (label != 1 && label != 4) {
                        ++open;
                        break;
                    }
            }
    return open;
}

} // namespace

TEST_CASE("a phantom depends on its seed and not on the number of threads") {
    const Phantom one = small_phantom(7, 1);
    REQUIRE(same_bits(one, small_phantom(7, 1)));
    REQUIRE(same_bits(one, small_phantom(7, 2)));
    REQUIRE(same_bits(one, small_phantom(7, 5)));
    const Phantom other = small_phantom(8, 1);
    for (std::size_t m = 0; m < one.volumes.size(); ++m)
        REQUIRE(one.volumes[m].voxels != other.volumes[m].voxels);
    REQUIRE(one.labels.labels != other.labels.labels);
}

TEST_CASE("a phantom has the BraTS geometry and intensities int16 can hold") {
    const Phantom phantom = small_phantom(1);
    const Affine expected = {{{-1, 0, 0, 0}, {0, -1, 0, 63}, {0, 0, 1, 0}}};
    REQUIRE(phantom.labels.grid.size == std::array<std::int64_t, 3>{64, 64, 48});
    REQUIRE(phantom.labels.grid.affine == expected);
    for (const Volume& volume : phantom.volumes) {
        REQUIRE(volume.grid == phantom.labels.grid);
        REQUIRE(volume.voxels.size() == 64U * 64U * 48U);
        REQUIRE(std::all_of(volume.voxels.begin(), volume.voxels.end(),
                            [](float v) { return v >= 0 && v <= 32767 && v == std::floor(v); }));
    }
}

TEST_CASE("all contrasts of a phantom share one brain that fills a sensible part of the grid") {
    for (const std::uint64_t seed : {1, 2, 3, 4}) {
        const Phantom phantom = small_phantom(seed);
        const auto& t1 = voxels(phantom, Modality::t1);
        std::int64_t brain = 0;
        for (std::size_t n = 0; n < t1.size(); ++n) {
            brain += t1[n] > 0 ? 1 : 0;
            for (const Volume& volume : phantom.volumes)
                if ((volume.voxels[n] > 0) != (t1[n] > 0))
                    FAIL("contrasts disagree on the brain at voxel " << n);
        }
        const double share = static_cast<double>(brain) / static_cast<double>(t1.size());
        INFO("seed " << seed);
        REQUIRE(share > 0.08);
        REQUIRE(share < 0.25);
        // As in data cropped from one atlas, nothing touches the sides: the border is a sample of the background.
        REQUIRE(t1.front() == 0);
        REQUIRE(t1.back() == 0);
    }
}

TEST_CASE("a phantom's tumour is nested, inside the brain and in one hemisphere") {
    for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
        INFO("seed " << seed);
        const Phantom phantom = small_phantom(seed);
        const auto& labels = phantom.labels.labels;
        for (const auto label : {std::uint8_t{1}, std::uint8_t{2}, std::uint8_t{4}})
            REQUIRE(count_label(phantom.labels, label) > 0);
        const auto known = [](std::uint8_t label) { return label <= 2 || label == 4; };
        REQUIRE(std::all_of(labels.begin(), labels.end(), known));
        REQUIRE(open_core_voxels(phantom.labels) == 0);

        std::int64_t outside = 0;
        std::int64_t left = 0;
        std::int64_t right = 0;
        std::int64_t brain = 0;
        for (std::size_t n = 0; n < labels.size(); ++n) {
            const bool inside = voxels(phantom, Modality::flair)[n] > 0;
            brain += inside ? 1 : 0;
            outside += labels[n] != 0 && !inside ? 1 : 0;
            if (labels[n] == 1 || labels[n] == 4)
                ++(n % 64 < 32 ? right : left);
        }
        REQUIRE(outside == 0);
        REQUIRE(std::min(left, right) <= (left + right) / 20);
        const double whole = static_cast<double>(labels.size()) - static_cast<double>(count_label(phantom.labels, 0));
        REQUIRE(whole / static_cast<double>(brain) > 0.015);
        REQUIRE(whole / static_cast<double>(brain) < 0.10);
    }
}

TEST_CASE("tumour tissue has the contrast of its kind in every modality") {
    for (const std::uint64_t seed : {1, 2, 3}) {
        INFO("seed " << seed);
        const Phantom phantom = small_phantom(seed);
        // Oedema: darker in T1 than the white matter it lies in, bright in T2, brightest in FLAIR.
        REQUIRE(mean_where(phantom, Modality::flair, 2) > 1.5 * healthy_median(phantom, Modality::flair));
        REQUIRE(mean_where(phantom, Modality::t2, 2) > 1.2 * healthy_median(phantom, Modality::t2));
        REQUIRE(mean_where(phantom, Modality::t1, 2) < healthy_quantile(phantom, Modality::t1, 0.75));
        // Contrast agent lights up the rim only.
        const auto relative = [&](Modality modality, std::uint8_t label) {
            return mean_where(phantom, modality, label) / healthy_median(phantom, modality);
        };
        REQUIRE(relative(Modality::t1ce, 4) > 1.1);
        REQUIRE(relative(Modality::t1ce, 4) > 1.3 * relative(Modality::t1, 4));
        REQUIRE(relative(Modality::t1ce, 2) < 1.15 * relative(Modality::t1, 2));
        REQUIRE(mean_where(phantom, Modality::t1ce, 4) > 1.2 * mean_where(phantom, Modality::t1ce, 1));
        REQUIRE(mean_where(phantom, Modality::t1, 4) < 1.05 * healthy_median(phantom, Modality::t1));
        // Necrosis is fluid-like: dark in T1, bright in T2, and FLAIR puts it below oedema.
        REQUIRE(mean_where(phantom, Modality::t1, 1) < 0.9 * healthy_median(phantom, Modality::t1));
        REQUIRE(mean_where(phantom, Modality::t2, 1) > 1.3 * healthy_median(phantom, Modality::t2));
        REQUIRE(mean_where(phantom, Modality::flair, 1) < mean_where(phantom, Modality::flair, 2));
    }
}

TEST_CASE("healthy tissue has fluid dark in T1 and FLAIR, bright in T2, and white matter brightest in T1") {
    const Phantom phantom = small_phantom(3);
    auto healthy = healthy_voxels(phantom);
    // White matter, grey matter and fluid are ordered one way in T1 and the other way in T2.
    REQUIRE(correlation(phantom, Modality::t1, Modality::t2, healthy) < -0.6);
    REQUIRE(correlation(phantom, Modality::t1, Modality::t1ce, healthy) > 0.8);
    std::sort(healthy.begin(), healthy.end(), [&](std::size_t a, std::size_t b) {
        return voxels(phantom, Modality::flair)[a] < voxels(phantom, Modality::flair)[b];
    });
    const std::size_t fluid = healthy.size() / 50;
    double t1 = 0;
    double t2 = 0;
    for (std::size_t n = 0; n < fluid; ++n) {
        t1 += voxels(phantom, Modality::t1)[healthy[n]] / static_cast<double>(fluid);
        t2 += voxels(phantom, Modality::t2)[healthy[n]] / static_cast<double>(fluid);
    }
    REQUIRE(t2 > 1.4 * healthy_median(phantom, Modality::t2));
    REQUIRE(t1 < 0.7 * healthy_median(phantom, Modality::t1));
}

TEST_CASE("a phantom of BraTS size has an adult's brain and a tumour of 30 to 120 ml") {
    PhantomOptions options;
    options.seed = 11;
    auto made = make_phantom(options);
    REQUIRE_OK(made);
    const Phantom& phantom = *made;
    REQUIRE(phantom.labels.grid.size == std::array<std::int64_t, 3>{240, 240, 155});
    REQUIRE(phantom.labels.grid.affine[1][3] == 239);
    const auto& t1 = voxels(phantom, Modality::t1);
    const double brain_ml =
        1e-3 * static_cast<double>(std::count_if(t1.begin(), t1.end(), [](float v) { return v > 0; }));
    REQUIRE(brain_ml > 1000);
    REQUIRE(brain_ml < 2000);
    const auto& labels = phantom.labels;
    const double whole_ml = 1e-3 * static_cast<double>(labels.grid.voxels() - count_label(labels, 0));
    const double core_ml = 1e-3 * static_cast<double>(count_label(labels, 1) + count_label(labels, 4));
    REQUIRE(whole_ml > 30);
    REQUIRE(whole_ml < 120);
    REQUIRE(core_ml > 0.1 * whole_ml);
    REQUIRE(core_ml < 0.6 * whole_ml);
    REQUIRE(open_core_voxels(labels) == 0);
}

TEST_CASE("phantoms fit any permitted grid, the head scaled along all axes alike") {
    for (const auto& size : {std::array<std::int64_t, 3>{32, 32, 32}, {40, 100, 33}, {61, 47, 90}}) {
        PhantomOptions options;
        options.size = size;
        auto phantom = make_phantom(options);
        REQUIRE_OK(phantom);
        REQUIRE(phantom->labels.grid.size == size);
        REQUIRE(count_label(phantom->labels, 2) > 0);
        REQUIRE(count_label(phantom->labels, 4) > 0);
        REQUIRE(open_core_voxels(phantom->labels) == 0);
    }
}

TEST_CASE("a phantom of an impossible size or thread count is rejected") {
    for (std::size_t axis = 0; axis < 3; ++axis)
        for (const std::int64_t extent : {-5, 0, 31, 1025}) {
            PhantomOptions options;
            options.size = {64, 64, 48};
            options.size[axis] = extent;
            const auto phantom = make_phantom(options);
            REQUIRE_CODE(phantom, invalid_argument);
            REQUIRE(phantom.error().message.find(std::to_string(extent)) != std::string::npos);
        }
    PhantomOptions options;
    options.size = {64, 64, 48};
    options.threads = -1;
    REQUIRE_CODE(make_phantom(options), invalid_argument);
}
