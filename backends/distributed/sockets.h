// Ranks as processes that meet through sockets, where no MPI joins them. Rank 0 listens, takes what every other rank
// brings to a collective and sends back what comes of it: enough to join GPUs by NCCL and for small runs on processors,
// whose gradients MPI moves faster.
#pragma once

#include "backends/distributed/communicator.h"

#include <chrono>

namespace mfres {

/// Joins the processes of `launch` at `place`, which rank 0 listens at: on the loopback device only if the address is
/// one of it, else on all. Whoever can reach the port can take part, so it belongs on a network of one's own. Ranks
/// that come before rank 0 wait for it, up to `spin_timeout` in all. Errors: backend_failed (the address is unknown, the
/// port is taken, ranks do not come, or differ in size or version).
Result<std::shared_ptr<Communicator>> join_sockets(const Launch& launch, const Rendezvous& place,
                                                   std::chrono::seconds spin_timeout = std::chrono::minutes(5));

} // namespace mfres
