// SPDX-License-Identifier: MIT
#include "core/file.h"
#include "core/random.h"
#include "model/files.h"
#include "model/safetensors.h"
#include "support/catch.h"
#include "support/child.h"
#include "support/paths.h"

#include <nlohmann/json.hpp>

#include <bit>
#include <limits>

using namespace mfres;
using test::length_field;
using test::safetensors_text;
using test::to_bytes;
using test::to_text;

namespace {

Result<SafetensorsFile> parse(std::string_view bytes) {
    return parse_safetensors(to_bytes(bytes), "test.safetensors");
}

/// Tensors with fixed values, some of them hard to represent.
Weights sample() {
    Tensor kernel(Shape{2, 1, 3, 1, 1});
    for (std::int64_t i = 0; i < kernel.elements(); ++i)
        kernel[i] = 0.1F * static_cast<float>(i) - 0.25F;
    Tensor edge(Shape{5}, 0.0F);
    edge[0] = -0.0F;
    edge[1] = std::numeric_limits<float>::denorm_min();
    edge[2] = 65504.0F;
    edge[3] = -1e-7F;
    edge[4] = 1.0F / 3.0F;
    Weights weights;
    weights.emplace("conv.weight", kernel);
    weights.emplace("norm.\"quoted\" \xC3\xA4", edge);
    weights.emplace("scalar", Tensor(Shape{}, 7.0F));
    return weights;
}

std::map<std::string, TensorToWrite, std::less<>> as(const Weights& weights, Dtype dtype) {
    std::map<std::string, TensorToWrite, std::less<>> tensors;
    for (const auto& [name, tensor] : weights)
        tensors.emplace(name, TensorToWrite{&tensor, dtype});
    return tensors;
}

bool same_bits(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() &&
           std::equal(a.values().begin(), a.values().end(), b.values().begin(), [](float x, float y) {
               return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
           });
}

std::string header_of(const std::string& file) {
    std::uint64_t length = 0;
    for (unsigned i = 0; i < 8; ++i)
        length |= std::uint64_t{static_cast<unsigned char>(file[i])} << (8U * i);
    return file.substr(8, length);
}

/// A small valid file: two f32 tensors and metadata.
std::string small_file() {
    return safetensors_text(R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
                            R"("b":{"dtype":"F16","shape":[3],"data_offsets":[8,14]}})",
                            std::string("\0\0\x80\x3F\0\0\0\xC0\0\x3C\x01\0\0\x80", 14));
}

struct BadFile {
    const char* what;
    ErrorCode code;
    std::string bytes;
};

/// One header entry.
std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" + offsets +
           "]}";
}

std::string file_of(const std::string& entries, std::size_t data) {
    return safetensors_text("{" + entries + "}", std::string(data, '\0'));
}

std::string raw_entry(const std::string& fields) {
    return file_of("\"a\":" + fields, 4);
}

std::vector<BadFile> bad_lengths_and_json() {
    const auto invalid = ErrorCode::model_header_invalid;
    const std::string good = tensor("a", "F32", "1", "0,4");
    return {
        {"empty file", ErrorCode::model_truncated, ""},
        {"seven bytes", ErrorCode::model_truncated, std::string(7, '\0')},
        {"length without header", ErrorCode::model_truncated, length_field(2)},
        {"header cut by one byte", ErrorCode::model_truncated, length_field(3) + "{}"},
        {"header one byte over the cap", ErrorCode::model_header_too_large, length_field(1'000'001) + "{}"},
        {"header over the cap that is really there", ErrorCode::model_header_too_large,
         length_field(1'000'002) + "{}" + std::string(1'000'000, ' ')},
        {"header length 2^64 - 1", ErrorCode::model_header_too_large, std::string(8, '\xFF') + "{}"},
        {"a PNG", ErrorCode::model_header_too_large, "\x89PNG\r\n\x1A\n and more"},
        {"header of no bytes", invalid, safetensors_text("", "")},
        {"header of spaces", invalid, safetensors_text("        ", "")},
        {"space before the brace", invalid, safetensors_text(" {}", "")},
        {"byte order mark before the brace", invalid, safetensors_text("\xEF\xBB\xBF{}", "")},
        {"an array as root", invalid, safetensors_text("[]", "")},
        {"unclosed object", invalid, safetensors_text("{", "")},
        {"two objects", invalid, safetensors_text("{}{}", "")},
        {"garbage after the object", invalid, safetensors_text("{} x", "")},
        {"garbage hidden behind a zero byte", invalid, safetensors_text(std::string_view("{}\0x", 4), "")},
        {"trailing comma", invalid, file_of(good + ",", 4)},
        {"a comment", invalid, file_of("/* */" + good, 4)},
        {"not UTF-8", invalid, file_of(tensor("\xFF", "F32", "1", "0,4"), 4)},
        {"nesting of 100000 arrays", invalid, safetensors_text("{\"a\":" + std::string(100000, '['), "")},
        {"nesting of 100000 objects", invalid,
         safetensors_text(
             [] {
                 std::string deep;
                 for (int i = 0; i < 100000; ++i)
                     deep += "{\"a\":";
                 return deep;
             }(),
             "")},
    };
}

std::vector<BadFile> bad_structure() {
    const auto invalid = ErrorCode::model_header_invalid;
    const std::string good = tensor("a", "F32", "1", "0,4");
    const std::string metadata = R"("__metadata__":)";
    return {
        {"tensor given twice", invalid, file_of(good + "," + good, 4)},
        {"tensor given twice, once escaped", invalid, file_of(good + "," + tensor("\\u0061", "F32", "1", "0,4"), 4)},
        {"metadata given twice", invalid, file_of(metadata + "{}," + metadata + "{}", 0)},
        {"metadata key given twice", invalid, file_of(metadata + R"({"k":"1","k":"2"})", 0)},
        {"metadata that is a string", invalid, file_of(metadata + R"("x")", 0)},
        {"metadata that is null", invalid, file_of(metadata + "null", 0)},
        {"metadata that is an array", invalid, file_of(metadata + "[]", 0)},
        {"metadata holding a number", invalid, file_of(metadata + R"({"k":1})", 0)},
        {"metadata holding an object", invalid, file_of(metadata + R"({"k":{}})", 0)},
        {"tensor that is null", invalid, file_of(R"("a":null)", 0)},
        {"tensor that is true", invalid, file_of(R"("a":true)", 0)},
        {"tensor that is a string", invalid, file_of(R"("a":"F32")", 0)},
        {"tensor that is an array", invalid, file_of(R"("a":[0,4])", 0)},
        {"empty tensor entry", invalid, raw_entry("{}")},
        {"no dtype", invalid, raw_entry(R"({"shape":[1],"data_offsets":[0,4]})")},
        {"no shape", invalid, raw_entry(R"({"dtype":"F32","data_offsets":[0,4]})")},
        {"no offsets", invalid, raw_entry(R"({"dtype":"F32","shape":[1]})")},
        {"unknown field", invalid, raw_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]})")},
        {"dtype twice", invalid, raw_entry(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})")},
        {"shape twice", invalid, raw_entry(R"({"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]})")},
        {"offsets twice", invalid,
         raw_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]})")},
        {"dtype that is a number", invalid, raw_entry(R"({"dtype":32,"shape":[1],"data_offsets":[0,4]})")},
        {"shape that is a number", invalid, raw_entry(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})")},
        {"shape of strings", invalid, raw_entry(R"({"dtype":"F32","shape":["1"],"data_offsets":[0,4]})")},
        {"shape of arrays", invalid, raw_entry(R"({"dtype":"F32","shape":[[1]],"data_offsets":[0,4]})")},
        {"negative extent", invalid, file_of(tensor("a", "F32", "-1", "0,4"), 4)},
        {"extent that is a fraction", invalid, file_of(tensor("a", "F32", "1.0", "0,4"), 4)},
        {"extent with an exponent", invalid, file_of(tensor("a", "F32", "1e0", "0,4"), 4)},
        {"extent of 2^64", invalid, file_of(tensor("a", "F32", "18446744073709551616", "0,4"), 4)},
        {"number too large for a double", invalid, file_of(tensor("a", "F32", "1e999", "0,4"), 4)},
        {"negative offset", invalid, file_of(tensor("a", "F32", "1", "-4,0"), 4)},
        {"offset that is a fraction", invalid, file_of(tensor("a", "F32", "1", "0,4.0"), 4)},
        {"offsets as an object", invalid, raw_entry(R"({"dtype":"F32","shape":[1],"data_offsets":{"0":0}})")},
        {"one offset", invalid, file_of(tensor("a", "F32", "1", "4"), 4)},
        {"three offsets", invalid, file_of(tensor("a", "F32", "1", "0,4,8"), 4)},
    };
}

std::vector<BadFile> bad_layout() {
    const auto offsets = ErrorCode::model_offsets_invalid;
    const auto size = ErrorCode::model_tensor_size;
    const auto dtype = ErrorCode::model_dtype_unsupported;
    const auto truncated = ErrorCode::model_truncated;
    return {
        {"unknown dtype", dtype, file_of(tensor("a", "F31", "1", "0,4"), 4)},
        {"dtype in lower case", dtype, file_of(tensor("a", "f32", "1", "0,4"), 4)},
        {"empty dtype", dtype, file_of(tensor("a", "", "1", "0,4"), 4)},
        {"range too short for the shape", size, file_of(tensor("a", "F32", "2", "0,4"), 4)},
        {"range too long for the shape", size, file_of(tensor("a", "F32", "1", "0,8"), 8)},
        {"f16 with the size of f32", size, file_of(tensor("a", "F16", "1", "0,4"), 4)},
        {"empty shape is one element", size, file_of(tensor("a", "F32", "", "0,0"), 0)},
        {"an extent of 0 with bytes", size, file_of(tensor("a", "F32", "0", "0,4"), 4)},
        {"product beyond 2^63", size, file_of(tensor("a", "F32", "4294967296,4294967296", "0,4"), 4)},
        {"product of 2^64 that would wrap to 0", size, file_of(tensor("a", "F32", "4294967296,4294967296", "0,0"), 0)},
        {"product overflow before an extent of 0", size,
         file_of(tensor("a", "F32", "4294967296,4294967296,0", "0,0"), 0)},
        {"bytes beyond 2^63", size, file_of(tensor("a", "F32", "4611686018427387904", "0,4"), 4)},
        {"extent beyond 2^63", size, file_of(tensor("a", "F32", "18446744073709551615", "0,4"), 4)},
        {"reversed range", offsets, file_of(tensor("a", "F32", "1", "4,0"), 4)},
        {"range beyond 2^63", offsets, file_of(tensor("a", "U8", "1", "18446744073709551614,18446744073709551615"), 4)},
        {"data starts late", offsets, file_of(tensor("a", "F32", "1", "4,8"), 8)},
        {"range wholly behind the end", offsets, file_of(tensor("a", "F32", "1", "400,404"), 4)},
        {"gap", offsets, file_of(tensor("a", "F32", "1", "0,4") + "," + tensor("b", "F32", "1", "8,12"), 12)},
        {"overlap", offsets, file_of(tensor("a", "F32", "2", "0,8") + "," + tensor("b", "F32", "1", "4,8"), 8)},
        {"overlap in another order than the data", offsets,
         file_of(tensor("a", "F32", "2", "4,12") + "," + tensor("b", "F32", "2", "0,8"), 12)},
        {"the same range twice", offsets,
         file_of(tensor("a", "F32", "1", "0,4") + "," + tensor("b", "F32", "1", "0,4"), 4)},
        {"one trailing byte", offsets, file_of(tensor("a", "F32", "1", "0,4"), 5)},
        {"data without tensors", offsets, file_of("", 4)},
        {"one byte missing", truncated, file_of(tensor("a", "F32", "1", "0,4"), 3)},
        {"no data at all", truncated, file_of(tensor("a", "F32", "1", "0,4"), 0)},
        {"a file that promises 2^62 bytes", truncated,
         file_of(tensor("a", "U8", "4611686018427387904", "0,4611686018427387904"), 4)},
    };
}

void check_all(const std::vector<BadFile>& files) {
    for (const BadFile& bad : files) {
        INFO(bad.what);
        const auto result = parse(bad.bytes);
        REQUIRE_FALSE(result.ok());
        INFO(result.error().message);
        CHECK(name(result.error().code) == name(bad.code));
        CHECK(result.error().where == "test.safetensors");
        CHECK(result.error().message.starts_with("test.safetensors: "));
        CHECK(result.error().message.size() < 600);
    }
}

} // namespace

TEST_CASE("files with a wrong length or no JSON are rejected") {
    check_all(bad_lengths_and_json());
}

TEST_CASE("headers of another structure are rejected") {
    check_all(bad_structure());
}

TEST_CASE("dtypes, shapes and byte ranges that contradict each other are rejected") {
    check_all(bad_layout());
}

TEST_CASE("a file written by hand reads as what it says") {
    const auto file = parse(small_file());
    REQUIRE_OK(file);
    CHECK(file->metadata.at("k") == "v");
    CHECK(file->metadata.size() == 1);
    REQUIRE(file->tensors.size() == 2);
    CHECK(file->tensors.at("a").elements() == 2);
    CHECK(file->tensors.at("b").dtype == Dtype::f16);
    const auto weights = decode_tensors(*file);
    REQUIRE_OK(weights);
    CHECK(weights->at("a").shape() == Shape{1, 2});
    CHECK(weights->at("a")[0] == 1.0F);
    CHECK(weights->at("a")[1] == -2.0F);
    CHECK(weights->at("b")[0] == 1.0F);
    CHECK(weights->at("b")[1] == 0x1.0p-24F);
    CHECK(std::signbit(weights->at("b")[2]));
}

TEST_CASE("the order of the header need not be that of the data, and a header may end in spaces") {
    const auto file =
        parse(safetensors_text("{" + tensor("a", "I8", "2", "4,6") + "," + tensor("b", "BF16", "2", "0,4") + "}     ",
                               std::string("\x80\x3F\x80\xBF\x80\x7F", 6)));
    REQUIRE_OK(file);
    const auto weights = decode_tensors(*file);
    REQUIRE_OK(weights);
    CHECK(weights->at("a")[0] == -128.0F);
    CHECK(weights->at("a")[1] == 127.0F);
    CHECK(weights->at("b")[0] == 1.0F);
    CHECK(weights->at("b")[1] == -1.0F);
}

TEST_CASE("empty files of tensors and tensors of no elements are sound") {
    REQUIRE_OK(parse(safetensors_text("{}", "")));
    const auto file = parse(file_of(tensor("a", "F32", "0,3", "0,0") + "," + tensor("b", "F32", "", "0,4"), 4));
    REQUIRE_OK(file);
    CHECK(decode_tensor(*file, "a").value().elements() == 0);
    CHECK(decode_tensor(*file, "b").value().shape().rank() == 0);
}

TEST_CASE("dtypes that are no weights are listed but not decoded") {
    for (const std::string dtype :
         {"BOOL", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "F64", "F8_E5M2", "F8_E4M3"}) {
        INFO(dtype);
        const int bytes = dtype.find("64") != std::string::npos   ? 8
                          : dtype.find("32") != std::string::npos ? 4
                          : dtype.find("16") != std::string::npos ? 2
                                                                  : 1;
        const auto file = parse(
            file_of(tensor("a", dtype, "2", "0," + std::to_string(2 * bytes)), static_cast<std::size_t>(2 * bytes)));
        REQUIRE_OK(file);
        CHECK(name(file->tensors.at("a").dtype) == dtype);
        CHECK(file->tensors.at("a").elements() == 2);
        REQUIRE_CODE(decode_tensor(*file, "a"), model_dtype_unsupported);
        REQUIRE_CODE(decode_tensors(*file), model_dtype_unsupported);
    }
}

TEST_CASE("decoding rejects unknown names and more than five axes") {
    const auto file = parse(file_of(tensor("deep", "F32", "1,1,1,1,1,1", "0,4"), 4));
    REQUIRE_OK(file);
    REQUIRE_CODE(decode_tensor(*file, "deep"), model_tensor_shape);
    REQUIRE_CODE(decode_tensor(*file, "other"), model_tensor_missing);
}

TEST_CASE("values that are not finite are rejected with name, count and first index, in every float dtype") {
    struct Row {
        std::string dtype, offsets, data;
    };
    const std::vector<Row> rows = {
        {"F32", "0,16", std::string("\0\0\0\0\0\0\x80\x7F\0\0\0\0\1\0\x80\xFF", 16)}, // inf, NaN
        {"F16", "0,8", std::string("\0\0\0\x7C\0\0\1\xFC", 8)},
        {"BF16", "0,8", std::string("\0\0\x80\x7F\0\0\xC0\x7F", 8)},
    };
    for (const Row& row : rows) {
        INFO(row.dtype);
        const auto file = parse(safetensors_text("{" + tensor("w", row.dtype, "4", row.offsets) + "}", row.data));
        REQUIRE_OK(file);
        const auto decoded = decode_tensor(*file, "w");
        REQUIRE_CODE(decoded, model_not_finite);
        CHECK(decoded.error().message.find("'w' has 2 of 4 values") != std::string::npos);
        CHECK(decoded.error().message.find("at index 1") != std::string::npos);
        CHECK(decoded.error().where == "test.safetensors");
    }
}

TEST_CASE("what is written reads back, and writes the same bytes again") {
    const Weights weights = sample();
    const std::map<std::string, std::string, std::less<>> metadata{{"key", "value \" \\ \xE2\x82\xAC\n"}, {"", ""}};
    for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
        INFO(name(dtype));
        const auto first = encode_safetensors(as(weights, dtype), metadata);
        REQUIRE_OK(first);
        const auto file = parse_safetensors(*first, "a");
        REQUIRE_OK(file);
        CHECK(file->metadata == metadata);
        const auto read = decode_tensors(*file);
        REQUIRE_OK(read);
        REQUIRE(read->size() == weights.size());
        if (dtype == Dtype::f32)
            for (const auto& [tensor_name, values] : weights)
                CHECK(same_bits(read->at(tensor_name), values));
        const auto second = encode_safetensors(as(*read, dtype), file->metadata);
        REQUIRE_OK(second);
        CHECK(*second == *first);
    }
}

TEST_CASE("narrow dtypes store the nearest value") {
    const Weights weights = sample();
    const auto half = parse_safetensors(encode_safetensors(as(weights, Dtype::f16), {}).value(), "h");
    REQUIRE_OK(half);
    const Tensor edge = decode_tensor(*half, "norm.\"quoted\" \xC3\xA4").value();
    CHECK(edge[1] == 0.0F);
    CHECK(edge[2] == 65504.0F);
    CHECK(edge[3] == -0x1.0p-23F); // -1e-7 is 1.68 steps of 2^-24
    CHECK(edge[4] == 0x1.554p-2F);
    const auto brain = parse_safetensors(encode_safetensors(as(weights, Dtype::bf16), {}).value(), "b");
    REQUIRE_OK(brain);
    CHECK(decode_tensor(*brain, "norm.\"quoted\" \xC3\xA4").value()[4] == 0x1.56p-2F);
}

TEST_CASE("the written layout is the format's: padded header, aligned tensors, sorted by width and name") {
    const Weights weights = sample();
    auto tensors = as(weights, Dtype::f32);
    tensors.at("conv.weight").dtype = Dtype::bf16;
    const auto bytes = encode_safetensors(tensors, {{"k", "v"}});
    REQUIRE_OK(bytes);
    const std::string header = header_of(to_text(*bytes));
    CHECK(header.size() % 8 == 0);
    CHECK(header.front() == '{');
    const auto json = nlohmann::json::parse(header);
    CHECK(json.at("__metadata__") == nlohmann::json({{"k", "v"}}));
    CHECK(json.at("norm.\"quoted\" \xC3\xA4").at("data_offsets") == nlohmann::json({0, 20}));
    CHECK(json.at("scalar").at("data_offsets") == nlohmann::json({20, 24}));
    CHECK(json.at("scalar").at("shape") == nlohmann::json::array());
    CHECK(json.at("conv.weight").at("data_offsets") == nlohmann::json({24, 36}));
    CHECK(json.at("conv.weight").at("dtype") == "BF16");
    CHECK(bytes->size() == 8 + header.size() + 36);
}

TEST_CASE("the writer rejects what a reader would reject") {
    const Tensor one(Shape{1}, 1.0F);
    const Tensor large(Shape{1}, 70000.0F);
    const Tensor huge(Shape{1}, std::numeric_limits<float>::max());
    const Tensor nan(Shape{1}, std::numeric_limits<float>::quiet_NaN());
    REQUIRE_CODE(encode_safetensors({{"a", {&nan, Dtype::f32}}}, {}), model_not_finite);
    REQUIRE_CODE(encode_safetensors({{"a", {&nan, Dtype::f16}}}, {}), model_not_finite);
    REQUIRE_CODE(encode_safetensors({{"a", {&large, Dtype::f16}}}, {}), model_not_finite);
    REQUIRE_OK(encode_safetensors({{"a", {&large, Dtype::bf16}}}, {}));
    REQUIRE_CODE(encode_safetensors({{"a", {&huge, Dtype::bf16}}}, {}), model_not_finite);
    REQUIRE_CODE(encode_safetensors({{"a", {&one, Dtype::i16}}}, {}), model_dtype_unsupported);
    REQUIRE_OK(encode_safetensors({{"a", {&one, Dtype::i8}}}, {}));
    const Tensor fraction(Shape{1}, 1.5F);
    const Tensor beyond(Shape{1}, 128.0F);
    for (const Tensor* tensor : {&fraction, &beyond, &nan})
        REQUIRE_CODE(encode_safetensors({{"a", {tensor, Dtype::i8}}}, {}), model_not_finite);
    REQUIRE_CODE(encode_safetensors({{"__metadata__", {&one, Dtype::f32}}}, {}), model_header_invalid);
    REQUIRE_CODE(encode_safetensors({{"\xFF", {&one, Dtype::f32}}}, {}), model_header_invalid);
    REQUIRE_CODE(encode_safetensors({{"a", {&one, Dtype::f32}}}, {{"k", "\xC3"}}), model_header_invalid);
    REQUIRE_CODE(encode_safetensors({{"a", {&one, Dtype::f32}}}, {{"k", std::string(1'000'000, 'x')}}),
                 model_header_too_large);
}

TEST_CASE("a header of exactly one million bytes is read") {
    REQUIRE_OK(parse(safetensors_text("{}" + std::string(999'998, ' '), "")));
}

TEST_CASE("a file cut at any byte is rejected") {
    const std::string whole = small_file();
    REQUIRE_OK(parse(whole));
    for (std::size_t length = 0; length < whole.size(); ++length) {
        INFO("cut at " << length);
        REQUIRE_CODE(parse(std::string_view(whole).substr(0, length)), model_truncated);
    }
}

TEST_CASE("a header cut at any byte, with its length adjusted, is rejected") {
    const std::string header = header_of(small_file());
    for (std::size_t length = 0; length < header.size(); ++length) {
        INFO("cut at " << length);
        REQUIRE_CODE(parse(safetensors_text(header.substr(0, length), "")), model_header_invalid);
    }
}

TEST_CASE("seeded mutations either read completely or give an error about the file") {
    const std::string original = small_file();
    Random random(20240607);
    int rejected = 0;
    for (int round = 0; round < 5000; ++round) {
        std::string mutated = original;
        const auto changes = 1 + random.below(4);
        for (std::uint64_t change = 0; change < changes; ++change) {
            const auto at = static_cast<std::size_t>(random.below(mutated.size()));
            switch (random.below(4)) {
            case 0: mutated[at] = static_cast<char>(random.below(256)); break;
            case 1: mutated[at] = static_cast<char>(mutated[at] ^ (1 << random.below(8))); break;
            case 2: mutated.erase(at, 1); break;
            default: mutated.insert(at, 1, "0123456789{}[]\",:-e."[random.below(21)]);
            }
        }
        const auto file = parse(mutated);
        if (!file) {
            REQUIRE(file.error().where == "test.safetensors");
            ++rejected;
            continue;
        }
        std::size_t covered = 0;
        for (const auto& [tensor_name, stored] : file->tensors) {
            covered += file->data(stored).size();
            const auto decoded = decode_tensor(*file, tensor_name);
            if (decoded)
                REQUIRE(decoded->elements() == stored.elements());
        }
        REQUIRE(file->data_begin + covered == mutated.size());
    }
    CHECK(rejected > 2500);
    CHECK(rejected < 5000);
}

TEST_CASE("reading names the file that is missing") {
    const test::TemporaryFolder folder;
    const auto missing = read_safetensors(folder / "none.safetensors");
    REQUIRE_CODE(missing, file_not_found);
    CHECK(missing.error().message.find("none.safetensors") != std::string::npos);
    REQUIRE_CODE(read_safetensors(folder.path()), file_read);
}

TEST_CASE("text from files is shown without control characters and cut at whole characters") {
    CHECK(printable("plain \xC3\xA4") == "plain \xC3\xA4");
    CHECK(printable(std::string_view("a\x1B[31m\n\0\x7F", 9)) == "a\\x1b[31m\\x0a\\x00\\x7f");
    CHECK(printable("abcdef", 3) == "abc...");
    CHECK(printable("ab\xC3\xA4", 3) == "ab...");
    CHECK(printable("abc", 3) == "abc");
}

TEST_CASE("a hole of 4 GiB is rejected by its header without being read") {
    const test::TemporaryFolder folder;
    constexpr std::uint64_t bytes = std::uint64_t{4} << 30U;
    test::make_sparse(folder / "hole", "", bytes);
    // A header of another format's first bytes, and one that is sound but describes fewer bytes than there are.
    const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    test::make_sparse(folder / "longer", test::safetensors_text(header, "1234"), bytes);
    const auto code = test::in_small_memory([&] {
        const auto hole = read_safetensors(folder / "hole");
        const auto longer = read_safetensors(folder / "longer");
        return !hole && hole.error().code == ErrorCode::model_header_invalid && !longer &&
                       longer.error().code == ErrorCode::model_offsets_invalid
                   ? 0
                   : 1;
    });
    CHECK(code.value_or(0) == 0);
    test::make_sparse(folder / "beyond", "", bytes + 1);
    REQUIRE_CODE(read_safetensors(folder / "beyond"), memory_limit);
}

TEST_CASE("a caller can reject a file by its header") {
    const test::TemporaryFolder folder;
    const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    REQUIRE_OK(write_file_atomically(folder / "a", test::safetensors_text(header, "1234")));
    std::uint64_t seen = 0;
    REQUIRE_OK(read_safetensors(folder / "a", [&](const SafetensorsFile& file, std::uint64_t data_bytes) -> Status {
        seen = data_bytes;
        CHECK(file.tensors.count("a") == 1);
        CHECK(file.bytes.empty());
        return {};
    }));
    CHECK(seen == 4);
    REQUIRE_CODE(read_safetensors(folder / "a",
                                  [](const SafetensorsFile&, std::uint64_t) -> Status {
                                      return Error{ErrorCode::model_tensor_extra, "no", {}};
                                  }),
                 model_tensor_extra);
}
