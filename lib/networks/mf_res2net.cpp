// SPDX-License-Identifier: MIT
// MF-RES2Net: a U-shaped network of multi-fibre units (MF) followed by a Res2Net split (RES2).
// The paper's text fixes the structure (section 2.2, eq. 1-3); the channel widths are a reconstruction.
#include "core/try.h"
#include "networks/family.h"
#include "networks/layers.h"

namespace mfres {

namespace {

std::vector<Option> options() {
    return network_options(
        {
            integers("widths", {16, 64, 112, 240}, {1, 6}, width_range, "encoder channels, one entry per level"),
            integers("decoder", {80, 32, 16, 8}, {1, 6}, width_range, "decoder channels, coarsest level first"),
            integers("units", {2, 2, 2, 2}, {1, 6}, {1, 16}, "units per encoder level"),
            integers("decoder_units", {1, 1, 1, 1}, {1, 6}, {1, 16}, "units per decoder level"),
            integer("splits", 4, {1, 16}, "channel groups of RES2 (s)"),
            integer("mf_reduction", 4, {1, 32}, "how much narrower the multiplexer's middle is"),
            integer("groups", 1, {1, 64}, "groups of the 3x3x1 and 1x3x3 convolutions"),
            choice("order", "post", {"post", "pre"},
                   "normalise and activate after (post) or before (pre) convolutions"),
        },
        "batch", "relu");
}

/// Every split of every unit must be divisible into groups. Error: variant_invalid.
Status check_groups(const Settings& settings, std::string_view key) {
    const std::int64_t splits = settings.integer("splits");
    const std::int64_t groups = settings.integer("groups");
    const auto widths = settings.integers(key);
    for (std::size_t i = 0; i < widths.size(); ++i)
        if (widths[i] / splits % groups != 0)
            return violation(text("/", key, "/", i), widths[i],
                             text("in ", splits, " splits is not a multiple of groups (", groups, ") per split"));
    return {};
}

Status check(const Settings& settings) {
    MFRES_CHECK(check_length(settings, "decoder", "widths"));
    MFRES_CHECK(check_length(settings, "units", "widths"));
    MFRES_CHECK(check_length(settings, "decoder_units", "widths"));
    for (const std::string_view key : {"widths", "decoder"}) {
        MFRES_CHECK(check_multiples(settings, key, "splits"));
        MFRES_CHECK(check_groups(settings, key));
    }
    MFRES_CHECK(check_multiples(settings, "widths", "mf_reduction"));
    // The output of a decoder level is the input of the next level's multiplexer; the last level has no successor.
    const auto units = settings.integers("decoder_units");
    return check_multiples(settings, "decoder", "mf_reduction", units.back() > 1 ? units.size() : units.size() - 1);
}

/// What the last unit of decoder levels leaves: the finest level is at full resolution, the one before at 1/2.
std::vector<std::string> auxiliary_maps(const Settings& settings) {
    const auto units = settings.integers("decoder_units");
    const bool pre = settings.choice("order") == "pre";
    std::vector<std::string> maps;
    for (std::size_t level = units.size() - 1; level > 0 && maps.size() < 2; --level) {
        const std::int64_t last = units[level - 1];
        maps.push_back(text("dec", level, ".unit", last > 1 ? text(last) : "", pre ? ".add" : ".relu"));
    }
    return maps;
}

class MfRes2Net {
  public:
    MfRes2Net(GraphBuilder& builder, const Settings& settings)
        : builder_(builder), settings_(settings), layers_(builder, settings), pre_(settings.choice("order") == "pre"),
          splits_(settings.integer("splits")), reduction_(settings.integer("mf_reduction")),
          groups_(settings.integer("groups")) {}

    NodeId build(NodeId input) {
        const auto widths = settings_.integers("widths");
        const auto encoder_units = settings_.integers("units");
        const auto decoder = settings_.integers("decoder");
        const auto decoder_units = settings_.integers("decoder_units");

        NodeId x = input;
        std::vector<NodeId> skips; // by resolution, the finest (half) first
        for (std::size_t level = 0; level < widths.size(); ++level) {
            const std::string name = text("enc", level + 1);
            x = downsample(name + ".down", x, widths[level], level == 0);
            for (std::int64_t i = 1; i <= encoder_units[level]; ++i)
                x = unit(text(name, ".unit", i), x, widths[level]);
            skips.push_back(x);
        }
        skips.pop_back();
        for (std::size_t level = 0; level < decoder.size(); ++level) {
            const std::string name = text("dec", level + 1);
            x = layers_.upsample(name + ".up", x);
            if (!skips.empty()) { // the encoder has no feature map at full resolution
                x = builder_.concat(name + ".concat", {x, skips.back()});
                skips.pop_back();
            }
            for (std::int64_t i = 1; i <= decoder_units[level]; ++i)
                x = unit(name + (i == 1 ? ".unit" : text(".unit", i)), x, decoder[level]);
        }
        return builder_.conv("head.conv", x, cubic(settings_.integer("classes"), 1));
    }

  private:
    /// Convolution, normalisation and activation in the order of the variant.
    NodeId layer(const std::string& name, NodeId x, const Conv& conv) {
        return pre_ ? layers_.norm_activation_conv(name, x, conv) : layers_.conv_norm_activation(name, x, conv);
    }

    /// The same without the activation, for a branch of the residual sum of a post-activation network.
    NodeId linear_layer(const std::string& name, NodeId x, const Conv& conv) {
        return pre_ ? layers_.norm_activation_conv(name, x, conv) : layers_.conv_norm(name, x, conv);
    }

    NodeId downsample(const std::string& name, NodeId x, std::int64_t width, bool reads_image) {
        const Conv conv = cubic(width, 3, 2);
        // A pre-activation of the image would discard its negative values.
        return pre_ && reads_image ? builder_.conv(name + ".conv", x, conv) : layer(name, x, conv);
    }

    /// MF (eq. 1), then RES2 (eq. 2, 3), around a shortcut.
    NodeId unit(const std::string& name, NodeId x, std::int64_t width) {
        const std::int64_t from = builder_.channels(x);
        NodeId y = layer(name + ".mf1", x, cubic(from / reduction_, 1));
        y = layer(name + ".mf2", y, cubic(from, 1));
        y = layer(name + ".in", y, cubic(width, 1));
        y = scales(name, y, width);
        y = layer(name + ".fuse1", y, cubic(width, 1));
        Conv across = cubic(width, 1);
        across.kernel = {1, 3, 3};
        across.padding = {0, 1, 1};
        across.groups = groups_;
        y = linear_layer(name + ".fuse2", y, across);
        const NodeId shortcut = from == width ? x : linear_layer(name + ".shortcut", x, cubic(width, 1));
        y = builder_.sum(name + ".add", {y, shortcut});
        return pre_ ? y : layers_.activation(name, y);
    }

    /// Y1 = X1, Yi = Ki(Xi + Y(i-1)) with Y2 = K2(X2); K is 3x3x1.
    NodeId scales(const std::string& name, NodeId x, std::int64_t width) {
        if (splits_ == 1)
            return x;
        const std::int64_t part = width / splits_;
        Conv in_plane = cubic(part, 1);
        in_plane.kernel = {3, 3, 1};
        in_plane.padding = {1, 1, 0};
        in_plane.groups = groups_;
        std::vector<NodeId> parts{builder_.slice(name + ".x1", x, 0, part)};
        for (std::int64_t i = 2; i <= splits_; ++i) {
            NodeId piece = builder_.slice(text(name, ".x", i), x, (i - 1) * part, i * part);
            if (i > 2)
                piece = builder_.sum(text(name, ".sum", i), {piece, parts.back()});
            parts.push_back(layer(text(name, ".k", i), piece, in_plane));
        }
        return builder_.concat(name + ".concat", parts);
    }

    GraphBuilder& builder_;
    const Settings& settings_;
    Layers layers_;
    bool pre_;
    std::int64_t splits_;
    std::int64_t reduction_;
    std::int64_t groups_;
};

} // namespace

const NetworkFamily& mf_res2net() {
    static const NetworkFamily family{
        "mf-res2net",
        // clang-format off
        "MF-RES2Net: multi-fibre multiplexers and Res2Net scales in separable 3x3x1 and 1x3x3 convolutions; its "
        "channel widths are a reconstruction.",
        "reconstruction: structure from the paper's text; the published widths are lost, twelve sets of widths print "
        "the published counts and this is the smoothest of them",
        // clang-format on
        options(), PublishedFigures{3.16, 16.24, PublishedDice{89.98, 84.02, 77.62}, "MF-RES2Net paper, Table 2"},
        check, [](const Settings& settings) { return std::int64_t{1} << settings.integers("widths").size(); },
        [](GraphBuilder& builder, const Settings& settings, NodeId input) {
            return MfRes2Net(builder, settings).build(input);
        },
        auxiliary_maps};
    return family;
}

} // namespace mfres
