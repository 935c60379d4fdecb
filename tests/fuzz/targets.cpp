// SPDX-License-Identifier: MIT
#include "fuzz/targets.h"

#include "core/file.h"
#include "core/json.h"
#include "data/block_codec.h"
#include "data/cache_format.h"
#include "exchange/name_pattern.h"
#include "exchange/onnx.h"
#include "exchange/onnx_complexity.h"
#include "exchange/onnx_layout.h"
#include "exchange/pickle.h"
#include "exchange/state_dict.h"
#include "imaging/nifti/gzip.h"
#include "imaging/nifti/nifti.h"
#include "model/metadata.h"
#include "model/model.h"
#include "model/quantization_record.h"
#include "model/safetensors.h"
#include "networks/registry.h"
#include "paper/plan.h"
#include "support/zip_archive.h"
#include "train/checkpoint.h"
#include "train/recipe.h"

#include <mfres/machine.h>
#include <mfres/metrics.h>

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <vector>

namespace mfres::fuzz {

namespace {

using Input = std::span<const std::byte>;

void expect(bool holds, const char* what) {
    if (!holds)
        throw std::logic_error(what);
}

std::string_view characters(Input input) {
    return {reinterpret_cast<const char*>(input.data()), input.size()};
}

Input bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

/// The input as a file, for parsers that take a path. The same file every time, whose old content is overwritten: file
/// systems write a file out that is truncated to nothing and written anew.
std::filesystem::path file_of(Input input, const std::string& name) {
    static const ScratchFolder folder = ScratchFolder::create("fuzz").value();
    const std::filesystem::path path = folder.path() / name;
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const auto written = ::pwrite(file, input.data(), input.size(), 0);
    const bool cut = ::ftruncate(file, static_cast<off_t>(input.size())) == 0;
    ::close(file);
    expect(written == static_cast<ssize_t>(input.size()) && cut, "the input cannot be written into a file");
    return path;
}

/// An unsigned number of 1 to 8 bytes, least significant first, taken off the front; 0 where the input has ended.
std::uint64_t take_number(Input& input, std::size_t bytes) {
    std::uint64_t number = 0;
    const std::size_t there = std::min(bytes, input.size());
    for (std::size_t i = 0; i < there; ++i)
        number |= std::to_integer<std::uint64_t>(input[i]) << (8 * i);
    input = input.subspan(there);
    return number;
}

void put_number(std::vector<std::byte>& bytes, std::size_t offset, std::uint32_t number) {
    for (std::size_t i = 0; i < sizeof number; ++i)
        bytes[offset + i] = static_cast<std::byte>(number >> (8 * i) & 0xFFU);
}

// NIfTI and gzip -------------------------------------------------------------------------------------------------------

constexpr NiftiReadOptions small_volumes{.use = AffineSource::automatic, .max_bytes = std::uint64_t{16} << 20U};

/// All readers of NIfTI agree on what a file holds; says whether it was accepted.
bool read_all_ways(const std::filesystem::path& path) {
    const auto volume = read_nifti(path, small_volumes);
    const auto scan = read_nifti_scan(path, small_volumes);
    NiftiReadOptions at_once = small_volumes;
    at_once.most_inflated_bytes = small_volumes.max_bytes;
    const auto inflated = read_nifti_scan(path, at_once);
    (void)read_nifti_labels(path, small_volumes);
    expect(volume.ok() == scan.ok(), "read_nifti and read_nifti_scan disagree");
    expect(scan.ok() ? inflated.ok() && same_intensities(inflated->scan, scan->scan)
                     : !inflated.ok() && inflated.error().message == scan.error().message,
           "a file that is inflated at once is judged or read otherwise");
    if (volume) {
        expect(static_cast<std::int64_t>(volume->volume.voxels.size()) == volume->volume.grid.voxels(),
               "a volume has another number of voxels than its grid");
        expect(scan->scan.volume().voxels == volume->volume.voxels, "a compact volume holds other intensities");
    }
    return volume.ok();
}

bool nifti(Input input) {
    const bool accepted = read_all_ways(file_of(input, "input.nii"));
    const auto packed = gzip(input, 1);
    if (packed.ok() && input.size() < 65536)
        expect(read_all_ways(file_of(*packed, "packed.nii.gz")) == accepted,
               "a file is judged otherwise when it is compressed");
    return accepted;
}

bool gzipped(Input input) {
    constexpr std::uint64_t cap = std::uint64_t{4} << 20U;
    const auto content = gunzip(input, cap, "input");
    if (content) {
        expect(content->size() <= cap, "gunzip gave more than the cap");
        const auto packed = gzip(*content, 1);
        expect(packed.ok() && *gunzip(*packed, cap, "again") == *content, "gzip and gunzip are no inverses");
    }
    return read_nifti_scan(file_of(input, "input.nii.gz"), small_volumes).ok();
}

// Models ---------------------------------------------------------------------------------------------------------------

bool safetensors(Input input) {
    const auto file = parse_safetensors({input.begin(), input.end()}, "input");
    if (!file)
        return false;
    for (const auto& [name, tensor] : file->tensors)
        expect(file->data(tensor).size() == static_cast<std::size_t>(tensor.bytes()), "a tensor leaves the file");
    return decode_tensors(*file).ok() && decode_model(*file).ok();
}

/// The input is a JSON object of strings, because a file's own header is checked before.
bool metadata(Input input) {
    const auto object = parse_json(characters(input), "metadata", record_limits);
    if (!object || !object->is_object())
        return false;
    MetadataStrings strings;
    for (const auto& [key, value] : object->items())
        strings[key] = value.is_string() ? value.get<std::string>() : value.dump();
    const auto known = metadata_from_strings(strings);
    if (!known)
        return false;
    const MetadataStrings written = metadata_to_strings(*known);
    const auto again = metadata_from_strings(written);
    expect(again.ok(), "metadata that was written cannot be read");
    expect(metadata_to_strings(*again) == written, "metadata changes when it is written and read");
    return true;
}

bool quantization(Input input) {
    const auto record = quantization_from_json(std::string(characters(input)));
    if (!record)
        return false;
    const auto again = quantization_from_json(to_json(*record));
    expect(again.ok() && to_json(*again) == to_json(*record), "a record changes when it is written and read");
    return true;
}

bool onnx(Input input) {
    (void)check_onnx_layout(file_of(input, "input.onnx"));
    (void)import_onnx(input, "input");
    const auto counted = count_onnx(input, "input", {});
    const auto partly = count_onnx(input, "input", {{}, true});
    expect(!counted || (partly.ok() && partly->onnx->excluded.empty() && partly->total.macs == counted->total.macs),
           "a network that can be counted has other counts where unknown operators are allowed");
    if (partly)
        expect(partly->peak_bytes <= partly->memory.planned, "a memory plan is below the peak of what is live");
    return decode_onnx(input, "input", {16, 16, 16}).ok();
}

bool machine(Input input) {
    const auto read = find_machine(file_of(input, "machine.json").string());
    if (!read)
        return false;
    const std::string words = to_json(*read);
    const auto again = find_machine(file_of(bytes_of(words), "machine.json").string());
    expect(again.ok() && to_json(*again) == words, "a machine changes when it is written and read");
    return true;
}

bool pickle_document(Input input) {
    const auto document = pickle::parse(input);
    if (!document)
        return false;
    expect(document->root < document->values.size(), "a document's root is none of its values");
    for (const pickle::Value& value : document->values)
        for (const pickle::Handle item : value.items)
            expect(item < document->values.size(), "a document refers to a value that it does not have");
    return true;
}

/// The input is the pickle of an archive with two storages of 16 bytes: random bytes rarely keep the checksums of an
/// archive.
bool torch_pickle(Input input) {
    const std::string storage(16, '\x3F');
    const std::string file = test::archive({{"a/data.pkl", std::string(characters(input))},
                                            {"a/data/0", storage},
                                            {"a/data/1", storage},
                                            {"a/version", "3\n"}});
    return read_torch_state(bytes_of(file), "input").ok();
}

bool torch_archive(Input input) {
    return read_torch_state(input, "input").ok();
}

// Text -----------------------------------------------------------------------------------------------------------------

bool variant(Input input) {
    const auto parsed = parse_variant(characters(input));
    if (!parsed)
        return false;
    const auto again = parse_variant(parsed->json());
    expect(again.ok() && again->json() == parsed->json(), "a variant's canonical text reads as another");
    return true;
}

bool recipe(Input input) {
    const auto parsed = parse_recipe(characters(input));
    if (!parsed)
        return false;
    const auto again = parse_recipe(to_json(*parsed).dump());
    expect(again.ok() && recipe_differences(*parsed, *again).empty(), "a recipe changes when it is written and read");
    return true;
}

bool experiment(Input input) {
    const auto object = parse_json(characters(input), "plan", record_limits);
    return object && parse_plan(*object, "input").ok();
}

bool table(Input input) {
    (void)read_sites(file_of(input, "input.csv"));
    const auto parsed = parse_csv(characters(input), "input");
    if (!parsed)
        return false;
    const auto again = parse_csv(to_csv(*parsed), "again");
    expect(again.ok() && to_csv(*again) == to_csv(*parsed), "a table changes when it is written and read");
    return true;
}

bool mapping(Input input) {
    const auto parsed = NameMapping::parse(characters(input));
    if (!parsed)
        return false;
    const Tensor one(Shape{1}, 1.0F);
    StateDict tensors;
    for (const char* name : {"module.encoder.0.weight", "a", "x.num_batches_tracked", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa!"})
        tensors.emplace(name, one);
    return parsed->apply(std::move(tensors), "input").ok();
}

/// An expression, a line break, a name.
bool pattern(Input input) {
    const std::string_view all = characters(input);
    const std::size_t line = std::min(all.find('\n'), all.size());
    const auto parsed = NamePattern::parse(all.substr(0, line));
    if (!parsed)
        return false;
    const std::string_view name = all.substr(std::min(line + 1, all.size())).substr(0, NameMapping::max_length);
    const auto groups = parsed->match(name);
    if (groups)
        (void)expand("$0 $1 $$", name, *groups);
    return groups.has_value();
}

// Training -------------------------------------------------------------------------------------------------------------

/// A checkpoint with the checksums that its bytes should have, as far as it has the structure of one.
std::vector<std::byte> with_checksums(Input input) {
    constexpr std::size_t fixed = 16;
    constexpr std::size_t entry = 28; // name of 16, length of 8, CRC-32
    std::vector<std::byte> bytes(input.begin(), input.end());
    if (bytes.size() < fixed)
        return bytes;
    Input count_at = Input(bytes).subspan(12);
    const auto count = static_cast<std::size_t>(take_number(count_at, 4));
    const std::size_t table_end = fixed + count * entry;
    if (count > 16 || bytes.size() < table_end + 4)
        return bytes;
    std::size_t offset = table_end + 4;
    for (std::size_t i = 0; i < count; ++i) {
        Input length_at = Input(bytes).subspan(fixed + i * entry + 16);
        const std::uint64_t length = take_number(length_at, 8);
        if (length > bytes.size() - offset)
            break;
        const Input content = Input(bytes).subspan(offset, static_cast<std::size_t>(length));
        put_number(bytes, fixed + i * entry + 24, crc32_of(content));
        offset += static_cast<std::size_t>(length);
    }
    put_number(bytes, table_end, crc32_of(Input(bytes).first(table_end)));
    return bytes;
}

bool checkpoint(Input input) {
    const auto decoded = decode_checkpoint(with_checksums(input), "input");
    if (!decoded)
        return false;
    const auto encoded = encode_checkpoint(*decoded);
    if (encoded)
        expect(decode_checkpoint(*encoded, "again").ok(), "a checkpoint that was written cannot be read");
    return true;
}

/// Number of cases and place of the index in 2 and 4 bytes, then the index. The header gets the checksum it should have.
bool cache_index(Input input) {
    const std::uint64_t cases = take_number(input, 2);
    const std::uint64_t begin = take_number(input, 4);
    const auto bytes = encode_header(cases, begin, input);
    const auto header = decode_header(bytes, begin + input.size(), "input");
    if (!header)
        return false;
    const auto records = decode_index(*header, input, "input");
    if (records)
        expect(std::ranges::equal(encode_index(*records), input), "an index changes when it is read and written");
    return records.ok();
}

/// Three edges of a box, what the block holds, then the block.
bool cache_block(Input input) {
    BoxSize size{};
    for (auto& edge : size)
        edge = 1 + static_cast<std::int64_t>(take_number(input, 1) % 24);
    const auto kind = take_number(input, 1) % 3;
    const auto voxels = static_cast<std::size_t>(size[0] * size[1] * size[2]);
    std::vector<std::uint8_t> brain(voxels, 1);
    brain[voxels / 2] = voxels > 1 ? 0 : 1;
    if (kind == 0) {
        std::vector<std::uint8_t> labels(voxels);
        return unpack_labels(input, labels, "input").ok();
    }
    if (kind == 1) {
        std::vector<std::uint8_t> quanta(voxels);
        return unpack_quanta(input, brain, size, std::span(quanta), "input").ok();
    }
    std::vector<std::int16_t> quanta(voxels);
    return unpack_quanta(input, brain, size, std::span(quanta), "input").ok();
}

// clang-format off
constexpr std::array<Target, 19> all = {{
    {"nifti", nifti},
    {"gzip", gzipped},
    {"safetensors", safetensors},
    {"metadata", metadata},
    {"quantization", quantization},
    {"onnx", onnx},
    {"pickle", pickle_document},
    {"torch_pickle", torch_pickle},
    {"torch_archive", torch_archive},
    {"variant", variant},
    {"recipe", recipe},
    {"experiment", experiment},
    {"table", table},
    {"machine", machine},
    {"mapping", mapping},
    {"pattern", pattern},
    {"checkpoint", checkpoint},
    {"cache_index", cache_index},
    {"cache_block", cache_block},
}};
// clang-format on

} // namespace

std::span<const Target> targets() {
    return all;
}

} // namespace mfres::fuzz
