// SPDX-License-Identifier: MIT
#include "core/memory_usage.h"

#include "core/control_group.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <string>

#ifdef __linux__
#include <fcntl.h>
#include <unistd.h>
#endif

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace mfres {

namespace {

/// A "<field>: <number> kB" line of a file of Linux's /proc, in bytes. Takes no memory, since it is read for every case.
std::int64_t proc_field(const char* file, std::string_view field) {
#ifdef __linux__
    const int descriptor = ::open(file, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    std::array<char, 8192> content{}; // both files have less than 3000 bytes
    std::size_t size = 0;
    for (ssize_t read = 0; size < content.size(); size += static_cast<std::size_t>(read))
        if ((read = ::read(descriptor, content.data() + size, content.size() - size)) <= 0)
            break;
    ::close(descriptor);
    std::string_view rest(content.data(), size);
    while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        if (!line.starts_with(field) || line.substr(field.size(), 1) != ":")
            continue;
        const std::size_t digits = line.find_first_of("0123456789");
        std::int64_t kilobytes = 0;
        if (digits != line.npos)
            std::from_chars(line.data() + digits, line.data() + line.size(), kilobytes);
        return kilobytes * 1024;
    }
#else
    (void)file;
    (void)field;
#endif
    return 0;
}

std::int64_t status_field(std::string_view field) {
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
#ifdef __linux__
    const int descriptor =
        ::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC); // "5" resets VmHWM to VmRSS, see proc(5)
    if (descriptor < 0)
        return false;
    const bool written = ::write(descriptor, "5", 1) == 1;
    ::close(descriptor);
    return written;
#else
    return false;
#endif
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
