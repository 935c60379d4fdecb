// SPDX-License-Identifier: MIT
// 3D U-Net++ (Zhou et al. 2018 in three dimensions): nested, densely connected skip paths, no deep supervision.
#include "networks/family.h"
#include "networks/layers.h"

#include "core/try.h"

namespace mfres {

namespace {

std::vector<Option> options() {
    return network_options(
        {
            integers("widths", {32, 64, 128, 256, 512}, {2, 6}, width_range, "channels per level, finest first"),
            flag("conv_bias", false, "whether convolutions in front of a normalisation have a bias"),
            flag("head_bias", true, "whether the last convolution has a bias"),
        },
        "batch", "relu");
}

NodeId build(GraphBuilder& builder, const Settings& settings, NodeId input) {
    Layers layers(builder, settings);
    const auto widths = settings.integers("widths");
    const auto block = [&](const std::string& name, NodeId x, std::int64_t width) {
        const Conv conv = cubic_with_bias(width, 3, settings.flag("conv_bias"));
        return layers.conv_norm_activation(name + ".1", layers.conv_norm_activation(name + ".0", x, conv), conv);
    };

    // rows[i] holds X[i,0], X[i,1], ...; a node on the diagonal i + j = n depends on the diagonal n - 1 only.
    std::vector<std::vector<NodeId>> rows(widths.size());
    for (std::size_t depth = 0; depth < widths.size(); ++depth) {
        const NodeId below = depth == 0 ? input : builder.max_pool(text("x", depth, "_0.pool"), rows[depth - 1][0]);
        rows[depth].push_back(block(text("x", depth, "_0"), below, widths[depth]));
        for (std::size_t j = 1; j <= depth; ++j) {
            const std::size_t i = depth - j;
            const std::string name = text("x", i, "_", j);
            std::vector<NodeId> parts = rows[i];
            parts.push_back(layers.upsample(name + ".up", rows[i + 1][j - 1]));
            rows[i].push_back(block(name, builder.concat(name + ".concat", parts), widths[i]));
        }
    }
    return builder.conv("head.conv", rows[0].back(),
                        cubic_with_bias(settings.integer("classes"), 1, settings.flag("head_bias")));
}

} // namespace

const NetworkFamily& unetpp() {
    static const NetworkFamily family{
        "3d-unetpp",
        "3D U-Net++: nested skip paths, every node a pair of 3x3x3 convolutions.",
        "structure exact; 0.07 G above Table 2, which is exact for 3 classes",
        options(),
        PublishedFigures{27.47, 2019.31, PublishedDice{89.53, 82.91, 74.80}, "MF-RES2Net paper, Table 2"},
        [](const Settings&) { return Status{}; },
        [](const Settings& settings) { return std::int64_t{1} << (settings.integers("widths").size() - 1); },
        build};
    return family;
}

} // namespace mfres
