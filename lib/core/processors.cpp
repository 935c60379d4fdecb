// SPDX-License-Identifier: MIT
#include "core/processors.h"

#include "core/control_group.h"

#include <algorithm>
#include <cmath>
#include <thread>

namespace mfres {

int useful_threads(int allowed, std::optional<double> limit) {
    const int processors = allowed > 0 ? allowed : static_cast<int>(std::thread::hardware_concurrency());
    const int in_time = limit ? static_cast<int>(std::ceil(std::min(*limit, 1e6) - 1e-6)) : processors;
    return std::max(1, std::min(processors, in_time));
}

int useful_threads() {
    static const std::optional<double> limit = processor_limit(ControlGroups::of_this_process());
    return useful_threads(allowed_processor_count(), limit);
}

} // namespace mfres
