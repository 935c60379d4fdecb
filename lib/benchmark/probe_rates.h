// SPDX-License-Identifier: MIT
// Rates of the machine, measured by dedicated loops (probe.cpp).
#pragma once

#include <mfres/compute.h>

#include <cstdint>

namespace mfres {

/// 10^9 multiply-adds per second in registers. A precision that the processor has no instruction for runs at f32's.
/// Precondition: threads >= 1.
double probe_gmacs(Precision precision, int threads);

/// 10^9 bytes per second, read and written, while arrays of `working_set` bytes together are copied.
double probe_copy(std::int64_t working_set, int threads);

} // namespace mfres
