// NIfTI-1 and NIfTI-2 files: .nii, .nii.gz and .hdr/.img pairs (either half may be .gz), both byte orders.
//
// nifti_clib is the authority on the format: it parses and lays out headers and turns quaternions into matrices. In
// front of it every header field is checked in the raw 348 or 540 bytes, and the voxels are inflated and converted
// here, because nifti_clib replaces NaN by 0, cannot see a gzip file that lost its trailer, and believes sizes.
//
// Accepted is one three-dimensional scalar volume. Rejected, in this order:
//   not_nifti             sizeof_hdr or magic is none of NIfTI's (ANALYZE 7.5 has no magic)
//   nifti_truncated       the file ends within the header
//   nifti_header_invalid  a field has an impossible value; the file name does not fit the magic
//   nifti_dimensions      dim[0] outside 1..7; an extent <= 0; one of the first three > 1024
//   nifti_not_3d          fewer than 3 axes, an extent of 1 among the first three (a 2-D image), or more than one
//   volume nifti_datatype        anything but (u)int8/16/32/64, float32, float64 nifti_too_large       the file, or the
//   decoded floats, need more bytes than allowed orientation_missing, qform_sform_disagree, affine_singular,
//   affine_sheared      see affine_of() gzip_truncated, gzip_corrupt, nifti_truncated, nifti_trailing_bytes the exact
//   number of bytes voxel_not_finite      NaN or infinity, before or after scaling
#pragma once

#include "imaging/compact_volume.h"

#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Every header field that says where voxels lie, as stored. Equal geometry in, equal geometry out.
struct NiftiGeometry {
    int version = 1;                 ///< 1 or 2; NIfTI-1 holds these numbers as float, NIfTI-2 as double
    std::array<double, 8> pixdim{};  ///< [0] is qfac, [1..3] voxel sizes
    int qform_code = 0;              ///< > 0: the quaternion and its offset hold
    int sform_code = 0;              ///< > 0: srow holds
    std::array<double, 3> quatern{}; ///< quatern_b, quatern_c, quatern_d
    std::array<double, 3> qoffset{}; ///< qoffset_x, qoffset_y, qoffset_z
    Affine srow{};                   ///< srow_x, srow_y, srow_z
    int xyzt_units = 0;              ///< low three bits: 0 unknown (read as mm), 1 metre, 2 mm, 3 micrometre

    friend bool operator==(const NiftiGeometry&, const NiftiGeometry&) = default;
};

/// How a voxel is stored; the values are NIfTI's datatype codes.
enum class NiftiDatatype : int {
    uint8 = 2,
    int16 = 4,
    int32 = 8,
    float32 = 16,
    float64 = 64,
    int8 = 256,
    uint16 = 512,
    uint32 = 768,
    int64 = 1024,
    uint64 = 1280,
};

/// "uint8", "int16", ...
std::string_view name(NiftiDatatype datatype) noexcept;

/// How the voxels of a file were stored, for reports.
struct NiftiStorage {
    NiftiDatatype datatype = NiftiDatatype::float32;
    double scl_slope = 0.0; ///< as in the header; 0 or NaN means that no scaling was applied
    double scl_inter = 0.0;
    std::int64_t vox_offset = 0;
    bool big_endian = false;
    bool compressed = false;
};

/// Which of the two affines to believe where a file has both.
enum class AffineSource : std::uint8_t {
    automatic, ///< the sform if set, otherwise the qform; both set and disagreeing is an error
    sform,
    qform,
};

/// "auto", "sform", "qform"; invalid_argument for anything else.
Result<AffineSource> affine_source(std::string_view source_name);

struct NiftiReadOptions {
    AffineSource use = AffineSource::automatic;
    /// Cap on the uncompressed file, and on the decoded voxels in memory, each in bytes.
    std::uint64_t max_bytes = std::uint64_t{2} << 30U;
};

struct NiftiVolume {
    Volume volume; ///< voxel = raw * scl_slope + scl_inter, or raw where the slope is 0 or NaN
    NiftiGeometry geometry;
    NiftiStorage storage;
};

struct NiftiCompactVolume {
    CompactVolume scan; ///< the same intensities, in less memory
    NiftiGeometry geometry;
    NiftiStorage storage;
};

struct NiftiLabels {
    LabelMap map;
    NiftiGeometry geometry;
    NiftiStorage storage;
};

/// Reads one volume. `path` may name a .nii file or either half of a pair; a name ending in .gz has to be gzip.
/// Holds the file as it is on disk and the float volume, nothing more. Errors: those listed at the top of this file,
/// file_not_found, file_read, memory_limit, invalid_argument (another file name suffix).
Result<NiftiVolume> read_nifti(const std::filesystem::path& path, const NiftiReadOptions& options = {});

/// The same, kept as a scan. While it reads it holds the whole volume in the type of the file: integers of 8 (unsigned)
/// and 16 bits as they are, everything else as floats.
Result<NiftiCompactVolume> read_nifti_scan(const std::filesystem::path& path, const NiftiReadOptions& options = {});

/// Reads labels, stored as integers or as integer-valued floats. Errors: as read_nifti, and label_outside_scheme with
/// counts for values that are not integers from 0 to 255.
Result<NiftiLabels> read_nifti_labels(const std::filesystem::path& path, const NiftiReadOptions& options = {});

/// Writes `volume.voxels` without scaling, as .nii or .nii.gz by the suffix, in this machine's byte order and the
/// NIfTI version of `geometry`, whose fields are stored as they are (volume.grid gives only the size). float32 is
/// exact; int16 rounds to the nearest integer. `description` is cut to 79 bytes. The file appears complete or not
/// at all. Errors: invalid_argument (suffix, datatype, sizes, values outside int16), file_exists, file_write.
Status write_nifti(const std::filesystem::path& path, const Volume& volume, const NiftiGeometry& geometry,
                   NiftiDatatype datatype, std::string_view description, bool overwrite);

/// A label map as write_nifti_labels stores it, in memory; `path` decides on compression and is named in errors.
Result<std::vector<std::byte>> encode_nifti_labels(const std::filesystem::path& path, const LabelMap& labels,
                                                   const NiftiGeometry& geometry, std::string_view description);

/// The same for labels, stored as uint8.
Status write_nifti_labels(const std::filesystem::path& path, const LabelMap& labels, const NiftiGeometry& geometry,
                          std::string_view description, bool overwrite);

/// Probabilities as a volume of four axes, (x, y, z, class): float32 rounded to what float16 can hold, which halves the
/// compressed size, or uint8 with a slope of 1/255. `path` decides on compression and is named in errors. Errors:
/// invalid_argument (suffix, sizes, values that do not fill the grid).
Result<std::vector<std::byte>> encode_nifti_probabilities(const std::filesystem::path& path,
                                                          const ProbabilityMap& probabilities, bool as_uint8,
                                                          const NiftiGeometry& geometry, std::string_view description);

/// NIfTI-1 geometry of a grid made by us: sform and qform both set (code 1), millimetres. Numbers are rounded to
/// float, so that they survive the file. The qform is the nearest rotation if the affine is sheared.
NiftiGeometry geometry_of(const Grid& grid);

/// The voxel-to-world matrix of a header, in mm. `size` gives the corners at which two affines are compared.
/// Errors: orientation_missing (the codes asked for are 0), nifti_header_invalid (NaN, a voxel size <= 0 or a
/// quaternion longer than 1), qform_sform_disagree (automatic, both set, more than 0.5 mm apart at a corner),
/// affine_singular, affine_sheared (axes more than 1 degree from right angles).
Result<Affine> affine_of(const NiftiGeometry& geometry, const std::array<std::int64_t, 3>& size, AffineSource use,
                         const std::string& where);

} // namespace mfres
