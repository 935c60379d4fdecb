// SPDX-License-Identifier: MIT
// Header of a NIfTI file: parsed from its raw bytes, checked field by field, and confirmed by nifti_clib.
#pragma once

#include "imaging/nifti/bytes.h"
#include "imaging/nifti/names.h"
#include "imaging/nifti/nifti.h"

#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mfres::nifti {

/// Largest extent of a volume along an axis, in voxels.
inline constexpr std::int64_t largest_extent = 1024;
/// Of the voxels in their file: bytes of header and extensions, which are skipped.
inline constexpr std::int64_t largest_offset = std::int64_t{64} << 20;

/// Turns off the messages that nifti_clib prints by default.
void silence_nifti_clib();

/// The header fields that are used, in the wider types of NIfTI-2 and in the byte order of this machine.
struct Header {
    std::array<std::int64_t, 8> dim{};
    int datatype = 0;
    int bitpix = 0;
    double vox_offset = 0.0;
    double scl_slope = 0.0;
    double scl_inter = 0.0;
    NiftiGeometry geometry;
    bool single_file = true;
    bool big_endian = false;
};

/// Reads the 348 or 540 bytes of a header, fewer if the file ends before, and nothing behind them. Errors: those of
/// ByteSource::read.
Result<std::vector<std::byte>> read_header(ByteSource& source);

/// Parses the raw bytes of a header. Errors: not_nifti, nifti_truncated (fewer bytes than the header has),
/// nifti_header_invalid (a damaged magic, or one that contradicts the file name).
Result<Header> parse_header(std::span<const std::byte> bytes, const Files& files);

/// "240x240x155": the extents of all axes.
std::string extents(const Header& header);

/// Errors: nifti_dimensions, nifti_not_3d.
Status check_dimensions(const Header& header, const std::filesystem::path& path);

/// Datatype, bits per voxel, scaling, unit and offset. Errors: nifti_datatype, nifti_header_invalid.
Status check_fields(const Header& header, const std::filesystem::path& path);

/// Slope and intercept that are applied to stored values: 1 and 0 where the header's slope is 0 or NaN.
std::pair<double, double> scaling_of(const Header& header);

/// Byte counts of a checked header.
struct Layout {
    std::int64_t voxels = 0;
    std::int64_t offset = 0;
    std::int64_t total = 0; ///< of the file that holds the voxels
    int voxel_bytes = 0;
};

/// `decoded_bytes` is the size of one decoded voxel in memory. Error: nifti_too_large if the file or the decoded voxels
/// take more than `max_bytes`.
Result<Layout> layout_of(const Header& header, std::uint64_t max_bytes, std::size_t decoded_bytes,
                         const std::filesystem::path& path);

/// Parses the header with nifti_clib and compares. Precondition: the checks above have passed, because nifti_clib
/// relies on them. Error: nifti_header_invalid.
Status confirm_with_nifti_clib(std::span<const std::byte> bytes, const Header& header, const Layout& layout,
                               const std::filesystem::path& path);

} // namespace mfres::nifti
