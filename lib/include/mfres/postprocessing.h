// SPDX-License-Identifier: MIT
// Postprocessing of predicted labels.
#pragma once

#include <mfres/export.h>

#include <string>

namespace mfres {

/// Sizes in mm^3, and one share; 0 = never.
struct PostprocessingSizes {
    /// Connected components of tumour below it become background, except the largest.
    double min_component_mm3 = 0.0;
    /// Enhancing tumour that is less than it in all becomes necrotic and non-enhancing core.
    double min_enhancing_mm3 = 0.0;
    /// Likewise where it is less than that share, 0 to 1, of the tumour core. Gliomas without enhancement often have large
    /// cores in which a network sees some.
    double min_enhancing_share = 0.0;
    friend bool operator==(const PostprocessingSizes&, const PostprocessingSizes&) = default;
};

/// From what on enhancing tumour stays, "500 mm^3 or 10 % of the tumour core"; empty if it always does.
MFRES_EXPORT std::string least_enhancing(const PostprocessingSizes& sizes);

} // namespace mfres
