// SPDX-License-Identifier: MIT
// Resident memory of this process and available memory, as the operating system reports them.
#pragma once

#include <cstdint>

namespace mfres {

/// Current resident memory in bytes; 0 if the system does not report it.
std::int64_t resident_bytes();

/// Peak resident memory in bytes since the start of the process or reset_peak_resident(); 0 if it is not reported.
std::int64_t peak_resident_bytes();

/// Resets the peak to the current value. False if the system does not support it.
bool reset_peak_resident();

/// Bytes that can be allocated without swapping, as the system estimates it; 0 if it does not report it.
std::int64_t free_memory_of_machine();

/// The same within the limit of the container.
std::int64_t available_memory();

/// Returns free memory of the allocator to the system, where the C library supports it. Called once per compiled
/// network, because compiling leaves tens of megabytes of free heap.
void release_unused_memory();

} // namespace mfres
