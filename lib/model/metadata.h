// ModelMetadata as the strings of a safetensors header and back.
#pragma once

#include "model/model.h"

#include <map>
#include <string>

namespace mfres {

using MetadataStrings = std::map<std::string, std::string, std::less<>>;

/// Whether any key belongs to this project, i.e. the file was meant to be a model.
bool has_model_metadata(const MetadataStrings& strings);

/// Reads the keys described in model.h. Error: model_metadata_invalid, with `where` = the key, if one is missing or
/// unknown or its value is impossible in itself.
Result<ModelMetadata> metadata_from_strings(const MetadataStrings& strings);

/// The inverse.
MetadataStrings metadata_to_strings(const ModelMetadata& metadata);

/// As many modalities as the variant has input channels. Error: model_metadata_invalid.
Status check_channels(const ModelMetadata& metadata, const Variant& variant);

} // namespace mfres
