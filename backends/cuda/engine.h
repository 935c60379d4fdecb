// SPDX-License-Identifier: MIT
// What runs kernels and convolutions and owns memory: a GPU, or the host in its place. Everything above this interface
// (planning, steps, state) is the same for both, so tests run all of it where no GPU is.
#pragma once

#include "backends/cuda/device_ranks.h"
#include "backends/cuda/kernels.h"
#include "core/interface.h"
#include "graph/graph.h"

#include <mfres/status.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace mfres::cuda {

/// What an engine throws; it stops inside this backend. The code is backend_failed or memory_limit.
class EngineError : public std::runtime_error {
  public:
    EngineError(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
    ErrorCode code() const { return code_; }

  private:
    ErrorCode code_;
};

/// What of a convolution is computed. Arrays are [batch, x, y, z, channel], weights [out][tap][in / groups].
enum class ConvolutionPass : std::uint8_t {
    forward,         ///< y from x and weights
    source_gradient, ///< dx from dy and weights
    weight_gradient, ///< dw from dy and x
};

struct ConvolutionSpec {
    Conv conv;
    Shape in, out;
    ConvolutionPass pass = ConvolutionPass::forward;
    ElementType type = ElementType::f32;
    // Of a forward pass: y = activation(conv(x) + bias + residual).
    bool bias = false;
    bool residual = false;
    Activation activation;

    std::int64_t weight_count() const {
        return conv.out_channels * (in[1] / conv.groups) * conv.kernel[0] * conv.kernel[1] * conv.kernel[2];
    }
};

/// How convolutions may be computed.
struct ConvolutionRules {
    bool allow_tf32 = false;   ///< f32 products in 10-bit mantissas
    bool deterministic = true; ///< only engines that give equal bits in every run
    std::int64_t workspace_limit = std::int64_t{1} << 30U;
};

struct ConvolutionArrays {
    const void* x = nullptr;        ///< not of a source gradient
    const void* dy = nullptr;       ///< of gradients
    const void* weights = nullptr;  ///< not of a weight gradient
    const float* bias = nullptr;    ///< floats
    const void* residual = nullptr; ///< like y
    void* result = nullptr;         ///< y, dx or dw
    void* workspace = nullptr;
};

class Convolution : public Interface {
  public:
    virtual std::string implementation() const = 0;
    virtual std::int64_t workspace_bytes() const = 0;
    /// What a weight gradient is written as; everything else is of ConvolutionSpec::type.
    virtual ElementType result_type() const = 0;
    /// Throws EngineError.
    virtual void run(const ConvolutionArrays& arrays) = 0;
};

/// Work that was recorded once and can be run again with little effort.
class Recording : public Interface {
  public:
    virtual void run() = 0;
};

/// A second queue of work on an engine's device, which runs beside the engine's own. All calls may throw EngineError.
class SideQueue : public Interface {
  public:
    virtual Stream stream() const = 0;
    /// `host` is of Engine::allocate_host, and stays as it is until wait() has returned.
    virtual void upload(void* device, const void* host, std::int64_t bytes) = 0;
    /// Later work here waits for what the engine was given so far.
    virtual void follow() = 0;
    /// Later work of the engine waits for what was given here so far.
    virtual void join() = 0;
    /// Returns when all work so far is done.
    virtual void wait() = 0;
};

/// One queue of work on one device, with memory. All calls may throw EngineError.
class Engine : public Interface {
  public:
    virtual const Kernels& kernels() const = 0;
    virtual Stream stream() const = 0;

    /// The calling thread works on this engine's device from now on; a thread that makes an engine does already.
    virtual void enter() {}
    /// Later calls are work of this node. Does not throw.
    virtual void at(const std::string&) {}

    /// At least 256-byte aligned, filled with zeros.
    virtual void* allocate(std::int64_t bytes) = 0;
    virtual void release(void* memory) noexcept = 0;
    /// Host memory that the device copies from and to quickly.
    virtual void* allocate_host(std::int64_t bytes) = 0;
    virtual void release_host(void* memory) noexcept = 0;

    /// `host` may be changed once this returns.
    virtual void upload(void* device, const void* host, std::int64_t bytes) = 0;
    /// Returns when all work so far is done and copied.
    virtual void download(void* host, const void* device, std::int64_t bytes) = 0;
    virtual void clear(void* device, std::int64_t bytes) = 0;
    /// From one array of the device to another.
    virtual void copy(void* to, const void* from, std::int64_t bytes) = 0;
    /// It has to be destroyed before the engine.
    virtual std::unique_ptr<SideQueue> make_side_queue() = 0;
    /// Returns when all work so far is done; throws what went wrong in it.
    virtual void wait() = 0;

    /// Null if the engine has nothing for this; the caller then asks for less in one pass.
    virtual std::unique_ptr<Convolution> make_convolution(const ConvolutionSpec& spec,
                                                          const ConvolutionRules& rules) = 0;

    /// What the user should know about the convolutions that were made, as sentences. Does not throw but std::bad_alloc.
    virtual std::vector<std::string> warnings() const { return {}; }

    /// What carries sums over several ranks; every rank calls it. It has to be destroyed before the engine.
    virtual std::unique_ptr<DeviceRanks> make_ranks(Communicator& ranks) = 0;

    /// Records what `work` asks for, without running it. Null if that is not possible.
    virtual std::unique_ptr<Recording> record(const std::function<void()>& work) = 0;
};

/// Memory of an engine that goes when the object goes.
class Block {
  public:
    Block() = default;
    Block(Engine& engine, std::int64_t bytes, bool on_host = false)
        : engine_(&engine), bytes_(bytes), on_host_(on_host),
          data_(on_host ? engine.allocate_host(bytes) : engine.allocate(bytes)) {}
    Block(Block&& other) noexcept { swap(other); }
    Block& operator=(Block&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Block() {
        if (data_ && on_host_)
            engine_->release_host(data_);
        else if (data_)
            engine_->release(data_);
    }

    void* data() const { return data_; }
    template <typename T>
    T* as() const {
        return static_cast<T*>(data_);
    }
    std::int64_t bytes() const { return bytes_; }

  private:
    void swap(Block& other) noexcept {
        std::swap(engine_, other.engine_);
        std::swap(bytes_, other.bytes_);
        std::swap(on_host_, other.on_host_);
        std::swap(data_, other.data_);
    }

    Engine* engine_ = nullptr;
    std::int64_t bytes_ = 0;
    bool on_host_ = false;
    void* data_ = nullptr;
};

/// The host in place of a GPU: plain loops, for tests. Its arrays are summed over ranks where they lie, as a GPU's by
/// NCCL, or `staged` by way of the host, as a GPU's without. `warning`: of warnings(); empty: none.
std::unique_ptr<Engine> make_host_engine(bool staged = false, const std::string& warning = {});

/// What is known to be wrong with a version of cuDNN as cudnnGetVersion() numbers it, 91002 say; empty: nothing. Sources:
/// pytorch/pytorch issue 163539 (wrong results of 3-D convolutions in bf16), pull requests 163581 (cuDNN is not used for them
/// from 9.8 on), 166480 (mended in 9.15) and 167024 (a broken kernel for 3-D convolutions in TF32, 9.10.2 to 9.15).
std::string cudnn_warning(std::int64_t version);

/// What a collective said, thrown if it is an error.
void check(const Status& status);

/// Runs `body`, which works on one node, and turns what it throws into an error that names the node.
Status guarded(const std::string& node, const std::function<void()>& body);

} // namespace mfres::cuda
