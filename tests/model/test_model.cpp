// SPDX-License-Identifier: MIT
#include "core/file.h"
#include "core/random.h"
#include "model/files.h"
#include "model/metadata.h"
#include "model/model.h"
#include "model/sha256.h"
#include "support/catch.h"
#include "support/child.h"
#include "support/paths.h"

#include <nlohmann/json.hpp>

#include <bit>
#include <cmath>
#include <limits>

using namespace mfres;

namespace {

/// Two levels, 4 channels each: every kind of layer and a file of some tens of kilobytes.
constexpr std::string_view tiny = R"({"network":"mf-res2net","widths":[8,8],"decoder":[8,4],"units":[1,1],)"
                                  R"("decoder_units":[1,1]})";

Model tiny_model(std::uint64_t seed = 3) {
    const auto variant = parse_variant(tiny);
    REQUIRE_OK(variant);
    auto model = init_model(*variant, seed);
    REQUIRE_OK(model);
    return std::move(model).value();
}

bool same_bits(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() &&
           std::equal(a.values().begin(), a.values().end(), b.values().begin(), [](float x, float y) {
               return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
           });
}

bool same_bits(const Weights& a, const Weights& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
               return x.first == y.first && same_bits(x.second, y.second);
           });
}

std::vector<std::byte> content(const std::filesystem::path& path) {
    auto bytes = read_file(path, 1U << 24U);
    REQUIRE_OK(bytes);
    return std::move(bytes).value();
}

std::size_t entries(const std::filesystem::path& folder) {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

/// The file of a model whose parts need not fit each other.
Result<Model> load_parts(const Weights& weights, const MetadataStrings& metadata) {
    std::map<std::string, TensorToWrite, std::less<>> tensors;
    for (const auto& [name, tensor] : weights)
        tensors.emplace(name, TensorToWrite{&tensor, Dtype::f32});
    auto bytes = encode_safetensors(tensors, metadata);
    REQUIRE_OK(bytes);
    const test::TemporaryFolder folder;
    const auto path = folder / "parts.safetensors";
    REQUIRE_OK(write_file_atomically(path, *bytes));
    auto model = load_model(path);
    if (!model) {
        CHECK(model.error().where == path.string());
        CHECK(model.error().message.starts_with(path.string() + ": "));
    }
    return model;
}

MetadataStrings strings_of(const Model& model) {
    return metadata_to_strings(model.metadata);
}

struct Moments {
    double mean, deviation;
};

Moments moments(const Tensor& tensor) {
    double sum = 0;
    double squares = 0;
    for (const float value : tensor.values()) {
        sum += value;
        squares += double{value} * value;
    }
    const auto count = static_cast<double>(tensor.elements());
    return {sum / count, std::sqrt(squares / count - sum / count * (sum / count))};
}

} // namespace

TEST_CASE("initial weights fit their network and come from the seed alone") {
    const Model model = tiny_model(5);
    const auto graph = parameter_graph(model.variant);
    REQUIRE_OK(graph);
    REQUIRE_OK(check_weights(*graph, model.weights));
    CHECK(model.metadata.weights_sha256 == weights_sha256(model.weights));
    CHECK(tiny_model(5).metadata.weights_sha256 == model.metadata.weights_sha256);
    CHECK(tiny_model(6).metadata.weights_sha256 != model.metadata.weights_sha256);
    CHECK(model.metadata.recipe_json == R"({"init":"he-normal","seed":5})");
}

TEST_CASE("every registered network has its parameters at the small size, the same as at the full one") {
    for (const std::string& network : network_names()) {
        INFO(network);
        const auto variant = parse_variant(network);
        REQUIRE_OK(variant);
        const auto small = parameter_graph(*variant);
        REQUIRE_OK(small);
        const auto full = build_network(*variant, {128, 128, 128});
        REQUIRE_OK(full);
        Weights shapes;
        for (const Node& node : small->nodes())
            for (const Parameter& parameter : node.parameters)
                shapes.emplace(parameter.name, Tensor(parameter.shape, 0.0F));
        REQUIRE_OK(check_weights(*full, shapes));
    }
}

TEST_CASE("a tensor's initial values depend on seed and name, not on the rest of the network") {
    const auto wider = parse_variant(R"({"network":"mf-res2net","widths":[8,16],"decoder":[8,4],"units":[2,1],)"
                                     R"("decoder_units":[1,1]})");
    REQUIRE_OK(wider);
    const auto other = init_model(*wider, 3);
    REQUIRE_OK(other);
    const Model model = tiny_model(3);
    CHECK(same_bits(other->weights.at("enc1.unit1.k2.conv.weight"), model.weights.at("enc1.unit1.k2.conv.weight")));
    CHECK_FALSE(
        same_bits(model.weights.at("enc1.unit1.k2.conv.weight"), model.weights.at("enc1.unit1.k3.conv.weight")));
}

TEST_CASE("initial weights of mf-res2net follow He 2015") {
    const auto variant = parse_variant("mf-res2net");
    REQUIRE_OK(variant);
    const auto model = init_model(*variant, 1);
    REQUIRE_OK(model);
    const auto graph = parameter_graph(*variant);
    REQUIRE_OK(graph);
    std::size_t large = 0;
    for (const Node& node : graph->nodes()) {
        for (const Parameter& parameter : node.parameters) {
            const Tensor& tensor = model->weights.at(parameter.name);
            INFO(parameter.name);
            if (parameter.role != ParameterRole::weight) {
                const bool one =
                    parameter.role == ParameterRole::norm_scale || parameter.role == ParameterRole::running_var;
                CHECK(std::all_of(tensor.values().begin(), tensor.values().end(),
                                  [&](float value) { return value == (one ? 1.0F : 0.0F); }));
            } else if (tensor.elements() >= 10000) {
                // Standard errors: of the mean s / sqrt(n), of the deviation s / sqrt(2 n); five of them.
                const Shape& s = parameter.shape;
                const double expected = std::sqrt(2.0 / static_cast<double>(s[1] * s[2] * s[3] * s[4]));
                const auto [mean, deviation] = moments(tensor);
                const double error = expected / std::sqrt(static_cast<double>(tensor.elements()));
                CHECK(std::abs(mean) < 5 * error);
                CHECK(std::abs(deviation - expected) < 5 * error / std::sqrt(2.0));
                ++large;
            }
        }
    }
    CHECK(large > 20);
    // Recorded when this was written: a change means that recorded seeds no longer give the weights they gave. (The
    // last bit of a platform's log and cos could change a value too, with a chance below one in a hundred.)
    CHECK(model->metadata.weights_sha256 == "a6338561378323214ba3b0be0eb6174bc311f4f7eda526539ff4e5aa7d89bf42");
}

TEST_CASE("branch weights start at one") {
    const auto variant = parse_variant(R"({"network":"dmfnet","n":8,"channels":16,"groups":4})");
    REQUIRE_OK(variant);
    const auto model = init_model(*variant, 1);
    REQUIRE_OK(model);
    for (const char* branch : {"weight1", "weight2", "weight3"}) {
        const Tensor& weight = model->weights.at(std::string("encoder_block2.0.") + branch);
        REQUIRE(weight.elements() == 1);
        CHECK(weight[0] == 1.0F);
    }
}

TEST_CASE("init rejects weights beyond any file and more channels than modalities") {
    const auto one = parse_variant(R"({"network":"mf-res2net","input_channels":2})");
    REQUIRE_OK(one);
    const auto model = init_model(*one, 1);
    REQUIRE_OK(model);
    CHECK(model->metadata.modalities == std::vector<std::string>{"t1", "t1ce"});
    const auto heavy = parse_variant(R"({"network":"mf-res2net","widths":[64,4096,4096,4096],)"
                                     R"("units":[1,16,16,16]})");
    REQUIRE_OK(heavy);
    REQUIRE_CODE(init_model(*heavy, 1), memory_limit);
    const auto many = parse_variant(R"({"network":"mf-res2net","input_channels":5})");
    REQUIRE_OK(many);
    REQUIRE_CODE(init_model(*many, 1), invalid_argument);
}

TEST_CASE("a model comes back from its file as it was, and gives the same bytes again") {
    const test::TemporaryFolder folder;
    Model model = tiny_model();
    model.metadata.label_scheme = "brats2023";
    model.metadata.modalities = {"flair", "t1", "t2", "t1ce"};
    model.metadata.voxel_min_mm = 0.1;
    model.metadata.recipe_json = R"({"epochs": 3, "loss": "weighted-tversky"})";
    REQUIRE_OK(save_model(folder / "a", model));
    const auto loaded = load_model(folder / "a");
    REQUIRE_OK(loaded);
    CHECK(same_bits(loaded->weights, model.weights));
    CHECK(loaded->variant.json() == model.variant.json());
    CHECK(strings_of(*loaded) == strings_of(model));
    CHECK(loaded->metadata.voxel_min_mm == 0.1);
    REQUIRE_OK(save_model(folder / "b", *loaded));
    CHECK(content(folder / "a") == content(folder / "b"));
}

TEST_CASE("a model file tells the brains it was trained for where they are not an adult's") {
    const test::TemporaryFolder folder;
    Model model = tiny_model();
    CHECK(strings_of(model).count("mfres.brain_min_ml") == 0);
    model.metadata.brain_min_ml = 120.5;
    model.metadata.brain_max_ml = 1900.0;
    REQUIRE_OK(save_model(folder / "a", model));
    const auto loaded = load_model(folder / "a");
    REQUIRE_OK(loaded);
    CHECK(loaded->metadata.brain_min_ml == 120.5);
    CHECK(loaded->metadata.brain_max_ml == 1900.0);
    auto strings = strings_of(*loaded);
    REQUIRE_OK(metadata_from_strings(strings));
    strings["mfres.brain_min_ml"] = "1900.5";
    REQUIRE_CODE(metadata_from_strings(strings), model_metadata_invalid);
    strings["mfres.brain_min_ml"] = "-1";
    REQUIRE_CODE(metadata_from_strings(strings), model_metadata_invalid);
    strings.erase("mfres.brain_min_ml");
    const auto half = metadata_from_strings(strings);
    REQUIRE_CODE(half, model_metadata_invalid);
    CHECK(half.error().where == "mfres.brain_min_ml");
}

TEST_CASE("narrow model files round convolutions only, and record the hash of what they hold") {
    for (const Dtype dtype : {Dtype::f16, Dtype::bf16}) {
        INFO(name(dtype));
        const test::TemporaryFolder folder;
        Model model = tiny_model();
        model.weights.at("enc1.down.bn.running_var")[0] = 1e-9F;
        REQUIRE_OK(save_model(folder / "a", model, dtype));
        const auto loaded = load_model(folder / "a");
        REQUIRE_OK(loaded);
        const double step = dtype == Dtype::f16 ? 0x1.0p-11 : 0x1.0p-8;
        for (const auto& [tensor_name, tensor] : model.weights) {
            const Tensor& read = loaded->weights.at(tensor_name);
            if (tensor.shape().rank() != 5) {
                CHECK(same_bits(read, tensor));
                continue;
            }
            for (std::int64_t i = 0; i < tensor.elements(); ++i)
                REQUIRE(std::abs(double{read[i]} - tensor[i]) <= step * std::max(std::abs(double{tensor[i]}), 0x1p-14));
        }
        CHECK(loaded->metadata.weights_sha256 == weights_sha256(loaded->weights));
        CHECK(loaded->metadata.weights_sha256 != weights_sha256(model.weights));
        REQUIRE_OK(save_model(folder / "b", *loaded, dtype));
        CHECK(content(folder / "a") == content(folder / "b"));
    }
}

TEST_CASE("saving is rejected, and leaves nothing, when the result could not be loaded") {
    const test::TemporaryFolder folder;
    const auto path = folder / "m.safetensors";
    const auto rejected = [&](const Model& model, Dtype dtype = Dtype::f32) {
        const Status status = save_model(path, model, dtype);
        CHECK(entries(folder.path()) == 0);
        if (!status) {
            CHECK(status.error().where == path.string());
            CHECK(status.error().message.starts_with(path.string() + ": "));
        }
        return status;
    };
    Model model = tiny_model();
    model.weights.erase("head.conv.weight");
    REQUIRE_CODE(rejected(model), model_tensor_missing);
    model = tiny_model();
    model.weights.emplace("extra", Tensor(Shape{1}, 0.0F));
    REQUIRE_CODE(rejected(model), model_tensor_extra);
    model = tiny_model();
    model.weights.at("head.conv.weight") = Tensor(Shape{1}, 0.0F);
    REQUIRE_CODE(rejected(model), model_tensor_shape);
    model = tiny_model();
    model.weights.at("head.conv.weight")[0] = std::numeric_limits<float>::infinity();
    REQUIRE_CODE(rejected(model), model_not_finite);
    model.weights.at("head.conv.weight")[0] = 1e5F;
    REQUIRE_CODE(rejected(model, Dtype::f16), model_not_finite);
    REQUIRE_CODE(rejected(model, Dtype::i16), model_dtype_unsupported);
    model = tiny_model();
    model.metadata.modalities.pop_back();
    REQUIRE_CODE(rejected(model), model_metadata_invalid);
    model = tiny_model();
    model.metadata.voxel_max_mm = std::numeric_limits<double>::quiet_NaN();
    REQUIRE_CODE(rejected(model), model_metadata_invalid);
    model = tiny_model();
    model.metadata.recipe_json = "not JSON";
    REQUIRE_CODE(rejected(model), model_metadata_invalid);
    model = tiny_model();
    model.metadata.created_by = "\xFF";
    REQUIRE_CODE(rejected(model), model_header_invalid);
}

TEST_CASE("an existing model is replaced only when asked, and survives a rejected save") {
    const test::TemporaryFolder folder;
    const auto path = folder / "m.safetensors";
    REQUIRE_OK(save_model(path, tiny_model(1)));
    const auto before = content(path);
    REQUIRE_CODE(save_model(path, tiny_model(2)), file_exists);
    CHECK(content(path) == before);
    Model broken = tiny_model(2);
    broken.weights.clear();
    REQUIRE_CODE(save_model(path, broken, Dtype::f32, true), model_tensor_missing);
    CHECK(content(path) == before);
    REQUIRE_OK(save_model(path, tiny_model(2), Dtype::f32, true));
    CHECK(content(path) != before);
    CHECK(entries(folder.path()) == 1);
    REQUIRE_CODE(save_model(folder / "none/m.safetensors", tiny_model(1)), file_write);
}

TEST_CASE("loading rejects tensors that do not belong to the network") {
    const Model model = tiny_model();
    REQUIRE_OK(load_parts(model.weights, strings_of(model)));

    Weights weights = model.weights;
    weights.erase("dec1.unit.fuse1.bn.running_mean");
    const auto missing = load_parts(weights, strings_of(model));
    REQUIRE_CODE(missing, model_tensor_missing);
    CHECK(missing.error().message.find("dec1.unit.fuse1.bn.running_mean") != std::string::npos);

    weights = model.weights;
    weights.emplace("enc1.down.bn.num_batches_tracked", Tensor(Shape{}, 0.0F));
    const auto extra = load_parts(weights, strings_of(model));
    REQUIRE_CODE(extra, model_tensor_extra);
    CHECK(extra.error().message.find("num_batches_tracked") != std::string::npos);

    weights = model.weights;
    weights.at("head.conv.weight") = Tensor(Shape{4, 4, 1, 1}, 0.0F);
    REQUIRE_CODE(load_parts(weights, strings_of(model)), model_tensor_shape);
    REQUIRE_CODE(load_parts({}, strings_of(model)), model_tensor_missing);
}

TEST_CASE("one changed bit of one weight is noticed") {
    const test::TemporaryFolder folder;
    REQUIRE_OK(save_model(folder / "m", tiny_model()));
    auto bytes = content(folder / "m");
    bytes.back() ^= std::byte{0x01};
    REQUIRE_OK(write_file_atomically(folder / "tampered", bytes));
    const auto tampered = load_model(folder / "tampered");
    REQUIRE_CODE(tampered, model_hash_mismatch);
    CHECK(tampered.error().where == (folder / "tampered").string());
    // The last tensor in name order ends with an f32: all exponent bits set makes it NaN or infinite.
    bytes.back() = std::byte{0x7F};
    bytes[bytes.size() - 2] |= std::byte{0x80};
    REQUIRE_OK(write_file_atomically(folder / "infinite", bytes));
    REQUIRE_CODE(load_model(folder / "infinite"), model_not_finite);

    Model other = tiny_model(4);
    other.metadata.weights_sha256 = tiny_model(3).metadata.weights_sha256;
    REQUIRE_CODE(load_parts(other.weights, strings_of(other)), model_hash_mismatch);
}

TEST_CASE("every metadata key is needed and no other is known") {
    const Model model = tiny_model();
    const MetadataStrings complete = strings_of(model);
    CHECK(complete.size() == 10);
    for (const auto& entry : complete) {
        INFO(entry.first);
        MetadataStrings strings = complete;
        strings.erase(entry.first);
        const auto rejected = load_parts(model.weights, strings);
        REQUIRE_CODE(rejected, model_metadata_invalid);
        CHECK(rejected.error().message.find(entry.first) != std::string::npos);
    }
    for (const std::string key : {"mfres.colour", "format", ""}) {
        MetadataStrings strings = complete;
        strings[key] = "pt";
        REQUIRE_CODE(load_parts(model.weights, strings), model_metadata_invalid);
    }
    REQUIRE_CODE(load_parts(model.weights, {}), model_metadata_invalid);
}

TEST_CASE("metadata values that make no sense are rejected by key") {
    const Model model = tiny_model();
    const std::string hash = model.metadata.weights_sha256;
    const std::vector<std::pair<std::string, std::string>> bad = {
        {"mfres.format_version", "2"},
        {"mfres.format_version", ""},
        {"mfres.variant", ""},
        {"mfres.variant", "no-such-network"},
        {"mfres.variant", R"({"network":"mf-res2net","widths":[7]})"},
        {"mfres.variant", R"({"network":"mf-res2net",)"},
        {"mfres.modalities", ""},
        {"mfres.modalities", "t1,t1ce,t2"},
        {"mfres.modalities", "t1,t1ce,t2,flair,"},
        {"mfres.modalities", "t1,t1ce,t2,t2"},
        {"mfres.modalities", "t1, t1ce, t2, flair"},
        {"mfres.modalities", "t1,t1ce,t2,pd"},
        {"mfres.normalisation", "none"},
        {"mfres.label_scheme", "brats2027"},
        {"mfres.voxel_min_mm", ""},
        {"mfres.voxel_min_mm", "1 mm"},
        {"mfres.voxel_min_mm", "0"},
        {"mfres.voxel_min_mm", "-1"},
        {"mfres.voxel_min_mm", "2"},
        {"mfres.voxel_max_mm", "nan"},
        {"mfres.voxel_max_mm", "inf"},
        {"mfres.voxel_max_mm", "0.1"},
        {"mfres.recipe", ""},
        {"mfres.recipe", "[]"},
        {"mfres.recipe", "3"},
        {"mfres.recipe", R"({"a":1,"a":2})"},
        {"mfres.recipe", R"({"a":)" + std::string(1000, '[') + std::string(1000, ']') + "}"},
        {"mfres.weights_sha256", ""},
        {"mfres.weights_sha256", hash.substr(1)},
        {"mfres.weights_sha256", "g" + hash.substr(1)},
        {"mfres.weights_sha256", std::string(64, 'A')},
        {"mfres.created_by", ""},
        {"mfres.created_by", std::string(201, 'x')},
    };
    for (const auto& [key, value] : bad) {
        INFO(key << " = " << value);
        MetadataStrings strings = strings_of(model);
        strings[key] = value;
        const auto rejected = load_parts(model.weights, strings);
        REQUIRE_CODE(rejected, model_metadata_invalid);
        const std::string named = value == "2" && key == "mfres.voxel_min_mm" ? "voxel_min_mm" : key;
        CHECK((rejected.error().message.find(named) != std::string::npos || key == "mfres.voxel_max_mm"));
    }
}

TEST_CASE("normalisation and subsets of the contrasts come back from a file") {
    const test::TemporaryFolder folder;
    Model model = tiny_model();
    CHECK(metadata_to_strings(model.metadata).count("mfres.modality_subsets") == 0);
    model.metadata.normalisation = Normalisation::zscore_brain_clipped;
    model.metadata.modality_subsets = dropout_subsets();
    REQUIRE_OK(save_model(folder / "m.safetensors", model));
    const auto loaded = load_model(folder / "m.safetensors");
    REQUIRE_OK(loaded);
    CHECK(loaded->metadata.normalisation == Normalisation::zscore_brain_clipped);
    CHECK(loaded->metadata.modality_subsets == dropout_subsets());
    for (const ModalitySet& set : dropout_subsets())
        CHECK((set != all_modalities && (set[1] || set[3])));

    MetadataStrings strings = metadata_to_strings(loaded->metadata);
    CHECK(strings["mfres.normalisation"] == "zscore-brain-clipped");
    for (const char* bad : {"", "t1ce,", "flair,t1ce", "t1,t1ce,t2,flair", "flair;flair", "pd", "flair;"}) {
        INFO(bad);
        strings["mfres.modality_subsets"] = bad;
        const auto rejected = metadata_from_strings(strings);
        REQUIRE_CODE(rejected, model_metadata_invalid);
        CHECK(rejected.error().where == "mfres.modality_subsets");
    }
    strings["mfres.modality_subsets"] = "t1ce,flair;flair";
    const auto two = metadata_from_strings(strings);
    REQUIRE_OK(two);
    CHECK(two->modality_subsets == std::vector<ModalitySet>{{false, true, false, true}, {false, false, false, true}});
}

TEST_CASE("recommended sizes of postprocessing come back from a file, and are absent where there are none") {
    const test::TemporaryFolder folder;
    Model model = tiny_model();
    for (const char* key : {"mfres.min_component_mm3", "mfres.min_enhancing_mm3", "mfres.min_enhancing_share"})
        CHECK(metadata_to_strings(model.metadata).count(key) == 0);
    model.metadata.postprocessing = {1000.0, 62.5, 0.125};
    REQUIRE_OK(save_model(folder / "m.safetensors", model));
    const auto loaded = load_model(folder / "m.safetensors");
    REQUIRE_OK(loaded);
    CHECK(loaded->metadata.postprocessing == PostprocessingSizes{1000.0, 62.5, 0.125});
    MetadataStrings strings = metadata_to_strings(loaded->metadata);
    CHECK(strings["mfres.min_component_mm3"] == "1000");
    CHECK(strings["mfres.min_enhancing_mm3"] == "62.5");
    CHECK(strings["mfres.min_enhancing_share"] == "0.125");
    for (const char* bad : {"", "0", "-0.1", "1.1", "nan", "12 %"}) {
        INFO(bad);
        MetadataStrings changed = strings;
        changed["mfres.min_enhancing_share"] = bad;
        const auto rejected = metadata_from_strings(changed);
        REQUIRE_CODE(rejected, model_metadata_invalid);
        CHECK(rejected.error().where == "mfres.min_enhancing_share");
    }
    CHECK(least_enhancing({}).empty());
    CHECK(least_enhancing({1000.0, 62.5, 0.125}) == "62.5 mm^3 or 12.5 % of the tumour core");
    CHECK(least_enhancing({0.0, 0.0, 0.1}) == "10 % of the tumour core");
    for (const char* bad : {"", "0", "-1", "inf", "nan", "1000 mm"}) {
        INFO(bad);
        strings["mfres.min_component_mm3"] = bad;
        const auto rejected = metadata_from_strings(strings);
        REQUIRE_CODE(rejected, model_metadata_invalid);
        CHECK(rejected.error().where == "mfres.min_component_mm3");
    }
    model.metadata.postprocessing.min_component_mm3 = -1.0;
    REQUIRE_CODE(save_model(folder / "n.safetensors", model), model_metadata_invalid);
}

TEST_CASE("words declare subsets of the contrasts") {
    const auto parsed = [](const char* words) {
        auto sets = parse_subsets(words);
        REQUIRE_OK(sets);
        return *sets;
    };
    CHECK(parsed("none").empty());
    CHECK(parsed("all") == dropout_subsets());
    CHECK(parsed("flair,t1ce;t1") ==
          std::vector<ModalitySet>{{false, true, false, true}, {true, false, false, false}}); // any order
    for (const char* bad :
         {"", "t1ce,", "pd", "t1,t1", "t1;t1", "t1ce,flair;flair,t1ce", "t1,t1ce,t2,flair", "all;t1"}) {
        INFO(bad);
        REQUIRE_CODE(parse_subsets(bad), invalid_argument);
    }
}

TEST_CASE("a model of another network does not load into this one") {
    const Model model = tiny_model();
    MetadataStrings strings = strings_of(model);
    strings["mfres.variant"] = "mf-res2net";
    const auto rejected = load_parts(model.weights, strings);
    REQUIRE_FALSE(rejected.ok());
    CHECK((rejected.error().code == ErrorCode::model_tensor_missing ||
           rejected.error().code == ErrorCode::model_tensor_shape));
}

TEST_CASE("mutated model files load only with the very weights they were saved with") {
    const test::TemporaryFolder folder;
    const Model model = tiny_model();
    REQUIRE_OK(save_model(folder / "m", model));
    const auto original = content(folder / "m");
    const auto header = static_cast<std::size_t>(
        parse_safetensors(original, "m").value().data_begin); // most mutations go into the header, where the logic is
    Random random(77);
    int rejected = 0;
    constexpr int rounds = 1500;
    for (int round = 0; round < rounds; ++round) {
        auto bytes = original;
        const std::size_t range = random.below(4) == 0 ? bytes.size() : header;
        const auto at = static_cast<std::size_t>(random.below(range));
        bytes[at] ^= static_cast<std::byte>(1 + random.below(255));
        auto file = parse_safetensors(std::move(bytes), "m");
        const auto loaded = file ? decode_model(*file) : Result<Model>(file.error());
        if (loaded)
            REQUIRE(same_bits(loaded->weights, model.weights));
        else
            ++rejected;
    }
    CHECK(rejected > rounds / 2);
    CHECK(rejected <= rounds);
}

TEST_CASE("a negative running variance is neither saved nor loaded") {
    const test::TemporaryFolder folder;
    Model model = tiny_model();
    model.weights.at("enc1.down.bn.running_var")[2] = -0.5F;
    REQUIRE_CODE(save_model(folder / "m", model), model_not_finite);
    CHECK(entries(folder.path()) == 0);
    MetadataStrings strings = strings_of(model);
    strings["mfres.weights_sha256"] = weights_sha256(model.weights);
    const auto loaded = load_parts(model.weights, strings);
    REQUIRE_CODE(loaded, model_not_finite);
    CHECK(loaded.error().message.find("enc1.down.bn.running_var has -0.5 at index 2") != std::string::npos);
}

TEST_CASE("a model file with more data than its network can have is rejected before they are read") {
    const test::TemporaryFolder folder;
    const Model model = tiny_model();
    REQUIRE_OK(save_model(folder / "m", model));
    const auto file = read_safetensors(folder / "m");
    REQUIRE_OK(file);
    // A sound header for a tensor of almost 4 GiB, whose bytes are a hole.
    constexpr std::uint64_t elements = (std::uint64_t{1} << 30U) - 100'000U;
    nlohmann::json header;
    for (const auto& [key, value] : file->metadata)
        header["__metadata__"][key] = value;
    header["huge"] = {{"dtype", "F32"}, {"shape", {elements}}, {"data_offsets", {0, 4 * elements}}};
    const std::string words = header.dump();
    test::make_sparse(folder / "huge", test::safetensors_text(words, ""), 8 + words.size() + 4 * elements);
    const auto code = test::in_small_memory([&] {
        const auto loaded = load_model(folder / "huge");
        return !loaded && loaded.error().code == ErrorCode::model_tensor_extra ? 0 : 1;
    });
    CHECK(code.value_or(0) == 0);
}
