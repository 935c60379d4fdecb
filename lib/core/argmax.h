// Labels from logits: the class with the greatest value of each voxel, and the pieces that labelling tile by tile needs
// of it.
#pragma once

#include "core/tensor.h"

#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <span>

namespace mfres {

/// Labels of one pass: the class with the greatest logit per voxel, the lowest of equally great ones.
/// logits [1, classes, x, y, z], any strides (contiguous along z or along the classes is fastest); labels [x][y][z],
/// z fastest. Works plane by plane and needs no memory of its own.
/// Errors: invalid_argument (more than one batch item, no class or more than 256, labels of another size than the
/// logits); logits_not_finite with counts and the first place, and the labels are then to be thrown away.
Status argmax(const StridedView<const float>& logits, std::span<std::uint8_t> labels, int threads);

namespace logits {

/// Labels of `count` voxels of plane x and row y from z on; returns how many of their logits are not finite.
std::int64_t label_row(const StridedView<const float>& logits, std::int64_t x, std::int64_t y, std::int64_t z,
                       std::int64_t count, std::uint8_t* labels);

std::int64_t count_not_finite(const StridedView<const float>& logits, int threads);

/// The sentence for logits of which `bad` are not finite; `offset` is where the logits' first voxel lies in the box.
Error not_finite_error(const StridedView<const float>& logits, std::int64_t bad,
                       const std::array<std::int64_t, 3>& offset);

/// Errors: invalid_argument as argmax for the shape.
Status check_logits(const StridedView<const float>& logits);

} // namespace logits

} // namespace mfres
