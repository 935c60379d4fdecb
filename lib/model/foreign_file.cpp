// SPDX-License-Identifier: MIT
#include "model/foreign_file.h"

#include "core/file.h"
#include "core/try.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <span>
#include <string_view>
#include <vector>

namespace mfres {

namespace {

constexpr std::size_t looked_at = 512; // bytes; what tells comes first in all of these formats

/// What such files begin with, and what to say of them. "FILE" in the advice is replaced by the file's name.
struct Kind {
    std::string_view begin;
    std::string_view ending; ///< of the name, where the first bytes are not enough; "" = any
    std::string_view advice;
};

constexpr std::string_view torch_advice =
    "it is a PyTorch file; 'mfres convert FILE --network NAME --modalities t1,t1ce,t2,flair --out m.safetensors' reads "
    "its weights (the contrasts in the order of the training), and nothing in it is executed";
constexpr std::string_view image_advice = "it is an image, which is given with --t1, --t1ce, --t2 or --flair";

// clang-format off
constexpr std::array<Kind, 10> kinds = {{
    {"MFRESCKP", "", "it is a checkpoint of mfres train; 'mfres convert FILE --out m.safetensors' makes a model of it"},
    {"mfrcache", "", "it is a training cache, which is given with --data"},
    {"PK\x03\x04", "", torch_advice},
    {"\x80\x02", "", torch_advice},
    {"\x08", ".onnx", "it is ONNX; 'mfres convert FILE --out m.safetensors' makes a model of it"},
    {"", ".onnx", "it is named as ONNX, which 'mfres convert FILE --out m.safetensors' makes a model of"},
    {"\x1f\x8b", "", image_advice},
    {"\x5c\x01\x00\x00", "", image_advice},
    {"{", "", "it is JSON: a network is given with --network, options with --config"},
    {"\x89HDF", "", "it is HDF5, of another framework; export ONNX or safetensors there, which 'mfres convert' reads"},
}};
// clang-format on

std::string first_bytes(const std::filesystem::path& path) {
    const auto file = ReadableFile::open(path);
    if (!file)
        return {};
    std::string bytes(static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), looked_at)), '\0');
    return file->read_at(0, std::as_writable_bytes(std::span(bytes))) ? bytes : std::string();
}

} // namespace

std::string foreign_file(const std::filesystem::path& path) {
    const std::string bytes = first_bytes(path);
    const std::string name = path.filename().string();
    if (bytes.empty())
        return {};
    for (const Kind& kind : kinds) {
        if (!bytes.starts_with(kind.begin) || !name.ends_with(kind.ending))
            continue;
        std::string advice(kind.advice);
        if (const std::size_t at = advice.find("FILE"); at != std::string::npos)
            advice.replace(at, 4, path.string());
        return advice;
    }
    return {};
}

} // namespace mfres
