// SPDX-License-Identifier: MIT
// 3D-ESPNet (Nuechterlein and Mehta, BraTS 2018), as in its authors' repository: efficient spatial pyramids of dilated
// convolutions and a pyramid pooling head. Not every operation is a module of the original code.
#include "core/try.h"
#include "networks/family.h"
#include "networks/layers.h"

#include <algorithm>
#include <regex>

namespace mfres {

namespace {

/// Of every normalisation except the one after the concatenation of a pyramid, which uses the framework's default.
constexpr double epsilon = 1e-3;
constexpr double pyramid_epsilon = 1e-5;

std::vector<Option> options() {
    return network_options(
        {
            integers("widths", {16, 32, 128, 256}, {4, 4}, width_range, "channels of levels 0 to 3"),
            integers("units", {2, 3, 4}, {3, 3}, {1, 16}, "pyramids of encoder levels 1, 2 and 3"),
            integers("decoder_units", {3, 3}, {2, 2}, {1, 16}, "pyramids of the decoder, coarse level first"),
            integers("dilations", {1, 1, 2, 2}, {2, 8}, {1, 16}, "dilations inside a pyramid"),
            integers("spatial_kernels", {3, 5, 7, 9}, {1, 6}, {1, 15}, "odd kernel edges of the parallel convolutions"),
            integers("pooling_percent", {20, 40, 60, 80}, {1, 8}, {1, 100},
                     "grid sizes of pyramid pooling, per cent of half the input edge, rounded down, at least 1 voxel"),
        },
        "batch", "relu");
}

Status check(const Settings& settings) {
    const auto widths = settings.integers("widths");
    const auto branches = static_cast<std::int64_t>(settings.integers("dilations").size());
    for (std::size_t i = 1; i < widths.size(); ++i)
        if (widths[i] % branches != 0)
            return violation(text("/widths/", i), widths[i],
                             text("is not a multiple of the number of dilations (", branches, ")"));
    const auto kernels = settings.integers("spatial_kernels");
    for (std::size_t i = 0; i < kernels.size(); ++i)
        if (kernels[i] % 2 == 0)
            return violation(text("/spatial_kernels/", i), kernels[i], "is not odd");
    return {};
}

class EspNet {
  public:
    EspNet(GraphBuilder& builder, const Settings& settings)
        : builder_(builder), settings_(settings), layers_(builder, settings, epsilon),
          dilations_(settings.integers("dilations")), classes_(settings.integer("classes")) {}

    NodeId build(NodeId input) {
        const auto widths = settings_.integers("widths");
        const auto units = settings_.integers("units");
        const auto decoder_units = settings_.integers("decoder_units");

        const NodeId o0 = layers_.conv_norm_activation("l0", input, cubic(widths[0], 7, 2));
        const NodeId o1 = pyramids("l1", o0, widths[1], units[0], 1);
        const NodeId o2 = pyramids("l2", o1, widths[2], units[1], 2);
        const NodeId o3 = pyramids("l3", o2, widths[3], units[2], 2);
        const NodeId d2 = decode("d2", o3, o2, widths[2], decoder_units[0]);
        NodeId z = decode("d1", d2, o1, widths[1], decoder_units[1]);
        z = spatial_pyramid("d1.asp", layers_.conv_norm_activation("d1.classes", z, cubic(classes_, 3)));
        return classify(pool_pyramid(z));
    }

  private:
    NodeId pyramids(const std::string& name, NodeId x, std::int64_t width, std::int64_t count, std::int64_t stride) {
        for (std::int64_t i = 0; i < count; ++i)
            x = pyramid(text(name, ".", i), x, width, i == 0 ? stride : 1);
        return x;
    }

    /// ESP: reduce, convolve with several dilations, add hierarchically against gridding, concatenate.
    NodeId pyramid(const std::string& name, NodeId x, std::int64_t width, std::int64_t stride) {
        const std::int64_t part = width / static_cast<std::int64_t>(dilations_.size());
        const NodeId reduced = layers_.conv_norm_activation(name + ".reduce", x, cubic(part, 1));
        std::vector<NodeId> levels;
        for (std::size_t i = 0; i < dilations_.size(); ++i) {
            const NodeId branch =
                builder_.conv(text(name, ".branch", i + 1, ".conv"), reduced, cubic(part, 3, stride, dilations_[i]));
            // Branches are accumulated from the second one on; the first is not part of the sums.
            levels.push_back(i < 2 ? branch : builder_.sum(text(name, ".sum", i + 1), {levels.back(), branch}));
        }
        NodeId y = layers_.norm(name, builder_.concat(name + ".concat", levels), pyramid_epsilon);
        if (builder_.shape(x) == builder_.shape(y))
            y = builder_.sum(name + ".add", {y, x});
        return layers_.activation(name, y);
    }

    NodeId decode(const std::string& name, NodeId x, NodeId skip, std::int64_t width, std::int64_t count) {
        const NodeId narrow = layers_.conv_norm_activation(name + ".up", x, cubic(width, 3));
        const NodeId up = layers_.upsample(name + ".up.upsample", narrow);
        return pyramids(name, builder_.concat(name + ".concat", {up, skip}), width, count, 1);
    }

    /// ASP: parallel convolutions of several kernel sizes, summed with the input.
    NodeId spatial_pyramid(const std::string& name, NodeId x) {
        std::vector<NodeId> terms;
        for (const std::int64_t kernel : settings_.integers("spatial_kernels"))
            terms.push_back(layers_.conv_norm(text(name, ".", terms.size(), ".k", kernel), x, cubic(classes_, kernel)));
        terms.push_back(x);
        return layers_.activation(name, builder_.sum(name + ".add", terms));
    }

    NodeId pool_pyramid(NodeId z) {
        const Shape from = builder_.shape(z);
        std::vector<NodeId> maps{z};
        for (const std::int64_t percent : settings_.integers("pooling_percent")) {
            const std::string name = text("psp.", maps.size() - 1);
            Axes grid{};
            for (int axis = 0; axis < 3; ++axis)
                grid[static_cast<std::size_t>(axis)] = std::max<std::int64_t>(1, from[axis + 2] * percent / 100);
            NodeId y = builder_.adaptive_avg_pool(name + ".pool", z, grid);
            y = layers_.conv_norm_activation(name, y, cubic(classes_, 3));
            maps.push_back(
                builder_.upsample(name + ".upsample", y, layers_.interpolation(), {from[2], from[3], from[4]}));
        }
        return builder_.concat("psp.concat", maps);
    }

    NodeId classify(NodeId x) {
        NodeId y = layers_.conv_norm_activation("cls.0", x, cubic(classes_, 3));
        y = spatial_pyramid("cls.asp", y);
        y = builder_.upsample2("cls.upsample", y, Interpolation::nearest);
        y = layers_.conv_norm_activation("cls.1", y, cubic(classes_, 7));
        return builder_.conv("cls.2.conv", y, cubic(classes_, 1));
    }

    GraphBuilder& builder_;
    const Settings& settings_;
    Layers layers_;
    std::vector<std::int64_t> dilations_;
    std::int64_t classes_;
};

/// The original code calls as functions: activations of pyramids ("l1.0.relu", not "l1.0.reduce.relu"), the pooling,
/// and every upsampling but the last one.
bool seen_by_table2(const Node& node) {
    if (node.kind() == OpKind::adaptive_avg_pool)
        return false;
    if (node.kind() == OpKind::upsample)
        return node.name == "cls.upsample";
    if (node.kind() != OpKind::relu && node.kind() != OpKind::leaky_relu)
        return true;
    static const std::regex of_pyramid("[ld][0-9]\\.[0-9]+\\.relu");
    return !std::regex_match(node.name, of_pyramid);
}

} // namespace

const NetworkFamily& espnet() {
    static const NetworkFamily family{
        "3d-espnet",
        "3D-ESPNet: efficient spatial pyramids of dilated convolutions and pyramid pooling, as in its authors' code.",
        "exact; 76.515 G is printed as 76.51 in Table 2, truncated",
        options(),
        PublishedFigures{3.63, 76.51, PublishedDice{87.15, 78.68, 66.32}, "MF-RES2Net paper, Table 2"},
        check,
        [](const Settings&) { return std::int64_t{8}; },
        [](GraphBuilder& builder, const Settings& settings, NodeId input) {
            return EspNet(builder, settings).build(input);
        },
        nullptr, // auxiliary_maps
        seen_by_table2};
    return family;
}

} // namespace mfres
