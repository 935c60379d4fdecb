// SPDX-License-Identifier: MIT
// What cuDNN would run on a GPU that is not there: compiles mf-res2net with plans for a described device (cuDNN 9.8 or newer)
// and prints one line of JSON: how many different convolutions there are, which of them cuDNN has a plan for, alone or with
// what is fused to it, the largest workspace, the launches of a step and the bytes that they move, and the time that the plans
// took.
//
// usage: plans DEVICE.json inference|training f32|tf32|bf16|fp16 <edge> <batch>
// Fused plans are compiled by cuDNN, which loads the driver for that; tests/gpu/run puts a stand-in (driver.cmake) in its place.
#include "backends/cuda/cudnn_graph.h"
#include "backends/cuda/direct_convolution.h"
#include "backends/cuda/planned_step.h"
#include "backends/cuda/planning_engine.h"
#include "core/file.h"
#include "core/try.h"
#include "gpu/network.h"
#include "support/run_graph.h"
#include "train/loss.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
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

/// An engine that takes cuDNN's plans for a described device, as CudaEngine does for its own.
std::unique_ptr<Engine> planning_engine(const std::string& properties, LaunchLog& log, Counts& counts) {
    auto own = std::make_shared<Engine*>();
    auto engine = make_planning_engine(log, [own, target = PlanTarget::described(properties),
                                             &counts](const ConvolutionSpec& spec, const ConvolutionRules& rules) {
        const auto start = std::chrono::steady_clock::now();
        auto made = make_cudnn_convolution(target, spec, rules);
        counts.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (made) {
            ++counts.plans;
            counts.workspace = std::max(counts.workspace, made->workspace_bytes());
            return made;
        }
        counts.missing.push_back(describe(spec));
        if (spec.bias || spec.residual || spec.activation.kind != Activation::Kind::none) {
            ++counts.not_fused;
            return made;
        }
        ++counts.own;
        return make_direct_convolution(**own, spec);
    });
    *own = engine.get();
    return engine;
}

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
    LaunchLog log(false);
    auto engine = planning_engine(properties, log, counts);
    PlannedStep step;
    if (what == "training") {
        TrainingOptions options;
        options.precision = wanted;
        options.allow_tf32 = precision == "tf32";
        MFRES_TRY(const Loss loss, make_loss({}));
        MFRES_TRY(step, plan_training(std::move(engine), log, graph, weights, loss, options));
    } else {
        CompileOptions options;
        options.precision = wanted;
        options.allow_tf32 = precision == "tf32";
        MFRES_TRY(step, plan_inference(std::move(engine), log, graph, weights, options));
    }
    std::int64_t moved = 0;
    for (const Launch& launch : step.launches)
        moved += launch.bytes;
    constexpr double mib = 1048576.0;
    std::printf(
        "{\"device\": \"%s\", \"what\": \"%s\", \"precision\": \"%s\", \"edge\": %lld, \"batch\": %lld, "
        "\"convolutions\": %d, \"plans\": %d, \"own_kernel\": %d, \"not_fused\": %d, \"workspace_mib\": %.1f, "
        "\"peak_mib\": %.1f, \"launches\": %zu, \"moved_gb\": %.2f, \"plan_seconds\": %.1f, \"without_plan\": [",
        std::filesystem::path(file).stem().c_str(), what.c_str(), precision.c_str(), static_cast<long long>(edge),
        static_cast<long long>(batch), counts.plans + counts.own + counts.not_fused, counts.plans, counts.own,
        counts.not_fused, static_cast<double>(counts.workspace) / mib, static_cast<double>(step.peak_bytes) / mib,
        step.launches.size(), static_cast<double>(moved) / 1e9, counts.seconds);
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
