// SPDX-License-Identifier: MIT
#include "core/memory_usage.h"

#include <algorithm>
#include <fstream>
#include <sstream>
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
