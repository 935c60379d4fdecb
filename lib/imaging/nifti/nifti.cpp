#include "imaging/nifti/nifti.h"

#include "core/checked.h"
#include "core/file.h"
#include "core/half.h"
#include "core/try.h"
#include "imaging/geometry.h"
#include "imaging/nifti/gzip.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <nifti2_io.h>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace mfres {

namespace {

namespace fs = std::filesystem;

static_assert(sizeof(nifti_1_header) == 348 && sizeof(nifti_2_header) == 540);

constexpr std::int64_t largest_extent = 1024;
constexpr double disagreement_limit_mm = 0.5;
constexpr double shear_limit_degrees = 1.0;
constexpr std::size_t chunk_bytes = std::size_t{1} << 18U; // multiple of every voxel size

/// nifti_clib prints what it dislikes unless told not to.
void silence_nifti_clib() {
    static const bool silenced = (nifti_set_debug_level(0), true);
    (void)silenced;
}

Error fail(ErrorCode code, const fs::path& path, const std::string& reason) {
    return {code, text(path.string(), " ", reason), path.string()};
}

// File names -----------------------------------------------------------------------------------------------------

std::string lower_case(std::string s) {
    std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return s;
}

bool names_gzip(const fs::path& path) {
    return lower_case(path.extension().string()) == ".gz";
}

/// The path without ".gz".
fs::path without_gz(const fs::path& path) {
    fs::path result = path;
    return names_gzip(path) ? result.replace_extension() : result;
}

/// ".nii", ".hdr", ".img" or something else, without ".gz", in lower case.
std::string suffix_of(const fs::path& path) {
    return lower_case(without_gz(path).extension().string());
}

/// The other half of a .hdr/.img pair: preferably compressed the same way, and with its suffix in the same case.
Result<fs::path> partner(const fs::path& path, std::string suffix) {
    fs::path base = without_gz(path);
    const std::string own = base.extension().string();
    if (own.size() > 1 && std::isupper(static_cast<unsigned char>(own[1])))
        std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                       [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    const fs::path plain = base.replace_extension(suffix);
    const std::string gz = names_gzip(path) ? path.extension().string() : ".gz";
    const fs::path compressed = fs::path(plain).concat(gz);
    std::array<fs::path, 2> candidates = {plain, compressed};
    if (names_gzip(path))
        std::swap(candidates[0], candidates[1]);
    std::error_code ignored;
    for (const auto& candidate : candidates)
        if (fs::exists(candidate, ignored))
            return candidate;
    return fail(ErrorCode::file_not_found, path,
                text("is one half of a .hdr/.img pair, but neither ", candidates[0].string(), " nor ",
                     candidates[1].string(), " exists"));
}

/// Where the header and the voxels are: the same file, or a pair.
struct Files {
    fs::path header;
    fs::path voxels;
    bool pair = false;
};

/// The voxel half of a pair is looked for only once the header has turned out to be NIfTI.
Result<Files> header_file(const fs::path& path) {
    const std::string suffix = suffix_of(path);
    if (suffix == ".nii")
        return Files{path, path, false};
    if (suffix == ".hdr")
        return Files{path, {}, true};
    if (suffix == ".img") {
        MFRES_TRY(fs::path header, partner(path, ".hdr"));
        return Files{std::move(header), path, true};
    }
    return fail(ErrorCode::invalid_argument, path, "does not end in .nii, .nii.gz, .hdr, .hdr.gz, .img or .img.gz");
}

// Bytes ----------------------------------------------------------------------------------------------------------

/// The uncompressed bytes of a file, front to back, whether or not it is gzip.
class ByteSource {
  public:
    static Result<ByteSource> open(const fs::path& path, std::uint64_t cap) {
        ByteSource source;
        MFRES_TRY(source.bytes_, read_file(path, cap, ErrorCode::nifti_too_large));
        if (names_gzip(path))
            source.gzip_.emplace(source.bytes_, path.string());
        return source;
    }

    bool compressed() const { return gzip_.has_value(); }
    std::uint64_t stored_bytes() const { return bytes_.size(); }

    /// The most bytes that can still come out of this file in total.
    std::uint64_t most_bytes() const {
        return compressed() ? bytes_.size() * GzipReader::max_expansion : bytes_.size();
    }

    /// Fills `output` as far as the file goes; a short count means the end, which for gzip has then been verified.
    Result<std::size_t> read(std::span<std::byte> output) {
        if (gzip_)
            return gzip_->read(output);
        const std::size_t count = std::min(output.size(), bytes_.size() - position_);
        std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(position_), count, output.begin());
        position_ += count;
        return count;
    }

    /// Passes over `count` bytes; returns how many there were.
    Result<std::uint64_t> skip(std::uint64_t count) {
        std::vector<std::byte> scratch(std::min<std::uint64_t>(count, chunk_bytes));
        std::uint64_t done = 0;
        while (done < count) {
            const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(count - done, scratch.size()));
            MFRES_TRY(const std::size_t got, read(std::span(scratch).first(wanted)));
            done += got;
            if (got < wanted)
                break;
        }
        return done;
    }

  private:
    ByteSource() = default;
    std::vector<std::byte> bytes_; // moving the vector leaves its bytes, which gzip_ points to, where they are
    std::optional<GzipReader> gzip_;
    std::size_t position_ = 0;
};

// Headers --------------------------------------------------------------------------------------------------------

/// The header fields that matter here, widened from either version, in this machine's byte order.
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

/// NIfTI-1 keeps the units in a char, NIfTI-2 in an int.
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

/// A header struct in this machine's byte order. Aligned, because nifti_clib's NIfTI-2 struct is packed.
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

/// What the first four bytes say: NIfTI version (0: neither) and whether the byte order is the other one.
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

/// Magic, its agreement with the kind of file, and both structs widened to one.
Result<Header> identify(std::span<const std::byte> bytes, const Files& files) {
    const fs::path& path = files.header;
    const auto [version, swapped] = signature_of(bytes);
    if (version == 0) {
        const bool zipped = bytes.size() > 1 && bytes[0] == std::byte{0x1F} && bytes[1] == std::byte{0x8B};
        return fail(ErrorCode::not_nifti, path,
                    zipped ? "is gzip-compressed although its name does not end in .gz"
                           : "is not a NIfTI file: its first four bytes are neither 348 nor 540");
    }
    const std::size_t header_bytes = version == 1 ? sizeof(nifti_1_header) : sizeof(nifti_2_header);
    if (bytes.size() < header_bytes)
        return fail(ErrorCode::nifti_truncated, path,
                    text("ends after ", bytes.size(), " bytes, within its ", header_bytes, "-byte NIfTI header"));

    const std::size_t magic_at = version == 1 ? offsetof(nifti_1_header, magic) : offsetof(nifti_2_header, magic);
    std::array<char, 8> magic{};
    std::memcpy(magic.data(), bytes.data() + magic_at, version == 1 ? 4 : 8);
    const std::string_view tag(magic.data(), 4);
    using namespace std::string_view_literals;
    const bool single = tag == (version == 1 ? "n+1\0"sv : "n+2\0"sv);
    if (!single && tag != (version == 1 ? "ni1\0"sv : "ni2\0"sv))
        return fail(ErrorCode::not_nifti, path,
                    version == 1 ? "has no NIfTI magic; it may be an ANALYZE 7.5 header, whose orientation is unknown"
                                 : "has the size of a NIfTI-2 header but not its magic");
    if (version == 2 && std::string_view(magic.data() + 4, 4) != "\r\n\032\n"sv)
        return fail(ErrorCode::nifti_header_invalid, path,
                    "has a NIfTI-2 magic with changed line ends, so it was damaged by a transfer in text mode");
    if (single == files.pair)
        return fail(ErrorCode::nifti_header_invalid, path,
                    single ? "says that voxels follow in the same file, but is named as the header of a pair"
                           : "says that its voxels are in an .img file, but is named as a single file");

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
        return fail(ErrorCode::nifti_dimensions, path, text("says it has ", axes, " dimensions; NIfTI allows 1 to 7"));
    for (std::int64_t axis = 1; axis <= axes; ++axis) {
        const auto extent = header.dim[static_cast<std::size_t>(axis)];
        if (extent <= 0 || (axis <= 3 && extent > largest_extent))
            return fail(ErrorCode::nifti_dimensions, path,
                        text("has ", extent, " voxels along dimension ", axis, " of ", extents(header), "; 1 to ",
                             largest_extent, " are allowed"));
    }
    for (std::int64_t axis = 4; axis <= axes; ++axis)
        if (header.dim[static_cast<std::size_t>(axis)] != 1)
            return fail(ErrorCode::nifti_not_3d, path, text("holds more than one volume: ", extents(header)));
    if (axes < 3 || std::min({header.dim[1], header.dim[2], header.dim[3]}) == 1)
        return fail(ErrorCode::nifti_not_3d, path, text("is not a three-dimensional volume: ", extents(header)));
    return {};
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

/// What stored values are multiplied by, and what is added then.
std::pair<double, double> scaling_of(double slope, double inter) {
    return is_scaled(slope) ? std::pair{slope, inter} : std::pair{1.0, 0.0};
}

Status check_fields(const Header& header, const fs::path& path) {
    const int bytes = bytes_per_voxel(header.datatype);
    if (bytes == 0) {
        const char* known = nifti_datatype_string(header.datatype);
        return fail(
            ErrorCode::nifti_datatype, path,
            text("stores voxels of datatype ", header.datatype, " (", known, "), which is no scalar intensity"));
    }
    if (header.bitpix != 8 * bytes)
        return fail(
            ErrorCode::nifti_header_invalid, path,
            text("says ", header.bitpix, " bits per voxel, but its datatype ", header.datatype, " has ", 8 * bytes));
    if (is_scaled(header.scl_slope) && (std::isinf(header.scl_slope) || !std::isfinite(header.scl_inter)))
        return fail(ErrorCode::nifti_header_invalid, path,
                    text("has scl_slope ", header.scl_slope, " and scl_inter ", header.scl_inter));
    const int spatial_unit = header.geometry.xyzt_units & 7;
    if (spatial_unit > 3)
        return fail(ErrorCode::nifti_header_invalid, path, text("has the undefined spatial unit ", spatial_unit));
    const double least = !header.single_file ? 0.0 : header.geometry.version == 1 ? 352.0 : 544.0;
    if (!(header.vox_offset >= least) || header.vox_offset != std::floor(header.vox_offset) ||
        header.vox_offset > 0x1p62)
        return fail(ErrorCode::nifti_header_invalid, path,
                    text("has vox_offset ", header.vox_offset, "; it must be a whole number of at least ", least));
    return {};
}

/// Byte counts of a checked header.
struct Layout {
    std::int64_t voxels = 0;
    std::int64_t offset = 0;
    std::int64_t total = 0; ///< of the file that holds the voxels
    int voxel_bytes = 0;
};

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
        return fail(ErrorCode::nifti_too_large, path,
                    text("promises ", extents(header), " voxels of ", layout.voxel_bytes, " bytes at offset ",
                         layout.offset, "; the file and the decoded voxels may take ", max_bytes, " bytes each"));
    layout.voxels = *voxels;
    layout.total = *total;
    return layout;
}

/// The format authority's own reading has to agree with ours. Called last: it relies on fields checked before.
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
        return fail(ErrorCode::nifti_header_invalid, path, "has a header that the NIfTI library reads differently");
    return {};
}

// Voxels ---------------------------------------------------------------------------------------------------------

/// Where a voxel is, for messages.
std::string position(std::int64_t index, const std::array<std::int64_t, 3>& size) {
    return text("(", index % size[0], ", ", index / size[0] % size[1], ", ", index / (size[0] * size[1]), ")");
}

/// Values that must not be there: how many, and the first.
struct Offenders {
    std::int64_t count = 0;
    std::int64_t nan = 0;
    std::size_t first = 0;
    double first_value = 0.0;

    void note(std::size_t index, double value) {
        if (count++ == 0) {
            first = index;
            first_value = value;
        }
        nan += std::isnan(value) ? 1 : 0;
    }
};

/// Turns stored values into intensities.
struct FloatSink {
    std::vector<float> values;
    Offenders not_finite;
    Offenders no_label; // stays empty

    void take(double value) {
        const auto intensity = static_cast<float>(value);
        if (!std::isfinite(intensity))
            not_finite.note(values.size(), value);
        values.push_back(intensity);
    }
};

/// Turns stored values into labels.
struct LabelSink {
    std::vector<std::uint8_t> values;
    Offenders not_finite;
    Offenders no_label;

    void take(double value) {
        const bool is_label = value >= 0.0 && value <= 255.0 && value == std::floor(value);
        if (!is_label)
            (std::isfinite(value) ? no_label : not_finite).note(values.size(), value);
        values.push_back(is_label ? static_cast<std::uint8_t>(value) : std::uint8_t{0});
    }
};

template <typename Stored, typename Sink>
void convert(std::span<const std::byte> bytes, double slope, double inter, Sink& sink) {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(Stored)) {
        Stored stored;
        std::memcpy(&stored, bytes.data() + at, sizeof stored);
        sink.take(static_cast<double>(stored) * slope + inter);
    }
}

template <typename Sink>
using Converter = void (*)(std::span<const std::byte>, double, double, Sink&);

template <typename Sink>
Converter<Sink> converter_for(NiftiDatatype datatype) {
    switch (datatype) {
    case NiftiDatatype::uint8: return convert<std::uint8_t, Sink>;
    case NiftiDatatype::int8: return convert<std::int8_t, Sink>;
    case NiftiDatatype::int16: return convert<std::int16_t, Sink>;
    case NiftiDatatype::uint16: return convert<std::uint16_t, Sink>;
    case NiftiDatatype::int32: return convert<std::int32_t, Sink>;
    case NiftiDatatype::uint32: return convert<std::uint32_t, Sink>;
    case NiftiDatatype::float32: return convert<float, Sink>;
    case NiftiDatatype::float64: return convert<double, Sink>;
    case NiftiDatatype::int64: return convert<std::int64_t, Sink>;
    case NiftiDatatype::uint64: return convert<std::uint64_t, Sink>;
    }
    return nullptr;
}

/// Values as they are stored, in the byte order of this machine.
template <typename T>
struct StoredSink {
    PageVector<T> values;
    Offenders not_finite;
    Offenders no_label; // stays empty

    void append(std::span<const std::byte> bytes) {
        const std::size_t before = values.size();
        values.resize(before + bytes.size() / sizeof(T));
        std::memcpy(values.data() + before, bytes.data(), bytes.size());
    }

    /// Integers are finite as floats unless the scaling carries the least or the greatest of them away.
    void check(double slope, double inter) {
        using Limits = std::numeric_limits<T>;
        const auto finite_as_float = [&](T stored) {
            return std::isfinite(static_cast<float>(static_cast<double>(stored) * slope + inter));
        };
        if (finite_as_float(Limits::lowest()) && finite_as_float(Limits::max()))
            return;
        for (std::size_t i = 0; i < values.size(); ++i)
            if (!finite_as_float(values[i]))
                not_finite.note(i, static_cast<double>(values[i]) * slope + inter);
    }
};

/// Reads exactly the promised voxels, and makes sure that nothing follows and that the gzip stream ends well.
template <typename Sink>
Status decode(ByteSource& source, const Header& header, const Layout& layout, const fs::path& path, Sink& sink) {
    const auto truncated = [&](std::uint64_t present) {
        return fail(ErrorCode::nifti_truncated, path,
                    text("ends after ", present, " of the ", layout.total, " bytes that its header promises for ",
                         extents(header), " voxels"));
    };
    const auto voxel_bytes = static_cast<std::uint64_t>(layout.voxel_bytes);
    const auto scaling = scaling_of(header.scl_slope, header.scl_inter);
    const auto take = [&](std::span<const std::byte> part) {
        if constexpr (requires { sink.append(part); })
            sink.append(part);
        else
            converter_for<Sink>(static_cast<NiftiDatatype>(header.datatype))(part, scaling.first, scaling.second, sink);
    };
    const bool swapped = layout.voxel_bytes > 1 && header.big_endian != (std::endian::native == std::endian::big);

    std::vector<std::byte> chunk(chunk_bytes);
    std::uint64_t left = static_cast<std::uint64_t>(layout.voxels) * voxel_bytes;
    std::uint64_t done = static_cast<std::uint64_t>(layout.total) - left;
    // A small file may promise a large volume; reserve no more than can come out of it.
    sink.values.reserve(static_cast<std::size_t>(
        std::min(static_cast<std::uint64_t>(layout.voxels), source.most_bytes() / voxel_bytes + 1)));
    while (left > 0) {
        const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left, chunk.size()));
        const std::span<std::byte> part = std::span(chunk).first(wanted);
        MFRES_TRY(const std::size_t got, source.read(part));
        if (got < wanted)
            return truncated(done + got);
        if (swapped)
            nifti_swap_Nbytes(static_cast<std::int64_t>(wanted / voxel_bytes), layout.voxel_bytes, part.data());
        take(part);
        left -= wanted;
        done += wanted;
    }
    MFRES_TRY(const std::size_t surplus, source.read(std::span(chunk).first(1)));
    if (surplus != 0)
        return fail(ErrorCode::nifti_trailing_bytes, path,
                    text("goes on after the ", layout.total, " bytes that its header promises"));
    if constexpr (requires { sink.check(1.0, 0.0); })
        sink.check(scaling.first, scaling.second);
    return {};
}

template <typename Sink>
Status check_values(const Sink& sink, const std::array<std::int64_t, 3>& size, const fs::path& path) {
    const auto place = [&](const Offenders& found) {
        return text(" of ", sink.values.size(), " voxels, the first at ",
                    position(static_cast<std::int64_t>(found.first), size));
    };
    if (const Offenders& bad = sink.not_finite; bad.count > 0)
        return fail(
            ErrorCode::voxel_not_finite, path,
            text("has NaN in ", bad.nan, " and infinite or too large values in ", bad.count - bad.nan, place(bad)));
    if (const Offenders& bad = sink.no_label; bad.count > 0)
        return fail(
            ErrorCode::label_outside_scheme, path,
            text("holds no label from 0 to 255 in ", bad.count, place(bad), ", where the value is ", bad.first_value));
    return {};
}

/// Everything about a file except its voxels.
struct Described {
    Grid grid;
    NiftiGeometry geometry;
    NiftiStorage storage;
};

/// The raw bytes of a header of either version, without touching what follows it.
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

/// Leaves the header half of a pair, read to its end so that a .hdr.gz has been verified, and opens the other half.
Status open_voxels(ByteSource& source, Files& files, std::uint64_t max_bytes) {
    MFRES_TRY(const std::uint64_t rest, source.skip(max_bytes));
    if (rest == max_bytes)
        return fail(ErrorCode::nifti_too_large, files.header,
                    text("has more than the ", max_bytes, " bytes allowed for a header"));
    if (files.voxels.empty()) {
        MFRES_TRY(files.voxels, partner(files.header, ".img"));
    }
    MFRES_TRY(source, ByteSource::open(files.voxels, max_bytes));
    return {};
}

/// A file whose header has been accepted, with everything before its voxels passed over.
struct OpenFile {
    ByteSource source;
    Files files;
    Header header;
    Layout layout;
    Described described;
};

/// `decoded_bytes`: of a voxel in memory, for the cap.
Result<OpenFile> open_file(const fs::path& path, const NiftiReadOptions& options, std::size_t decoded_bytes) {
    MFRES_TRY(Files files, header_file(path));
    MFRES_TRY(ByteSource source, ByteSource::open(files.header, options.max_bytes));
    MFRES_TRY(const auto header_bytes, read_header(source));
    MFRES_TRY(const Header header, identify(header_bytes, files));
    MFRES_CHECK(check_dimensions(header, files.header));
    MFRES_CHECK(check_fields(header, files.header));
    MFRES_TRY(const Layout layout, layout_of(header, options.max_bytes, decoded_bytes, files.header));
    MFRES_CHECK(confirm_with_nifti_clib(header_bytes, header, layout, files.header));

    Described described;
    described.grid.size = {header.dim[1], header.dim[2], header.dim[3]};
    described.geometry = header.geometry;
    MFRES_TRY(described.grid.affine,
              affine_of(header.geometry, described.grid.size, options.use, files.header.string()));

    auto consumed = static_cast<std::int64_t>(header_bytes.size());
    if (files.pair) {
        MFRES_CHECK(open_voxels(source, files, options.max_bytes));
        consumed = 0;
    }
    described.storage = {static_cast<NiftiDatatype>(header.datatype),
                         header.scl_slope,
                         header.scl_inter,
                         layout.offset,
                         header.big_endian,
                         source.compressed()};
    const auto gap = static_cast<std::uint64_t>(layout.offset - consumed);
    MFRES_TRY(const std::uint64_t skipped, source.skip(gap));
    if (skipped < gap)
        return fail(ErrorCode::nifti_truncated, files.voxels,
                    text("ends before byte ", layout.offset, ", where its voxels should begin"));
    return OpenFile{std::move(source), std::move(files), header, layout, described};
}

template <typename Sink>
Status read_voxels(OpenFile& file, Sink& sink) {
    MFRES_CHECK(decode(file.source, file.header, file.layout, file.files.voxels, sink));
    return check_values(sink, file.described.grid.size, file.files.voxels);
}

/// The whole way from a path to values in `sink`.
template <typename Sink>
Result<Described> read_into(const fs::path& path, const NiftiReadOptions& options, Sink& sink) {
    MFRES_TRY(OpenFile file, open_file(path, options, sizeof(typename decltype(sink.values)::value_type)));
    MFRES_CHECK(read_voxels(file, sink));
    return file.described;
}

template <typename T>
Result<NiftiCompactVolume> read_stored(OpenFile& file) {
    StoredSink<T> sink;
    MFRES_CHECK(read_voxels(file, sink));
    const auto [slope, inter] = scaling_of(file.header.scl_slope, file.header.scl_inter);
    const Described& described = file.described;
    return NiftiCompactVolume{CompactVolume(described.grid, std::move(sink.values), slope, inter), described.geometry,
                              described.storage};
}

Error out_of_memory(const fs::path& path) {
    return fail(ErrorCode::memory_limit, path, "does not fit into memory");
}

// Writing --------------------------------------------------------------------------------------------------------

/// Fills the fields both versions share.
template <typename Raw>
void describe(Raw& raw, const NiftiGeometry& geometry, std::string_view description) {
    using Real = std::remove_all_extents_t<decltype(raw.pixdim)>; // float in NIfTI-1, double in NIfTI-2
    for (std::size_t i = 0; i < 8; ++i)
        raw.pixdim[i] = static_cast<Real>(geometry.pixdim[i]);
    raw.quatern_b = static_cast<Real>(geometry.quatern[0]);
    raw.quatern_c = static_cast<Real>(geometry.quatern[1]);
    raw.quatern_d = static_cast<Real>(geometry.quatern[2]);
    raw.qoffset_x = static_cast<Real>(geometry.qoffset[0]);
    raw.qoffset_y = static_cast<Real>(geometry.qoffset[1]);
    raw.qoffset_z = static_cast<Real>(geometry.qoffset[2]);
    for (std::size_t i = 0; i < 4; ++i) {
        raw.srow_x[i] = static_cast<Real>(geometry.srow[0][i]);
        raw.srow_y[i] = static_cast<Real>(geometry.srow[1][i]);
        raw.srow_z[i] = static_cast<Real>(geometry.srow[2][i]);
    }
    raw.qform_code = static_cast<decltype(raw.qform_code)>(geometry.qform_code);
    raw.sform_code = static_cast<decltype(raw.sform_code)>(geometry.sform_code);
    raw.xyzt_units = static_cast<decltype(raw.xyzt_units)>(geometry.xyzt_units);
    const std::size_t length = std::min(description.size(), sizeof raw.descrip - 1);
    std::memset(raw.descrip, 0, sizeof raw.descrip);
    std::memcpy(raw.descrip, description.data(), length);
}

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

/// The header and the four bytes that say "no extensions"; empty if nifti_clib had no memory.
template <typename Raw>
std::vector<std::byte> header_bytes(Raw* made, const NiftiGeometry& geometry, std::string_view description,
                                    double slope) {
    const std::unique_ptr<Raw, Free> raw(made);
    if (!raw)
        return {};
    describe(*raw, geometry, description);
    raw->scl_slope = static_cast<decltype(raw->scl_slope)>(slope);
    raw->vox_offset = sizeof(Raw) + 4;
    std::vector<std::byte> bytes(sizeof(Raw) + 4);
    std::memcpy(bytes.data(), raw.get(), sizeof(Raw));
    return bytes;
}

/// What a file holds, in its stored form.
struct Content {
    std::array<std::int64_t, 3> size{};
    std::int64_t volumes = 1; ///< along a fourth axis, where there is more than one
    NiftiDatatype datatype = NiftiDatatype::float32;
    double slope = 0.0; ///< 0 = no scaling
    std::span<const std::byte> voxels;
};

std::vector<std::byte> new_header(const Content& content, const NiftiGeometry& geometry, std::string_view description) {
    silence_nifti_clib();
    const auto& size = content.size;
    const std::array<std::int64_t, 8> dim = {
        content.volumes > 1 ? 4 : 3, size[0], size[1], size[2], content.volumes, 1, 1, 1};
    const int code = static_cast<int>(content.datatype);
    return geometry.version == 2
               ? header_bytes(nifti_make_new_n2_header(dim.data(), code), geometry, description, content.slope)
               : header_bytes(nifti_make_new_n1_header(dim.data(), code), geometry, description, content.slope);
}

/// Header and voxels as the file's bytes.
Result<std::vector<std::byte>> encode_volume(const fs::path& path, const Content& content,
                                             const NiftiGeometry& geometry, std::string_view description) {
    if (geometry.version != 1 && geometry.version != 2)
        return fail(ErrorCode::invalid_argument, path, text("cannot be written as NIfTI version ", geometry.version));
    std::vector<std::byte> bytes = new_header(content, geometry, description);
    if (bytes.empty())
        return out_of_memory(path);
    bytes.insert(bytes.end(), content.voxels.begin(), content.voxels.end());
    if (!names_gzip(path))
        return bytes;
    return gzip(bytes);
}

Status write_encoded(const fs::path& path, const Result<std::vector<std::byte>>& bytes, bool overwrite) {
    return bytes ? write_file_atomically(path, *bytes, overwrite) : Status(bytes.error());
}

Status check_writable(const fs::path& path, const Grid& grid, std::size_t voxels) {
    if (suffix_of(path) != ".nii")
        return fail(ErrorCode::invalid_argument, path, "cannot be written: its name must end in .nii or .nii.gz");
    const bool sizes_allowed = std::all_of(grid.size.begin(), grid.size.end(),
                                           [](std::int64_t extent) { return extent >= 1 && extent <= largest_extent; });
    if (!sizes_allowed || static_cast<std::uint64_t>(grid.voxels()) != voxels)
        return fail(ErrorCode::invalid_argument, path,
                    text("cannot be written: ", voxels, " voxels do not make a grid of ", grid.size[0], "x",
                         grid.size[1], "x", grid.size[2], " with 1 to ", largest_extent, " along each axis"));
    return {};
}

Result<std::vector<std::int16_t>> rounded(const Volume& volume, const fs::path& path) {
    std::vector<std::int16_t> result;
    result.reserve(volume.voxels.size());
    for (const float value : volume.voxels) {
        const float whole = std::nearbyint(value);
        if (!(whole >= -32768.0F && whole <= 32767.0F))
            return fail(ErrorCode::invalid_argument, path,
                        text("cannot be written as int16: voxel ",
                             position(static_cast<std::int64_t>(result.size()), volume.grid.size), " is ", value));
        result.push_back(static_cast<std::int16_t>(whole));
    }
    return result;
}

// Affines --------------------------------------------------------------------------------------------------------

/// Millimetres per unit of the header.
double unit_mm(int xyzt_units) {
    switch (xyzt_units & 7) {
    case NIFTI_UNITS_METER: return 1000.0;
    case NIFTI_UNITS_MICRON: return 0.001;
    default: return 1.0;
    }
}

bool finite(std::span<const double> values) {
    return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

std::string numbers(std::span<const double> values) {
    std::string result;
    for (const double value : values)
        result += text(result.empty() ? "" : ", ", value);
    return result;
}

Result<Affine> affine_of_qform(const NiftiGeometry& geometry, const std::string& where) {
    const std::span<const double> pixdim = std::span(geometry.pixdim).first(4);
    if (!finite(pixdim) || std::any_of(pixdim.begin() + 1, pixdim.end(), [](double mm) { return mm <= 0.0; }))
        return fail(ErrorCode::nifti_header_invalid, where,
                    text("has a qform with pixdim ", numbers(pixdim), "; voxel sizes must be positive"));
    const auto& [b, c, d] = geometry.quatern;
    constexpr double rounding = 1e-5;
    if (!finite(geometry.quatern) || !finite(geometry.qoffset) || b * b + c * c + d * d > 1.0 + rounding)
        return fail(ErrorCode::nifti_header_invalid, where,
                    text("has a qform with the quaternion ", numbers(geometry.quatern), " and the offset ",
                         numbers(geometry.qoffset), "; it is no rotation"));
    const auto& offset = geometry.qoffset;
    const nifti_dmat44 matrix = nifti_quatern_to_dmat44(b, c, d, offset[0], offset[1], offset[2], pixdim[1], pixdim[2],
                                                        pixdim[3], pixdim[0] < 0.0 ? -1.0 : 1.0);
    Affine affine{};
    for (int row = 0; row < 3; ++row)
        std::copy_n(matrix.m[row], 4, affine[row].begin());
    return affine;
}

Result<Affine> affine_of_sform(const NiftiGeometry& geometry, const std::string& where) {
    for (const auto& row : geometry.srow)
        if (!finite(row))
            return fail(ErrorCode::nifti_header_invalid, where, text("has an sform row of ", numbers(row)));
    return geometry.srow;
}

/// The affine chosen, in the header's own unit.
Result<Affine> chosen_affine(const NiftiGeometry& geometry, const std::array<std::int64_t, 3>& size, AffineSource use,
                             const std::string& where) {
    const bool has_qform = geometry.qform_code > 0;
    const bool has_sform = geometry.sform_code > 0;
    const bool missing = use == AffineSource::sform   ? !has_sform
                         : use == AffineSource::qform ? !has_qform
                                                      : !has_sform && !has_qform;
    if (missing)
        return fail(ErrorCode::orientation_missing, where,
                    text("does not say where its voxels lie: qform_code ", geometry.qform_code, ", sform_code ",
                         geometry.sform_code,
                         use == AffineSource::sform   ? ", and the sform was asked for"
                         : use == AffineSource::qform ? ", and the qform was asked for"
                                                      : ""));
    if (use == AffineSource::qform || !has_sform)
        return affine_of_qform(geometry, where);
    MFRES_TRY(const Affine sform, affine_of_sform(geometry, where));
    if (use == AffineSource::automatic && has_qform) {
        MFRES_TRY(const Affine qform, affine_of_qform(geometry, where));
        const double mm = unit_mm(geometry.xyzt_units) * max_corner_distance({size, sform}, {size, qform});
        if (!(mm <= disagreement_limit_mm))
            return fail(ErrorCode::qform_sform_disagree, where,
                        text("has a qform and an sform that put a corner ", mm, " mm apart (limit ",
                             disagreement_limit_mm, "); say which one holds"));
    }
    return sform;
}

} // namespace

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

Result<NiftiVolume> read_nifti(const fs::path& path, const NiftiReadOptions& options) {
    try {
        FloatSink sink;
        MFRES_TRY(Described described, read_into(path, options, sink));
        return NiftiVolume{{described.grid, std::move(sink.values)}, described.geometry, described.storage};
    } catch (const std::bad_alloc&) {
        return out_of_memory(path);
    }
}

Result<NiftiCompactVolume> read_nifti_scan(const fs::path& path, const NiftiReadOptions& options) {
    try {
        MFRES_TRY(OpenFile file, open_file(path, options, sizeof(float)));
        switch (file.described.storage.datatype) {
        case NiftiDatatype::uint8: return read_stored<std::uint8_t>(file);
        case NiftiDatatype::int16: return read_stored<std::int16_t>(file);
        case NiftiDatatype::uint16: return read_stored<std::uint16_t>(file);
        case NiftiDatatype::int8:
        case NiftiDatatype::int32:
        case NiftiDatatype::uint32:
        case NiftiDatatype::float32:
        case NiftiDatatype::float64:
        case NiftiDatatype::int64:
        case NiftiDatatype::uint64: break;
        }
        FloatSink sink;
        MFRES_CHECK(read_voxels(file, sink));
        const Described& described = file.described;
        MFRES_TRY(CompactVolume scan, make_scan({described.grid, std::move(sink.values)}));
        return NiftiCompactVolume{std::move(scan), described.geometry, described.storage};
    } catch (const std::bad_alloc&) {
        return out_of_memory(path);
    }
}

Result<NiftiLabels> read_nifti_labels(const fs::path& path, const NiftiReadOptions& options) {
    try {
        LabelSink sink;
        MFRES_TRY(Described described, read_into(path, options, sink));
        return NiftiLabels{{described.grid, std::move(sink.values)}, described.geometry, described.storage};
    } catch (const std::bad_alloc&) {
        return out_of_memory(path);
    }
}

Status write_nifti(const fs::path& path, const Volume& volume, const NiftiGeometry& geometry, NiftiDatatype datatype,
                   std::string_view description, bool overwrite) {
    try {
        MFRES_CHECK(check_writable(path, volume.grid, volume.voxels.size()));
        if (datatype == NiftiDatatype::float32)
            return write_encoded(
                path,
                encode_volume(path, {volume.grid.size, 1, datatype, 0.0, std::as_bytes(std::span(volume.voxels))},
                              geometry, description),
                overwrite);
        if (datatype != NiftiDatatype::int16)
            return fail(ErrorCode::invalid_argument, path,
                        text("cannot be written as ", name(datatype), "; volumes are written as int16 or float32"));
        MFRES_TRY(const auto voxels, rounded(volume, path));
        return write_encoded(path,
                             encode_volume(path, {volume.grid.size, 1, datatype, 0.0, std::as_bytes(std::span(voxels))},
                                           geometry, description),
                             overwrite);
    } catch (const std::bad_alloc&) {
        return out_of_memory(path);
    }
}

Result<std::vector<std::byte>> encode_nifti_labels(const fs::path& path, const LabelMap& labels,
                                                   const NiftiGeometry& geometry, std::string_view description) {
    try {
        MFRES_CHECK(check_writable(path, labels.grid, labels.labels.size()));
        return encode_volume(path,
                             {labels.grid.size, 1, NiftiDatatype::uint8, 0.0, std::as_bytes(std::span(labels.labels))},
                             geometry, description);
    } catch (const std::bad_alloc&) {
        return out_of_memory(path);
    }
}

Result<std::vector<std::byte>> encode_nifti_probabilities(const fs::path& path, const ProbabilityMap& probabilities,
                                                          bool as_uint8, const NiftiGeometry& geometry,
                                                          std::string_view description) {
    try {
        const std::size_t classes = static_cast<std::size_t>(std::max<std::int64_t>(1, probabilities.classes));
        MFRES_CHECK(check_writable(path, probabilities.grid, probabilities.values.size() / classes));
        Content content{probabilities.grid.size, probabilities.classes, NiftiDatatype::float32, 0.0, {}};
        if (as_uint8) {
            std::vector<std::uint8_t> bytes(probabilities.values.size());
            std::transform(probabilities.values.begin(), probabilities.values.end(), bytes.begin(), [](float value) {
                return static_cast<std::uint8_t>(std::lround(255.0F * std::clamp(value, 0.0F, 1.0F)));
            });
            content.datatype = NiftiDatatype::uint8;
            content.slope = 1.0 / 255.0;
            content.voxels = std::as_bytes(std::span(bytes));
            return encode_volume(path, content, geometry, description);
        }
        std::vector<float> rounded_values(probabilities.values.size());
        std::transform(probabilities.values.begin(), probabilities.values.end(), rounded_values.begin(),
                       [](float value) { return f16_to_f32(f32_to_f16(value)); });
        content.voxels = std::as_bytes(std::span(rounded_values));
        return encode_volume(path, content, geometry, description);
    } catch (const std::bad_alloc&) {
        return out_of_memory(path);
    }
}

Status write_nifti_labels(const fs::path& path, const LabelMap& labels, const NiftiGeometry& geometry,
                          std::string_view description, bool overwrite) {
    return write_encoded(path, encode_nifti_labels(path, labels, geometry, description), overwrite);
}

NiftiGeometry geometry_of(const Grid& grid) {
    const auto as_stored = [](double value) { return static_cast<double>(static_cast<float>(value)); };
    nifti_dmat44 matrix{};
    matrix.m[3][3] = 1.0;
    NiftiGeometry geometry;
    for (int row = 0; row < 3; ++row)
        for (int axis = 0; axis < 4; ++axis) {
            geometry.srow[row][axis] = as_stored(grid.affine[row][axis]);
            matrix.m[row][axis] = grid.affine[row][axis];
        }
    auto& q = geometry.quatern;
    auto& offset = geometry.qoffset;
    auto& pixdim = geometry.pixdim;
    nifti_dmat44_to_quatern(matrix, &q[0], &q[1], &q[2], &offset[0], &offset[1], &offset[2], &pixdim[1], &pixdim[2],
                            &pixdim[3], &pixdim[0]);
    std::fill(pixdim.begin() + 4, pixdim.end(), 1.0);
    std::transform(q.begin(), q.end(), q.begin(), as_stored);
    std::transform(offset.begin(), offset.end(), offset.begin(), as_stored);
    std::transform(pixdim.begin(), pixdim.end(), pixdim.begin(), as_stored);
    geometry.qform_code = NIFTI_XFORM_SCANNER_ANAT;
    geometry.sform_code = NIFTI_XFORM_SCANNER_ANAT;
    geometry.xyzt_units = NIFTI_UNITS_MM;
    return geometry;
}

Result<Affine> affine_of(const NiftiGeometry& geometry, const std::array<std::int64_t, 3>& size, AffineSource use,
                         const std::string& where) {
    MFRES_TRY(Affine affine, chosen_affine(geometry, size, use, where));
    for (auto& row : affine)
        for (double& value : row)
            value *= unit_mm(geometry.xyzt_units);
    if (!inverse(affine))
        return fail(ErrorCode::affine_singular, where,
                    text("has an affine without inverse: rows ", numbers(affine[0]), "; ", numbers(affine[1]), "; ",
                         numbers(affine[2])));
    if (const double degrees = shear_degrees(affine); degrees > shear_limit_degrees)
        return fail(
            ErrorCode::affine_sheared, where,
            text("has axes that are ", degrees, " degrees away from right angles (limit ", shear_limit_degrees, ")"));
    return affine;
}

Result<AffineSource> affine_source(std::string_view source_name) {
    if (source_name == "auto")
        return AffineSource::automatic;
    if (source_name == "sform")
        return AffineSource::sform;
    if (source_name == "qform")
        return AffineSource::qform;
    return Error{ErrorCode::invalid_argument, text("'", source_name, "' is no affine; write auto, sform or qform"),
                 std::string(source_name)};
}

} // namespace mfres
