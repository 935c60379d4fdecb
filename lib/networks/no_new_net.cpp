// SPDX-License-Identifier: MIT
// No New-Net (Isensee et al., BraTS 2018): a plain U-Net with instance normalisation that halves channels before
// upsampling. Two forms: the one its authors describe, and the one that reproduces the figures of Table 2.
#include "networks/family.h"
#include "networks/layers.h"

#include "core/try.h"

namespace mfres {

namespace {

std::vector<Option> options(const std::string& merge, std::int64_t decoder_convs) {
    return network_options(
        {
            integers("widths", {30, 60, 120, 240, 480}, {2, 7}, width_range, "channels per level, finest first"),
            choice("merge", merge, {"concat", "add"}, "how upsampled and encoder feature maps are merged"),
            integer("decoder_convs", decoder_convs, {1, 2}, "convolutions per decoder level"),
            flag("conv_bias", true, "whether convolutions in front of a normalisation have a bias"),
        },
        "instance", "leaky_relu");
}

NodeId build(GraphBuilder& builder, const Settings& settings, NodeId input) {
    Layers layers(builder, settings);
    const auto widths = settings.integers("widths");
    const bool add = settings.choice("merge") == "add";
    const auto layer = [&](const std::string& name, NodeId x, std::int64_t width) {
        return layers.conv_norm_activation(name, x, cubic_with_bias(width, 3, settings.flag("conv_bias")));
    };

    NodeId x = input;
    std::vector<NodeId> skips;
    const std::size_t deepest = widths.size() - 1;
    for (std::size_t level = 0; level <= deepest; ++level) {
        const std::string name = text("enc", level);
        if (level > 0)
            x = builder.max_pool(name + ".pool", x);
        x = layer(name + ".0", x, widths[level]);
        // The deepest level narrows to the width of the skip connection that its upsampled output is concatenated with.
        x = layer(name + ".1", x, widths[level == deepest ? level - 1 : level]);
        skips.push_back(x);
    }
    for (std::size_t level = deepest; level-- > 0;) {
        const std::string name = text("dec", level);
        const std::vector<NodeId> maps{layers.upsample(name + ".up", x), skips[level]};
        x = add ? builder.sum(name + ".add", maps) : builder.concat(name + ".concat", maps);
        if (settings.integer("decoder_convs") == 2)
            x = layer(name + ".0", x, widths[level]);
        x = layer(name + ".1", x, widths[level == 0 ? 0 : level - 1]);
    }
    return builder.conv("head.conv", x, cubic_with_bias(settings.integer("classes"), 1));
}

NetworkFamily family(std::string name, std::string summary, std::string status, std::vector<Option> all,
                     std::optional<PublishedFigures> published) {
    return {std::move(name),
            std::move(summary),
            std::move(status),
            std::move(all),
            std::move(published),
            [](const Settings&) { return Status{}; },
            [](const Settings& settings) { return std::int64_t{1} << (settings.integers("widths").size() - 1); },
            build};
}

} // namespace

const NetworkFamily& no_new_net() {
    static const NetworkFamily network =
        family("no-new-net", "No New-Net: a plain U-Net with instance normalisation, as Isensee 2018 describes it.",
               "faithful to Isensee 2018; does not fit the row of Table 2 (see no-new-net-as-counted)",
               options("concat", 2), {});
    return network;
}

const NetworkFamily& no_new_net_as_counted() {
    static const NetworkFamily network = family(
        "no-new-net-as-counted", "No New-Net as Table 2 seems to count it: addition instead of concatenation.",
        "inferred from the counts; Table 2 also has 0.0168 G of norm and activation on the head that we do not build",
        options("add", 1),
        PublishedFigures{10.36, 202.25, PublishedDice{90.74, 84.90, 75.40}, "MF-RES2Net paper, Table 2"});
    return network;
}

} // namespace mfres
