// SPDX-License-Identifier: MIT
#include "core/memory_usage.h"
#include "support/catch.h"

#include <unistd.h>

using namespace mfres;

TEST_CASE("memory that is left is some, and no more than the machine has") {
    const std::int64_t machine = std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
    const std::int64_t available = available_memory();
    if (available == 0) {
        std::printf("SKIPPED: this system does not tell how much memory is left\n");
        return;
    }
    CHECK(available > 0);
    CHECK(available < machine);
}
