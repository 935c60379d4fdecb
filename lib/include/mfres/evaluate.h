// SPDX-License-Identifier: MIT
// Evaluation of whole data sets: label files against reference files, or a model against reference files.
//
//   auto segmenter = mfres::Segmenter::open("model.safetensors", {});
//   auto cases = mfres::find_cases("validation");
//   auto table = mfres::evaluate_model(*segmenter, *cases, {});
//   std::cout << mfres::to_markdown(*table);
#pragma once

#include <mfres/case.h>
#include <mfres/metrics.h>
#include <mfres/segmenter.h>
#include <mfres/status.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mfres {

struct EvaluationOptions {
    RegionDefinition regions = RegionDefinition::brats;
    EmptyScheme scheme = EmptyScheme::server2019;
    std::string label_scheme;    ///< of label files: "brats", "brats2023"; empty = recognised in each by its values
    std::string affine = "auto"; ///< "auto", "sform" or "qform": which to believe where a header has both
    bool resample = false;       ///< evaluate_model: accept other voxel sizes, as in SegmentOptions
    std::optional<double> min_enhancing_mm3; ///< evaluate_model: as in SegmentOptions
    std::optional<double> min_component_mm3; ///< evaluate_model: as in SegmentOptions
    /// evaluate_model: the contrasts that the model gets; the others are left out of every case, whether the model was
    /// trained for that or not.
    ModalitySet contrasts = all_modalities;
    int threads = 0; ///< for the surface distances; 0 = all processors this process may use
};

/// Measures one label file against another. Each is read in the label scheme of the options or the one its values
/// show: 3 without 4 is brats2023, anything else brats.
/// Errors: what ErrorCode lists for NIfTI files, grid_size_mismatch, grid_position_mismatch, label_outside_scheme,
/// memory_limit, invalid_argument (options).
Result<CaseMetrics> evaluate_files(const std::string& id, const std::filesystem::path& prediction,
                                   const std::filesystem::path& reference, const EvaluationOptions& options);

/// Measures every reference below `references` against its prediction below `predictions`, both searched three folders
/// deep. A reference is the segmentation in a case folder of BraTS (its id is the folder's name), or any other NIfTI
/// file (its id is the file's name without a trailing _seg or -seg). Its prediction is <id>.nii.gz or
/// <id>_*seg*.nii.gz, or *seg*.nii.gz in a folder <id>; .nii as well. Cases are in the order of their ids. Predictions
/// without a reference are left out and noted. Errors: file_not_found (a folder; no reference; missing predictions, all
/// of them named), modality_ambiguous (two files for one case), interrupted, and those of evaluate_files for the first
/// case that has one.
Result<MetricsTable> evaluate_folders(const std::filesystem::path& predictions, const std::filesystem::path& references,
                                      const EvaluationOptions& options, const Progress& progress = {});

/// Segments every case and measures the result against the case's own segmentation. The first case that is rejected
/// ends the evaluation, because a mean over the others would answer another question. Cases of a training cache are
/// labelled and measured on their brain boxes.
/// Errors: dataset_empty (no case), file_not_found (cases without a segmentation, all of them named), and those of
/// Segmenter::segment and evaluate_files; for cached cases those of reading a cache, voxel_size_out_of_range and
/// model_metadata_invalid (the model expects another normalisation than the cache has).
Result<MetricsTable> evaluate_model(Segmenter& segmenter, const CaseSet& cases, const EvaluationOptions& options,
                                    const Progress& progress = {});

/// A model without some of the contrasts.
struct SubsetEvaluation {
    ModalitySet contrasts = all_modalities; ///< that it got
    bool trained = true;                    ///< whether its metadata list them
    MetricsTable table;
};

/// evaluate_model with each of the 15 subsets of the contrasts, from all four down to one; options.contrasts is not
/// read. Errors: as evaluate_model.
Result<std::vector<SubsetEvaluation>> evaluate_subsets(Segmenter& segmenter, const CaseSet& cases,
                                                       const EvaluationOptions& options, const Progress& progress = {});

/// One row per subset: mean Dice of the regions, and what the whole tumour loses to all four contrasts.
std::string to_markdown(const std::vector<SubsetEvaluation>& evaluations);

/// An array of objects: contrasts, trained, and the table.
std::string to_json(const std::vector<SubsetEvaluation>& evaluations);

/// What a precision costs.
struct PrecisionEvaluation {
    std::string precision;
    MetricsTable against_reference; ///< as evaluate_model
    MetricsTable against_f32;       ///< the same labels measured against those of the model in f32
    double network_ms = 0.0;        ///< of a case's network stage, mean
};

/// evaluate_model in several precisions, case by case; f32 comes first whether it was asked for or not. Precisions are
/// those of SegmenterOptions, without "auto". A file that holds integers has no other weights to run in f32: to learn
/// what int8 costs altogether, evaluate a calibrated file that holds floats.
/// Errors: those of evaluate_model and of Segmenter::open for each precision.
Result<std::vector<PrecisionEvaluation>> evaluate_precisions(const std::filesystem::path& model,
                                                             const SegmenterOptions& setup,
                                                             const std::vector<std::string>& precisions,
                                                             const CaseSet& cases, const EvaluationOptions& options,
                                                             const Progress& progress = {});

/// One row per precision: mean Dice of the regions against the reference, mean and least Dice against the f32 labels.
std::string to_markdown(const std::vector<PrecisionEvaluation>& evaluations);

/// An array of objects: precision, network_ms, and both tables.
std::string to_json(const std::vector<PrecisionEvaluation>& evaluations);

} // namespace mfres
