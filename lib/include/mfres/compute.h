// SPDX-License-Identifier: MIT
// What a network runs on and how it computes: the options of every task that runs one, and what a run has used.
#pragma once

#include <mfres/export.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// What activations and the operands of convolutions are stored as. Sums are taken in f32 or better, or in whole
/// numbers; parameters in training are always f32. int8 is for inference, and needs a model that was calibrated.
enum class Precision : std::uint8_t { f32, bf16, fp16, int8 };
inline constexpr std::array<Precision, 4> precisions = {Precision::f32, Precision::bf16, Precision::fp16,
                                                        Precision::int8};

/// "f32", "bf16", "fp16", "int8"
MFRES_EXPORT std::string_view to_string(Precision precision) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<Precision> parse_precision(std::string_view text);

/// How threads wait at barriers.
enum class WaitPolicy : std::uint8_t {
    automatic, ///< spin for 50 microseconds, then sleep
    active,    ///< spin for 100 milliseconds: for CPUs that run nothing else
    passive,   ///< sleep at once
};
inline constexpr std::array<WaitPolicy, 3> wait_policies = {WaitPolicy::automatic, WaitPolicy::active,
                                                            WaitPolicy::passive};

/// "auto", "active", "passive"
MFRES_EXPORT std::string_view to_string(WaitPolicy policy) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<WaitPolicy> parse_wait_policy(std::string_view text);

/// A parallel loop of the caller. It must call part(i) exactly once for every 0 <= i < parts, on any threads, and
/// return after all calls have returned. Calls do not wait for each other.
using ParallelFor = std::function<void(int parts, const std::function<void(int)>& part)>;

struct ComputeOptions {
    /// A name of available_backends(), or "auto": the first of them that works here. Errors: backend_unknown,
    /// backend_unavailable.
    std::string backend = "auto";
    /// Which GPU of the backend, counted from 0. Unset: the first one; in a training with a launcher, its number of this
    /// process among those of its computer, modulo the number of GPUs that the process sees.
    std::optional<int> device;
    /// operation_unsupported where backend or processor do not have it. Unset: int8 for a model file that holds
    /// integers, where that can run, else f32; in a training, that of the recipe.
    std::optional<Precision> precision;
    /// Lets a GPU round the operands of f32 products to 10 bits (TF32). operation_unsupported where there is none.
    bool tf32 = false;
    /// False lets an engine be faster and not give equal bits in every run. operation_unsupported where it cannot.
    bool deterministic = true;
    int threads = 0; ///< 0 to 4096; 0 = all CPUs this process may use
    /// CPUs, by the system's numbers, to which the threads are pinned in turn; empty = no affinity. The calling thread
    /// takes the first one: it is pinned while the network runs, and its affinity is restored afterwards.
    std::vector<int> cpus{};
    WaitPolicy wait_policy = WaitPolicy::automatic;
    /// Thread pool of the caller. If set, the library starts no threads for a case and calls this function instead,
    /// usually with `threads` parts. The onednn and native backends run networks in it; other engines keep their own.
    ParallelFor parallel_for{};
};

/// What a run has used.
struct RunInfo {
    std::string backend; ///< e.g. "onednn"
    std::string engine;  ///< e.g. "oneDNN 2.6.3"
    int device = 0;      ///< of the backend
    Precision precision = Precision::f32;
    bool tf32 = false;
    bool deterministic = true;
    int threads = 0; ///< of each process
};

} // namespace mfres
