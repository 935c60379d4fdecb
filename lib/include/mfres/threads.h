// Threads under the caller's control: how many, on which processors, how they wait, or none of ours at all.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace mfres {

/// A host's own parallel loop: has to call part(i) exactly once for every 0 <= i < parts, on whatever threads it likes,
/// and return when all calls have returned. The calls do not wait for each other.
using ParallelFor = std::function<void(int parts, const std::function<void(int)>& part)>;

struct ThreadOptions {
    int threads = 0; ///< 0 = all processors this process may use
    /// How threads wait for each other: "auto" (spin for tens of microseconds, then sleep: quick on a quiet machine and
    /// out of the way on a busy one), "passive" (sleep at once) or "active" (spin on for a tenth of a second: for
    /// processors that nothing else wants).
    std::string waiting = "auto";
    /// Processors, by the system's numbers, that a network's threads are pinned to, one after the other and from the
    /// first again; empty = wherever the system puts them. The calling thread is one of them, the first: it is pinned
    /// while the network runs and then put back.
    std::vector<int> processors;
    /// Where it is set, no threads are started for a case: loops call this instead, with `threads` parts as a rule. The
    /// onednn backend runs networks in it, too; other engines keep their own threads.
    ParallelFor parallel_for;
};

} // namespace mfres
