// SPDX-License-Identifier: MIT
// Times mf-res2net on the cuda backend: one line of JSON per measurement. A run includes the upload of its input, which is
// timed alone as well; `resident_ms` is the difference, the time with the input on the device.
//
// usage: bench inference|training|ranks f32|tf32|bf16|fp16 <edge> <batch> <repeats>
// `ranks` trains on every GPU, each with a batch of its own.
#include "backends/training.h"
#include "gpu/network.h"
#include "support/run_graph.h"
#include "train/loss.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

using namespace mfres;

namespace {

struct Request {
    std::string what;
    std::string precision;
    std::int64_t edge = 128;
    std::int64_t batch = 1;
    int repeats = 20;
};

struct Times {
    double median = 0.0, least = 0.0;
};

/// Milliseconds of body(), after three runs that do not count.
template <typename Body>
Result<Times> time(int repeats, const Body& body) {
    std::vector<double> all;
    for (int i = -3; i < repeats; ++i) {
        const auto start = std::chrono::steady_clock::now();
        MFRES_CHECK(body());
        const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
        if (i >= 0)
            all.push_back(passed.count());
    }
    std::sort(all.begin(), all.end());
    return Times{all[all.size() / 2], all.front()};
}

/// Milliseconds to copy so many bytes from page-locked memory to the device.
Result<Times> upload(std::int64_t bytes, int repeats) {
    const auto checked = [](cudaError_t error) -> Status {
        if (error == cudaSuccess)
            return {};
        return Error{ErrorCode::backend_failed, cudaGetErrorString(error), "upload"};
    };
    struct Memory {
        void* host = nullptr;
        void* device = nullptr;
        ~Memory() {
            cudaFreeHost(host);
            cudaFree(device);
        }
    } memory;
    const auto size = static_cast<std::size_t>(bytes);
    MFRES_CHECK(checked(cudaMallocHost(&memory.host, size)));
    MFRES_CHECK(checked(cudaMalloc(&memory.device, size)));
    return time(repeats, [&]() -> Status {
        MFRES_CHECK(checked(cudaMemcpy(memory.device, memory.host, size, cudaMemcpyHostToDevice)));
        return checked(cudaDeviceSynchronize());
    });
}

void print(const Request& request, const Times& times, const Times& uploads, std::int64_t bytes,
           const std::vector<Chosen>& chosen) {
    std::printf("{\"engine\": \"mfres\", \"what\": \"%s\", \"precision\": \"%s\", \"edge\": %lld, \"batch\": %lld, "
                "\"median_ms\": %.3f, \"least_ms\": %.3f, \"upload_ms\": %.3f, \"resident_ms\": %.3f, "
                "\"peak_mib\": %.1f, \"implementations\": {",
                request.what.c_str(), request.precision.c_str(), static_cast<long long>(request.edge),
                static_cast<long long>(request.batch), times.median, times.least, uploads.median,
                times.median - uploads.median, static_cast<double>(bytes) / 1048576.0);
    for (std::size_t i = 0; i < chosen.size(); ++i)
        std::printf("%s\"%s %s\": \"%s\"", i > 0 ? ", " : "", chosen[i].node.c_str(), chosen[i].operation.c_str(),
                    chosen[i].implementation.c_str());
    std::printf("}}\n");
}

Precision precision_of(const std::string& name) {
    return name == "bf16" ? Precision::bf16 : name == "fp16" ? Precision::fp16 : Precision::f32;
}

Status bench_inference(const Request& request, const Backend& backend, const Graph& graph, const Weights& weights) {
    CompileOptions options;
    options.precision = precision_of(request.precision);
    options.allow_tf32 = request.precision == "tf32";
    options.deterministic = false; // as PyTorch is by default
    MFRES_TRY(auto executable, backend.compile(graph, weights, options));
    const Tensor image = test::random_tensor(graph.node(0).shape, 1);
    copy(view(image), executable->input());
    MFRES_TRY(const Times times, time(request.repeats, [&] { return executable->run(); }));
    MFRES_TRY(const Times uploads, upload(image.elements() * 4, request.repeats));
    print(request, times, uploads, executable->peak_bytes(), executable->chosen());
    return {};
}

Status bench_training(const Request& request, const Backend& backend, const Graph& graph, const Weights& weights,
                      Communicator& ranks, int device) {
    TrainingOptions options;
    options.ranks = &ranks;
    options.device = device;
    options.precision = precision_of(request.precision);
    options.allow_tf32 = request.precision == "tf32";
    options.deterministic = false; // as PyTorch is by default
    MFRES_TRY(auto training, backend.compile_training(graph, weights, options));
    const Tensor image = test::random_tensor(graph.node(0).shape, 1);
    copy(view(image), training->input());
    Random random(2);
    std::vector<std::uint8_t> classes(static_cast<std::size_t>(image.elements() / 4));
    for (auto& value : classes)
        value = static_cast<std::uint8_t>(random.below(4));
    MFRES_TRY(const Loss loss, make_loss({}));
    std::int64_t step = 0;
    MFRES_TRY(const Times times, time(request.repeats, [&]() -> Status {
                  MFRES_CHECK(training->forward());
                  MFRES_CHECK(training->loss(classes, loss));
                  MFRES_CHECK(training->backward());
                  MFRES_CHECK(training->update({.step = ++step}));
                  return {};
              }));
    if (!ranks.is_root())
        return {};
    MFRES_TRY(const Times uploads, upload(image.elements() * 4 + std::ssize(classes), request.repeats));
    print(request, times, uploads, training->peak_bytes(), training->chosen());
    return {};
}

Status bench_ranks(const Request& request, const Backend& backend, const Graph& graph, const Weights& weights) {
    const int count = backend.devices();
    if (count < 2)
        return Error{ErrorCode::backend_unavailable, "ranks need two GPUs or more", {}};
    auto ranks = thread_ranks(count);
    std::vector<Status> results(ranks.size());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < ranks.size(); ++i)
        threads.emplace_back([&, i] {
            results[i] = bench_training(request, backend, graph, weights, *ranks[i], static_cast<int>(i));
            if (!results[i])
                ranks[i]->fail(results[i].error());
            ranks[i].reset();
        });
    for (std::thread& thread : threads)
        thread.join();
    for (Status& result : results)
        MFRES_CHECK(std::move(result));
    return {};
}

Status bench(const Request& request) {
    MFRES_TRY(const Backend* backend, find_backend("cuda"));
    MFRES_TRY(const Graph graph, test::GpuNetwork::make({request.edge, request.edge, request.edge}, request.batch));
    const Weights weights = test::random_weights(graph, 1);
    if (request.what == "ranks")
        return bench_ranks(request, *backend, graph, weights);
    return request.what == "training" ? bench_training(request, *backend, graph, weights, single_rank(), 0)
                                      : bench_inference(request, *backend, graph, weights);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 6) {
        std::fprintf(stderr, "usage: bench inference|training|ranks f32|tf32|bf16|fp16 <edge> <batch> <repeats>\n");
        return 2;
    }
    const Request request{argv[1], argv[2], std::atoll(argv[3]), std::atoll(argv[4]), std::atoi(argv[5])};
    const Status done = bench(request);
    if (!done)
        std::fprintf(stderr, "bench: %s\n", done.error().message.c_str());
    return done ? 0 : 1;
}
