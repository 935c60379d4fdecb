// SPDX-License-Identifier: MIT
#include "core/memory_usage.h"

#include "core/control_group.h"

#include <algorithm>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace mfres {

std::int64_t available_memory() {
    std::int64_t available = free_memory_of_machine();
    if (const auto limit = memory_limit(ControlGroups::of_this_process()); limit && available > 0)
        available = std::min(available, std::max<std::int64_t>(*limit - resident_bytes(), 1));
    return available;
}

void release_unused_memory() {
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

} // namespace mfres
