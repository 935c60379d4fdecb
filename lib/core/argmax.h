// Labels from logits: the class with the greatest value of each voxel, and the pieces that blending tiles needs of it.
#pragma once

#include "core/tensor.h"

#include <mfres/status.h>

#include <algorithm>
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

/// Voxels of one row handled at once: a constant, so that loops over them become vector instructions.
constexpr std::int64_t lanes = 32;
using Lanes = std::array<float, lanes>;

/// Gathers `count` <= lanes values; the lanes behind them become 0.
inline void load(const float* from, std::int64_t stride, std::int64_t count, Lanes& to) {
    if (count < lanes)
        to.fill(0.0F);
    if (stride == 1)
        std::copy_n(from, count, to.begin());
    else
        for (std::int64_t i = 0; i < count; ++i)
            to[static_cast<std::size_t>(i)] = from[i * stride];
}

/// Labels of plane x, [y][z]; returns how many of its logits are not finite.
std::int64_t label_plane(const StridedView<const float>& logits, std::int64_t x, std::uint8_t* labels);

std::int64_t count_not_finite(const StridedView<const float>& logits, int threads);

/// The sentence for logits of which `bad` are not finite; `offset` is where the logits' first voxel lies in the box.
Error not_finite_error(const StridedView<const float>& logits, std::int64_t bad,
                       const std::array<std::int64_t, 3>& offset);

/// Errors: invalid_argument as argmax for the shape.
Status check_logits(const StridedView<const float>& logits);

} // namespace logits

} // namespace mfres
