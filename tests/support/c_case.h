// SPDX-License-Identifier: MIT
// Cases in memory as the C interface describes them.
#pragma once

#include "support/cases.h"

#include <mfres/mfres.h>

#include <algorithm>
#include <array>

namespace mfres::test {

/// A volume as C describes it. It must outlive the description.
inline mfres_volume c_volume(const Volume& volume) {
    mfres_volume view{};
    view.struct_size = sizeof view;
    view.voxels = volume.voxels.data();
    view.type = MFRES_FLOAT32;
    std::copy(volume.grid.size.begin(), volume.grid.size.end(), view.size);
    for (std::size_t row = 0; row < 3; ++row)
        std::copy(volume.grid.affine[row].begin(), volume.grid.affine[row].end(), view.affine[row]);
    return view;
}

/// Four images as a case, those of the small phantom unless others are given. They and `id` must outlive it.
struct CCase {
    std::array<mfres_volume, 4> volumes{};
    mfres_case patient{};

    explicit CCase(const std::array<Volume, 4>& images = small_phantom().volumes, const char* id = "phantom") {
        for (std::size_t m = 0; m < 4; ++m)
            volumes[m] = c_volume(images[m]);
        patient = {sizeof patient, id, &volumes[0], &volumes[1], &volumes[2], &volumes[3]};
    }
    CCase(const CCase&) = delete;
};

} // namespace mfres::test
