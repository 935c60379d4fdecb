// SPDX-License-Identifier: MIT
#include "support/catch.h"

#ifdef MFRES_WITH_ONEDNN
#include "backends/kernels/dispatch.h"
#include "backends/kernels/line_kernels.h"

#include <algorithm>
#include <set>

#include <sys/wait.h>
#include <unistd.h>

using namespace mfres;
using namespace mfres::kernels;

#if defined(__x86_64__)

namespace {

/// Whether all targets, and the kernels that are looked up, are among `allowed` after a limit. Before the limit kernels
/// were looked up without one, as in a program that has run already.
bool limited_to(InstructionSet best, const std::set<std::string>& allowed) {
    (void)line_kernels();
    limit_instruction_set(best);
    const std::vector<std::string> targets = supported_targets();
    return !targets.empty() && line_kernels().name == targets.front() &&
           std::all_of(targets.begin(), targets.end(),
                       [&](const std::string& name) { return allowed.count(name) > 0; });
}

/// In a process of its own, as a limit cannot be taken back.
bool limited_in_child(InstructionSet best, const std::set<std::string>& allowed) {
    const pid_t child = fork();
    if (child == 0)
        _exit(limited_to(best, allowed) ? 0 : 1);
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

} // namespace

TEST_CASE("a limit leaves no target above it, whatever this version of Highway has") {
    const std::set<std::string> sse4 = {"SSE4", "SSE2", "EMU128", "SCALAR"};
    std::set<std::string> avx2 = sse4;
    avx2.insert("AVX2");
    std::set<std::string> avx512 = avx2;
    avx512.insert("AVX3");
    CHECK(limited_in_child(InstructionSet::avx512, avx512));
    CHECK(limited_in_child(InstructionSet::avx2, avx2));
    CHECK(limited_in_child(InstructionSet::sse4, sse4));
}

#endif
#endif
