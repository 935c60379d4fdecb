// SPDX-License-Identifier: MIT
// The font of pictures: "Roman simplex" of the Hershey fonts, whose characters are strokes.
#pragma once

#include "picture/image.h"

#include <cstddef>
#include <string_view>

namespace mfres::font {

/// One character in units of the font, capitals being 21 high.
struct Glyph {
    double advance = 0.0;                          ///< to where the next character starts
    std::vector<std::vector<CanvasPoint>> strokes; ///< from the character's start and its baseline; y downwards
};

/// Of '?' for characters beyond ' ' to '~'.
Glyph glyph_of(char c);

/// The character of UTF-8 that begins at words[at], and moves `at` behind it. Letters of Latin-1 (U+00C0 to U+00FF) are the
/// base letter with its accent, other characters beyond ASCII and bytes that are no UTF-8 are '?'. Precondition: at <
/// words.size().
Glyph next_glyph(std::string_view words, std::size_t& at);

} // namespace mfres::font
