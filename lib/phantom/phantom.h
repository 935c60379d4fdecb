// SPDX-License-Identifier: MIT
// A synthetic BraTS-like case, generated from formulas and a seed without data of patients.
#pragma once

#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>

namespace mfres {

struct PhantomOptions {
    std::uint64_t seed = 1;
    std::array<std::int64_t, 3> size = {240, 240, 155}; ///< voxels along i, j, k; each 32 to 1024
    int threads = 0;                                    ///< 0 = all logical processors this process may use
};

struct Phantom {
    /// In the order of mfres::modalities. Integer values from 0 to 32767, as int16 files hold them; everything outside
    /// the brain is exactly 0 and everything inside is at least 1.
    std::array<Volume, 4> volumes;
    /// BraTS values: 0 background, 1 necrotic core, 2 oedema, 4 enhancing tumour. Tumour lies inside the brain only,
    /// and every face neighbour of a core voxel is core or enhancing tumour. Grids below about 48 voxels can be too
    /// coarse for a core.
    LabelMap labels;
};

/// A skull-stripped head with a glioma-like lesion in one hemisphere, as T1, T1ce, T2 and FLAIR on one grid.
///
/// The grid has the BraTS geometry: affine rows (-1,0,0,0), (0,-1,0,size[1]-1), (0,0,1,0), so i increases to the left,
/// j to posterior, k to superior, with 1 mm voxels. At 240x240x155 the head has an adult's size and the whole tumour 30
/// to 120 ml. On other grids head and tumour are scaled isotropically by the largest factor that fits, so that an
/// elongated grid is mostly background.
///
/// Anatomy, contrast, bias field, noise (Rician: Gudbjartsson and Patz, Magn Reson Med 34:910, 1995) and lesion depend
/// on `options.seed` only. Equal seed and size give equal bits for any number of threads.
///
/// Errors: invalid_argument for a size below 32 or above 1024, or a negative thread count.
Result<Phantom> make_phantom(const PhantomOptions& options);

} // namespace mfres
