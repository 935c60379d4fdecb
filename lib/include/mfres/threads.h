// SPDX-License-Identifier: MIT
// Threading options: number of threads, CPU affinity, wait policy, or a thread pool of the caller.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace mfres {

/// A parallel loop of the caller. It must call part(i) exactly once for every 0 <= i < parts, on any threads, and
/// return after all calls have returned. Calls do not wait for each other.
using ParallelFor = std::function<void(int parts, const std::function<void(int)>& part)>;

struct ThreadOptions {
    int threads = 0; ///< 0 = all processors this process may use
    /// Wait policy at barriers. "auto" spins for 50 microseconds and then sleeps. "passive" sleeps at once. "active"
    /// spins for 100 milliseconds, for processors that run nothing else.
    std::string waiting = "auto";
    /// CPUs, by the system's numbers, to which the threads are pinned in turn; empty = no affinity. The calling thread
    /// takes the first one: it is pinned while the network runs, and its affinity is restored afterwards.
    std::vector<int> processors;
    /// Thread pool of the caller. If set, the library starts no threads for a case and calls this function instead,
    /// usually with `threads` parts. The onednn backend runs networks in it; other engines keep their own threads.
    ParallelFor parallel_for;
};

} // namespace mfres
