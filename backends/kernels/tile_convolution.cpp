// SPDX-License-Identifier: MIT
#include "backends/kernels/tile_convolution.h"

#include "backends/kernels/slots.h"
#include "backends/kernels/threads.h"
#include "backends/kernels/tile_kernels.h"
#include "core/rounding.h"
#include "core/try.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

namespace mfres::kernels {

namespace {

/// Size of what a strip needs besides the arrays, and the most voxels and tiles that it has.
constexpr std::int64_t strip_bytes = 1 << 16;
constexpr std::int64_t strip_voxels = 192;
constexpr std::int64_t most_strip_tiles = 64;

/// Output channels that a tile computes together, all of one group.
struct Block {
    const TileKernel* kernel = nullptr;
    std::int64_t first_input = 0, first_output = 0, channels = 0;
    std::int64_t weights = 0, bias = 0; ///< where they begin
};

/// A convolution as it is computed: in blocks, with packed weights.
struct BlockedConvolution {
    Conv conv;
    Shape in, out;
    Activation activation;
    const TileKernels* kernels = nullptr;
    std::int64_t inputs_per_group = 0; ///< after groups were merged
    std::int64_t groups = 1;
    std::int64_t voxels = 0; ///< of a tile
    /// Tiles begin anew in each line of the output, and where one reaches beyond the input along z, what it reads is
    /// copied with zeros around it. Otherwise tiles continue in the next line, and each voxel has pointers of its own.
    bool by_lines = false;
    std::vector<Block> blocks;
    AlignedVector<float> weights, bias, zeros;

    std::int64_t taps() const { return conv.kernel[0] * conv.kernel[1] * conv.kernel[2]; }
    std::int64_t output_voxels() const { return out.elements() / out[1]; }
    std::int64_t tiles_per_line() const { return quotient_up(out[4], voxels); }
    std::int64_t tiles() const {
        return by_lines ? output_voxels() / out[4] * tiles_per_line() : quotient_up(output_voxels(), voxels);
    }
    /// Input voxels along z that a whole tile reads, as floats.
    std::int64_t span() const {
        return ((voxels - 1) * conv.stride[2] + (conv.kernel[2] - 1) * conv.dilation[2] + 1) * in[1];
    }
    /// What a tile needs besides the arrays: pointers, and copies of what it reads.
    std::int64_t tile_pointers() const { return taps() * voxels; }
    std::int64_t tile_floats() const { return by_lines ? conv.kernel[0] * conv.kernel[1] * span() : 0; }
    /// Whether an output voxel reads the input voxel of the same index alone.
    bool pointwise() const { return taps() == 1 && conv.stride == Axes{1, 1, 1} && conv.padding == Axes{0, 0, 0}; }
    /// Whether input values of neighbouring offsets along z follow each other in memory.
    bool joins_z() const { return groups == 1 && (conv.dilation[2] == 1 || conv.kernel[2] == 1); }
};

/// The pair of kernels for `vectors` vectors of output channels: the one that loads least for each voxel. A block loads one
/// input value at a time, and shares its weights, which often come from the second-level cache, with the other voxels of
/// the tile.
std::span<const TileKernel> choose_kernels(std::span<const TileKernel> all, std::int64_t vectors) {
    std::size_t best = 0;
    double least = 0.0;
    for (std::size_t pair = 0; pair < all.size(); pair += 2) {
        const std::int64_t blocks = quotient_up(vectors, all[pair].vectors);
        if (vectors / blocks < all[pair + 1].vectors)
            continue; // a block would be narrower than both
        const double loads = static_cast<double>(blocks) + 2.0 * static_cast<double>(vectors) / all[pair].voxels;
        if (least == 0.0 || loads < least) {
            best = pair;
            least = loads;
        }
    }
    return all.subspan(best, 2);
}

/// As many groups as fit into one vector of output channels become one, with zero weights between them.
std::int64_t merged_groups(const Conv& conv) {
    const std::int64_t outputs = conv.out_channels / conv.groups;
    std::int64_t merged = 1;
    for (std::int64_t count = 2; count * outputs <= tile_kernels().lanes && count <= conv.groups; ++count)
        if (conv.groups % count == 0)
            merged = count;
    return merged;
}

class Packing {
  public:
    explicit Packing(const ConvolutionSpec& spec)
        : spec_(spec), merged_(merged_groups(spec.conv)), kernels_(tile_kernels(merged_ * spec.outputs_per_group())) {
        made_.conv = spec.conv;
        made_.in = spec.in;
        made_.out = spec.out;
        made_.activation = spec.activation;
        made_.groups = spec.conv.groups / merged_;
        made_.inputs_per_group = spec.in[1] / made_.groups;
        made_.kernels = &kernels_;
        made_.zeros.assign(static_cast<std::size_t>(spec.in[1]), 0.0F);
    }

    BlockedConvolution pack() {
        const std::int64_t outputs = spec_.conv.out_channels / made_.groups;
        const std::int64_t vectors = quotient_up(outputs, kernels_.lanes);
        const auto blocks = divide_into_blocks(kernels_, vectors);
        made_.voxels = blocks.front().kernel->voxels;
        for (std::int64_t group = 0; group < made_.groups; ++group)
            for (const VectorBlock& block : blocks)
                add_block(*block.kernel, group, outputs, block.begin * kernels_.lanes);
        fill_blocks();
        made_.by_lines = lines_are_faster(vectors);
        return std::move(made_);
    }

  private:
    /// Estimates cycles for a line of the output: two products, a vector copied, or a thirtieth of what a tile needs to
    /// start a kernel offset whose voxels have pointers of their own.
    bool lines_are_faster(std::int64_t vectors) const {
        if (made_.pointwise())
            return false;
        const BlockedConvolution& c = made_;
        const auto tile = static_cast<double>(c.taps() * c.inputs_per_group * vectors * c.voxels / 2);
        const double tiles = static_cast<double>(c.out[4]) / static_cast<double>(c.voxels);
        const bool padded = c.conv.padding[2] > 0;
        const double uneven = std::min(tiles, (padded ? 2.0 : 0.0) + (c.out[4] % c.voxels != 0 ? 0.7 : 0.0));
        constexpr double start = 30.0;
        const double anywhere =
            tiles * tile + uneven * start * static_cast<double>(c.taps() * std::ssize(c.blocks) / c.groups);
        const double copy =
            static_cast<double>(c.conv.kernel[0] * c.conv.kernel[1] * c.span()) / static_cast<double>(kernels_.lanes);
        const double by_lines = static_cast<double>(c.tiles_per_line()) * tile + (padded ? 2.0 : 1.0) * 2.0 * copy;
        return by_lines < anywhere;
    }

    void add_block(const TileKernel& kernel, std::int64_t group, std::int64_t outputs, std::int64_t begin) {
        const std::int64_t width = std::int64_t{kernel.vectors} * kernels_.lanes;
        made_.blocks.push_back({&kernel, group * made_.inputs_per_group, group * outputs + begin,
                                std::min(outputs - begin, width), weights_, bias_});
        weights_ += made_.taps() * made_.inputs_per_group * width;
        bias_ += width;
    }

    /// Weights of a block in the order [tap][input channel][output channel], zero where a vector has more channels than there
    /// are outputs, and between an output and inputs of other groups.
    void fill_blocks() {
        made_.weights.resize(static_cast<std::size_t>(weights_));
        made_.bias.assign(static_cast<std::size_t>(bias_), 0.0F);
        if (spec_.bias)
            for (const Block& block : made_.blocks)
                std::copy_n(spec_.bias->data() + block.first_output, block.channels, made_.bias.data() + block.bias);
        parallel_for(made_.inputs_per_group, spec_.threads, [&](std::int64_t begin, std::int64_t end, int) {
            for (const Block& block : made_.blocks)
                for (std::int64_t i = begin; i < end; ++i)
                    fill(block, i);
        });
    }

    /// The weights of input channel `i` of a block.
    void fill(const Block& block, std::int64_t i) {
        const std::int64_t inputs = spec_.in[1] / spec_.conv.groups;
        const std::int64_t outputs = spec_.conv.out_channels / spec_.conv.groups;
        const std::int64_t input = block.first_input + i;
        const std::int64_t group = input / inputs;
        const std::int64_t width = std::int64_t{block.kernel->vectors} * kernels_.lanes;
        const std::int64_t taps = made_.taps();
        const std::int64_t begin = std::max(block.first_output, group * outputs);
        const std::int64_t end = std::min(block.first_output + block.channels, (group + 1) * outputs);
        const float* from = spec_.weights->data() + (begin * inputs + input % inputs) * taps;
        float* to = made_.weights.data() + block.weights + i * width;
        for (std::int64_t tap = 0; tap < taps; ++tap, ++from, to += made_.inputs_per_group * width) {
            if (end - begin < width)
                std::fill_n(to, width, 0.0F);
            for (std::int64_t output = begin; output < end; ++output)
                to[output - block.first_output] = from[(output - begin) * inputs * taps];
        }
    }

    const ConvolutionSpec& spec_;
    std::int64_t merged_;
    const TileKernels& kernels_;
    BlockedConvolution made_;
    std::int64_t weights_ = 0, bias_ = 0; ///< floats of the blocks so far
};

/// The input of the tiles of a range of output voxels, and their computation.
class StripRun {
  public:
    /// `workspace` has the pointers of `tiles` tiles, then their copies.
    StripRun(const BlockedConvolution& convolution, const OpArguments& arguments, std::byte* workspace,
             std::int64_t tiles)
        : c_(convolution), arguments_(arguments), pointers_(reinterpret_cast<const float**>(workspace)),
          copies_(reinterpret_cast<float*>(pointers_ + tiles * c_.tile_pointers())), strip_tiles_(tiles) {}

    void run(std::int64_t first_tile, std::int64_t end) {
        for (std::int64_t index = first_tile; index < end;) {
            Tile* last = tiles_.data();
            for (std::int64_t slot = 0; slot < strip_tiles_ && index < end; ++slot, ++index)
                *last++ = c_.by_lines ? tile_of_line(index, slot) : tile(index, slot);
            for (const Block& block : c_.blocks)
                for (const Tile* each = tiles_.data(); each < last; ++each)
                    compute(block, *each);
        }
    }

  private:
    struct Tile {
        std::int64_t voxel = 0, voxels = 0; ///< the first one of the output, and how many
        const float* const* inputs = nullptr;
        bool is_even = false;
    };

    /// Where a voxel of the output lies.
    struct Place {
        std::int64_t sample, x, y, z;
    };

    Place place(std::int64_t voxel) const {
        const Shape& out = c_.out;
        return {voxel / out[4] / out[3] / out[2], voxel / out[4] / out[3] % out[2], voxel / out[4] % out[3],
                voxel % out[4]};
    }

    std::int64_t source(std::size_t axis, std::int64_t index, std::int64_t offset) const {
        return index * c_.conv.stride[axis] - c_.conv.padding[axis] + offset * c_.conv.dilation[axis];
    }

    bool inside(std::size_t axis, std::int64_t position) const {
        return position >= 0 && position < c_.in[static_cast<int>(axis) + 2];
    }

    /// The input voxel at (x, y, z), which may lie outside along z.
    const float* input(std::int64_t sample, std::int64_t x, std::int64_t y, std::int64_t z) const {
        return arguments_.input<float>(0) + (((sample * c_.in[2] + x) * c_.in[3] + y) * c_.in[4] + z) * c_.in[1];
    }

    /// Whether all input voxels of a whole tile lie inside along z, one step apart.
    bool is_even(const Place& at) const {
        return at.z + c_.voxels <= c_.out[4] && inside(2, source(2, at.z, 0)) &&
               inside(2, source(2, at.z + c_.voxels - 1, c_.conv.kernel[2] - 1));
    }

    Tile tile_of_line(std::int64_t index, std::int64_t slot) const {
        Place at = place(index / c_.tiles_per_line() * c_.out[4]);
        at.z = index % c_.tiles_per_line() * c_.voxels;
        const float** const pointers = pointers_ + slot * c_.tile_pointers();
        if (is_even(at))
            point_evenly(at, pointers);
        else
            point_at_copies(at, pointers, copies_ + slot * c_.tile_floats());
        return {index / c_.tiles_per_line() * c_.out[4] + at.z, std::min(c_.voxels, c_.out[4] - at.z), pointers, true};
    }

    Tile tile(std::int64_t index, std::int64_t slot) const {
        const std::int64_t voxel = index * c_.voxels;
        const std::int64_t voxels = std::min(c_.voxels, c_.output_voxels() - voxel);
        const float** const pointers = pointers_ + slot * c_.tile_pointers();
        // A kernel reads the inputs of all its voxels, also of those that are not stored.
        if (c_.pointwise() && voxels == c_.voxels) { // all lines are one
            *pointers = arguments_.input<float>(0) + voxel * c_.in[1];
            return {voxel, voxels, pointers, true};
        }
        const Place at = place(voxel);
        const bool even = is_even(at);
        if (even)
            point_evenly(at, pointers);
        else
            point(at, voxels, pointers);
        return {voxel, voxels, pointers, even};
    }

    void point_evenly(const Place& at, const float** to) const {
        const std::int64_t along_z = c_.joins_z() ? 1 : c_.conv.kernel[2];
        for (std::int64_t a = 0; a < c_.conv.kernel[0]; ++a)
            for (std::int64_t b = 0; b < c_.conv.kernel[1]; ++b) {
                const std::int64_t x = source(0, at.x, a);
                const std::int64_t y = source(1, at.y, b);
                const bool is_inside = inside(0, x) && inside(1, y);
                for (std::int64_t c = 0; c < along_z; ++c)
                    *to++ = is_inside ? input(at.sample, x, y, source(2, at.z, c)) : nullptr;
            }
    }

    /// Copies what a whole tile reads, with zeros for what lies outside along z, and points there.
    void point_at_copies(const Place& at, const float** to, float* copy) const {
        const std::int64_t along_z = c_.joins_z() ? 1 : c_.conv.kernel[2];
        const std::int64_t first = source(2, at.z, 0);
        const std::int64_t end = first + c_.span() / c_.in[1];
        const std::int64_t low = std::clamp<std::int64_t>(first, 0, c_.in[4]);
        const std::int64_t high = std::clamp<std::int64_t>(end, low, c_.in[4]);
        for (std::int64_t a = 0; a < c_.conv.kernel[0]; ++a)
            for (std::int64_t b = 0; b < c_.conv.kernel[1]; ++b) {
                const std::int64_t x = source(0, at.x, a);
                const std::int64_t y = source(1, at.y, b);
                if (!inside(0, x) || !inside(1, y)) {
                    to = std::fill_n(to, along_z, nullptr);
                    continue;
                }
                for (std::int64_t c = 0; c < along_z; ++c)
                    *to++ = copy + c * c_.conv.dilation[2] * c_.in[1];
                copy = std::fill_n(copy, (low - first) * c_.in[1], 0.0F);
                copy = std::copy(input(at.sample, x, y, low), input(at.sample, x, y, high), copy);
                copy = std::fill_n(copy, (end - high) * c_.in[1], 0.0F);
            }
    }

    /// Pointers to every input voxel, to zeros where it lies outside; null if all voxels of the tile do.
    void point(const Place& first, std::int64_t voxels, const float** to) const {
        const float* const zeros = c_.zeros.data();
        std::fill_n(to, c_.taps() * c_.voxels, zeros);
        Place at = first;
        for (std::int64_t v = 0; v < voxels;) {
            const std::int64_t count = std::min(voxels - v, c_.out[4] - at.z);
            point_line(at, count, to + v);
            v += count;
            at = place(((at.sample * c_.out[2] + at.x) * c_.out[3] + at.y + 1) * c_.out[4]);
        }
        for (std::int64_t tap = 0; tap < c_.taps(); ++tap, to += c_.voxels)
            if (std::all_of(to, to + c_.voxels, [&](const float* each) { return each == zeros; }))
                *to = nullptr;
    }

    /// The pointers of the voxels of a tile that lie in one line.
    void point_line(const Place& at, std::int64_t count, const float** to) const {
        for (std::int64_t a = 0; a < c_.conv.kernel[0]; ++a)
            for (std::int64_t b = 0; b < c_.conv.kernel[1]; ++b) {
                const std::int64_t x = source(0, at.x, a);
                const std::int64_t y = source(1, at.y, b);
                if (!inside(0, x) || !inside(1, y)) {
                    to += c_.conv.kernel[2] * c_.voxels;
                    continue;
                }
                for (std::int64_t c = 0; c < c_.conv.kernel[2]; ++c, to += c_.voxels)
                    for (std::int64_t v = 0; v < count; ++v)
                        if (const std::int64_t z = source(2, at.z + v, c); inside(2, z))
                            to[v] = input(at.sample, x, y, z);
            }
    }

    void compute(const Block& block, const Tile& tile) const {
        const std::int64_t at = tile.voxel * c_.out[1] + block.first_output;
        const auto* residual = static_cast<const float*>(arguments_.residual);
        const bool joined = tile.is_even && c_.joins_z();
        ConvolutionTile t;
        t.inputs = tile.inputs;
        t.taps = joined ? c_.conv.kernel[0] * c_.conv.kernel[1] : c_.taps();
        t.length = c_.inputs_per_group * (joined ? c_.conv.kernel[2] : 1);
        t.offset = block.first_input;
        t.is_even = tile.is_even;
        t.step = c_.conv.stride[2] * c_.in[1];
        t.weights = c_.weights.data() + block.weights;
        t.bias = c_.bias.data() + block.bias;
        t.residual = residual ? residual + at : nullptr;
        t.output = static_cast<float*>(arguments_.output) + at;
        t.stride = c_.out[1];
        t.voxels = tile.voxels;
        t.channels = block.channels;
        t.activation = c_.activation;
        block.kernel->convolve(t);
    }

    const BlockedConvolution& c_;
    const OpArguments& arguments_;
    const float** pointers_;
    float* copies_;
    std::int64_t strip_tiles_;
    std::array<Tile, most_strip_tiles> tiles_;
};

class TileConvolutionOp final : public InferenceOp {
  public:
    explicit TileConvolutionOp(const ConvolutionSpec& spec) : convolution_(Packing(spec).pack()) {
        const BlockedConvolution& c = convolution_;
        strip_tiles_ = std::max<std::int64_t>(
            1, std::min({most_strip_tiles, strip_voxels / c.voxels, strip_bytes / tile_bytes()}));
        parts_ = spec.parts(c.tiles());
        slots_.emplace(static_cast<std::size_t>(std::min<std::int64_t>(spec.threads, parts_)));
    }

    std::string implementation() const override {
        int vectors = 0;
        for (const Block& block : convolution_.blocks)
            vectors = std::max(vectors, block.kernel->vectors);
        const TileKernels& kernels = *convolution_.kernels;
        return text("mfres:conv_tile_", convolution_.voxels, "x", vectors * kernels.lanes, ":", kernels.name);
    }
    std::int64_t workspace_bytes() const override { return static_cast<std::int64_t>(slots_->size()) * slot_bytes(); }
    std::int64_t constant_bytes() const override {
        return (std::ssize(convolution_.weights) + std::ssize(convolution_.bias) + std::ssize(convolution_.zeros)) *
               static_cast<std::int64_t>(sizeof(float));
    }
    void bind(const OpArguments& arguments) override { arguments_ = arguments; }

    void run() override {
        run_parts(static_cast<int>(parts_), [&](int part) {
            slots_->with([&](std::size_t slot) {
                const std::int64_t tiles = convolution_.tiles();
                std::byte* const workspace = arguments_.workspace + static_cast<std::int64_t>(slot) * slot_bytes();
                StripRun(convolution_, arguments_, workspace, strip_tiles_)
                    .run(tiles * part / parts_, tiles * (part + 1) / parts_);
            });
        });
    }

  private:
    std::int64_t tile_bytes() const {
        return convolution_.tile_pointers() * static_cast<std::int64_t>(sizeof(const float*)) +
               convolution_.tile_floats() * static_cast<std::int64_t>(sizeof(float));
    }
    std::int64_t slot_bytes() const { return rounded_up(strip_tiles_ * tile_bytes(), 64); }

    BlockedConvolution convolution_;
    std::int64_t strip_tiles_ = 1;
    std::int64_t parts_ = 1;
    std::optional<Slots> slots_;
    OpArguments arguments_;
};

} // namespace

std::vector<VectorBlock> divide_into_blocks(const TileKernels& all, std::int64_t vectors) {
    const auto kernels = choose_kernels(all.kernels, vectors);
    const std::int64_t count = quotient_up(vectors, kernels[0].vectors);
    std::vector<VectorBlock> blocks;
    for (std::int64_t b = 0; b < count; ++b) {
        const std::int64_t begin = vectors * b / count;
        const std::int64_t end = vectors * (b + 1) / count;
        blocks.push_back({end - begin == kernels[0].vectors ? &kernels[0] : &kernels[1], begin, end - begin});
    }
    return blocks;
}

double tile_products(const ConvolutionSpec& spec) {
    const std::int64_t merged = merged_groups(spec.conv);
    const std::int64_t vectors = quotient_up(merged * spec.outputs_per_group(), tile_kernels().lanes);
    return static_cast<double>(spec.taps() * spec.in[1] * vectors);
}

std::unique_ptr<InferenceOp> make_tile_convolution(const ConvolutionSpec& spec) {
    return std::make_unique<TileConvolutionOp>(spec);
}

} // namespace mfres::kernels
