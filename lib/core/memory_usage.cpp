#include "core/memory_usage.h"

#include <fstream>
#include <string>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace mfres {

namespace {

/// A "<field>: <number> kB" line of /proc/self/status, in bytes.
std::int64_t status_field(const std::string& field) {
    std::ifstream status("/proc/self/status");
    std::string line;
    while (std::getline(status, line))
        if (line.rfind(field + ":", 0) == 0)
            return std::stoll(line.substr(field.size() + 1)) * 1024;
    return 0;
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

void release_unused_memory() {
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

} // namespace mfres
