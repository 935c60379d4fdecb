// SPDX-License-Identifier: MIT
// Resampling of grey images.
#pragma once

#include "picture/image.h"

namespace mfres {

enum class Resampling : std::uint8_t {
    linear, ///< between the two nearest pixels along each axis
    cubic,  ///< Keys' kernel with a = -3/4 over four pixels along each axis
    area,   ///< the mean over the part of the image that a pixel covers, for shrinking
};

/// The whole image on width x height pixels; the image continues with its outermost pixels beyond its border. The weights
/// are multiples of 1/2048 along each axis, so that the result is the same on every machine.
/// Precondition: no extent is 0.
GreyImage resize(const GreyImage& image, int width, int height, Resampling way);

} // namespace mfres
