// SPDX-License-Identifier: MIT
// The tumour regions that are evaluated, and which label values form them.
#pragma once

#include <mfres/export.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace mfres {

/// The regions that are evaluated: whole tumour, tumour core, enhancing tumour.
enum class TumourRegion : std::uint8_t { wt, tc, et };
inline constexpr std::array<TumourRegion, 3> tumour_regions = {TumourRegion::wt, TumourRegion::tc, TumourRegion::et};

/// "WT", "TC", "ET"
MFRES_EXPORT std::string_view name(TumourRegion region) noexcept;

/// Which classes form the regions.
enum class RegionDefinition : std::uint8_t {
    brats, ///< the challenge's: WT {1, 2, 3}, TC {1, 3}, ET {3} (classes)
    paper, ///< the text of the MF-RES2Net paper: WT {1, 2}, TC {1}, ET {3}; its figures follow `brats` nevertheless
};
inline constexpr std::array<RegionDefinition, 2> region_definitions = {RegionDefinition::brats,
                                                                       RegionDefinition::paper};

/// "brats", "paper"
MFRES_EXPORT std::string_view to_string(RegionDefinition definition) noexcept;

/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<RegionDefinition> parse_region_definition(std::string_view text);

} // namespace mfres
