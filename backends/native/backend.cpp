// SPDX-License-Identifier: MIT
// The native backend: every op by our own kernels, on channels-last arrays. It needs no engine besides.
#include "backends/backend.h"

#include "backends/kernels/dispatch.h"
#include "backends/kernels/fusion_group.h"
#include "backends/native/inference.h"
#include "backends/planned/executor.h"
#include "core/try.h"

#include <cstdlib>

namespace mfres::native {

namespace {

/// The environment variable MFRES_MAX_CPU_ISA limits our kernels, so that an older processor can be measured and tested
/// on a newer one. Errors: invalid_argument.
Status obey_max_cpu_isa() {
    const char* const wanted = std::getenv("MFRES_MAX_CPU_ISA");
    if (!wanted)
        return {};
    const std::string_view name = wanted;
    if (name == "SSE4")
        kernels::limit_instruction_set(kernels::InstructionSet::sse4);
    else if (name == "AVX2")
        kernels::limit_instruction_set(kernels::InstructionSet::avx2);
    else if (name != "AVX512" && !name.empty())
        return Error{ErrorCode::invalid_argument,
                     text("the environment variable MFRES_MAX_CPU_ISA is ", name, "; it must be SSE4, AVX2 or AVX512"),
                     "MFRES_MAX_CPU_ISA"};
    return {};
}

class NativeBackend final : public Backend {
  public:
    std::string_view name() const override { return "native"; }

    std::string description() const override {
        (void)obey_max_cpu_isa(); // compilation reports its error
        return text("SIMD kernels of mfres (", kernels::supported_targets().front(), ")");
    }

    std::vector<Unsupported> unsupported(const Graph& graph, const CompileOptions& options) const override {
        return unsupported_arithmetic(graph, options);
    }

    /// Pages of the kernels' code, and what the allocator leaves over from packing weights. Measured: up to 5 MiB.
    std::int64_t engine_bytes() const override { return std::int64_t{6} << 20; }

    std::int64_t planned_activations(const Graph& graph) const override {
        const FusionModel model;
        return planned_activation_bytes(graph, kernels::usable_model(&model));
    }

  protected:
    Result<std::unique_ptr<Executable>> make_executable(const Graph& graph, const Weights& weights,
                                                        const CompileOptions& options) const override {
        MFRES_CHECK(obey_max_cpu_isa());
        MFRES_TRY(Network form, inference_form(graph, weights));
        auto pool = options.pool;
        if (!pool) {
            MFRES_TRY(pool, ThreadPool::create({.threads = options.threads}));
        }
        const FusionModel model;
        return compile_inference(std::move(form), std::move(pool), &model);
    }
};

} // namespace

const Backend& backend() {
    static const NativeBackend instance;
    return instance;
}

} // namespace mfres::native
