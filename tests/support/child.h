// SPDX-License-Identifier: MIT
// Code in a process of its own, with limits that the tests' own process must not have.
#pragma once

#include "support/catch.h"
#include "support/paths.h"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mfres::test {

/// Runs `body` in a process of its own, which exits with what it returns, and is ended after two minutes. Catch2's
/// assertions belong to the test's process: the body returns what is to be checked.
template <typename Body>
pid_t in_child(const Body& body) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::alarm(120);
        ::_exit(body());
    }
    return child;
}

/// The exit code, or 128 and the signal that ended it.
inline int exit_code_of(pid_t child) {
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Leaves this process so many bytes of address space besides what it has. False where that cannot be done, as under
/// sanitizers.
inline bool limit_address_space(std::uint64_t more) {
    long pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    if (!resident_memory_is_ours || pages == 0)
        return false;
    const rlim_t room = static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + more;
    const rlimit limit{room, room};
    return ::setrlimit(RLIMIT_AS, &limit) == 0;
}

/// The exit code of `body` in a process that can take 256 MiB more, or nothing, which has been said then.
template <typename Body>
std::optional<int> in_small_memory(const Body& body) {
    constexpr int impossible = 99;
    const int code =
        exit_code_of(in_child([&] { return limit_address_space(std::uint64_t{256} << 20U) ? body() : impossible; }));
    if (code != impossible)
        return code;
    std::printf("SKIPPED: the address space cannot be limited here\n");
    return std::nullopt;
}

/// A file that has a size and no blocks: what reads it gets zeros.
inline void make_sparse(const std::filesystem::path& path, const std::string& begin, std::uint64_t bytes) {
    std::ofstream(path, std::ios::binary) << begin;
    std::filesystem::resize_file(path, bytes);
}

} // namespace mfres::test
