// A region of the network's steps as one operation: lines along z stream through all of them and stay in the cache.
//
// The volume is cut into tiles along x, which threads share. In a tile every step computes one line of planes y after
// the other, each `lag` lines behind the first step, so that a 3x3x1 or 1x3x3 convolution finds the lines around it,
// and `halo` voxels beyond the tile along x, so that tiles need nothing of each other. Values that later lines need are
// kept in rings of lines, the others in a single row. Inside, every channel of a line is a row of its own (planar), so
// slices and concats are nothing but pointers, and arrays outside are channels-last as everywhere in this backend.
//
// Why steps of this backend and no backend of its own: a network's wide levels stay with oneDNN's convolutions, and
// both kinds of steps share one memory plan, one set of threads and one layout between them. lib/graph/fusion.h
// chooses the regions.
#pragma once

#include "backends/onednn/operations.h"
#include "graph/fuse.h"

#include <memory>

namespace mfres::onednn {

/// The operation of a task of several steps. Its Place has the values of values_read() as inputs, in that order, and no
/// residual. Throws std::bad_alloc. Precondition:
/// can_fuse() of executable.h.
std::unique_ptr<Operation> make_fused_region(const Compilation& compilation, const Task& task);

} // namespace mfres::onednn
