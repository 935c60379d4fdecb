// SPDX-License-Identifier: MIT
// Cases as brain boxes, wherever they lie: in images, or preprocessed in a training cache.
#pragma once

#include "data/cache.h"
#include "inference/box_predictor.h"
#include "inference/predictor.h"

#include <mfres/case.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mfres {

/// A brain box and what its fill() reads.
struct OwnedBox {
    BrainBox box;
    std::shared_ptr<const void> owner;
};

/// A case that can be loaded as a model expects it.
struct BoxSource {
    std::string id;
    std::function<Result<OwnedBox>(const CasePredictor&)> load;
};

/// Errors of load(): those of CasePredictor::load and prepare; for a cached case those of Cache::load and check_cached.
std::vector<BoxSource> box_sources(const CaseSet& cases);

/// The size of a box that is padded to multiples.
std::array<std::int64_t, 3> padded_box(const std::array<std::int64_t, 3>& size, std::int64_t multiple);

/// The box of a cached case. `channels` are those of the network's input, `multiple` is that of its edges; channels of
/// contrasts that are not `present` are 0. The case must outlive the box. `threads` fill the input.
BrainBox brain_box(const CachedCase& source, const std::array<Modality, 4>& channels, const ModalitySet& present,
                   std::int64_t multiple, int threads);

/// Classes of the case's own box [x][y][z] from those of the padded one of `size`: background outside the brain.
std::vector<std::uint8_t> cut_to_brain(const CachedCase& source, std::span<const std::uint8_t> classes,
                                       const std::array<std::int64_t, 3>& size);

/// Whether a model takes the cached case: its voxel size, and that z-scores were clipped if and only if the model
/// expects it. A cache that does not say so is judged by its intensities where the model expects clipped ones, and is
/// else taken as not clipped. Errors: voxel_size_out_of_range, model_metadata_invalid.
Status check_cached(const ModelInput& input, const CachedCase& source);

} // namespace mfres
