// Errors as values. The library never prints, aborts or throws across its boundary: every call that can fail
// returns Result<T> (or Status), which holds either the value or one Error: a code with one meaning, a sentence
// for a person, and the place (a file, or a node of the network) it speaks of.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace mfres {

/// One meaning per line. `name(code)` gives the snake_case identifier that reports and JSON carry.
enum class ErrorCode : std::uint16_t {
    invalid_argument,        ///< an option or parameter has a value that makes no sense
    file_not_found,          ///< a named file or folder does not exist
    file_read,               ///< the operating system rejected to open or read a file
    file_write,              ///< a file could not be written, flushed or put in place
    file_exists,             ///< the output exists and overwriting was not asked for
    memory_limit,            ///< the work does not fit into the memory that was allowed
    size_overflow,           ///< a product of sizes does not fit into 64 bits
    internal,                ///< a broken invariant: a bug in this library
    interrupted,             ///< the caller asked to stop
    json_invalid,            ///< text that is not JSON
    variant_invalid,         ///< a network variant violates the schema; the message names path and value
    network_unknown,         ///< no network of that name is registered
    graph_invalid,           ///< an operation got shapes or attributes it cannot work with
    operation_unsupported,   ///< an operation that this backend or this counter does not know
    backend_unknown,         ///< no backend of that name exists
    backend_unavailable,     ///< the backend exists but is not part of this build
    backend_failed,          ///< the backend's engine reported an error
    model_header_too_large,  ///< safetensors: header longer than 1 MB
    model_header_invalid,    ///< a model file whose structure is not what its format asks for
    model_truncated,         ///< a model file with fewer bytes than it promises
    model_offsets_invalid,   ///< safetensors: offsets overlap, leave a gap or pass the end
    model_tensor_size,       ///< a tensor of a model file whose bytes are not what type x shape needs
    model_dtype_unsupported, ///< a tensor of a type this library does not read
    model_tensor_missing,    ///< a tensor the network needs is not in the file
    model_tensor_extra,      ///< a tensor in the file that the network does not know
    model_tensor_shape,      ///< a tensor has another shape than the network needs
    model_not_finite,        ///< a weight is NaN or infinite
    model_metadata_invalid,  ///< the mfres metadata is missing or contradicts itself
    model_hash_mismatch,     ///< the weights are not those the recorded SHA-256 was made of
    not_nifti,               ///< neither a NIfTI-1 nor a NIfTI-2 header
    nifti_header_invalid,    ///< a header field has an impossible value
    nifti_dimensions,        ///< a dimension is <= 0 or > 1024
    nifti_not_3d,            ///< more than one volume in the file
    nifti_datatype,          ///< complex, RGB or another type that is no scalar intensity
    nifti_too_large,         ///< more bytes than the cap allows
    nifti_truncated,         ///< fewer voxel bytes than the header promises
    nifti_trailing_bytes,    ///< more bytes than the header promises
    gzip_corrupt,            ///< damaged gzip stream: bad header, block, CRC-32 or length
    gzip_truncated,          ///< gzip stream that ends before its trailer
    modality_missing,        ///< one of T1, T1ce, T2, FLAIR was not found
    modality_ambiguous,      ///< two files claim to be the same modality
    modality_duplicate,      ///< two modalities have identical voxels
    grid_size_mismatch,      ///< modalities differ in grid size
    grid_position_mismatch,  ///< corners of two grids lie more than 0.1 mm apart
    qform_sform_disagree,    ///< both set, more than 0.5 mm apart at a corner
    orientation_missing,     ///< qform and sform codes are both 0
    affine_singular,         ///< the affine has no inverse
    affine_sheared,          ///< axes deviate from orthogonal by more than 1 degree
    orientation_oblique,     ///< a rotation so large that the axes have no one reading as L/R, A/P, S/I
    voxel_size_out_of_range, ///< voxel size outside what the model was trained for
    voxel_not_finite,        ///< NaN or Inf among the voxels
    volume_constant,         ///< every voxel has the same value
    brain_too_small,         ///< less than 1 % of the grid is brain
    logits_not_finite,       ///< the network produced NaN or Inf
    label_outside_scheme,    ///< a label that the scheme does not contain
    cache_invalid,           ///< not a training cache, or one of another format version
    cache_damaged,           ///< a training cache whose bytes are not those that were written
    dataset_empty,           ///< no case that could be used
    recipe_invalid,          ///< a training recipe violates its schema; the message names key and value
    checkpoint_damaged,      ///< no checkpoint file is complete and unharmed
    checkpoint_mismatch,     ///< the checkpoint belongs to another network, recipe or data set
    training_diverged,       ///< loss, gradient or weights became NaN or infinite
    table_invalid,           ///< a table of measurements that cannot be read
};

/// The snake_case name of a code, e.g. "gzip_truncated".
std::string_view name(ErrorCode code) noexcept;

struct Error {
    ErrorCode code = ErrorCode::internal;
    std::string message; ///< a full sentence that names the file and the numbers
    std::string where;   ///< file, node or JSON path the message speaks of; may be empty
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
