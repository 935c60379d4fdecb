// SPDX-License-Identifier: MIT
// Reading ONNX files as models: recognises the network and assigns weights to its parameters.
#include "exchange/onnx.h"

#include "core/checked.h"
#include "core/file.h"
#include "core/guard.h"
#include "core/try.h"
#include "exchange/match.h"
#include "exchange/onnx_file.h"
#include "exchange/state_dict.h"
#include "graph/rewrite.h"
#include "model/metadata.h"
#include "model/sha256.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

namespace mfres {

namespace {

using Strings = std::map<std::string, std::string, std::less<>>;

/// The error of a file. A graph that contradicts itself is the file's fault, not the program's.
Error about(const std::string& path, const Error& error) {
    const bool named = error.message.starts_with(path);
    const bool of_graph = error.code == ErrorCode::graph_invalid || error.code == ErrorCode::size_overflow;
    return {of_graph ? ErrorCode::model_header_invalid : error.code,
            named ? error.message : text(path, ": ", error.message), path};
}

std::string entry(const Strings& strings, std::string_view key) {
    const auto found = strings.find(key);
    return found == strings.end() ? std::string() : found->second;
}

/// The model's metadata, if the file has any. Errors: model_metadata_invalid.
Result<std::optional<ModelMetadata>> recorded_metadata(const Strings& all) {
    MetadataStrings ours;
    for (const auto& [key, value] : all)
        if (key.starts_with("mfres.") && !key.starts_with("mfres.onnx."))
            ours.emplace(key, value);
    if (ours.empty())
        return std::optional<ModelMetadata>();
    MFRES_TRY(ModelMetadata metadata, metadata_from_strings(ours));
    return std::optional(std::move(metadata));
}

Result<Variant> chosen_variant(const std::optional<ModelMetadata>& recorded, const Variant* wanted) {
    if (!recorded && wanted == nullptr)
        return Error{ErrorCode::model_metadata_invalid, "the file does not say which network it holds", {}};
    if (!recorded)
        return *wanted;
    auto variant = parse_variant(recorded->variant_json);
    if (!variant)
        return Error{ErrorCode::model_metadata_invalid,
                     text("metadata mfres.variant: ", printable(variant.error().message, 400)),
                     {}};
    MFRES_CHECK(check_channels(*recorded, *variant));
    if (wanted != nullptr && wanted->json() != variant->json())
        return Error{
            ErrorCode::model_metadata_invalid,
            text("the file holds ", variant->name(), " (", variant->json(), "), ", wanted->name(), " was requested"),
            {}};
    return variant;
}

/// Weights of the original network from those of the folded one: BatchNorms get mean 0, variance 1 and a scale that
/// cancels epsilon.
Weights unfolded(const Graph& graph, Weights weights) {
    for (const Node& node : graph.nodes()) {
        if (node.kind() != OpKind::batch_norm || weights.count(node.name + ".running_var") > 0)
            continue;
        const Node& conv = graph.node(node.inputs[0]);
        const Shape channels{node.shape[1]};
        auto bias = weights.extract(conv.name + ".bias");
        weights.emplace(node.name + ".bias", std::move(bias.mapped()));
        if (conv.as<Conv>().bias)
            weights.emplace(conv.name + ".bias", Tensor(channels, 0.0F));
        const double scale = std::sqrt(1.0 + node.as<BatchNorm>().epsilon);
        weights.emplace(node.name + ".weight", Tensor(channels, static_cast<float>(scale)));
        weights.emplace(node.name + ".running_mean", Tensor(channels, 0.0F));
        weights.emplace(node.name + ".running_var", Tensor(channels, 1.0F));
    }
    return weights;
}

/// The weights of `known` taken from a graph of the same structure; nothing if the structures differ.
std::optional<Weights> matched_weights(const Graph& known, const Graph& other, const Weights& weights) {
    const auto partner = match_graphs(known, other);
    if (!partner)
        return std::nullopt;
    Weights result;
    for (NodeId id = 0; id < known.size(); ++id) {
        const NodeId match = (*partner)[static_cast<std::size_t>(id)];
        if (match < 0)
            continue;
        const Node& node = known.node(id);
        for (std::size_t i = 0; i < node.parameters.size(); ++i)
            result.emplace(node.parameters[i].name, weights.find(other.node(match).parameters[i].name)->second);
    }
    return result;
}

Result<Weights> weights_of_any_graph(const onnx::ModelProto& model, const std::string& path, const Variant& variant) {
    // At least twice the multiple: on smaller axes different ops could become equal.
    const std::int64_t edge = (63 / variant.multiple() + 1) * variant.multiple();
    MFRES_TRY(const OnnxNetwork network, read_onnx_graph(model, path, {edge, edge, edge}));
    const Shape& input = network.graph.node(network.graph.input()).shape;
    MFRES_TRY(const Graph known, build_network(variant, spatial(input), input[0]));
    if (auto weights = matched_weights(known, network.graph, network.weights))
        return std::move(*weights);
    MFRES_TRY(const Network folded, fold_batch_norm(network.graph, network.weights));
    if (auto weights = matched_weights(fold_batch_norm(known), folded.graph, folded.weights))
        return unfolded(known, std::move(*weights));
    // Networks of this project end in logits, and what runs them takes the Softmax.
    MFRES_TRY(const OnnxNetwork logits, read_onnx_graph(model, path, {edge, edge, edge}, OnnxEnds::before_softmax));
    if (logits.graph.size() < network.graph.size()) {
        if (auto weights = matched_weights(known, logits.graph, logits.weights))
            return std::move(*weights);
        MFRES_TRY(const Network without_norms, fold_batch_norm(logits.graph, logits.weights));
        if (auto weights = matched_weights(fold_batch_norm(known), without_norms.graph, without_norms.weights))
            return unfolded(known, std::move(*weights));
    }
    return Error{ErrorCode::model_metadata_invalid,
                 text("the graph, ", network.graph.size(), " operations on ", to_string(input), ", is not that of ",
                      variant.name(), ", which has ", known.size()),
                 {}};
}

Result<Axes> recorded_size(const Strings& metadata) {
    const std::string digits = entry(metadata, "mfres.onnx.size");
    Axes size{};
    const char* at = digits.data();
    const char* const end = at + digits.size();
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const auto [next, problem] = std::from_chars(at, end, size[axis]);
        const bool last = axis == 2;
        if (problem != std::errc{} || size[axis] < 1 || size[axis] > 1024 || (last ? next != end : *next != ','))
            return Error{ErrorCode::model_metadata_invalid,
                         text("metadata mfres.onnx.size: '", printable(digits), "' is not three extents up to 1024"),
                         {}};
        at = next + 1;
    }
    return size;
}

/// The initialisers that are parameters of the graph. Nothing has been checked yet, so initialisers of another size are
/// ignored.
std::optional<Weights> named_weights(const onnx::GraphProto& graph, const Graph& known) {
    std::map<std::string_view, const onnx::TensorProto*> tensors;
    for (const onnx::TensorProto& tensor : graph.initializer())
        tensors[tensor.name()] = &tensor;
    Weights weights;
    for (const Node& node : known.nodes())
        for (const Parameter& parameter : node.parameters) {
            const auto found = tensors.find(parameter.name);
            const auto bytes = static_cast<std::size_t>(parameter.shape.elements()) * sizeof(float);
            if (found == tensors.end() || found->second->raw_data().size() != bytes)
                return std::nullopt;
            Tensor values(parameter.shape);
            std::memcpy(values.data(), found->second->raw_data().data(), bytes);
            for (const float value : values.values())
                if (!std::isfinite(value))
                    return std::nullopt;
            weights.emplace(parameter.name, std::move(values));
        }
    return weights;
}

/// The weights of a file written by export_onnx: the graph is exported again and compared with that of the file.
/// Nothing if they differ.
Result<std::optional<Weights>> weights_of_own_export(const onnx::ModelProto& model, const Strings& metadata,
                                                     const Variant& variant) {
    if (entry(metadata, "mfres.onnx.dialect") != to_string(OnnxDialect::standard))
        return std::optional<Weights>();
    MFRES_TRY(const Axes size, recorded_size(metadata));
    const bool folded = entry(metadata, "mfres.onnx.folded") == "1";
    const bool dynamic = entry(metadata, "mfres.onnx.dynamic") == "1";
    MFRES_TRY(const Graph graph, build_network(variant, size));
    const Graph written = folded ? fold_batch_norm(graph) : graph;
    auto weights = named_weights(model.graph(), written);
    if (!weights)
        return std::optional<Weights>();
    MFRES_TRY(const auto again, encode_onnx(written, *weights, {}, {OnnxDialect::standard, dynamic}));
    MFRES_TRY(const OnnxMessage expected, parse_onnx(again, "the graph written again"));
    if (expected->graph().SerializeAsString() != model.graph().SerializeAsString())
        return std::optional<Weights>();
    return std::optional(folded ? unfolded(graph, std::move(*weights)) : std::move(*weights));
}

Result<Model> import_model(const onnx::ModelProto& model, const std::string& path, const Variant* wanted) {
    Strings metadata;
    for (const auto& property : model.metadata_props())
        metadata[property.key()] = property.value();
    MFRES_TRY(const std::optional<ModelMetadata> recorded, recorded_metadata(metadata));
    MFRES_TRY(const Variant variant, chosen_variant(recorded, wanted));
    if (entry(metadata, "mfres.onnx.dialect") == to_string(OnnxDialect::opencv))
        return Error{ErrorCode::operation_unsupported,
                     "the file is in the opencv dialect, whose weights are rearranged; the standard dialect is read",
                     {}};
    std::optional<Weights> weights;
    if (recorded) {
        MFRES_TRY(weights, weights_of_own_export(model, metadata, variant));
    }
    if (!weights) {
        MFRES_TRY(weights, weights_of_any_graph(model, path, variant));
    }
    MFRES_TRY(Model result, adopt_weights(variant, std::move(*weights), path, "onnx"));
    if (!recorded)
        return result;
    const std::string actual = result.metadata.weights_sha256;
    if (entry(metadata, "mfres.onnx.folded") != "1" && actual != recorded->weights_sha256)
        return Error{ErrorCode::model_hash_mismatch,
                     text("the weights have SHA-256 ", actual, ", the file records ", recorded->weights_sha256,
                          ": they were changed after writing"),
                     {}};
    result.metadata = *recorded;
    result.metadata.weights_sha256 = actual;
    return result;
}

/// Reads tensors that lie in files beside an ONNX file, as PyTorch writes large ones, into its message. A file is named
/// by the model, so it must be one of the same folder, and is read where the model says for just the bytes of a tensor.
class ExternalTensors {
  public:
    explicit ExternalTensors(const std::filesystem::path& model) : folder_(model.parent_path()) {}

    /// Errors: model_header_invalid (a place that is not allowed), model_tensor_size, model_dtype_unsupported,
    /// memory_limit, and those of ReadableFile.
    Status read(onnx::ModelProto& model) {
        for (onnx::TensorProto& tensor : *model.mutable_graph()->mutable_initializer())
            MFRES_CHECK(read_tensor(tensor));
        for (onnx::NodeProto& node : *model.mutable_graph()->mutable_node())
            for (onnx::AttributeProto& attribute : *node.mutable_attribute())
                if (attribute.has_t())
                    MFRES_CHECK(read_tensor(*attribute.mutable_t()));
        return {};
    }

  private:
    struct Place {
        std::string file;
        std::uint64_t offset = 0;
        std::optional<std::uint64_t> length;
    };

    static Error invalid(const onnx::TensorProto& tensor, const std::string& problem) {
        return {ErrorCode::model_header_invalid,
                text("tensor ", printable(tensor.name()), " lies in another file, ", problem),
                {}};
    }

    static Result<std::uint64_t> number(const onnx::TensorProto& tensor, const std::string& digits) {
        std::uint64_t value = 0;
        const char* const end = digits.data() + digits.size();
        const auto [rest, problem] = std::from_chars(digits.data(), end, value);
        if (problem != std::errc{} || rest != end)
            return invalid(tensor, text("at a place that is no number: ", printable(digits)));
        return value;
    }

    static Result<Place> place_of(const onnx::TensorProto& tensor) {
        Place place;
        for (const onnx::StringStringEntryProto& given : tensor.external_data()) {
            if (given.key() == "location")
                place.file = given.value();
            if (given.key() == "offset") {
                MFRES_TRY(place.offset, number(tensor, given.value()));
            }
            if (given.key() == "length") {
                MFRES_TRY(place.length, number(tensor, given.value()));
            }
        }
        const std::string_view name =
            place.file.starts_with("./") ? std::string_view(place.file).substr(2) : std::string_view(place.file);
        if (name.empty() || name == "." || name == ".." ||
            name.find_first_of(std::string_view("/\\\0", 3)) != name.npos)
            return invalid(tensor,
                           text("'", printable(place.file),
                                "', which is no name in the model's own folder; only such files are opened. Put "
                                "the model into one file, in Python: onnx.save_model(onnx.load(\"model.onnx\"), "
                                "\"one.onnx\")"));
        place.file = std::string(name);
        return place;
    }

    static Result<std::uint64_t> bytes_of(const onnx::TensorProto& tensor) {
        std::uint64_t each = 0;
        if (tensor.data_type() == onnx::TensorProto_DataType_FLOAT)
            each = 4;
        if (tensor.data_type() == onnx::TensorProto_DataType_FLOAT16)
            each = 2;
        if (tensor.data_type() == onnx::TensorProto_DataType_INT64)
            each = 8;
        if (each == 0)
            return Error{ErrorCode::model_dtype_unsupported,
                         text("tensor ", printable(tensor.name()), " has ONNX type ", tensor.data_type(),
                              "; float32, float16 and int64 are read"),
                         {}};
        const auto count = checked_product(tensor.dims());
        if (!count || static_cast<std::uint64_t>(*count) > max_onnx_bytes / each)
            return Error{ErrorCode::model_tensor_size,
                         text("the extents of tensor ", printable(tensor.name()), " are negative or too large"),
                         {}};
        return static_cast<std::uint64_t>(*count) * each;
    }

    Result<const ReadableFile*> open(const onnx::TensorProto& tensor, const std::string& name) {
        if (const auto found = files_.find(name); found != files_.end())
            return &found->second;
        const std::filesystem::path path = folder_ / name;
        std::error_code ignored;
        if (std::filesystem::is_symlink(path, ignored))
            return invalid(tensor, text(path.string(), ", which is a link; put the file itself beside the model"));
        MFRES_TRY(ReadableFile file, ReadableFile::open(path));
        return &files_.emplace(name, std::move(file)).first->second;
    }

    Status read_tensor(onnx::TensorProto& tensor) {
        if (tensor.data_location() != onnx::TensorProto_DataLocation_EXTERNAL)
            return {};
        MFRES_TRY(const Place place, place_of(tensor));
        MFRES_TRY(const std::uint64_t bytes, bytes_of(tensor));
        if (place.length.value_or(bytes) != bytes)
            return Error{ErrorCode::model_tensor_size,
                         text("tensor ", printable(tensor.name()), " takes ", bytes, " bytes, the model says that ",
                              *place.length, " of ", printable(place.file), " belong to it"),
                         {}};
        total_ += bytes;
        if (total_ > max_onnx_bytes)
            return Error{ErrorCode::memory_limit,
                         text("the tensors in other files have more than the ", max_onnx_bytes, " bytes allowed"),
                         {}};
        MFRES_TRY(const ReadableFile* file, open(tensor, place.file));
        if (place.offset > file->size() || bytes > file->size() - place.offset)
            return Error{ErrorCode::model_truncated,
                         text("tensor ", printable(tensor.name()), " should have ", bytes, " bytes from byte ",
                              place.offset, " of ", file->path().string(), " on, which has ", file->size()),
                         {}};
        std::string content(static_cast<std::size_t>(bytes), '\0');
        MFRES_CHECK(file->read_at(place.offset, std::as_writable_bytes(std::span(content))));
        tensor.set_raw_data(std::move(content));
        tensor.clear_external_data();
        tensor.clear_data_location();
        return {};
    }

    std::filesystem::path folder_;
    std::map<std::string, ReadableFile, std::less<>> files_;
    std::uint64_t total_ = 0;
};

/// The message of a file, with the tensors that lie in other files.
Result<OnnxMessage> read_message(const std::filesystem::path& path) {
    MFRES_TRY(const std::vector<std::byte> bytes, read_file(path, max_onnx_bytes));
    MFRES_TRY(OnnxMessage model, parse_onnx(bytes, path.string()));
    if (const auto read = ExternalTensors(path).read(*model); !read)
        return about(path.string(), read.error());
    return model;
}

} // namespace

Result<OnnxNetwork> decode_onnx(const std::filesystem::path& path, const Axes& size) {
    return guarded(path, [&]() -> Result<OnnxNetwork> {
        MFRES_TRY(const OnnxMessage model, read_message(path));
        return read_onnx_graph(*model, path.string(), size);
    });
}

Result<Model> import_onnx(std::span<const std::byte> bytes, const std::string& path, const Variant* variant) {
    MFRES_TRY(const OnnxMessage model, parse_onnx(bytes, path));
    auto imported = import_model(*model, path, variant);
    if (!imported)
        return about(path, imported.error());
    return imported;
}

Result<Model> import_onnx(const std::filesystem::path& path, const Variant* variant) {
    return guarded(path, [&]() -> Result<Model> {
        MFRES_TRY(const OnnxMessage model, read_message(path));
        auto imported = import_model(*model, path.string(), variant);
        if (!imported)
            return about(path.string(), imported.error());
        return imported;
    });
}

} // namespace mfres
