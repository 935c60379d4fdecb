// SPDX-License-Identifier: MIT
// Inference time of a network on this machine, in total or per op, and lower bounds from the machine's peak rates.
//
//   auto report = mfres::benchmark("model.safetensors", {.compute = {.threads = 2}});
//   std::cout << mfres::to_text(*report);
#pragma once

#include <mfres/compute.h>
#include <mfres/export.h>
#include <mfres/segmenter.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

struct BenchmarkOptions {
    std::array<std::int64_t, 3> size{128, 128, 128}; ///< voxels of the input
    ComputeOptions compute;
    int runs = 10;                ///< timed runs, 1 to 100000
    int warm_up_runs = 1;         ///< runs before them that are not timed, 0 to 1000
    std::uint64_t seed = 1;       ///< of the input: standard normal numbers
    bool profile = false;         ///< time every op
    bool probe = true;            ///< measure the machine's peak rates, for the lower bounds
    std::filesystem::path input;  ///< path of an .npy file for the input, f32 [1, channels, x, y, z]; empty = none
    std::filesystem::path output; ///< the same for the logits of the last run, f32 [1, classes, x, y, z]
};

/// Peak rates of the machine with a number of threads, measured by dedicated loops.
struct MachineProbe {
    double gflops = 0.0;               ///< f32 multiply-adds, 2 operations each, 10^9 per second
    double gigabytes_per_second = 0.0; ///< memory read and written while copying an array larger than the caches
};

/// Measures both in about a quarter of a second. Precondition: threads >= 1.
MFRES_EXPORT MachineProbe probe_machine(int threads);

/// One op of an inference, in execution order.
struct BenchmarkOp {
    std::string node;
    std::string operation;
    std::string implementation;
    double median_ms = 0.0;
    std::int64_t bytes = 0; ///< all operands and the result once, f32
    std::int64_t macs = 0;  ///< multiply-accumulates of a convolution
    double floor_ms = 0.0;  ///< lower bound: the larger of bytes and operations at the probed rates; 0 without a probe
};

struct BenchmarkReport {
    std::string model_file;
    std::string network;
    std::string weights_sha256;
    RunInfo used;
    std::array<std::int64_t, 5> shape{}; ///< of the input
    std::vector<double> times_ms;        ///< of each run, copying the input included
    double median_ms = 0.0;
    double min_ms = 0.0;
    double max_ms = 0.0;
    double compile_ms = 0.0;       ///< of compiling the network
    double first_ms = 0.0;         ///< the first run, warm-up or not
    double planned_peak_mib = 0.0; ///< as planned by the backend
    double peak_rss_mib = 0.0;     ///< of the process, up to the last run; 0 if the system does not report it
    std::int64_t macs = 0;         ///< of the network as the backend runs it
    MachineProbe machine;          ///< zeros without a probe
    /// Barriers of the thread pool in one inference; 0 for engines with their own threads.
    std::int64_t barriers = 0;
    double arithmetic_floor_ms = 0.0; ///< lower bound: all multiply-adds at the probed rate; 0 without a probe
    std::vector<BenchmarkOp> ops;     ///< empty without `profile`, and for engines that run the network in one call
};

/// Times the network of a model, a file or the name of weights that come with mfres, on random input. All logits must be
/// finite. Errors: invalid_argument, those of find_model and load_model, build_network, backend_unknown, backend_unavailable,
/// operation_unsupported, memory_limit, backend_failed, logits_not_finite, interrupted, those of
/// write_file_atomically.
MFRES_EXPORT Result<BenchmarkReport> benchmark(const std::filesystem::path& model, const BenchmarkOptions& options,
                                               const Progress& progress = {});

/// Bytes of activations at the peak of an inference of a network, a registered name or a JSON variant, as the backend
/// plans it: without weights and workspace. Nothing is allocated. Errors: those of describe_network and backend_info,
/// invalid_argument (size is not a multiple of what the network needs).
MFRES_EXPORT Result<std::int64_t> planned_activations(std::string_view network, const std::array<std::int64_t, 3>& size,
                                                      std::string_view backend);

/// The report as a JSON object and as text.
MFRES_EXPORT std::string to_json(const BenchmarkReport& report);
MFRES_EXPORT std::string to_text(const BenchmarkReport& report);

} // namespace mfres
