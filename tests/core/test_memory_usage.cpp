// SPDX-License-Identifier: MIT
#include "core/memory_usage.h"
#include "support/catch.h"
#include "support/paths.h"

#include <filesystem>
#include <fstream>
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

TEST_CASE("the limit of a control group is the least of those above it") {
    const test::TemporaryFolder mounted;
    const auto limit = [&](const std::string& folder, const std::string& file, const std::string& content) {
        std::filesystem::create_directories(mounted / folder);
        std::ofstream(mounted / folder / file) << content << '\n';
    };
    CHECK_FALSE(control_group_limit(mounted.path(), "0::/\n"));
    limit("jobs/one", "memory.max", "max");
    limit("jobs", "memory.max", "2000");
    limit(".", "memory.max", "3000");
    CHECK(control_group_limit(mounted.path(), "0::/jobs/one\n") == 2000);
    CHECK(control_group_limit(mounted.path(), "0::/elsewhere\n") == 3000);
    limit("jobs/one", "memory.max", "1000");
    CHECK(control_group_limit(mounted.path(), "0::/jobs/one\n") == 1000);
    // Version 1 names its controllers.
    limit("memory/docker/abc", "memory.limit_in_bytes", "500");
    CHECK(control_group_limit(mounted.path(), "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n") == 500);
    CHECK_FALSE(control_group_limit(mounted.path(), "5:cpu,cpuacct:/docker/abc\n"));
    CHECK_FALSE(control_group_limit(mounted.path(), "no group\n"));
}
