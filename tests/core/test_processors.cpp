// SPDX-License-Identifier: MIT
#include "core/control_group.h"
#include "core/parallel.h"
#include "core/processors.h"
#include "support/catch.h"
#include "support/paths.h"

#include <fstream>
#include <thread>

using namespace mfres;

namespace {

/// Control groups in a folder of their own.
class Mounted {
  public:
    void set(const std::string& folder, const std::string& file, const std::string& content) const {
        std::filesystem::create_directories(folder_ / folder);
        std::ofstream(folder_ / folder / file) << content << '\n';
    }
    ControlGroups of(const std::string& own) const { return {folder_.path(), own}; }

  private:
    test::TemporaryFolder folder_;
};

} // namespace

TEST_CASE("the memory limit of a control group is the least of those above it") {
    const Mounted mounted;
    CHECK_FALSE(memory_limit(mounted.of("0::/\n")));
    mounted.set("jobs/one", "memory.max", "max");
    mounted.set("jobs", "memory.max", "2000");
    mounted.set(".", "memory.max", "3000");
    CHECK(memory_limit(mounted.of("0::/jobs/one\n")) == 2000);
    CHECK(memory_limit(mounted.of("0::/elsewhere\n")) == 3000);
    mounted.set("jobs/one", "memory.max", "1000");
    CHECK(memory_limit(mounted.of("0::/jobs/one\n")) == 1000);
    // Version 1 names its controllers.
    mounted.set("memory/docker/abc", "memory.limit_in_bytes", "500");
    CHECK(memory_limit(mounted.of("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n")) == 500);
    CHECK_FALSE(memory_limit(mounted.of("5:cpu,cpuacct:/docker/abc\n")));
    CHECK_FALSE(memory_limit(mounted.of("no group\n")));
}

TEST_CASE("the processor limit of a control group is the least quota of those above it") {
    const Mounted mounted;
    CHECK_FALSE(processor_limit(mounted.of("0::/\n")));
    mounted.set("jobs/one", "cpu.max", "max 100000");
    CHECK_FALSE(processor_limit(mounted.of("0::/jobs/one\n")));
    mounted.set("jobs", "cpu.max", "150000 100000");
    CHECK(processor_limit(mounted.of("0::/jobs/one\n")) == 1.5);
    mounted.set("jobs/one", "cpu.max", "25000 50000");
    CHECK(processor_limit(mounted.of("0::/jobs/one\n")) == 0.5);
    CHECK_FALSE(processor_limit(mounted.of("0::/elsewhere\n")));
    // Version 1: two files, and -1 for no limit.
    mounted.set("cpu/docker/abc", "cpu.cfs_quota_us", "-1");
    mounted.set("cpu/docker/abc", "cpu.cfs_period_us", "100000");
    const ControlGroups docker = mounted.of("4:memory:/docker/abc\n5:cpu,cpuacct:/docker/abc\n");
    CHECK_FALSE(processor_limit(docker));
    mounted.set("cpu/docker/abc", "cpu.cfs_quota_us", "300000");
    CHECK(processor_limit(docker) == 3.0);
    CHECK_FALSE(processor_limit(mounted.of("4:memory:/docker/abc\n")));
}

TEST_CASE("no more threads are used by default than processors and their time allow") {
    CHECK(useful_threads(8, std::nullopt) == 8);
    CHECK(useful_threads(8, 3.0) == 3);
    CHECK(useful_threads(8, 1.5) == 2);
    CHECK(useful_threads(8, 0.1) == 1);
    CHECK(useful_threads(2, 64.0) == 2);
    CHECK(useful_threads(4, 1e300) == 4);
    const int machine = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    CHECK(useful_threads(0, std::nullopt) == machine);
    CHECK(resolve_threads(7) == 7);
    CHECK(resolve_threads(0) == useful_threads());
    CHECK(useful_threads() >= 1);
}

TEST_CASE("a thread that is pinned may use fewer processors") {
    const std::vector<int> before = allowed_processors();
    if (before.size() < 2) {
        std::printf("SKIPPED: this process may use one processor only, or the system does not report them\n");
        return;
    }
    int threads = 0;
    std::vector<int> inside;
    std::thread([&] {
        pin_this_thread({before.back()});
        inside = allowed_processors();
        threads = resolve_threads(0);
    }).join();
    CHECK(inside == std::vector<int>{before.back()});
    CHECK(threads == 1);
    CHECK(allowed_processors() == before);
}
