// SPDX-License-Identifier: MIT
#include "backends/cuda/cuda_engine.h"

#include "backends/cuda/convolution_cache.h"
#include "backends/cuda/cudnn_graph.h"
#include "backends/cuda/direct_convolution.h"
#include "backends/cuda/nccl_ranks.h"
#include "backends/cuda/plan_choices.h"
#include "backends/planned/op_failure.h"
#include "core/try.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <optional>
#include <thread>
#include <utility>

namespace mfres::cuda {

namespace {

void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess)
        return;
    (void)cudaGetLastError(); // an error that is not sticky ends here
    const ErrorCode code = status == cudaErrorMemoryAllocation ? ErrorCode::memory_limit : ErrorCode::backend_failed;
    throw EngineError(code, text("CUDA: ", what, ": ", cudaGetErrorString(status)));
}

/// A recording as a CUDA graph.
class GraphRecording final : public Recording {
  public:
    GraphRecording(cudaGraphExec_t graph, cudaStream_t stream) : graph_(graph), stream_(stream) {}
    ~GraphRecording() override { cudaGraphExecDestroy(graph_); }
    void run() override { check(cudaGraphLaunch(graph_, stream_), "a graph could not be launched"); }

  private:
    cudaGraphExec_t graph_;
    cudaStream_t stream_;
};

/// A second stream, ordered with the engine's by events.
class SideStream final : public SideQueue {
  public:
    explicit SideStream(cudaStream_t engine) : engine_(engine) {
        check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream could not be made");
        const cudaError_t made = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
        if (made != cudaSuccess)
            cudaStreamDestroy(stream_);
        check(made, "an event could not be made");
    }
    ~SideStream() override {
        cudaStreamSynchronize(stream_);
        cudaEventDestroy(event_);
        cudaStreamDestroy(stream_);
    }

    Stream stream() const override { return stream_; }
    void upload(void* device, const void* host, std::int64_t bytes) override {
        check(cudaMemcpyAsync(device, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream_),
              "memory could not be copied");
    }
    void follow() override { order(engine_, stream_); }
    void join() override {
        check(cudaGetLastError(), "a kernel could not be launched");
        order(stream_, engine_);
    }
    void wait() override { check(cudaStreamSynchronize(stream_), "the work failed"); }

  private:
    void order(cudaStream_t first, cudaStream_t second) {
        check(cudaEventRecord(event_, first), "an event could not be recorded");
        check(cudaStreamWaitEvent(second, event_, 0), "a stream could not wait");
    }

    cudaStream_t engine_;
    cudaStream_t stream_ = nullptr;
    cudaEvent_t event_ = nullptr;
};

/// Bytes of the arrays of a convolution, filled with zeros, to time plans with.
class TrialArrays {
  public:
    TrialArrays(Engine& engine, const ConvolutionSpec& spec) {
        const std::int64_t element = bytes_of(spec.type);
        const auto array = [&](std::int64_t bytes) { return blocks_.emplace_back(engine, bytes).data(); };
        const bool forward = spec.pass == ConvolutionPass::forward;
        const bool weights = spec.pass != ConvolutionPass::weight_gradient;
        arrays_.x = array(spec.in.elements() * element);
        arrays_.dy = forward ? nullptr : array(spec.out.elements() * element);
        arrays_.weights = weights ? array(spec.weight_count() * element) : nullptr;
        arrays_.bias = spec.bias ? static_cast<float*>(array(spec.conv.out_channels * 4)) : nullptr;
        arrays_.residual = spec.residual ? array(spec.out.elements() * element) : nullptr;
        arrays_.result = array(forward ? spec.out.elements() * element
                                       : (weights ? spec.in.elements() * element : spec.weight_count() * 4));
    }
    const ConvolutionArrays& arrays() const { return arrays_; }

  private:
    std::list<Block> blocks_;
    ConvolutionArrays arrays_;
};

/// A capture that has begun: it is ended, and its graph destroyed, whatever is thrown meanwhile.
class Capture {
  public:
    explicit Capture(cudaStream_t stream) : stream_(stream) {}
    ~Capture() {
        (void)end();
        if (graph_)
            cudaGraphDestroy(graph_);
    }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;

    /// Whether everything since it began is in the graph.
    bool end() {
        if (!std::exchange(running_, false))
            return false;
        return cudaStreamEndCapture(stream_, &graph_) == cudaSuccess && graph_ != nullptr;
    }
    cudaGraph_t graph() const { return graph_; }

  private:
    cudaStream_t stream_;
    cudaGraph_t graph_ = nullptr;
    bool running_ = true;
};

class CudaEngine final : public Engine {
  public:
    explicit CudaEngine(int device) : device_(device) {
        enter();
        check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream could not be made");
        cudnnStatus_t status = cudnnCreate(&cudnn_);
        if (status == CUDNN_STATUS_SUCCESS)
            status = cudnnSetStream(cudnn_, stream_);
        if (status == CUDNN_STATUS_SUCCESS)
            return;
        close();
        throw EngineError(ErrorCode::backend_failed, text("cuDNN could not start: ", cudnnGetErrorString(status)));
    }
    ~CudaEngine() override { close(); }

    const Kernels& kernels() const override { return gpu_kernels(); }
    Stream stream() const override { return stream_; }
    void enter() override { check(cudaSetDevice(device_), "the device could not be chosen"); }

    void* allocate(std::int64_t bytes) override {
        void* memory = nullptr;
        check(cudaMalloc(&memory, static_cast<std::size_t>(bytes)), "memory could not be allocated");
        const cudaError_t cleared = cudaMemsetAsync(memory, 0, static_cast<std::size_t>(bytes), stream_);
        if (cleared != cudaSuccess)
            cudaFree(memory);
        check(cleared, "memory could not be cleared");
        return memory;
    }
    void release(void* memory) noexcept override { cudaFree(memory); } // waits for the work that uses it

    void* allocate_host(std::int64_t bytes) override {
        void* memory = nullptr;
        check(cudaMallocHost(&memory, static_cast<std::size_t>(bytes)), "host memory could not be allocated");
        std::memset(memory, 0, static_cast<std::size_t>(bytes));
        return memory;
    }
    void release_host(void* memory) noexcept override { cudaFreeHost(memory); }

    void upload(void* device, const void* host, std::int64_t bytes) override {
        move(device, host, bytes, cudaMemcpyHostToDevice);
    }
    void download(void* host, const void* device, std::int64_t bytes) override {
        move(host, device, bytes, cudaMemcpyDeviceToHost);
    }
    void clear(void* device, std::int64_t bytes) override {
        check(cudaMemsetAsync(device, 0, static_cast<std::size_t>(bytes), stream_), "memory could not be cleared");
    }
    void copy(void* to, const void* from, std::int64_t bytes) override {
        check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice, stream_),
              "memory could not be copied");
    }
    std::unique_ptr<SideQueue> make_side_queue() override { return std::make_unique<SideStream>(stream_); }
    void wait() override {
        check(cudaGetLastError(), "a kernel could not be launched");
        synchronise();
    }

    /// By cuDNN; by ourselves where it has nothing for a convolution that stands alone.
    std::unique_ptr<Convolution> make_convolution(const ConvolutionSpec& spec, const ConvolutionRules& rules) override {
        if (auto made = cudnn_convolutions_.get(spec, rules))
            return made;
        const bool alone = !spec.bias && !spec.residual && spec.activation.kind == Activation::Kind::none;
        return alone ? make_direct_convolution(*this, spec) : nullptr;
    }

    std::vector<std::string> warnings() const override {
        if (!choices_ || choices_->warning().empty())
            return {};
        return {choices_->warning()};
    }

    std::unique_ptr<DeviceRanks> make_ranks(Communicator& ranks) override {
        cudaDeviceProp properties{};
        check(cudaGetDeviceProperties(&properties, device_), "the device could not be asked");
        DeviceIdentity own;
        static_assert(sizeof(own.device) == sizeof(properties.uuid));
        std::memcpy(own.device, &properties.uuid, sizeof(own.device));
        own.nccl = nccl_version();
        if (why_not_nccl(exchange_identities(ranks, own)).empty())
            return make_nccl_ranks(ranks, stream_, watch_);
        return make_staged_ranks(*this, ranks);
    }

    std::unique_ptr<Recording> record(const std::function<void()>& work) override {
        if (cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
            (void)cudaGetLastError();
            return nullptr;
        }
        Capture capture(stream_);
        bool recorded = true;
        try {
            work();
        } catch (const EngineError&) { // something in it cannot be recorded: it is run as it is from now on
            recorded = false;
        } catch (const OpFailure&) { // likewise
            recorded = false;
        }
        cudaGraphExec_t executable = nullptr;
        recorded =
            capture.end() && recorded && cudaGraphInstantiateWithFlags(&executable, capture.graph(), 0) == cudaSuccess;
        if (!recorded) {
            (void)cudaGetLastError();
            return nullptr;
        }
        return std::make_unique<GraphRecording>(executable, stream_);
    }

  private:
    /// Which plan is fastest may differ from one run of the timing to the next, and with it the order of sums and their bits:
    /// under deterministic rules it is the first that the heuristics offer.
    std::unique_ptr<Convolution> make_cudnn(const ConvolutionSpec& spec, const ConvolutionRules& rules) {
        constexpr std::size_t candidates = 4;
        auto plans = make_cudnn_convolutions(PlanTarget(cudnn_), spec, rules, rules.deterministic ? 1 : candidates);
        if (plans.size() < 2)
            return plans.empty() ? nullptr : std::move(plans.front());
        std::vector<std::string> names;
        for (const auto& plan : plans) {
            const std::string name = plan->implementation();
            const auto equal = std::count_if(plans.begin(), plans.begin() + std::ssize(names),
                                             [&](const auto& before) { return before->implementation() == name; });
            names.push_back(text(name, "/", equal)); // other settings of the same engine
        }
        std::optional<TrialArrays> trial;
        const auto chosen = choices().choose(key_of(spec, rules), names, [&](std::size_t i) {
            if (!trial)
                trial.emplace(*this, spec);
            return time(*plans[i], trial->arrays());
        });
        return chosen ? std::move(plans[*chosen]) : nullptr;
    }

    /// The least of three runs, in milliseconds, after one that does not count.
    double time(Convolution& plan, ConvolutionArrays arrays) {
        const Block workspace(*this, std::max<std::int64_t>(plan.workspace_bytes(), 1));
        arrays.workspace = workspace.data();
        float least = 0.0F;
        for (int run = 0; run < 4; ++run) {
            check(cudaEventRecord(begun_, stream_), "an event could not be recorded");
            plan.run(arrays);
            check(cudaEventRecord(ended_, stream_), "an event could not be recorded");
            check(cudaEventSynchronize(ended_), "a plan could not run");
            float passed = 0.0F;
            check(cudaEventElapsedTime(&passed, begun_, ended_), "a time could not be taken");
            if (run == 1 || (run > 1 && passed < least))
                least = passed;
        }
        return static_cast<double>(least);
    }

    PlanChoices& choices() {
        if (!choices_) {
            cudaDeviceProp properties{};
            check(cudaGetDeviceProperties(&properties, device_), "the device could not be asked");
            const std::string version = text(cudnnGetVersion());
            choices_.emplace(plan_choices_file(properties.name, version), properties.name, version);
            for (cudaEvent_t* event : {&begun_, &ended_})
                check(cudaEventCreate(event), "an event could not be made");
        }
        return *choices_;
    }

    void move(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind) {
        check(cudaGetLastError(), "a kernel could not be launched");
        check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream_), "memory could not be copied");
        synchronise();
    }

    /// Work that sums over ranks never ends once one of them is gone: a watch is asked meanwhile.
    void synchronise() {
        cudaError_t state = watch_ ? cudaErrorNotReady : cudaStreamSynchronize(stream_);
        while (watch_ && (state = cudaStreamQuery(stream_)) == cudaErrorNotReady) {
            watch_();
            std::this_thread::yield();
        }
        check(state, "the work failed");
    }

    void close() noexcept {
        cudnn_convolutions_.clear();
        for (cudaEvent_t* event : {&begun_, &ended_})
            if (*event)
                cudaEventDestroy(*event);
        begun_ = ended_ = nullptr;
        if (cudnn_)
            cudnnDestroy(cudnn_);
        if (stream_)
            cudaStreamDestroy(stream_);
        cudnn_ = nullptr;
        stream_ = nullptr;
    }

    int device_;
    Watch watch_;
    cudaStream_t stream_ = nullptr;
    cudnnHandle_t cudnn_ = nullptr;
    std::optional<PlanChoices> choices_; ///< once there is a choice
    cudaEvent_t begun_ = nullptr, ended_ = nullptr;
    ConvolutionCache cudnn_convolutions_{
        [this](const ConvolutionSpec& spec, const ConvolutionRules& rules) { return make_cudnn(spec, rules); }};
};

} // namespace

Status device_available() {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status == cudaSuccess && devices > 0)
        return {};
    (void)cudaGetLastError();
    std::string reason = status == cudaSuccess ? "there is no GPU" : cudaGetErrorString(status);
    if (status == cudaErrorInsufficientDriver) // also where there is none at all
        reason = text("there is no NVIDIA driver that is new enough for CUDA ", CUDART_VERSION / 1000, ".",
                      CUDART_VERSION / 10 % 100);
    return Error{ErrorCode::backend_unavailable,
                 text("backend cuda is part of this build but cannot work here: ", reason), "cuda"};
}

int device_count() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess)
        return devices;
    (void)cudaGetLastError();
    return 0;
}

std::string library_versions() {
    const auto cudnn = static_cast<std::int64_t>(cudnnGetVersion());
    const std::string warning = cudnn_warning(cudnn);
    return text("cuDNN ", cudnn / 10000, ".", cudnn / 100 % 100, ".", cudnn % 100, ", CUDA ", CUDART_VERSION / 1000,
                ".", CUDART_VERSION / 10 % 100, warning.empty() ? "" : "; warning: ", warning);
}

Result<std::unique_ptr<Engine>> make_cuda_engine(int device) {
    MFRES_CHECK(device_available());
    if (device < 0 || device >= device_count())
        return Error{ErrorCode::invalid_argument,
                     text("there is no GPU ", device, "; this process sees ", device_count(), ", counted from 0"),
                     "device"};
    try {
        return std::unique_ptr<Engine>(std::make_unique<CudaEngine>(device));
    } catch (const EngineError& error) {
        return Error{error.code(), text("the cuda backend could not start: ", error.what()), "cuda"};
    }
}

} // namespace mfres::cuda
