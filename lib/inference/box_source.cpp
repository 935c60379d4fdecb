// SPDX-License-Identifier: MIT
#include "inference/box_source.h"

#include "core/parallel.h"
#include "core/rounding.h"
#include "core/try.h"

#include <algorithm>
#include <utility>

namespace mfres {

namespace {

using Size = std::array<std::int64_t, 3>;

/// z-scores of voxels [from, to) of a z-line into `out`, 0 outside the brain.
void copy_line(const CachedModality& modality, const std::uint8_t* brain, std::int64_t from, std::int64_t to,
               float* out, std::int64_t stride) {
    std::visit(
        [&](const auto& quanta) {
            for (std::int64_t i = from; i < to; ++i, out += stride)
                *out = brain[i] != 0
                           ? static_cast<float>(quanta[static_cast<std::size_t>(i)]) * modality.scale + modality.offset
                           : 0.0F;
        },
        modality.quanta);
}

void fill_from(const CachedCase& source, const std::array<Modality, 4>& channels, const ModalitySet& present,
               const Size& offset, const StridedView<float>& input, int threads) {
    const Size& size = source.size;
    const Size extent = {input.shape[2], input.shape[3], input.shape[4]};
    const std::int64_t stride = input.strides[4];
    // Voxels [first, last) of a line lie inside the box.
    const std::int64_t first = std::clamp<std::int64_t>(-offset[2], 0, extent[2]);
    const std::int64_t last = std::clamp<std::int64_t>(size[2] - offset[2], first, extent[2]);
    parallel_ranges(extent[0], threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t x = begin; x < end; ++x)
            for (std::int64_t y = 0; y < extent[1]; ++y) {
                const Size at = {offset[0] + x, offset[1] + y, offset[2]};
                const bool inside = at[0] >= 0 && at[0] < size[0] && at[1] >= 0 && at[1] < size[1];
                const std::int64_t line = (at[0] * size[1] + at[1]) * size[2] + at[2];
                for (std::size_t channel = 0; channel < channels.size(); ++channel) {
                    const auto m = static_cast<std::size_t>(channels[channel]);
                    float* const out = &input.at(0, static_cast<std::int64_t>(channel), x, y, 0);
                    const std::int64_t from = inside && present[m] ? first : extent[2];
                    const std::int64_t to = inside && present[m] ? last : extent[2];
                    for (std::int64_t z = 0; z < from; ++z)
                        out[z * stride] = 0.0F;
                    if (from < to)
                        copy_line(source.modalities[m], source.brain.data(), line + from, line + to,
                                  out + from * stride, stride);
                    for (std::int64_t z = to; z < extent[2]; ++z)
                        out[z * stride] = 0.0F;
                }
            }
    });
}

/// The brain voxels of the part of the box that begins at `offset`.
void add_brain(const CachedCase& source, const Size& offset, LineSpans& needed) {
    const Size& size = source.size;
    Size end{};
    for (std::size_t axis = 0; axis < 3; ++axis)
        end[axis] = std::min(size[axis], offset[axis] + needed.size()[axis]);
    for (std::int64_t x = offset[0]; x < end[0]; ++x)
        for (std::int64_t y = offset[1]; y < end[1]; ++y) {
            const std::uint8_t* const line = source.brain.data() + (x * size[1] + y) * size[2];
            for (std::int64_t z = offset[2]; z < end[2]; ++z)
                if (line[z] != 0)
                    needed.add(x - offset[0], y - offset[1], z - offset[2], z - offset[2] + 1);
        }
}

} // namespace

Size padded_box(const Size& size, std::int64_t multiple) {
    Size padded{};
    for (std::size_t axis = 0; axis < 3; ++axis)
        padded[axis] = rounded_up(size[axis], multiple);
    return padded;
}

BrainBox brain_box(const CachedCase& source, const std::array<Modality, 4>& channels, const ModalitySet& present,
                   std::int64_t multiple, int threads) {
    return {padded_box(source.size, multiple),
            [&source, channels, present, threads](const Size& offset, const StridedView<float>& input) {
                fill_from(source, channels, present, offset, input, threads);
            },
            {},
            [&source](const Size& offset, LineSpans& needed) { add_brain(source, offset, needed); }};
}

std::vector<std::uint8_t> cut_to_brain(const CachedCase& source, std::span<const std::uint8_t> classes,
                                       const Size& size) {
    std::vector<std::uint8_t> box(source.brain.size());
    std::size_t index = 0;
    for (std::int64_t x = 0; x < source.size[0]; ++x)
        for (std::int64_t y = 0; y < source.size[1]; ++y) {
            const auto row = static_cast<std::size_t>((x * size[1] + y) * size[2]);
            for (std::size_t z = 0; z < static_cast<std::size_t>(source.size[2]); ++z, ++index)
                box[index] = source.brain[index] != 0 ? classes[row + z] : std::uint8_t{0};
        }
    return box;
}

Status check_cached(const ModelInput& input, const CachedCase& source) {
    for (const double mm : source.voxel_mm)
        if (mm < input.voxel_min_mm || mm > input.voxel_max_mm)
            return Error{ErrorCode::voxel_size_out_of_range,
                         text(source.id, " has voxels of ", source.voxel_mm[0], " x ", source.voxel_mm[1], " x ",
                              source.voxel_mm[2], " mm; the model was trained for ", input.voxel_min_mm, " to ",
                              input.voxel_max_mm, " mm"),
                         source.id};
    // Older files do not record that they are clipped; their intensities show it.
    const bool fits = input.normalisation == Normalisation::zscore_brain_clipped
                          ? is_clipped(source)
                          : source.normalisation == input.normalisation;
    if (!fits)
        return Error{ErrorCode::model_metadata_invalid,
                     text(source.id, " is cached normalised by ", to_string(source.normalisation),
                          "; the model expects ", to_string(input.normalisation),
                          ". Pack its images again with that normalisation, or give the images"),
                     source.id};
    return {};
}

namespace {

Result<OwnedBox> load_box(const CasePredictor& predictor, const CaseFiles& files) {
    MFRES_TRY(Case loaded, predictor.load(files, AffineSource::automatic, false, false));
    MFRES_TRY(PreparedCase prepared, predictor.prepare(std::move(loaded)));
    auto owner = std::make_shared<const PreparedCase>(std::move(prepared));
    BrainBox box = owner->box(predictor.threads());
    return OwnedBox{std::move(box), std::move(owner)};
}

Result<OwnedBox> load_box(const CasePredictor& predictor, const CaseSet::Cached& cached) {
    MFRES_TRY(auto loaded, cached.cache->load(cached.index));
    MFRES_CHECK(check_cached(predictor.input(), *loaded));
    BrainBox box =
        brain_box(*loaded, predictor.input().channels, all_modalities, predictor.input().multiple, predictor.threads());
    return OwnedBox{std::move(box), std::move(loaded)};
}

} // namespace

std::vector<BoxSource> box_sources(const CaseSet& cases) {
    std::vector<BoxSource> sources;
    for (std::size_t i = 0; i < cases.size(); ++i)
        sources.push_back({cases.id(i), [entry = cases[i]](const CasePredictor& predictor) {
                               return std::visit([&](const auto& one) { return load_box(predictor, one); }, entry);
                           }});
    return sources;
}

} // namespace mfres
