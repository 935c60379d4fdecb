// SPDX-License-Identifier: MIT
#include <mfres/status.h>

namespace mfres {

std::string_view name(ErrorCode code) noexcept {
    switch (code) {
    case ErrorCode::invalid_argument: return "invalid_argument";
    case ErrorCode::file_not_found: return "file_not_found";
    case ErrorCode::file_read: return "file_read";
    case ErrorCode::file_write: return "file_write";
    case ErrorCode::file_exists: return "file_exists";
    case ErrorCode::memory_limit: return "memory_limit";
    case ErrorCode::size_overflow: return "size_overflow";
    case ErrorCode::internal: return "internal";
    case ErrorCode::interrupted: return "interrupted";
    case ErrorCode::json_invalid: return "json_invalid";
    case ErrorCode::variant_invalid: return "variant_invalid";
    case ErrorCode::network_unknown: return "network_unknown";
    case ErrorCode::graph_invalid: return "graph_invalid";
    case ErrorCode::operation_unsupported: return "operation_unsupported";
    case ErrorCode::backend_unknown: return "backend_unknown";
    case ErrorCode::backend_unavailable: return "backend_unavailable";
    case ErrorCode::backend_failed: return "backend_failed";
    case ErrorCode::model_header_too_large: return "model_header_too_large";
    case ErrorCode::model_header_invalid: return "model_header_invalid";
    case ErrorCode::model_truncated: return "model_truncated";
    case ErrorCode::model_offsets_invalid: return "model_offsets_invalid";
    case ErrorCode::model_tensor_size: return "model_tensor_size";
    case ErrorCode::model_dtype_unsupported: return "model_dtype_unsupported";
    case ErrorCode::model_tensor_missing: return "model_tensor_missing";
    case ErrorCode::model_tensor_extra: return "model_tensor_extra";
    case ErrorCode::model_tensor_shape: return "model_tensor_shape";
    case ErrorCode::model_not_finite: return "model_not_finite";
    case ErrorCode::model_metadata_invalid: return "model_metadata_invalid";
    case ErrorCode::model_hash_mismatch: return "model_hash_mismatch";
    case ErrorCode::not_nifti: return "not_nifti";
    case ErrorCode::nifti_header_invalid: return "nifti_header_invalid";
    case ErrorCode::nifti_dimensions: return "nifti_dimensions";
    case ErrorCode::nifti_not_3d: return "nifti_not_3d";
    case ErrorCode::nifti_datatype: return "nifti_datatype";
    case ErrorCode::nifti_too_large: return "nifti_too_large";
    case ErrorCode::nifti_truncated: return "nifti_truncated";
    case ErrorCode::nifti_trailing_bytes: return "nifti_trailing_bytes";
    case ErrorCode::gzip_corrupt: return "gzip_corrupt";
    case ErrorCode::gzip_truncated: return "gzip_truncated";
    case ErrorCode::modality_missing: return "modality_missing";
    case ErrorCode::modality_ambiguous: return "modality_ambiguous";
    case ErrorCode::modality_duplicate: return "modality_duplicate";
    case ErrorCode::grid_size_mismatch: return "grid_size_mismatch";
    case ErrorCode::grid_position_mismatch: return "grid_position_mismatch";
    case ErrorCode::qform_sform_disagree: return "qform_sform_disagree";
    case ErrorCode::orientation_missing: return "orientation_missing";
    case ErrorCode::affine_singular: return "affine_singular";
    case ErrorCode::affine_sheared: return "affine_sheared";
    case ErrorCode::orientation_oblique: return "orientation_oblique";
    case ErrorCode::voxel_size_out_of_range: return "voxel_size_out_of_range";
    case ErrorCode::voxel_not_finite: return "voxel_not_finite";
    case ErrorCode::volume_constant: return "volume_constant";
    case ErrorCode::brain_too_small: return "brain_too_small";
    case ErrorCode::brain_implausible: return "brain_implausible";
    case ErrorCode::brain_at_border: return "brain_at_border";
    case ErrorCode::modality_misnamed: return "modality_misnamed";
    case ErrorCode::modality_moved: return "modality_moved";
    case ErrorCode::modality_coverage: return "modality_coverage";
    case ErrorCode::modality_correlation: return "modality_correlation";
    case ErrorCode::intensity_outliers: return "intensity_outliers";
    case ErrorCode::logits_not_finite: return "logits_not_finite";
    case ErrorCode::label_outside_scheme: return "label_outside_scheme";
    case ErrorCode::label_scheme_unclear: return "label_scheme_unclear";
    case ErrorCode::cache_invalid: return "cache_invalid";
    case ErrorCode::cache_damaged: return "cache_damaged";
    case ErrorCode::dataset_empty: return "dataset_empty";
    case ErrorCode::recipe_invalid: return "recipe_invalid";
    case ErrorCode::checkpoint_damaged: return "checkpoint_damaged";
    case ErrorCode::checkpoint_mismatch: return "checkpoint_mismatch";
    case ErrorCode::training_diverged: return "training_diverged";
    case ErrorCode::table_invalid: return "table_invalid";
    }
    return "unknown";
}

} // namespace mfres
