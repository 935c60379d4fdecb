// SPDX-License-Identifier: MIT
// Ranks whose GPUs are joined by NCCL.
#pragma once

#include "backends/cuda/device_ranks.h"

#include <functional>

namespace mfres::cuda {

/// What a wait for the device looks at while nothing has come: throws EngineError once there is no use in waiting.
using Watch = std::function<void()>;

/// Version of the NCCL library that can be loaded here, 0 where there is none or the build is without.
std::int64_t nccl_version();

/// Joins this rank's current device to those of the others, whose sums then follow the work on `stream`, a
/// cudaStream_t. Every rank calls it. As long as the result exists `watch` tells of ranks that fail. Throws
/// EngineError. Precondition: why_not_nccl() has no reason.
std::unique_ptr<DeviceRanks> make_nccl_ranks(Communicator& ranks, void* stream, Watch& watch);

} // namespace mfres::cuda
