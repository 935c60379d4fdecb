// Volumes as the scans that preparation takes.
#pragma once

#include "imaging/scan.h"
#include "support/catch.h"

namespace mfres::test {

inline std::array<Scan, 4> scans_of(const std::array<Volume, 4>& volumes) {
    std::array<Scan, 4> scans;
    for (std::size_t m = 0; m < volumes.size(); ++m) {
        auto scan = make_scan(volumes[m]);
        REQUIRE_OK(scan);
        scans[m] = std::move(scan).value();
    }
    return scans;
}

} // namespace mfres::test
