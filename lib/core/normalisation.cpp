// SPDX-License-Identifier: MIT
#include <mfres/normalisation.h>

#include "core/try.h"

namespace mfres {

std::string_view name(Normalisation normalisation) noexcept {
    switch (normalisation) {
    case Normalisation::zscore_brain: return "zscore-brain";
    case Normalisation::zscore_brain_clipped: return "zscore-brain-clipped";
    }
    return "unknown";
}

Result<Normalisation> parse_normalisation(std::string_view text) {
    std::string known;
    for (const Normalisation normalisation : normalisations) {
        if (name(normalisation) == text)
            return normalisation;
        known.append(known.empty() ? "" : ", ").append(name(normalisation));
    }
    return Error{ErrorCode::invalid_argument, mfres::text("'", text, "' is no normalisation; there is ", known),
                 std::string(text)};
}

} // namespace mfres
