// SPDX-License-Identifier: MIT
#include "networks/layers.h"

namespace mfres {

std::vector<Option> image_options() {
    return {integer("input_channels", 4, {1, 64}, "image channels, one per modality"),
            integer("classes", 4, {1, 255}, "channels of the logits")};
}

std::vector<Option> layer_options(std::string norm, std::string activation) {
    return {choice("norm", std::move(norm), {"batch", "instance"}, "normalisation layer"),
            choice("activation", std::move(activation), {"relu", "leaky_relu"}, "leaky_relu has slope 0.01"),
            choice("interpolation", "trilinear", {"trilinear", "nearest"}, "upsampling in the decoder")};
}

Layers::Layers(GraphBuilder& builder, const Settings& settings, double epsilon)
    : builder_(builder), instance_(settings.choice("norm") == "instance"),
      leaky_(settings.choice("activation") == "leaky_relu"),
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

} // namespace mfres
