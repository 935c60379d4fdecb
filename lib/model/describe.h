// SPDX-License-Identifier: MIT
// Description of a model file, or of any safetensors file, for `mfres info`.
#pragma once

#include "model/model.h"

#include <mfres/status.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mfres {

/// One entry of the tensor table.
struct TensorInfo {
    std::string name;
    Dtype dtype = Dtype::f32;
    std::vector<std::int64_t> shape;
    std::int64_t elements = 0;
    std::int64_t bytes = 0;
};

enum class FileKind : std::uint8_t {
    model,   ///< load_model accepts it; the SHA-256 of its weights equals the recorded one
    damaged, ///< it has metadata of this project, but load_model rejects it
    tensors, ///< safetensors without metadata of this project
};

/// "model", "damaged", "tensors"
std::string_view name(FileKind kind) noexcept;

/// Content of a verified model file.
struct ModelSummary {
    std::string network; ///< the variant's name
    ModelMetadata metadata;
    std::int64_t learnable = 0; ///< learnable scalars
    std::int64_t state = 0;     ///< running means and variances
};

struct ModelInfo {
    std::string path;
    std::int64_t file_bytes = 0;
    FileKind kind = FileKind::tensors;
    std::optional<ModelSummary> model;           ///< if kind is model
    std::optional<Error> rejection;              ///< if kind is damaged: why
    std::map<std::string, std::string> metadata; ///< as stored
    std::vector<TensorInfo> tensors;             ///< by name
    std::int64_t elements = 0;                   ///< of all tensors
    std::int64_t tensor_bytes = 0;               ///< of all tensors
};

/// Whether nothing but a random generator made the weights, as `mfres init` does.
bool has_random_weights(const ModelMetadata& metadata);

/// Describes a file. Errors: those of read_safetensors; every valid safetensors file can be described.
Result<ModelInfo> describe(const std::filesystem::path& path);

/// The description as text. Control characters of the file are escaped.
std::string info_text(const ModelInfo& info);

/// The description as one JSON object, indented, ending in '\n'. Keys: path, file_bytes, kind, error (null or code and
/// message), model (null or network, variant, modalities, normalisation, label_scheme, voxel_mm [least, most], brain_ml [least, most], recipe,
/// weights_sha256, sha256_verified, created_by, format_version, learnable, state), metadata, elements, tensor_bytes,
/// tensors (array of name, dtype, shape, elements, bytes).
std::string info_json(const ModelInfo& info);

} // namespace mfres
