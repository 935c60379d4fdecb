// SPDX-License-Identifier: MIT
#include "selftest/op_cases.h"

#include "core/try.h"

#include <stdexcept>

namespace mfres::selftest {

namespace {

/// Padding that keeps the extent at stride 1.
Axes same_padding(const Axes& kernel, const Axes& dilation) {
    return {dilation[0] * (kernel[0] - 1) / 2, dilation[1] * (kernel[1] - 1) / 2, dilation[2] * (kernel[2] - 1) / 2};
}

void conv_row(OpTable& table, const Shape& input, Conv conv) {
    table.row(conv_name(conv), input, [&](GraphBuilder& b, NodeId x) { return b.conv("conv", x, conv); });
}

void convolutions(OpTable& table) {
    const std::vector<Axes> kernels = {{1, 1, 1}, {3, 3, 1}, {1, 3, 3}, {3, 3, 3}, {2, 2, 2}, {5, 1, 3}};
    const std::vector<std::pair<std::int64_t, std::int64_t>> channels = {{1, 1}, {4, 16},  {2, 2},  {13, 5}, {16, 16},
                                                                         {6, 6}, {24, 24}, {32, 8}, {20, 40}};
    for (const Axes& kernel : kernels)
        for (const auto& [in, out] : channels) {
            Conv conv{.out_channels = out, .kernel = kernel};
            conv.padding = same_padding(kernel, conv.dilation);
            conv.bias = (in + out) % 2 == 1;
            conv_row(table, Shape{1, in, 11, 10, 9}, conv);
        }
    // Strided, as the encoders use it, and odd strides.
    for (const std::int64_t in : {4, 16, 30})
        for (const Axes& stride : {Axes{2, 2, 2}, Axes{1, 2, 1}, Axes{3, 1, 2}})
            for (const Axes& kernel : {Axes{3, 3, 3}, Axes{2, 2, 2}, Axes{7, 7, 7}, Axes{1, 1, 1}}) {
                Conv conv{.out_channels = 8, .kernel = kernel, .stride = stride};
                if (kernel[0] != 2)
                    conv.padding = same_padding(kernel, conv.dilation);
                conv_row(table, Shape{1, in, 10, 12, 8}, conv);
            }
    // Dilated and grouped, as DMFNet and ESPNet use them.
    for (const std::int64_t dilation : {1, 2, 3})
        for (const std::int64_t groups : {1, 4, 16})
            for (const std::int64_t stride : {1, 2}) {
                Conv conv{.out_channels = 32,
                          .kernel = {3, 3, 3},
                          .stride = {stride, stride, stride},
                          .dilation = {dilation, dilation, dilation},
                          .groups = groups};
                conv.padding = same_padding(conv.kernel, conv.dilation);
                conv_row(table, Shape{1, 16, 9, 8, 11}, conv);
            }
    for (const std::int64_t groups : {2, 5, 10})
        conv_row(table, Shape{2, 10, 6, 5, 7},
                 Conv{.out_channels = 20, .kernel = {3, 3, 1}, .padding = {1, 1, 0}, .groups = groups, .bias = true});
    // Depthwise, kernels as large as the volume, one voxel, more padding than voxels, large kernels.
    conv_row(table, Shape{1, 12, 7, 7, 7},
             Conv{.out_channels = 12, .kernel = {3, 3, 3}, .padding = {1, 1, 1}, .groups = 12});
    conv_row(table, Shape{1, 3, 5, 4, 3}, Conv{.out_channels = 7, .kernel = {5, 4, 3}});
    conv_row(table, Shape{1, 5, 1, 1, 1}, Conv{.out_channels = 3, .kernel = {3, 3, 3}, .padding = {1, 1, 1}});
    conv_row(table, Shape{1, 2, 2, 3, 1}, Conv{.out_channels = 2, .kernel = {3, 3, 3}, .padding = {3, 3, 3}});
    conv_row(table, Shape{1, 4, 12, 9, 10}, Conv{.out_channels = 4, .kernel = {9, 9, 9}, .padding = {4, 4, 4}});
    conv_row(table, Shape{3, 4, 6, 5, 4}, Conv{.out_channels = 6, .kernel = {3, 3, 3}, .padding = {1, 1, 1}});
}

/// Shapes for everything that works voxel by voxel or plane by plane.
const std::vector<Shape>& plain_shapes() {
    static const std::vector<Shape> shapes = {Shape{1, 1, 5, 4, 3}, Shape{1, 4, 11, 10, 9}, Shape{2, 13, 3, 7, 5},
                                              Shape{1, 16, 8, 8, 8}, Shape{1, 30, 4, 1, 6}};
    return shapes;
}

void pointwise(OpTable& table) {
    for (const Shape& shape : plain_shapes()) {
        table.row("batch_norm", shape, [](GraphBuilder& b, NodeId x) { return b.batch_norm("bn", x); });
        table.row("batch_norm eps 1e-3", shape,
                  [](GraphBuilder& b, NodeId x) { return b.relu("r", b.batch_norm("bn", x, 1e-3)); });
        table.row("instance_norm", shape, [](GraphBuilder& b, NodeId x) { return b.instance_norm("in", x); });
        table.row("instance_norm + leaky_relu", shape,
                  [](GraphBuilder& b, NodeId x) { return b.leaky_relu("l", b.instance_norm("in", x), 0.01); });
        table.row("relu", shape, [](GraphBuilder& b, NodeId x) { return b.relu("r", x); });
        table.row("leaky_relu", shape, [](GraphBuilder& b, NodeId x) { return b.leaky_relu("l", x, 0.2); });
        table.row("softmax", shape, [](GraphBuilder& b, NodeId x) { return b.softmax("s", x); });
        table.row("add of itself", shape, [](GraphBuilder& b, NodeId x) { return b.sum("a", {x, x}); });
        table.row("add of three", shape, [](GraphBuilder& b, NodeId x) {
            return b.sum("a", {x, b.relu("r", x), b.leaky_relu("l", x, 0.5)});
        });
        table.row("scaled_add of three", shape, [](GraphBuilder& b, NodeId x) {
            return b.scaled_add("a", {b.relu("r", x), x, b.leaky_relu("l", x, 0.5)});
        });
        table.row("concat", shape, [](GraphBuilder& b, NodeId x) {
            return b.concat("c", {b.relu("r", x), x, b.conv("k", x, Conv{.out_channels = 3})});
        });
    }
}

/// Ops that only imported networks have.
void imported(OpTable& table) {
    // clang-format off
    const std::vector<ConvTranspose> convolutions = {
        {.out_channels = 6, .bias = true},
        {.out_channels = 6, .kernel = {1, 2, 3}, .stride = {1, 2, 3}},
        {.out_channels = 6, .kernel = {2, 3, 4}, .stride = {2, 2, 2}, .padding = {0, 1, 1}, .output_padding = {0, 1, 0}},
        {.out_channels = 6, .kernel = {3, 3, 3}, .padding = {1, 1, 1}, .output_padding = {1, 1, 1}, .bias = true},
        {.out_channels = 8, .kernel = {3, 1, 2}, .stride = {1, 3, 1}, .padding = {1, 0, 0}, .groups = 4, .bias = true},
    };
    // clang-format on
    for (const ConvTranspose& conv : convolutions)
        table.row(text("conv_transpose to ", conv.out_channels, " k", axes_name(conv.kernel), " s",
                       axes_name(conv.stride), " p", axes_name(conv.padding), " g", conv.groups),
                  Shape{2, 4, 5, 4, 3}, [&](GraphBuilder& b, NodeId x) { return b.conv_transpose("t", x, conv); });
    for (const Shape& shape : {Shape{1, 4, 11, 10, 9}, Shape{2, 12, 3, 7, 5}}) {
        table.row("prelu", shape, [](GraphBuilder& b, NodeId x) { return b.prelu("p", x); });
        table.row("elu", shape, [](GraphBuilder& b, NodeId x) { return b.elu("e", x, 0.7); });
        table.row("sigmoid", shape, [](GraphBuilder& b, NodeId x) { return b.sigmoid("s", x); });
        table.row("group_norm", shape, [](GraphBuilder& b, NodeId x) { return b.group_norm("g", x, 2, 1e-3); });
        table.row("multiply", shape, [](GraphBuilder& b, NodeId x) { return b.multiply("m", b.relu("r", x), x); });
        table.row("attention gate", shape, [](GraphBuilder& b, NodeId x) {
            return b.multiply("m", x, b.sigmoid("s", b.conv("c", x, Conv{.out_channels = 1})));
        });
        table.row("squeeze and excitation", shape, [](GraphBuilder& b, NodeId x) {
            return b.multiply("m", x, b.sigmoid("s", b.adaptive_avg_pool("p", x, {1, 1, 1})));
        });
    }
}

void channels(OpTable& table) {
    for (const auto& [begin, end] :
         std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 4}, {4, 8}, {3, 13}, {12, 13}})
        table.row(text("slice ", begin, "..", end), Shape{2, 13, 5, 6, 7},
                  [b0 = begin, e0 = end](GraphBuilder& b, NodeId x) { return b.slice("s", x, b0, e0); });
    table.row("slices added and joined (Res2Net)", Shape{1, 16, 7, 6, 5}, [](GraphBuilder& b, NodeId x) {
        const Conv k{.out_channels = 4, .kernel = {3, 3, 1}, .padding = {1, 1, 0}};
        const NodeId in = b.relu("in.r", b.batch_norm("in.bn", b.conv("in", x, Conv{.out_channels = 16})));
        const NodeId y1 = b.slice("x1", in, 0, 4);
        const NodeId y2 = b.conv("k2", b.slice("x2", in, 4, 8), k);
        const NodeId y3 = b.conv("k3", b.sum("a3", {b.slice("x3", in, 8, 12), y2}), k);
        const NodeId y4 = b.conv("k4", b.sum("a4", {b.slice("x4", in, 12, 16), y3}), k);
        return b.conv("fuse", b.concat("c", {y1, y2, y3, y4}), Conv{.out_channels = 16});
    });
    table.row("concat with itself", Shape{1, 3, 4, 5, 6}, [](GraphBuilder& b, NodeId x) {
        return b.concat("c", {x, x});
    });
    table.row("concat of one", Shape{1, 3, 4, 5, 6}, [](GraphBuilder& b, NodeId x) { return b.concat("c", {x}); });
}

void resampling(OpTable& table) {
    for (const Shape& shape : plain_shapes())
        for (const Interpolation mode : {Interpolation::nearest, Interpolation::trilinear}) {
            table.row(text("upsample x2 ", name(mode)), shape,
                      [mode](GraphBuilder& b, NodeId x) { return b.upsample2("u", x, mode); });
            table.row(text("upsample to 13,11,12 ", name(mode)), shape, [mode](GraphBuilder& b, NodeId x) {
                return b.upsample("u", x, mode, {13, 11, 12});
            });
        }
    for (const std::int64_t extent : {3, 5, 10, 13}) // ESPNet's pyramid: down to fractions and back
        table.row(text("adaptive_avg_pool to ", extent, " and back"), Shape{1, 4, 16, 16, 16},
                  [extent](GraphBuilder& b, NodeId x) {
                      const NodeId pooled = b.adaptive_avg_pool("p", x, {extent, extent, extent});
                      return b.upsample("u", pooled, Interpolation::trilinear, {16, 16, 16});
                  });
    table.row("adaptive_avg_pool to one", Shape{2, 5, 7, 6, 9}, [](GraphBuilder& b, NodeId x) {
        return b.adaptive_avg_pool("p", x, {1, 1, 1});
    });
    table.row("adaptive_avg_pool upwards", Shape{1, 3, 4, 5, 6}, [](GraphBuilder& b, NodeId x) {
        return b.adaptive_avg_pool("p", x, {7, 5, 9});
    });
    for (const Shape& shape : {Shape{1, 4, 8, 6, 10}, Shape{2, 13, 7, 5, 9}, Shape{1, 30, 2, 2, 2}})
        table.row("max_pool 2", shape, [](GraphBuilder& b, NodeId x) { return b.max_pool("p", x); });
    table.row("max_pool 3,2,1 stride 1,2,1", Shape{1, 5, 7, 6, 5}, [](GraphBuilder& b, NodeId x) {
        return b.max_pool("p", x, MaxPool{{3, 2, 1}, {1, 2, 1}});
    });
}

void fused(OpTable& table) {
    const Conv k3{.out_channels = 16, .kernel = {3, 3, 3}, .padding = {1, 1, 1}};
    const Conv k1{.out_channels = 16};
    for (const Shape& shape : {Shape{1, 16, 9, 6, 7}, Shape{2, 4, 5, 8, 6}}) {
        table.row("conv + batch_norm + relu", shape,
                  [&](GraphBuilder& b, NodeId x) { return b.relu("r", b.batch_norm("bn", b.conv("c", x, k3))); });
        table.row("conv + instance_norm + leaky_relu", shape, [&](GraphBuilder& b, NodeId x) {
            return b.leaky_relu("r", b.instance_norm("in", b.conv("c", x, k3)), 0.01);
        });
        table.row("conv + leaky_relu", shape,
                  [&](GraphBuilder& b, NodeId x) { return b.leaky_relu("r", b.conv("c", x, k3), 0.1); });
        table.row("conv + shortcut conv + relu", shape, [&](GraphBuilder& b, NodeId x) {
            return b.relu("r", b.sum("a", {b.batch_norm("bn", b.conv("c", x, k3)), b.conv("s", x, k1)}));
        });
        table.row("residual read again later", shape, [&](GraphBuilder& b, NodeId x) {
            const NodeId y = b.relu("r1", b.conv("c1", x, k1));
            const NodeId z = b.relu("r2", b.sum("a", {b.conv("c2", y, k3), y}));
            return b.sum("out", {z, y});
        });
        table.row("residual last read here", shape, [&](GraphBuilder& b, NodeId x) {
            const NodeId y = b.relu("r1", b.conv("c1", x, k1));
            const NodeId z = b.conv("c2", x, k3);
            return b.relu("r2", b.sum("a", {b.conv("c3", z, k3), y}));
        });
        table.row("pre-activation unit", shape, [&](GraphBuilder& b, NodeId x) {
            const NodeId p = b.relu("r1", b.batch_norm("bn1", x));
            const NodeId y = b.conv("c2", b.relu("r2", b.batch_norm("bn2", b.conv("c1", p, k1))), k3);
            return b.sum("a", {y, b.conv("s", b.relu("r3", b.batch_norm("bn3", x)), k1)});
        });
        table.row("three dilated branches, scaled", shape, [&](GraphBuilder& b, NodeId x) {
            std::vector<NodeId> branches;
            for (const std::int64_t d : {1, 2, 3}) {
                const NodeId p = b.relu(text("r", d), b.batch_norm(text("bn", d), x));
                branches.push_back(b.conv(text("c", d), p,
                                          Conv{.out_channels = 8,
                                               .kernel = {3, 3, 3},
                                               .dilation = {d, d, d},
                                               .padding = {d, d, d},
                                               .groups = 4}));
            }
            return b.scaled_add("w", branches);
        });
        table.row("up, concat, conv", shape, [&](GraphBuilder& b, NodeId x) {
            const NodeId low = b.conv("down", x, Conv{.out_channels = 6, .kernel = {2, 2, 2}, .stride = {2, 2, 2}});
            const Shape full = b.shape(x);
            const NodeId up = b.upsample("up", low, Interpolation::trilinear, {full[2], full[3], full[4]});
            return b.relu("r", b.batch_norm("bn", b.conv("c", b.concat("j", {up, x}), k1)));
        });
        table.row("conv + relu that is read twice", shape, [&](GraphBuilder& b, NodeId x) {
            const NodeId c = b.conv("c", x, k3);
            return b.sum("a", {b.relu("r", c), c});
        });
    }
}

} // namespace

void OpTable::row(const std::string& name, const Shape& input,
                  const std::function<NodeId(GraphBuilder&, NodeId)>& build) {
    GraphBuilder builder;
    builder.output(build(builder, builder.input(input)));
    auto graph = builder.finish();
    if (!graph)
        throw std::logic_error(name + ": " + graph.error().message);
    cases.push_back({name + " on " + to_string(input), std::move(graph).value()});
}

std::string axes_name(const Axes& a) {
    return text(a[0], ",", a[1], ",", a[2]);
}

std::string conv_name(const Conv& conv) {
    return text("conv to ", conv.out_channels, " k", axes_name(conv.kernel), " s", axes_name(conv.stride), " d",
                axes_name(conv.dilation), " p", axes_name(conv.padding), " g", conv.groups, conv.bias ? " bias" : "");
}

std::vector<OpCase> op_cases() {
    OpTable table;
    convolutions(table);
    pointwise(table);
    imported(table);
    channels(table);
    resampling(table);
    fused(table);
    return std::move(table.cases);
}

} // namespace mfres::selftest
