// The ranks that train one network together: processes that a launcher started (joined by MPI, or by sockets without),
// or threads of one process. Data
// parallel training needs no more than sums over all ranks, so this interface is all that the engines and the trainer know.
// An engine whose arrays lie on a device may do its own collectives there; rank, size, broadcast() and check() are
// what it needs to set them up and to learn that a peer is gone.
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

/// Collectives over all ranks. Every rank calls the same ones in the same order with as many values; each returns when
/// this rank's part is done. One thread at a time may use it.
/// Errors of every collective: the error that another rank passed to fail(), whose sentence then begins with "on rank";
/// backend_failed (the engine reports an error, or a rank is gone). After an error all further calls return errors.
class Communicator {
  public:
    Communicator() = default;
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;
    virtual ~Communicator() = default;

    virtual int rank() const = 0; ///< 0 <= rank < size
    virtual int size() const = 0;
    /// Which of the ranks of its computer this is, as far as the launcher says: chooses a device.
    virtual int local_rank() const { return rank(); }
    bool alone() const { return size() == 1; }
    /// The rank that writes files and speaks for all.
    bool is_root() const { return rank() == 0; }

    /// Every value becomes its sum over all ranks, the same bits on each.
    virtual Status all_reduce_sum(std::span<double> values) = 0;
    virtual Status all_reduce_sum(std::span<float> values) = 0;

    /// Begins all_reduce_sum: the values are used until finish_sums(), which ends all that were begun. Goes on while
    /// other collectives wait.
    virtual Status start_sum(std::span<float> values) = 0;
    virtual Status finish_sums() = 0;

    /// The bytes of rank `root` to every other rank.
    virtual Status broadcast(std::span<std::byte> bytes, int root) = 0;

    /// Returns once every rank has called it.
    virtual Status barrier() = 0;

    /// Tells all other ranks that this one cannot go on: what they wait for, now or next, returns this error. Does
    /// nothing after an error of another rank.
    virtual void fail(const Error& error) = 0;

    /// The error of a rank that failed, without waiting for anybody.
    virtual Status check() = 0;
};

/// A process of its own: every sum is what it was.
Communicator& single_rank();

/// `size` ranks for as many threads of this process. A rank that is destroyed counts as gone. Precondition: size >= 1.
std::vector<std::unique_ptr<Communicator>> thread_ranks(int size);

/// Where rank 0 listens for the others.
struct Rendezvous {
    std::string address;
    int port = 0;
};

/// What a launcher's environment variables say.
struct Launch {
    int rank = 0;
    int size = 1;
    std::string variable; ///< that told the rank, e.g. "OMPI_COMM_WORLD_RANK"
    int local_rank = 0;   ///< among those of this computer; the rank where no variable tells it
    std::optional<Rendezvous> meeting = std::nullopt;
};

/// Value of an environment variable, null if it is not set.
using Environment = std::function<const char*(const char*)>;

/// Looks for the variables of Open MPI, of PMI (MPICH, Intel MPI), of torchrun and its like (RANK, WORLD_SIZE,
/// LOCAL_RANK, MASTER_ADDR, MASTER_PORT), of a SLURM job step, and for RANK and WORLD_SIZE alone. Nothing for a process
/// that none of these launchers started. Errors: invalid_argument (no numbers, or a rank that is not below the size).
Result<std::optional<Launch>> find_launch(const Environment& environment);

/// All processes that the launcher of this one started, or single_rank's like where there is one process only. Those of
/// torchrun and its like meet at MASTER_ADDR through sockets, the others through MPI, or through sockets in a build
/// without. MPI is initialised for more than one process only, and shut down with the last such object.
/// Errors: those of find_launch, backend_unavailable (this build has no MPI, and nothing says where to meet),
/// backend_failed (MPI fails, or finds another number of processes than the launcher), those of join_sockets.
Result<std::shared_ptr<Communicator>> open_ranks();

/// The error of `rank` as the others see it.
Error error_on_rank(int rank, const Error& error);

/// Name and version of the MPI of this build, empty without one.
std::string mpi_description();

namespace mpi {

/// Joins the processes of `launch`; in backends/mpi. Errors: as open_ranks().
Result<std::shared_ptr<Communicator>> join(const Launch& launch);

} // namespace mpi

} // namespace mfres
