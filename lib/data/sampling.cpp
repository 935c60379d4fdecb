// SPDX-License-Identifier: MIT
#include "data/sampling.h"

#include "core/try.h"

#include <mfres/volume.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace mfres {

namespace {

constexpr std::int64_t largest_batch = 4096;
constexpr std::int64_t largest_crop = 1024;

// Every random choice has a stream of its own, so that an option that is switched on does not change the others'
// numbers.
enum Stream : std::uint64_t {
    placement_stream,
    mirror_stream,
    turn_stream,
    intensity_stream, ///< and the next three, one a modality
    dropout_stream = intensity_stream + 4,
    inversion_stream,                       ///< one a modality
    artefact_stream = inversion_stream + 4, ///< one a modality, forked again for each kind
    warp_stream = artefact_stream + 4,
    mixing_stream,
};
/// Kinds of artefacts, numbered as their streams.
enum Kind : std::uint64_t { histogram, bias, blurring, coarse_voxels, thick_slices, ringing, ghosts };
/// Orders of the passes come from Random(seed).fork(first_pass_stream + pass), apart from every step's stream.
constexpr std::uint64_t first_pass_stream = std::uint64_t{1} << 63U;

/// The cases of a pass in a random order (Fisher and Yates's shuffle).
std::vector<std::size_t> order_of_pass(std::size_t cases, std::uint64_t seed, std::uint64_t pass) {
    std::vector<std::size_t> order(cases);
    std::iota(order.begin(), order.end(), std::size_t{0});
    Random random = Random(seed).fork(first_pass_stream + pass);
    for (std::size_t left = cases; left > 1; --left)
        std::swap(order[left - 1], order[random.index(left)]);
    return order;
}

std::uint64_t tumour_voxels(const CacheEntry& entry) {
    return static_cast<std::uint64_t>(entry.class_voxels[1] + entry.class_voxels[2] + entry.class_voxels[3]);
}

/// The place of the n-th voxel whose class is not background. Precondition: there are more than n.
std::array<std::int64_t, 3> tumour_voxel(const CachedCase& source, std::uint64_t n) {
    std::int64_t index = 0;
    for (std::uint64_t seen = 0;; ++index)
        if (source.classes[static_cast<std::size_t>(index)] != 0 && seen++ == n)
            break;
    return {index / (source.size[1] * source.size[2]), index / source.size[2] % source.size[1], index % source.size[2]};
}

/// First voxel of the crop: along each axis the crop is within the box, or the box within the crop.
std::array<std::int64_t, 3> place_crop(const CachedCase& source, const CacheEntry& entry, const Sampling& sampling,
                                       Random random) {
    const std::uint64_t tumour = tumour_voxels(entry);
    std::array<double, 3> anywhere{};
    for (auto& number : anywhere)
        number = random.uniform();
    const bool centred = random.uniform() < sampling.tumour_probability && tumour > 0;
    const std::uint64_t drawn = random.next();
    std::array<std::int64_t, 3> centre{};
    if (centred)
        centre = tumour_voxel(source, drawn % tumour);
    std::array<std::int64_t, 3> begin{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t room = source.size[axis] - sampling.crop[axis];
        const std::int64_t low = std::min<std::int64_t>(room, 0);
        const std::int64_t high = std::max<std::int64_t>(room, 0);
        begin[axis] = centred ? std::clamp(centre[axis] - sampling.crop[axis] / 2, low, high)
                              : low + static_cast<std::int64_t>(anywhere[axis] * static_cast<double>(high - low + 1));
    }
    return begin;
}

Pose draw_pose(const CachedCase& source, const CacheEntry& entry, const Sampling& sampling, const Random& random) {
    Pose pose;
    pose.begin = place_crop(source, entry, sampling, random.fork(placement_stream));
    Random mirror = random.fork(mirror_stream);
    for (auto& flip : pose.flip)
        flip = sampling.flips && mirror.uniform() < 0.5;
    Random turn = random.fork(turn_stream);
    const bool turned = turn.uniform() < sampling.rotation_probability;
    pose.axis = static_cast<int>(turn.below(3));
    const double angle = turn.uniform(-sampling.rotation_degrees, sampling.rotation_degrees);
    const double zoom = turn.uniform(1.0 - sampling.zoom, 1.0 + sampling.zoom);
    if (turned) {
        pose.radians = angle * std::numbers::pi / 180.0;
        pose.zoom = zoom;
    }
    return pose;
}

constexpr std::size_t place_of(Modality modality) {
    return static_cast<std::size_t>(modality);
}

/// See Sampling::modality_dropout. One number a modality and one for the coin, whatever is dropped.
std::array<bool, 4> draw_dropped(const Sampling& sampling, Random random) {
    std::array<bool, 4> dropped{};
    for (bool& contrast : dropped)
        contrast = random.uniform() < sampling.modality_dropout;
    const std::size_t kept = random.uniform() < 0.5 ? place_of(Modality::t1ce) : place_of(Modality::flair);
    if (dropped[place_of(Modality::t1ce)] && dropped[place_of(Modality::flair)])
        dropped[kept] = false;
    return dropped;
}

std::array<IntensityChange, 4> draw_intensities(const Sampling& sampling, const Random& random) {
    const std::array<bool, 4> dropped = draw_dropped(sampling, random.fork(dropout_stream));
    std::array<IntensityChange, 4> changes;
    for (std::size_t m = 0; m < changes.size(); ++m) {
        if (dropped[m]) {
            changes[m] = IntensityChange::to_nothing();
            continue;
        }
        Random draws = random.fork(intensity_stream + m);
        changes[m].scale = draws.uniform(1.0 - sampling.intensity_scale, 1.0 + sampling.intensity_scale);
        changes[m].shift = draws.uniform(-sampling.intensity_shift, sampling.intensity_shift);
        changes[m].gamma = draws.uniform(1.0 - sampling.gamma, 1.0 + sampling.gamma);
        changes[m].inverted = random.fork(inversion_stream + m).uniform() < sampling.gamma_inverted;
        changes[m].noise = sampling.noise;
        changes[m].noise_seed = draws.next();
    }
    return changes;
}

/// Draws whether something happens, and if so calls draw(random).
template <typename Draw>
void perhaps(double probability, Random random, const Draw& draw) {
    if (random.uniform() < probability)
        draw(random);
}

Artefacts draw_artefacts(const Sampling& sampling, const Random& random) {
    Artefacts made;
    perhaps(sampling.histogram_shift_probability, random.fork(histogram), [&](Random& draws) {
        made.histogram_shift = sampling.histogram_shift;
        made.histogram_seed = draws.next();
    });
    perhaps(sampling.bias_field_probability, random.fork(bias), [&](Random& draws) {
        made.bias_field = draws.uniform(0.0, sampling.bias_field);
        made.bias_seed = draws.next();
    });
    perhaps(sampling.blur_probability, random.fork(blurring),
            [&](Random& draws) { made.blur = draws.uniform(0.0, sampling.blur); });
    perhaps(sampling.low_resolution_probability, random.fork(coarse_voxels), [&](Random& draws) {
        made.low_resolution = draws.uniform(1.0, sampling.low_resolution);
        for (double& phase : made.resolution_phase)
            phase = draws.uniform();
    });
    perhaps(sampling.anisotropy_probability, random.fork(thick_slices), [&](Random& draws) {
        made.slice_thickness = draws.uniform(1.0, sampling.anisotropy);
        made.slice_axis = static_cast<int>(draws.below(3));
        made.slice_phase = draws.uniform();
    });
    perhaps(sampling.ringing_probability, random.fork(ringing), [&](Random& draws) {
        made.ringing = draws.uniform(0.0, sampling.ringing);
        made.ringing_axis = static_cast<int>(draws.below(3));
    });
    perhaps(sampling.ghost_probability, random.fork(ghosts), [&](Random& draws) {
        made.ghost = draws.uniform(0.0, sampling.ghost);
        made.ghost_axis = static_cast<int>(draws.below(3));
        const auto extent = static_cast<double>(sampling.crop[static_cast<std::size_t>(made.ghost_axis)]);
        made.ghost_shift = static_cast<std::int64_t>(std::ceil(draws.uniform(extent / 8.0, extent / 2.0)));
    });
    return made;
}

} // namespace

Status check_range(const char* option, double value, double low, double high) {
    if (value >= low && value <= high)
        return {};
    return Error{ErrorCode::invalid_argument, text(option, " must lie between ", low, " and ", high, ", not ", value),
                 option};
}

Status check_sampling(const Sampling& sampling) {
    struct Range {
        const char* option;
        double value, low, high;
    };
    // clang-format off
    const Range ranges[] = {
        {"batch", static_cast<double>(sampling.batch), 1.0, static_cast<double>(largest_batch)},
        {"crop", static_cast<double>(sampling.crop[0]), 1.0, static_cast<double>(largest_crop)},
        {"crop", static_cast<double>(sampling.crop[1]), 1.0, static_cast<double>(largest_crop)},
        {"crop", static_cast<double>(sampling.crop[2]), 1.0, static_cast<double>(largest_crop)},
        {"tumour_probability", sampling.tumour_probability, 0.0, 1.0},
        {"rotation_degrees", sampling.rotation_degrees, 0.0, 180.0},
        {"rotation_probability", sampling.rotation_probability, 0.0, 1.0},
        {"intensity_scale", sampling.intensity_scale, 0.0, 0.99},
        {"intensity_shift", sampling.intensity_shift, 0.0, 100.0},
        {"gamma", sampling.gamma, 0.0, 0.99},
        {"noise", sampling.noise, 0.0, 100.0},
        {"zoom", sampling.zoom, 0.0, 0.9},
        {"modality_dropout", sampling.modality_dropout, 0.0, 1.0},
        {"gamma_inverted", sampling.gamma_inverted, 0.0, 1.0},
        {"histogram_shift", sampling.histogram_shift, 0.0, 0.49},
        {"histogram_shift_probability", sampling.histogram_shift_probability, 0.0, 1.0},
        {"bias_field", sampling.bias_field, 0.0, 0.9},
        {"bias_field_probability", sampling.bias_field_probability, 0.0, 1.0},
        {"blur", sampling.blur, 0.0, 10.0},
        {"blur_probability", sampling.blur_probability, 0.0, 1.0},
        {"low_resolution", sampling.low_resolution, 1.0, 10.0},
        {"low_resolution_probability", sampling.low_resolution_probability, 0.0, 1.0},
        {"anisotropy", sampling.anisotropy, 1.0, 10.0},
        {"anisotropy_probability", sampling.anisotropy_probability, 0.0, 1.0},
        {"ringing", sampling.ringing, 0.0, 0.9},
        {"ringing_probability", sampling.ringing_probability, 0.0, 1.0},
        {"ghost", sampling.ghost, 0.0, 1.0},
        {"ghost_probability", sampling.ghost_probability, 0.0, 1.0},
        {"elastic", sampling.elastic, 0.0, 10.0},
        {"elastic_probability", sampling.elastic_probability, 0.0, 1.0},
        {"tumour_mixing", sampling.tumour_mixing, 0.0, 1.0},
    };
    // clang-format on
    for (const Range& range : ranges)
        MFRES_CHECK(check_range(range.option, range.value, range.low, range.high));
    return {};
}

bool made_on_host(const Sampling& sampling) {
    return sampling.histogram_shift > 0.0 || sampling.bias_field > 0.0 || sampling.blur > 0.0 ||
           sampling.low_resolution > 1.0 || sampling.anisotropy > 1.0 || sampling.ringing > 0.0 ||
           sampling.ghost > 0.0 || sampling.elastic > 0.0 || sampling.tumour_mixing > 0.0;
}

std::vector<std::size_t> cases_of_step(std::size_t cases, std::int64_t batch, std::int64_t begin, std::int64_t end,
                                       std::uint64_t seed, std::int64_t step) {
    std::vector<std::size_t> chosen;
    std::vector<std::size_t> order;
    std::uint64_t pass_of_order = 0;
    for (std::int64_t i = begin; i < end; ++i) {
        const auto sample = static_cast<std::uint64_t>(step * batch + i);
        const std::uint64_t pass = sample / cases;
        if (order.empty() || pass != pass_of_order) {
            order = order_of_pass(cases, seed, pass);
            pass_of_order = pass;
        }
        chosen.push_back(order[static_cast<std::size_t>(sample % cases)]);
    }
    return chosen;
}

bool SampleDraw::changes_intensities() const {
    return std::any_of(intensities.begin(), intensities.end(), [](const auto& change) { return change.changes(); }) ||
           std::any_of(artefacts.begin(), artefacts.end(), [](const auto& kinds) { return kinds.any(); });
}

std::optional<std::size_t> donor_of(std::span<const CacheEntry> entries, std::size_t receiver, std::uint64_t number) {
    std::vector<std::size_t> donors;
    for (std::size_t i = 0; i < entries.size(); ++i)
        if (i != receiver && tumour_voxels(entries[i]) > 0)
            donors.push_back(i);
    if (donors.empty())
        return std::nullopt;
    return donors[static_cast<std::size_t>(number % donors.size())];
}

SampleDraw draw_sample(const CachedCase& source, const CacheEntry& entry, const Sampling& sampling,
                       const Random& random) {
    SampleDraw drawn;
    drawn.pose = draw_pose(source, entry, sampling, random);
    drawn.intensities = draw_intensities(sampling, random);
    for (std::size_t m = 0; m < drawn.artefacts.size(); ++m)
        if (!drawn.intensities[m].leaves_nothing())
            drawn.artefacts[m] = draw_artefacts(sampling, random.fork(artefact_stream + m));
    perhaps(sampling.elastic_probability, random.fork(warp_stream), [&](Random& draws) {
        drawn.warp = draws.uniform(0.0, sampling.elastic);
        drawn.warp_seed = draws.next();
    });
    perhaps(sampling.tumour_mixing, random.fork(mixing_stream), [&](Random& draws) {
        TumourMix& mix = drawn.mix.emplace();
        mix.donor = draws.next();
        mix.seed = draws.next();
        mix.pose.flip = drawn.pose.flip;
        if (draws.uniform() < 0.5)
            mix.pose.flip[0] = !mix.pose.flip[0];
        mix.pose.axis = static_cast<int>(draws.below(3));
        mix.pose.radians = draws.uniform(-10.0, 10.0) * std::numbers::pi / 180.0;
    });
    return drawn;
}

} // namespace mfres
