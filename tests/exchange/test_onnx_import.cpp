// SPDX-License-Identifier: MIT
// ONNX files read back: ours, PyTorch's, and broken or hostile ones.
#include "core/file.h"
#include "exchange/match.h"
#include "exchange/onnx.h"
#include "graph/rewrite.h"
#include "support/child.h"
#include "support/network_runs.h"
#include "support/op_cases.h"
#include "support/python.h"

#include <cstdio>

#if __has_include(<onnx/onnx_pb.h>)
#define ONNX_ML 1
#define ONNX_NAMESPACE onnx
#include <functional>
#include <onnx/onnx_pb.h>
#define MFRES_TEST_ONNX
#endif

using namespace mfres;

namespace {

const std::string path = "file.onnx";

bool no_onnx() {
    const auto rejected = decode_onnx({}, path);
    const bool absent = rejected.error().code == ErrorCode::operation_unsupported;
    if (absent)
        std::printf("SKIPPED: %s\n", rejected.error().message.c_str());
    return absent;
}

Model random_model(std::string_view network) {
    const auto variant = parse_variant(network);
    REQUIRE_OK(variant);
    const auto graph = parameter_graph(*variant);
    REQUIRE_OK(graph);
    return {*variant, {}, test::random_weights(*graph, 8)};
}

bool same_bits(const Weights& a, const Weights& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
               return x.first == y.first && x.second.shape() == y.second.shape() &&
                      std::equal(x.second.values().begin(), x.second.values().end(), y.second.values().begin());
           });
}

constexpr std::string_view small_network =
    R"({"network": "mf-res2net", "widths": [8, 16], "decoder": [8, 4], "units": [1, 1], "decoder_units": [1, 1]})";

constexpr std::string_view transposed_unet =
    R"({"network": "3d-unet", "widths": [8, 16, 24], "decoder_convs": [1, 2], "interpolation": "transposed"})";

/// The input and output that torch_networks.py has left.
std::pair<Tensor, Tensor> torch_tensors(const test::TemporaryFolder& folder) {
    const auto tensors = read_safetensors(folder / "tensors.safetensors");
    REQUIRE_OK(tensors);
    auto input = decode_tensor(*tensors, "input");
    auto output = decode_tensor(*tensors, "output");
    REQUIRE_OK(input);
    REQUIRE_OK(output);
    return {std::move(input).value(), std::move(output).value()};
}

/// Whether ONNX Runtime computes what PyTorch has computed, to 1e-4 of its largest value; false where it is missing.
bool check_in_onnxruntime(const test::TemporaryFolder& folder, const std::string& file) {
    const auto python = test::python_with("onnxruntime, numpy");
    if (!python)
        return false;
    const double tolerance = 1e-4 * std::max(1.0, test::largest(torch_tensors(folder).second));
    test::require_python(*python, "exchange/run_onnx.py",
                         {"onnxruntime", folder / file, folder / "tensors.safetensors", std::to_string(tolerance)});
    return true;
}

std::vector<std::byte> small_file(OnnxExport options = {}) {
    options.size = {16, 16, 16};
    auto bytes = encode_onnx(random_model(small_network), options);
    REQUIRE_OK(bytes);
    return std::move(bytes).value();
}

/// The file with one piece of its bytes replaced by another of the same length, everywhere.
std::vector<std::byte> replaced(std::vector<std::byte> bytes, const std::string& from, const std::string& to) {
    REQUIRE(from.size() == to.size());
    auto* text = reinterpret_cast<char*>(bytes.data());
    std::string_view all(text, bytes.size());
    std::size_t count = 0;
    for (std::size_t at = all.find(from); at != std::string_view::npos; at = all.find(from, at + 1), ++count)
        std::copy(to.begin(), to.end(), text + at);
    REQUIRE(count > 0);
    return bytes;
}

} // namespace

TEST_CASE("our own ONNX files come back bit for bit") {
    if (no_onnx())
        return;
    for (const std::string& network : network_names()) {
        INFO(network);
        const Model model = random_model(network);
        const std::int64_t edge = std::max<std::int64_t>(16, model.variant.multiple());
        for (const bool dynamic : {false, true}) {
            if (dynamic && network != "mf-res2net" && network != "dmfnet")
                continue; // the large ones take long
            const auto bytes = encode_onnx(model, {.form = {.dynamic = dynamic}, .size = {edge, edge, 2 * edge}});
            REQUIRE_OK(bytes);
            const auto back = import_onnx(*bytes, path);
            REQUIRE_OK(back);
            CHECK(back->variant.json() == model.variant.json());
            CHECK(same_bits(back->weights, model.weights));
            CHECK(back->metadata.recipe_json == model.metadata.recipe_json);
            CHECK(back->metadata.modalities == model.metadata.modalities);
        }
    }
}

TEST_CASE("a network is recognised without metadata, by its graph alone") {
    if (no_onnx())
        return;
    for (const std::string& network : network_names()) {
        if (network == "3d-espnet")
            continue; // its pooling leaves as products with matrices, which only its own metadata explain
        INFO(network);
        const Model model = random_model(network);
        const std::int64_t edge = std::max<std::int64_t>(16, model.variant.multiple());
        const auto graph = build_network(model.variant, {edge, edge, edge});
        REQUIRE_OK(graph);
        const auto bytes = encode_onnx(*graph, model.weights, {}, {});
        REQUIRE_OK(bytes);
        REQUIRE_CODE(import_onnx(*bytes, path), model_metadata_invalid);
        const auto back = import_onnx(*bytes, path, &model.variant);
        REQUIRE_OK(back);
        CHECK(same_bits(back->weights, model.weights));
    }
}

TEST_CASE("a folded file becomes a model with the same logits") {
    if (no_onnx())
        return;
    for (const std::string network : {"mf-res2net", "dmfnet", "3d-espnet"}) {
        INFO(network);
        const Model model = random_model(network);
        const auto bytes = encode_onnx(model, {.size = {16, 16, 32}, .fold = true});
        REQUIRE_OK(bytes);
        const auto back = import_onnx(*bytes, path);
        REQUIRE_OK(back);
        const auto graph = build_network(model.variant, {16, 16, 32});
        REQUIRE_OK(graph);
        const Tensor input = test::random_tensor(graph->node(0).shape, 1);
        const auto before = test::run(**find_backend("auto"), *graph, model.weights, input);
        const auto after = test::run(**find_backend("auto"), *graph, back->weights, input);
        REQUIRE_OK(before);
        REQUIRE_OK(after);
        CHECK(test::largest_difference(*after, *before) <= 1e-5 * std::max(1.0, test::largest(*before)));
    }
}

TEST_CASE("graphs of every operation but adaptive pooling come back from ONNX and compute the same") {
    if (no_onnx())
        return;
    int compared = 0;
    for (const auto& op_case : test::op_cases()) {
        INFO(op_case.name);
        const Weights weights = test::random_weights(op_case.graph, 1);
        const auto bytes = encode_onnx(op_case.graph, weights, {}, {});
        REQUIRE_OK(bytes);
        const auto back = decode_onnx(*bytes, path);
        if (op_case.name.starts_with("adaptive_avg_pool") || op_case.name.starts_with("squeeze")) {
            REQUIRE_CODE(back, operation_unsupported);
            continue;
        }
        REQUIRE_OK(back);
        CHECK(match_graphs(op_case.graph, back->graph).has_value());
        const Tensor input = test::random_tensor(op_case.graph.node(0).shape, 2);
        CHECK(test::largest_difference(test::run_reference(op_case.graph, weights, input),
                                       test::run_reference(back->graph, back->weights, input)) == 0.0);
        ++compared;
    }
    CHECK(compared > 200);
}

TEST_CASE("PyTorch's exports of three networks are recognised and compute what PyTorch computed") {
    const auto python = test::python_with("torch, numpy, onnx");
    if (!python || no_onnx())
        return;
    const std::pair<std::string, std::string> networks[] = {
        {"mf-res2net", R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})"},
        {"dmfnet", R"({"network": "dmfnet", "n": 8, "channels": 16, "groups": 4})"},
        {"3d-unet", std::string(transposed_unet)}};
    for (const auto& [network, json] : networks) {
        const test::TemporaryFolder folder;
        test::require_python(*python, "exchange/torch_networks.py", {network, folder.path()});
        for (const std::string file : {"folded.onnx", "plain.onnx", "default.onnx"}) {
            INFO(network << " " << file);
            const auto variant = parse_variant(json);
            REQUIRE_OK(variant);
            const auto model = import_onnx(folder / file, &*variant);
            REQUIRE_OK(model);
            const auto tensors = read_safetensors(folder / "tensors.safetensors");
            REQUIRE_OK(tensors);
            const auto input = decode_tensor(*tensors, "input");
            const auto expected = decode_tensor(*tensors, "output");
            REQUIRE_OK(input);
            REQUIRE_OK(expected);
            const auto graph = build_network(*variant, spatial(input->shape()));
            REQUIRE_OK(graph);
            const Tensor got = test::run_reference(*graph, model->weights, *input);
            CHECK(test::largest_difference(got, *expected) <= 1e-4 * std::max(1.0, test::largest(*expected)));

            const auto other = parse_variant(small_network);
            REQUIRE_OK(other);
            REQUIRE_CODE(import_onnx(folder / file, &*other), model_metadata_invalid);
        }
    }
}

TEST_CASE("a U-Net with transposed convolutions goes from PyTorch through a model file to ONNX Runtime") {
    const auto python = test::python_with("torch, numpy, onnx");
    if (!python || no_onnx())
        return;
    const test::TemporaryFolder folder;
    test::require_python(*python, "exchange/torch_networks.py", {"3d-unet", folder.path()});
    const auto variant = parse_variant(transposed_unet);
    REQUIRE_OK(variant);
    auto imported = import_onnx(folder / "default.onnx", &*variant);
    REQUIRE_OK(imported);
    imported->metadata.modalities = ModelMetadata().modalities; // a foreign file does not name them
    REQUIRE_OK(save_model(folder / "unet.safetensors", *imported));
    const auto model = load_model(folder / "unet.safetensors");
    REQUIRE_OK(model);
    const auto [input, output] = torch_tensors(folder);
    for (const bool fold : {false, true}) {
        REQUIRE_OK(export_onnx(folder / "again.onnx", *model, {.size = spatial(input.shape()), .fold = fold},
                               /*overwrite=*/true));
        if (!check_in_onnxruntime(folder, "again.onnx"))
            return;
    }
}

/// A file with every op that only imported networks have, in a folder with tensors.safetensors, comes in, computes what
/// PyTorch computed on every backend, and goes out again.
void check_imported_ops(const test::TemporaryFolder& folder, const std::filesystem::path& file) {
    const auto [input, output] = torch_tensors(folder);
    const auto network = decode_onnx(file, spatial(input.shape()));
    REQUIRE_OK(network);
    for (const Backend* backend : test::usable_backends()) {
        INFO(backend->name());
        const auto got = test::run(*backend, network->graph, network->weights, input);
        if (backend->name() == "opencv") {
            REQUIRE_CODE(got, operation_unsupported); // transposed convolutions that overlap along x
            continue;
        }
        REQUIRE_OK(got);
        CHECK(test::largest_difference(*got, output) <= 1e-4 * std::max(1.0, test::largest(output)));
    }
    const auto again = encode_onnx(network->graph, network->weights, {}, {});
    REQUIRE_OK(again);
    REQUIRE_OK(write_file_atomically(folder / "again.onnx", *again));
}

TEST_CASE("a PyTorch network of the ops that are there for imported networks comes in and goes out again") {
    const auto python = test::python_with("torch, numpy, onnx");
    if (!python || no_onnx())
        return;
    const test::TemporaryFolder folder;
    test::require_python(*python, "exchange/torch_networks.py", {"attention", folder.path()});
    for (const std::string file : {"plain.onnx", "default.onnx"}) {
        INFO(file);
        check_imported_ops(folder, folder / file);
        if (!check_in_onnxruntime(folder, "again.onnx"))
            return;
    }
}

TEST_CASE("what PyTorch 2.15 exports by default is read, with the file of its weights") {
    // Made by `torch_networks.py attention FOLDER 8 8 8` with PyTorch 2.15.0; without its stack traces, which name folders.
    if (no_onnx())
        return;
    const test::TemporaryFolder folder;
    for (const char* file : {"default.onnx", "default.onnx.data", "tensors.safetensors"})
        std::filesystem::copy(std::filesystem::path(MFRES_SOURCE_DIR) / "tests/exchange/pytorch-2.15" / file,
                              folder / file);
    check_imported_ops(folder, folder / "default.onnx");
}

TEST_CASE("hostile, damaged and foreign ONNX files are rejected with an exact code") {
    if (no_onnx())
        return;
    const auto file = small_file();
    REQUIRE_OK(import_onnx(file, path));
    REQUIRE_CODE(import_onnx(std::span<const std::byte>(), path), model_header_invalid);
    REQUIRE_CODE(import_onnx(std::filesystem::path("/nowhere/x.onnx")), file_not_found);
    const std::string words = "this is no protobuf message at all, only words";
    REQUIRE_CODE(import_onnx(std::as_bytes(std::span(words)), path), model_header_invalid);
    // Cut anywhere: fields are missing or end early.
    for (std::size_t size = 1; size < file.size(); size += file.size() / 97) {
        INFO("cut to " << size);
        CHECK_FALSE(import_onnx(std::span(file).first(size), path).ok());
    }
    REQUIRE_CODE(import_onnx(std::span(file).first(file.size() - 1), path), model_header_invalid);
    // Another operator, attribute, order, name, dialect.
    REQUIRE_CODE(decode_onnx(replaced(file, "Relu", "Tanh"), path), operation_unsupported);
    REQUIRE_CODE(decode_onnx(replaced(file, "dilations", "dilatiomz"), path), operation_unsupported);
    REQUIRE_CODE(decode_onnx(replaced(file, "half_pixel", "half_pixex"), path), operation_unsupported);
    REQUIRE_CODE(import_onnx(small_file({.form = {.dialect = OnnxDialect::opencv}}), path), operation_unsupported);
    REQUIRE_CODE(decode_onnx(small_file({.form = {.dialect = OnnxDialect::opencv}}), path), operation_unsupported);
    REQUIRE_CODE(import_onnx(replaced(file, "zscore-brain", "zscore-train"), path), model_metadata_invalid);
    REQUIRE_CODE(import_onnx(replaced(file, "mfres.onnx.size", "mfres.onnx.sise"), path), model_metadata_invalid);
    REQUIRE_CODE(import_onnx(replaced(file, "mfres.variant", "mfres.Variant"), path), model_metadata_invalid);
    const auto other = parse_variant("dmfnet");
    REQUIRE_OK(other);
    REQUIRE_CODE(import_onnx(file, path, &*other), model_metadata_invalid);
}

TEST_CASE("a weight that was changed is found by its hash") {
    if (no_onnx())
        return;
    Model model = random_model(small_network);
    const float marked = 0.123456789F;
    model.weights.begin()->second[0] = marked;
    auto bytes = encode_onnx(model, {.size = {16, 16, 16}});
    REQUIRE_OK(bytes);
    const auto swap_in = [&](float value) {
        const std::string from(reinterpret_cast<const char*>(&marked), sizeof marked);
        return replaced(*bytes, from, std::string(reinterpret_cast<const char*>(&value), sizeof value));
    };
    REQUIRE_OK(import_onnx(*bytes, path));
    REQUIRE_CODE(import_onnx(swap_in(0.5F), path), model_hash_mismatch);
    REQUIRE_CODE(import_onnx(swap_in(std::nanf("")), path), model_not_finite);
}

TEST_CASE("mutated ONNX files never crash, hang or pass unnoticed as a different model") {
    if (no_onnx())
        return;
    const auto file = small_file();
    const auto original = import_onnx(file, path);
    REQUIRE_OK(original);
    Random random(11);
    for (int i = 0; i < 400; ++i) {
        auto mutant = file;
        for (int changes = 0; changes < 3; ++changes)
            mutant[static_cast<std::size_t>(random.below(mutant.size()))] = static_cast<std::byte>(random.below(256));
        const auto read = import_onnx(mutant, path);
        if (read)
            CHECK(same_bits(read->weights, original->weights));
        else
            CHECK(read.error().message.find(path) == 0);
    }
}

TEST_CASE("a hole of 2 GiB that is called .onnx is rejected without being read") {
    if (no_onnx())
        return;
    const test::TemporaryFolder folder;
    test::make_sparse(folder / "hole.onnx", "", max_onnx_bytes);
    // The beginning of a model whose graph is one field of a GiB: its own first field is a hole.
    test::make_sparse(folder / "graph.onnx", std::string("\x08\x08\x3A\x80\x80\x80\x80\x04", 8), (1U << 30U) + 8U);
    const auto code = test::in_small_memory([&] {
        for (const std::string name : {"hole.onnx", "graph.onnx"}) {
            const auto model = import_onnx(folder / name);
            if (model || model.error().code != ErrorCode::model_header_invalid)
                return 1;
        }
        return 0;
    });
    CHECK(code.value_or(0) == 0);
}

TEST_CASE("the outline of an ONNX file is followed to its end") {
    if (no_onnx())
        return;
    const test::TemporaryFolder folder;
    const auto file = small_file();
    REQUIRE_OK(write_file_atomically(folder / "good.onnx", file));
    REQUIRE_OK(import_onnx(folder / "good.onnx"));
    for (std::size_t size = 1; size < file.size(); size += file.size() / 41) {
        REQUIRE_OK(write_file_atomically(folder / "cut.onnx", std::span(file).first(size)));
        CHECK_FALSE(import_onnx(folder / "cut.onnx").ok());
    }
}

#ifdef MFRES_TEST_ONNX
TEST_CASE("attributes of Resize that PyTorch's dynamo exporter writes are read, and other values rejected") {
    if (no_onnx())
        return;
    const Model model = random_model(small_network);
    const auto graph = build_network(model.variant, {16, 16, 16});
    REQUIRE_OK(graph);
    const auto bytes = encode_onnx(*graph, model.weights, {}, {});
    REQUIRE_OK(bytes);
    const auto with = [&](const std::string& policy, std::int64_t antialias, std::int64_t exclude_outside) {
        onnx::ModelProto proto;
        REQUIRE(proto.ParseFromArray(bytes->data(), static_cast<int>(bytes->size())));
        int resized = 0;
        for (onnx::NodeProto& node : *proto.mutable_graph()->mutable_node()) {
            if (node.op_type() != "Resize")
                continue;
            ++resized;
            const auto add = [&](const char* name, onnx::AttributeProto_AttributeType type) -> onnx::AttributeProto& {
                onnx::AttributeProto& attribute = *node.add_attribute();
                attribute.set_name(name);
                attribute.set_type(type);
                return attribute;
            };
            add("keep_aspect_ratio_policy", onnx::AttributeProto_AttributeType_STRING).set_s(policy);
            add("antialias", onnx::AttributeProto_AttributeType_INT).set_i(antialias);
            add("exclude_outside", onnx::AttributeProto_AttributeType_INT).set_i(exclude_outside);
            add("extrapolation_value", onnx::AttributeProto_AttributeType_FLOAT).set_f(0.0F);
        }
        REQUIRE(resized > 0);
        const std::string written = proto.SerializeAsString();
        return import_onnx(std::as_bytes(std::span(written)), path, &model.variant);
    };
    const auto standard = with("stretch", 0, 0);
    REQUIRE_OK(standard);
    CHECK(same_bits(standard->weights, model.weights));
    const auto kept = with("not_larger", 0, 0);
    REQUIRE_CODE(kept, operation_unsupported);
    CHECK(kept.error().message.find("keep_aspect_ratio_policy not_larger") != std::string::npos);
    REQUIRE_CODE(with("stretch", 1, 0), operation_unsupported);
    REQUIRE_CODE(with("stretch", 0, 1), operation_unsupported);
}

TEST_CASE("the description in an ONNX file says how the background is found and what is outside the brain") {
    if (no_onnx())
        return;
    const auto bytes = small_file();
    onnx::ModelProto proto;
    REQUIRE(proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    for (
        const char* sentence :
        {"the background of a modality is the most frequent value on the six faces of its volume",
         "the largest part, connected through faces, edges or corners, of the voxels that are not background in at least "
         "one modality",
         "every voxel outside the brain is 0 in all channels",
         "Voxels outside the brain are labelled 0 whatever the logits say."}) {
        INFO(sentence);
        CHECK(proto.doc_string().find(sentence) != std::string::npos);
    }
}

TEST_CASE("shared weights behind Identity, a Softmax at the end and weights in files beside the model are understood") {
    if (no_onnx())
        return;
    const Model model = random_model(small_network);
    const auto graph = build_network(model.variant, {16, 16, 16});
    REQUIRE_OK(graph);
    const auto bytes = encode_onnx(*graph, model.weights, {}, {});
    REQUIRE_OK(bytes);
    const auto changed = [&](const std::function<void(onnx::GraphProto&)>& change) {
        onnx::ModelProto proto;
        REQUIRE(proto.ParseFromArray(bytes->data(), static_cast<int>(bytes->size())));
        change(*proto.mutable_graph());
        const std::string written = proto.SerializeAsString();
        return import_onnx(std::as_bytes(std::span(written)), path, &model.variant);
    };
    const auto softmax = changed([](onnx::GraphProto& made) {
        onnx::NodeProto& node = *made.add_node();
        node.set_op_type("Softmax");
        node.add_input(made.output(0).name());
        node.add_output("probabilities");
        onnx::AttributeProto& axis = *node.add_attribute();
        axis.set_name("axis");
        axis.set_type(onnx::AttributeProto_AttributeType_INT);
        axis.set_i(1);
        made.mutable_output(0)->set_name("probabilities");
    });
    REQUIRE_OK(softmax);
    CHECK(same_bits(softmax->weights, model.weights));

    const auto identity = changed([](onnx::GraphProto& made) {
        int added = 0;
        for (int i = 0; i < made.initializer_size(); ++i) {
            onnx::TensorProto& tensor = *made.mutable_initializer(i);
            if (tensor.data_type() != onnx::TensorProto_DataType_FLOAT)
                continue;
            onnx::NodeProto& node = *made.add_node();
            node.set_op_type("Identity");
            node.add_output(tensor.name());
            tensor.set_name("shared." + tensor.name());
            node.add_input(tensor.name());
            ++added;
        }
        // In front of the nodes that read them.
        for (int moved = 0, last = made.node_size() - 1; moved < added; ++moved)
            for (int i = last; i > moved; --i)
                made.mutable_node()->SwapElements(i, i - 1);
    });
    REQUIRE_OK(identity);
    CHECK(same_bits(identity->weights, model.weights));

    const auto external = changed([](onnx::GraphProto& made) { // bytes have no folder
        onnx::TensorProto& tensor = *made.mutable_initializer(0);
        tensor.clear_raw_data();
        tensor.set_data_location(onnx::TensorProto_DataLocation_EXTERNAL);
        onnx::StringStringEntryProto& place = *tensor.add_external_data();
        place.set_key("location");
        place.set_value("model.onnx.data");
    });
    REQUIRE_CODE(external, operation_unsupported);
    CHECK(external.error().message.find("onnx.save_model(onnx.load(") != std::string::npos);

    // By its path the same model is read, as PyTorch writes it, and from its own folder only.
    const test::TemporaryFolder folder;
    const auto at_path = [&](const std::string& location, std::int64_t shift, const std::string& length = {}) {
        onnx::ModelProto proto;
        REQUIRE(proto.ParseFromArray(bytes->data(), static_cast<int>(bytes->size())));
        std::string data;
        for (onnx::TensorProto& tensor : *proto.mutable_graph()->mutable_initializer()) {
            const auto add = [&](const std::string& key, const std::string& value) {
                onnx::StringStringEntryProto& entry = *tensor.add_external_data();
                entry.set_key(key);
                entry.set_value(value);
            };
            add("location", location);
            add("offset", std::to_string(static_cast<std::int64_t>(data.size()) + shift));
            add("length", length.empty() ? std::to_string(tensor.raw_data().size()) : length);
            data += tensor.raw_data();
            tensor.clear_raw_data();
            tensor.set_data_location(onnx::TensorProto_DataLocation_EXTERNAL);
        }
        REQUIRE_OK(write_file_atomically(folder / "m.onnx", proto.SerializeAsString()));
        REQUIRE_OK(write_file_atomically(folder / "m.onnx.data", data));
        return import_onnx(folder / "m.onnx", &model.variant);
    };
    const auto beside = at_path("m.onnx.data", 0);
    REQUIRE_OK(beside);
    CHECK(same_bits(beside->weights, model.weights));
    CHECK(beside->metadata.modalities.empty()); // nobody knows them
    REQUIRE_OK(at_path("./m.onnx.data", 0));
    for (const std::string bad : {"../m.onnx.data", "/etc/passwd", "a/m.onnx.data", "..", "."}) {
        INFO(bad);
        const auto rejected = at_path(bad, 0);
        REQUIRE_CODE(rejected, model_header_invalid);
        CHECK(rejected.error().message.find("the model's own folder") != std::string::npos);
    }
    REQUIRE_CODE(at_path("absent.data", 0), file_not_found);
    REQUIRE_CODE(at_path("m.onnx.data", 4), model_truncated);
    REQUIRE_CODE(at_path("m.onnx.data", 0, "8"), model_tensor_size);
    REQUIRE_CODE(at_path("m.onnx.data", 0, "many"), model_header_invalid);
    std::filesystem::create_symlink(folder / "m.onnx.data", folder / "link.data");
    REQUIRE_CODE(at_path("link.data", 0), model_header_invalid);

    const auto negative = changed([](onnx::GraphProto& made) {
        for (onnx::TensorProto& tensor : *made.mutable_initializer())
            if (tensor.name().ends_with("running_var"))
                tensor.mutable_raw_data()->at(3) = static_cast<char>(0xBF); // sign of the first value, little-endian
    });
    REQUIRE_CODE(negative, model_not_finite);
}
#endif
