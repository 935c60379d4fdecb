// SPDX-License-Identifier: MIT
// From four volumes to the network's input: find the brain (brain.h), crop to its box, z-score each modality, pad; and back.
//
// Normalisation. As <mfres/normalisation.h> defines it, over the brain voxels. A contrast that is absent takes no part in
// any of this, and its channel is 0 everywhere, which is the mean of every other one.
//
// Padding. The box is padded behind its last voxel, never before its first, so voxel (0, 0, 0) of the padded box is
// always voxel box_begin of the grid.
#pragma once

#include "core/line_spans.h"
#include "core/tensor.h"
#include "imaging/brain.h"
#include "imaging/compact_volume.h"

#include <mfres/normalisation.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace mfres {

struct PreprocessOptions {
    int multiple = 16; ///< the padded box's edges are multiples of this (voxels)
    int margin = 0;    ///< voxels kept around the brain on every side, as far as the grid reaches
    int threads = 1;   ///< 0 = all logical processors; the result does not depend on it
    Normalisation normalisation = Normalisation::zscore_brain;
    std::array<Modality, 4> channels = modalities; ///< of the network's input
    ModalitySet present = all_modalities;          ///< the scans of other contrasts are not looked at
};

/// What z-scoring needs to know of one modality, in its own intensity units.
struct ModalityIntensity {
    float background = 0.0F; ///< most frequent value on the border faces
    double mean = 0.0;       ///< over the brain voxels
    double stddev = 0.0;     ///< over the brain voxels, population (divided by n)
    /// Values are clipped to these first; infinite where nothing is clipped. A background far below the tissue (-1024,
    /// -32768) is clipped to just below the tissue whatever the normalisation, as if it were 0 in an image from 1 on: brain
    /// voxels where one contrast alone shows its background would decide about mean and deviation else.
    float low = -std::numeric_limits<float>::infinity();
    float high = std::numeric_limits<float>::infinity();
};

/// Where the brain lies in the grid and how its intensities are scaled.
struct Preprocessing : Brain {
    std::array<std::int64_t, 3> box_begin{};       ///< first voxel of the brain box
    std::array<std::int64_t, 3> box_end{};         ///< one past its last voxel
    std::array<std::int64_t, 3> padded_size{};     ///< the box's size rounded up to the multiple
    std::array<ModalityIntensity, 4> intensity{};  ///< in the order of `modalities`
    std::array<Modality, 4> channels = modalities; ///< channel c of the network's input shows channels[c]
    ModalitySet present = all_modalities;
};

/// Finds background, brain, box and intensity statistics of four scans in the order of `modalities`, all on one grid
/// in canonical L-P-S order, all voxels finite. Percentiles are exact order statistics. Sums are taken in double precision over planes of constant k and added
/// in the order of k, so the result is the same bit for bit whatever the number of threads.
/// Errors: invalid_argument (an option out of range, channels that are not the four contrasts, a scan without voxels),
/// grid_size_mismatch, size_overflow (2^31 voxels or more), brain_too_small (less than 1 % of the grid),
/// volume_constant (a modality has one and the same value all over the brain), voxel_not_finite (the statistics are
/// not finite, which only NaN or Inf voxels can cause).
Result<Preprocessing> plan_preprocessing(const std::array<CompactVolume, 4>& scans,
                                         const PreprocessOptions& options = {});

/// Writes the network's input: (clipped voxel - mean) / stddev inside the brain, 0 elsewhere (background, padding) and in
/// the channels of absent contrasts. Channels are in the order that `preprocessing` was planned with.
/// `input` is [1, 4, x, y, z] with any strides and any size; its voxel (0, 0, 0) is voxel `offset` of the padded box.
/// It may reach beyond the padded box on any side; out there it gets zeros. Every element is written exactly once.
/// Precondition: `preprocessing` was planned from `scans`, shape[0] == 1, shape[1] == 4.
void fill_input(const Preprocessing& preprocessing, const std::array<CompactVolume, 4>& scans,
                const std::array<std::int64_t, 3>& offset, const StridedView<float>& input, int threads);

/// The intensities of voxel n of the brain for every n that is a multiple of a step, in the order of the runs, as stored:
/// at most 2^18 of them, spread evenly, the same voxels of every contrast.
PageVector<float> sampled_intensities(const Preprocessing& preprocessing, const CompactVolume& scan);

/// The values with a share of all values below and above them, at least `least` values at either end. The values are
/// reordered. Precondition: there are values.
std::pair<float, float> extremes(std::span<float> values, double share, std::size_t least);

/// Adds the brain voxels of the part of the padded box that begins at `offset` and has the size of `spans`.
void add_brain(const Preprocessing& preprocessing, const std::array<std::int64_t, 3>& offset, LineSpans& spans);

/// Puts labels of the padded box back on the full grid. `labels` is [x][y][z] of padded_size, z fastest: the order in
/// which the network's output is walked along memory, and in which a slab of constant x is one contiguous range.
/// Voxels that are not brain get 0, also inside the box: every modality is background there (or a speck), so no label
/// can rest on evidence; of 3.6 million tumour voxels in 38 BraTS cases that rule loses one.
/// Precondition: labels.size() is the product of padded_size.
LabelMap uncrop(const Preprocessing& preprocessing, std::span<const std::uint8_t> labels, LabelMap reused = {});

/// The same for probabilities [1, classes, x, y, z] of the padded box. Voxels that are not brain get 1 for class 0 and 0 for
/// the others. Precondition: the last three extents are padded_size.
ProbabilityMap uncrop(const Preprocessing& preprocessing, const Tensor& probabilities, ProbabilityMap reused = {});

} // namespace mfres
