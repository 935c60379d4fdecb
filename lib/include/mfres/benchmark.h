// How fast a network runs on this machine: the time of one pass, step by step if asked for, beside what the machine
// could do at best.
//
//   auto report = mfres::benchmark("model.safetensors", {.size = {128, 128, 128}, .threads = 2});
//   std::cout << mfres::to_text(*report);
#pragma once

#include <mfres/segmenter.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mfres {

struct BenchmarkOptions {
    std::array<std::int64_t, 3> size{128, 128, 128}; ///< voxels of the input
    std::string backend = "auto";
    int threads = 0;                ///< 0 = all processors this process may use
    std::string precision = "auto"; ///< as in SegmenterOptions, as the next two
    bool allow_tf32 = false;
    bool deterministic = true;
    int runs = 10;                 ///< that are timed, 1 to 100000
    int warm_up_runs = 1;          ///< that are not, 0 to 1000
    std::uint64_t seed = 1;        ///< of the input: standard normal numbers
    bool profile = false;          ///< time every step
    bool probe = true;             ///< measure what the machine can do, for the floors
    std::filesystem::path input;   ///< where to write the input as .npy, f32 [1, channels, x, y, z]; empty = nowhere
    std::filesystem::path output;  ///< and the logits of the last run, f32 [1, classes, x, y, z]
    std::string waiting = "auto";  ///< as in ThreadOptions
    std::vector<int> processors{}; ///< as in ThreadOptions
};

/// What the processors reach in loops made for nothing else, with the threads asked for.
struct MachineProbe {
    double gflops = 0.0;               ///< f32 multiply-adds, 2 operations each, 10^9 per second
    double gigabytes_per_second = 0.0; ///< read and written memory while one array far beyond the caches is copied
};

/// Measures both in about a quarter of a second. Precondition: threads >= 1.
MachineProbe probe_machine(int threads);

/// One step of a pass, in the order of execution.
struct BenchmarkStep {
    std::string node;
    std::string operation;
    std::string implementation;
    double median_ms = 0.0;
    std::int64_t bytes = 0; ///< every operand read and the result written once, f32
    std::int64_t macs = 0;  ///< multiply-accumulates of a convolution
    double floor_ms = 0.0;  ///< the longer of bytes and operations at the probed rates; 0 without a probe
};

struct BenchmarkReport {
    std::string model_file;
    std::string network;
    std::string weights_sha256;
    std::string backend;
    std::string backend_engine;
    std::string precision;
    bool allow_tf32 = false;
    bool deterministic = true;
    int threads = 0;
    std::array<std::int64_t, 5> shape{}; ///< of the input
    std::vector<double> times_ms;        ///< of each run: input copied in, network computed
    double median_ms = 0.0;
    double min_ms = 0.0;
    double max_ms = 0.0;
    double compile_ms = 0.0;       ///< until the network was ready to run
    double first_ms = 0.0;         ///< the first run, warm-up or not
    double planned_peak_mib = 0.0; ///< that the backend says it holds
    double peak_rss_mib = 0.0;     ///< of the whole process until the last run; 0 where the system does not tell
    std::int64_t macs = 0;         ///< of the network as the backend runs it
    MachineProbe machine;          ///< zeros without a probe
    /// How often all threads waited for each other in one pass; 0 where an engine's own threads do.
    std::int64_t barriers = 0;
    double arithmetic_floor_ms = 0.0; ///< all multiply-adds at the probed rate; 0 without a probe
    std::vector<BenchmarkStep> steps; ///< empty without `profile`, and for an engine that runs all in one call
};

/// Runs the model's network on random input and times it. Every number that a run computes has to be finite.
/// Errors: invalid_argument, those of load_model, build_network, backend_unknown, backend_unavailable,
/// operation_unsupported, memory_limit, backend_failed, logits_not_finite, interrupted, those of
/// write_file_atomically.
Result<BenchmarkReport> benchmark(const std::filesystem::path& model, const BenchmarkOptions& options,
                                  const Progress& progress = {});

/// The report as a JSON object, and as text for people.
std::string to_json(const BenchmarkReport& report);
std::string to_text(const BenchmarkReport& report);

} // namespace mfres
