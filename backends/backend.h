// SPDX-License-Identifier: MIT
// The interface between networks and the engines that run them. A backend runs a whole graph or rejects it, and then says
// which nodes it does not support and why; graphs are not divided between backends. A backend does not throw: it returns
// the exceptions of its engine as errors.
//
// These headers are installed for backends outside this project (docs/embedding.md). They are C++: library and backend
// are built by the same compiler with the same standard library.
#pragma once

#include "core/line_spans.h"
#include "graph/cost.h"
#include "graph/graph.h"
#include "graph/quantization.h"

#include <mfres/compute.h>
#include <mfres/export.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

class ThreadPool; // core/pool.h

struct CompileOptions {
    int threads = 0;                      ///< 0 to max_threads; 0 = all processors this process may use
    Precision precision = Precision::f32; ///< int8: see graph/quantization.h
    bool allow_tf32 = false;          ///< f32 products may be computed in TF32: operands rounded to 10-bit mantissas
    bool deterministic = true;        ///< false: results may differ from run to run, if that is faster
    int device = 0;                   ///< from 0 to Backend::devices() - 1
    std::shared_ptr<ThreadPool> pool; ///< to run on, in place of `threads`, for a backend that uses one
    /// For int8: the convolutions that may be quantized, with finite ranges, `least` not above `most`. A backend may run
    /// some of them in f32 where that is faster; the reference backend quantizes all.
    ActivationRanges ranges;

    static constexpr int max_threads = 4096;
};

/// A node that a backend cannot run.
struct Unsupported {
    std::string node;
    std::string reason;
};

/// The implementation of an op.
struct Chosen {
    std::string node;           ///< the main node, e.g. "enc1.down.conv"
    std::string operation;      ///< e.g. "conv + relu"
    std::string implementation; ///< the engine's own name for it, e.g. "brgconv:avx512_core"
    OpCost cost;                ///< of inference; zeros for a step of training
};

/// Called after each op with the number of ops done and of all ops; returns false to stop the run.
using RunObserver = std::function<bool(int done, int total)>;

/// A compiled network: weights reordered, memory planned and allocated. Used by one thread at a time.
///
///   copy(image, executable->input());
///   MFRES_CHECK(executable->run());
///   use(executable->output(0));
class MFRES_EXPORT Executable {
  public:
    Executable() = default;
    Executable(const Executable&) = delete;
    Executable& operator=(const Executable&) = delete;
    virtual ~Executable() = default;

    /// Where to put the input [batch, channel, x, y, z]; strides are the backend's choice. Its memory may be reused
    /// during run(), so it has to be filled again before every run.
    virtual StridedView<float> input() = 0;

    /// Tells which voxels of the outputs will be read after the runs that follow; until it is called, all. Elsewhere an
    /// output has any finite value, and where the backend knows how, no work is done for it. In the spans the bits are
    /// those of a run without them. Errors: memory_limit.
    virtual Status compute_only(const LineSpans& needed);

    /// Computes all outputs from the input. The same input and number of threads give the same bits, unless that was
    /// waived (CompileOptions::deterministic). Errors: interrupted (by `observer`), backend_failed, memory_limit.
    virtual Status run(const RunObserver& observer) = 0;
    Status run() { return run(RunObserver()); }

    /// Output `index` of the graph, valid until the next run() or the next write to input().
    virtual StridedView<const float> output(std::size_t index) const = 0;

    /// argmax(output(index), classes, threads): the class of each voxel [x][y][z]. A backend whose output lies on a device
    /// computes them there, because labels have a fraction of the bytes of logits. Voxels that are not computed
    /// (compute_only) may get any class. Errors: those of argmax, backend_failed.
    virtual Status labels(std::size_t index, std::span<std::uint8_t> classes, int threads) const;

    /// Bytes held for this executable at the peak of run(): weights, activations and workspace.
    virtual std::int64_t peak_bytes() const = 0;

    /// Barriers of all threads in the runs so far; 0 if the engine has its own threads.
    virtual std::int64_t barriers() const { return 0; }

    /// The implementation of each op in execution order, which is the order in which run() calls its observer.
    virtual std::vector<Chosen> chosen() const = 0;

    /// What the user should know about how it was compiled, as sentences; mostly none.
    virtual std::vector<std::string> warnings() const { return {}; }
};

class TrainingExecutable; // backends/training.h
struct TrainingOptions;

class MFRES_EXPORT Backend {
  public:
    Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;
    virtual ~Backend() = default;

    /// The name users type, e.g. "onednn".
    virtual std::string_view name() const = 0;
    /// The engine and its version, e.g. "oneDNN 2.6.3".
    virtual std::string description() const = 0;
    /// Whether it can work here. Error: backend_unavailable (says what is missing, a device or a driver).
    virtual Status available() const { return {}; }
    /// How many devices it can work on; processors count as one.
    virtual int devices() const { return 1; }
    /// Every node this backend cannot run with these options; empty = compile will not reject.
    virtual std::vector<Unsupported> unsupported(const Graph& graph, const CompileOptions& options) const = 0;

    /// Makes a network ready to run. The weights are copied. Arguments are checked here, for all backends alike.
    /// Errors: invalid_argument (an option is out of its range), operation_unsupported (the first entry of
    /// unsupported()), those of check_weights, memory_limit, backend_failed.
    Result<std::unique_ptr<Executable>> compile(const Graph& graph, const Weights& weights,
                                                const CompileOptions& options) const;

    /// Bytes of activations at the peak of a run, without weights and workspace; nothing is allocated. The default is the
    /// plan for ops without fusion groups (plan_activations).
    virtual std::int64_t planned_activations(const Graph& graph) const;

    /// Bytes that the engine's code and the kernels it generates take once a network is compiled, which peak_bytes() does
    /// not count. The default was measured with oneDNN 2.6.3 on x86-64.
    virtual std::int64_t engine_bytes() const { return std::int64_t{20} << 20; }

    /// Whether it trains at all.
    virtual bool trains() const { return false; }

    /// Every node this backend cannot train with these options. The default is for a backend that trains in f32 only,
    /// without TF32 and deterministically.
    virtual std::vector<Unsupported> unsupported_training(const Graph& graph, const TrainingOptions& options) const;

    /// Makes a network ready to be trained, starting at `weights` with zero moments. The graph has one output, of which
    /// the loss is computed. Arguments are checked here, for all backends alike. Errors: invalid_argument (an option is
    /// out of its range), graph_invalid (another number of outputs), operation_unsupported (the first entry of
    /// unsupported_training(), or a backend that does not train), those of check_weights, memory_limit (it would hold
    /// more than the options allow), backend_failed.
    Result<std::unique_ptr<TrainingExecutable>> compile_training(const Graph& graph, const Weights& weights,
                                                                 const TrainingOptions& options) const;

  protected:
    /// What compile() and compile_training() do once their arguments are valid.
    virtual Result<std::unique_ptr<Executable>> make_executable(const Graph& graph, const Weights& weights,
                                                                const CompileOptions& options) const = 0;
    /// The default is for a backend that does not train.
    virtual Result<std::unique_ptr<TrainingExecutable>> make_training(const Graph& graph, const Weights& weights,
                                                                      const TrainingOptions& options) const;
};

/// Every backend in this build, fastest for inference first; the last is always the reference backend.
MFRES_EXPORT std::span<const Backend* const> backends();

/// The version of this interface: of this header and of those that it includes. A change of any of them is a new version.
inline constexpr int backend_interface_version = 4;

/// Adds the backend of a program to backends(), in front of the reference backend; models can be opened with its name
/// from then on. It must not be destroyed afterwards. Not thread-safe: to be called before models are opened. Leave
/// `interface_version` at its default, which is that of the headers the program was compiled with. Errors:
/// invalid_argument (another version than the library's; a name that is empty, "auto", or taken).
MFRES_EXPORT Status add_backend(const Backend& backend, int interface_version = backend_interface_version);

/// The names of all backends that mfres can be built with, in the order of backends().
MFRES_EXPORT std::span<const std::string_view> known_backends();

/// The backend of that name; "auto" means the first of backends() that is available. Errors: backend_unavailable (it is
/// not part of this build, or cannot work here), backend_unknown (any other name). Both list the available ones.
MFRES_EXPORT Result<const Backend*> find_backend(std::string_view name);

/// The same, but "auto" means the first available one that suits, and the first available one where none does. The
/// reference backend is no choice, because it takes minutes.
MFRES_EXPORT Result<const Backend*> find_backend(std::string_view name,
                                                 const std::function<bool(const Backend&)>& suits);

/// For a backend that runs int8: an entry for the input of the graph if int8 is asked for without ranges.
MFRES_EXPORT std::vector<Unsupported> unsupported_without_ranges(const Graph& graph, const CompileOptions& options);

/// The nodes of ops for which is_inference_only() is true; the reason is "the op <kind> <missing>".
MFRES_EXPORT std::vector<Unsupported> inference_only_ops(const Graph& graph, std::string_view missing);

/// For a backend that stores floats only: an entry for the input of the graph if another precision is asked for.
MFRES_EXPORT std::vector<Unsupported> unsupported_precision(const Graph& graph, Precision precision);

/// For a backend without TF32 and without faster nondeterministic kernels: an entry for the input of the graph if either
/// is allowed, so that the option is not ignored silently.
MFRES_EXPORT std::vector<Unsupported> unsupported_relaxations(const Graph& graph, bool allow_tf32, bool deterministic);

/// Puts one list of rejections behind another.
inline void append(std::vector<Unsupported>& rejected, std::vector<Unsupported> more) {
    for (Unsupported& entry : more)
        rejected.push_back(std::move(entry));
}

/// Both: for a backend that computes in f32 only, and deterministically.
MFRES_EXPORT std::vector<Unsupported> unsupported_arithmetic(const Graph& graph, const CompileOptions& options);

/// The operation_unsupported error for a list that is not empty.
MFRES_EXPORT Error unsupported_error(std::string_view backend, const std::vector<Unsupported>& unsupported);

} // namespace mfres
