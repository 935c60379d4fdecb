// SPDX-License-Identifier: MIT
// Sums over all ranks of arrays on their devices, in the order of each device's queue of work: through NCCL where the
// ranks have it, by way of the host otherwise.
#pragma once

#include "backends/distributed/communicator.h"
#include "core/interface.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace mfres::cuda {

class Engine;

/// Every rank asks for the same sums in the same order. All calls may throw EngineError: that of a rank that failed, or
/// backend_failed.
class DeviceRanks : public Interface {
  public:
    virtual int size() const = 0;
    /// What carries the sums, e.g. "NCCL 2.28.9".
    virtual std::string description() const = 0;
    /// The sums are work of the device's queue and ask the host for nothing, so that they can be recorded.
    virtual bool recordable() const = 0;

    /// The values become their sums over all ranks, the same bits on each, before later work of the engine.
    virtual void sum(double* values, std::int64_t count) = 0;
    /// Begins the same beside later work, which must leave the values alone until finish_sums() has ended all that were
    /// begun.
    virtual void start_sum(float* values, std::int64_t count) = 0;
    virtual void finish_sums() = 0;

    /// This rank will ask for nothing more, because it failed: what is under way is dropped, not waited for.
    virtual void abandon() noexcept {}
};

/// The engine's for several ranks; for one that is alone sums that do nothing. Both have to outlive the result.
std::unique_ptr<DeviceRanks> make_device_ranks(Engine& engine, Communicator& ranks);

/// By way of the host, when the work so far is done.
std::unique_ptr<DeviceRanks> make_staged_ranks(Engine& engine, Communicator& ranks);

/// What ranks tell each other of their devices before they choose what carries their sums.
struct DeviceIdentity {
    std::uint64_t device[2]{}; ///< the same numbers for no other device
    std::int64_t nccl = 0;     ///< version of the NCCL library that this rank can load, 0 = none

    bool operator==(const DeviceIdentity&) const = default;
};

/// That of every rank. Throws EngineError.
std::vector<DeviceIdentity> exchange_identities(Communicator& ranks, const DeviceIdentity& own);

/// Whether NCCL can join them: all have one version of it, and each a device of its own. Empty if it can, else why not.
std::string why_not_nccl(std::span<const DeviceIdentity> ranks);

} // namespace mfres::cuda
