// SPDX-License-Identifier: MIT
// SHA-256 (NIST FIPS 180-4) and the hash that identifies a set of weights.
#pragma once

#include "core/sha256.h"
#include "graph/graph.h"

#include <string>

namespace mfres {

/// Identifies weights by their values, whatever dtype or order a file stores them in. It is the SHA-256 of, for every
/// tensor in ascending byte order of the names:
///   the length of the name in bytes, the name in UTF-8, the number of axes, each extent, and every value as IEEE 754
///   binary32, last axis fastest;
/// lengths, axes and extents are unsigned 64-bit integers, and all numbers are little-endian.
/// Returns 64 lower-case hexadecimal digits.
std::string weights_sha256(const Weights& weights);

} // namespace mfres
