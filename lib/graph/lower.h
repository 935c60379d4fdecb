// SPDX-License-Identifier: MIT
// Graphs as programs of plain tensor operations, exact up to rounding.
#pragma once

#include "graph/graph.h"
#include "graph/plain.h"

#include <mfres/status.h>

#include <optional>
#include <string>

namespace mfres {

/// One step per node on [batch, channel, x, y, z], except that an adaptive average pooling, which plain runtimes do not
/// have, becomes a product with a constant matrix along each axis. Constants that are parameters keep their names.
/// Errors: those of check_weights.
Result<plain::Program> lower_to_volumes(const Graph& graph, const Weights& weights);

/// Why a node cannot be lowered to planes: an op of imported networks that mixes planes in ways which 2-D operations do
/// not. Nothing for all others.
std::optional<std::string> why_not_planes(const Graph& graph, const Node& node);

/// What goes into and comes out of a lowered program.
enum class Ends : std::uint8_t {
    planes,  ///< [batch * x, channel, y, z]
    volumes, ///< [batch, channel, x, y, z]: the program begins and ends with the transposition
};

/// The graph for engines that have no operation on five axes. A volume is held as [batch * x, channel, y, z], a batch
/// of y-z planes. In this layout
///  - convolutions without extent along x (k1, k(1,3,3)) are 2-D convolutions, everything pointwise or along channels
///    stays what it is;
///  - a kernel of extent kx along x becomes a 2-D convolution over kx times the channels: the planes it reaches,
///    shifted and zero-padded, stand beside each other as channels. With a stride s, planes s i, s i + 1, ... are
///    already neighbours in memory, so that most of that is a reshape. Grouped convolutions are one 2-D convolution per
///    plane offset, summed;
///  - resampling and pooling along x work on the view [batch, 1, x, channel * y * z], those along y and z on the
///  planes;
///  - adaptive pooling and nearest resampling by other factors than 1, 2, 4, 8 are products with a constant matrix.
/// No operation has more than four axes, and none but the ends and instance normalisation moves values.
/// Transposed convolutions whose kernels do not overlap along x are 2-D ones with kx times the channels.
/// Errors: those of check_weights, operation_unsupported (why_not_planes).
Result<plain::Program> lower_to_planes(const Graph& graph, const Weights& weights, Ends ends = Ends::planes);

} // namespace mfres
