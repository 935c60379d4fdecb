// SPDX-License-Identifier: MIT
// What a step would move and launch on a GPU, level by level of the network, and the least time that takes there.
#pragma once

#include "backends/cuda/launch_log.h"
#include "graph/graph.h"

#include <mfres/machine.h>

#include <cstdint>
#include <string>
#include <vector>

namespace mfres::cuda {

/// Launches of nodes with one grid, or of one kernel.
struct RooflineRow {
    std::string name; ///< "128x128x128"; "input, loss, update" for what belongs to no node
    std::int64_t launches = 0;
    std::int64_t bytes = 0;
    std::int64_t macs = 0;
    double roofline_ms = 0.0; ///< of each launch multiply-adds at the peak rate or bytes at the copy rate
    double compute_ms = 0.0;  ///< the part of it in launches that multiply-adds bound
};

struct Roofline {
    std::string machine;
    Precision precision = Precision::f32;
    std::vector<RooflineRow> levels;  ///< from the finest grid to the coarsest
    std::vector<RooflineRow> kernels; ///< by falling time
    RooflineRow total;
    std::int64_t peak_bytes = 0;      ///< of device memory, without workspaces of convolutions
    std::int64_t workspace_bytes = 0; ///< the most that such a workspace may take; there is one at a time
};

/// Launches of a plan under the roof of a machine. Errors: invalid_argument (the machine has no rate for the precision, or
/// no copy rate).
Result<Roofline> roofline(const Graph& graph, const std::vector<Launch>& launches, const Machine& machine,
                          Precision precision);

/// Plans one inference or one step of training of a network without a device. Errors: those of roofline() and of
/// compiling.
Result<Roofline> planned_roofline(const Graph& graph, bool training, const Machine& machine, Precision precision);

std::string to_text(const Roofline& roofline);
std::string to_json(const Roofline& roofline);

} // namespace mfres::cuda
