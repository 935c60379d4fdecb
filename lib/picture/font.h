// SPDX-License-Identifier: MIT
// The font of pictures: "Roman simplex" of the Hershey fonts, whose characters are strokes.
#pragma once

#include "picture/image.h"

namespace mfres::font {

/// One character in units of the font, capitals being 21 high.
struct Glyph {
    double advance = 0.0;                          ///< to where the next character starts
    std::vector<std::vector<CanvasPoint>> strokes; ///< from the character's start and its baseline; y downwards
};

/// Of '?' for characters beyond ' ' to '~'.
Glyph glyph_of(char c);

} // namespace mfres::font
