// SPDX-License-Identifier: MIT
// NIfTI-1 and NIfTI-2 files: .nii, .nii.gz and .hdr/.img pairs (either half may be .gz), both byte orders.
//
// nifti_clib parses and lays out headers and converts quaternions to matrices. Every header field is checked in the raw
// 348 or 540 bytes before, and voxels are inflated and converted here, because nifti_clib replaces NaN by 0, accepts a
// gzip file without its trailer, and allocates what a header declares without comparing it with the file.
//
// One three-dimensional scalar volume is accepted. Rejected, in this order:
//
// clang-format off
//   not_nifti             sizeof_hdr or magic is none of NIfTI's (ANALYZE 7.5 has no magic)
//   nifti_truncated       the file ends within the header
//   nifti_header_invalid  a field has an impossible value; the file name does not fit the magic
//   nifti_dimensions      dim[0] outside 1..7; an extent <= 0; one of the first three > 1024
//   nifti_not_3d          fewer than 3 axes, an extent of 1 among the first three (a 2-D image), or more than one volume
//   nifti_datatype        anything but (u)int8/16/32/64, float32, float64
//   nifti_too_large       the file, or the decoded voxels, need more bytes than allowed
//   orientation_missing, qform_sform_disagree, affine_singular, affine_sheared
//                         see affine_of()
//   gzip_truncated, gzip_corrupt, nifti_truncated, nifti_trailing_bytes
//                         the file does not have exactly the bytes that its header declares
//   voxel_not_finite      NaN or infinity, before or after scaling
// clang-format on
//
// names.h: files and suffixes; bytes.h: sequential reading; header.h: parsing and checks; voxels.h: conversion.
#pragma once

#include "core/array_memory.h"
#include "core/file.h"
#include "imaging/compact_volume.h"

#include <mfres/case.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// The header fields that place voxels in the world, as stored. Written back unchanged, they give the same fields.
struct NiftiGeometry {
    int version = 1;                 ///< 1 or 2; NIfTI-1 holds these numbers as float, NIfTI-2 as double
    std::array<double, 8> pixdim{};  ///< [0] is qfac, [1..3] voxel sizes
    int qform_code = 0;              ///< > 0: the quaternion and its offset are set
    int sform_code = 0;              ///< > 0: srow is set
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

struct NiftiReadOptions {
    AffineSource use = AffineSource::automatic;
    /// Cap on the uncompressed file, and on the decoded voxels in memory, each in bytes.
    std::uint64_t max_bytes = std::uint64_t{2} << 30U;
    /// Cap on what read_nifti_scan keeps, in bytes; 0 = none.
    std::int64_t most_kept_bytes = 0;
    /// A compressed file of no more than so many uncompressed bytes read_nifti_scan inflates at once, which is faster and
    /// takes these bytes; others a piece at a time.
    std::uint64_t most_inflated_bytes = 0;
    /// Where the memory for that comes from, kept from one file to the next; null = the memory of the calling thread.
    ArrayMemory* inflated_memory = nullptr;
};

struct NiftiVolume {
    Volume volume; ///< voxel = raw * scl_slope + scl_inter, or raw where the slope is 0 or NaN
    NiftiGeometry geometry;
    NiftiStorage storage;
};

struct NiftiCompactVolume {
    CompactVolume scan; ///< the same intensities as in NiftiVolume, in less memory
    NiftiGeometry geometry;
    NiftiStorage storage;
    std::int64_t inflated_bytes = 0; ///< that were taken to inflate the file at once
};

struct NiftiLabels {
    LabelMap map;
    NiftiGeometry geometry;
    NiftiStorage storage;
};

/// Reads one volume. `path` names a .nii file or either half of a pair; a file whose name ends in .gz must be gzip.
/// Peak memory: the float volume. Errors: those listed at the top of this file,
/// file_not_found, file_read, memory_limit, invalid_argument (another file name suffix).
Result<NiftiVolume> read_nifti(const std::filesystem::path& path, const NiftiReadOptions& options = {});

/// The same as a compact volume. Unsigned integers of 8 bits and integers of 16 bits are kept in their type, everything
/// else as float, unless all of it are such integers. Peak memory: the voxels that are kept, where the most frequent
/// value of the first slice is the background, else the whole volume in that type. Error: also memory_limit for more than
/// most_kept_bytes, as soon as that shows.
Result<NiftiCompactVolume> read_nifti_scan(const std::filesystem::path& path, const NiftiReadOptions& options = {});

/// Reads labels, stored as integers or as integer-valued floats; through a slope they are rounded where they lie within
/// half a step of it (and 0.01) of a whole number. Errors: as read_nifti, and label_outside_scheme with
/// counts for values that are not integers from 0 to 255.
Result<NiftiLabels> read_nifti_labels(const std::filesystem::path& path, const NiftiReadOptions& options = {});

/// Writes `volume.voxels` without scaling, as .nii or .nii.gz by the suffix, in this machine's byte order and the
/// NIfTI version of `geometry`, whose fields are stored as they are (volume.grid gives only the size). float32 is
/// exact; int16 rounds to the nearest integer. `description` is cut to 79 bytes. The file is written
/// atomically. Errors: invalid_argument (suffix, datatype, sizes, values outside int16), file_exists, file_write.
Status write_nifti(const std::filesystem::path& path, const Volume& volume, const NiftiGeometry& geometry,
                   NiftiDatatype datatype, std::string_view description, bool overwrite);

/// The same for labels, stored as uint8.
Status write_nifti_labels(const std::filesystem::path& path, const LabelMap& labels, const NiftiGeometry& geometry,
                          std::string_view description, bool overwrite);

/// Writes the same file from labels that come in parts, i fastest: neither the map nor the file is whole in memory.
class NiftiLabelWriter {
  public:
    /// Errors: as write_nifti_labels.
    static Result<NiftiLabelWriter> create(const std::filesystem::path& path, const Grid& grid,
                                           const NiftiGeometry& geometry, std::string_view description, bool overwrite);
    NiftiLabelWriter(NiftiLabelWriter&&) noexcept;
    NiftiLabelWriter& operator=(NiftiLabelWriter&&) noexcept;
    ~NiftiLabelWriter();

    /// Errors: file_write.
    Status append(std::span<const std::uint8_t> labels);
    /// The file on the disk, without its name yet. Errors: file_write; invalid_argument if not all labels have come.
    Result<PendingFile> finish() &&;

  private:
    struct State;
    explicit NiftiLabelWriter(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Probabilities as a volume of four axes, (x, y, z, class): float32 rounded to what float16 can hold, which halves the
/// compressed size, or uint8 with a slope of 1/255. `path` decides on compression and is named in errors. Errors:
/// invalid_argument (suffix, sizes, values that do not fill the grid).
Result<std::vector<std::byte>> encode_nifti_probabilities(const std::filesystem::path& path,
                                                          const ProbabilityMap& probabilities, bool as_uint8,
                                                          const NiftiGeometry& geometry, std::string_view description);

/// NIfTI-1 geometry of a grid: sform and qform both set (code 1), millimetres. Numbers are rounded to float, so that
/// they are equal after writing and reading. The qform is the nearest rotation if the affine is sheared.
NiftiGeometry geometry_of(const Grid& grid);

/// The voxel-to-world matrix of a header, in mm. `size` defines the corners at which two affines are compared.
/// Errors: orientation_missing (the codes asked for are 0), nifti_header_invalid (NaN, a voxel size <= 0 or a
/// quaternion longer than 1), qform_sform_disagree (automatic, both set, more than 0.5 mm apart at a corner),
/// affine_singular, affine_sheared (axes more than 1 degree from right angles).
Result<Affine> affine_of(const NiftiGeometry& geometry, const std::array<std::int64_t, 3>& size, AffineSource use,
                         std::string_view where);

} // namespace mfres
