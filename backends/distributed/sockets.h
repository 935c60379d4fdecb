// SPDX-License-Identifier: MIT
// Ranks as processes connected by TCP sockets, without MPI. Rank 0 receives the contributions of all ranks to a
// collective, computes it and sends the result. This is enough to set up NCCL for GPUs and for small runs on CPUs; MPI
// is faster for gradients of CPU runs.
#pragma once

#include "backends/distributed/communicator.h"

#include <chrono>

namespace mfres {

/// Connects the processes of `launch`. Rank 0 listens at `place`: on the loopback interface if the address belongs to
/// it, otherwise on all interfaces. There is no authentication, so the network must be private. Ranks retry until rank
/// 0 listens, for at most `spin_timeout`. Errors: backend_failed (unknown address, port in use, missing ranks, ranks
/// that differ in size or version).
Result<std::shared_ptr<Communicator>> join_sockets(const Launch& launch, const Rendezvous& place,
                                                   std::chrono::seconds spin_timeout = std::chrono::minutes(5));

} // namespace mfres
