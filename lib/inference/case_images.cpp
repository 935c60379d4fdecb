// SPDX-License-Identifier: MIT
// Cases as volumes in memory, from images or rebuilt from training caches.
#include <mfres/case_images.h>

#include "core/guard.h"
#include "imaging/case.h"
#include "imaging/compact_volume.h"
#include "imaging/labels.h"
#include "imaging/nifti/voxels.h"
#include "inference/box_source.h"
#include "inference/predictor.h"

#include <algorithm>
#include <variant>

namespace mfres {

namespace {

void take_scans(CaseImages& images, const std::array<CompactVolume, 4>& scans) {
    images.brain_begin = scans[0].grid().size;
    for (std::size_t m = 0; m < scans.size(); ++m) {
        images.volumes[m] = scans[m].volume();
        images.background[m] = scans[m].background();
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const std::int64_t begin = scans[m].kept_begin()[axis];
            images.brain_begin[axis] = std::min(images.brain_begin[axis], begin);
            images.brain_end[axis] = std::max(images.brain_end[axis], begin + scans[m].kept_size()[axis]);
        }
    }
}

Result<CaseImages> load(const CasePredictor& predictor, const CaseFiles& files, const ImageOptions& options) {
    MFRES_TRY(const Case loaded, predictor.load(files, options.affine, options.resample, false));
    CaseImages images;
    images.id = files.id;
    if (files.segmentation) {
        MFRES_TRY(images.reference, load_reference_classes(files, loaded));
    }
    take_scans(images, loaded.scans);
    return images;
}

/// Background kept around the box of a cached case: what a shift of the field of view needs.
constexpr std::int64_t cached_margin = 8;

Result<CaseImages> load(const CasePredictor& predictor, const CaseSet::Cached& cached, const ImageOptions&) {
    MFRES_TRY(const auto source, cached.cache->load(cached.index));
    MFRES_CHECK(check_cached(predictor.input(), *source));
    Grid grid;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        grid.size[axis] = source->size[axis] + 2 * cached_margin;
        grid.affine[axis][axis] = axis == 2 ? source->voxel_mm[axis] : -source->voxel_mm[axis];
    }
    CaseImages images;
    images.id = source->id;
    images.brain_begin.fill(cached_margin);
    for (std::size_t axis = 0; axis < 3; ++axis)
        images.brain_end[axis] = cached_margin + source->size[axis];
    images.reference.emplace(LabelMap{grid, std::vector<std::uint8_t>(static_cast<std::size_t>(grid.voxels()))});
    for (Volume& volume : images.volumes)
        volume = {grid, std::vector<float>(static_cast<std::size_t>(grid.voxels()), 0.0F)};
    const BrainBox box = brain_box(*source, modalities, all_modalities, 1, predictor.threads());
    Tensor scores({1, 4, box.size[0], box.size[1], box.size[2]});
    box.fill({0, 0, 0}, view(scores));
    const std::int64_t voxels = source->voxels();
    for (std::size_t m = 0; m < 4; ++m) {
        const float* const of = scores.data() + static_cast<std::int64_t>(m) * voxels;
        float least = 0.0F; // of the brain; somewhere a z-score is not above the mean
        for (std::int64_t index = 0; index < voxels; ++index)
            least = std::min(least, of[index]);
        std::size_t index = 0;
        for (std::int64_t x = 0; x < source->size[0]; ++x)
            for (std::int64_t y = 0; y < source->size[1]; ++y)
                for (std::int64_t z = 0; z < source->size[2]; ++z, ++index) {
                    const auto to = static_cast<std::size_t>(
                        x + cached_margin + grid.size[0] * (y + cached_margin + grid.size[1] * (z + cached_margin)));
                    if (source->brain[index] != 0)
                        images.volumes[m].voxels[to] = of[index] - least + 1.0F;
                    images.reference->labels[to] = source->classes[index];
                }
    }
    return images;
}

} // namespace

Result<CaseImages> read_images(Segmenter& segmenter, const CaseSet& cases, std::size_t index,
                               const ImageOptions& options) {
    const CasePredictor& predictor = segmenter.predictor().inside();
    return guarded(cases.id(index), [&] {
        return std::visit([&](const auto& source) { return load(predictor, source, options); }, cases[index]);
    });
}

Result<Grid> read_grid(const std::filesystem::path& file, AffineSource affine) {
    return guarded(file, [&]() -> Result<Grid> {
        MFRES_TRY(const nifti::OpenFile opened, nifti::open_file(file, {.use = affine}, sizeof(float)));
        return opened.description.grid;
    });
}

} // namespace mfres
