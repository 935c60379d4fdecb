// SPDX-License-Identifier: MIT
// The seeds that are no text, made by the library's own writers: mfres_test_fuzz "[write-seeds]" writes them anew.
#include "core/file.h"
#include "data/block_codec.h"
#include "data/cache_format.h"
#include "exchange/onnx.h"
#include "imaging/nifti/gzip.h"
#include "imaging/nifti_bytes.h"
#include "model/metadata.h"
#include "model/model.h"
#include "model/safetensors.h"
#include "networks/registry.h"
#include "paper/plan.h"
#include "support/catch.h"
#include "support/paths.h"
#include "support/zip_archive.h"
#include "train/checkpoint.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>

using namespace mfres;
using namespace std::string_literals;

namespace {

void write(const std::string& name, std::span<const std::byte> bytes) {
    const auto file = std::filesystem::path(MFRES_SOURCE_DIR) / "tests" / "fuzz" / "seeds" / name;
    std::filesystem::create_directories(file.parent_path());
    REQUIRE_OK(write_file_atomically(file, bytes));
}

void write(const std::string& name, const std::string& text) {
    write(name, std::as_bytes(std::span(text)));
}

std::vector<std::byte> checked(Result<std::vector<std::byte>> bytes) {
    REQUIRE_OK(bytes);
    return std::move(bytes).value();
}

void write_volumes() {
    test::Recipe volume;
    write("nifti/float32", volume.file());
    write("gzip/float32", checked(gzip(volume.file())));
    volume.version = 2;
    volume.big_endian = true;
    volume.datatype = 4;
    volume.bitpix = 16;
    volume.slope = 0.5;
    volume.qform_code = 1;
    volume.qoffset = {0, 4, 0};
    volume.quatern = {0, 0, 1};
    write("nifti/int16-version2", volume.file());
    auto members = checked(gzip(volume.header(), 0));
    const auto second = checked(gzip(volume.data()));
    members.insert(members.end(), second.begin(), second.end());
    write("gzip/two-members", members);
    test::Recipe labels;
    labels.datatype = 2;
    labels.bitpix = 8;
    labels.vox_offset = 368;
    write("nifti/uint8-extension", labels.file());
    write("gzip/words.gz", checked(gzip(test::Bytes(300, std::byte{'a'}))));
}

Model small_model() {
    const auto variant = parse_variant(R"({"network": "no-new-net", "widths": [2, 2]})");
    REQUIRE_OK(variant);
    auto model = init_model(*variant, 1);
    REQUIRE_OK(model);
    return std::move(model).value();
}

void write_models() {
    const Model model = small_model();
    const test::TemporaryFolder folder;
    REQUIRE_OK(save_model(folder / "model.safetensors", model));
    write("safetensors/model.safetensors", checked(read_file(folder / "model.safetensors", 1U << 20U)));
    nlohmann::json strings;
    for (const auto& [key, value] : metadata_to_strings(model.metadata))
        strings[key] = value;
    write("metadata/model.json", strings.dump());
    const Tensor few(Shape{2, 3}, 0.5F);
    const Tensor one(Shape{1}, 0.25F);
    write("safetensors/types.safetensors",
          checked(encode_safetensors({{"a", {&few, Dtype::f32}}, {"b", {&few, Dtype::f16}}, {"c", {&one, Dtype::bf16}}},
                                     {{"note", "three types"}})));
    OnnxExport options;
    options.size = {16, 16, 16};
    write("onnx/model.onnx", checked(encode_onnx(model, options)));
}

void write_training() {
    Checkpoint checkpoint;
    auto recipe = parse_recipe(R"({"steps": 10, "ema": 0.5})");
    REQUIRE_OK(recipe);
    checkpoint.recipe = std::move(recipe).value();
    checkpoint.step = 3;
    checkpoint.data_fingerprint = std::string(64, 'a');
    checkpoint.data.train = {{"train.mfcache"}, std::string(64, 'c')};
    checkpoint.backend = "reference";
    checkpoint.threads = 1;
    for (Weights* weights : {&checkpoint.state.weights, &checkpoint.state.first_moment, &checkpoint.state.second_moment,
                             &checkpoint.average})
        weights->emplace("w", Tensor(Shape{2}, 0.5F));
    checkpoint.rows = {{1, 0.5, 1e-3, 0.1, 1.5, 1e6, 0.25, RegionDice{0.1, 0.2, 0.3}}};
    checkpoint.validations = {{1, {0.5, 0.25, 0.125}, {{"a", {0.5, 0.25, 0.125}, "Graz"}}, 2.5}};
    checkpoint.best = 0;
    write("checkpoint/whole.ckpt", checked(encode_checkpoint(checkpoint)));

    ExperimentPlan plan;
    plan.rows = {{"a", R"({"network": "dmfnet"})", "dice"}};
    plan.recipe = R"({"steps": 10})";
    plan.seeds = {1, 2};
    plan.backend = "reference";
    plan.split = "none";
    write("experiment/plan.json", plan_json(plan).dump());

    std::vector<CacheRecord> records(2);
    for (CacheRecord& record : records) {
        record.id = &record == records.data() ? "first" : "second";
        record.size = {4, 5, 6};
        record.voxel_mm = {1.0, 1.0, 1.0};
        record.class_voxels = {100, 10, 5, 5};
        record.brain_voxels = 60;
        record.modalities[1].wide = true;
        for (CacheBlock& block : record.blocks)
            block.bytes = 50;
    }
    std::string index = {'\2', '\0'};                                            // cases
    test::put<std::uint32_t>(index, cache_header_bytes + 2 * cache_blocks * 50); // where the index begins
    const auto encoded = encode_index(records);
    index.append(reinterpret_cast<const char*>(encoded.data()), encoded.size());
    write("cache_index/two-cases", index);

    const BoxSize size = {3, 4, 5};
    std::vector<std::uint8_t> brain(60, 1);
    brain[30] = 0;
    std::vector<std::uint8_t> labels(60, 2);
    std::vector<std::int16_t> quanta(60, -300);
    quanta[30] = 0;
    const auto block = [&](char kind, Result<std::vector<std::byte>> made) {
        const auto packed = checked(std::move(made));
        std::string bytes = {'\2', '\3', '\4', kind};
        bytes.append(reinterpret_cast<const char*>(packed.data()), packed.size());
        return bytes;
    };
    write("cache_block/labels", block('\0', pack_labels(labels)));
    write("cache_block/narrow", block('\1', pack_quanta(labels, brain, size)));
    write("cache_block/wide", block('\2', pack_quanta(quanta, brain, size)));
}

std::string word(const std::string& text) {
    std::string out = "X";
    test::put(out, static_cast<std::uint32_t>(text.size()));
    return out + text;
}

void write_checkpoints_of_torch() {
    // {"w": a 2x2 float tensor of storage "0"} as torch.save writes it in protocol 2
    const std::string pickle = "\x80\x02}(" + word("w") + "ctorch._utils\n_rebuild_tensor_v2\n((" + word("storage") +
                               "ctorch\nFloatStorage\n" + word("0") + word("cpu") +
                               "K\x04tQK"
                               "\0"s +
                               "K\x02K\x02\x86K\x02K\x01\x86\x89"
                               "ccollections\nOrderedDict\n)RtRu.";
    write("pickle/tensor.pkl", pickle);
    write("torch_pickle/tensor.pkl", pickle);
    write("torch_archive/tensor.pth",
          test::archive({{"a/data.pkl", pickle}, {"a/data/0", std::string(16, '\x3F')}, {"a/version", "3\n"}}));
}

} // namespace

TEST_CASE("the seeds of binary formats are written", "[.][write-seeds]") {
    write_volumes();
    write_models();
    write_training();
    write_checkpoints_of_torch();
}
