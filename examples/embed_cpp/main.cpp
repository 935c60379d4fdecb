// SPDX-License-Identifier: MIT
// Volumes in memory to labels and probabilities in memory, with the program's own threads and allocator, progress, and
// Ctrl-C to stop.
//   embed_cpp MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw [SECONDS]
// MODEL is a model file or the name of weights that come with mfres. LABELS.raw gets one byte a voxel, x fastest. After
// SECONDS the case is stopped.
#include "../volumes.h"
#include "pool.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <new>

namespace {

/// What Ctrl-C stops.
mfres::Predictor* running = nullptr;

void stop(int) {
    running->cancel();
}

/// The program's memory for the arrays of a case; another program would take them from a block of its own.
struct Memory {
    std::atomic<std::int64_t> bytes{0};
    std::atomic<long> blocks{0};

    mfres::MemoryHooks hooks() {
        return {[this](std::size_t size, std::size_t alignment) {
                    bytes += static_cast<std::int64_t>(size);
                    ++blocks;
                    return ::operator new (size, std::align_val_t{alignment}, std::nothrow);
                },
                [this](void* memory, std::size_t size) {
                    bytes -= static_cast<std::int64_t>(size);
                    ::operator delete (memory, std::align_val_t{64});
                }};
    }
};

int run(char** arguments, double seconds) {
    const auto volumes = read_volumes(arguments + 2);
    if (!volumes)
        return 6;
    Pool pool(1); // with the main thread: two
    Memory memory;
    mfres::PredictorOptions options;
    options.compute.threads = pool.threads();
    options.compute.parallel_for = [&](int parts, const std::function<void(int)>& part) { pool.run(parts, part); };
    options.memory = memory.hooks();
    options.log = [](mfres::LogLevel level, std::string_view message) {
        std::fprintf(stderr, "%s: %s\n", std::string(to_string(level)).c_str(), std::string(message).c_str());
    };
    auto predictor = mfres::Predictor::open(arguments[1], options);
    if (!predictor)
        return failed(predictor.error());
    running = &*predictor;
    std::signal(SIGINT, stop);

    const auto start = std::chrono::steady_clock::now();
    const auto progress = [&](std::string_view stage, double done) {
        std::fprintf(stderr, "\r%-12s %3.0f %%", std::string(stage).c_str(), 100.0 * done);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() <= seconds;
    };
    const auto prediction = predictor->predict(volumes->views, {.probabilities = true}, progress);
    std::fprintf(stderr, "\n");
    if (!prediction)
        return failed(prediction.error());
    for (const auto& region : prediction->report.regions)
        std::printf("%s: %.2f ml\n", region.name.c_str(), region.millilitres);
    const auto tumour = prediction->probabilities->of_class(3);
    std::printf("highest probability of enhancing tumour: %.3f\n",
                static_cast<double>(*std::max_element(tumour.begin(), tumour.end())));
    std::printf("%ld loops in the program's threads, %ld arrays in its memory\n", pool.loops(), memory.blocks.load());
    if (pool.loops() == 0 || memory.blocks == 0)
        return 1;
    return write_bytes(arguments[6], prediction->labels.labels.data(), prediction->labels.labels.size()) == 0 ? 0 : 6;
}

} // namespace

int main(int count, char** arguments) {
    if (count != 7 && count != 8) {
        std::fprintf(stderr, "usage: embed_cpp MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw [SECONDS]\n");
        return 2;
    }
    return run(arguments, count == 8 ? std::atof(arguments[7]) : 1e9);
}
