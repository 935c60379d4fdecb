// SPDX-License-Identifier: MIT
#include "model/model.h"

#include "core/checked.h"
#include "core/file.h"
#include "core/guard.h"
#include "core/random.h"
#include "core/try.h"
#include "model/foreign_file.h"
#include "model/metadata.h"
#include "model/sha256.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

/// The same error with the path of the file.
Error about(const std::string& path, const Error& error) {
    const bool named = error.message.starts_with(path);
    return {error.code, named ? error.message : text(path, ": ", error.message), path};
}

/// Parses the recorded variant. Every error becomes model_metadata_invalid.
Result<Variant> recorded_variant(const ModelMetadata& metadata) {
    auto variant = parse_variant(metadata.variant_json);
    if (variant)
        return variant;
    return Error{ErrorCode::model_metadata_invalid,
                 text("metadata mfres.variant: ", printable(variant.error().message, 400)), "mfres.variant"};
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): maps a parameter's name to the number of its random stream.
std::uint64_t stream_of(std::string_view parameter_name) {
    std::uint64_t hash = 0xCBF29CE484222325U;
    for (const char character : parameter_name)
        hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001B3U;
    return hash;
}

Tensor he_normal(const Shape& shape, Random random) {
    Tensor tensor(shape);
    const std::int64_t fan_in = tensor.elements() / shape[0];
    const double deviation = std::sqrt(2.0 / static_cast<double>(fan_in));
    for (float& value : tensor.values())
        value = static_cast<float>(deviation * random.normal());
    return tensor;
}

Tensor initial_values(const Parameter& parameter, const Random& random) {
    switch (parameter.role) {
    case ParameterRole::weight: return he_normal(parameter.shape, random.fork(stream_of(parameter.name)));
    case ParameterRole::bias:
    case ParameterRole::norm_shift:
    case ParameterRole::running_mean: return Tensor(parameter.shape, 0.0F);
    case ParameterRole::slope: return Tensor(parameter.shape, 0.25F); // PyTorch's PReLU
    case ParameterRole::norm_scale:
    case ParameterRole::running_var:
    case ParameterRole::branch: return Tensor(parameter.shape, 1.0F);
    }
    return {};
}

/// All parameters as f32 must fit into a file that read_safetensors accepts.
Status check_size(const Graph& graph, const std::string& network) {
    constexpr auto most = static_cast<std::int64_t>(max_safetensors_bytes / sizeof(float));
    std::int64_t total = 0;
    for (const Node& node : graph.nodes()) {
        for (const Parameter& parameter : node.parameters) {
            const auto elements = checked_product(parameter.shape);
            const auto sum = elements ? checked_add(total, *elements) : std::nullopt;
            if (!sum || *sum > most)
                return Error{ErrorCode::memory_limit,
                             text(network, " has more than ", most, " weights, of which ", parameter.name, " is ",
                                  to_string(parameter.shape)),
                             parameter.name};
            total = *sum;
        }
    }
    return {};
}

constexpr std::string_view scale_suffix = "_scale"; // appended to the name of a weight

/// Replaces the weights of quantized convolutions by integers and scales; other weights stay unchanged.
Weights integer_weights(const Graph& graph, const Model& model) {
    Weights weights = model.weights;
    for (const std::string& conv : wholly_quantized(inference_form(graph), model.metadata.quantization.ranges)) {
        Tensor& weight = weights.find(conv + ".weight")->second;
        const QuantizedWeights quantized = quantize_weights(weight, largest_per_channel(weight));
        Tensor scales(Shape{weight.shape()[0]});
        std::copy(quantized.scales.begin(), quantized.scales.end(), scales.data());
        std::copy(quantized.values.begin(), quantized.values.end(), weight.data());
        weights.emplace(text(conv, ".weight", scale_suffix), std::move(scales));
    }
    return weights;
}

/// Whether a tensor of this name holds the scales of integers in the same file.
bool is_scale(const SafetensorsFile& file, std::string_view tensor_name) {
    if (!tensor_name.ends_with(scale_suffix))
        return false;
    const auto scaled = file.tensors.find(tensor_name.substr(0, tensor_name.size() - scale_suffix.size()));
    return scaled != file.tensors.end() && scaled->second.dtype == Dtype::i8;
}

/// Multiplies integers by their scales. Precondition: the names of `weights` are those of the file.
Status apply_scales(const SafetensorsFile& file, Weights& weights) {
    for (const auto& [tensor_name, stored] : file.tensors) {
        if (stored.dtype != Dtype::i8)
            continue;
        const auto found = weights.find(text(tensor_name, scale_suffix));
        const auto integers = weights.find(tensor_name);
        const std::string who = text("tensor '", printable(tensor_name), "'");
        if (integers == weights.end() || is_scale(file, tensor_name))
            return Error{ErrorCode::model_metadata_invalid,
                         text(who, " holds integers and is the scale of other integers; scales are floats"),
                         {}};
        Tensor& weight = integers->second;
        if (found == weights.end())
            return Error{ErrorCode::model_tensor_missing,
                         text(who, " holds integers, and ", who, scale_suffix, " is missing"),
                         {}};
        const Tensor& scales = found->second;
        if (weight.shape().rank() == 0 || !(scales.shape() == Shape{weight.shape()[0]}))
            return Error{ErrorCode::model_tensor_shape,
                         text(who, " is ", to_string(weight.shape()), ", its scales are ", to_string(scales.shape()),
                              "; there must be one per output channel"),
                         {}};
        const std::int64_t taps = weight.elements() / std::max<std::int64_t>(1, weight.shape()[0]);
        for (std::int64_t i = 0; i < weight.elements(); ++i) {
            const float scale = scales[i / taps];
            if (scale <= 0.0F || weight[i] < -127.0F)
                return Error{ErrorCode::model_metadata_invalid,
                             text(who, " has ", weight[i], " x ", scale, " at index ", i,
                                  "; integers are -127 to 127, scales above 0"),
                             {}};
            weight[i] *= scale;
            if (!std::isfinite(weight[i]))
                return Error{ErrorCode::model_not_finite,
                             text(who, " times its scale ", scale, " does not fit into a float at index ", i),
                             {}};
        }
        weights.erase(found);
    }
    return {};
}

/// The dequantized tensors of a model file.
Result<Weights> decode_weights(const SafetensorsFile& file, const QuantizationRecord& quantization) {
    MFRES_TRY(Weights weights, decode_tensors(file));
    if (quantization.int8_weights)
        MFRES_CHECK(apply_scales(file, weights));
    return weights;
}

/// Checks that every range belongs to a convolution of the network.
Status check_ranges(const Graph& graph, const ActivationRanges& ranges) {
    if (ranges.empty())
        return {};
    const Graph form = inference_form(graph);
    for (const auto& range : ranges)
        if (const std::string& name = range.first;
            std::none_of(form.nodes().begin(), form.nodes().end(),
                         [&](const Node& node) { return node.kind() == OpKind::conv && node.name == name; }))
            return Error{ErrorCode::model_metadata_invalid,
                         text("metadata mfres.quantisation: the network has no convolution '", printable(name), "'"),
                         "mfres.quantisation"};
    return {};
}

/// Before the data of a model file are read: more bytes than its network can have are none of it. Each number has 4 at
/// most, and a scale of as many.
Status check_data_size(const SafetensorsFile& file, std::uint64_t data_bytes) {
    MFRES_TRY(const ModelMetadata metadata, metadata_from_strings(file.metadata));
    MFRES_TRY(const Variant variant, recorded_variant(metadata));
    MFRES_TRY(const Graph graph, parameter_graph(variant));
    MFRES_CHECK(check_size(graph, variant.name()));
    std::uint64_t most = 0;
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters)
            most += 2 * sizeof(float) * static_cast<std::uint64_t>(parameter.shape.elements());
    if (data_bytes <= most)
        return {};
    return Error{ErrorCode::model_tensor_extra,
                 text("the tensors have ", data_bytes, " bytes, those of ", variant.name(), " at most ", most),
                 {}};
}

std::map<std::string, TensorToWrite, std::less<>> storage_plan(const Weights& weights, Dtype dtype) {
    std::map<std::string, TensorToWrite, std::less<>> tensors;
    for (const auto& [tensor_name, tensor] : weights) {
        if (dtype == Dtype::i8) {
            const bool integers = weights.count(text(tensor_name, scale_suffix)) > 0;
            tensors.emplace(tensor_name, TensorToWrite{&tensor, integers ? Dtype::i8 : Dtype::f32});
            continue;
        }
        const bool convolution = tensor.shape().rank() == Shape::max_rank;
        tensors.emplace(tensor_name, TensorToWrite{&tensor, convolution ? dtype : Dtype::f32});
    }
    return tensors;
}

Result<std::vector<std::byte>> encode_model(const Model& model, Dtype dtype) {
    MFRES_TRY(const Graph graph, parameter_graph(model.variant));
    MFRES_CHECK(check_weights(graph, model.weights));
    ModelMetadata metadata = model.metadata;
    metadata.quantization.int8_weights = dtype == Dtype::i8;
    if (dtype == Dtype::i8 && metadata.quantization.ranges.empty())
        return Error{ErrorCode::invalid_argument,
                     "a model without ranges of activations cannot be stored in int8; calibrate it first",
                     {}};
    MFRES_CHECK(check_ranges(graph, metadata.quantization.ranges));
    const Weights integers = dtype == Dtype::i8 ? integer_weights(graph, model) : Weights();
    const auto tensors = storage_plan(dtype == Dtype::i8 ? integers : model.weights, dtype);
    // The hash is that of the values as read back, after rounding to the stored dtype.
    MFRES_TRY(std::vector<std::byte> without_metadata, encode_safetensors(tensors, {}));
    MFRES_TRY(const SafetensorsFile stored, parse_safetensors(std::move(without_metadata), model.variant.name()));
    MFRES_TRY(const Weights weights, decode_weights(stored, metadata.quantization));

    metadata.variant_json = model.variant.json();
    metadata.weights_sha256 = weights_sha256(weights);
    const MetadataStrings strings = metadata_to_strings(metadata);
    MFRES_TRY(metadata, metadata_from_strings(strings));
    MFRES_CHECK(check_channels(metadata, model.variant));
    return encode_safetensors(tensors, strings);
}

Result<Model> decode(const SafetensorsFile& file) {
    MFRES_TRY(ModelMetadata metadata, metadata_from_strings(file.metadata));
    MFRES_TRY(Variant variant, recorded_variant(metadata));
    MFRES_CHECK(check_channels(metadata, variant));
    MFRES_TRY(const Graph graph, parameter_graph(variant));
    MFRES_TRY(Weights weights, decode_weights(file, metadata.quantization));
    MFRES_CHECK(check_weights(graph, weights));
    MFRES_CHECK(check_ranges(graph, metadata.quantization.ranges));
    const std::string actual = weights_sha256(weights);
    if (actual != metadata.weights_sha256)
        return Error{ErrorCode::model_hash_mismatch,
                     text("the weights have SHA-256 ", actual, ", the file records ", metadata.weights_sha256,
                          ": they were changed after saving"),
                     {}};
    return Model{std::move(variant), std::move(metadata), std::move(weights)};
}

} // namespace

std::string ModelMetadata::default_created_by() {
    return "mfres " MFRES_VERSION;
}

Result<Graph> parameter_graph(const Variant& variant) {
    // 64 voxels are enough: no registered network reduces them to an empty feature map.
    const std::int64_t edge = (63 / variant.multiple() + 1) * variant.multiple();
    return build_network(variant, {edge, edge, edge});
}

Result<Model> decode_model(const SafetensorsFile& file) {
    auto model = decode(file);
    if (model)
        return model;
    return about(file.path, model.error());
}

Result<Model> load_model(const std::filesystem::path& path) {
    return guarded(path, [&]() -> Result<Model> {
        const auto file = read_safetensors(path, check_data_size);
        if (!file) {
            Error error = about(path.string(), file.error());
            if (const std::string advice = foreign_file(path); !advice.empty())
                error.message = text(path.string(), " is no model file: ", advice);
            return error;
        }
        return decode_model(*file);
    });
}

Status save_model(const std::filesystem::path& path, const Model& model, Dtype dtype, bool overwrite) {
    return guarded(path, [&]() -> Status {
        const auto bytes = encode_model(model, dtype);
        if (!bytes)
            return about(path.string(), bytes.error());
        const auto written = write_file_atomically(path, *bytes, overwrite);
        if (!written)
            return about(path.string(), written.error());
        return {};
    });
}

Weights init_weights(const Graph& graph, std::uint64_t seed) {
    const Random random(seed);
    Weights weights;
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters)
            weights.emplace(parameter.name, initial_values(parameter, random));
    return weights;
}

Result<Model> init_model(const Variant& variant, std::uint64_t seed) {
    MFRES_TRY(const Graph graph, parameter_graph(variant));
    MFRES_CHECK(check_size(graph, variant.name()));
    Model model{variant, {}, {}};
    const auto available = static_cast<std::int64_t>(model.metadata.modalities.size());
    if (variant.input_channels() > available)
        return Error{ErrorCode::invalid_argument,
                     text(variant.name(), " has ", variant.input_channels(), " input channels, there are only ",
                          available, " modalities"),
                     variant.name()};
    model.metadata.modalities.resize(static_cast<std::size_t>(variant.input_channels()));
    model.weights = init_weights(graph, seed);
    model.metadata.variant_json = variant.json();
    model.metadata.recipe_json = text(R"({"init":"he-normal","seed":)", seed, "}");
    model.metadata.weights_sha256 = weights_sha256(model.weights);
    return model;
}

} // namespace mfres
