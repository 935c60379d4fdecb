// SPDX-License-Identifier: MIT
// What cuDNN would run on a GPU that is not there: compiles mf-res2net with plans for a described device (cuDNN 9.8 or newer)
// and prints one line of JSON: how many different convolutions there are, which of them cuDNN has a plan for, alone or with
// what is fused to it, the largest workspace, and the time that the plans took.
//
// usage: plans DEVICE.json inference|training f32|tf32|bf16|fp16 <edge> <batch>
// Fused plans are compiled by cuDNN, which loads the driver for that; tests/gpu/run puts a stand-in (driver.cmake) in its place.
#include "backends/cuda/convolution_cache.h"
#include "backends/cuda/cudnn_graph.h"
#include "backends/cuda/direct_convolution.h"
#include "backends/cuda/inference.h"
#include "backends/cuda/training.h"
#include "core/file.h"
#include "core/try.h"
#include "gpu/network.h"
#include "support/run_graph.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <new>
#include <string>

namespace mfres::cuda {

namespace {

struct Counts {
    int plans = 0;     ///< of cuDNN
    int own = 0;       ///< by our own kernel, where cuDNN has none
    int not_fused = 0; ///< asked for with what follows them, which then runs by itself
    std::int64_t workspace = 0;
    double seconds = 0.0;
    std::vector<std::string> missing; ///< what has no plan
};

std::string describe(const ConvolutionSpec& spec) {
    const auto& kernel = spec.conv.kernel;
    const char* const pass = spec.pass == ConvolutionPass::forward           ? "forward"
                             : spec.pass == ConvolutionPass::source_gradient ? "source gradient"
                                                                             : "weight gradient";
    return text(pass, " ", kernel[0], "x", kernel[1], "x", kernel[2], " ", spec.in[1], " to ", spec.out[1], " at ",
                spec.out[2], "^3", spec.bias || spec.residual ? ", fused" : "");
}

/// Plans for a described device. Memory is the host's, taken when it is written; nothing is run.
class PlanningEngine final : public Engine {
  public:
    PlanningEngine(const std::string& properties, Counts& counts)
        : target_(PlanTarget::described(properties)), counts_(counts) {}

    const Kernels& kernels() const override { return host_kernels(); }
    Stream stream() const override { return nullptr; }
    void* allocate(std::int64_t bytes) override {
        const auto size = static_cast<std::size_t>(bytes);
        void* const memory =
            ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            throw std::bad_alloc();
        sizes_[memory] = size;
        return memory;
    }
    void release(void* memory) noexcept override {
        if (const auto at = sizes_.find(memory); at != sizes_.end()) {
            ::munmap(memory, at->second);
            sizes_.erase(at);
        }
    }
    void* allocate_host(std::int64_t bytes) override { return allocate(bytes); }
    void release_host(void* memory) noexcept override { release(memory); }
    void upload(void* device, const void* host, std::int64_t bytes) override { copy(device, host, bytes); }
    void download(void* host, const void* device, std::int64_t bytes) override { copy(host, device, bytes); }
    void copy(void* to, const void* from, std::int64_t bytes) override {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
    void clear(void* device, std::int64_t bytes) override { std::memset(device, 0, static_cast<std::size_t>(bytes)); }
    std::unique_ptr<SideQueue> make_side_queue() override { return nullptr; }
    void wait() override {}
    std::unique_ptr<Convolution> make_convolution(const ConvolutionSpec& spec, const ConvolutionRules& rules) override {
        return convolutions_.get(spec, rules);
    }
    std::unique_ptr<DeviceRanks> make_ranks(Communicator&) override { return nullptr; }
    std::unique_ptr<Recording> record(const std::function<void()>&) override { return nullptr; }

  private:
    /// As CudaEngine does.
    std::unique_ptr<Convolution> make(const ConvolutionSpec& spec, const ConvolutionRules& rules) {
        const auto start = std::chrono::steady_clock::now();
        auto made = make_cudnn_convolution(target_, spec, rules);
        counts_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (made) {
            ++counts_.plans;
            counts_.workspace = std::max(counts_.workspace, made->workspace_bytes());
            return made;
        }
        counts_.missing.push_back(describe(spec));
        if (spec.bias || spec.residual || spec.activation.kind != Activation::Kind::none) {
            ++counts_.not_fused;
            return nullptr;
        }
        ++counts_.own;
        return make_direct_convolution(*this, spec);
    }

    PlanTarget target_;
    Counts& counts_;
    std::map<void*, std::size_t> sizes_;
    ConvolutionCache convolutions_{
        [this](const ConvolutionSpec& spec, const ConvolutionRules& rules) { return make(spec, rules); }};
};

Status plan(const std::string& file, const std::string& what, const std::string& precision, std::int64_t edge,
            std::int64_t batch) {
    MFRES_TRY(const std::vector<std::byte> bytes, read_file(file, 1 << 20));
    const std::string properties(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    MFRES_TRY(const Graph graph, test::GpuNetwork::make({edge, edge, edge}, batch));
    const Weights weights = test::random_weights(graph, 1);
    const Precision wanted = precision == "bf16"   ? Precision::bf16
                             : precision == "fp16" ? Precision::fp16
                                                   : Precision::f32;
    Counts counts;
    std::int64_t peak = 0;
    auto engine = std::make_unique<PlanningEngine>(properties, counts);
    if (what == "training") {
        TrainingOptions options;
        options.precision = wanted;
        options.allow_tf32 = precision == "tf32";
        MFRES_TRY(const auto made, compile_training(std::move(engine), graph, weights, options));
        peak = made->peak_bytes();
    } else {
        CompileOptions options;
        options.precision = wanted;
        options.allow_tf32 = precision == "tf32";
        MFRES_TRY(const auto made, compile_inference(std::move(engine), graph, weights, options));
        peak = made->peak_bytes();
    }
    constexpr double mib = 1048576.0;
    std::printf("{\"device\": \"%s\", \"what\": \"%s\", \"precision\": \"%s\", \"edge\": %lld, \"batch\": %lld, "
                "\"convolutions\": %d, \"plans\": %d, \"own_kernel\": %d, \"not_fused\": %d, \"workspace_mib\": %.1f, "
                "\"peak_mib\": %.1f, \"plan_seconds\": %.1f, \"without_plan\": [",
                std::filesystem::path(file).stem().c_str(), what.c_str(), precision.c_str(),
                static_cast<long long>(edge), static_cast<long long>(batch),
                counts.plans + counts.own + counts.not_fused, counts.plans, counts.own, counts.not_fused,
                static_cast<double>(counts.workspace) / mib, static_cast<double>(peak) / mib, counts.seconds);
    for (std::size_t i = 0; i < counts.missing.size(); ++i)
        std::printf("%s\"%s\"", i > 0 ? ", " : "", counts.missing[i].c_str());
    std::printf("]}\n");
    return {};
}

} // namespace

} // namespace mfres::cuda

int main(int argc, char** argv) {
    if (argc != 6) {
        std::fprintf(stderr, "usage: plans DEVICE.json inference|training f32|tf32|bf16|fp16 <edge> <batch>\n");
        return 2;
    }
    try {
        const mfres::Status done =
            mfres::cuda::plan(argv[1], argv[2], argv[3], std::atoll(argv[4]), std::atoll(argv[5]));
        if (!done)
            std::fprintf(stderr, "plans: %s\n", done.error().message.c_str());
        return done ? 0 : 1;
    } catch (const mfres::cuda::EngineError& error) {
        std::fprintf(stderr, "plans: %s\n", error.what());
        return 1;
    }
}
