// SPDX-License-Identifier: MIT
#include <mfres/normalisation.h>

#include "core/names.h"

namespace mfres {

namespace {

constexpr auto normalisation_names = enum_names<Normalisation>(
    {{Normalisation::zscore_brain, "zscore-brain"}, {Normalisation::zscore_brain_clipped, "zscore-brain-clipped"}});

} // namespace

std::string_view to_string(Normalisation normalisation) noexcept {
    return normalisation_names.of(normalisation);
}

Result<Normalisation> parse_normalisation(std::string_view text) {
    return normalisation_names.parse("normalisation", text);
}

} // namespace mfres
