// SPDX-License-Identifier: MIT
// Options and layers that several networks share.
#pragma once

#include "graph/graph.h"
#include "networks/schema.h"

namespace mfres {

/// Allowed channel counts of a variant's layer; they keep sizes far from overflow.
inline constexpr Range width_range{1, 4096};

enum class Upsamplings : std::uint8_t { interpolations, interpolations_and_transposed };

/// The options of a network: input_channels and classes, its own, then norm and activation with these defaults, and
/// interpolation, which may be "transposed" too where all upsampling is Layers::upsample().
std::vector<Option> network_options(std::vector<Option> own, std::string norm, std::string activation,
                                    Upsamplings upsamplings = Upsamplings::interpolations);

/// Builds layers with the normalisation, activation and interpolation of a variant, options of network_options.
class Layers {
  public:
    Layers(GraphBuilder& builder, const Settings& settings, double epsilon = 1e-5);

    GraphBuilder& builder() { return builder_; }

    /// "<name>.bn" (batch) or "<name>.norm" (instance).
    NodeId norm(const std::string& name, NodeId x, double epsilon);
    NodeId norm(const std::string& name, NodeId x) { return norm(name, x, epsilon_); }
    /// "<name>.relu"
    NodeId activation(const std::string& name, NodeId x);
    /// "<name>.conv", "<name>.bn" or ".norm"
    NodeId conv_norm(const std::string& name, NodeId x, const Conv& conv);
    /// "<name>.conv", "<name>.bn" or ".norm", "<name>.relu"
    NodeId conv_norm_activation(const std::string& name, NodeId x, const Conv& conv);
    /// "<name>.bn" or ".norm", "<name>.relu", "<name>.conv" (pre-activation)
    NodeId norm_activation_conv(const std::string& name, NodeId x, const Conv& conv);
    /// Upsampling by a factor of 2: an interpolation, or a transposed convolution k2 s2 that keeps the channels.
    NodeId upsample(const std::string& name, NodeId x);
    Interpolation interpolation() const { return interpolation_; }

  private:
    GraphBuilder& builder_;
    bool instance_;
    bool leaky_;
    bool transposed_;
    Interpolation interpolation_;
    double epsilon_;
};

/// Cubic kernel with the padding that keeps extents (stride 1) or halves even ones (stride 2).
Conv cubic(std::int64_t out_channels, std::int64_t kernel, std::int64_t stride = 1, std::int64_t dilation = 1);
/// Cubic kernel with stride 1, and a bias where `bias` says so.
Conv cubic_with_bias(std::int64_t out_channels, std::int64_t kernel, bool bias = true);

} // namespace mfres
