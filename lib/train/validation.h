// SPDX-License-Identifier: MIT
// Evaluation of the weights of a running training on whole brains.
#pragma once

#include "backends/backend.h"
#include "data/cache.h"
#include "networks/registry.h"

#include <mfres/trainer.h>

#include <cstddef>
#include <functional>

namespace mfres {

/// Called before each case with the number of cases done and in all; return false to stop.
using ValidationProgress = std::function<bool(std::size_t done, std::size_t total)>;

/// Where it runs.
struct ValidationPlace {
    int threads = 0;
    int device = 0; ///< of the backend
};

/// Runs every case of the cache through the network as `mfres segment` does: the brain box padded behind to the
/// network's multiple, in one pass, labels outside the brain set to background. Dice per region (BraTS definition; 1
/// where prediction and reference are both empty, 0 where one is), their means over the cases in the cache's order.
/// Compiles once per padded size, and holds one compiled network at a time.
/// Errors: those of Cache::load, build_network and Backend::compile, logits_not_finite, interrupted.
Result<Validation> validate(const Cache& cache, const Variant& variant, const Weights& weights, const Backend& backend,
                            const ValidationPlace& place, const ValidationProgress& progress);

} // namespace mfres
