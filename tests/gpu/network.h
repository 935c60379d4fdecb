// SPDX-License-Identifier: MIT
// mf-res2net with its usual widths, built without the registry, which needs a JSON library that a bare GPU machine
// lacks. tests/cuda compares it with the registry's, node by node.
#pragma once

#include "core/try.h"
#include "graph/graph.h"

#include <string>
#include <vector>

namespace mfres::test {

class GpuNetwork {
  public:
    static Result<Graph> make(const Axes& size, std::int64_t batch) {
        GpuNetwork network;
        network.build(network.builder_.input(Shape{batch, 4, size[0], size[1], size[2]}));
        return network.builder_.finish();
    }

  private:
    static Conv plain(std::int64_t width, const Axes& kernel = {1, 1, 1}, std::int64_t stride = 1) {
        Conv conv;
        conv.out_channels = width;
        conv.kernel = kernel;
        conv.stride = {stride, stride, stride};
        for (std::size_t axis = 0; axis < 3; ++axis)
            conv.padding[axis] = kernel[axis] / 2;
        return conv;
    }

    NodeId linear(const std::string& name, NodeId x, const Conv& conv) {
        return builder_.batch_norm(name + ".bn", builder_.conv(name + ".conv", x, conv));
    }
    NodeId layer(const std::string& name, NodeId x, const Conv& conv) {
        return builder_.relu(name + ".relu", linear(name, x, conv));
    }

    NodeId unit(const std::string& name, NodeId x, std::int64_t width) {
        const std::int64_t from = builder_.channels(x);
        NodeId y = layer(name + ".mf1", x, plain(from / 4));
        y = layer(name + ".mf2", y, plain(from));
        y = layer(name + ".in", y, plain(width));
        const std::int64_t part = width / 4;
        std::vector<NodeId> parts{builder_.slice(name + ".x1", y, 0, part)};
        for (std::int64_t i = 2; i <= 4; ++i) {
            NodeId piece = builder_.slice(text(name, ".x", i), y, (i - 1) * part, i * part);
            if (i > 2)
                piece = builder_.sum(text(name, ".sum", i), {piece, parts.back()});
            parts.push_back(layer(text(name, ".k", i), piece, plain(part, {3, 3, 1})));
        }
        y = layer(name + ".fuse1", builder_.concat(name + ".concat", parts), plain(width));
        y = linear(name + ".fuse2", y, plain(width, {1, 3, 3}));
        const NodeId shortcut = from == width ? x : linear(name + ".shortcut", x, plain(width));
        return builder_.relu(name + ".relu", builder_.sum(name + ".add", {y, shortcut}));
    }

    void build(NodeId x) {
        std::vector<NodeId> skips;
        int level = 0;
        for (const std::int64_t width : {16, 64, 112, 240}) {
            const std::string name = text("enc", ++level);
            x = layer(name + ".down", x, plain(width, {3, 3, 3}, 2));
            for (int i = 1; i <= 2; ++i)
                x = unit(text(name, ".unit", i), x, width);
            skips.push_back(x);
        }
        skips.pop_back();
        level = 0;
        for (const std::int64_t width : {80, 32, 16, 8}) {
            const std::string name = text("dec", ++level);
            x = builder_.upsample2(name + ".up", x);
            if (!skips.empty()) {
                x = builder_.concat(name + ".concat", {x, skips.back()});
                skips.pop_back();
            }
            x = unit(name + ".unit", x, width);
        }
        builder_.output(builder_.conv("head.conv", x, plain(4)));
    }

    GraphBuilder builder_;
};

} // namespace mfres::test
