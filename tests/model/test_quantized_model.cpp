// SPDX-License-Identifier: MIT
// Model files with ranges of activations and integer weights: round trips, and what is rejected.
#include "core/file.h"
#include "core/random.h"
#include "core/try.h"
#include "model/metadata.h"
#include "model/model.h"
#include "model/sha256.h"
#include "support/catch.h"
#include "support/paths.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

using namespace mfres;

namespace {

/// A model calibrated as if every convolution but the first and the last had been measured.
Model calibrated() {
    const auto variant =
        parse_variant(R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})");
    REQUIRE_OK(variant);
    auto model = init_model(*variant, 3);
    REQUIRE_OK(model);
    const auto graph = parameter_graph(*variant);
    REQUIRE_OK(graph);
    const Graph form = inference_form(*graph);
    model->metadata.quantization.calibration = "mse";
    model->metadata.quantization.cases = 2;
    for (NodeId id = 0; id < form.size(); ++id)
        if (form.node(id).kind() == OpKind::conv && form.node(id).inputs[0] != form.input() && !form.is_output(id))
            model->metadata.quantization.ranges.emplace(form.node(id).name, ActivationRange{0.0F, 2.5F});
    return std::move(model).value();
}

/// A sound file's tensors and metadata, to be damaged.
struct Parts {
    Weights weights;
    std::map<std::string, Dtype> dtypes;
    MetadataStrings metadata;
};

Parts sound_parts(const test::TemporaryFolder& folder) {
    REQUIRE_OK(save_model(folder / "sound", calibrated(), Dtype::i8, true));
    const auto file = read_safetensors(folder / "sound");
    REQUIRE_OK(file);
    const auto weights = decode_tensors(*file);
    REQUIRE_OK(weights);
    Parts parts{*weights, {}, {file->metadata.begin(), file->metadata.end()}};
    for (const auto& [name, tensor] : file->tensors)
        parts.dtypes[name] = tensor.dtype;
    return parts;
}

Result<Model> load_parts(const test::TemporaryFolder& folder, const Parts& parts) {
    std::map<std::string, TensorToWrite, std::less<>> tensors;
    for (const auto& [name, tensor] : parts.weights)
        tensors.emplace(name, TensorToWrite{&tensor, parts.dtypes.at(name)});
    const auto bytes = encode_safetensors(tensors, parts.metadata);
    REQUIRE_OK(bytes);
    REQUIRE_OK(write_file_atomically(folder / "parts", *bytes, true));
    return load_model(folder / "parts");
}

constexpr const char* conv = "enc2.down.conv.weight";
constexpr const char* scale = "enc2.down.conv.weight_scale";

} // namespace

TEST_CASE("integer weights read back as the floats they stand for, and write the same file again") {
    const test::TemporaryFolder folder;
    const Model model = calibrated();
    REQUIRE_OK(save_model(folder / "a", model, Dtype::i8));
    const auto loaded = load_model(folder / "a");
    REQUIRE_OK(loaded);
    CHECK(loaded->metadata.quantization.int8_weights);
    CHECK(loaded->metadata.quantization.calibration == "mse");
    CHECK(loaded->metadata.quantization.cases == 2);
    CHECK(loaded->metadata.quantization.ranges == model.metadata.quantization.ranges);
    CHECK(loaded->metadata.weights_sha256 == weights_sha256(loaded->weights));
    const auto file = read_safetensors(folder / "a");
    REQUIRE_OK(file);
    CHECK(file->tensors.find(conv)->second.dtype == Dtype::i8);
    CHECK(file->tensors.find("enc1.down.conv.weight")->second.dtype == Dtype::f32);
    // A split convolution of which both parts have ranges is one tensor of integers.
    CHECK(file->tensors.find("dec1.unit.mf1.conv.weight")->second.dtype == Dtype::i8);
    for (const auto& [name, tensor] : model.weights) {
        INFO(name);
        const Tensor& stored = loaded->weights.at(name);
        const bool integers = file->tensors.find(name)->second.dtype == Dtype::i8;
        const std::int64_t taps = integers ? tensor.elements() / tensor.shape()[0] : 1;
        const std::vector<float> largest = integers ? largest_per_channel(tensor) : std::vector<float>();
        double worst = 0.0; // in steps
        for (std::int64_t i = 0; i < tensor.elements(); ++i) {
            const double step = integers ? largest[static_cast<std::size_t>(i / taps)] / 127.0 : 1.0;
            worst = std::max(worst, std::abs(double{tensor[i]} - double{stored[i]}) / step);
        }
        CHECK(worst <= (integers ? 0.5001 : 0.0));
    }
    REQUIRE_OK(save_model(folder / "b", *loaded, Dtype::i8));
    const auto again = load_model(folder / "b");
    REQUIRE_OK(again);
    for (const auto& [name, tensor] : loaded->weights) {
        INFO(name);
        double worst = 0.0;
        for (std::int64_t i = 0; i < tensor.elements(); ++i)
            worst = std::max(worst, std::abs(double{tensor[i]} / again->weights.at(name)[i] - 1.0) *
                                        (tensor[i] != 0.0F ? 1.0 : 0.0));
        CHECK(worst <= 3e-7); // the same integers; a scale may round differently in its last bit
    }
    REQUIRE_OK(save_model(folder / "c", *loaded));
    const auto floats = load_model(folder / "c");
    REQUIRE_OK(floats);
    CHECK_FALSE(floats->metadata.quantization.int8_weights);
    CHECK(floats->metadata.weights_sha256 == loaded->metadata.weights_sha256);
}

TEST_CASE("a model without ranges is not stored in int8, nor one with ranges of another network") {
    const test::TemporaryFolder folder;
    Model model = calibrated();
    model.metadata.quantization.ranges.emplace("enc9.conv", ActivationRange{0.0F, 1.0F});
    REQUIRE_CODE(save_model(folder / "m", model, Dtype::i8), model_metadata_invalid);
    model.metadata.quantization.ranges.clear();
    REQUIRE_CODE(save_model(folder / "m", model, Dtype::i8), invalid_argument);
    CHECK_FALSE(std::filesystem::exists(folder / "m"));
}

TEST_CASE("damaged integer weights are rejected with an exact code") {
    const test::TemporaryFolder folder;
    const Parts sound = sound_parts(folder);
    REQUIRE_OK(load_parts(folder, sound));
    const auto rejected = [&](const std::function<void(Parts&)>& damage) {
        Parts parts = sound;
        damage(parts);
        const auto loaded = load_parts(folder, parts);
        REQUIRE_FALSE(loaded.ok());
        CHECK(loaded.error().where == (folder / "parts").string());
        return loaded.error().code;
    };
    CHECK(rejected([](Parts& p) { p.weights.erase(scale); }) == ErrorCode::model_tensor_missing);
    CHECK(rejected([](Parts& p) { p.weights.at(scale) = Tensor(Shape{3}, 1.0F); }) == ErrorCode::model_tensor_shape);
    CHECK(rejected([](Parts& p) {
              p.weights.at(scale) = Tensor(Shape{16, 1}, 1.0F);
          }) == ErrorCode::model_tensor_shape);
    CHECK(rejected([](Parts& p) { p.weights.at(scale)[0] = 0.0F; }) == ErrorCode::model_metadata_invalid);
    CHECK(rejected([](Parts& p) { p.weights.at(scale)[0] = -1.0F; }) == ErrorCode::model_metadata_invalid);
    CHECK(rejected([](Parts& p) { p.weights.at(conv)[0] = -128.0F; }) == ErrorCode::model_metadata_invalid);
    CHECK(rejected([](Parts& p) { p.weights.at(conv)[0] += p.weights.at(conv)[0] > 0.0F ? -1.0F : 1.0F; }) ==
          ErrorCode::model_hash_mismatch);
    CHECK(rejected([](Parts& p) { p.weights.at(scale)[0] *= 2.0F; }) == ErrorCode::model_hash_mismatch);
    CHECK(rejected([](Parts& p) { p.dtypes.at(conv) = Dtype::f32; }) == ErrorCode::model_tensor_extra);
    CHECK(rejected([](Parts& p) {
              p.weights.emplace("x.weight_scale", Tensor(Shape{1}, 1.0F));
              p.dtypes["x.weight_scale"] = Dtype::f32;
          }) == ErrorCode::model_tensor_extra);
}

TEST_CASE("an integer tensor that is the scale of other integers is rejected") {
    const test::TemporaryFolder folder;
    Parts parts = sound_parts(folder);
    const Shape shape = parts.weights.at(scale).shape();
    parts.weights.at(scale) = Tensor(shape, 3.0F);
    parts.dtypes.at(scale) = Dtype::i8;
    parts.weights.emplace(text(scale, "_scale"), Tensor(shape, 1.0F));
    parts.dtypes[text(scale, "_scale")] = Dtype::f32;
    REQUIRE_CODE(load_parts(folder, parts), model_metadata_invalid);
    // A chain, and a file whose other integers come later in the order of names.
    parts.weights.emplace(text(scale, "_scale_scale"), Tensor(shape, 1.0F));
    parts.dtypes[text(scale, "_scale_scale")] = Dtype::f32;
    parts.dtypes[text(scale, "_scale")] = Dtype::i8;
    REQUIRE_CODE(load_parts(folder, parts), model_metadata_invalid);
    // An integer tensor whose name ends like a scale's, without integers that it could be the scale of.
    Parts alone = sound_parts(folder);
    alone.weights.emplace("x_scale", Tensor(Shape{2}, 3.0F));
    alone.dtypes["x_scale"] = Dtype::i8;
    REQUIRE_CODE(load_parts(folder, alone), model_tensor_missing);
}

TEST_CASE("a scale whose product with its integers overflows is rejected") {
    const test::TemporaryFolder folder;
    Parts parts = sound_parts(folder);
    Tensor& scales = parts.weights.at(scale);
    for (std::int64_t i = 0; i < scales.elements(); ++i)
        scales[i] = 1e38F;
    REQUIRE_CODE(load_parts(folder, parts), model_not_finite);
}

TEST_CASE("weights near the ends of the range of floats are quantized without undefined conversions") {
    const Tensor weight = [] {
        Tensor made(Shape{2, 1, 1, 1, 2}, 0.0F);
        made[0] = std::numeric_limits<float>::denorm_min();
        made[2] = std::numeric_limits<float>::max();
        made[3] = -std::numeric_limits<float>::max();
        return made;
    }();
    const QuantizedWeights quantized = quantize_weights(weight, largest_per_channel(weight));
    CHECK(quantized.values == std::vector<std::int8_t>{0, 0, 127, -127});
    for (const float s : quantized.scales)
        CHECK((std::isfinite(s) && s > 0.0F));
}

TEST_CASE("hostile quantization metadata are rejected as metadata") {
    const test::TemporaryFolder folder;
    const Parts sound = sound_parts(folder);
    const std::string ranges = R"("ranges": {"enc2.down.conv": [0, 2.5]})";
    const std::string head = R"({"calibration": "mse", "cases": 2, "weights": "int8", )";
    for (const std::string& json : {
             std::string(""),
             std::string("[]"),
             std::string("{}"),
             head + "}",
             head + R"("ranges": {}})",
             head + R"("ranges": []})",
             head + R"("ranges": {"enc2.down.conv": [0]}})",
             head + R"("ranges": {"enc2.down.conv": [0, "1"]}})",
             head + R"("ranges": {"enc2.down.conv": [1, 2]}})",
             head + R"("ranges": {"enc2.down.conv": [0, -1]}})",
             head + R"("ranges": {"enc2.down.conv": [0, 1e31]}})",
             head + R"("ranges": {"enc2.down.conv": [0, 1e999]}})",
             head + R"("ranges": {"enc2.down.bn": [0, 1]}})",
             head + R"("ranges": {"nothing": [0, 1]}})",
             head + ranges + R"(, "more": 1})",
             head + ranges,
             R"({"calibration": "best", "cases": 2, "weights": "int8", )" + ranges + "}",
             R"({"calibration": 1, "cases": 2, "weights": "int8", )" + ranges + "}",
             R"({"calibration": "mse", "cases": 0, "weights": "int8", )" + ranges + "}",
             R"({"calibration": "mse", "cases": 1.5, "weights": "int8", )" + ranges + "}",
             R"({"calibration": "mse", "cases": 2, "weights": "int4", )" + ranges + "}",
         }) {
        INFO(json);
        Parts parts = sound;
        parts.metadata["mfres.quantisation"] = json;
        REQUIRE_CODE(load_parts(folder, parts), model_metadata_invalid);
    }
    // Without the key the integers are no weights of this network.
    Parts parts = sound;
    parts.metadata.erase("mfres.quantisation");
    REQUIRE_CODE(load_parts(folder, parts), model_tensor_extra);
}
