// SPDX-License-Identifier: MIT
#include <mfres/normalisation.h>

#include "core/names.h"

namespace mfres {

std::string_view to_string(Normalisation normalisation) noexcept {
    switch (normalisation) {
    case Normalisation::zscore_brain: return "zscore-brain";
    case Normalisation::zscore_brain_clipped: return "zscore-brain-clipped";
    }
    return "unknown";
}

Result<Normalisation> parse_normalisation(std::string_view text) {
    return parse_name("normalisation", normalisations, text);
}

} // namespace mfres
