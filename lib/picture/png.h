// SPDX-License-Identifier: MIT
// Pictures as PNG files (ISO/IEC 15948).
#pragma once

#include "picture/image.h"

#include <mfres/status.h>

namespace mfres {

/// A PNG file of the image: 8 bits a channel, three channels, not interlaced.
/// Errors: invalid_argument (more than 2 GiB of pixels), memory_limit.
Result<std::vector<std::byte>> encode_png(const RgbImage& image);

} // namespace mfres
