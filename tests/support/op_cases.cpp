// SPDX-License-Identifier: MIT
#include "support/op_cases.h"

#include "core/try.h"

namespace mfres::test {

namespace {

using selftest::axes_name;
using selftest::conv_name;
using selftest::OpTable;

using Layer = std::function<NodeId(GraphBuilder&, NodeId)>;

/// `layer` between a 1x1x1 convolution to `channels` and the output.
void gradient_row(OpTable& table, const std::string& name, const Shape& input, std::int64_t channels,
                  const Layer& layer) {
    table.row("gradients of " + name, input,
              [&](GraphBuilder& b, NodeId x) { return layer(b, b.conv("before", x, Conv{.out_channels = channels})); });
}

void gradient_convolutions(OpTable& table) {
    const auto both = [&](const Shape& input, const Conv& conv) {
        gradient_row(table, conv_name(conv), input, input[1],
                     [&](GraphBuilder& b, NodeId x) { return b.conv("conv", x, conv); });
        table.row("gradients of the first layer, " + conv_name(conv), input,
                  [&](GraphBuilder& b, NodeId x) { return b.conv("conv", x, conv); });
    };
    both({1, 4, 5, 4, 6}, {.out_channels = 16});
    both({2, 13, 4, 3, 5}, {.out_channels = 5, .bias = true});
    both({1, 4, 6, 5, 4}, {.out_channels = 4, .kernel = {3, 3, 1}, .padding = {1, 1, 0}});
    both({1, 6, 5, 6, 7}, {.out_channels = 6, .kernel = {1, 3, 3}, .padding = {0, 1, 1}, .bias = true});
    both({1, 3, 6, 5, 7}, {.out_channels = 5, .kernel = {3, 3, 3}, .padding = {1, 1, 1}});
    both({2, 4, 7, 6, 9}, {.out_channels = 8, .kernel = {3, 3, 3}, .stride = {2, 2, 2}, .padding = {1, 1, 1}});
    both({1, 2, 7, 8, 6}, {.out_channels = 3, .kernel = {2, 3, 1}, .stride = {3, 1, 2}, .padding = {0, 2, 0}});
    both({1, 4, 9, 8, 10}, {.out_channels = 4, .kernel = {7, 7, 7}, .stride = {2, 2, 2}, .padding = {3, 3, 3}});
    both({1, 4, 8, 6, 6}, {.out_channels = 8, .kernel = {2, 2, 2}, .stride = {2, 2, 2}});
    for (const std::int64_t d : {2, 3})
        both({1, 4, 7, 6, 8},
             {.out_channels = 4, .kernel = {3, 3, 3}, .dilation = {d, d, d}, .padding = {d, d, d}, .groups = 2});
    both({1, 8, 6, 7, 5},
         {.out_channels = 8, .kernel = {3, 3, 3}, .stride = {2, 2, 2}, .dilation = {2, 2, 2}, .padding = {2, 2, 2}});
    both({1, 6, 5, 4, 5}, {.out_channels = 6, .kernel = {3, 3, 3}, .padding = {1, 1, 1}, .groups = 6});
    both({2, 10, 4, 5, 3}, {.out_channels = 20, .kernel = {3, 3, 1}, .padding = {1, 1, 0}, .groups = 5, .bias = true});
    both({1, 16, 6, 6, 6},
         {.out_channels = 32, .kernel = {3, 3, 3}, .stride = {2, 2, 2}, .padding = {1, 1, 1}, .groups = 16});
    both({1, 2, 2, 3, 1}, {.out_channels = 2, .kernel = {3, 3, 3}, .padding = {3, 3, 3}});
    both({1, 5, 1, 1, 1}, {.out_channels = 3, .kernel = {3, 3, 3}, .padding = {1, 1, 1}});
    both({1, 28, 2, 5, 4}, {.out_channels = 28, .kernel = {3, 3, 1}, .padding = {1, 1, 0}}); // fewer voxels than taps
    both({1, 3, 4, 5, 3}, {.out_channels = 4, .kernel = {4, 5, 3}});
}

void gradient_pointwise(OpTable& table) {
    for (const Shape& shape : {Shape{1, 4, 5, 6, 7}, Shape{3, 13, 3, 2, 5}}) {
        const std::int64_t c = shape[1];
        gradient_row(table, "batch_norm", shape, c, [](GraphBuilder& b, NodeId x) {
            return b.relu("r", b.batch_norm("bn", b.conv("c", x, Conv{.out_channels = 5})));
        });
        table.row("gradients of the first layer, batch_norm eps 1e-3", shape,
                  [](GraphBuilder& b, NodeId x) { return b.batch_norm("bn", x, 1e-3); });
        table.row("gradients of the first layer, instance_norm", shape,
                  [](GraphBuilder& b, NodeId x) { return b.instance_norm("in", x); });
        gradient_row(table, "instance_norm + leaky_relu", shape, c, [](GraphBuilder& b, NodeId x) {
            return b.leaky_relu("l", b.instance_norm("in", b.conv("c", x, Conv{.out_channels = 6}), 1e-2), 0.01);
        });
        gradient_row(table, "relu", shape, c, [](GraphBuilder& b, NodeId x) { return b.relu("r", x); });
        gradient_row(table, "leaky_relu", shape, c,
                     [](GraphBuilder& b, NodeId x) { return b.leaky_relu("l", x, 0.2); });
        gradient_row(table, "softmax", shape, c, [](GraphBuilder& b, NodeId x) { return b.softmax("s", x); });
        gradient_row(table, "add of itself", shape, c, [](GraphBuilder& b, NodeId x) { return b.sum("a", {x, x}); });
        gradient_row(table, "add of three", shape, c, [](GraphBuilder& b, NodeId x) {
            return b.sum("a", {x, b.relu("r", x), b.leaky_relu("l", x, 0.5)});
        });
        gradient_row(table, "scaled_add of three", shape, c, [](GraphBuilder& b, NodeId x) {
            return b.scaled_add("a", {b.relu("r", x), x, b.leaky_relu("l", x, 0.5)});
        });
        table.row("gradients of the first layer, scaled_add", shape, [](GraphBuilder& b, NodeId x) {
            return b.scaled_add("a", {x, b.relu("r", x)});
        });
        gradient_row(table, "concat", shape, c, [](GraphBuilder& b, NodeId x) {
            return b.concat("c", {b.relu("r", x), x, b.conv("k", x, Conv{.out_channels = 3})});
        });
    }
    table.row("gradients of an input joined behind a layer", Shape{2, 4, 3, 5, 4}, [](GraphBuilder& b, NodeId x) {
        const NodeId k = b.conv("k", x, Conv{.out_channels = 3});
        return b.conv("out", b.concat("c", {x, b.relu("r", k), x}), Conv{.out_channels = 4});
    });
}

void gradient_resampling(OpTable& table) {
    for (const Interpolation mode : {Interpolation::nearest, Interpolation::trilinear})
        for (const Shape& shape : {Shape{1, 4, 3, 4, 5}, Shape{2, 3, 5, 1, 2}}) {
            gradient_row(table, text("upsample x2 ", name(mode)), shape, shape[1],
                         [mode](GraphBuilder& b, NodeId x) { return b.upsample2("u", x, mode); });
            gradient_row(table, text("upsample to 7,5,8 ", name(mode)), shape, shape[1],
                         [mode](GraphBuilder& b, NodeId x) {
                             return b.upsample("u", x, mode, {7, 5, 8});
                         });
        }
    for (const Axes& to : {Axes{1, 1, 1}, Axes{3, 2, 5}, Axes{7, 5, 9}})
        gradient_row(table, text("adaptive_avg_pool to ", axes_name(to)), Shape{2, 4, 5, 4, 6}, 4,
                     [to](GraphBuilder& b, NodeId x) { return b.adaptive_avg_pool("p", x, to); });
    gradient_row(table, "max_pool 2", Shape{2, 5, 6, 5, 4}, 5,
                 [](GraphBuilder& b, NodeId x) { return b.max_pool("p", x); });
    gradient_row(table, "max_pool 3,2,1 stride 1,2,1", Shape{1, 4, 6, 5, 4}, 4, [](GraphBuilder& b, NodeId x) {
        return b.max_pool("p", x, MaxPool{{3, 2, 1}, {1, 2, 1}});
    });
}

void gradient_blocks(OpTable& table) {
    const Conv k3{.out_channels = 8, .kernel = {3, 3, 3}, .padding = {1, 1, 1}};
    const Conv k1{.out_channels = 8};
    for (const Shape& shape : {Shape{1, 8, 5, 4, 6}, Shape{2, 8, 3, 5, 4}}) {
        table.row("gradients of conv + batch_norm + relu", shape,
                  [&](GraphBuilder& b, NodeId x) { return b.relu("r", b.batch_norm("bn", b.conv("c", x, k3))); });
        gradient_row(table, "residual unit", shape, 8, [&](GraphBuilder& b, NodeId x) {
            const NodeId y = b.relu("r1", b.batch_norm("bn1", b.conv("c1", x, k1)));
            return b.relu("r2", b.sum("a", {b.batch_norm("bn2", b.conv("c2", y, k3)), x}));
        });
        gradient_row(table, "pre-activation unit", shape, 8, [&](GraphBuilder& b, NodeId x) {
            const NodeId p = b.relu("r1", b.batch_norm("bn1", x));
            const NodeId y = b.conv("c2", b.relu("r2", b.batch_norm("bn2", b.conv("c1", p, k1))), k3);
            return b.sum("a", {y, b.conv("s", b.relu("r3", b.batch_norm("bn3", x)), k1)});
        });
        gradient_row(table, "slices added and joined (Res2Net)", shape, 8, [](GraphBuilder& b, NodeId x) {
            const Conv k{.out_channels = 2, .kernel = {3, 3, 1}, .padding = {1, 1, 0}};
            const NodeId y1 = b.slice("x1", x, 0, 2);
            const NodeId y2 = b.conv("k2", b.slice("x2", x, 2, 4), k);
            const NodeId y3 = b.conv("k3", b.sum("a3", {b.slice("x3", x, 4, 6), y2}), k);
            const NodeId y4 = b.conv("k4", b.sum("a4", {b.slice("x4", x, 6, 8), y3}), k);
            return b.conv("fuse", b.concat("c", {y1, y2, y3, y4}), Conv{.out_channels = 8});
        });
        gradient_row(table, "down, up, concat, conv", shape, 8, [&](GraphBuilder& b, NodeId x) {
            const NodeId low = b.conv("down", x, Conv{.out_channels = 6, .kernel = {2, 2, 2}, .stride = {2, 2, 2}});
            const Shape full = b.shape(x);
            const NodeId up = b.upsample("up", low, Interpolation::trilinear, {full[2], full[3], full[4]});
            return b.relu("r", b.batch_norm("bn", b.conv("c", b.concat("j", {up, x}), k1)));
        });
        gradient_row(table, "three dilated branches, scaled", shape, 8, [&](GraphBuilder& b, NodeId x) {
            std::vector<NodeId> branches;
            for (const std::int64_t d : {1, 2, 3}) {
                const Conv conv{
                    .out_channels = 8, .kernel = {3, 3, 3}, .dilation = {d, d, d}, .padding = {d, d, d}, .groups = 4};
                branches.push_back(b.batch_norm(text("bn", d), b.conv(text("c", d), x, conv)));
            }
            return b.relu("r", b.scaled_add("w", branches));
        });
    }
}

} // namespace

std::vector<OpCase> gradient_cases() {
    OpTable table;
    gradient_convolutions(table);
    gradient_pointwise(table);
    gradient_resampling(table);
    gradient_blocks(table);
    return std::move(table.cases);
}

} // namespace mfres::test
