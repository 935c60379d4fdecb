// SPDX-License-Identifier: MIT
#include "backends/cuda/direct_convolution.h"

#include "backends/cuda/device_arrays.h"

#include <algorithm>

namespace mfres::cuda {

namespace {

class DirectConvolution final : public Convolution {
  public:
    DirectConvolution(const Engine& engine, const ConvolutionSpec& spec) : engine_(engine), spec_(spec) {
        fixed_.in = extents_of(spec.in);
        fixed_.out = extents_of(spec.out);
        for (std::size_t axis = 0; axis < 3; ++axis) {
            fixed_.kernel[axis] = spec.conv.kernel[axis];
            fixed_.stride[axis] = spec.conv.stride[axis];
            fixed_.dilation[axis] = spec.conv.dilation[axis];
            fixed_.padding[axis] = spec.conv.padding[axis];
        }
        fixed_.in_group = spec.in[1] / spec.conv.groups;
        fixed_.out_group = spec.out[1] / spec.conv.groups;
        fixed_.activation = spec.activation;
        fixed_.chunks = {spec.out[0], voxels_of(spec.out), spec.weight_count(), chunks_per_sample()};
    }

    std::string implementation() const override { return "mfres:direct_convolution"; }

    std::int64_t workspace_bytes() const override {
        return spec_.pass == ConvolutionPass::weight_gradient
                   ? fixed_.chunks.chunks() * spec_.weight_count() * std::int64_t{sizeof(double)}
                   : 0;
    }

    ElementType result_type() const override {
        return spec_.pass == ConvolutionPass::weight_gradient ? ElementType::f32 : spec_.type;
    }

    void run(const ConvolutionArrays& arrays) override {
        ConvolutionArguments a = fixed_;
        a.x = arrays.x;
        a.dy = arrays.dy;
        a.weights = arrays.weights;
        a.bias = spec_.bias ? arrays.bias : nullptr;
        a.residual = spec_.residual ? arrays.residual : nullptr;
        a.result = arrays.result;
        a.workspace = static_cast<double*>(arrays.workspace);
        const Kernels& kernels = engine_.kernels();
        switch (spec_.pass) {
        case ConvolutionPass::forward: return kernels.convolution(engine_.stream(), spec_.type, a);
        case ConvolutionPass::source_gradient:
            return kernels.convolution_source_gradient(engine_.stream(), spec_.type, a);
        case ConvolutionPass::weight_gradient:
            return kernels.convolution_weight_gradient(engine_.stream(), spec_.type, a);
        }
    }

  private:
    /// As many as keep the partial sums of a weight gradient within some megabytes.
    std::int64_t chunks_per_sample() const {
        constexpr std::int64_t most_sums = std::int64_t{1} << 22U;
        constexpr std::int64_t least_voxels = 512;
        const std::int64_t by_memory = most_sums / spec_.weight_count() / spec_.out[0];
        return std::clamp<std::int64_t>(std::min(by_memory, voxels_of(spec_.out) / least_voxels), 1, 512);
    }

    const Engine& engine_;
    ConvolutionSpec spec_;
    ConvolutionArguments fixed_;
};

} // namespace

std::unique_ptr<Convolution> make_direct_convolution(const Engine& engine, const ConvolutionSpec& spec) {
    return std::make_unique<DirectConvolution>(engine, spec);
}

} // namespace mfres::cuda
