// SPDX-License-Identifier: MIT
// Limits of Linux's control groups, which containers and service managers set.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace mfres {

/// Where a process finds its control groups.
struct ControlGroups {
    std::filesystem::path mounted = "/sys/fs/cgroup"; ///< version 2 or 1
    std::string own;                                  ///< what /proc/PID/cgroup says

    /// Those of this process.
    static ControlGroups of_this_process();
};

/// The least memory limit in bytes of the groups that the process is in; nothing where there is none.
std::optional<std::int64_t> memory_limit(const ControlGroups& groups);

/// The least processor time that the groups allow, in processors (1.5 = 150 ms in every 100 ms); nothing where they allow
/// any.
std::optional<double> processor_limit(const ControlGroups& groups);

} // namespace mfres
