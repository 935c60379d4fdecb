// SPDX-License-Identifier: MIT
// DMFNet and MFNet (Chen, Liu, Peng, Liu, Li, MICCAI 2019): pre-activation units of a 1x1x1 multiplexer followed by
// grouped convolutions. DMF units sum three dilated branches with learnable weights. Parameter names are those of the
// published state_dict.
#include "core/try.h"
#include "networks/family.h"
#include "networks/layers.h"

#include <algorithm>

namespace mfres {

namespace {

std::vector<Option> options(std::int64_t channels, std::vector<bool> dilated) {
    return network_options(
        {
            integer("n", 32, width_range, "channels of the stem and of the last decoder level"),
            integer("channels", channels, {1, 1024},
                    "channels of encoder level 2; levels 3 and 4 have twice and three times"),
            integer("groups", 16, {1, 256}, "groups of the 3x3x3 and 3x3x1 convolutions"),
            integer("mf_reduction", 4, {1, 32}, "how much narrower the multiplexer's middle is"),
            integers("units", {3, 3, 3}, {3, 3}, {1, 16}, "units of encoder levels 2, 3 and 4"),
            flags("dilated", std::move(dilated), {3, 3},
                  "whether encoder levels 2, 3 and 4 have DMF units instead of MF"),
            integers("dilations", {1, 2, 3}, {2, 8}, {1, 16}, "dilations of the branches of a DMF unit"),
        },
        "batch", "relu");
}

Status check_multiple(const Settings& settings, std::string_view key, std::string_view divisor) {
    const std::int64_t value = settings.integer(key);
    const std::int64_t factor = settings.integer(divisor);
    return value % factor == 0
               ? Status{}
               : violation(text("/", key), value, text("is not a multiple of ", divisor, " (", factor, ")"));
}

Status check(const Settings& settings) {
    for (const std::string_view key : {"n", "channels"})
        for (const std::string_view divisor : {"groups", "mf_reduction"})
            MFRES_CHECK(check_multiple(settings, key, divisor));
    // Level 4 widens to 3 * channels in its first unit and narrows to 2 * channels in its last, so it needs two units.
    if (const std::int64_t last = settings.integers("units")[2]; last < 2)
        return violation("/units/2", last, "is less than 2, which level 4 needs");
    return {};
}

class DmfNet {
  public:
    DmfNet(GraphBuilder& builder, const Settings& settings)
        : builder_(builder), settings_(settings), layers_(builder, settings), groups_(settings.integer("groups")),
          reduction_(settings.integer("mf_reduction")), dilations_(settings.integers("dilations")) {}

    NodeId build(NodeId input) {
        const std::int64_t n = settings_.integer("n");
        const std::int64_t c = settings_.integer("channels");
        const NodeId x1 = builder_.conv("encoder_block1", input, cubic(n, 3, 2));
        const NodeId x2 = level(0, x1, c, c);
        const NodeId x3 = level(1, x2, 2 * c, 2 * c);
        const NodeId x4 = level(2, x3, 3 * c, 2 * c);
        NodeId y = decode(1, x4, x3, 2 * c);
        y = decode(2, y, x2, c);
        y = decode(3, y, x1, n);
        return builder_.conv("seg", layers_.upsample("upsample4", y), cubic(settings_.integer("classes"), 1));
    }

  private:
    /// Units of one encoder level; the first halves the extent, the last leaves `last_width` channels.
    NodeId level(std::size_t index, NodeId x, std::int64_t width, std::int64_t last_width) {
        const std::int64_t count = settings_.integers("units")[index];
        const bool dilated = settings_.flags("dilated")[index];
        for (std::int64_t i = 0; i < count; ++i)
            x = unit(text("encoder_block", index + 2, ".", i), x, i + 1 == count ? last_width : width, i == 0 ? 2 : 1,
                     dilated);
        return x;
    }

    NodeId decode(int index, NodeId x, NodeId skip, std::int64_t width) {
        const NodeId up = layers_.upsample(text("upsample", index), x);
        return unit(text("decoder_block", index), builder_.concat(text("concat", index), {skip, up}), width, 1, false);
    }

    Conv grouped(std::int64_t width, std::int64_t stride, std::int64_t dilation) const {
        Conv conv = cubic(width, 3, stride, dilation);
        conv.groups = groups_;
        return conv;
    }

    NodeId unit(const std::string& name, NodeId x, std::int64_t width, std::int64_t stride, bool dilated) {
        const std::int64_t from = builder_.channels(x);
        NodeId y = layers_.norm_activation_conv(name + ".conv1x1x1_in1", x, cubic(from / reduction_, 1));
        y = layers_.norm_activation_conv(name + ".conv1x1x1_in2", y, cubic(std::min(from, width), 1));
        y = dilated ? branches(name, y, width, stride)
                    : layers_.norm_activation_conv(name + ".conv3x3x3_m1", y, grouped(width, stride, 1));
        Conv in_plane = grouped(width, 1, 1);
        in_plane.kernel[2] = 1;
        in_plane.padding[2] = 0;
        y = layers_.norm_activation_conv(name + ".conv3x3x3_m2", y, in_plane);
        return builder_.sum(name + ".add", {y, shortcut(name, x, width, stride)});
    }

    /// w1 * y1 + w2 * y2 + ...: the weights are parameters of the unit itself, "<name>.weight1" and so on.
    NodeId branches(const std::string& name, NodeId x, std::int64_t width, std::int64_t stride) {
        std::vector<NodeId> outputs;
        for (std::size_t i = 0; i < dilations_.size(); ++i)
            outputs.push_back(layers_.norm_activation_conv(text(name, ".conv3x3x3_m1.", i), x,
                                                           grouped(width, stride, dilations_[i])));
        return builder_.scaled_add(name, outputs);
    }

    NodeId shortcut(const std::string& name, NodeId x, std::int64_t width, std::int64_t stride) {
        if (stride == 2) {
            Conv conv = cubic(width, 2, 2);
            conv.padding = {0, 0, 0};
            return layers_.norm_activation_conv(name + ".conv2x2x2_shortcut", x, conv);
        }
        if (builder_.channels(x) != width)
            return layers_.norm_activation_conv(name + ".conv1x1x1_shortcut", x, cubic(width, 1));
        return x;
    }

    GraphBuilder& builder_;
    const Settings& settings_;
    Layers layers_;
    std::int64_t groups_;
    std::int64_t reduction_;
    std::vector<std::int64_t> dilations_;
};

NetworkFamily family(std::string name, std::string summary, std::string status, std::vector<Option> all,
                     PublishedFigures published) {
    return {std::move(name),
            std::move(summary),
            std::move(status),
            std::move(all),
            std::move(published),
            check,
            [](const Settings&) { return std::int64_t{16}; },
            [](GraphBuilder& builder, const Settings& settings, NodeId input) {
                return DmfNet(builder, settings).build(input);
            }};
}

NetworkFamily mfnet(std::int64_t channels, double flops_g) {
    return family(text("mfnet-", channels),
                  text("MFNet with ", channels, " channels: DMFNet with undilated units throughout."),
                  "exact, published code known", options(channels, {false, false, false}),
                  {{}, flops_g, {}, "DMFNet authors; not in Table 2"});
}

} // namespace

const NetworkFamily& dmfnet() {
    static const NetworkFamily network = family(
        "dmfnet", "DMFNet: grouped convolutions behind a multiplexer, three weighted dilations in the early levels.",
        "exact, published code known", options(128, {true, true, false}),
        {3.88, 27.04, PublishedDice{89.34, 82.87, 77.19}, "MF-RES2Net paper, Table 2"});
    return network;
}

const NetworkFamily& mfnet_96() {
    static const NetworkFamily network = mfnet(96, 13.361);
    return network;
}

const NetworkFamily& mfnet_112() {
    static const NetworkFamily network = mfnet(112, 16.759);
    return network;
}

const NetworkFamily& mfnet_128() {
    static const NetworkFamily network = mfnet(128, 20.611);
    return network;
}

} // namespace mfres
