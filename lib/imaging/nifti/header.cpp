// SPDX-License-Identifier: MIT
#include "imaging/nifti/header.h"

#include "core/checked.h"
#include "core/try.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <nifti2_io.h>
#include <string_view>

namespace mfres::nifti {

namespace fs = std::filesystem;

static_assert(sizeof(nifti_1_header) == 348 && sizeof(nifti_2_header) == 540);

namespace {

/// The units field is a char in NIfTI-1 and an int in NIfTI-2.
int as_units(char units) {
    return static_cast<unsigned char>(units);
}

int as_units(int units) {
    return units;
}

template <typename Raw>
Header widen(const Raw& raw, int version) {
    Header header;
    std::copy_n(raw.dim, 8, header.dim.begin());
    header.datatype = raw.datatype;
    header.bitpix = raw.bitpix;
    header.vox_offset = static_cast<double>(raw.vox_offset);
    header.scl_slope = raw.scl_slope;
    header.scl_inter = raw.scl_inter;
    NiftiGeometry& geometry = header.geometry;
    geometry.version = version;
    std::copy_n(raw.pixdim, 8, geometry.pixdim.begin());
    geometry.qform_code = raw.qform_code;
    geometry.sform_code = raw.sform_code;
    geometry.quatern = {raw.quatern_b, raw.quatern_c, raw.quatern_d};
    geometry.qoffset = {raw.qoffset_x, raw.qoffset_y, raw.qoffset_z};
    std::copy_n(raw.srow_x, 4, geometry.srow[0].begin());
    std::copy_n(raw.srow_y, 4, geometry.srow[1].begin());
    std::copy_n(raw.srow_z, 4, geometry.srow[2].begin());
    geometry.xyzt_units = as_units(raw.xyzt_units);
    return header;
}

/// A header struct in the byte order of this machine. Aligned, because nifti_clib's NIfTI-2 struct is packed.
template <typename Raw>
struct alignas(8) NativeHeader {
    Raw raw;

    NativeHeader(std::span<const std::byte> bytes, bool swapped, int version) {
        std::memcpy(&raw, bytes.data(), sizeof raw);
        if (swapped)
            swap_nifti_header(&raw, version);
    }
};

using NativeHeader1 = NativeHeader<nifti_1_header>;
using NativeHeader2 = NativeHeader<nifti_2_header>;
/// The NIfTI version (0: neither) by sizeof_hdr, the first four bytes, and whether bytes have to be swapped.
struct Signature {
    int version = 0;
    bool swapped = false;
};

Signature signature_of(std::span<const std::byte> bytes) {
    std::int32_t size = 0;
    if (bytes.size() < sizeof size)
        return {};
    std::memcpy(&size, bytes.data(), sizeof size);
    std::int32_t other = size;
    nifti_swap_4bytes(1, &other);
    const auto version = [](std::int32_t n) { return n == 348 ? 1 : n == 540 ? 2 : 0; };
    return version(size) != 0 ? Signature{version(size), false} : Signature{version(other), version(other) != 0};
}

/// Bytes per voxel of an accepted datatype, otherwise 0.
int bytes_per_voxel(int datatype) {
    switch (static_cast<NiftiDatatype>(datatype)) {
    case NiftiDatatype::uint8:
    case NiftiDatatype::int8: return 1;
    case NiftiDatatype::int16:
    case NiftiDatatype::uint16: return 2;
    case NiftiDatatype::int32:
    case NiftiDatatype::uint32:
    case NiftiDatatype::float32: return 4;
    case NiftiDatatype::float64:
    case NiftiDatatype::int64:
    case NiftiDatatype::uint64: return 8;
    }
    return 0;
}

bool is_scaled(double slope) {
    return slope != 0.0 && !std::isnan(slope);
}

} // namespace

void silence_nifti_clib() {
    static const bool silenced = (nifti_set_debug_level(0), true);
    (void)silenced;
}

Result<std::vector<std::byte>> read_header(ByteSource& source) {
    std::vector<std::byte> bytes(sizeof(nifti_2_header));
    std::size_t count = 0;
    const auto extend_to = [&](std::size_t size) -> Status {
        MFRES_TRY(const std::size_t got, source.read(std::span(bytes).subspan(count, size - count)));
        count += got;
        return {};
    };
    MFRES_CHECK(extend_to(sizeof(nifti_1_header)));
    if (count == sizeof(nifti_1_header) && signature_of(bytes).version == 2)
        MFRES_CHECK(extend_to(sizeof(nifti_2_header)));
    bytes.resize(count);
    return bytes;
}

Result<Header> parse_header(std::span<const std::byte> bytes, const Files& files) {
    const fs::path& path = files.header;
    const auto [version, swapped] = signature_of(bytes);
    if (version == 0) {
        const bool zipped = bytes.size() > 1 && bytes[0] == std::byte{0x1F} && bytes[1] == std::byte{0x8B};
        return file_error(
            ErrorCode::not_nifti, path,
            zipped && names_gzip(path) ? "is gzip-compressed twice: unpack it once, in Python: "
                                         "open(\"once.nii.gz\", \"wb\").write(gzip.open(\"twice.nii.gz\").read())"
            : zipped ? "is gzip-compressed although its name does not end in .gz; rename it so that it does"
                     : "is not a NIfTI file: its first four bytes are neither 348 nor 540");
    }
    const std::size_t header_bytes = version == 1 ? sizeof(nifti_1_header) : sizeof(nifti_2_header);
    if (bytes.size() < header_bytes)
        return file_error(ErrorCode::nifti_truncated, path,
                          text("ends after ", bytes.size(), " bytes, within its ", header_bytes, "-byte NIfTI header"));

    const std::size_t magic_at = version == 1 ? offsetof(nifti_1_header, magic) : offsetof(nifti_2_header, magic);
    std::array<char, 8> magic{};
    std::memcpy(magic.data(), bytes.data() + magic_at, version == 1 ? 4 : 8);
    const std::string_view tag(magic.data(), 4);
    using namespace std::string_view_literals;
    const bool single = tag == (version == 1 ? "n+1\0"sv : "n+2\0"sv);
    if (!single && tag != (version == 1 ? "ni1\0"sv : "ni2\0"sv))
        return file_error(ErrorCode::not_nifti, path,
                          version == 1
                              ? "has no NIfTI magic; it may be an ANALYZE 7.5 header, whose orientation is unknown"
                              : "has the size of a NIfTI-2 header but not its magic");
    if (version == 2 && std::string_view(magic.data() + 4, 4) != "\r\n\032\n"sv)
        return file_error(ErrorCode::nifti_header_invalid, path,
                          "has a NIfTI-2 magic with changed line ends, so it was damaged by a transfer in text mode");
    if (single == files.pair)
        return file_error(ErrorCode::nifti_header_invalid, path,
                          single ? "declares that voxels follow in the same file, but is named as the header of a pair"
                                 : "declares that its voxels are in an .img file, but is named as a single file");

    silence_nifti_clib();
    Header header =
        version == 1 ? widen(NativeHeader1(bytes, swapped, 1).raw, 1) : widen(NativeHeader2(bytes, swapped, 2).raw, 2);
    header.single_file = single;
    header.big_endian = swapped == (std::endian::native == std::endian::little);
    return header;
}

std::string extents(const Header& header) {
    std::string result;
    for (std::int64_t axis = 1; axis <= header.dim[0]; ++axis)
        result += text(axis == 1 ? "" : "x", header.dim[static_cast<std::size_t>(axis)]);
    return result;
}

Status check_dimensions(const Header& header, const fs::path& path) {
    const auto axes = header.dim[0];
    if (axes < 1 || axes > 7)
        return file_error(ErrorCode::nifti_dimensions, path,
                          text("declares ", axes, " dimensions; NIfTI allows 1 to 7"));
    for (std::int64_t axis = 1; axis <= axes; ++axis) {
        const auto extent = header.dim[static_cast<std::size_t>(axis)];
        if (extent <= 0 || (axis <= 3 && extent > largest_extent))
            return file_error(ErrorCode::nifti_dimensions, path,
                              text("has ", extent, " voxels along dimension ", axis, " of ", extents(header), "; 1 to ",
                                   largest_extent, " are allowed"));
    }
    for (std::int64_t axis = 4; axis <= axes; ++axis)
        if (header.dim[static_cast<std::size_t>(axis)] != 1)
            return file_error(ErrorCode::nifti_not_3d, path,
                              text("holds more than one volume: ", extents(header),
                                   "; split it and give one of them, in Python: nibabel.save(nibabel.four_to_three("
                                   "nibabel.load(\"all.nii.gz\"))[0], \"first.nii.gz\")"));
    if (axes < 3 || std::min({header.dim[1], header.dim[2], header.dim[3]}) == 1)
        return file_error(ErrorCode::nifti_not_3d, path, text("is not a three-dimensional volume: ", extents(header)));
    return {};
}

std::pair<double, double> scaling_of(const Header& header) {
    return is_scaled(header.scl_slope) ? std::pair{header.scl_slope, header.scl_inter} : std::pair{1.0, 0.0};
}

Status check_fields(const Header& header, const fs::path& path) {
    const int bytes = bytes_per_voxel(header.datatype);
    if (bytes == 0) {
        const char* known = nifti_datatype_string(header.datatype);
        return file_error(
            ErrorCode::nifti_datatype, path,
            text("stores voxels of datatype ", header.datatype, " (", known, "), which is not a scalar type"));
    }
    if (header.bitpix != 8 * bytes)
        return file_error(ErrorCode::nifti_header_invalid, path,
                          text("declares ", header.bitpix, " bits per voxel, but its datatype ", header.datatype,
                               " has ", 8 * bytes));
    if (is_scaled(header.scl_slope) && (std::isinf(header.scl_slope) || !std::isfinite(header.scl_inter)))
        return file_error(ErrorCode::nifti_header_invalid, path,
                          text("has scl_slope ", header.scl_slope, " and scl_inter ", header.scl_inter));
    const int spatial_unit = header.geometry.xyzt_units & 7;
    if (spatial_unit > 3)
        return file_error(ErrorCode::nifti_header_invalid, path, text("has the undefined spatial unit ", spatial_unit));
    const double least = !header.single_file ? 0.0 : header.geometry.version == 1 ? 352.0 : 544.0;
    if (!(header.vox_offset >= least) || header.vox_offset != std::floor(header.vox_offset) ||
        header.vox_offset > 0x1p62)
        return file_error(
            ErrorCode::nifti_header_invalid, path,
            text("has vox_offset ", header.vox_offset, "; it must be a whole number of at least ", least));
    if (header.vox_offset > largest_offset)
        return file_error(ErrorCode::nifti_too_large, path,
                          text("puts its voxels behind ", header.vox_offset, " bytes of header and extensions; ",
                               largest_offset, " are allowed"));
    return {};
}

Result<Layout> layout_of(const Header& header, std::uint64_t max_bytes, std::size_t decoded_bytes,
                         const fs::path& path) {
    Layout layout;
    layout.voxel_bytes = bytes_per_voxel(header.datatype);
    layout.offset = static_cast<std::int64_t>(header.vox_offset);
    const auto voxels = checked_product({header.dim[1], header.dim[2], header.dim[3]});
    const auto data = voxels ? checked_multiply(*voxels, layout.voxel_bytes) : std::nullopt;
    const auto total = data ? checked_add(*data, layout.offset) : std::nullopt;
    const auto decoded = voxels ? checked_multiply(*voxels, static_cast<std::int64_t>(decoded_bytes)) : std::nullopt;
    if (!total || !decoded || static_cast<std::uint64_t>(*total) > max_bytes ||
        static_cast<std::uint64_t>(*decoded) > max_bytes)
        return file_error(ErrorCode::nifti_too_large, path,
                          text("declares ", extents(header), " voxels of ", layout.voxel_bytes, " bytes at offset ",
                               layout.offset, "; the file and the decoded voxels may take ", max_bytes, " bytes each"));
    layout.voxels = *voxels;
    layout.total = *total;
    return layout;
}

Status confirm_with_nifti_clib(std::span<const std::byte> bytes, const Header& header, const Layout& layout,
                               const fs::path& path) {
    const auto [version, swapped] = signature_of(bytes);
    const auto release = [](nifti_image* image) { nifti_image_free(image); };
    const std::unique_ptr<nifti_image, decltype(release)> image(
        version == 1 ? nifti_convert_n1hdr2nim(NativeHeader1(bytes, swapped, 1).raw, nullptr)
                     : nifti_convert_n2hdr2nim(NativeHeader2(bytes, swapped, 2).raw, nullptr),
        release);
    if (!image || image->nx != header.dim[1] || image->ny != header.dim[2] || image->nz != header.dim[3] ||
        image->nvox != layout.voxels || image->datatype != header.datatype || image->nbyper != layout.voxel_bytes)
        return file_error(ErrorCode::nifti_header_invalid, path,
                          "has a header that the NIfTI library reads differently");
    return {};
}

} // namespace mfres::nifti

namespace mfres {

std::string_view name(NiftiDatatype datatype) noexcept {
    switch (datatype) {
    case NiftiDatatype::uint8: return "uint8";
    case NiftiDatatype::int16: return "int16";
    case NiftiDatatype::int32: return "int32";
    case NiftiDatatype::float32: return "float32";
    case NiftiDatatype::float64: return "float64";
    case NiftiDatatype::int8: return "int8";
    case NiftiDatatype::uint16: return "uint16";
    case NiftiDatatype::uint32: return "uint32";
    case NiftiDatatype::int64: return "int64";
    case NiftiDatatype::uint64: return "uint64";
    }
    return "unknown";
}

} // namespace mfres
