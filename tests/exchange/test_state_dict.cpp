// SPDX-License-Identifier: MIT
// Weights from elsewhere: names, PyTorch checkpoints, and files that try to do more than hold weights.
#include "core/file.h"
#include "exchange/pickle.h"
#include "exchange/state_dict.h"
#include "support/child.h"
#include "support/network_runs.h"
#include "support/python.h"
#include "support/zip_archive.h"

#include <zlib.h>

#include <cstdio>
#include <cstring>

using namespace mfres;

namespace {

const std::string path = "weights.pth";

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

using test::archive;
using test::put;

std::string unicode(const std::string& text) {
    std::string out = "X";
    put(out, static_cast<std::uint32_t>(text.size()));
    return out + text;
}

std::string integer(std::int32_t value) {
    std::string out = "J";
    put(out, value);
    return out;
}

std::string tuple(const std::vector<std::int32_t>& values) {
    std::string out = "(";
    for (const std::int32_t value : values)
        out += integer(value);
    return out + "t";
}

/// The opcodes of one tensor, as torch.save writes it.
std::string tensor(const std::string& type, std::int32_t elements, std::int32_t offset,
                   const std::vector<std::int32_t>& size, const std::vector<std::int32_t>& stride) {
    return "ctorch._utils\n_rebuild_tensor_v2\n((" + unicode("storage") + "ctorch\n" + type + "\n" + unicode("0") +
           unicode("cpu") + integer(elements) + "tQ" + integer(offset) + tuple(size) + tuple(stride) +
           "\x89"
           "ccollections\nOrderedDict\n)RtR";
}

/// A checkpoint of one tensor "w".
std::string pickle_of(const std::string& value) {
    return "\x80\x02}(" + unicode("w") + value + "u.";
}

std::string floats(const std::vector<float>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

Result<StateDict> read(const std::string& pickle_bytes, const std::string& storage) {
    const std::string file = archive({{"a/data.pkl", pickle_bytes}, {"a/data/0", storage}, {"a/version", "3\n"}});
    return read_torch_state(bytes_of(file), path);
}

bool no_libzip() {
    const auto tried = read(pickle_of(tensor("FloatStorage", 1, 0, {1}, {1})), floats({1.0F}));
    const bool absent = !tried.ok() && tried.error().message.find("MFRES_WITH_TORCH=OFF") != std::string::npos;
    if (absent)
        std::printf("SKIPPED: %s\n", tried.error().message.c_str());
    return absent;
}

} // namespace

TEST_CASE("a checkpoint's tensors are read with their strides and types") {
    if (no_libzip())
        return;
    const auto plain = read(pickle_of(tensor("FloatStorage", 6, 0, {2, 3}, {3, 1})), floats({1, 2, 3, 4, 5, 6}));
    REQUIRE_OK(plain);
    const Tensor& w = plain->at("w");
    CHECK(w.shape() == Shape{2, 3});
    CHECK(w[4] == 5.0F);
    const auto turned = read(pickle_of(tensor("FloatStorage", 6, 1, {2, 2}, {1, 3})), floats({1, 2, 3, 4, 5, 6}));
    REQUIRE_OK(turned);
    CHECK(turned->at("w")[0] == 2.0F);
    CHECK(turned->at("w")[1] == 5.0F);
    CHECK(turned->at("w")[2] == 3.0F);
    const auto half = read(pickle_of(tensor("HalfStorage", 2, 0, {2}, {1})), std::string("\x00\x3C\x00\xC0", 4));
    REQUIRE_OK(half);
    CHECK(half->at("w")[0] == 1.0F);
    CHECK(half->at("w")[1] == -2.0F);
    const auto brain = read(pickle_of(tensor("BFloat16Storage", 1, 0, {}, {})), std::string("\x80\x3F", 2));
    REQUIRE_OK(brain);
    CHECK(brain->at("w").shape() == Shape{});
    CHECK(brain->at("w")[0] == 1.0F);
}

TEST_CASE("a pickle that wants to run something is rejected by the name of what it wants") {
    const auto rejected = [](const std::string& content, const std::string& named) {
        const auto parsed = pickle::parse(bytes_of(content));
        REQUIRE_CODE(parsed, operation_unsupported);
        CHECK(parsed.error().message.find(named) != std::string::npos);
    };
    rejected("\x80\x02"
             "cos\nsystem\n" +
                 unicode("touch /tmp/mfres-was-here") + "\x85R.",
             "os.system");
    rejected("\x80\x02"
             "cposix\nsystem\n" +
                 unicode("id") + "\x85R.",
             "posix.system");
    rejected("\x80\x02"
             "cbuiltins\neval\n" +
                 unicode("1") + "\x85R.",
             "builtins.eval");
    rejected("\x80\x02"
             "c__builtin__\nexec\n" +
                 unicode("1") + "\x85R.",
             "__builtin__.exec");
    rejected("\x80\x02"
             "csubprocess\nPopen\n" +
                 unicode("id") + "\x85R.",
             "subprocess.Popen");
    rejected("\x80\x02"
             "ctorch.hub\nload\n)R.",
             "torch.hub.load");
    rejected("\x80\x02"
             "ctorch\nload\n)R.",
             "torch.load");
    rejected("\x80\x04"
             "\x8C\x02os\x8C\x06system\x93.",
             "os.system");
    rejected("\x80\x02"
             "(S'id'\nios\nsystem\n.",
             "opcode 0x53"); // STRING, which comes before INST
    rejected("\x80\x02"
             "(ios\nsystem\n.",
             "opcode 0x69"); // INST
    rejected("\x80\x02"
             "(cos\nsystem\no.",
             "os.system"); // OBJ
    rejected("\x80\x02"
             "\x82\x01.",
             "opcode 0x82"); // EXT1
    rejected("\x80\x02"
             "(\x81.",
             "opcode 0x81"); // NEWOBJ
    rejected("\x80\x02"
             "P0\n.",
             "opcode 0x50"); // PERSID
    CHECK_FALSE(std::filesystem::exists("/tmp/mfres-was-here"));
}

TEST_CASE("damaged pickles are rejected with an exact code") {
    const auto code = [](const std::string& content) { return pickle::parse(bytes_of(content)); };
    REQUIRE_CODE(code(""), model_truncated);
    REQUIRE_CODE(code("\x80"), model_truncated);
    REQUIRE_CODE(code("\x80\x02"
                      "}"),
                 model_truncated);
    REQUIRE_CODE(code("\x80\x02"
                      "X\xFF\x00\x00\x00"
                      "abc."),
                 model_truncated);
    REQUIRE_CODE(code(std::string("\x80\x02"
                                  "X\xFF\xFF\xFF\x7F"
                                  "abc.")),
                 model_header_invalid); // a text of 2 GiB
    REQUIRE_CODE(code("\x80\x09"
                      "}."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "}}."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "a."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "t."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "h\x07."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "q\x01."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "}K\x01s."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "}(K\x01u."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "K\x01K\x02R."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "K\x01Q."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "ccollections\nOrderedDict\nK\x01\x85R."),
                 model_header_invalid);
    REQUIRE_CODE(code("\x80\x02"
                      "c" +
                      std::string(20'000, 'x')),
                 model_header_invalid);
    // Deep nesting and endless doubling are only many values.
    REQUIRE_OK(code("\x80\x02"
                    "K\x01" +
                    std::string(500'000, '\x85') + "."));
    REQUIRE_CODE(code("\x80\x02" + std::string(2'000'000, ')')), memory_limit);
    std::string growing = "\x80\x02]q";
    growing += std::string(1, '\0');
    for (int i = 0; i < 1'100'000; ++i)
        growing += "K\x01"
                   "a";
    REQUIRE_CODE(code(growing + "."), memory_limit);
}

TEST_CASE("checkpoints that lie about their tensors are rejected with an exact code") {
    if (no_libzip())
        return;
    const std::string six = floats({1, 2, 3, 4, 5, 6});
    const auto with = [&](const std::string& value) { return read(pickle_of(value), six); };
    REQUIRE_CODE(with(tensor("FloatStorage", 6, 0, {2, 4}, {3, 1})), model_tensor_size);
    REQUIRE_CODE(with(tensor("FloatStorage", 6, 5, {2}, {1})), model_tensor_size);
    REQUIRE_CODE(with(tensor("FloatStorage", 6, -1, {2}, {1})), model_tensor_size);
    REQUIRE_CODE(with(tensor("FloatStorage", 6, 0, {2000000000, 2000000000, 2000000000}, {0, 0, 0})),
                 model_tensor_size);
    REQUIRE_CODE(with(tensor("FloatStorage", 6, 0, {1000000}, {0})), model_tensor_size);
    REQUIRE_CODE(with(tensor("FloatStorage", 6, 0, {-2}, {1})), model_header_invalid);
    REQUIRE_CODE(with(tensor("FloatStorage", 7, 0, {2}, {1})), model_tensor_size);
    REQUIRE_CODE(with(tensor("FloatStorage", 2147483647, 0, {2}, {1})), model_tensor_size);
    REQUIRE_CODE(with(tensor("FloatStorage", 6, 0, {1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1})), model_tensor_shape);
    REQUIRE_CODE(with(tensor("FloatStorage", 6, 0, {2, 3}, {1})), model_tensor_shape);
    REQUIRE_CODE(with(tensor("BoolStorage", 24, 0, {2}, {1})), model_dtype_unsupported);
    REQUIRE_CODE(with(tensor("QInt8Storage", 24, 0, {2}, {1})), operation_unsupported);
    REQUIRE_CODE(with("K\x01"), model_header_invalid);
    REQUIRE_CODE(with(tensor("LongStorage", 3, 0, {2}, {1})), model_header_invalid); // no floats at all
    REQUIRE_CODE(read(pickle_of(tensor("FloatStorage", 1, 0, {1}, {1})), floats({std::nanf("")})), model_not_finite);
    REQUIRE_CODE(read("\x80\x02K\x01.", six), model_header_invalid);
    // Many tensors that share one storage would need more than the file holds.
    std::string many = "\x80\x02}(";
    for (int i = 0; i < 2000; ++i)
        many += unicode("w" + std::to_string(i)) + tensor("FloatStorage", 5000, 0, {5000}, {1});
    REQUIRE_CODE(read(many + "u.", std::string(20'000, '\0')), memory_limit);
}

TEST_CASE("archives that are none, lie or inflate are rejected with an exact code") {
    if (no_libzip())
        return;
    const std::string good = pickle_of(tensor("FloatStorage", 1, 0, {1}, {1}));
    const std::string one = floats({1.0F});
    const std::string file = archive({{"a/data.pkl", good}, {"a/data/0", one}});
    REQUIRE_OK(read_torch_state(bytes_of(file), path));
    const auto code = [](const std::string& content) { return read_torch_state(bytes_of(content), path); };
    REQUIRE_CODE(code(""), model_header_invalid);
    REQUIRE_CODE(code("\x80\x02}."), model_header_invalid); // the format before 1.6
    REQUIRE_CODE(code(file.substr(0, file.size() - 1)), model_header_invalid);
    REQUIRE_CODE(code(file.substr(0, file.size() / 2)), model_header_invalid);
    REQUIRE_CODE(code(archive({{"a/data/0", one}})), model_header_invalid);
    const auto script = code(archive({{"a/code/__torch__/net.py", "def forward"}, {"a/data.pkl", good}}));
    REQUIRE_CODE(script, model_header_invalid);
    CHECK(script.error().message.find("it is a TorchScript program; save its weights alone") != std::string::npos);
    // What torch.save writes of a module, not of its state_dict.
    const auto module = code(archive({{"a/data.pkl", "\x80\x02"
                                                     "ctorch.nn.modules.container\nSequential\n)R."}}));
    REQUIRE_CODE(module, operation_unsupported);
    CHECK(module.error().message.find("torch.save(model.state_dict()") != std::string::npos);
    REQUIRE_CODE(code(archive({{"a/data.pkl", good}})), model_truncated);
    REQUIRE_CODE(code(archive({{"a/data.pkl", good}, {"b/data.pkl", good}, {"a/data/0", one}})), model_header_invalid);
    REQUIRE_CODE(code(archive({{"a/data.pkl", good}, {"a/data/0", one}}, 8)), model_header_invalid);
    REQUIRE_CODE(code(archive({{"a/data.pkl", good}, {"a/data/0", one}}, 0, 1U << 30U)), model_header_invalid);
    REQUIRE_CODE(code(archive({{"a/data.pkl", good}, {"a/data/0", one}}, 0, 0, true)), model_header_invalid);
    REQUIRE_CODE(code(archive({{"a/data.pkl", good}, {"a/data/0", one}, {"a/byteorder", "big"}})),
                 operation_unsupported);
    REQUIRE_CODE(read_torch_state(std::filesystem::path("/nowhere/x.pth")), file_not_found);
    for (std::size_t size = 0; size < file.size(); ++size)
        CHECK_FALSE(code(file.substr(0, size)).ok());
    Random random(5);
    for (int i = 0; i < 2000; ++i) {
        std::string mutant = file;
        mutant[static_cast<std::size_t>(random.below(mutant.size()))] = static_cast<char>(random.below(256));
        const auto tried = code(mutant);
        if (!tried)
            CHECK(tried.error().message.find(path) == 0);
    }
}

TEST_CASE("entries of an archive that share bytes are rejected before they are read") {
    if (no_libzip())
        return;
    // Each entry's content is the whole of the next one, its header included: 50 entries that a file of 48 kB holds are
    // 2 MB (Fifield 2019, "A better zip bomb", without compression).
    const std::string content = floats(std::vector<float>(10'000, 1.0F));
    const std::string good = pickle_of(tensor("FloatStorage", 10'000, 0, {10'000}, {1}));
    const std::string whole = archive({{"a/data.pkl", good}, {"a/data/0", content}});
    REQUIRE_OK(read_torch_state(bytes_of(whole), path));
    const std::size_t pickle_bytes = archive({{"a/data.pkl", good}}).find(std::string("PK\x01\x02", 4));
    const std::string directory_mark("PK\x01\x02", 4);
    std::string local = content;
    std::vector<std::string> entries; // of the directory, the innermost first
    std::vector<std::size_t> sizes;
    for (int i = 0; i < 50; ++i) {
        const std::string one = archive({{"a/data/" + std::to_string(i), local}});
        const std::size_t end = one.rfind(std::string("PK\x05\x06", 4));
        const std::size_t directory = one.rfind(directory_mark, end);
        local = one.substr(0, directory);
        entries.push_back(one.substr(directory, end - directory));
        sizes.push_back(local.size());
    }
    std::string file = archive({{"a/data.pkl", good}});
    std::string directory = file.substr(pickle_bytes, file.rfind(std::string("PK\x05\x06", 4)) - pickle_bytes);
    file.resize(pickle_bytes);
    file += local;
    for (std::size_t i = 0; i < entries.size(); ++i) {
        constexpr std::size_t offset_field = 42;
        const auto offset = static_cast<std::uint32_t>(file.size() - sizes[i]);
        std::memcpy(entries[i].data() + offset_field, &offset, sizeof offset);
        directory += entries[i];
    }
    const auto begin = static_cast<std::uint32_t>(file.size());
    file += directory;
    put<std::uint32_t>(file, 0x06054B50);
    put<std::uint32_t>(file, 0);
    put(file, static_cast<std::uint16_t>(entries.size() + 1));
    put(file, static_cast<std::uint16_t>(entries.size() + 1));
    put(file, static_cast<std::uint32_t>(directory.size()));
    put(file, begin);
    put<std::uint16_t>(file, 0);
    const auto overlapping = read_torch_state(bytes_of(file), path);
    REQUIRE_CODE(overlapping, model_header_invalid);
    CHECK(overlapping.error().message.find("they overlap") != std::string::npos);
}

TEST_CASE("a checkpoint that is a hole of 4 GiB is rejected without being read") {
    if (no_libzip())
        return;
    const test::TemporaryFolder folder;
    test::make_sparse(folder / "hole.pth", "PK\x03\x04", (std::uint64_t{4} << 30U) - 1);
    const auto code = test::in_small_memory([&] {
        const auto state = read_torch_state(folder / "hole.pth");
        return !state && state.error().code == ErrorCode::model_header_invalid ? 0 : 1;
    });
    CHECK(code.value_or(0) == 0);
}

namespace {

std::string dictionary(const std::vector<std::pair<std::string, std::string>>& entries) {
    std::string out = "}(";
    for (const auto& [name, value] : entries)
        out += unicode(name) + value;
    return out + "u";
}

} // namespace

TEST_CASE("wrapped checkpoints and common prefixes are named, and --prefix takes them off") {
    if (no_libzip())
        return;
    const std::string one = tensor("FloatStorage", 1, 0, {1}, {1});
    const auto read_with = [&](const std::string& pickle, std::string_view prefix) {
        const std::string file = archive({{"a/data.pkl", "\x80\x02" + pickle + "."}, {"a/data/0", floats({3.0F})}});
        return read_torch_state(bytes_of(file), path, prefix);
    };
    for (const std::string wrapper : {"model", "net", "network_weights"}) {
        INFO(wrapper);
        const std::string wrapped = dictionary(
            {{"epoch", integer(5)}, {wrapper, dictionary({{"module.w", one}})}, {"optimizer", dictionary({})}});
        const auto rejected = read_with(wrapped, "");
        REQUIRE_CODE(rejected, model_header_invalid);
        CHECK(rejected.error().message == "weights.pth: the tensors lie below the checkpoint's entry '" + wrapper +
                                              "' (1 tensors); --prefix NAME reads those of one entry");
        const std::string with_step = // beside the weights, as some programs store a counter
            dictionary({{"step", one}, {wrapper, dictionary({{"module.w", one}})}});
        const auto beside = read_with(with_step, "");
        REQUIRE_CODE(beside, model_header_invalid);
        CHECK(beside.error().message.find("--prefix NAME") != std::string::npos);
        const auto unwrapped = read_with(wrapped, wrapper);
        REQUIRE_OK(unwrapped);
        CHECK(unwrapped->count("module.w") == 1);
        const auto bare = read_with(wrapped, wrapper + ".module");
        REQUIRE_OK(bare);
        CHECK(bare->at("w")[0] == 3.0F);
        REQUIRE_CODE(read_with(wrapped, wrapper + ".other"), model_tensor_missing);
    }
    const std::string usual =
        dictionary({{"state_dict", dictionary({{"net.w", one}, {"net.v", one}, {"aux.x", one}})}});
    const auto prefixed = read_with(usual, "net");
    REQUIRE_OK(prefixed);
    CHECK(prefixed->size() == 2);
    REQUIRE_OK(read_with(usual, ""));
    REQUIRE_OK(read_with(usual, "state_dict.net"));

    const auto variant = parse_variant(R"({"network": "dmfnet", "n": 8, "channels": 16, "groups": 4})");
    REQUIRE_OK(variant);
    const auto model = init_model(*variant, 1);
    REQUIRE_OK(model);
    StateDict named;
    for (const auto& [name, values] : model->weights)
        named.emplace("net.module." + name, values);
    const auto foreign = adopt_weights(*variant, named, path, "test");
    REQUIRE_CODE(foreign, model_tensor_missing);
    CHECK(foreign.error().message.find("--prefix net.module takes off") != std::string::npos);
    const auto plain = without_prefix(named, "net.module", path);
    REQUIRE_OK(plain);
    REQUIRE_OK(adopt_weights(*variant, *plain, path, "test"));

    StateDict negative = *plain;
    for (auto& [name, values] : negative)
        if (name.ends_with("running_var"))
            values[0] = -0.5F;
    const auto rejected = adopt_weights(*variant, negative, path, "test");
    REQUIRE_CODE(rejected, model_not_finite);
    CHECK(rejected.error().message.find(path) == 0);
}

TEST_CASE("names are mapped by the first rule that matches") {
    const auto mapping = NameMapping::parse(R"json({
        "rules": [{"match": "module\\.(.*)\\.gamma", "name": "$1.weight"}, {"match": "module\\.(.*)", "name": "$1"}],
        "ignore": ["aux\\..*"]})json");
    REQUIRE_OK(mapping);
    const Tensor one(Shape{1}, 1.0F);
    const auto renamed = mapping->apply({{"module.a.gamma", one},
                                         {"module.b.bias", one},
                                         {"aux.c", one},
                                         {"plain", one},
                                         {"x.num_batches_tracked", one}},
                                        path);
    REQUIRE_OK(renamed);
    std::vector<std::string> names;
    for (const auto& [name, values] : *renamed)
        names.push_back(name);
    CHECK(names == std::vector<std::string>{"a.weight", "b.bias", "plain"});
    REQUIRE_CODE(mapping->apply({{"module.a", one}, {"a", one}}, path), model_header_invalid);
    REQUIRE_CODE(mapping->apply({{std::string(300, 'n'), one}}, path), model_header_invalid);

    REQUIRE_CODE(NameMapping::parse("[1]"), json_invalid);
    REQUIRE_CODE(NameMapping::parse("{"), json_invalid);
    REQUIRE_CODE(NameMapping::parse(R"json({"rule": []})json"), json_invalid);
    REQUIRE_CODE(NameMapping::parse(R"json({"rules": {}})json"), json_invalid);
    REQUIRE_CODE(NameMapping::parse(R"json({"rules": [{"match": "a"}]})json"), json_invalid);
    REQUIRE_CODE(NameMapping::parse(R"json({"rules": [{"match": "(", "name": "b"}]})json"), invalid_argument);
    REQUIRE_CODE(NameMapping::parse(R"json({"ignore": [")json" + std::string(300, 'a') + R"json("]})json"),
                 invalid_argument);
    REQUIRE_CODE(NameMapping::parse(R"json({"ignore": [7]})json"), json_invalid);
}

TEST_CASE("every missing, extra and mis-shaped tensor is listed") {
    const auto variant = parse_variant(R"({"network": "dmfnet", "n": 8, "channels": 16, "groups": 4})");
    REQUIRE_OK(variant);
    const auto model = init_model(*variant, 1);
    REQUIRE_OK(model);
    const StateDict all(model->weights.begin(), model->weights.end());
    const auto adopted = adopt_weights(*variant, all, path, "test");
    REQUIRE_OK(adopted);
    CHECK(adopted->metadata.weights_sha256 == model->metadata.weights_sha256);
    CHECK(adopted->metadata.recipe_json == R"({"imported_from":"test"})");

    StateDict wrong = all;
    wrong["seg.weight"] = Tensor(Shape{4, 8}, 1.0F);
    REQUIRE_CODE(adopt_weights(*variant, wrong, path, "test"), model_tensor_shape);
    wrong["one.more"] = Tensor(Shape{2}, 1.0F);
    wrong["two.more"] = Tensor(Shape{2}, 1.0F);
    REQUIRE_CODE(adopt_weights(*variant, wrong, path, "test"), model_tensor_extra);
    wrong.erase("encoder_block1.weight");
    const auto rejected = adopt_weights(*variant, wrong, path, "test");
    REQUIRE_CODE(rejected, model_tensor_missing);
    for (const std::string part : {"encoder_block1.weight", "one.more", "two.more", "seg.weight: 4x8"}) {
        INFO(part);
        CHECK(rejected.error().message.find(part) != std::string::npos);
    }
}

TEST_CASE("PyTorch state_dicts of two networks compute what PyTorch computed") {
    const auto python = test::python_with("torch, numpy");
    if (!python || no_libzip())
        return;
    const std::pair<std::string, std::string> networks[] = {
        {"mf-res2net", R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})"},
        {"dmfnet", R"({"network": "dmfnet", "n": 8, "channels": 16, "groups": 4})"}};
    const auto mapping = NameMapping::parse(R"json({"rules": [{"match": "module\\.(.*)", "name": "$1"}]})json");
    REQUIRE_OK(mapping);
    for (const auto& [network, json] : networks) {
        INFO(network);
        const test::TemporaryFolder folder;
        test::require_python(*python, "exchange/torch_networks.py", {network, folder.path()});
        const auto variant = parse_variant(json);
        REQUIRE_OK(variant);
        const auto tensors = read_safetensors(folder / "tensors.safetensors");
        REQUIRE_OK(tensors);
        const auto input = decode_tensor(*tensors, "input");
        const auto expected = decode_tensor(*tensors, "output");
        REQUIRE_OK(input);
        REQUIRE_OK(expected);
        const auto graph = build_network(*variant, spatial(input->shape()));
        REQUIRE_OK(graph);
        for (const std::string file : {"state.pth", "nested.pth", "state.safetensors"}) {
            INFO(file);
            auto read_state =
                file == "state.safetensors" ? read_safetensors_state(folder / file) : read_torch_state(folder / file);
            REQUIRE_OK(read_state);
            auto named = mapping->apply(std::move(*read_state), path);
            REQUIRE_OK(named);
            const auto model = adopt_weights(*variant, std::move(*named), path, "pytorch");
            REQUIRE_OK(model);
            const auto got = test::run(**find_backend("auto"), *graph, model->weights, *input);
            REQUIRE_OK(got);
            CHECK(test::largest_difference(*got, *expected) <= 1e-4 * std::max(1.0, test::largest(*expected)));
        }
    }
}
