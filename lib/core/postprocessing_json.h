// SPDX-License-Identifier: MIT
// The sizes of postprocessing as reports have them.
#pragma once

#include <mfres/postprocessing.h>

namespace mfres {

/// `Object`: Json or OrderedJson.
template <typename Object>
Object postprocessing_json(const PostprocessingSizes& sizes) {
    return {{"min_component_mm3", sizes.min_component_mm3},
            {"min_enhancing_mm3", sizes.min_enhancing_mm3},
            {"min_enhancing_share", sizes.min_enhancing_share}};
}

} // namespace mfres
