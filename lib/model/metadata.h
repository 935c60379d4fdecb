// SPDX-License-Identifier: MIT
// Conversion between ModelMetadata and the strings of a safetensors header.
#pragma once

#include "model/model.h"

#include <map>
#include <string>

namespace mfres {

using MetadataStrings = std::map<std::string, std::string, std::less<>>;

/// Whether any key starts with "mfres.", i.e. the file was written as a model.
bool has_model_metadata(const MetadataStrings& strings);

/// Reads the keys described in model.h. Error: model_metadata_invalid, with `where` = the key, if one is missing or
/// unknown or has a value that is not allowed.
Result<ModelMetadata> metadata_from_strings(const MetadataStrings& strings);

/// The inverse.
MetadataStrings metadata_to_strings(const ModelMetadata& metadata);

/// As many modalities as the variant has input channels. Error: model_metadata_invalid.
Status check_channels(const ModelMetadata& metadata, const Variant& variant);

} // namespace mfres
