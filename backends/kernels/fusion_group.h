// SPDX-License-Identifier: MIT
// A fusion group as one op: z-lines stream through all of its ops and stay in the cache.
//
// The volume is split along x into tiles, which threads share out. Within a tile, the ops advance along y together, one
// line at a time. An op runs `delay` lines behind the first (its pipeline delay), so that a convolution along y finds the
// lines around it already computed. An op also computes `halo` voxels beyond the tile along x, so that tiles are
// independent. Values that are read again at other lines or positions are kept in line buffers (as many lines as the
// largest distance, used in turn); other values exist for one z-line only.
//
// Inside a group each channel of a z-line is a contiguous row of floats (planar), so slices and concats cost nothing.
// Arrays outside are channels-last.
//
// lib/graph/fuse.h decides which ops form a group. The wide levels of a network stay separate ops of the
// backend. Both kinds of ops share one memory plan, one thread pool and one layout.
#pragma once

#include "backends/planned/executor.h"

#include <memory>

namespace mfres::kernels {

/// Whether this processor has vector instructions for fusion groups. Without them ops are faster alone.
bool can_fuse();

/// The model for fusion groups that inference uses: `model`, or null where this processor cannot fuse.
const FusionModel* usable_model(const FusionModel* model);

/// The op of a group of several ops, for `threads` threads. With `bf16` convolutions whose inputs are pairs of channels
/// read them in bf16 where the processor has dot products of them (pair_kernels.h); not one that reads the network's input
/// or computes its output. Throws std::bad_alloc.
std::unique_ptr<InferenceOp> make_fusion_group(const PlannedNetwork& planned, int threads, const FusionGroup& group,
                                               bool bf16 = false);

} // namespace mfres::kernels
