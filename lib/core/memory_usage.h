// How much memory this process holds, as the operating system sees it.
#pragma once

#include <cstdint>

namespace mfres {

/// Bytes of resident memory now; 0 where the system does not tell.
std::int64_t resident_bytes();

/// Most bytes resident since the process started or since reset_peak_resident(); 0 where the system does not tell.
std::int64_t peak_resident_bytes();

/// Lets peak_resident_bytes() start afresh from now. False where the system cannot (then the peak is since the start).
bool reset_peak_resident();

/// Bytes that programs can still take without swapping, as the system estimates it, and no more than a container's
/// limit leaves this process; 0 where the system does not tell.
std::int64_t available_memory();

/// Gives memory that the allocator holds for later back to the system, where the C library can. Used once per compiled
/// network, whose construction leaves holes of tens of megabytes behind.
void release_unused_memory();

} // namespace mfres
