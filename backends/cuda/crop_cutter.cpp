// SPDX-License-Identifier: MIT
#include "backends/cuda/crop_cutter.h"

#include <algorithm>
#include <cstring>

namespace mfres::cuda {

namespace {

std::int64_t aligned(std::int64_t bytes) {
    constexpr std::int64_t line = 256;
    return (bytes + line - 1) / line * line;
}

/// Where the arrays of a case lie, one after the other.
struct CaseLayout {
    std::int64_t quanta[4]{}, classes = 0, brain = 0, end = 0;

    explicit CaseLayout(const CropSource& source) {
        const auto place = [&](std::int64_t bytes) {
            const std::int64_t at = end;
            end += aligned(bytes);
            return at;
        };
        for (std::size_t m = 0; m < source.modalities.size(); ++m)
            quanta[m] = place(source.voxels() * (source.modalities[m].wide ? 2 : 1));
        classes = place(source.voxels());
        brain = place(source.voxels());
    }
};

std::int64_t case_bytes(std::span<const CropRequest> crops) {
    std::int64_t bytes = 0;
    for (const CropRequest& crop : crops)
        bytes += CaseLayout(crop.source).end;
    return bytes;
}

void write_case(const CropSource& source, std::byte* to) {
    const CaseLayout layout(source);
    const auto voxels = static_cast<std::size_t>(source.voxels());
    for (std::size_t m = 0; m < source.modalities.size(); ++m)
        std::memcpy(to + layout.quanta[m], source.modalities[m].quanta, voxels * (source.modalities[m].wide ? 2 : 1));
    std::memcpy(to + layout.classes, source.classes, voxels);
    std::memcpy(to + layout.brain, source.brain, voxels);
}

} // namespace

CropCutter::CropCutter(Engine& engine, std::int64_t samples, const std::array<std::int64_t, 3>& extents)
    : engine_(engine), samples_(samples), extents_(extents), images_(engine, samples * 4 * voxels() * 4),
      classes_(engine, samples * voxels()), brain_(engine, voxels()),
      extremes_(engine, (IntensityArguments::chunks + 1) * 2 * 4), queue_(engine.make_side_queue()) {
    queue_->follow(); // new memory is cleared there
}

std::int64_t CropCutter::fixed_bytes() const {
    return images_.bytes() + classes_.bytes() + brain_.bytes() + extremes_.bytes();
}

std::int64_t CropCutter::bytes(std::span<const CropRequest> crops) const {
    return fixed_bytes() + std::max(cases_.bytes(), case_bytes(crops));
}

std::int64_t CropCutter::most_bytes(std::int64_t samples, const std::array<std::int64_t, 3>& extents,
                                    std::int64_t case_voxels) {
    const std::int64_t voxels = extents[0] * extents[1] * extents[2];
    const std::int64_t batch = aligned(samples * 4 * voxels * 4) + aligned(samples * voxels) + aligned(voxels) +
                               aligned((IntensityArguments::chunks + 1) * 2 * 4);
    return batch + samples * (4 * aligned(2 * case_voxels) + 2 * aligned(case_voxels));
}

void CropCutter::start(std::span<const CropRequest> crops) {
    queue_->wait(); // what is in the staging memory has been read
    if (const std::int64_t needed = case_bytes(crops); needed > cases_.bytes()) {
        cases_ = Block();
        staging_ = Block();
        cases_ = Block(engine_, needed);
        staging_ = Block(engine_, needed, true);
        queue_->follow();
    }
    auto* const staging = staging_.as<std::byte>();
    std::int64_t at = 0;
    for (std::int64_t sample = 0; sample < samples_; ++sample) {
        const CropRequest& crop = crops[static_cast<std::size_t>(sample)];
        const std::int64_t bytes = CaseLayout(crop.source).end;
        write_case(crop.source, staging + at);
        queue_->upload(cases_.as<std::byte>() + at, staging + at, bytes); // while the next case is written
        cut(sample, crop, cases_.as<std::byte>() + at);
        at += bytes;
    }
}

void CropCutter::cut(std::int64_t sample, const CropRequest& crop, const std::byte* at) {
    const CaseLayout layout(crop.source);
    CropArguments a;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        a.size[axis] = crop.source.size[axis];
        a.extents[axis] = extents_[axis];
        a.start[axis] = crop.walk.start[axis];
        for (std::size_t n = 0; n < 3; ++n)
            a.column[n][axis] = crop.walk.column[n][axis];
    }
    for (std::size_t m = 0; m < crop.source.modalities.size(); ++m) {
        a.quanta[m] = at + layout.quanta[m];
        a.wide[m] = crop.source.modalities[m].wide;
        a.scale[m] = crop.source.modalities[m].scale;
        a.offset[m] = crop.source.modalities[m].offset;
    }
    a.case_classes = reinterpret_cast<const std::uint8_t*>(at + layout.classes);
    a.case_brain = reinterpret_cast<const std::uint8_t*>(at + layout.brain);
    a.images = images_.as<float>() + sample * 4 * voxels();
    a.classes = classes_.as<std::uint8_t>() + sample * voxels();
    a.brain = brain_.as<std::uint8_t>();
    engine_.kernels().cut_crop(queue_->stream(), a);
    for (std::size_t m = 0; m < crop.intensities.size(); ++m) {
        const IntensityChange& change = crop.intensities[m];
        if (!change.changes())
            continue;
        IntensityArguments intensity;
        intensity.voxels = voxels();
        intensity.image = a.images + static_cast<std::int64_t>(m) * voxels();
        intensity.brain = a.brain;
        intensity.gamma = static_cast<float>(change.gamma);
        intensity.inverted = change.inverted;
        intensity.scale = static_cast<float>(change.scale);
        intensity.shift = static_cast<float>(change.shift);
        intensity.noise = static_cast<float>(change.noise);
        intensity.seed = change.noise_seed;
        intensity.extremes = extremes_.as<float>();
        engine_.kernels().change_intensity(queue_->stream(), intensity);
    }
}

void CropCutter::take(float* images, std::uint8_t* classes) {
    queue_->join();
    engine_.copy(images, images_.data(), images_.bytes());
    engine_.copy(classes, classes_.data(), classes_.bytes());
    queue_->follow(); // the next batch is written once this one has been copied
}

} // namespace mfres::cuda
