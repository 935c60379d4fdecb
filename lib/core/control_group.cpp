// SPDX-License-Identifier: MIT
#include "core/control_group.h"

#include "core/try.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace mfres {

namespace {

namespace fs = std::filesystem;

/// Calls visit(folder, whether it is of version 2) for every group that the process is in and that limits what the
/// controller controls. A limit of a group holds for those below it, too.
template <typename Visit>
void visit_groups(const ControlGroups& groups, std::string_view controller, const Visit& visit) {
    std::istringstream lines{groups.own};
    pass_exceptions(lines);
    for (std::string line;
         std::getline(lines, line);) { // "number:controllers:/path"; version 2 has number 0 and no names
        const std::size_t first = line.find(':');
        const std::size_t second = first == line.npos ? first : line.find(':', first + 1);
        if (second == line.npos)
            continue;
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        const bool version2 = line.starts_with("0::");
        if (!version2 && controllers.find("," + std::string(controller) + ",") == controllers.npos)
            continue;
        // Within a container the path may be that of the host, of which nothing is mounted but the end of the way: the
        // group itself.
        const fs::path root = version2 ? groups.mounted : groups.mounted / controller;
        fs::path group = fs::path(line.substr(second + 1)).relative_path();
        for (; !group.empty(); group = group.parent_path())
            visit(root / group, version2);
        visit(root, version2);
    }
}

/// Keeps the least of several limits.
template <typename Number>
void lower(std::optional<Number>& least, Number limit) {
    least = std::min(least.value_or(limit), limit);
}

} // namespace

ControlGroups ControlGroups::of_this_process() {
    std::ifstream file("/proc/self/cgroup");
    std::ostringstream own;
    pass_exceptions(own);
    own << file.rdbuf();
    ControlGroups groups;
    groups.own = own.str();
    return groups;
}

std::optional<std::int64_t> memory_limit(const ControlGroups& groups) {
    std::optional<std::int64_t> least;
    visit_groups(groups, "memory", [&](const fs::path& folder, bool version2) {
        std::ifstream limit(folder / (version2 ? "memory.max" : "memory.limit_in_bytes"));
        if (std::int64_t bytes = 0; limit >> bytes) // version 2 writes "max" for none
            lower(least, bytes);
    });
    return least;
}

std::optional<double> processor_limit(const ControlGroups& groups) {
    std::optional<double> least;
    visit_groups(groups, "cpu", [&](const fs::path& folder, bool version2) {
        // Microseconds of processor time in every period. For none, version 2 writes "max" and version 1 writes -1.
        std::ifstream quota(folder / (version2 ? "cpu.max" : "cpu.cfs_quota_us"));
        std::ifstream period_file(version2 ? fs::path() : folder / "cpu.cfs_period_us");
        std::istream& rest = version2 ? quota : period_file;
        std::int64_t allowed = 0;
        std::int64_t period = 0;
        if (quota >> allowed && rest >> period && allowed > 0 && period > 0)
            lower(least, static_cast<double>(allowed) / static_cast<double>(period));
    });
    return least;
}

} // namespace mfres
