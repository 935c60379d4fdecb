// SPDX-License-Identifier: MIT
#include "core/memory_usage.h"

#include "core/control_group.h"

#include <algorithm>
#include <fstream>
#include <string>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace mfres {

namespace {

/// A "<field>: <number> kB" line of a file of Linux's /proc, in bytes.
std::int64_t proc_field(const char* file, const std::string& field) {
    std::ifstream lines(file);
    std::string line;
    while (std::getline(lines, line))
        if (line.rfind(field + ":", 0) == 0)
            return std::stoll(line.substr(field.size() + 1)) * 1024;
    return 0;
}

std::int64_t status_field(const std::string& field) {
    return proc_field("/proc/self/status", field);
}

} // namespace

std::int64_t resident_bytes() {
    return status_field("VmRSS");
}

std::int64_t peak_resident_bytes() {
    return status_field("VmHWM");
}

bool reset_peak_resident() {
    std::ofstream clear("/proc/self/clear_refs"); // Linux: "5" resets VmHWM to VmRSS, see proc(5)
    return clear.is_open() && static_cast<bool>(clear << "5" << std::flush);
}

std::int64_t available_memory() {
    std::int64_t available = proc_field("/proc/meminfo", "MemAvailable");
    if (const auto limit = memory_limit(ControlGroups::of_this_process()); limit && available > 0)
        available = std::min(available, std::max<std::int64_t>(*limit - resident_bytes(), 1));
    return available;
}

void release_unused_memory() {
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

} // namespace mfres
