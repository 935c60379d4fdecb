// SPDX-License-Identifier: MIT
// Evaluation of whole data sets: label files against reference files, or a model against reference files.
//
//   auto segmenter = mfres::Segmenter::open("model.safetensors", {});
//   auto cases = mfres::find_cases("validation");
//   auto table = mfres::evaluate_model(*segmenter, *cases, {});
//   std::cout << mfres::to_markdown(*table);
#pragma once

#include <mfres/case.h>
#include <mfres/export.h>
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
    /// Of the references: as `wanted` of choose_labels. "auto" or empty looks at all references together.
    std::string label_scheme;
    /// Of predictions that are files: likewise, for all predictions together. Where the values of one side do not tell,
    /// its scheme is that of the other side. Empty = `label_scheme`.
    std::string prediction_scheme{};
    AffineSource affine = AffineSource::automatic;
    bool resample = false;                   ///< evaluate_model: accept other voxel sizes, as in SegmentOptions
    std::optional<double> min_enhancing_mm3; ///< evaluate_model: as in SegmentOptions
    std::optional<double> min_component_mm3; ///< evaluate_model: as in SegmentOptions
    /// evaluate_model: the contrasts that the model gets; the others are left out of every case, whether the model was
    /// trained for that or not.
    ModalitySet contrasts = all_modalities;
    int threads = 0; ///< for the surface distances; 0 = all processors this process may use
};

/// Measures one label file against another.
/// Errors: what ErrorCode lists for NIfTI files, grid_size_mismatch, grid_position_mismatch, label_outside_scheme,
/// label_scheme_unclear, memory_limit, invalid_argument (options).
MFRES_EXPORT Result<CaseMetrics> evaluate_files(const std::string& id, const std::filesystem::path& prediction,
                                                const std::filesystem::path& reference,
                                                const EvaluationOptions& options);

/// Measures every reference below `references` against its prediction below `predictions`, both searched three folders
/// deep. A reference is the segmentation in a case folder of BraTS (its id is the folder's name), or any other NIfTI
/// file (its id is the file's name without a trailing _seg or -seg). Its prediction is ID.nii.gz or
/// ID_*seg*.nii.gz, or *seg*.nii.gz in a folder ID; .nii as well. Cases are in the order of their ids. Predictions
/// without a reference are left out and noted. Errors: file_not_found (a folder; no reference; missing predictions, all
/// of them named), modality_ambiguous (two files for one case), interrupted, and those of evaluate_files for the first
/// case that has one.
MFRES_EXPORT Result<MetricsTable> evaluate_folders(const std::filesystem::path& predictions,
                                                   const std::filesystem::path& references,
                                                   const EvaluationOptions& options, const Progress& progress = {});

/// Segments every case and measures the result against the case's own segmentation. The first case that is rejected
/// ends the evaluation, because a mean over the others would answer another question. Cases of a training cache are
/// labelled and measured on their brain boxes.
/// Errors: dataset_empty (no case), file_not_found (cases without a segmentation, all of them named), and those of
/// Segmenter::segment and evaluate_files; for cached cases those of reading a cache, voxel_size_out_of_range and
/// model_metadata_invalid (the model expects another normalisation than the cache has).
MFRES_EXPORT Result<MetricsTable> evaluate_model(Segmenter& segmenter, const CaseSet& cases,
                                                 const EvaluationOptions& options, const Progress& progress = {});

/// A model without some of the contrasts.
struct SubsetEvaluation {
    ModalitySet contrasts = all_modalities; ///< that it got
    bool trained = true;                    ///< whether its metadata list them
    MetricsTable table;
};

/// evaluate_model with each of the 15 subsets of the contrasts, from all four down to one; options.contrasts is not
/// read. Errors: as evaluate_model.
MFRES_EXPORT Result<std::vector<SubsetEvaluation>> evaluate_subsets(Segmenter& segmenter, const CaseSet& cases,
                                                                    const EvaluationOptions& options,
                                                                    const Progress& progress = {});

/// One row per subset: mean Dice of the regions, and what the whole tumour loses to all four contrasts.
MFRES_EXPORT std::string to_markdown(const std::vector<SubsetEvaluation>& evaluations);

/// An array of objects: contrasts, trained, and the table.
MFRES_EXPORT std::string to_json(const std::vector<SubsetEvaluation>& evaluations);

/// What a precision costs.
struct PrecisionEvaluation {
    RunInfo used;
    MetricsTable against_reference; ///< as evaluate_model
    MetricsTable against_f32;       ///< the same labels measured against those of the model in f32
    double network_ms = 0.0;        ///< of a case's network stage, mean
};

/// evaluate_model in several precisions, case by case, each in place of setup.compute.precision; f32 comes first whether
/// it was asked for or not. A file that holds integers has no other weights to run in f32: to learn
/// what int8 costs altogether, evaluate a calibrated file that holds floats.
/// Errors: those of evaluate_model and of Segmenter::open for each precision.
MFRES_EXPORT Result<std::vector<PrecisionEvaluation>>
evaluate_precisions(const std::filesystem::path& model, const SegmenterOptions& setup,
                    const std::vector<Precision>& wanted, const CaseSet& cases, const EvaluationOptions& options,
                    const Progress& progress = {});

/// One row per precision: mean Dice of the regions against the reference, mean and least Dice against the f32 labels.
MFRES_EXPORT std::string to_markdown(const std::vector<PrecisionEvaluation>& evaluations);

/// An array of objects: precision, network_ms, and both tables.
MFRES_EXPORT std::string to_json(const std::vector<PrecisionEvaluation>& evaluations);

} // namespace mfres
