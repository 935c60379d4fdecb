// SPDX-License-Identifier: MIT
#include "backends/kernels/row_convolution.h"

#include "backends/kernels/line_kernels.h"
#include "backends/kernels/slots.h"
#include "backends/kernels/threads.h"
#include "core/rounding.h"
#include "core/try.h"

#include <algorithm>
#include <vector>

namespace mfres::kernels {

namespace {

constexpr std::int64_t floats_per_pointer = sizeof(const float*) / sizeof(float);

/// A convolution as it is computed by rows, and the memory of a thread, in floats.
struct RowPlan {
    Conv conv;
    Shape in, out;
    Activation activation;
    std::int64_t inputs = 0, outputs = 0; ///< channels of a group
    std::int64_t planes = 0;              ///< along x that the kernel spans
    std::int64_t margin = 0;              ///< of a row of the input, in front of its first voxel
    std::int64_t in_stride = 0;           ///< from row to row
    std::int64_t out_stride = 0;          ///< which is also what is computed of a row
    std::int64_t pointers = 0, zero_row = 0, in_rows = 0, out_rows = 0, residual_rows = 0; ///< where they begin
    std::int64_t thread_floats = 0;
    std::vector<float> weights, bias;

    /// The weights of a group.
    std::int64_t group_weights() const { return std::ssize(weights) / conv.groups; }
};

RowPlan plan_rows(const ConvolutionSpec& spec) {
    RowPlan plan;
    plan.conv = spec.conv;
    plan.in = spec.in;
    plan.out = spec.out;
    plan.activation = spec.activation;
    plan.inputs = spec.inputs_per_group();
    plan.outputs = spec.outputs_per_group();
    plan.weights = packed_row_weights(*spec.weights, spec.conv.groups);
    plan.bias.assign(static_cast<std::size_t>(spec.out[1]), 0.0F);
    if (spec.bias)
        std::copy_n(spec.bias->data(), spec.out[1], plan.bias.begin());

    const Conv& conv = spec.conv;
    plan.planes = conv.dilation[0] * (conv.kernel[0] - 1) + 1;
    plan.margin = rounded_up(conv.padding[2], row_multiple);
    plan.out_stride = rounded_up(spec.out[4], row_multiple);
    const std::int64_t read = plan.out_stride + conv.dilation[2] * (conv.kernel[2] - 1) - conv.padding[2];
    plan.in_stride = plan.margin + rounded_up(std::max(read, spec.in[4]), row_multiple);
    const std::int64_t pointers = conv.kernel[0] * conv.kernel[1] * plan.inputs + 2 * spec.out[1];
    std::int64_t floats = 0;
    const auto take = [&](std::int64_t count) {
        return std::exchange(floats, floats + rounded_up(count, row_multiple));
    };
    plan.pointers = take(pointers * floats_per_pointer);
    plan.zero_row = take(plan.in_stride);
    plan.in_rows = take(plan.planes * spec.in[3] * spec.in[1] * plan.in_stride);
    plan.out_rows = take(spec.out[1] * plan.out_stride);
    plan.residual_rows = take(spec.out[1] * plan.out_stride);
    plan.thread_floats = floats;
    return plan;
}

/// The computation of planes of the output of one sample by one thread.
class PlanesRun {
  public:
    PlanesRun(const RowPlan& plan, const LineKernels& kernels, const OpArguments& arguments, float* memory)
        : plan_(plan), kernels_(kernels), arguments_(arguments), memory_(memory),
          pointers_(reinterpret_cast<float**>(memory + plan.pointers)) {}

    void run(std::int64_t sample, std::int64_t begin, std::int64_t end) {
        std::fill(memory_ + plan_.zero_row, memory_ + plan_.out_rows, 0.0F); // also the margins of all rows
        const Conv& conv = plan_.conv;
        std::int64_t loaded = 0; // planes before it are in the buffer, if they are needed
        for (std::int64_t x = begin; x < end; ++x) {
            const std::int64_t first = x * conv.stride[0] - conv.padding[0];
            const std::int64_t last = std::min(first + plan_.planes, plan_.in[2]);
            for (loaded = std::max({loaded, first, std::int64_t{0}}); loaded < last; ++loaded)
                load(sample, loaded);
            for (std::int64_t y = 0; y < plan_.out[3]; ++y)
                convolve_line(sample, x, y);
        }
        kernels_.finish_stores();
    }

  private:
    /// The first voxel of channel 0 of a line of the input in the buffer; other channels follow.
    float* rows(std::int64_t x, std::int64_t y) const {
        return memory_ + plan_.in_rows + plan_.margin +
               (x % plan_.planes * plan_.in[3] + y) * plan_.in[1] * plan_.in_stride;
    }

    /// Brings a plane of the input into rows.
    void load(std::int64_t sample, std::int64_t x) {
        const Shape& in = plan_.in;
        for (std::int64_t y = 0; y < in[3]; ++y) {
            float* first = rows(x, y);
            // In groups of channels that there are pointers for.
            const std::int64_t most = 2 * plan_.out[1] + plan_.inputs;
            const float* line = arguments_.input<float>(0) + ((sample * in[2] + x) * in[3] + y) * in[4] * in[1];
            for (std::int64_t c = 0; c < in[1]; c += most) {
                const std::int64_t count = std::min(most, in[1] - c);
                for (std::int64_t i = 0; i < count; ++i)
                    pointers_[i] = first + (c + i) * plan_.in_stride;
                kernels_.to_rows({in[1], count, in[4]}, line + c, pointers_);
            }
        }
    }

    /// Writes pointers to `count` rows; returns the end of what it wrote.
    static float** point_at(float* first, std::int64_t stride, std::int64_t count, float** to) {
        for (std::int64_t c = 0; c < count; ++c)
            *to++ = first + c * stride;
        return to;
    }

    void convolve_line(std::int64_t sample, std::int64_t x, std::int64_t y) {
        const Shape& out = plan_.out;
        const Voxels voxels{out[1], out[1], out[4]};
        const std::int64_t at = ((sample * out[2] + x) * out[3] + y) * out[4] * out[1];
        float** const outputs = pointers_;
        float** const residual = point_at(memory_ + plan_.out_rows, plan_.out_stride, out[1], outputs);
        float** inputs = residual;
        if (arguments_.residual) {
            inputs = point_at(memory_ + plan_.residual_rows, plan_.out_stride, out[1], residual);
            kernels_.to_rows(voxels, static_cast<const float*>(arguments_.residual) + at, residual);
        }
        for (std::int64_t group = 0; group < plan_.conv.groups; ++group) {
            RowConvolution c;
            c.inputs = inputs;
            c.rows = point_at_inputs(group, x, y, inputs) - inputs;
            c.shifts = plan_.conv.kernel[2];
            c.first_shift = -plan_.conv.padding[2];
            c.shift_step = plan_.conv.dilation[2];
            c.weights = plan_.weights.data() + group * plan_.group_weights();
            c.bias = plan_.bias.data() + group * plan_.outputs;
            c.residual = arguments_.residual ? residual + group * plan_.outputs : nullptr;
            c.outputs = outputs + group * plan_.outputs;
            c.channels = plan_.outputs;
            c.floats = plan_.out_stride;
            c.activation = plan_.activation;
            kernels_.convolve(c);
        }
        kernels_.to_voxels(voxels, outputs, static_cast<float*>(arguments_.output) + at);
    }

    float** point_at_inputs(std::int64_t group, std::int64_t x, std::int64_t y, float** to) const {
        const Conv& conv = plan_.conv;
        for (std::int64_t a = 0; a < conv.kernel[0]; ++a)
            for (std::int64_t b = 0; b < conv.kernel[1]; ++b) {
                const std::int64_t from_x = x * conv.stride[0] - conv.padding[0] + a * conv.dilation[0];
                const std::int64_t from_y = y * conv.stride[1] - conv.padding[1] + b * conv.dilation[1];
                if (from_x < 0 || from_x >= plan_.in[2] || from_y < 0 || from_y >= plan_.in[3])
                    to = std::fill_n(to, plan_.inputs, memory_ + plan_.zero_row + plan_.margin);
                else
                    to = point_at(rows(from_x, from_y) + group * plan_.inputs * plan_.in_stride, plan_.in_stride,
                                  plan_.inputs, to);
            }
        return to;
    }

    const RowPlan& plan_;
    const LineKernels& kernels_;
    const OpArguments& arguments_;
    float* memory_;
    float** pointers_;
};

class RowConvolutionOp final : public InferenceOp {
  public:
    explicit RowConvolutionOp(const ConvolutionSpec& spec)
        : plan_(plan_rows(spec)), parts_per_sample_(spec.parts(spec.out[2])),
          slots_(static_cast<std::size_t>(std::min<std::int64_t>(spec.threads, parts()))) {}

    std::string implementation() const override { return std::string("mfres:conv_rows:") + kernels_.name; }
    std::int64_t workspace_bytes() const override {
        return static_cast<std::int64_t>(slots_.size() * sizeof(float)) * plan_.thread_floats;
    }
    std::int64_t constant_bytes() const override {
        return (std::ssize(plan_.weights) + std::ssize(plan_.bias)) * static_cast<std::int64_t>(sizeof(float));
    }
    void bind(const OpArguments& arguments) override { arguments_ = arguments; }

    void run() override {
        run_parts(static_cast<int>(parts()), [&](int part) {
            slots_.with([&](std::size_t slot) {
                float* memory = reinterpret_cast<float*>(arguments_.workspace) +
                                static_cast<std::int64_t>(slot) * plan_.thread_floats;
                const std::int64_t place = part % parts_per_sample_;
                PlanesRun(plan_, kernels_, arguments_, memory)
                    .run(part / parts_per_sample_, plan_.out[2] * place / parts_per_sample_,
                         plan_.out[2] * (place + 1) / parts_per_sample_);
            });
        });
    }

  private:
    std::int64_t parts() const { return plan_.in[0] * parts_per_sample_; }

    const LineKernels& kernels_ = line_kernels();
    RowPlan plan_;
    std::int64_t parts_per_sample_;
    Slots slots_;
    OpArguments arguments_;
};

} // namespace

std::vector<float> packed_row_weights(const Tensor& weight, std::int64_t groups) {
    const Shape& shape = weight.shape();
    const std::int64_t taps = shape[2] * shape[3];
    const std::int64_t outputs = shape[0] / groups;
    std::vector<float> packed;
    packed.reserve(static_cast<std::size_t>(weight.elements()));
    for (std::int64_t group = 0; group < groups; ++group)
        for (std::int64_t first = 0; first < outputs; first += row_block)
            for (std::int64_t tap = 0; tap < taps; ++tap)
                for (std::int64_t in = 0; in < shape[1]; ++in)
                    for (std::int64_t z = 0; z < shape[4]; ++z)
                        for (std::int64_t out = first; out < std::min(first + row_block, outputs); ++out)
                            packed.push_back(
                                weight[(((group * outputs + out) * shape[1] + in) * taps + tap) * shape[4] + z]);
    return packed;
}

bool can_convolve_rows(const ConvolutionSpec& spec) {
    return spec.conv.stride[2] == 1;
}

double row_products(const ConvolutionSpec& spec) {
    const double padded = static_cast<double>(rounded_up(spec.out[4], row_multiple)) / static_cast<double>(spec.out[4]);
    return padded * static_cast<double>(spec.weights->elements()) / line_kernels().lanes;
}

std::unique_ptr<InferenceOp> make_row_convolution(const ConvolutionSpec& spec) {
    return std::make_unique<RowConvolutionOp>(spec);
}

} // namespace mfres::kernels
