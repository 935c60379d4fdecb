// SPDX-License-Identifier: MIT
// ONNX files of ours in other hands: ONNX's checker, ONNX Runtime, OpenVINO, and OpenCV as users have it.
#include "exchange/onnx.h"
#include "support/network_runs.h"
#include "support/op_cases.h"
#include "support/python.h"

#ifdef MFRES_TEST_OPENCV
#include <opencv2/dnn.hpp>
#endif

#include <cstdio>

using namespace mfres;

namespace {

bool no_onnx() {
    GraphBuilder builder;
    builder.output(builder.relu("r", builder.input({1, 1, 1, 1, 1})));
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    const auto bytes = encode_onnx(*graph, {}, {}, {});
    if (!bytes.ok())
        std::printf("SKIPPED: %s\n", bytes.error().message.c_str());
    return !bytes.ok();
}

/// A model of a network, with weights and running statistics that all matter, and a grid it runs on quickly.
struct Sample {
    Model model;
    Axes size{};
};

Sample sample(const std::string& network, std::int64_t along_x = 1) {
    const auto variant = parse_variant(network);
    REQUIRE_OK(variant);
    const auto graph = parameter_graph(*variant);
    REQUIRE_OK(graph);
    const std::int64_t edge = std::max<std::int64_t>(variant->multiple(), 16);
    return {Model{*variant, {}, test::random_weights(*graph, 8)}, {along_x * edge, 2 * edge, edge}};
}

/// Writes what the logits must be for a random input.
void write_tensors(const test::TemporaryFolder& folder, const Sample& sample, const Axes& grid) {
    const auto graph = build_network(sample.model.variant, grid);
    REQUIRE_OK(graph);
    const Tensor input = test::random_tensor(graph->node(0).shape, 4);
    auto output = test::run(**find_backend("auto"), *graph, sample.model.weights, input);
    REQUIRE_OK(output);
    test::write_tensors(folder / "tensors.safetensors", {{"input", input}, {"output", std::move(output).value()}});
}

/// 1e-4 of the largest logit: random weights make some networks' logits large.
std::string tolerance(const test::TemporaryFolder& folder) {
    const auto file = read_safetensors(folder / "tensors.safetensors");
    REQUIRE_OK(file);
    const auto output = decode_tensor(*file, "output");
    REQUIRE_OK(output);
    return std::to_string(1e-4 * std::max(1.0, test::largest(*output)));
}

/// All networks, and one with transposed convolutions.
std::vector<std::string> exported_networks() {
    std::vector<std::string> networks = network_names();
    networks.emplace_back(R"({"network": "3d-unet", "widths": [8, 16, 24], "decoder_convs": [1, 2],
                              "interpolation": "transposed"})");
    return networks;
}

void check_in(const std::string& runtime, const std::string& modules, OnnxDialect dialect, std::int64_t along_x = 1) {
    const auto python = test::python_with(modules);
    if (!python || no_onnx())
        return;
    for (const std::string& network : exported_networks()) {
        const test::TemporaryFolder folder;
        const Sample made = sample(network, along_x);
        write_tensors(folder, made, made.size);
        for (const bool fold : {false, true}) {
            INFO(network << ", folded " << fold);
            const OnnxExport options{.form = {.dialect = dialect}, .size = made.size, .fold = fold};
            REQUIRE_OK(export_onnx(folder / "model.onnx", made.model, options, true));
            test::require_python(*python, "exchange/run_onnx.py",
                                 {runtime, folder / "model.onnx", folder / "tensors.safetensors", tolerance(folder)});
        }
    }
}

#ifdef MFRES_TEST_OPENCV

/// Convolutions by Winograd's algorithm, the default since OpenCV 4.7, round more: with it the logits of no-new-net
/// differ by 1.6e-4 of the largest one, without it by 0.5e-4.
void without_winograd([[maybe_unused]] cv::dnn::Net& net) {
#if CV_VERSION_MAJOR > 4 || (CV_VERSION_MAJOR == 4 && CV_VERSION_MINOR >= 7)
    net.enableWinograd(false);
#endif
}

#endif

} // namespace

TEST_CASE("ONNX's checker accepts every network in both dialects") {
    check_in("checker", "onnx, numpy", OnnxDialect::standard);
    check_in("checker", "onnx, numpy", OnnxDialect::opencv);
}

TEST_CASE("ONNX Runtime computes our logits from every exported network") {
    check_in("onnxruntime", "onnxruntime, numpy", OnnxDialect::standard);
    check_in("onnxruntime", "onnxruntime, numpy", OnnxDialect::opencv);
}

TEST_CASE("ONNX Runtime computes every op of imported networks") {
    const auto python = test::python_with("onnxruntime, numpy");
    if (!python || no_onnx())
        return;
    int compared = 0;
    for (const auto& op_case : test::op_cases()) {
        if (inference_only_ops(op_case.graph, "").empty())
            continue;
        INFO(op_case.name);
        const test::TemporaryFolder folder;
        const Weights weights = test::random_weights(op_case.graph, 1);
        const Tensor input = test::random_tensor(op_case.graph.node(0).shape, 2);
        const bool pools = op_case.name.starts_with("squeeze"); // by products with matrices of a fixed grid
        for (const bool dynamic : pools ? std::vector{false} : std::vector{false, true}) {
            const auto bytes = encode_onnx(op_case.graph, weights, {}, {.dynamic = dynamic});
            REQUIRE_OK(bytes);
            REQUIRE_OK(write_file_atomically(folder / "model.onnx", *bytes, true));
            test::write_tensors(folder / "tensors.safetensors",
                                {{"input", input}, {"output", test::run_reference(op_case.graph, weights, input)}});
            test::require_python(
                *python, "exchange/run_onnx.py",
                {"onnxruntime", folder / "model.onnx", folder / "tensors.safetensors", tolerance(folder)});
            ++compared;
        }
    }
    CHECK(compared > 20);
}

TEST_CASE("OpenVINO computes our logits from every exported network") {
    check_in("openvino", "openvino, numpy", OnnxDialect::standard);
}

TEST_CASE("the OpenCV that Python has computes our logits from every network in its dialect") {
    // Where the coarsest level is one voxel long along x, the new engine of OpenCV 5.0.0 reads memory that it has not
    // written: two runs on one input differ, and its classic engine is right.
    check_in("opencv", "cv2, numpy", OnnxDialect::opencv, 2);
}

#ifdef MFRES_TEST_OPENCV

TEST_CASE("a stock OpenCV computes our logits from every network in its dialect") {
    if (no_onnx())
        return;
    for (const std::string& network : exported_networks()) {
        const Sample made = sample(network);
        const auto graph = build_network(made.model.variant, made.size);
        REQUIRE_OK(graph);
        Tensor input = test::random_tensor(graph->node(0).shape, 4);
        const auto expected = test::run(**find_backend("auto"), *graph, made.model.weights, input);
        REQUIRE_OK(expected);
        for (const bool fold : {false, true}) {
            INFO(network << ", folded " << fold);
            const OnnxExport options{.form = {.dialect = OnnxDialect::opencv}, .size = made.size, .fold = fold};
            const auto bytes = encode_onnx(made.model, options);
            REQUIRE_OK(bytes);
            auto net = cv::dnn::readNetFromONNX(reinterpret_cast<const char*>(bytes->data()), bytes->size());
            without_winograd(net);
            const std::vector<int> extents(input.shape().begin(), input.shape().end());
            net.setInput(cv::Mat(extents, CV_32F, input.data()));
            const cv::Mat output = net.forward();
            REQUIRE(output.total() == static_cast<std::size_t>(expected->elements()));
            Tensor got(expected->shape());
            std::copy_n(output.ptr<float>(), got.elements(), got.data());
            CHECK(test::largest_difference(got, *expected) <= 1e-4 * std::max(1.0, test::largest(*expected)));
        }
    }
}

#endif

TEST_CASE("an export with dynamic axes runs on other grids") {
    const auto python = test::python_with("onnxruntime, numpy");
    if (!python || no_onnx())
        return;
    for (const std::string network : {"mf-res2net", "dmfnet"}) {
        const test::TemporaryFolder folder;
        const Sample made = sample(network);
        REQUIRE_OK(export_onnx(folder / "model.onnx", made.model, {.form = {.dynamic = true}, .size = made.size}));
        write_tensors(folder, made, {2 * made.size[0], made.size[1], made.size[2]});
        test::require_python(*python, "exchange/run_onnx.py",
                             {"onnxruntime", folder / "model.onnx", folder / "tensors.safetensors", tolerance(folder)});
    }
}

TEST_CASE("what cannot be exported is rejected and files are not overwritten") {
    if (no_onnx())
        return;
    const Sample made = sample("mf-res2net");
    REQUIRE_CODE(
        encode_onnx(made.model, {.form = {.dialect = OnnxDialect::opencv, .dynamic = true}, .size = made.size}),
        invalid_argument);
    REQUIRE_CODE(encode_onnx(made.model, {.size = {16, 16, 15}}), invalid_argument);
    const Sample pyramid = sample("3d-espnet");
    REQUIRE_CODE(encode_onnx(pyramid.model, {.form = {.dynamic = true}, .size = pyramid.size}), operation_unsupported);
    REQUIRE_CODE(parse_onnx_dialect("caffe"), invalid_argument);

    Sample incomplete = sample("dmfnet");
    incomplete.model.weights.erase(incomplete.model.weights.begin());
    REQUIRE_CODE(encode_onnx(incomplete.model, {.size = incomplete.size}), model_tensor_missing);

    const test::TemporaryFolder folder;
    const OnnxExport options{.size = made.size};
    REQUIRE_OK(export_onnx(folder / "m.onnx", made.model, options));
    REQUIRE_CODE(export_onnx(folder / "m.onnx", made.model, options), file_exists);
    REQUIRE_OK(export_onnx(folder / "m.onnx", made.model, options, true));
    REQUIRE_CODE(export_onnx(folder / "none" / "m.onnx", made.model, options), file_write);
    const auto first = encode_onnx(made.model, options);
    const auto second = encode_onnx(made.model, options);
    REQUIRE_OK(first);
    REQUIRE_OK(second);
    CHECK(*first == *second);
}
