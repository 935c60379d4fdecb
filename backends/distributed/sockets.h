// SPDX-License-Identifier: MIT
// Ranks as processes connected by TCP sockets, without MPI. Rank 0 receives the contributions of all ranks to a
// collective, computes it and sends the result. This is enough to set up NCCL for GPUs and for small runs on CPUs; MPI
// is faster for gradients of CPU runs.
#pragma once

#include "backends/distributed/communicator.h"

#include <chrono>

namespace mfres {

struct SocketTimeouts {
    std::chrono::seconds joining = std::chrono::minutes(5);  ///< until all ranks have come
    std::chrono::seconds silence = std::chrono::minutes(30); ///< that a rank may send nothing while it is waited for
    std::chrono::seconds after_interrupt = std::chrono::seconds(30); ///< that ranks have to agree on a stop
};

struct SocketOptions {
    std::string secret; ///< the same on every rank; empty: loopback addresses only
    SocketTimeouts timeouts;
};

/// MFRES_TOKEN, or empty where it is not set. (TORCHELASTIC_RUN_ID is a name that stands on command lines, mostly "none",
/// and no secret.) Errors: invalid_argument (fewer than 16 characters).
Result<std::string> rendezvous_secret(const Environment& environment);

/// What ranks ask while they wait for each other, e.g. whether SIGINT has come: joining then ends at once with the error
/// interrupted, a collective after SocketTimeouts::after_interrupt. Null: never.
void set_rank_interrupt(bool (*asked)());

/// Joins the processes of `launch` at `place`. Ranks that come before rank 0 wait for it. Errors: invalid_argument (no
/// secret, and an address that is not loopback), backend_failed (the address is unknown, the port is taken, ranks do not
/// come, or differ in secret, size or version), interrupted.
Result<std::shared_ptr<Communicator>> join_sockets(const Launch& launch, const Rendezvous& place,
                                                   const SocketOptions& options = {});

} // namespace mfres
