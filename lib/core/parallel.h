// SPDX-License-Identifier: MIT
// Parallel loops over index ranges: on the ThreadPool of the calling thread, or on short-lived threads if it has none.
#pragma once

#include <cstdint>
#include <functional>

namespace mfres {

/// Number of threads to use when the caller asked for `requested` (0 = all logical processors this process may use).
int resolve_threads(int requested);

/// During its lifetime the calling thread runs a part of a loop, and loops within that part stay on it.
class LoopPartScope {
  public:
    LoopPartScope();
    ~LoopPartScope();
    LoopPartScope(const LoopPartScope&) = delete;
    LoopPartScope& operator=(const LoopPartScope&) = delete;

  private:
    bool before_;
};

/// Calls body(begin, end) over a partition of [0, count) into at most `threads` contiguous ranges, one thread each.
/// The partition depends only on count and threads, so results that are written by index are reproducible. Ranges for
/// which the system starts no thread run on the calling one, and all do within a part of another loop. If ranges throw,
/// the others still run, and the first exception is rethrown.
void run_ranges(std::int64_t count, int threads, const std::function<void(std::int64_t, std::int64_t)>& body);

/// The same for any body: a reference, which a std::function holds without an allocation.
template <typename Body>
void parallel_ranges(std::int64_t count, int threads, const Body& body) {
    run_ranges(count, threads, std::cref(body));
}

} // namespace mfres
