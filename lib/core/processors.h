// SPDX-License-Identifier: MIT
// The processors that this process may use.
#pragma once

#include <optional>
#include <vector>

namespace mfres {

/// The CPUs that the calling thread may run on; empty if the system does not report them.
std::vector<int> allowed_processors();

/// How many those are; 0 if the system does not report them. Takes no memory.
int allowed_processor_count();

/// The CPU that the calling thread runs on at present; -1 if the system does not report it.
int current_processor();

/// Lets the calling thread run on these CPUs only. If the system rejects them, nothing changes.
void pin_this_thread(const std::vector<int>& processors);

/// How many threads are of use where `allowed` CPUs may be used (0 = unknown) for as much time as `limit` processors
/// (processor_limit): the smaller number, a part of a processor counting as one; at least 1.
int useful_threads(int allowed, std::optional<double> limit);

/// The same for the calling thread: the CPUs it may run on, and the limit of the control groups that the process was in
/// when this was called first.
int useful_threads();

} // namespace mfres
