// SPDX-License-Identifier: MIT
#include "selftest/golden.h"

#include "core/file.h"
#include "core/sha256.h"
#include "core/try.h"
#include "imaging/nifti/nifti.h"
#include "selftest/run_graph.h"

#include <mfres/metrics.h>

#include <cmath>
#include <cstdint>

namespace mfres::selftest {

namespace {

// clang-format off
constexpr GoldenOp ops[] = {
    {"conv 3x3x3 with bias", {1.38881861449, 2.11867600501, -0.503606825823, -0.144957569554, 4.25005811921}},
    {"conv 3x3x1, stride 2", {1.28122047678, -0.317925938585, 1.20029739083, 0.0100852418829, 1.08314304901}},
    {"conv 3x3x3, dilation 2, groups 2", {1.50183311166, 2.23735843392, -3.12563463387, -0.0480131562619, 2.95837094723}},
    {"batch_norm", {-1.53662752643, 0.419057313717, -1.36387786548, -0.543305570399, 0.592985764763}},
    {"instance_norm", {-1.23903779682, 1.48683260388, -1.14748876894, 0.00499251298606, 0.525220239873}},
    {"group_norm", {-1.22319743713, 1.48489965428, -1.14501869792, 0.00524664359898, 0.525951953768}},
    {"conv_transpose", {0.601795478158, -0.993046869178, -0.568703372917, 0.0497532011718, 0.609221034004}},
    {"prelu", {0.42785820365, 0.997004508972, 0.645072058297, 0.392181792254, 0.222209430013}},
    {"elu", {-0.316060279414, 0.997004508972, -0.2993669104, 0.157632216121, 0.187414246379}},
    {"sigmoid and multiply", {-0.26894142137, 0.728281107875, -0.261483724758, 0.0791409570698, 0.0943587138965}},
    {"relu", {0, 0.997004508972, 0, 0.249700746525, 0.166371295021}},
    {"leaky_relu", {-0.1, 0.997004508972, -0.0913130283356, 0.224669394747, 0.168041118699}},
    {"add", {-1, 1.99400901794, -0.913130283356, 0.249087975267, 0.832467547857}},
    {"scaled_add", {0.42785820365, -0.282725180602, 0.390690282735, 0.0362898962978, 0.0439469093713}},
    {"slice and concat", {-0.500748872757, -0.503744363785, 0.088367447257, 0.00452357177512, 0.337105925037}},
    {"max_pool", {0.9071393013, 0.997004508972, 0.980029940605, 0.622281855577, 0.496715584115}},
    {"adaptive_avg_pool", {0.210621566512, 0.332626061514, -0.373751872277, -0.000618971658109, 0.0597906566122}},
    {"upsample nearest", {-1, 0.997004508972, -0.913130283356, -0.00121246695067, 0.333453570085}},
    {"upsample trilinear", {-1, 0.997004508972, -0.913130283356, -0.000499132277344, 0.182430928399}},
    {"softmax", {0.101694925546, 0.455485097523, 0.101421604759, 0.25, 0.0803975887958}},
};

/// 3 x 2 x 2 voxels of int16, big-endian, scaled, in gzip: `tests/selftest/golden.py nifti`.
constexpr std::uint8_t nifti_file[] = {
    0x1F, 0x8B, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x63, 0x60, 0x60, 0x8C, 0x61, 0x20, 0x06, 0x30, 0x03, 0x21, 0x13, 0x10, 0x32, 0x42,
    0x21, 0x2A, 0x60, 0x61, 0x10, 0x60, 0x60, 0xB0, 0x6F, 0x60, 0x60, 0x70, 0x00, 0x72, 0x1C, 0x80, 0x84, 0x43, 0x03, 0xA6, 0x11, 0xCE, 0x1B, 0x80,
    0x6A, 0x80, 0xF4, 0x7E, 0x88, 0x1C, 0x13, 0xC3, 0xC0, 0x03, 0x46, 0x5C, 0x12, 0x07, 0x90, 0xD8, 0x8E, 0x0A, 0x50, 0x31, 0x07, 0x28, 0x7F, 0x01,
    0x42, 0x0E, 0xE4, 0xCF, 0x83, 0x1F, 0x30, 0xF5, 0xE7, 0x69, 0x1B, 0x82, 0xE9, 0x7F, 0x3C, 0xFF, 0x0A, 0xFE, 0x5D, 0xF9, 0x6F, 0xF1, 0x7F, 0x0E,
    0x90, 0x93, 0xC2, 0x70, 0x82, 0x51, 0x87, 0x71, 0x02, 0xE3, 0x17, 0xA6, 0x08, 0x00, 0x5D, 0x53, 0x6C, 0xEA, 0x78, 0x01, 0x00, 0x00,
};
// clang-format on

Error differs(const std::string& what, const std::string& place) {
    return {ErrorCode::internal, what, place};
}

Result<std::string> check_sha256() {
    // FIPS 180-4, the example of two blocks.
    Sha256 sha;
    sha.update("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
    const std::string got = to_hex(sha.finish());
    if (got != "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
        return differs("SHA-256 of the example of FIPS 180-4 is " + got, "SHA-256");
    return std::string("the example of FIPS 180-4");
}

Result<std::string> check_nifti() {
    MFRES_TRY(const ScratchFolder folder, ScratchFolder::create("selftest"));
    const auto path = folder.path() / "golden.nii.gz";
    const auto bytes = std::as_bytes(std::span(nifti_file));
    MFRES_CHECK(write_file_atomically(path, bytes));
    MFRES_TRY(const NiftiVolume read, read_nifti(path));
    const Grid expected{{3, 2, 2}, {{{-2, 0, 0, 10}, {0, -3, 0, 20}, {0, 0, 4, -30}}}};
    if (!(read.volume.grid == expected))
        return differs("the grid of the NIfTI file was read wrong", "NIfTI");
    for (std::size_t i = 0; i < read.volume.voxels.size(); ++i) {
        const float wanted = 50.0F * (static_cast<float>(i) - 5.0F) - 1.0F;
        if (read.volume.voxels[i] != wanted)
            return differs(text("voxel ", i, " of the NIfTI file is ", read.volume.voxels[i], ", expected ", wanted),
                           "NIfTI");
    }
    MFRES_CHECK(write_file_atomically(path, bytes.first(bytes.size() - 12)));
    const auto damaged = read_nifti(path);
    if (damaged || damaged.error().code != ErrorCode::gzip_truncated)
        return differs("a NIfTI file without its end was not rejected as gzip_truncated", "NIfTI");
    return std::string("12 voxels, and a damaged file rejected");
}

Result<std::string> check_metrics() {
    // One voxel each, 3 and 4 mm apart along two axes; and 3 voxels in common of 4 and 6.
    constexpr std::array<std::int64_t, 3> size{6, 6, 3};
    std::vector<std::uint8_t> a(108), b(108);
    a[1 + 6 * (1 + 6 * 1)] = 1;
    b[4 + 6 * (3 + 6 * 1)] = 1;
    MFRES_TRY(const auto distance, hausdorff95(a, b, size, {1.0, 2.0, 1.0}));
    const double overlap = dice({.true_positives = 3, .predicted = 4, .reference = 6});
    if (!distance || std::abs(*distance - 5.0) > 1e-12 || std::abs(overlap - 0.6) > 1e-12)
        return differs(text("HD95 is ", distance.value_or(-1), ", expected 5; Dice is ", overlap, ", expected 0.6"),
                       "metrics");
    return std::string("Dice and HD95");
}

std::array<double, 5> summary(const Tensor& tensor) {
    double sum = 0.0;
    double squares = 0.0;
    for (const float value : tensor.values()) {
        sum += static_cast<double>(value);
        squares += static_cast<double>(value) * static_cast<double>(value);
    }
    const std::int64_t n = tensor.elements();
    const auto count = static_cast<double>(n);
    return {tensor[0], tensor[n / 2], tensor[n - 1], sum / count, squares / count};
}

Result<std::string> check_ops() {
    MFRES_TRY(const Backend* const reference, find_backend("reference"));
    const auto graphs = golden_graphs();
    for (std::size_t i = 0; i < graphs.size(); ++i) {
        const Graph& graph = graphs[i].graph;
        const Tensor input = golden_values(graph.node(graph.input()).shape, 0);
        MFRES_TRY(const Tensor output, run(*reference, graph, golden_weights(graph), input));
        const auto got = summary(output);
        for (std::size_t k = 0; k < got.size(); ++k)
            if (!(std::abs(got[k] - ops[i].values[k]) <= 1e-5 * (1.0 + std::abs(ops[i].values[k]))))
                return differs(text(ops[i].name, ": value ", k, " is ", got[k], ", expected ", ops[i].values[k]),
                               ops[i].name);
    }
    return text(graphs.size(), " ops as PyTorch computes them");
}

constexpr Axes one{1, 1, 1};
constexpr Axes two{2, 2, 2};
constexpr Axes to{7, 11, 9};

/// One graph for each row of `ops`, in its order.
OpTable golden_table() {
    OpTable table;
    const auto row = [&](const std::function<NodeId(GraphBuilder&, NodeId)>& build) {
        table.row(ops[table.cases.size()].name, Shape{2, 4, 5, 6, 7}, build);
    };
    row([](GraphBuilder& b, NodeId x) {
        return b.conv("c", x, {.out_channels = 6, .kernel = {3, 3, 3}, .padding = one, .bias = true});
    });
    row([](GraphBuilder& b, NodeId x) {
        return b.conv("c", x, {.out_channels = 3, .kernel = {3, 3, 1}, .stride = two, .padding = {1, 1, 0}});
    });
    row([](GraphBuilder& b, NodeId x) {
        return b.conv("c", x, {.out_channels = 4, .kernel = {3, 3, 3}, .dilation = two, .padding = two, .groups = 2});
    });
    row([](GraphBuilder& b, NodeId x) { return b.batch_norm("n", x); });
    row([](GraphBuilder& b, NodeId x) { return b.instance_norm("n", x, 1e-3); });
    row([](GraphBuilder& b, NodeId x) { return b.group_norm("n", x, 2, 1e-3); });
    row([](GraphBuilder& b, NodeId x) {
        ConvTranspose conv{.out_channels = 3, .kernel = {3, 2, 2}, .padding = {1, 0, 0}, .bias = true};
        conv.output_padding[0] = 1;
        return b.conv_transpose("c", x, conv);
    });
    row([](GraphBuilder& b, NodeId x) { return b.prelu("p", x); });
    row([](GraphBuilder& b, NodeId x) { return b.elu("e", x, 0.5); });
    row([](GraphBuilder& b, NodeId x) { return b.multiply("m", x, b.sigmoid("s", x)); });
    row([](GraphBuilder& b, NodeId x) { return b.relu("r", x); });
    row([](GraphBuilder& b, NodeId x) { return b.leaky_relu("l", x, 0.1); });
    row([](GraphBuilder& b, NodeId x) { return b.sum("a", {x, b.relu("r", x)}); });
    row([](GraphBuilder& b, NodeId x) { return b.scaled_add("a", {x, b.relu("r", x)}); });
    row([](GraphBuilder& b, NodeId x) { return b.concat("j", {b.slice("s", x, 1, 3), b.slice("t", x, 0, 2)}); });
    row([](GraphBuilder& b, NodeId x) { return b.max_pool("p", x); });
    row([](GraphBuilder& b, NodeId x) { return b.adaptive_avg_pool("p", x, {3, 4, 2}); });
    row([](GraphBuilder& b, NodeId x) { return b.upsample("u", x, Interpolation::nearest, to); });
    row([](GraphBuilder& b, NodeId x) { return b.upsample("u", x, Interpolation::trilinear, to); });
    row([](GraphBuilder& b, NodeId x) { return b.softmax("s", x); });
    return table;
}

constexpr GoldenCheck checks[] = {
    {"golden: SHA-256", check_sha256},
    {"golden: NIfTI", check_nifti},
    {"golden: metrics", check_metrics},
    {"golden: ops", check_ops},
};

} // namespace

std::span<const GoldenCheck> golden_checks() {
    return checks;
}

std::span<const GoldenOp> golden_ops() {
    return ops;
}

std::vector<OpCase> golden_graphs() {
    return golden_table().cases;
}

Tensor golden_values(const Shape& shape, std::int64_t salt) {
    Tensor tensor(shape);
    for (std::int64_t i = 0; i < tensor.elements(); ++i)
        tensor[i] = static_cast<float>(static_cast<double>((7919 * i + 104729 * salt) % 2003) / 1001.5 - 1.0);
    return tensor;
}

Weights golden_weights(const Graph& graph) {
    Weights weights;
    std::int64_t salt = 0;
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters) {
            Tensor tensor = golden_values(parameter.shape, ++salt);
            if (parameter.role == ParameterRole::norm_scale || parameter.role == ParameterRole::running_var)
                for (float& value : tensor.values())
                    value = 1.0F + value / 2.0F;
            weights.emplace(parameter.name, std::move(tensor));
        }
    return weights;
}

} // namespace mfres::selftest
