// SPDX-License-Identifier: MIT
#include "exchange/onnx.h"

#include "core/file.h"
#include "core/guard.h"
#include "core/names.h"
#include "core/try.h"
#include "exchange/onnx_program.h"
#include "graph/lower.h"
#include "graph/rewrite.h"
#include "model/metadata.h"
#include "model/sha256.h"

namespace mfres {

namespace {

constexpr auto onnx_dialect_names =
    enum_names<OnnxDialect>({{OnnxDialect::standard, "standard"}, {OnnxDialect::opencv, "opencv"}});

/// What the normalisation does before it takes mean and deviation, as the beginning of a clause.
std::string_view clipping(const ModelMetadata& metadata) {
    switch (metadata.normalisation) {
    case Normalisation::zscore_brain: return "";
    case Normalisation::zscore_brain_clipped:
        return "each modality is clipped to values v[k] and v[n - 1 - k] of its n brain voxels in ascending order, "
               "k = floor((n - 1) / 2000), unless these are equal; ";
    }
    return "";
}

/// A line about contrasts that may be absent, if any may.
std::string absent_contrasts(const ModelMetadata& metadata) {
    std::string sets;
    for (const ModalitySet& set : metadata.modality_subsets)
        sets += (sets.empty() ? "" : "; ") + names(set);
    if (sets.empty())
        return {};
    return "Contrasts may be absent, their channels 0, if these are there: " + sets + ".\n";
}

/// A line about what becomes of parts that are too small, if the model recommends that.
std::string small_parts(const ModelMetadata& metadata) {
    std::string sentences;
    if (const double mm3 = metadata.postprocessing.min_component_mm3; mm3 > 0.0)
        sentences +=
            text("Then parts of the tumour, all classes together and connected through faces, edges or corners, of "
                 "less than ",
                 mm3, " mm^3 become background, but for the largest one. ");
    if (const std::string least = least_enhancing(metadata.postprocessing); !least.empty())
        sentences += text("Then enhancing tumour of less than ", least, " in all becomes necrotic core. ");
    if (!sentences.empty())
        sentences.back() = '\n';
    return sentences;
}

/// How logits become classes.
std::string_view meaning(Outputs outputs) {
    switch (outputs) {
    case Outputs::classes: return "softmax. The largest of each voxel is its class: ";
    case Outputs::regions:
        return "sigmoid, of whole tumour, tumour core and enhancing tumour. The class of a voxel is that of the last one "
               "above 0, 2, 1 and 3 in this order, else 0: ";
    }
    return "";
}

/// Preprocessing and output of the network as text, so that the file can be used on its own.
std::string description(const Model& model, const OnnxExport& options) {
    std::string channels;
    for (const std::string& modality : model.metadata.modalities)
        channels += (channels.empty() ? "" : ", ") + modality;
    const bool old_scheme = model.metadata.label_scheme == "brats";
    return text(
        "Brain tumour segmentation, network ", model.variant.name(), ". Research use only: not a medical device.\n",
        "Input 'input': float32 [1, ", model.variant.input_channels(), ", x, y, z], channels ", channels,
        "; skull-stripped and co-registered, voxels of ", model.metadata.voxel_min_mm, " to ",
        model.metadata.voxel_max_mm, " mm, axes pointing to the patient's left, back and head. Preprocessing '",
        to_string(model.metadata.normalisation),
        "': the background of a modality is the most frequent value on the six faces of its volume, and every value that is "
        "no farther from it than 2^-21 of its magnitude; the brain is the "
        "largest part, connected through faces, edges or corners, of the voxels that are not background in at least one "
        "modality; ",
        clipping(model.metadata),
        "each modality minus its mean over the brain, divided by its (population) standard deviation there, in double "
        "precision; every voxel outside the brain is 0 in all channels. Crop to the box of the brain and pad with 0 behind "
        "its last voxel to multiples of ",
        model.variant.multiple(), ".\n", absent_contrasts(model.metadata), "Output 'logits': float32 [1, ",
        model.variant.classes(), ", x, y, z], before ", meaning(model.variant.outputs()),
        "0 background, 1 necrotic core, 2 oedema, 3 enhancing ", "tumour; as labels 0, 1, 2, ", old_scheme ? 4 : 3,
        ". Voxels outside the brain are labelled 0 whatever the logits say.\n", small_parts(model.metadata),
        "Written for ", options.size[0], "x", options.size[1], "x", options.size[2],
        options.form.dynamic ? " voxels; other sizes that are such multiples work as well." : " voxels.");
}

MetadataStrings file_metadata(const Model& model, const OnnxExport& options) {
    ModelMetadata metadata = model.metadata;
    metadata.variant_json = model.variant.json();
    metadata.weights_sha256 = weights_sha256(model.weights);
    MetadataStrings strings = metadata_to_strings(metadata);
    strings["mfres.onnx.dialect"] = to_string(options.form.dialect);
    strings["mfres.onnx.folded"] = options.fold ? "1" : "0";
    strings["mfres.onnx.dynamic"] = options.form.dynamic ? "1" : "0";
    strings["mfres.onnx.axes"] = "left,back,head";
    strings["mfres.onnx.multiple"] = std::to_string(model.variant.multiple());
    strings["mfres.onnx.size"] = text(options.size[0], ",", options.size[1], ",", options.size[2]);
    return strings;
}

} // namespace

Result<std::vector<std::byte>> encode_onnx(const Graph& graph, const Weights& weights, const OnnxText& about,
                                           const OnnxForm& form) {
    if (form.dialect == OnnxDialect::standard) {
        MFRES_TRY(const plain::Program program, lower_to_volumes(graph, weights));
        return encode_onnx_program(program, about, form.dynamic);
    }
    if (form.dynamic)
        return Error{ErrorCode::invalid_argument,
                     "the opencv dialect reshapes to fixed grids, so it cannot have dynamic axes", "dynamic"};
    MFRES_TRY(const plain::Program program, lower_to_planes(graph, weights, Ends::volumes));
    return encode_onnx_program(program, about, false);
}

Result<std::vector<std::byte>> encode_onnx(const Model& model, const OnnxExport& options) {
    MFRES_TRY(const Graph graph, build_network(model.variant, options.size));
    const OnnxText about{file_metadata(model, options), description(model, options)};
    if (!options.fold)
        return encode_onnx(graph, model.weights, about, options.form);
    MFRES_TRY(const Network folded, fold_batch_norm(graph, model.weights));
    return encode_onnx(folded.graph, folded.weights, about, options.form);
}

Status export_onnx(const std::filesystem::path& path, const Model& model, const OnnxExport& options, bool overwrite) {
    return guarded(path, [&]() -> Status {
        MFRES_TRY(const std::vector<std::byte> bytes, encode_onnx(model, options));
        return write_file_atomically(path, bytes, overwrite);
    });
}

std::string_view to_string(OnnxDialect dialect) noexcept {
    return onnx_dialect_names.of(dialect);
}

Result<OnnxDialect> parse_onnx_dialect(std::string_view text) {
    return onnx_dialect_names.parse("ONNX dialect", text);
}

} // namespace mfres
