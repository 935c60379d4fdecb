// SPDX-License-Identifier: MIT
// Import and export of ONNX (https://onnx.ai, opset 13). Both are in the module libmfres_onnx.so: where it is missing,
// every function here returns backend_unavailable, and operation_unsupported in a build without it.
//
// A file written here has one input "input" [batch, channel, x, y, z] and one output "logits" on the same grid. Its
// metadata_props hold the model's metadata under the keys of model.h (variant, modalities, normalisation, label scheme,
// hash of the weights) and these keys, so that an import can verify the file:
//   mfres.onnx.dialect   "standard" or "opencv"
//   mfres.onnx.folded    "0" or "1": BatchNorms folded into convolutions
//   mfres.onnx.dynamic   "0" or "1": spatial axes are dynamic
//   mfres.onnx.size      "128,128,128": the grid the file was written for
//   mfres.onnx.axes      "left,back,head": where the axes x, y and z of the input point to
//   mfres.onnx.multiple  "16": what the extents of the input have to be multiples of
// doc_string describes the preprocessing of the input and the meaning of the output.
#pragma once

#include "graph/graph.h"
#include "model/model.h"

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace mfres {

/// Largest ONNX file that is read, in bytes: protobuf's own limit.
inline constexpr std::uint64_t max_onnx_bytes = (std::uint64_t{1} << 31U) - 1;

enum class OnnxDialect : std::uint8_t {
    standard, ///< operators on five axes, one per op of the network
    opencv,   ///< at most four axes (lower_to_planes), which a stock OpenCV (4.6 and newer) runs
};

inline constexpr std::array<OnnxDialect, 2> onnx_dialects = {OnnxDialect::standard, OnnxDialect::opencv};

/// "standard", "opencv"
std::string_view to_string(OnnxDialect dialect) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
Result<OnnxDialect> parse_onnx_dialect(std::string_view text);

struct OnnxForm {
    OnnxDialect dialect = OnnxDialect::standard;
    bool dynamic = false; ///< dynamic spatial axes; standard dialect only
};

/// Metadata and description of an ONNX file.
struct OnnxText {
    std::map<std::string, std::string, std::less<>> metadata; ///< metadata_props
    std::string description;                                  ///< doc_string
};

/// The bytes of an ONNX file of a graph; equal arguments give equal bytes. Initialisers and nodes have the names of the
/// graph's parameters and nodes.
/// Errors: those of check_weights; invalid_argument for dynamic axes in the opencv dialect; operation_unsupported for a
/// node that cannot have dynamic axes (adaptive pooling, resampling to a fixed grid), and in a build without ONNX;
/// memory_limit for a file beyond max_onnx_bytes.
Result<std::vector<std::byte>> encode_onnx(const Graph& graph, const Weights& weights, const OnnxText& about,
                                           const OnnxForm& form);

struct OnnxExport {
    OnnxForm form;
    Axes size{128, 128, 128}; ///< grid of the input, voxels
    bool fold = false;        ///< fold BatchNorms into convolutions
};

/// The bytes of an ONNX file for a model. Errors: those of build_network and of encode_onnx for graphs.
Result<std::vector<std::byte>> encode_onnx(const Model& model, const OnnxExport& options);

/// Writes an ONNX file atomically. Errors: those of encode_onnx; file_exists unless `overwrite`, file_write.
Status export_onnx(const std::filesystem::path& path, const Model& model, const OnnxExport& options,
                   bool overwrite = false);

/// A network read from an ONNX file.
struct OnnxNetwork {
    Graph graph;
    Weights weights;
    std::map<std::string, std::string, std::less<>> metadata;
};

/// Reads an ONNX graph made of the operations of op.h on five axes: Conv, ConvTranspose, BatchNormalization,
/// InstanceNormalization, GroupNormalization (also in parts, as PyTorch writes it), Relu, LeakyRelu, PRelu, Elu, Sigmoid,
/// Add, Sum, Mul by a scalar (in a sum) or of two values, Concat and Slice and Split along channels, MaxPool,
/// AveragePool, GlobalAveragePool and ReduceMean if equal to an adaptive pooling, Resize and Upsample, Softmax, Identity,
/// Dropout, Constant, and arithmetic on extents (Shape, Gather, Add, ...). Nothing of a file is executed, external data
/// is not opened, and allocations are bounded by the size of the file. `size` replaces dynamic spatial axes. Parameters
/// get the names of their initialisers if these end like parameter names ("<node>.weight"), otherwise names derived
/// from the nodes. `path` is used in messages only, and is the `where` of every error.
/// Errors: model_header_invalid (not ONNX, or an inconsistent graph), model_tensor_size (an
/// initialiser whose bytes differ from its shape), model_dtype_unsupported, model_not_finite, model_tensor_missing (a
/// value that nothing produces), operation_unsupported (an operator, an attribute or an axis outside the list above;
/// names the node), graph_invalid (shapes that do not fit), memory_limit (more than max_onnx_bytes).
Result<OnnxNetwork> decode_onnx(std::span<const std::byte> bytes, const std::string& path,
                                const Axes& size = {64, 64, 64});

/// Reads the graph of a file. Tensors in other files of the same folder are read, at most max_onnx_bytes in all. Errors:
/// those of read_file and of decode_onnx for bytes; model_truncated (another file is too short).
Result<OnnxNetwork> decode_onnx(const std::filesystem::path& path, const Axes& size = {64, 64, 64});

/// Reads a model from an ONNX file. A file that export_onnx wrote in the standard dialect gives the same bits, verified
/// by the recorded hash of the weights. From any other file the weights are taken if its graph matches that of
/// `variant`, independently of names. If BatchNorms were folded, the model gets identity BatchNorms, which may change
/// the last bit. `variant` may be null if the file names one. Metadata of another's file name no modalities, as those of
/// adopt_weights. Tensors in other files of the same folder are read, at most max_onnx_bytes in all.
/// Errors: those of read_file and decode_onnx; model_metadata_invalid (no variant, or another one than `variant`);
/// graph_invalid (another network); model_hash_mismatch.
Result<Model> import_onnx(const std::filesystem::path& path, const Variant* variant = nullptr);

/// The same for a file that has been read, which must hold all its tensors.
Result<Model> import_onnx(std::span<const std::byte> bytes, const std::string& path, const Variant* variant = nullptr);

} // namespace mfres
