// SPDX-License-Identifier: MIT
// Labels from logits: the class with the greatest logit per voxel, for whole volumes and for z-lines of a tile.
#pragma once

#include "core/tensor.h"

#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <span>

namespace mfres {

/// The class with the greatest logit per voxel; the lowest class index among equal ones.
/// logits [1, classes, x, y, z], any strides (contiguous along z or along the classes is fastest); labels [x][y][z],
/// z fastest. Allocates nothing.
/// Errors: invalid_argument (more than one batch item, no class or more than 256, labels of another size than the
/// logits); logits_not_finite with counts and the first position; the labels are invalid then.
Status argmax(const StridedView<const float>& logits, std::span<std::uint8_t> labels, int threads);

namespace logits {

/// Labels of `count` voxels of the z-line (x, y) from z on; returns the number of logits that are not finite.
std::int64_t label_row(const StridedView<const float>& logits, std::int64_t x, std::int64_t y, std::int64_t z,
                       std::int64_t count, std::uint8_t* labels);

std::int64_t count_not_finite(const StridedView<const float>& logits, int threads);

/// The error for `bad` logits that are not finite; `offset` is the position of the first logit in the padded box.
Error not_finite_error(const StridedView<const float>& logits, std::int64_t bad,
                       const std::array<std::int64_t, 3>& offset);

/// Errors: invalid_argument for a shape that argmax does not accept.
Status check_logits(const StridedView<const float>& logits);

} // namespace logits

} // namespace mfres
