// SPDX-License-Identifier: MIT
#include "core/memory_usage.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <sstream>
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

std::optional<std::int64_t> control_group_limit(const std::filesystem::path& mounted, std::string_view own) {
    std::optional<std::int64_t> least;
    const auto judge = [&](const std::filesystem::path& folder, const char* file) {
        std::ifstream limit(folder / file);
        if (std::int64_t bytes = 0; limit >> bytes) // version 2 writes "max" for none
            least = std::min(least.value_or(bytes), bytes);
    };
    std::istringstream lines{std::string(own)};
    for (std::string line;
         std::getline(lines, line);) { // "number:controllers:/path"; version 2 has number 0 and no names
        const std::size_t first = line.find(':');
        const std::size_t second = first == line.npos ? first : line.find(':', first + 1);
        if (second == line.npos)
            continue;
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        const bool version2 = line.starts_with("0::");
        if (!version2 && controllers.find(",memory,") == controllers.npos)
            continue;
        // A limit of a group holds for those below it, too. Within a container the path may be that of the host, of
        // which nothing is mounted but the end of the way: the group itself.
        const std::filesystem::path root = version2 ? mounted : mounted / "memory";
        const char* const file = version2 ? "memory.max" : "memory.limit_in_bytes";
        std::filesystem::path group = std::filesystem::path(line.substr(second + 1)).relative_path();
        for (; !group.empty(); group = group.parent_path())
            judge(root / group, file);
        judge(root, file);
    }
    return least;
}

std::optional<std::int64_t> control_group_limit() {
    std::ifstream file("/proc/self/cgroup");
    std::ostringstream own;
    own << file.rdbuf();
    return control_group_limit("/sys/fs/cgroup", own.str());
}

std::int64_t available_memory() {
    std::int64_t available = proc_field("/proc/meminfo", "MemAvailable");
    if (const auto limit = control_group_limit(); limit && available > 0)
        available = std::min(available, std::max<std::int64_t>(*limit - resident_bytes(), 1));
    return available;
}

void release_unused_memory() {
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

} // namespace mfres
