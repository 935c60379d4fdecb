// SPDX-License-Identifier: MIT
#include "model/describe.h"

#include "core/format.h"
#include "core/json_value.h"
#include "core/names.h"
#include "core/postprocessing_json.h"
#include "core/try.h"
#include "model/metadata.h"

#include <algorithm>

namespace mfres {

namespace {

constexpr auto file_kind_names =
    enum_names<FileKind>({{FileKind::model, "model"}, {FileKind::damaged, "damaged"}, {FileKind::tensors, "tensors"}});

Result<ModelSummary> summarise(Model model) {
    MFRES_TRY(const Graph graph, parameter_graph(model.variant));
    ModelSummary summary{model.variant.name(), std::move(model.metadata), 0, 0};
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters)
            (parameter.learnable() ? summary.learnable : summary.state) += parameter.shape.elements();
    return summary;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
    if (shape.empty())
        return "scalar";
    std::string joined;
    for (const std::int64_t extent : shape)
        joined += (joined.empty() ? "" : "x") + std::to_string(extent);
    return joined;
}

std::string left(std::string cell, std::size_t width) {
    cell.resize(std::max(width, cell.size()), ' ');
    return cell;
}

std::string right(const std::string& cell, std::size_t width) {
    return std::string(width > cell.size() ? width - cell.size() : 0, ' ') + cell;
}

std::string line(const std::string& label, const std::string& content) {
    return left(label, 15) + content + "\n";
}

/// The subsets of the contrasts that suffice; nothing if all four have to be there.
std::string subset_line(const ModelMetadata& metadata) {
    std::string sets;
    for (const ModalitySet& set : metadata.modality_subsets)
        sets += (sets.empty() ? "" : "; ") + names(set);
    return sets.empty() ? sets : line("subsets", sets);
}

} // namespace

std::string least_enhancing(const PostprocessingSizes& sizes) {
    std::string least;
    if (sizes.min_enhancing_mm3 > 0.0)
        least = text(sizes.min_enhancing_mm3, " mm^3");
    if (sizes.min_enhancing_share > 0.0)
        least += text(least.empty() ? "" : " or ", 100.0 * sizes.min_enhancing_share, " % of the tumour core");
    return least;
}

namespace {

/// The recommended postprocessing; nothing if there is none.
std::string postprocessing_line(const ModelMetadata& metadata) {
    std::string sizes;
    if (const double mm3 = metadata.postprocessing.min_component_mm3; mm3 > 0.0)
        sizes += text("components below ", mm3, " mm^3 are removed");
    if (const std::string least = least_enhancing(metadata.postprocessing); !least.empty())
        sizes += text(sizes.empty() ? "" : "; ", "enhancing tumour below ", least, " becomes necrotic core");
    return sizes.empty() ? sizes : line("postprocessing", sizes);
}

std::string model_lines(const ModelSummary& model) {
    const ModelMetadata& metadata = model.metadata;
    std::string channels;
    for (const std::string& modality : metadata.modalities)
        channels += (channels.empty() ? "" : ", ") + modality;
    return line("network", model.network) + line("variant", printable(metadata.variant_json, std::string::npos)) +
           line("modalities", channels) + line("normalisation", std::string(to_string(metadata.normalisation))) +
           subset_line(metadata) + postprocessing_line(metadata) + line("label scheme", metadata.label_scheme) +
           line("voxel edge", text(metadata.voxel_min_mm, " to ", metadata.voxel_max_mm, " mm")) +
           line("brain", text(metadata.brain_min_ml, " to ", metadata.brain_max_ml, " ml")) +
           line("recipe", printable(metadata.recipe_json, std::string::npos)) +
           line("created by", printable(metadata.created_by, 200)) +
           (metadata.quantization.ranges.empty()
                ? std::string()
                : line("quantization",
                       text(metadata.quantization.ranges.size(), " convolutions, ", metadata.quantization.calibration,
                            " of ", counted(metadata.quantization.cases, "case"), ", weights stored as ",
                            metadata.quantization.int8_weights ? "int8" : "floats"))) +
           line("SHA-256", metadata.weights_sha256 + " (verified)") +
           line("parameters", text(model.learnable, " learnable, ", model.state, " running statistics"));
}

std::string raw_metadata_lines(const ModelInfo& info) {
    std::string lines;
    for (const auto& [key, value] : info.metadata)
        lines += line("metadata", printable(key) + " = " + printable(value, 1000));
    return lines;
}

std::string kind_text(const ModelInfo& info) {
    switch (info.kind) {
    case FileKind::model: return "mfres model, format " + info.model->metadata.format_version;
    case FileKind::damaged:
        return text("not usable: ", printable(info.rejection->message, 1000), " [", name(info.rejection->code), "]");
    case FileKind::tensors: return "not an mfres model, tensors only";
    }
    return {};
}

std::string tensor_table(const std::vector<TensorInfo>& tensors) {
    std::size_t name_width = 4;
    std::size_t shape_width = 5;
    for (const TensorInfo& tensor : tensors) {
        name_width = std::max(name_width, printable(tensor.name).size());
        shape_width = std::max(shape_width, shape_text(tensor.shape).size());
    }
    const auto row = [&](const std::string& tensor, std::string_view dtype, const std::string& shape,
                         const std::string& elements, const std::string& bytes) {
        return "  " + left(tensor, name_width) + "  " + left(std::string(dtype), 7) + "  " + left(shape, shape_width) +
               right(elements, 12) + right(bytes, 14) + "\n";
    };
    std::string table = row("name", "dtype", "shape", "elements", "bytes");
    for (const TensorInfo& tensor : tensors)
        table += row(printable(tensor.name), name(tensor.dtype), shape_text(tensor.shape),
                     std::to_string(tensor.elements), std::to_string(tensor.bytes));
    return table;
}

OrderedJson model_json(const ModelSummary& model) {
    const ModelMetadata& metadata = model.metadata;
    OrderedJson json;
    json["network"] = model.network;
    // parse_strict has accepted this text and that of the recipe, which bounds their depth.
    json["variant"] = OrderedJson::parse(metadata.variant_json, nullptr, false);
    json["modalities"] = metadata.modalities;
    json["normalisation"] = to_string(metadata.normalisation);
    for (const ModalitySet& set : metadata.modality_subsets)
        json["modality_subsets"].push_back(names(set));
    json["postprocessing"] = postprocessing_json<OrderedJson>(metadata.postprocessing);
    json["label_scheme"] = metadata.label_scheme;
    json["voxel_mm"] = {metadata.voxel_min_mm, metadata.voxel_max_mm};
    json["brain_ml"] = {metadata.brain_min_ml, metadata.brain_max_ml};
    json["recipe"] = OrderedJson::parse(metadata.recipe_json, nullptr, false);
    json["weights_sha256"] = metadata.weights_sha256;
    json["sha256_verified"] = true;
    json["created_by"] = metadata.created_by;
    json["format_version"] = metadata.format_version;
    json["learnable"] = model.learnable;
    json["state"] = model.state;
    return json;
}

} // namespace

std::string_view name(FileKind kind) noexcept {
    return file_kind_names.of(kind);
}

bool has_random_weights(const ModelMetadata& metadata) {
    const auto recipe = Json::parse(metadata.recipe_json, nullptr, false);
    if (!recipe.is_object() || recipe.empty())
        return false;
    const auto of_init = [](const auto& entry) {
        return entry.key() == "init" || entry.key() == "initialisation" || entry.key() == "seed";
    };
    const auto entries = recipe.items();
    return std::all_of(entries.begin(), entries.end(), of_init);
}

Result<ModelInfo> describe(const std::filesystem::path& path) {
    MFRES_TRY(const SafetensorsFile file, read_safetensors(path));
    ModelInfo info;
    info.path = path.string();
    info.file_bytes = static_cast<std::int64_t>(file.bytes.size());
    info.metadata = {file.metadata.begin(), file.metadata.end()};
    for (const auto& [tensor_name, tensor] : file.tensors) {
        info.tensors.push_back({tensor_name, tensor.dtype, tensor.shape, tensor.elements(), tensor.bytes()});
        info.elements += tensor.elements();
        info.tensor_bytes += tensor.bytes();
    }
    if (!has_model_metadata(file.metadata))
        return info;
    auto model = decode_model(file);
    if (!model) {
        info.kind = FileKind::damaged;
        info.rejection = model.error();
        return info;
    }
    MFRES_TRY(info.model, summarise(std::move(model).value()));
    info.kind = FileKind::model;
    return info;
}

std::string info_text(const ModelInfo& info) {
    return line("file", printable(info.path, 1000) + text(" (", info.file_bytes, " bytes)")) +
           line("kind", kind_text(info)) + (info.model ? model_lines(*info.model) : raw_metadata_lines(info)) +
           line("tensors", text(info.tensors.size(), ", ", info.elements, " elements, ", info.tensor_bytes, " bytes")) +
           tensor_table(info.tensors);
}

std::string info_json(const ModelInfo& info) {
    OrderedJson json;
    json["path"] = info.path;
    json["file_bytes"] = info.file_bytes;
    json["kind"] = name(info.kind);
    json["error"] = nullptr;
    if (info.rejection)
        json["error"] = {{"code", name(info.rejection->code)}, {"message", info.rejection->message}};
    json["model"] = info.model ? model_json(*info.model) : OrderedJson(nullptr);
    json["metadata"] = info.metadata;
    json["elements"] = info.elements;
    json["tensor_bytes"] = info.tensor_bytes;
    json["tensors"] = OrderedJson::array();
    for (const TensorInfo& tensor : info.tensors)
        json["tensors"].push_back({{"name", tensor.name},
                                   {"dtype", name(tensor.dtype)},
                                   {"shape", tensor.shape},
                                   {"elements", tensor.elements},
                                   {"bytes", tensor.bytes}});
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace mfres
