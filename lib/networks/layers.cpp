// SPDX-License-Identifier: MIT
#include "networks/layers.h"

namespace mfres {

std::vector<Option> network_options(std::vector<Option> own, std::string norm, std::string activation,
                                    Upsamplings upsamplings) {
    std::vector<Option> all{integer("input_channels", 4, {1, 64}, "image channels, one per modality"),
                            integer("classes", 4, {1, 255}, "channels of the logits")};
    all.insert(all.end(), own.begin(), own.end());
    all.push_back(choice("norm", std::move(norm), {"batch", "instance"}, "normalisation layer"));
    all.push_back(choice("activation", std::move(activation), {"relu", "leaky_relu"}, "leaky_relu has slope 0.01"));
    if (upsamplings == Upsamplings::interpolations)
        all.push_back(choice("interpolation", "trilinear", {"trilinear", "nearest"}, "upsampling in the decoder"));
    else
        all.push_back(
            choice("interpolation", "trilinear", {"trilinear", "nearest", "transposed"},
                   "upsampling in the decoder; transposed: by transposed convolutions, which cannot be trained"));
    return all;
}

Layers::Layers(GraphBuilder& builder, const Settings& settings, double epsilon)
    : builder_(builder), instance_(settings.choice("norm") == "instance"),
      leaky_(settings.choice("activation") == "leaky_relu"),
      transposed_(settings.choice("interpolation") == "transposed"),
      interpolation_(settings.choice("interpolation") == "nearest" ? Interpolation::nearest : Interpolation::trilinear),
      epsilon_(epsilon) {}

NodeId Layers::norm(const std::string& name, NodeId x, double epsilon) {
    return instance_ ? builder_.instance_norm(name + ".norm", x, epsilon)
                     : builder_.batch_norm(name + ".bn", x, epsilon);
}

NodeId Layers::activation(const std::string& name, NodeId x) {
    return leaky_ ? builder_.leaky_relu(name + ".relu", x, 0.01) : builder_.relu(name + ".relu", x);
}

NodeId Layers::conv_norm(const std::string& name, NodeId x, const Conv& conv) {
    return norm(name, builder_.conv(name + ".conv", x, conv));
}

NodeId Layers::conv_norm_activation(const std::string& name, NodeId x, const Conv& conv) {
    return activation(name, conv_norm(name, x, conv));
}

NodeId Layers::norm_activation_conv(const std::string& name, NodeId x, const Conv& conv) {
    return builder_.conv(name + ".conv", activation(name, norm(name, x)), conv);
}

NodeId Layers::upsample(const std::string& name, NodeId x) {
    if (transposed_)
        return builder_.conv_transpose(name, x, ConvTranspose{.out_channels = builder_.channels(x), .bias = true});
    return builder_.upsample2(name, x, interpolation_);
}

Conv cubic(std::int64_t out_channels, std::int64_t kernel, std::int64_t stride, std::int64_t dilation) {
    const std::int64_t padding = dilation * (kernel - 1) / 2;
    Conv conv;
    conv.out_channels = out_channels;
    conv.kernel = {kernel, kernel, kernel};
    conv.stride = {stride, stride, stride};
    conv.dilation = {dilation, dilation, dilation};
    conv.padding = {padding, padding, padding};
    return conv;
}

Conv cubic_with_bias(std::int64_t out_channels, std::int64_t kernel, bool bias) {
    Conv conv = cubic(out_channels, kernel);
    conv.bias = bias;
    return conv;
}

} // namespace mfres
