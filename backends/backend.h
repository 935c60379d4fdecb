// The interface between networks and the engines that run them. A backend takes a whole graph or rejects it, saying which
// nodes it cannot run and why; there are no mixed partitions. Exceptions of an engine stop inside its backend.
#pragma once

#include "graph/cost.h"
#include "graph/graph.h"
#include "graph/quantization.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

class ThreadPool; // core/pool.h

/// What activations and the operands of convolutions are stored as. Sums are taken in f32 or better; parameters in
/// training are always f32. int8 is for inference, see graph/quantization.h.
enum class Precision : std::uint8_t { f32, bf16, fp16, int8 };

/// "f32", "bf16", "fp16", "int8"
std::string_view name(Precision precision) noexcept;

/// The inverse. Error: invalid_argument, which lists the names.
Result<Precision> parse_precision(std::string_view text);

struct CompileOptions {
    int threads = 0; ///< 0 = all processors this process may use
    Precision precision = Precision::f32;
    bool allow_tf32 = false;          ///< an engine may round the operands of f32 products to 10 bits
    bool deterministic = true;        ///< false: an engine may be faster and not give equal bits in every run
    int device = 0;                   ///< which of Backend::devices()
    std::shared_ptr<ThreadPool> pool; ///< the threads to use, where the backend takes ours; `threads` is then not read
    /// For int8: the convolutions that may be quantized. A backend may compute some of them in f32 where that is
    /// faster, which is more exact; the reference backend quantizes all.
    ActivationRanges ranges;
};

/// A node that a backend cannot run.
struct Unsupported {
    std::string node;
    std::string reason;
};

/// Which implementation a step of the network got.
struct Chosen {
    std::string node;           ///< the main node, e.g. "enc1.down.conv"
    std::string operation;      ///< e.g. "conv + relu"
    std::string implementation; ///< the engine's own name for it, e.g. "brgconv:avx512_core"
    StepCost cost;              ///< of inference; zeros for a step of training
};

/// Called after each step with the steps done and their number; return false to stop the run.
using StepObserver = std::function<bool(int done, int total)>;

/// A network made ready to run: weights reordered, memory planned and allocated. One thread at a time may use it.
///
///   copy(image, executable->input());
///   MFRES_CHECK(executable->run());
///   use(executable->output(0));
class Executable {
  public:
    Executable() = default;
    Executable(const Executable&) = delete;
    Executable& operator=(const Executable&) = delete;
    virtual ~Executable() = default;

    /// Where to put the input [batch, channel, x, y, z]; strides are the backend's choice. Its memory may be reused
    /// during run(), so it has to be filled again before every run.
    virtual StridedView<float> input() = 0;

    /// Computes all outputs from the input. Same input, same threads: same bits. `observer` may stop it (interrupted).
    virtual Status run(const StepObserver& observer) = 0;
    Status run() { return run(StepObserver()); }

    /// Output `index` of the graph, valid until the next run() or the next write to input().
    virtual StridedView<const float> output(std::size_t index) const = 0;

    /// The class of each voxel [x][y][z] by output `index`, as argmax(output(index), classes, threads) gives them,
    /// which this is unless an engine has a shorter way: where the output lies on a device, labels are a fraction of
    /// its bytes. Errors: those of argmax, backend_failed.
    virtual Status labels(std::size_t index, std::span<std::uint8_t> classes, int threads) const;

    /// Bytes held for this executable at the peak of run(): weights, activations and scratch memory.
    virtual std::int64_t peak_bytes() const = 0;

    /// How often all threads waited for each other in the runs so far; 0 where an engine's own threads do.
    virtual std::int64_t barriers() const { return 0; }

    /// The implementation chosen for each step, in execution order: that in which run() tells its observer of them.
    virtual std::vector<Chosen> chosen() const = 0;
};

class TrainingExecutable; // backends/training.h
struct TrainingOptions;

class Backend {
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
    /// Errors: operation_unsupported (first entry of unsupported()), those of check_weights, memory_limit,
    /// backend_failed. The weights are copied; the caller may free them.
    virtual Result<std::unique_ptr<Executable>> compile(const Graph& graph, const Weights& weights,
                                                        const CompileOptions& options) const = 0;

    /// Bytes of activations at the peak of a pass, without weights and scratch memory: known before anything is
    /// allocated. Here the plan for steps that each keep their value (plan_activations).
    virtual std::int64_t planned_activations(const Graph& graph) const;

    /// The same for training, starting at `weights` with zero moments. The graph's only output is what a loss is
    /// computed from. A backend that does not train rejects with operation_unsupported, and what would hold more than
    /// the options allow is rejected with memory_limit.
    virtual Result<std::unique_ptr<TrainingExecutable>> compile_training(const Graph& graph, const Weights& weights,
                                                                         const TrainingOptions& options) const;
};

/// Every backend in this build, best for inference first; the reference backend is always there and last.
std::span<const Backend* const> backends();

/// For a program that brings an engine of its own: puts it before the last of backends(). It has to live on, and nobody
/// may use backends() meanwhile.
void add_backend(const Backend& backend);

/// The backend of that name; "auto" = the first of backends() that is available. backend_unavailable for one that
/// exists but is not in this build or cannot work here, backend_unknown for any other name; both list what there is.
Result<const Backend*> find_backend(std::string_view name);

/// For a backend that has int8: why it cannot be without ranges, or an empty list.
std::vector<Unsupported> unsupported_without_ranges(const Graph& graph, const CompileOptions& options);

/// For a backend that stores floats only: an entry for the graph's input if another precision is asked for.
std::vector<Unsupported> unsupported_precision(const Graph& graph, Precision precision);

/// For a backend without reduced products and with nothing to gain from unequal bits: an entry for the graph's input if
/// TF32 is allowed or determinism waived. Who asks for either expects something of it.
std::vector<Unsupported> unsupported_relaxations(const Graph& graph, bool allow_tf32, bool deterministic);

/// Puts one list of rejections behind another.
inline void append(std::vector<Unsupported>& rejected, std::vector<Unsupported> more) {
    for (Unsupported& entry : more)
        rejected.push_back(std::move(entry));
}

/// Both: for a backend that computes in f32 and in one way only.
std::vector<Unsupported> unsupported_arithmetic(const Graph& graph, const CompileOptions& options);

/// The operation_unsupported error for a list that is not empty.
Error unsupported_error(std::string_view backend, const std::vector<Unsupported>& unsupported);

} // namespace mfres
