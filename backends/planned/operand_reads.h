// SPDX-License-Identifier: MIT
// Which voxels of its operands an op reads, where only a part of its output is needed.
#pragma once

#include "core/line_spans.h"
#include "graph/graph.h"

namespace mfres {

/// Adds the voxels of an operand of `node` that the `needed` voxels of its output depend on to `read`, which is all() or of
/// the operand's grid. More are added where the op reads across the volume, or changes the grid other than by a
/// trilinear upsampling by two. `work` is memory to work in.
void add_operand_reads(const Node& node, const Shape& operand, const LineSpans& needed, LineSpans& work,
                       LineSpans& read);

} // namespace mfres
