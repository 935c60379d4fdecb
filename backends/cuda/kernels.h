// SPDX-License-Identifier: MIT
// The kernels of this backend as a table of functions, so that one program can hold them twice: compiled for GPUs, and
// compiled for the host, where the tests check them against the reference backend. Arrays are channels last; pointers
// point into the engine's memory. Every sum is taken in an order that depends on shapes alone.
#pragma once

#include "backends/cuda/element.h"
#include "graph/rewrite.h"

#include <cstdint>

namespace mfres::cuda {

/// A cudaStream_t; null on the host.
using Stream = void*;

/// Channels [from, from + count) of every voxel of an array with `stride` channels, which stand for the channels from
/// `to` on of what is read.
struct Part {
    const void* data = nullptr;
    std::int64_t stride = 0;
    std::int64_t from = 0;
    std::int64_t to = 0;
    std::int64_t count = 0;
};

/// The sum of parts; what none covers reads as zero.
struct Parts {
    static constexpr int most = 8;
    Part parts[most];
    int count = 0;
};

/// n(x) of one operand. Tables are [group][channel], a group being `group_voxels` voxels that follow each other. In a sum
/// activation(n(x)), with tables of `table_channels` that begin at the first channel of x.
struct Operand {
    Part x;
    const float* mean = nullptr;   ///< null: 0
    const float* factor = nullptr; ///< null: 1
    const float* offset = nullptr; ///< null: 0
    const float* weight = nullptr; ///< one factor for all channels; null: 1
    std::int64_t group_voxels = INT64_MAX;
    std::int64_t table_channels = 0; ///< 0: those of x
    Activation activation;
};

/// y = activation(sum of n_k(x_k)) for channels [first, first + channels) of the operands.
struct SumArguments {
    static constexpr int most = 8;
    Operand operands[most];
    int count = 0;
    Activation activation;
    std::int64_t voxels = 0;
    std::int64_t first = 0;
    std::int64_t channels = 0;
    void* y = nullptr;
    std::int64_t y_stride = 0; ///< channels of the array of y; 0: `channels`
    std::int64_t y_from = 0;   ///< where among them y begins

    MFRES_ANYWHERE std::int64_t stride() const { return y_stride == 0 ? channels : y_stride; }
};

/// A tensor cut into chunks of voxels, none across samples.
struct Chunking {
    std::int64_t samples = 0;
    std::int64_t voxels = 0; ///< of one sample
    std::int64_t channels = 0;
    std::int64_t per_sample = 0; ///< chunks

    MFRES_ANYWHERE std::int64_t chunks() const { return samples * per_sample; }
    MFRES_ANYWHERE std::int64_t first(std::int64_t chunk) const {
        return chunk / per_sample * voxels + voxels * (chunk % per_sample) / per_sample;
    }
    MFRES_ANYWHERE std::int64_t end(std::int64_t chunk) const {
        return chunk / per_sample * voxels + voxels * (chunk % per_sample + 1) / per_sample;
    }
};

/// Parts of an array for `samples` x `voxels` voxels: enough for a large GPU, none below some ten thousand elements.
Chunking chunking(std::int64_t samples, std::int64_t voxels, std::int64_t channels);

/// From the totals: mean, factor = scale / sqrt(variance + epsilon), offset = shift, and deviation = 1 / sqrt(...);
/// running statistics move where there are any.
struct NormTables {
    std::int64_t groups = 1;
    std::int64_t channels = 0;
    std::int64_t voxels = 0; ///< of one group
    double epsilon = 0.0;
    double momentum = 0.0;
    const double* totals = nullptr;
    const float* pivot = nullptr;
    const float* scale = nullptr;
    const float* shift = nullptr;
    float* running_mean = nullptr;
    float* running_variance = nullptr;
    float* mean = nullptr;
    float* factor = nullptr;
    float* offset = nullptr;
    double* deviation = nullptr;
};

/// Sums by chunk, [chunk][kind][channel], and what becomes of them, [group][kind][channel]. `pivot` [group][channel] is
/// taken off before anything is squared.
struct StatisticsArguments {
    Chunking chunks;
    std::int64_t groups = 1; ///< 1, or one per sample
    Part x;
    float* pivot = nullptr;
    double* partials = nullptr;
    double* totals = nullptr;          ///< kinds: sum of x - pivot, sum of its square
    std::uint32_t* counters = nullptr; ///< zeros, one per channel; zeros again afterwards
    bool with_tables = false;          ///< norm_tables() is part of it
    NormTables tables;
};

/// How a gradient gets through the activation: as it is, by the sign of n(x), of the sum of two n(x), or of an array.
enum class Mask : std::uint8_t { none, by_operand, by_operands, by_array };

/// With S = sum of g, D = sum of g (x - mean), n voxels of a group, s = deviation: d scale = s D, d shift = S,
/// dx = own g + centred (x - mean) + constant with own = scale s, and unless statistics are fixed
/// centred = -own s^2 D / n, constant = -own S / n.
struct NormGradientTables {
    std::int64_t groups = 1;
    std::int64_t channels = 0;
    std::int64_t voxels = 0;
    bool fixed = false;
    double share = 1.0;                   ///< of the totals that counts for d scale and d shift
    std::int64_t kinds = 2, own_kind = 1; ///< of the totals, and which of them is D
    const double* totals = nullptr;
    const double* deviation = nullptr;
    const float* scale = nullptr;
    float* scale_gradient = nullptr;
    float* shift_gradient = nullptr;
    float* own = nullptr;
    float* centred = nullptr;
    float* constant = nullptr;
};

/// g = mask(sum of parts), left in `store` if that is not null; and unless `partials` is null its sums with an operand,
/// kinds: sum of g, sum of g (x - mean), and the same with a second operand's x if it has data.
struct GradientArguments {
    Chunking chunks;
    std::int64_t groups = 1;
    Parts gradient;
    Mask mask = Mask::none;
    Activation activation;
    Part sign; ///< of Mask::by_array
    Operand operand, second;
    void* store = nullptr;
    double* partials = nullptr;
    double* totals = nullptr;
    std::uint32_t* counters = nullptr; ///< with partials: zeros, one per channel; zeros again afterwards
    bool with_tables = false;          ///< norm_gradient_tables() is part of it
    NormGradientTables tables, second_tables;
    float* bias_gradient = nullptr; ///< [c] = the totals' first kind; null: not wanted
};

/// What InputGradientArguments writes of one operand: dx from the tables above.
struct InputGradientTarget {
    Operand operand;
    const float* own = nullptr;
    const float* centred = nullptr;
    const float* constant = nullptr;
    void* dx = nullptr;         ///< null: not wanted
    std::int64_t dx_stride = 0; ///< channels of the array of dx
    std::int64_t dx_from = 0;   ///< where among them dx begins
};

/// dx of one or two operands from the tables above, or with a weight dx = weight g. An array that is a part as a whole may be
/// overwritten.
struct InputGradientArguments {
    std::int64_t voxels = 0;
    std::int64_t channels = 0;
    Parts gradient;
    Mask mask = Mask::none; ///< not by_array
    Activation activation;
    InputGradientTarget target, second;
};

/// An array [batch, x, y, z, channel].
struct Extents {
    std::int64_t batch = 0, x = 0, y = 0, z = 0, channels = 0;
    MFRES_ANYWHERE std::int64_t voxels() const { return x * y * z; }
};

struct PoolArguments {
    Extents in, out;
    std::int64_t kernel[3]{}, stride[3]{}; ///< of max_pool
    const void* x = nullptr;               ///< for the gradient of max_pool too
    const void* dy = nullptr;              ///< of a gradient
    void* y = nullptr;                     ///< or dx
};

/// What the positions along an axis read, and for the gradient which positions read a source: [first, end).
struct AxisTable {
    const std::int32_t* low = nullptr;
    const std::int32_t* high = nullptr;
    const float* fraction = nullptr; ///< weight of `high`
    const std::int32_t* first = nullptr;
    const std::int32_t* end = nullptr;
};

struct UpsampleArguments {
    Extents in, out;
    AxisTable axes[3];
    const void* x = nullptr;
    std::int64_t x_stride = 0;      ///< channels of the array of x; 0: those of `in`
    std::int64_t x_from = 0;        ///< where among them x begins
    const void* residual = nullptr; ///< dense, added before the activation; or null
    Activation activation;
    Parts dy; ///< of a gradient
    void* y = nullptr;
    std::int64_t y_stride = 0; ///< channels of the array of y; 0: those of `out`, or for a gradient of `in`
    std::int64_t y_from = 0;   ///< where among them y begins

    MFRES_ANYWHERE std::int64_t stride() const { return y_stride == 0 ? out.channels : y_stride; }
    MFRES_ANYWHERE std::int64_t gradient_stride() const { return y_stride == 0 ? in.channels : y_stride; }
    /// The array of x.
    MFRES_ANYWHERE Extents source() const {
        return {in.batch, in.x, in.y, in.z, x_stride == 0 ? in.channels : x_stride};
    }
};

struct SoftmaxArguments {
    std::int64_t voxels = 0;
    std::int64_t channels = 0;
    const void* x = nullptr; ///< for the gradient: the probabilities
    const void* dy = nullptr;
    void* y = nullptr; ///< or dx
};

/// The pointwise part of a loss; see PointwiseLoss and PointwiseRule.
struct PointwiseArguments {
    float weight = 0.0F; ///< 0 = there is no such part
    float gamma = 0.0F;
    float threshold = -1.0F;
    float at_threshold = 1.0F;
};

/// Class sums of logits, kinds in the order of ClassSums, [group][kind][class]; and the gradient from slopes
/// [group][kind][class] with the kinds of ClassSlope, times `scale`. With groups each sample is one.
struct LossArguments {
    Chunking chunks;
    const void* logits = nullptr;
    const std::uint8_t* classes = nullptr;
    std::int64_t groups = 1; ///< 1, or one per sample
    bool regions = false;    ///< see Outputs
    std::uint8_t region_masks[3] = {};
    double* partials = nullptr;
    double* totals = nullptr;
    std::uint32_t* counters = nullptr; ///< zeros, one per class; zeros again afterwards
    const float* slopes = nullptr;
    float scale = 1.0F;
    void* gradient = nullptr;
    PointwiseArguments pointwise;
    const float* targets = nullptr; ///< of distillation, [sample][channel][voxel]; null without it
    float distillation = 0.0F;      ///< DistillationRule's weight over its temperature
    float inverse_temperature = 1.0F;
    std::uint32_t prefix = 0; ///< of counted digits; see CountDigits
    int shift = 0;
    std::uint32_t* counts = nullptr; ///< one per digit, added to
};

/// Classes of every `step`-th voxel along each axis.
struct NthArguments {
    Extents first, own;
    std::int64_t step = 1;
    const std::uint8_t* from = nullptr;
    std::uint8_t* to = nullptr;
};

/// Weights [out][in][tap], or merged rows, to [out][tap][in] and back.
struct WeightOrder {
    std::int64_t out = 0, in = 0, taps = 0;

    std::int64_t count() const { return out * in * taps; }
};

/// One parameter among the flat arrays, which its convolution reads and writes in the order and type of the engine. The
/// parameters of convolutions that run as one are packed one behind the other.
struct PackedParameter {
    std::int64_t first = 0; ///< of its floats
    std::int64_t group = 0; ///< the packed element at which those packed together begin
    std::int64_t begin = 0; ///< of its own among their elements
    WeightOrder order;
    ElementType gradient_type = ElementType::f32; ///< of its packed gradient, whose elements have 4 bytes of space each
};

/// The parameters that are packed; `parameter_of_line` says for every 16 floats which one they belong to, or -1.
struct PackingTable {
    std::int64_t first_line = 0, lines = 0; ///< that are to be packed
    const PackedParameter* parameters = nullptr;
    const std::int32_t* parameter_of_line = nullptr;
    ElementType type = ElementType::f32; ///< of packed values
    void* packed_values = nullptr;
    const void* packed_gradients = nullptr;
};

/// The optimiser over flat arrays; `lines` says for every 16 floats whether they are learned. See OptimiserStep.
struct UpdateArguments {
    std::int64_t lines = 0;
    const std::uint8_t* learned = nullptr;
    const float* gradients = nullptr;
    float* values = nullptr;
    float* first_moment = nullptr;
    float* second_moment = nullptr;
    float* largest_second_moment = nullptr; ///< null without AMSGrad
    double gradient_factor = 1.0;           ///< clipping, and the loss scale taken back
    double l2 = 0.0, beta1 = 0.0, beta2 = 0.0, epsilon = 0.0, learning_rate = 0.0;
    double correction1 = 1.0, correction2 = 1.0;
    PackingTable packing; ///< new values are packed, too
};

/// One sum of many values in double precision.
struct WholeSum {
    static constexpr std::int64_t most_partials = 1024;

    double* partials = nullptr; ///< most_partials of them
    double* total = nullptr;
    std::uint32_t* counter = nullptr; ///< zero; zero again afterwards
};

/// One crop cut out of a case; see CropRequest.
struct CropArguments {
    std::int64_t size[3]{}, extents[3]{};
    std::int64_t column[3][3]{}, start[3]{}; ///< see CropWalk
    const void* quanta[4]{};
    bool wide[4]{};
    float scale[4]{}, offset[4]{};
    const std::uint8_t* case_classes = nullptr;
    const std::uint8_t* case_brain = nullptr;
    float* images = nullptr;         ///< [4][x][y][z]
    std::uint8_t* classes = nullptr; ///< [x][y][z], as `brain`
    std::uint8_t* brain = nullptr;
};

/// The z-scores of one modality changed inside the brain; see IntensityChange. With a gamma other than 1 `extremes`
/// holds the least and the greatest of `chunks` parts, [chunk][2], and then those of all.
struct IntensityArguments {
    std::int64_t voxels = 0;
    float* image = nullptr;
    const std::uint8_t* brain = nullptr;
    float gamma = 1.0F, scale = 1.0F, shift = 0.0F, noise = 0.0F;
    bool inverted = false;
    std::uint64_t seed = 0;
    static constexpr std::int64_t chunks = 1024;
    float* extremes = nullptr;
};

/// A convolution by its definition; see ConvolutionSpec and ConvolutionArrays. `workspace` holds the partial sums of a
/// weight gradient, one double per chunk and weight.
struct ConvolutionArguments {
    Extents in, out;
    std::int64_t kernel[3]{}, stride[3]{}, dilation[3]{}, padding[3]{};
    std::int64_t in_group = 0, out_group = 0; ///< channels of one group
    Activation activation;
    const void* x = nullptr;
    const void* dy = nullptr;
    const void* weights = nullptr;
    const float* bias = nullptr;
    const void* residual = nullptr;
    void* result = nullptr; ///< floats for a weight gradient
    Chunking chunks;        ///< of the output's voxels, with the weights as channels
    double* workspace = nullptr;

    MFRES_ANYWHERE std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
};

/// A convolution of stride 1 that keeps the grid, of narrow values: it reads the sum of two ranges of channels and writes a
/// range, y = activation(conv(a + b) + bias). Weights are [tap][in][out].
struct PartConvolutionArguments {
    Extents grid; ///< channels: those of y
    std::int64_t in = 0;
    std::int64_t kernel[3]{}, dilation[3]{}, padding[3]{};
    Part a, b; ///< b: without data if there is one summand alone
    Activation activation;
    const float* weights = nullptr;
    const float* bias = nullptr;
    void* y = nullptr;
    std::int64_t y_stride = 0, y_from = 0; ///< of the array of y
    Part through;                          ///< as many channels as y has, copied beside it; or without data
    std::int64_t through_to = 0;           ///< where in the array of y

    MFRES_ANYWHERE std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
};

/// y = second(first(x)), two pointwise convolutions with an activation each, without the value between them. Weights are
/// [middle][in] and [middle][out].
struct PointwisePairArguments {
    static constexpr int most = 16; ///< channels of x and of y
    std::int64_t voxels = 0;
    std::int64_t in = 0, middle = 0, out = 0;
    const void* x = nullptr;
    const float *first = nullptr, *first_bias = nullptr;
    Activation first_activation;
    const float *second = nullptr, *second_bias = nullptr;
    Activation second_activation;
    void* y = nullptr;
};

struct Kernels {
    void (*part_convolution)(Stream, ElementType, const PartConvolutionArguments&);
    void (*pointwise_pair)(Stream, ElementType, const PointwisePairArguments&);
    void (*convolution)(Stream, ElementType, const ConvolutionArguments&);
    void (*convolution_source_gradient)(Stream, ElementType, const ConvolutionArguments&);
    void (*convolution_weight_gradient)(Stream, ElementType, const ConvolutionArguments&);
    void (*sum)(Stream, ElementType, const SumArguments&);
    void (*statistics)(Stream, ElementType, const StatisticsArguments&);
    void (*norm_tables)(Stream, const NormTables&);
    /// The same from running statistics.
    void (*fixed_norm_tables)(Stream, const NormTables&);
    /// Totals of `voxels` voxels around `pivot` become those around the running means, which then are the pivot.
    void (*move_pivot)(Stream, const NormTables&, float* pivot, std::int64_t voxels, double* totals);
    void (*gradient)(Stream, ElementType, const GradientArguments&);
    void (*norm_gradient_tables)(Stream, const NormGradientTables&);
    /// gradient[0] = sum over channels of the totals' second kind.
    void (*weight_gradient)(Stream, const double* totals, std::int64_t channels, float* gradient);
    void (*input_gradient)(Stream, ElementType, const InputGradientArguments&);
    void (*max_pool)(Stream, ElementType, const PoolArguments&);
    void (*max_pool_gradient)(Stream, ElementType, const PoolArguments&);
    void (*average_pool)(Stream, ElementType, const PoolArguments&);
    void (*average_pool_gradient)(Stream, ElementType, const PoolArguments&);
    void (*upsample)(Stream, ElementType, const UpsampleArguments&);
    void (*upsample_gradient)(Stream, ElementType, const UpsampleArguments&);
    void (*softmax)(Stream, ElementType, const SoftmaxArguments&);
    void (*softmax_gradient)(Stream, ElementType, const SoftmaxArguments&);
    /// y: one byte per voxel, the class with the greatest x, the lowest of equally great ones; 255 where one of a
    /// voxel's x is not finite. For up to 255 channels.
    void (*argmax)(Stream, ElementType, const SoftmaxArguments&);
    void (*class_sums)(Stream, ElementType, const LossArguments&);
    /// Of one group and without a pointwise part.
    void (*loss_gradient)(Stream, ElementType, const LossArguments&);
    /// Of any loss; totals: the members of VoxelSums.
    void (*whole_loss_gradient)(Stream, ElementType, const LossArguments&);
    /// Counts of the digits of the pointwise values.
    void (*count_digits)(Stream, ElementType, const LossArguments&);
    /// sums.total[0] = sum of squares of learned gradients.
    void (*squares)(Stream, const UpdateArguments&, const WholeSum& sums);
    void (*update)(Stream, const UpdateArguments&);
    /// Floats [batch][channel][voxel] to elements [batch][voxel][channel], times `factor`, and back.
    void (*from_planes)(Stream, ElementType, std::int64_t batch, std::int64_t voxels, std::int64_t channels,
                        const float* x, float factor, void* y);
    void (*to_planes)(Stream, ElementType, std::int64_t batch, std::int64_t voxels, std::int64_t channels,
                      const void* x, float factor, float* y);
    void (*pack_weights)(Stream, ElementType, const WeightOrder&, const float* x, void* y);
    /// All parameters of a table at once.
    void (*pack_parameters)(Stream, const PackingTable&, const float* values);
    void (*unpack_gradients)(Stream, const PackingTable&, float* gradients);
    void (*cut_crop)(Stream, const CropArguments&);
    void (*change_intensity)(Stream, const IntensityArguments&);
    void (*every_nth)(Stream, const NthArguments&);
};

/// Compiled for the host: what the tests check.
const Kernels& host_kernels();
/// Compiled for GPUs. Only in a build with CUDA.
const Kernels& gpu_kernels();

} // namespace mfres::cuda
