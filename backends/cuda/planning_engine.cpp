// SPDX-License-Identifier: MIT
#include "backends/cuda/planning_engine.h"

#include "backends/cuda/device_arrays.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace mfres::cuda {

namespace {

constexpr std::uintptr_t first_address = std::uintptr_t{1} << (sizeof(std::uintptr_t) == 8 ? 40U : 24U);

const char* kernel_of(ConvolutionPass pass) {
    switch (pass) {
    case ConvolutionPass::forward: return "convolution";
    case ConvolutionPass::source_gradient: return "convolution_source_gradient";
    case ConvolutionPass::weight_gradient: return "convolution_weight_gradient";
    }
    return "convolution";
}

/// In place of what a library has for a convolution.
class AnyConvolution final : public Convolution {
  public:
    explicit AnyConvolution(const ConvolutionSpec& spec)
        : result_type_(spec.pass == ConvolutionPass::weight_gradient ? ElementType::f32 : spec.type) {}
    std::string implementation() const override { return "any"; }
    std::int64_t workspace_bytes() const override { return 0; }
    ElementType result_type() const override { return result_type_; }
    void run(const ConvolutionArrays&) override {}

  private:
    ElementType result_type_;
};

/// Logs one launch, and runs what was made if the log runs launches.
class LoggedConvolution final : public Convolution {
  public:
    LoggedConvolution(LaunchLog& log, const ConvolutionSpec& spec, std::unique_ptr<Convolution> made)
        : log_(log), made_(std::move(made)) {
        const std::int64_t values =
            spec.in.elements() + spec.out.elements() * (spec.residual ? 2 : 1) + spec.weight_count();
        launch_ = {{},
                   kernel_of(spec.pass),
                   values * bytes_of(spec.type),
                   spec.out.elements() * spec.weight_count() / spec.conv.out_channels};
    }

    std::string implementation() const override { return made_->implementation(); }
    std::int64_t workspace_bytes() const override { return made_->workspace_bytes(); }
    ElementType result_type() const override { return made_->result_type(); }
    void run(const ConvolutionArrays& arrays) override {
        const auto address = reinterpret_cast<std::uintptr_t>(arrays.workspace);
        if (workspace_bytes() > 0 && address % workspace_alignment != 0)
            throw EngineError(ErrorCode::internal, "a convolution's workspace is not aligned");
        if (!log_.add(launch_))
            return;
        log_.pause(true);
        made_->run(arrays);
        log_.pause(false);
    }

  private:
    LaunchLog& log_;
    std::unique_ptr<Convolution> made_;
    Launch launch_;
};

/// Work beside the engine's, which is not logged.
class NoQueue final : public SideQueue {
  public:
    Stream stream() const override { return nullptr; }
    void upload(void*, const void*, std::int64_t) override {}
    void follow() override {}
    void join() override {}
    void wait() override {}
};

class PlanningEngine final : public Engine {
  public:
    PlanningEngine(LaunchLog& log, ConvolutionCache::Make make) : log_(log), convolutions_(std::move(make)) {}

    const Kernels& kernels() const override { return host_kernels(); }
    Stream stream() const override { return &log_; }
    void at(const std::string& node) override { log_.at(node); }

    void* allocate(std::int64_t bytes) override {
        constexpr std::uintptr_t alignment = 256;
        void* const memory = reinterpret_cast<void*>(next_); // NOLINT: an address that nothing reads
        next_ += (static_cast<std::uintptr_t>(bytes) + alignment - 1) / alignment * alignment;
        return memory;
    }
    void release(void*) noexcept override {}
    /// Pages that nothing writes take no memory.
    void* allocate_host(std::int64_t bytes) override {
        void* const memory = std::calloc(static_cast<std::size_t>(bytes), 1);
        if (memory == nullptr)
            throw std::bad_alloc();
        return memory;
    }
    void release_host(void* memory) noexcept override { std::free(memory); }
    void upload(void*, const void*, std::int64_t) override {}
    void download(void* host, const void*, std::int64_t bytes) override {
        std::memset(host, 0, static_cast<std::size_t>(bytes));
    }
    void clear(void*, std::int64_t bytes) override { log_.add({{}, "clear", bytes, 0}); }
    void copy(void*, const void*, std::int64_t bytes) override { log_.add({{}, "copy", 2 * bytes, 0}); }
    std::unique_ptr<SideQueue> make_side_queue() override { return std::make_unique<NoQueue>(); }
    void wait() override {}
    std::unique_ptr<Convolution> make_convolution(const ConvolutionSpec& spec, const ConvolutionRules& rules) override {
        auto made = convolutions_.get(spec, rules);
        return made ? logged(log_, spec, std::move(made)) : nullptr;
    }
    std::unique_ptr<DeviceRanks> make_ranks(Communicator&) override {
        throw EngineError(ErrorCode::backend_unavailable, "a plan without a device is of one rank");
    }
    std::unique_ptr<Recording> record(const std::function<void()>&) override { return nullptr; }

  private:
    LaunchLog& log_;
    ConvolutionCache convolutions_;
    std::uintptr_t next_ = first_address;
};

} // namespace

std::unique_ptr<Engine> make_planning_engine(LaunchLog& log, ConvolutionCache::Make make) {
    if (!make)
        make = [](const ConvolutionSpec& spec, const ConvolutionRules&) {
            return std::make_unique<AnyConvolution>(spec);
        };
    return std::make_unique<PlanningEngine>(log, std::move(make));
}

std::unique_ptr<Convolution> logged(LaunchLog& log, const ConvolutionSpec& spec, std::unique_ptr<Convolution> made) {
    return std::make_unique<LoggedConvolution>(log, spec, std::move(made));
}

} // namespace mfres::cuda
