// SPDX-License-Identifier: MIT
// 3D U-Net with the widths of Cicek et al. (MICCAI 2016) and parameter-free upsampling, the form in which the DMFNet
// paper counts it (16.21 M, 1669.53 G). The 3D U-Net of the MF-RES2Net paper's Table 2 is another, unknown network.
#include "core/try.h"
#include "networks/family.h"
#include "networks/layers.h"

namespace mfres {

namespace {

std::vector<Option> options() {
    return network_options(
        {
            integers("widths", {64, 128, 256, 512}, {2, 6}, width_range,
                     "channels a level leaves, finest first; even, because its first convolution has half as many"),
            integers("decoder_convs", {1, 2, 2}, {1, 5}, {1, 4}, "convolutions per decoder level, finest first"),
            flag("conv_bias", true, "whether convolutions in front of a normalisation have a bias"),
        },
        "batch", "relu", Upsamplings::interpolations_and_transposed);
}

Status check(const Settings& settings) {
    MFRES_CHECK(check_length(settings, "decoder_convs", "widths", 1));
    const auto widths = settings.integers("widths");
    for (std::size_t i = 0; i < widths.size(); ++i)
        if (widths[i] % 2 != 0)
            return violation(text("/widths/", i), widths[i], "is not even");
    return {};
}

NodeId build(GraphBuilder& builder, const Settings& settings, NodeId input) {
    Layers layers(builder, settings);
    const auto widths = settings.integers("widths");
    const auto decoder_convs = settings.integers("decoder_convs");
    const auto layer = [&](const std::string& name, NodeId x, std::int64_t width) {
        return layers.conv_norm_activation(name, x, cubic_with_bias(width, 3, settings.flag("conv_bias")));
    };

    NodeId x = input;
    std::vector<NodeId> skips;
    for (std::size_t level = 0; level < widths.size(); ++level) {
        const std::string name = text("enc", level);
        if (level > 0)
            x = builder.max_pool(name + ".pool", x);
        x = layer(name + ".0", x, widths[level] / 2);
        x = layer(name + ".1", x, widths[level]);
        skips.push_back(x);
    }
    for (std::size_t level = widths.size() - 1; level-- > 0;) {
        const std::string name = text("dec", level);
        x = builder.concat(name + ".concat", {skips[level], layers.upsample(name + ".up", x)});
        for (std::int64_t i = 0; i < decoder_convs[level]; ++i)
            x = layer(text(name, ".", i), x, widths[level]);
    }
    return builder.conv("head.conv", x, cubic_with_bias(settings.integer("classes"), 1));
}

} // namespace

const NetworkFamily& unet() {
    static const NetworkFamily family{
        "3d-unet", "3D U-Net: the widths of Cicek 2016 with pooling, trilinear upsampling and concatenation.",
        // clang-format off
        "fits the DMFNet paper's 16.21 M / 1669.53 G (which count 0.0168 G more on the head); the row of Table 2 is "
        "not reproduced",
        // clang-format on
        options(), PublishedFigures{15.80, 1240.27, PublishedDice{88.35, 80.74, 74.82}, "MF-RES2Net paper, Table 2"},
        check, [](const Settings& settings) { return std::int64_t{1} << (settings.integers("widths").size() - 1); },
        build};
    return family;
}

} // namespace mfres
