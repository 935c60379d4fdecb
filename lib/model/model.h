// SPDX-License-Identifier: MIT
// A model: a network variant, its weights, and the metadata needed for preprocessing and for reading its output. On
// disk it is a safetensors file (safetensors.h). Its tensors are the network's parameters under the names of the graph.
// Its "__metadata__" holds exactly these keys:
//   mfres.format_version   "1"
//   mfres.variant          the network as JSON, as parse_variant takes it
//   mfres.modalities       names of the input channels in their order, joined by commas: "t1,t1ce,t2,flair"
//   mfres.normalisation    normalisation of intensities: a name of <mfres/normalisation.h>
//   mfres.label_scheme     the label value of each class: "brats" (0, 1, 2, 4) or "brats2023" (0, 1, 2, 3)
//   mfres.voxel_min_mm     smallest and largest voxel edge the model was trained for, millimetres
//   mfres.voxel_max_mm
//   mfres.recipe           origin of the weights, a JSON object
//   mfres.weights_sha256   weights_sha256 (sha256.h) of the weights as stored
//   mfres.created_by       program and version
// and, where they apply:
//   mfres.quantisation     for int8: ranges of activations, see quantization_record.h
//   mfres.modality_subsets the subsets of the contrasts that the model accepts besides all of them, each a list
//                          as above in the order t1, t1ce, t2, flair, joined by semicolons: "t1ce,flair;flair". The
//                          channel of an absent contrast is 0
//   mfres.brain_min_ml     smallest and largest brain that the model was trained for, millilitres; both or neither.
//   mfres.brain_max_ml     Without them 400 and 2500, an adult's
//   mfres.min_component_mm3  recommended postprocessing, above 0 mm^3: see PostprocessingSizes
//   mfres.min_enhancing_mm3
//   mfres.min_enhancing_share  likewise, above 0 and up to 1
// If mfres.quantisation contains "weights": "int8", the weight of every convolution whose parts all have a range is
// stored as "<conv>.weight", I8 in -127..127, and "<conv>.weight_scale", F32 [out channels], above 0. The weight is
// their product. Quantization is symmetric per output channel. The largest magnitude of a channel that is not zero is
// 127, so that folding a BatchNorm and quantizing again gives the same integers. Biases and normalisations stay F32.
// Readers get the products as floats, and mfres.weights_sha256 is the hash of these floats. Such a file runs in f32 in
// every backend.
#pragma once

#include "graph/graph.h"
#include "model/quantization_record.h"
#include "model/safetensors.h"
#include "networks/registry.h"

#include <mfres/normalisation.h>
#include <mfres/postprocessing.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Metadata of a model file. A default-constructed one lacks variant_json and weights_sha256 only, which save_model
/// sets.
struct ModelMetadata {
    std::string format_version = "1";
    std::string variant_json;
    std::vector<std::string> modalities = {"t1", "t1ce", "t2", "flair"};
    std::vector<ModalitySet>
        modality_subsets;               ///< proper ones, in the order of the file; none: all contrasts are needed
    PostprocessingSizes postprocessing; ///< recommended
    Normalisation normalisation = Normalisation::zscore_brain;
    std::string label_scheme = "brats";
    double voxel_min_mm = 0.95;
    double voxel_max_mm = 1.05;
    double brain_min_ml = default_brain_min_ml;
    double brain_max_ml = default_brain_max_ml;
    std::string recipe_json = "{}";
    std::string weights_sha256; ///< 64 lower-case hexadecimal digits
    std::string created_by = default_created_by();
    QuantizationRecord quantization; ///< without ranges: none

    static constexpr double default_brain_min_ml = 400.0;
    static constexpr double default_brain_max_ml = 2500.0;

    /// "mfres <version of this library>"
    static std::string default_created_by();
};

/// The proper subsets that training with modality dropout covers: all with at least one contrast, but for those that
/// lack both T1ce and FLAIR, which are never dropped together.
std::vector<ModalitySet> dropout_subsets();

/// Subsets to declare: "none", "all" (dropout_subsets), or sets separated by semicolons, their contrasts in any order:
/// "t1ce,t2,flair;t1,t1ce,flair". Errors: invalid_argument (an unknown contrast, one or a set that occurs twice, all
/// four contrasts, which need no declaration).
Result<std::vector<ModalitySet>> parse_subsets(std::string_view words);

struct Model {
    Variant variant;
    ModelMetadata metadata;
    Weights weights;
};

/// The graph of the variant at a small input size. Names, roles and shapes of parameters do not depend on the size.
/// Errors: those of build_network.
Result<Graph> parameter_graph(const Variant& variant);

/// Reads a model file and verifies it. The `where` of every error is the path, and its message starts with it.
/// Errors: those of read_safetensors and decode_tensors; model_metadata_invalid (a key is missing, unknown or has a
/// value that is not allowed, the variant does not parse, a scale of weights is not above 0); model_tensor_missing,
/// model_tensor_extra, model_tensor_shape; model_hash_mismatch (the hash of the weights differs from the recorded one).
Result<Model> load_model(const std::filesystem::path& path);

/// The same for a file that has been read. Errors: those of load_model, without those of reading.
Result<Model> decode_model(const SafetensorsFile& file);

/// Writes a model file atomically. Convolution weights are stored as `dtype` (f32, f16, bf16 or i8), everything else as
/// f32, because it is small and a small running variance would underflow in f16. With i8, weights of quantized
/// convolutions are stored as integers, see above, and others as f32; the model must have ranges (invalid_argument).
/// The recorded variant and SHA-256 are computed from model.variant and the values as stored; metadata.variant_json and
/// metadata.weights_sha256 are ignored. Every error's `where` is the path. Errors: those of check_weights,
/// encode_safetensors and write_file_atomically (file_exists unless `overwrite`); model_metadata_invalid for metadata
/// that load_model would reject.
Status save_model(const std::filesystem::path& path, const Model& model, Dtype dtype = Dtype::f32,
                  bool overwrite = false);

/// A model with untrained weights: convolutions drawn from a normal distribution of mean 0 and standard deviation
/// sqrt(2 / fan_in), fan_in = input channels per group * kernel volume (He et al. 2015, "Delving deep into rectifiers",
/// eq. 10); biases, shifts and running means 0; norm scales, running variances and branch weights 1.
/// Each tensor has its own random stream, which depends on the seed and the tensor's name only.
/// Modalities are the first input_channels of the default list. Errors: those of build_network; memory_limit for
/// weights that would not fit into a model file; invalid_argument for more input channels than there are modalities.
Result<Model> init_model(const Variant& variant, std::uint64_t seed);

/// The initial values of all parameters of a graph, as init_model draws them: each depends on the seed and its own
/// name.
Weights init_weights(const Graph& graph, std::uint64_t seed);

} // namespace mfres
