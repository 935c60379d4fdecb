// SPDX-License-Identifier: MIT
// Postprocessing of predicted labels.
#pragma once

namespace mfres {

/// Sizes in mm^3; 0 = never.
struct PostprocessingSizes {
    /// Connected components of tumour below it become background, except the largest.
    double min_component_mm3 = 0.0;
    /// Enhancing tumour that is less than it in all becomes necrotic and non-enhancing core.
    double min_enhancing_mm3 = 0.0;
    friend bool operator==(const PostprocessingSizes&, const PostprocessingSizes&) = default;
};

} // namespace mfres
