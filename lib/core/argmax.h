// SPDX-License-Identifier: MIT
// Labels from logits, for whole volumes and for z-lines of a tile: the class with the greatest logit per voxel, or that
// of the innermost region.
#pragma once

#include "core/line_spans.h"
#include "core/outputs.h"
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

/// How the values of a voxel become a label.
struct LabelRule {
    Outputs outputs = Outputs::classes;
    /// Of Outputs::regions: a voxel is in a region whose value is above it. 0 for logits, where the sigmoid is one half.
    float threshold = 0.0F;
};

/// argmax(), or for regions the class of the innermost region that the voxel is in: 3 in ET, else 1 in TC, else 2 in WT,
/// else 0. Voxels that are not `needed` get 0, and their values are not looked at. Errors: as argmax; invalid_argument
/// (regions of another number of channels than 3).
Status assign_labels(const StridedView<const float>& values, const LabelRule& rule, std::span<std::uint8_t> labels,
                     int threads, const LineSpans& needed = {});

namespace logits {

/// Labels of `count` voxels of the z-line (x, y) from z on; returns the number of logits that are not finite.
std::int64_t label_row(const StridedView<const float>& logits, std::int64_t x, std::int64_t y, std::int64_t z,
                       std::int64_t count, const LabelRule& rule, std::uint8_t* labels);

std::int64_t count_not_finite(const StridedView<const float>& logits, int threads);

/// The error for `bad` logits that are not finite; `offset` is the position of the first logit in the padded box.
Error not_finite_error(const StridedView<const float>& logits, std::int64_t bad,
                       const std::array<std::int64_t, 3>& offset);

/// Errors: invalid_argument for a shape that assign_labels does not accept.
Status check_logits(const StridedView<const float>& logits, Outputs outputs);

} // namespace logits

} // namespace mfres
