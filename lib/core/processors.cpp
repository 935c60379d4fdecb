// SPDX-License-Identifier: MIT
#include "core/processors.h"

#include "core/control_group.h"

#include <algorithm>
#include <cmath>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace mfres {

#ifdef __linux__

namespace {

/// The affinity mask, because containers and `taskset` restrict a process to fewer CPUs than the machine has.
bool affinity(cpu_set_t& allowed) {
    CPU_ZERO(&allowed);
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0;
}

int allowed_count() {
    cpu_set_t allowed;
    return affinity(allowed) ? CPU_COUNT(&allowed) : 0;
}

} // namespace

std::vector<int> allowed_processors() {
    cpu_set_t allowed;
    std::vector<int> processors;
    if (affinity(allowed))
        for (int processor = 0; processor < CPU_SETSIZE; ++processor)
            if (CPU_ISSET(processor, &allowed))
                processors.push_back(processor);
    return processors;
}

int current_processor() {
    return sched_getcpu();
}

void pin_this_thread(const std::vector<int>& processors) {
    cpu_set_t wanted;
    CPU_ZERO(&wanted);
    for (const int processor : processors)
        CPU_SET(processor, &wanted);
    sched_setaffinity(0, sizeof wanted, &wanted);
}

#else

namespace {

int allowed_count() {
    return 0;
}

} // namespace

std::vector<int> allowed_processors() {
    return {};
}

int current_processor() {
    return -1;
}

void pin_this_thread(const std::vector<int>&) {}

#endif

int useful_threads(int allowed, std::optional<double> limit) {
    const int processors = allowed > 0 ? allowed : static_cast<int>(std::thread::hardware_concurrency());
    const int in_time = limit ? static_cast<int>(std::ceil(std::min(*limit, 1e6) - 1e-6)) : processors;
    return std::max(1, std::min(processors, in_time));
}

int useful_threads() {
    static const std::optional<double> limit = processor_limit(ControlGroups::of_this_process());
    return useful_threads(allowed_count(), limit);
}

} // namespace mfres
