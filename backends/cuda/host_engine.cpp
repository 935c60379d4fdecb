#include "backends/cuda/engine.h"

#include <cstring>
#include <new>
#include <vector>

namespace mfres::cuda {

namespace {

/// Read and written as floats, whatever they are stored as.
class Elements {
  public:
    Elements(ElementType type, const void* data) : type_(type), data_(const_cast<void*>(data)) {}

    float get(std::int64_t i) const {
        switch (type_) {
        case ElementType::f32: return static_cast<const float*>(data_)[i];
        case ElementType::bf16: return widen(static_cast<const Bf16*>(data_)[i]);
        case ElementType::fp16: return widen(static_cast<const Fp16*>(data_)[i]);
        }
        return 0.0F;
    }
    void set(std::int64_t i, double value) const {
        const auto rounded = static_cast<float>(value);
        switch (type_) {
        case ElementType::f32: return narrow(rounded, static_cast<float*>(data_)[i]);
        case ElementType::bf16: return narrow(rounded, static_cast<Bf16*>(data_)[i]);
        case ElementType::fp16: return narrow(rounded, static_cast<Fp16*>(data_)[i]);
        }
    }

  private:
    ElementType type_;
    void* data_;
};

double activated(const Activation& activation, double x) {
    switch (activation.kind) {
    case Activation::Kind::none: return x;
    case Activation::Kind::relu: return !(x <= 0.0) ? x : 0.0;
    case Activation::Kind::leaky_relu: return x > 0.0 ? x : static_cast<double>(activation.slope) * x;
    }
    return x;
}

/// All three passes as one walk over (output voxel, tap).
class HostConvolution final : public Convolution {
  public:
    explicit HostConvolution(const ConvolutionSpec& spec) : spec_(spec) {}

    std::string implementation() const override { return "host"; }
    std::int64_t workspace_bytes() const override { return 64; }
    ElementType result_type() const override {
        return spec_.pass == ConvolutionPass::weight_gradient ? ElementType::f32 : spec_.type;
    }

    void run(const ConvolutionArrays& a) override {
        switch (spec_.pass) {
        case ConvolutionPass::forward: return forward(a);
        case ConvolutionPass::source_gradient: return source_gradient(a);
        case ConvolutionPass::weight_gradient: return weight_gradient(a);
        }
    }

  private:
    /// body(input element, output element, weight element) for every product of the convolution.
    template <typename Body>
    void for_products(const Body& body) const {
        const Conv& conv = spec_.conv;
        const Shape& in = spec_.in;
        const Shape& out = spec_.out;
        const std::int64_t in_group = in[1] / conv.groups;
        const std::int64_t out_group = out[1] / conv.groups;
        const std::int64_t taps = conv.kernel[0] * conv.kernel[1] * conv.kernel[2];
        for (std::int64_t voxel = 0; voxel < out[0] * out[2] * out[3] * out[4]; ++voxel)
            for (std::int64_t tap = 0; tap < taps; ++tap) {
                const std::int64_t place[3] = {voxel / out[4] / out[3] % out[2], voxel / out[4] % out[3],
                                               voxel % out[4]};
                const std::int64_t offset[3] = {tap / conv.kernel[2] / conv.kernel[1],
                                                tap / conv.kernel[2] % conv.kernel[1], tap % conv.kernel[2]};
                std::int64_t read = voxel / out[4] / out[3] / out[2];
                bool inside = true;
                for (std::size_t axis = 0; axis < 3; ++axis) {
                    const std::int64_t at =
                        place[axis] * conv.stride[axis] + offset[axis] * conv.dilation[axis] - conv.padding[axis];
                    const std::int64_t extent = in[static_cast<int>(axis) + 2];
                    inside = inside && at >= 0 && at < extent;
                    read = read * extent + at;
                }
                for (std::int64_t o = 0; inside && o < out[1]; ++o)
                    for (std::int64_t i = 0; i < in_group; ++i)
                        body(read * in[1] + o / out_group * in_group + i, voxel * out[1] + o,
                             (o * taps + tap) * in_group + i);
            }
    }

    static std::vector<double> zeros(std::int64_t count) {
        return std::vector<double>(static_cast<std::size_t>(count), 0.0);
    }

    void forward(const ConvolutionArrays& a) const {
        const Elements x(spec_.type, a.x), w(spec_.type, a.weights), y(spec_.type, a.result);
        std::vector<double> sums = zeros(spec_.out.elements());
        for_products([&](std::int64_t i, std::int64_t o, std::int64_t k) {
            sums[static_cast<std::size_t>(o)] += static_cast<double>(x.get(i)) * static_cast<double>(w.get(k));
        });
        for (std::int64_t o = 0; o < spec_.out.elements(); ++o) {
            double value = sums[static_cast<std::size_t>(o)];
            if (spec_.bias)
                value += static_cast<double>(a.bias[o % spec_.out[1]]);
            if (spec_.residual)
                value += static_cast<double>(Elements(spec_.type, a.residual).get(o));
            y.set(o, activated(spec_.activation, value));
        }
    }

    void source_gradient(const ConvolutionArrays& a) const {
        const Elements dy(spec_.type, a.dy), w(spec_.type, a.weights), dx(spec_.type, a.result);
        std::vector<double> sums = zeros(spec_.in.elements());
        for_products([&](std::int64_t i, std::int64_t o, std::int64_t k) {
            sums[static_cast<std::size_t>(i)] += static_cast<double>(dy.get(o)) * static_cast<double>(w.get(k));
        });
        for (std::size_t i = 0; i < sums.size(); ++i)
            dx.set(static_cast<std::int64_t>(i), sums[i]);
    }

    void weight_gradient(const ConvolutionArrays& a) const {
        const Elements dy(spec_.type, a.dy), x(spec_.type, a.x), dw(ElementType::f32, a.result);
        std::vector<double> sums = zeros(spec_.weight_count());
        for_products([&](std::int64_t i, std::int64_t o, std::int64_t k) {
            sums[static_cast<std::size_t>(k)] += static_cast<double>(dy.get(o)) * static_cast<double>(x.get(i));
        });
        for (std::size_t k = 0; k < sums.size(); ++k)
            dw.set(static_cast<std::int64_t>(k), sums[k]);
    }

    ConvolutionSpec spec_;
};

/// Runs the work again.
class HostRecording final : public Recording {
  public:
    explicit HostRecording(std::function<void()> work) : work_(std::move(work)) {}
    void run() override { work_(); }

  private:
    std::function<void()> work_;
};

class HostEngine final : public Engine {
  public:
    const Kernels& kernels() const override { return host_kernels(); }
    Stream stream() const override { return nullptr; }

    void* allocate(std::int64_t bytes) override {
        void* memory = ::operator new (static_cast<std::size_t>(bytes), std::align_val_t{256});
        std::memset(memory, 0, static_cast<std::size_t>(bytes));
        return memory;
    }
    void release(void* memory) noexcept override { ::operator delete (memory, std::align_val_t{256}); }
    void* allocate_host(std::int64_t bytes) override { return allocate(bytes); }
    void release_host(void* memory) noexcept override { release(memory); }

    void upload(void* device, const void* host, std::int64_t bytes) override { copy(device, host, bytes); }
    void download(void* host, const void* device, std::int64_t bytes) override { copy(host, device, bytes); }
    void clear(void* device, std::int64_t bytes) override { std::memset(device, 0, static_cast<std::size_t>(bytes)); }
    void wait() override {}

    /// A leaky ReLU is refused, so that the way around what an engine cannot fuse is tested too.
    std::unique_ptr<Convolution> make_convolution(const ConvolutionSpec& spec, const ConvolutionRules&) override {
        if (spec.activation.kind == Activation::Kind::leaky_relu)
            return nullptr;
        return std::make_unique<HostConvolution>(spec);
    }

    std::unique_ptr<Recording> record(const std::function<void()>& work) override {
        return std::make_unique<HostRecording>(work);
    }

  private:
    static void copy(void* to, const void* from, std::int64_t bytes) {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
};

} // namespace

std::unique_ptr<Engine> make_host_engine() {
    return std::make_unique<HostEngine>();
}

} // namespace mfres::cuda
