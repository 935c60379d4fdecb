// SPDX-License-Identifier: MIT
// Volumes as the scans that preprocessing takes.
#pragma once

#include "imaging/compact_volume.h"
#include "support/catch.h"

namespace mfres::test {

inline std::array<CompactVolume, 4> scans_of(const std::array<Volume, 4>& volumes) {
    std::array<CompactVolume, 4> scans;
    for (std::size_t m = 0; m < volumes.size(); ++m) {
        auto scan = make_scan(volumes[m]);
        REQUIRE_OK(scan);
        scans[m] = std::move(scan).value();
    }
    return scans;
}

} // namespace mfres::test
