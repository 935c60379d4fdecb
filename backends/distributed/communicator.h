// SPDX-License-Identifier: MIT
// Communication between the ranks of data-parallel training. Ranks are processes started by a launcher, connected by
// MPI or sockets, or threads of one process. Engines and the trainer use this interface only, because data-parallel
// training needs sums over all ranks only. An engine with arrays on a device may use collectives of its own there; it
// uses rank, size, broadcast() to set them up, and check() to detect a failed rank.
#pragma once

#include <mfres/status.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Collectives over all ranks. Every rank calls the same collectives in the same order with equal numbers of values.
/// Not thread-safe: one thread at a time may use it.
/// Errors of every collective: the error that another rank passed to fail(), whose message then begins with "on rank";
/// backend_failed (the engine reports an error, or a rank is gone). After an error all further calls return errors.
class Communicator {
  public:
    Communicator() = default;
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;
    virtual ~Communicator() = default;

    virtual int rank() const = 0; ///< 0 <= rank < size
    virtual int size() const = 0;
    /// Index among the ranks of this computer, if the launcher provides it; selects a device.
    virtual int local_rank() const { return rank(); }
    bool alone() const { return size() == 1; }
    /// The root rank writes files and prints.
    bool is_root() const { return rank() == 0; }

    /// Replaces every value by its sum over all ranks; the result has the same bits on every rank.
    virtual Status all_reduce_sum(std::span<double> values) = 0;
    virtual Status all_reduce_sum(std::span<float> values) = 0;

    /// Starts a non-blocking all_reduce_sum. The values must not be accessed until finish_sums(), which completes all
    /// sums that were started. Other collectives may run in between.
    virtual Status start_sum(std::span<float> values) = 0;
    virtual Status finish_sums() = 0;

    /// Copies the bytes of rank `root` to every other rank.
    virtual Status broadcast(std::span<std::byte> bytes, int root) = 0;

    /// Returns once every rank has called it.
    virtual Status barrier() = 0;

    /// Reports an error of this rank to all others: their current or next call returns it. Does nothing after an error
    /// of another rank.
    virtual void fail(const Error& error) = 0;

    /// The error of a failed rank. Does not block.
    virtual Status check() = 0;
};

/// The communicator of world size 1.
Communicator& single_rank();

/// `size` ranks for threads of this process. A destroyed rank counts as failed. Precondition: size >= 1.
std::vector<std::unique_ptr<Communicator>> thread_ranks(int size);

/// Address where rank 0 listens for the others.
struct Rendezvous {
    std::string address;
    int port = 0;
};

/// The environment variables of a launcher.
struct Launch {
    int rank = 0;
    int size = 1;
    std::string variable; ///< the variable of the rank, e.g. "OMPI_COMM_WORLD_RANK"
    int local_rank = 0;   ///< among those of this computer; the rank if there is no variable for it
    std::optional<Rendezvous> rendezvous = std::nullopt;
};

/// Value of an environment variable, null if it is not set.
using Environment = std::function<const char*(const char*)>;

/// Looks for the variables of Open MPI, of PMI (MPICH, Intel MPI), of torchrun and compatible launchers (RANK,
/// WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), of a SLURM job step, and for RANK and WORLD_SIZE alone. Nothing
/// if none of them is set. Errors: invalid_argument (not a number, or a rank that is not below the size).
Result<std::optional<Launch>> find_launch(const Environment& environment);

/// Connects the processes of this launch; a communicator of world size 1 if there is one process. Processes of torchrun
/// and compatible launchers use sockets with MASTER_ADDR as rendezvous; others use MPI, or sockets in a build without.
/// MPI is initialised for more than one process only, and finalised with the last such object.
/// Errors: those of find_launch, backend_unavailable (there is no MPI, and MASTER_ADDR or MASTER_PORT is not set), backend_failed (MPI reports an error or another number of processes than the launcher), those of join_sockets.
Result<std::shared_ptr<Communicator>> open_ranks();

/// The error of `rank` as reported on the other ranks.
Error error_on_rank(int rank, const Error& error);

/// Name and version of MPI; empty in a build without MPI, and where its module, libmfres_mpi.so, cannot be opened.
std::string mpi_description();

namespace mpi {

/// Connects the processes of `launch`. Errors: those of open_ranks().
Result<std::shared_ptr<Communicator>> join(const Launch& launch);

/// What the module libmfres_mpi.so provides.
struct Functions {
    decltype(&mpi_description) description;
    decltype(&mpi::join) join;
};

} // namespace mpi

} // namespace mfres
