// Several ways to say one convolution to oneDNN, of which some have fast kernels on a given processor and some do not.
#pragma once

#include "backends/onednn/adapter.h"
#include "core/tensor.h"
#include "graph/op.h"

#include <cstdint>
#include <string>
#include <vector>

namespace mfres::onednn {

/// One way to say the same convolution. oneDNN has fast kernels for some and a gemm or a naive loop for others, and
/// which depends on the processor.
struct Formulation {
    /// Groups taken together as one, with zeros between them: kernels want whole vectors of channels per group.
    std::int64_t merged_groups = 1;
    /// The volume as a batch of planes (kernel extent 1 along x): 2-D kernels exist for older processors.
    bool planes = false;
    /// Reads a copy with the zeros along z in it: kernels for AVX2 limit the padding there.
    bool padded_copy = false;
    /// Copies the residual to the output first, instead of adding it from where it is.
    bool residual_copy = false;
};

/// ", groups merged by 4, as planes": what a formulation adds to the kernel's name.
std::string describe(const Formulation& form);

enum class Speed : std::uint8_t { compiled, gemm, naive };

/// What oneDNN's name of an implementation says about it.
Speed speed_of(const std::string& implementation);

/// A convolution with its shapes, [batch, channel, x, y, z].
struct ConvolutionShape {
    Conv conv;
    Shape in, out;
};

/// The merged groups and planes worth asking for, cheapest first.
std::vector<Formulation> grouping_formulations(const ConvolutionShape& shape);

/// [groups,] out per group, in per group, kernel extents; the groups only if there are several.
dnnl::memory::dims weight_dims(const ConvolutionShape& shape, const Formulation& form);

/// What the arrays of a convolution hold; the bias is always f32.
struct OperandTypes {
    dnnl::memory::data_type source = dnnl::memory::data_type::f32;
    dnnl::memory::data_type weights = dnnl::memory::data_type::f32;
    dnnl::memory::data_type destination = dnnl::memory::data_type::f32;
};

/// The geometry of a formulation: channels-last activations, weights in whatever format the kernel wants, and a bias.
ConvolutionGeometry geometry(const ConvolutionShape& shape, const Formulation& form, const OperandTypes& types = {});

/// Memory descriptor of the weights [out, in/groups, kernel...] in plain order, for the reorder into the kernel's.
dnnl::memory::desc plain_weights(const dnnl::memory::dims& dims);

/// Floats of the weights with groups taken together.
std::int64_t merged_weight_count(const ConvolutionShape& shape, std::int64_t merged);

/// Weights of groups taken together: [out, merged * in/groups, taps], zero where an output met another group's input.
void merge_groups(const ConvolutionShape& shape, std::int64_t merged, const float* weights, float* merged_weights);

/// The way back, for gradients: drops what merge_groups filled with zeros.
void split_groups(const ConvolutionShape& shape, std::int64_t merged, const float* merged_weights, float* weights);

} // namespace mfres::onednn
