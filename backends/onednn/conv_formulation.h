// SPDX-License-Identifier: MIT
// Equivalent formulations of a convolution for oneDNN. Which of them has a fast kernel depends on the processor.
#pragma once

#include "backends/onednn/dnnl_compat.h"
#include "core/tensor.h"
#include "graph/op.h"

#include <cstdint>
#include <string>
#include <vector>

namespace mfres::onednn {

/// How a convolution is described to oneDNN. For some formulations it has a compiled kernel, for others only gemm or a
/// reference loop.
struct Formulation {
    /// This many groups are merged into one, with zero weights between them: kernels need whole vectors of channels.
    std::int64_t merged_groups = 1;
    /// The volume is a batch of 2-D images (kernel extent 1 along x): older processors have only 2-D kernels.
    bool planes = false;
    /// The source is a copy that includes the zero padding along z: kernels for AVX2 limit the padding along z.
    bool padded_copy = false;
    /// The residual is copied to the output first, instead of being a separate operand.
    bool residual_copy = false;
};

/// Suffix for the name of a kernel: ", groups merged by 4, as planes".
std::string describe(const Formulation& form);

enum class Speed : std::uint8_t { compiled, gemm, naive };

/// Derived from the name that oneDNN gives an implementation.
Speed speed_of(const std::string& implementation);

/// Whether the implementation of this name adds a whole tensor, as binary operand behind the sum, correctly. The gemm
/// convolutions of oneDNN 2.6.3 do not, on any architecture (gemm:jit, gemm:ref). True for the kinds of which the op
/// cases have shown it, false for gemm and for names of other kinds.
bool adds_operand_correctly(const std::string& implementation);

/// A convolution with its shapes, [batch, channel, x, y, z].
struct ConvolutionShape {
    Conv conv;
    Shape in, out;
};

/// The combinations of merged groups and planes to try, cheapest first.
std::vector<Formulation> grouping_formulations(const ConvolutionShape& shape);

/// [groups,] out per group, in per group, kernel extents; the groups only if there are several.
dnnl::memory::dims weight_dims(const ConvolutionShape& shape, const Formulation& form);

/// What the arrays of a convolution hold; the bias is always f32.
struct OperandTypes {
    dnnl::memory::data_type source = dnnl::memory::data_type::f32;
    dnnl::memory::data_type weights = dnnl::memory::data_type::f32;
    dnnl::memory::data_type destination = dnnl::memory::data_type::f32;
};

/// The geometry of a formulation: channels-last activations, weights in the format that the kernel chooses, and a bias.
ConvolutionGeometry geometry(const ConvolutionShape& shape, const Formulation& form, const OperandTypes& types = {});

/// Memory descriptor of the weights [out, in/groups, kernel...] in plain order, the source of the reorder.
dnnl::memory::desc plain_weights(const dnnl::memory::dims& dims);

/// Number of floats of the weights with merged groups.
std::int64_t merged_weight_count(const ConvolutionShape& shape, std::int64_t merged);

/// Weights of merged groups: [out, merged * in/groups, taps], zero between an output and inputs of other groups.
void merge_groups(const ConvolutionShape& shape, std::int64_t merged, const float* weights, float* merged_weights);

/// The inverse, for gradients: drops the entries that merge_groups set to zero.
void split_groups(const ConvolutionShape& shape, std::int64_t merged, const float* merged_weights, float* weights);

} // namespace mfres::onednn
