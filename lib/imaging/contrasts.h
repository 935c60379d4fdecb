// SPDX-License-Identifier: MIT
// Work on the contrasts of a case at the same time.
#pragma once

#include "core/parallel.h"

#include <mfres/volume.h>

#include <cstddef>
#include <cstdint>

namespace mfres {

/// Calls body(slot) for each contrast that is present, on up to `threads` threads, 0 = all processors.
template <typename Body>
void for_contrasts(const ModalitySet& present, int threads, const Body& body) {
    parallel_ranges(static_cast<std::int64_t>(present.size()), resolve_threads(threads),
                    [&](std::int64_t begin, std::int64_t end) {
                        for (auto slot = static_cast<std::size_t>(begin); slot < static_cast<std::size_t>(end); ++slot)
                            if (present[slot])
                                body(slot);
                    });
}

} // namespace mfres
