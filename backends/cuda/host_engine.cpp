// SPDX-License-Identifier: MIT
#include "backends/cuda/direct_convolution.h"
#include "backends/cuda/planning_engine.h"

#include <cstring>
#include <new>

namespace mfres::cuda {

namespace {

/// Runs the work again.
class HostRecording final : public Recording {
  public:
    explicit HostRecording(std::function<void()> work) : work_(std::move(work)) {}
    void run() override { work_(); }

  private:
    std::function<void()> work_;
};

/// Device memory is host memory here: the communicator sums it where it is.
class SumsInPlace final : public DeviceRanks {
  public:
    explicit SumsInPlace(Communicator& ranks) : ranks_(ranks) {}

    int size() const override { return ranks_.size(); }
    std::string description() const override { return "mfres:in place"; }
    bool recordable() const override { return true; }
    void sum(double* values, std::int64_t count) override {
        check(ranks_.all_reduce_sum(std::span(values, static_cast<std::size_t>(count))));
    }
    void start_sum(float* values, std::int64_t count) override {
        check(ranks_.start_sum(std::span(values, static_cast<std::size_t>(count))));
    }
    void finish_sums() override { check(ranks_.finish_sums()); }

  private:
    Communicator& ranks_;
};

/// Does everything at once.
class HostQueue final : public SideQueue {
  public:
    Stream stream() const override { return nullptr; }
    void upload(void* device, const void* host, std::int64_t bytes) override {
        std::memcpy(device, host, static_cast<std::size_t>(bytes));
    }
    void follow() override {}
    void join() override {}
    void wait() override {}
};

class HostEngine final : public Engine {
  public:
    explicit HostEngine(bool staged, LaunchLog* log = nullptr) : staged_(staged), log_(log) {}
    HostEngine(bool staged, std::vector<std::string> warnings) : staged_(staged), warnings_(std::move(warnings)) {}

    const Kernels& kernels() const override { return host_kernels(); }
    Stream stream() const override { return log_; }
    void at(const std::string& node) override {
        if (log_)
            log_->at(node);
    }

    void* allocate(std::int64_t bytes) override {
        void* memory = ::operator new (static_cast<std::size_t>(bytes), std::align_val_t{256});
        std::memset(memory, 0, static_cast<std::size_t>(bytes));
        return memory;
    }
    void release(void* memory) noexcept override { ::operator delete (memory, std::align_val_t{256}); }
    void* allocate_host(std::int64_t bytes) override { return allocate(bytes); }
    void release_host(void* memory) noexcept override { release(memory); }

    void upload(void* device, const void* host, std::int64_t bytes) override { move(device, host, bytes); }
    void download(void* host, const void* device, std::int64_t bytes) override { move(host, device, bytes); }
    void copy(void* to, const void* from, std::int64_t bytes) override {
        if (log_)
            log_->add({{}, "copy", 2 * bytes, 0});
        move(to, from, bytes);
    }
    std::unique_ptr<SideQueue> make_side_queue() override { return std::make_unique<HostQueue>(); }
    void clear(void* device, std::int64_t bytes) override {
        if (log_)
            log_->add({{}, "clear", bytes, 0});
        std::memset(device, 0, static_cast<std::size_t>(bytes));
    }
    void wait() override {}

    /// A leaky ReLU is rejected, so that the way around what an engine cannot fuse is tested too.
    std::unique_ptr<Convolution> make_convolution(const ConvolutionSpec& spec, const ConvolutionRules&) override {
        if (spec.activation.kind == Activation::Kind::leaky_relu)
            return nullptr;
        auto made = make_direct_convolution(*this, spec);
        return log_ ? logged(*log_, spec, std::move(made)) : std::move(made);
    }

    std::vector<std::string> warnings() const override { return warnings_; }

    std::unique_ptr<DeviceRanks> make_ranks(Communicator& ranks) override {
        if (staged_)
            return make_staged_ranks(*this, ranks);
        return std::make_unique<SumsInPlace>(ranks);
    }

    std::unique_ptr<Recording> record(const std::function<void()>& work) override {
        return std::make_unique<HostRecording>(work);
    }

  private:
    static void move(void* to, const void* from, std::int64_t bytes) {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }

    bool staged_;
    LaunchLog* log_ = nullptr;
    std::vector<std::string> warnings_;
};

} // namespace

std::unique_ptr<Engine> make_host_engine(bool staged, const std::string& warning) {
    const auto warnings = warning.empty() ? std::vector<std::string>() : std::vector<std::string>{warning};
    return std::make_unique<HostEngine>(staged, warnings);
}

std::unique_ptr<Engine> make_logged_host_engine(LaunchLog& log) {
    return std::make_unique<HostEngine>(false, &log);
}

} // namespace mfres::cuda
