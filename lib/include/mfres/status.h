// SPDX-License-Identifier: MIT
// Errors as values. The library never prints, aborts or throws across its boundary. Every call that can fail returns
// Result<T> (or Status), which holds either the value or one Error. An Error has a code with one meaning, a message in
// plain English, and the place it refers to: a file, a node of a network or a JSON path.
#pragma once

#include <mfres/export.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace mfres {

/// One meaning per line. `name(code)` gives the snake_case identifier used in reports and JSON.
enum class ErrorCode : std::uint16_t {
    invalid_argument,        ///< an option or parameter has a value that is not allowed
    file_not_found,          ///< a named file or folder does not exist
    file_read,               ///< the operating system could not open or read a file
    file_write,              ///< a file could not be written, flushed or renamed
    file_exists,             ///< the output exists and overwriting was not asked for
    memory_limit,            ///< the computation does not fit into the allowed memory
    size_overflow,           ///< a product of sizes does not fit into 64 bits
    internal,                ///< a violated invariant: a bug in this library
    interrupted,             ///< the caller asked to stop
    json_invalid,            ///< text that is not JSON
    variant_invalid,         ///< a network variant violates the schema; the message names path and value
    network_unknown,         ///< no network of that name is registered
    graph_invalid,           ///< an op got shapes or attributes that it does not accept
    operation_unsupported,   ///< an op that this backend or this counter does not support
    backend_unknown,         ///< no backend of that name exists
    backend_unavailable,     ///< the backend exists but is not part of this build
    backend_failed,          ///< the backend's engine reported an error
    model_header_too_large,  ///< safetensors: header longer than 1 MB
    model_header_invalid,    ///< a model file whose structure violates its format
    model_truncated,         ///< a model file with fewer bytes than its header declares
    model_offsets_invalid,   ///< safetensors: offsets overlap, leave a gap or pass the end
    model_tensor_size,       ///< a tensor of a model file whose byte count differs from type x shape
    model_dtype_unsupported, ///< a tensor of a type this library does not read
    model_tensor_missing,    ///< a tensor of the network is not in the file
    model_tensor_extra,      ///< a tensor in the file that the network does not have
    model_tensor_shape,      ///< a tensor has another shape than in the network
    model_not_finite,        ///< a weight is NaN or infinite, or makes the network compute such values
    model_metadata_invalid,  ///< the mfres metadata is missing or contradicts itself
    model_hash_mismatch,     ///< the SHA-256 of the weights differs from the recorded one
    not_nifti,               ///< neither a NIfTI-1 nor a NIfTI-2 header
    nifti_header_invalid,    ///< a header field has an impossible value
    nifti_dimensions,        ///< a dimension is <= 0 or > 1024
    nifti_not_3d,            ///< more than one volume in the file
    nifti_datatype,          ///< complex, RGB or another type that is not a scalar
    nifti_too_large,         ///< more bytes than the limit allows
    nifti_truncated,         ///< fewer voxel bytes than the header declares
    nifti_trailing_bytes,    ///< more bytes than the header declares
    gzip_corrupt,            ///< damaged gzip stream: bad header, block, CRC-32 or length
    gzip_truncated,          ///< gzip stream that ends before its trailer
    modality_missing,        ///< one of T1, T1ce, T2, FLAIR was not found
    modality_ambiguous,      ///< two files match the same modality
    modality_duplicate,      ///< two modalities have identical voxels
    grid_size_mismatch,      ///< modalities differ in grid size
    grid_position_mismatch,  ///< corners of two grids lie more than 0.1 mm apart
    qform_sform_disagree,    ///< both are set and differ by more than 0.5 mm at a corner
    orientation_missing,     ///< qform and sform codes are both 0
    affine_singular,         ///< the affine has no inverse
    affine_sheared,          ///< axes deviate from orthogonal by more than 1 degree
    orientation_oblique,     ///< rotated so far that the axes have no unique reading as L/R, A/P, S/I
    voxel_size_out_of_range, ///< voxel size outside the range the model was trained for
    voxel_not_finite,        ///< NaN or Inf among the voxels
    volume_constant,         ///< every voxel has the same value
    brain_too_small,         ///< less than 1 % of the grid is brain
    logits_not_finite,       ///< the network produced NaN or Inf
    label_outside_scheme,    ///< a label that the scheme does not contain
    cache_invalid,           ///< not a training cache, or one of another format version
    cache_damaged,           ///< a training cache whose bytes differ from its checksums
    dataset_empty,           ///< no usable case
    recipe_invalid,          ///< a training recipe violates its schema; the message names key and value
    checkpoint_damaged,      ///< no checkpoint file is complete and intact
    checkpoint_mismatch,     ///< the checkpoint was written for another network, recipe or data set
    training_diverged,       ///< loss, gradient or weights became NaN or infinite
    table_invalid,           ///< a table of measurements that cannot be read
    label_scheme_unclear,    ///< a data set whose label values do not tell which scheme they follow
    brain_implausible,       ///< more or less brain than the model's limits allow
    brain_at_border,         ///< more than 2 % of the grid's border is brain
    modality_misnamed,       ///< a file's name says that it holds another contrast, or labels
    modality_moved,          ///< two contrasts do not lie in one place
    modality_coverage,       ///< a contrast shows less than 95 % of the brain
    modality_correlation,    ///< two contrasts correlate by more than 0.97 inside the brain
    intensity_outliers,      ///< single voxels decide about the standard deviation of a contrast
};

/// The snake_case name of a code, e.g. "gzip_truncated".
MFRES_EXPORT std::string_view name(ErrorCode code) noexcept;

struct Error {
    ErrorCode code = ErrorCode::internal;
    std::string message; ///< a full sentence that names the file and the values
    std::string where;   ///< the file, node or JSON path that the message refers to; may be empty
};

/// Either a value or an Error.
template <typename T>
class [[nodiscard]] Result {
  public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    explicit operator bool() const noexcept { return state_.index() == 0; }
    bool ok() const noexcept { return state_.index() == 0; }

    /// Precondition: ok().
    T& value() & { return *std::get_if<0>(&state_); }
    const T& value() const& { return *std::get_if<0>(&state_); }
    T&& value() && { return std::move(*std::get_if<0>(&state_)); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T* operator->() { return std::get_if<0>(&state_); }
    const T* operator->() const { return std::get_if<0>(&state_); }

    /// Precondition: !ok().
    const Error& error() const& { return *std::get_if<1>(&state_); }
    Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

  private:
    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
  public:
    Result() = default;
    Result(Error error) : error_(std::move(error)), ok_(false) {}

    explicit operator bool() const noexcept { return ok_; }
    bool ok() const noexcept { return ok_; }
    const Error& error() const& { return error_; }
    Error&& error() && { return std::move(error_); }

  private:
    Error error_;
    bool ok_ = true;
};

using Status = Result<void>;

} // namespace mfres
