// SPDX-License-Identifier: MIT
// Our own kernels in this backend, by their short names, and the instruction sets that they may use.
#pragma once

#include "backends/kernels/loops.h"
#include "backends/kernels/value_array.h"

namespace mfres::onednn {

using namespace kernels;

/// Limits our kernels to the instruction sets that oneDNN may use: the environment variable ONEDNN_MAX_CPU_ISA lowers
/// both, so that an older processor can be measured and tested on a newer one.
void obey_max_cpu_isa();

} // namespace mfres::onednn
