// SPDX-License-Identifier: MIT
// A case read into memory as a model expects it, for programs that change images before they are segmented.
//
//   auto images = mfres::read_images(*segmenter, *mfres::CaseSet::find("validation"), 0);
//   images->volumes[0].voxels[0] = 1.0F;
//   auto prediction = segmenter->predictor().predict(images->views());
#pragma once

#include <mfres/case.h>
#include <mfres/export.h>
#include <mfres/segmenter.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace mfres {

struct CaseImages {
    std::string id;
    std::array<Volume, 4> volumes;             ///< by Modality, in canonical orientation (L-P-S)
    std::array<float, 4> background{};         ///< the value around the brain in each
    std::array<std::int64_t, 3> brain_begin{}; ///< of what is not background in any of them
    std::array<std::int64_t, 3> brain_end{};   ///< one past its last voxel
    std::optional<LabelMap> reference;         ///< class indices 0 to 3, if the case has them

    /// The volumes for Predictor::predict. They refer to this object.
    CaseVolumes views() const {
        CaseVolumes all;
        all.id = id;
        for (std::size_t m = 0; m < volumes.size(); ++m)
            all.volumes[m] = VolumeView::of(volumes[m]);
        return all;
    }
};

struct ImageOptions {
    AffineSource affine = AffineSource::automatic;
    bool resample = false; ///< likewise: the images are on the network's grid then
};

/// A case of a set, with all contrasts that the model requires. A case of a training cache is rebuilt on its brain box:
/// each contrast's z-scores, shifted so that the least is 1, with 0 around the brain. Precondition: index <
/// cases.size(). Errors: those of reading in Segmenter::segment, and of the segmentation's file or the cache.
MFRES_EXPORT Result<CaseImages> read_images(Segmenter& segmenter, const CaseSet& cases, std::size_t index,
                                            const ImageOptions& options = {});

/// The grid of a NIfTI file, of which only the header is read. Errors: those of reading NIfTI files up to the voxels.
MFRES_EXPORT Result<Grid> read_grid(const std::filesystem::path& file, AffineSource affine = AffineSource::automatic);

} // namespace mfres
