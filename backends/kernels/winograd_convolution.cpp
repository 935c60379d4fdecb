// SPDX-License-Identifier: MIT
#include "backends/kernels/winograd_convolution.h"

#include "backends/kernels/slots.h"
#include "backends/kernels/threads.h"
#include "backends/kernels/tile_convolution.h"
#include "backends/kernels/winograd_kernels.h"
#include "core/rounding.h"
#include "core/try.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

namespace mfres::kernels {

namespace {

/// Size of the transformed tiles of a strip, and the most tiles that it has.
constexpr std::int64_t strip_bytes = 3 << 16;
constexpr std::int64_t most_strip_tiles = 48;

/// Axes of the grid: 0 is x, 2 is z.
struct TileAxes {
    std::size_t first = 0, second = 0; ///< of the tiles
    std::size_t third = 0;             ///< along which the kernel has one voxel
};

std::optional<TileAxes> tile_axes(const Conv& conv) {
    for (std::size_t third = 0; third < 3; ++third) {
        const TileAxes axes{third == 0 ? 1U : 0U, third == 2 ? 1U : 2U, third};
        const auto is = [&](std::size_t axis, std::int64_t extent, std::int64_t padding) {
            return conv.kernel[axis] == extent && conv.stride[axis] == 1 && conv.padding[axis] == padding &&
                   (extent == 1 || conv.dilation[axis] == 1);
        };
        if (is(axes.first, 3, 1) && is(axes.second, 3, 1) && is(third, 1, 0))
            return axes;
    }
    return std::nullopt;
}

std::int64_t extent(const Shape& shape, std::size_t axis) {
    return shape[static_cast<int>(axis) + 2];
}

/// Tiles along both axes, planes and samples.
std::int64_t tiles_of(const Shape& grid, const TileAxes& axes) {
    return grid[0] * extent(grid, axes.third) * quotient_up(extent(grid, axes.first), winograd_outputs) *
           quotient_up(extent(grid, axes.second), winograd_outputs);
}

/// G g G' of one pair of channels: g[i][j] = weights[i * step[0] + j * step[1]].
void transform_weights(const float* weights, const WinogradAxes& step, double (&products)[winograd_products]) {
    std::array<double, winograd_inputs> columns[3];
    for (std::int64_t j = 0; j < 3; ++j) {
        const float* const at = weights + j * step[1];
        columns[j] = transformed_weights({at[0], at[step[0]], at[2 * step[0]]});
    }
    for (std::size_t p = 0; p < winograd_inputs; ++p) {
        const auto row = transformed_weights({columns[0][p], columns[1][p], columns[2][p]});
        std::copy(row.begin(), row.end(), products + p * winograd_inputs);
    }
}

class WinogradConvolutionOp final : public InferenceOp {
  public:
    explicit WinogradConvolutionOp(const ConvolutionSpec& spec)
        : in_(spec.in), out_(spec.out), axes_(*tile_axes(spec.conv)), activation_(spec.activation),
          tiles_(tiles_of(spec.out, axes_)), blocks_(divide_into_blocks(tile_kernels(), out_[1] / kernels_.lanes)) {
        const std::int64_t voxels = blocks_.front().kernel->voxels;
        for (const VectorBlock& block : blocks_)
            widest_ = std::max(widest_, block.vectors * kernels_.lanes);
        const std::int64_t tile_bytes =
            winograd_products * (in_[1] + widest_) * static_cast<std::int64_t>(sizeof(float));
        strip_ = std::clamp(strip_bytes / tile_bytes, voxels, most_strip_tiles) / voxels * voxels;
        parts_ = spec.parts(quotient_up(tiles_, voxels));
        slots_.emplace(static_cast<std::size_t>(std::min<std::int64_t>(spec.threads, parts_)));
        pack(spec);
    }

    std::string implementation() const override { return text("mfres:conv_winograd_4x4:", kernels_.name); }
    std::int64_t workspace_bytes() const override { return static_cast<std::int64_t>(slots_->size()) * slot_bytes(); }
    std::int64_t constant_bytes() const override {
        return (std::ssize(weights_) + std::ssize(bias_) + std::ssize(zeros_)) *
               static_cast<std::int64_t>(sizeof(float));
    }
    void bind(const OpArguments& arguments) override { arguments_ = arguments; }

    void run() override {
        run_parts(static_cast<int>(parts_), [&](int part) {
            slots_->with([&](std::size_t slot) {
                auto* const memory =
                    reinterpret_cast<float*>(arguments_.workspace + static_cast<std::int64_t>(slot) * slot_bytes());
                const std::int64_t end = tiles_ * (part + 1) / parts_;
                for (std::int64_t tile = tiles_ * part / parts_; tile < end; tile += strip_)
                    run_strip(tile, std::min(strip_, end - tile), memory);
            });
        });
    }

  private:
    /// Where a tile lies: its first voxel of the output.
    struct Place {
        std::int64_t sample = 0, third = 0;
        WinogradAxes first{};
    };

    /// Weights in the order [product][block][input channel][channel of the block].
    void pack(const ConvolutionSpec& spec) {
        const std::int64_t inputs = in_[1];
        const std::int64_t outputs = out_[1];
        weights_.resize(static_cast<std::size_t>(winograd_products * inputs * outputs));
        bias_.assign(static_cast<std::size_t>(outputs), 0.0F);
        zeros_.assign(static_cast<std::size_t>(widest_), 0.0F);
        if (spec.bias)
            std::copy_n(spec.bias->data(), outputs, bias_.begin());
        const WinogradAxes step = {weight_step(spec.conv, axes_.first), weight_step(spec.conv, axes_.second)};
        parallel_for(inputs, spec.threads, [&](std::int64_t begin, std::int64_t end, int) {
            double products[winograd_products];
            for (const VectorBlock& block : blocks_) {
                const std::int64_t first = block.begin * kernels_.lanes;
                const std::int64_t width = block.vectors * kernels_.lanes;
                for (std::int64_t i = begin; i < end; ++i)
                    for (std::int64_t o = 0; o < width; ++o) {
                        transform_weights(spec.weights->data() + ((first + o) * inputs + i) * 9, step, products);
                        float* to = weights_.data() + first * inputs + i * width + o;
                        for (const double product : products) {
                            *to = static_cast<float>(product);
                            to += inputs * outputs;
                        }
                    }
            }
        });
    }

    /// Weights from one offset of the kernel along an axis to the next.
    static std::int64_t weight_step(const Conv& conv, std::size_t axis) {
        std::int64_t step = 1;
        for (std::size_t inner = axis + 1; inner < 3; ++inner)
            step *= conv.kernel[inner];
        return step;
    }

    Place place(std::int64_t tile) const {
        const std::int64_t along_second = quotient_up(extent(out_, axes_.second), winograd_outputs);
        const std::int64_t along_first = quotient_up(extent(out_, axes_.first), winograd_outputs);
        const std::int64_t plane = tile / along_second / along_first;
        const std::int64_t planes = extent(out_, axes_.third);
        return {plane / planes,
                plane % planes,
                {tile / along_second % along_first * winograd_outputs, tile % along_second * winograd_outputs}};
    }

    /// Floats from one voxel to the next along an axis.
    static std::int64_t stride(const Shape& shape, std::size_t axis) {
        std::int64_t floats = shape[1];
        for (std::size_t inner = axis + 1; inner < 3; ++inner)
            floats *= extent(shape, inner);
        return floats;
    }

    /// Floats from the start of an array to the first voxel of a tile.
    std::int64_t offset(const Shape& shape, const Place& at) const {
        return at.sample * shape.elements() / shape[0] + at.third * stride(shape, axes_.third) +
               at.first[0] * stride(shape, axes_.first) + at.first[1] * stride(shape, axes_.second);
    }

    void run_strip(std::int64_t first_tile, std::int64_t tiles, float* memory) const {
        float* const products = memory + winograd_products * strip_ * in_[1];
        for (std::int64_t t = 0; t < tiles; ++t)
            transform_input(place(first_tile + t), memory + t * in_[1]);
        for (const VectorBlock& block : blocks_) {
            for (std::int64_t p = 0; p < winograd_products; ++p)
                multiply(block, p, tiles, memory + p * strip_ * in_[1], products + p * strip_ * widest_);
            for (std::int64_t t = 0; t < tiles; ++t)
                transform_output(block, place(first_tile + t), products + t * widest_);
        }
    }

    void transform_input(const Place& at, float* output) const {
        WinogradInput t;
        t.stride = {stride(in_, axes_.first), stride(in_, axes_.second)};
        t.voxels = arguments_.input<float>(0) + offset(in_, at) - t.stride[0] - t.stride[1];
        const WinogradAxes extents = {extent(in_, axes_.first), extent(in_, axes_.second)};
        for (std::size_t axis = 0; axis < 2; ++axis) {
            t.begin[axis] = at.first[axis] == 0 ? 1 : 0;
            t.end[axis] = std::min(winograd_inputs, extents[axis] - at.first[axis] + 1);
        }
        t.channels = in_[1];
        t.output = output;
        t.plane = strip_ * in_[1];
        kernels_.transform_input(t);
    }

    /// One product of all tiles: [tile][input channel] by [input channel][channel of the block].
    void multiply(const VectorBlock& block, std::int64_t product, std::int64_t tiles, const float* inputs,
                  float* outputs) const {
        const std::int64_t voxels = block.kernel->voxels;
        ConvolutionTile t;
        t.inputs = &inputs;
        t.taps = 1;
        t.length = in_[1];
        t.is_even = true;
        t.step = in_[1];
        t.weights = weights_.data() + (product * out_[1] + block.begin * kernels_.lanes) * in_[1];
        t.bias = zeros_.data();
        t.stride = widest_;
        t.channels = block.vectors * kernels_.lanes;
        for (std::int64_t tile = 0; tile < tiles; tile += voxels, inputs += voxels * in_[1]) {
            t.output = outputs + tile * widest_;
            t.voxels = std::min(voxels, tiles - tile);
            block.kernel->convolve(t);
        }
    }

    void transform_output(const VectorBlock& block, const Place& at, const float* products) const {
        const std::int64_t first = block.begin * kernels_.lanes;
        const auto* residual = static_cast<const float*>(arguments_.residual);
        const std::int64_t begin = offset(out_, at) + first;
        WinogradOutput t;
        t.products = products;
        t.plane = strip_ * widest_;
        t.bias = bias_.data() + first;
        t.residual = residual ? residual + begin : nullptr;
        t.output = static_cast<float*>(arguments_.output) + begin;
        t.stride = {stride(out_, axes_.first), stride(out_, axes_.second)};
        t.count = {std::min(winograd_outputs, extent(out_, axes_.first) - at.first[0]),
                   std::min(winograd_outputs, extent(out_, axes_.second) - at.first[1])};
        t.channels = block.vectors * kernels_.lanes;
        t.activation = activation_;
        kernels_.transform_output(t);
    }

    /// The transformed inputs of a strip, and its products for one block of output channels.
    std::int64_t slot_bytes() const {
        return rounded_up(winograd_products * strip_ * (in_[1] + widest_) * static_cast<std::int64_t>(sizeof(float)),
                          64);
    }

    const WinogradKernels& kernels_ = winograd_kernels();
    Shape in_, out_;
    TileAxes axes_;
    Activation activation_;
    std::int64_t tiles_ = 0;
    std::vector<VectorBlock> blocks_; ///< of output channels
    std::int64_t widest_ = 0;         ///< channels of a block
    std::int64_t strip_ = 0;          ///< tiles: whole calls of the kernels
    std::int64_t parts_ = 1;
    std::optional<Slots> slots_;
    AlignedVector<float> weights_, bias_, zeros_;
    OpArguments arguments_;
};

} // namespace

bool can_convolve_by_winograd(const ConvolutionSpec& spec) {
    const int lanes = winograd_kernels().lanes;
    return spec.conv.groups == 1 && tile_axes(spec.conv) && spec.in[1] % lanes == 0 && spec.out[1] % lanes == 0;
}

bool winograd_is_faster(const ConvolutionSpec& spec, double direct_products) {
    constexpr double most_weight_bytes = 2.5 * (1 << 20);
    // What the transforms of a vector of channels take, as products: 130 cycles for the input and 110 for the output.
    constexpr double input_transform = 260.0;
    constexpr double output_transform = 220.0;
    if (!can_convolve_by_winograd(spec))
        return false;
    const double channels = static_cast<double>(spec.in[1]) * static_cast<double>(spec.out[1]);
    if (static_cast<double>(winograd_products * sizeof(float)) * channels > most_weight_bytes)
        return false;
    const double lanes = winograd_kernels().lanes;
    const double tile = winograd_products * channels / lanes +
                        input_transform * static_cast<double>(spec.in[1]) / lanes +
                        output_transform * static_cast<double>(spec.out[1]) / lanes;
    return tile * static_cast<double>(tiles_of(spec.out, *tile_axes(spec.conv))) <
           direct_products * static_cast<double>(spec.output_voxels());
}

std::unique_ptr<InferenceOp> make_winograd_convolution(const ConvolutionSpec& spec) {
    return std::make_unique<WinogradConvolutionOp>(spec);
}

} // namespace mfres::kernels
