// SPDX-License-Identifier: MIT
#include "core/file.h"
#include "model/describe.h"
#include "model/files.h"
#include "support/catch.h"
#include "support/golden.h"
#include "support/paths.h"

#include <nlohmann/json.hpp>

using namespace mfres;

namespace {

Model fresh(std::string_view variant_text) {
    const auto variant = parse_variant(variant_text);
    REQUIRE_OK(variant);
    auto model = init_model(*variant, 1);
    REQUIRE_OK(model);
    return std::move(model).value();
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

nlohmann::json parsed(const ModelInfo& info) {
    const auto json = nlohmann::json::parse(info_json(info), nullptr, false);
    REQUIRE_FALSE(json.is_discarded());
    return json;
}

/// `tensors` and `input` are what the file's description says.
void check_golden(const std::filesystem::path& path, std::size_t tensors, const Shape& input) {
    const auto info = describe(path);
    REQUIRE_OK(info);
    CHECK(info->kind == FileKind::tensors);
    CHECK(info->tensors.size() == tensors);
    CHECK(contains(info_text(*info), "made_with = PyTorch"));
    REQUIRE_CODE(load_model(path), model_metadata_invalid);

    const auto golden = test::load_golden(path);
    REQUIRE_OK(golden);
    CHECK(golden->values.at("input").shape() == input);
    CHECK(golden->values.at("output").shape() == input); // four modalities in, four classes out
    std::size_t gradients = 0;
    for (const Node& node : golden->graph.nodes())
        for (const Parameter& parameter : node.parameters)
            if (const auto found = golden->values.find("grad." + parameter.name); found != golden->values.end()) {
                CHECK(found->second.shape() == parameter.shape);
                ++gradients;
            }
    // Beside weights and gradients: input, output, train.output, train.cotangent, train.loss.
    CHECK(golden->weights.size() + gradients + 5 == tensors);
}

} // namespace

TEST_CASE("the description of a model file names network, counts and verified hash") {
    const test::TemporaryFolder folder;
    const Model model = fresh("mf-res2net");
    REQUIRE_OK(save_model(folder / "m.safetensors", model));
    const auto info = describe(folder / "m.safetensors");
    REQUIRE_OK(info);
    CHECK(info->kind == FileKind::model);
    CHECK(info->file_bytes == static_cast<std::int64_t>(std::filesystem::file_size(folder / "m.safetensors")));
    REQUIRE(info->model.has_value());
    CHECK(info->model->network == "mf-res2net");
    // The published counts: 3,157,168 learnable scalars, of which 12,196 are BatchNorm's scale and shift; the running
    // mean and variance are as many again.
    CHECK(info->model->learnable == 3157168);
    CHECK(info->model->state == 12196);
    CHECK(info->elements == 3157168 + 12196);
    CHECK(info->tensor_bytes == 4 * info->elements);
    CHECK(info->tensors.size() == model.weights.size());

    const std::string text = info_text(*info);
    CHECK(contains(text, "mfres model, format 1"));
    CHECK(contains(text, "3157168 learnable"));
    CHECK(contains(text, model.metadata.weights_sha256 + " (verified)"));
    CHECK(contains(text, "t1, t1ce, t2, flair"));
    CHECK(contains(text, "0.95 to 1.05 mm"));
    CHECK(contains(text, "16x4x3x3x3"));

    const auto json = parsed(*info);
    CHECK(json.at("kind") == "model");
    CHECK(json.at("error").is_null());
    CHECK(json.at("model").at("learnable") == 3157168);
    CHECK(json.at("model").at("sha256_verified") == true);
    CHECK(json.at("model").at("variant").at("widths") == nlohmann::json({16, 64, 112, 240}));
    CHECK(json.at("model").at("recipe").at("seed") == 1);
    CHECK(json.at("model").at("voxel_mm") == nlohmann::json({0.95, 1.05}));
    CHECK(json.at("metadata").size() == 10);
    CHECK(json.at("tensors").size() == model.weights.size());
    for (const auto& tensor : json.at("tensors"))
        if (tensor.at("name") == "enc1.down.conv.weight")
            CHECK(tensor == nlohmann::json::parse(R"({"name":"enc1.down.conv.weight","dtype":"F32",)"
                                                  R"("shape":[16,4,3,3,3],"elements":1728,"bytes":6912})"));
}

TEST_CASE("a damaged model is described with the reason") {
    const test::TemporaryFolder folder;
    REQUIRE_OK(save_model(folder / "m", fresh(R"({"network":"mf-res2net","widths":[8],"decoder":[4],"units":[1],)"
                                              R"("decoder_units":[1]})")));
    auto bytes = read_file(folder / "m", 1U << 20U);
    REQUIRE_OK(bytes);
    bytes->back() ^= std::byte{0x01};
    REQUIRE_OK(write_file_atomically(folder / "m", *bytes));
    const auto info = describe(folder / "m");
    REQUIRE_OK(info);
    CHECK(info->kind == FileKind::damaged);
    REQUIRE(info->rejection.has_value());
    CHECK(info->rejection->code == ErrorCode::model_hash_mismatch);
    CHECK_FALSE(info->model.has_value());
    CHECK(contains(info_text(*info), "not usable"));
    CHECK(contains(info_text(*info), "model_hash_mismatch"));
    CHECK(contains(info_text(*info), "mfres.label_scheme = brats"));
    const auto json = parsed(*info);
    CHECK(json.at("kind") == "damaged");
    CHECK(json.at("error").at("code") == "model_hash_mismatch");
    CHECK(json.at("model").is_null());
}

TEST_CASE("foreign safetensors are listed whatever their dtypes, with their control characters made visible") {
    const test::TemporaryFolder folder;
    const std::string header = R"({"__metadata__":{"format":"pt\u001b[2J"},)"
                               R"("step":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                               R"("a\u0007":{"dtype":"F64","shape":[1,1,1,1,1,2],"data_offsets":[8,24]}})";
    REQUIRE_OK(write_file_atomically(folder / "f", test::safetensors_text(header, std::string(24, '\0'))));
    const auto info = describe(folder / "f");
    REQUIRE_OK(info);
    CHECK(info->kind == FileKind::tensors);
    CHECK(info->elements == 3);
    CHECK(info->tensor_bytes == 24);
    const std::string text = info_text(*info);
    CHECK(contains(text, "not an mfres model, tensors only"));
    CHECK(contains(text, "format = pt\\x1b[2J"));
    CHECK(contains(text, "1x1x1x1x1x2"));
    CHECK(contains(text, "scalar"));
    CHECK_FALSE(contains(text, "\x1B"));
    CHECK_FALSE(contains(text, "\x07"));
    const auto json = parsed(*info);
    CHECK(json.at("kind") == "tensors");
    CHECK(json.at("tensors").at(1).at("dtype") == "I64");
    CHECK(json.at("metadata").at("format") == "pt\x1B[2J");
    REQUIRE_CODE(load_model(folder / "f"), model_metadata_invalid);
}

TEST_CASE("what is no safetensors file is not described") {
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_file_atomically(folder / "f", "GIF89a and so on"));
    REQUIRE_CODE(describe(folder / "f"), model_header_too_large);
    REQUIRE_CODE(describe(folder / "none"), file_not_found);
}

TEST_CASE("the golden mf-res2net file reads completely and fits the network") {
    if (const auto path = test::shared_data("data/golden/mf-res2net-small.safetensors"))
        check_golden(*path, 839, Shape{1, 4, 32, 16, 48});
}

TEST_CASE("the golden dmfnet file reads completely and fits the network") {
    if (const auto path = test::shared_data("data/golden/dmfnet-small.safetensors"))
        check_golden(*path, 581, Shape{1, 4, 16, 32, 48});
}
