// SPDX-License-Identifier: MIT
#include "imaging/nifti/voxels.h"

#include "core/guard.h"
#include "core/try.h"
#include "imaging/slice_stack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <nifti2_io.h>
#include <span>
#include <utility>
#include <vector>

namespace mfres {

namespace fs = std::filesystem;

namespace nifti {

namespace {

/// Values that are not allowed: how many, and the first one.
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

/// Converts stored values to intensities.
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
    void reserve(std::size_t voxels) { values.reserve(voxels); }
    std::size_t count() const { return values.size(); }
};

/// Converts stored values to intensities, into memory that is there.
struct SliceSink {
    std::span<float> values;
    std::size_t taken = 0;

    void take(double value) { values[taken++] = static_cast<float>(value); }
};

/// Converts stored values to labels.
struct LabelSink {
    std::vector<std::uint8_t> values;
    double tolerance = 0.0; ///< how far from a whole number a label may lie
    Offenders not_finite;
    Offenders no_label;

    void take(double value) {
        const double whole = std::round(value);
        const bool is_label = whole >= 0.0 && whole <= 255.0 && std::abs(value - whole) <= tolerance;
        if (!is_label)
            (std::isfinite(value) ? no_label : not_finite).note(values.size(), value);
        values.push_back(is_label ? static_cast<std::uint8_t>(whole) : std::uint8_t{0});
    }

    /// Whole numbers that were stored through a slope come back within half a step of it. The limit keeps labels that a
    /// resampling has mixed from passing as whole ones: 4/255, the step of labels in bytes, needs 0.008.
    void expect_scaling(double slope, double inter) {
        constexpr double most = 0.01;
        constexpr double half_step = 0.50001; // a slope is rounded to float itself
        if (slope != 1.0 || inter != 0.0)
            tolerance = std::min(half_step * std::abs(slope), most);
    }
    void reserve(std::size_t voxels) { values.reserve(voxels); }
    std::size_t count() const { return values.size(); }
};

/// Converts stored values to intensities and keeps those that differ from the background.
struct FloatStackSink {
    SliceStack<float> stack;
    std::vector<float> part = {};
    Offenders not_finite = {};
    Offenders no_label = {}; // stays empty

    void take(double value) {
        const auto intensity = static_cast<float>(value);
        if (!std::isfinite(intensity))
            not_finite.note(count() + part.size(), value);
        part.push_back(intensity);
    }
    void end_part() {
        stack.append(part);
        part.clear();
    }
    void reserve(std::size_t) const {} // the stack has done so
    std::size_t count() const { return static_cast<std::size_t>(stack.count()); }
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

/// Keeps values that differ from the background in the type they are stored in, in the byte order of this machine.
template <typename T>
class StoredSink {
  public:
    StoredSink(SliceStack<T> empty, double slope, double inter)
        : stack(std::move(empty)), slope_(slope), inter_(inter) {}

    SliceStack<T> stack;
    Offenders not_finite;
    Offenders no_label; // stays empty

    /// Where the next voxels are read to, and how many bytes of them have been.
    std::span<std::byte> room() { return std::as_writable_bytes(stack.room()); }
    void took(std::size_t bytes) {
        const std::span<const T> part = stack.room().first(bytes / sizeof(T));
        if (!always_finite_)
            for (std::size_t i = 0; i < part.size(); ++i)
                if (!finite_as_float(part[i]))
                    not_finite.note(count() + i, static_cast<double>(part[i]) * slope_ + inter_);
        stack.took(part.size());
    }
    void reserve(std::size_t) const {} // the stack has done so
    std::size_t count() const { return static_cast<std::size_t>(stack.count()); }

  private:
    bool finite_as_float(T stored) const {
        return std::isfinite(static_cast<float>(static_cast<double>(stored) * slope_ + inter_));
    }
    double slope_;
    double inter_;
    /// Scaled integers are finite floats if the scaled least and greatest values of the type are.
    bool always_finite_ =
        finite_as_float(std::numeric_limits<T>::lowest()) && finite_as_float(std::numeric_limits<T>::max());
};

/// Whether a sink takes voxels as they are stored, so that they are read to where it keeps them.
template <typename Sink>
constexpr bool takes_stored = requires(Sink sink) {
    sink.room();
};

/// Voxels of a file that memory is reserved for. A small file may declare a large volume; this is no more than the file
/// can contain.
std::size_t voxels_to_expect(const ByteSource& source, const Layout& layout) {
    return static_cast<std::size_t>(std::min(static_cast<std::uint64_t>(layout.voxels),
                                             source.most_bytes() / static_cast<std::uint64_t>(layout.voxel_bytes) + 1));
}

void to_native_order(std::span<std::byte> voxels, const Header& header, const Layout& layout) {
    if (layout.voxel_bytes > 1 && header.big_endian != (std::endian::native == std::endian::big))
        nifti_swap_Nbytes(std::ssize(voxels) / layout.voxel_bytes, layout.voxel_bytes, voxels.data());
}

/// Reads exactly the voxels that the header declares, and checks that the file ends there and, if compressed, is
/// intact.
template <typename Sink>
Status decode(ByteSource& source, const Header& header, const Layout& layout, const fs::path& path, Sink& sink) {
    const auto truncated = [&](std::uint64_t present) {
        return file_error(ErrorCode::nifti_truncated, path,
                          text("ends after ", present, " of the ", layout.total, " bytes that its header declares for ",
                               extents(header), " voxels"));
    };
    const auto trailing = [&] {
        return file_error(ErrorCode::nifti_trailing_bytes, path,
                          text("continues after the ", layout.total, " bytes that its header declares"));
    };
    const auto voxel_bytes = static_cast<std::uint64_t>(layout.voxel_bytes);
    const auto scaling = scaling_of(header);
    if constexpr (requires { sink.expect_scaling(1.0, 0.0); })
        sink.expect_scaling(scaling.first, scaling.second);
    const auto take = [&](std::span<const std::byte> part) {
        if constexpr (takes_stored<Sink>)
            sink.took(part.size());
        else
            converter_for<Sink>(static_cast<NiftiDatatype>(header.datatype))(part, scaling.first, scaling.second, sink);
        if constexpr (requires { sink.end_part(); })
            sink.end_part();
    };

    // What the size of the file tells is judged before it is read.
    const auto total = static_cast<std::uint64_t>(layout.total);
    if (!source.compressed() && source.most_bytes() < total)
        return truncated(source.most_bytes());
    if (!source.compressed() && source.most_bytes() > total)
        return trailing();
    if (source.most_bytes() < total)
        return file_error(ErrorCode::nifti_truncated, path,
                          text("cannot hold the ", total, " bytes that its header declares for ", extents(header),
                               " voxels, even if they compress as well as gzip can"));

    std::vector<std::byte> chunk(takes_stored<Sink> ? 1 : chunk_bytes);
    const auto room = [&]() -> std::span<std::byte> {
        if constexpr (takes_stored<Sink>)
            return sink.room();
        else
            return chunk;
    };
    std::uint64_t left = static_cast<std::uint64_t>(layout.voxels) * voxel_bytes;
    std::uint64_t done = static_cast<std::uint64_t>(layout.total) - left;
    sink.reserve(voxels_to_expect(source, layout));
    while (left > 0) {
        const std::span<std::byte> there = room();
        const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left, there.size()));
        const std::span<std::byte> part = there.first(wanted);
        MFRES_TRY(const std::size_t got, source.read(part));
        if (got < wanted)
            return truncated(done + got);
        to_native_order(part, header, layout);
        take(part);
        left -= wanted;
        done += wanted;
    }
    MFRES_TRY(const std::size_t surplus, source.read(std::span(chunk).first(1)));
    if (surplus != 0)
        return trailing();
    return {};
}

template <typename Sink>
Status check_values(const Sink& sink, const std::array<std::int64_t, 3>& size, const fs::path& path) {
    const auto place = [&](const Offenders& found) {
        return text(" of ", sink.count(), " voxels, the first at ",
                    position(static_cast<std::int64_t>(found.first), size));
    };
    if (const Offenders& bad = sink.not_finite; bad.count > 0)
        return file_error(
            ErrorCode::voxel_not_finite, path,
            text("has NaN in ", bad.nan, " and infinite or too large values in ", bad.count - bad.nan, place(bad),
                 "; where they mark what is outside the brain, make them 0, in Python: numpy.nan_to_num"));
    if (const Offenders& bad = sink.no_label; bad.count > 0)
        return file_error(
            ErrorCode::label_outside_scheme, path,
            text("holds no label from 0 to 255 in ", bad.count, place(bad), ", where the value is ", bad.first_value));
    return {};
}

/// Reads the header file of a pair to its end, which verifies a .hdr.gz, and opens the voxel file.
Status open_voxels(ByteSource& source, Files& files, std::uint64_t max_bytes) {
    MFRES_TRY(const std::uint64_t rest, source.skip(max_bytes));
    if (rest == max_bytes)
        return file_error(ErrorCode::nifti_too_large, files.header,
                          text("has more than the ", max_bytes, " bytes allowed for a header"));
    if (files.voxels.empty()) {
        MFRES_TRY(files.voxels, partner(files.header, ".img"));
    }
    MFRES_TRY(source, ByteSource::open(files.voxels, max_bytes));
    return {};
}

template <typename Sink>
Status read_voxels(OpenFile& file, Sink& sink) {
    MFRES_CHECK(decode(file.source, file.header, file.layout, file.files.voxels, sink));
    return check_values(sink, file.description.grid.size, file.files.voxels);
}

/// Reads the file at `path` into `sink`.
template <typename Sink>
Result<Description> read_into(const fs::path& path, const NiftiReadOptions& options, Sink& sink) {
    MFRES_TRY(OpenFile file, open_file(path, options, sizeof(typename decltype(sink.values)::value_type)));
    MFRES_CHECK(read_voxels(file, sink));
    return file.description;
}

NiftiCompactVolume described(const OpenFile& file, CompactVolume scan) {
    return {std::move(scan), file.description.geometry, file.description.storage,
            static_cast<std::int64_t>(file.source.inflated_bytes())};
}

template <typename T>
SliceStack<T> empty_stack(const OpenFile& file, double slope, double inter, std::int64_t most_bytes) {
    return {file.description.grid, slope, inter, voxels_to_expect(file.source, file.layout), most_bytes};
}

template <typename T>
Result<NiftiCompactVolume> read_stored(OpenFile& file, std::int64_t most_bytes) {
    const auto [slope, inter] = scaling_of(file.header);
    StoredSink<T> sink(empty_stack<T>(file, slope, inter, most_bytes), slope, inter);
    MFRES_CHECK(read_voxels(file, sink));
    return described(file, std::move(sink.stack).finish());
}

Result<NiftiCompactVolume> read_converted(OpenFile& file, std::int64_t most_bytes) {
    FloatStackSink sink{empty_stack<float>(file, 1.0, 0.0, most_bytes)};
    MFRES_CHECK(read_voxels(file, sink));
    return described(file, std::move(sink.stack).finish());
}

} // namespace

std::string position(std::int64_t index, const std::array<std::int64_t, 3>& size) {
    return text("(", index % size[0], ", ", index / size[0] % size[1], ", ", index / (size[0] * size[1]), ")");
}

Result<OpenFile> open_file(const fs::path& path, const NiftiReadOptions& options, std::size_t decoded_bytes) {
    MFRES_TRY(Files files, files_of(path));
    MFRES_TRY(ByteSource source, ByteSource::open(files.header, options.max_bytes));
    MFRES_TRY(const auto header_bytes, read_header(source));
    MFRES_TRY(const Header header, parse_header(header_bytes, files));
    MFRES_CHECK(check_dimensions(header, files.header));
    MFRES_CHECK(check_fields(header, files.header));
    MFRES_TRY(const Layout layout, layout_of(header, options.max_bytes, decoded_bytes, files.header));
    MFRES_CHECK(confirm_with_nifti_clib(header_bytes, header, layout, files.header));

    Description description;
    description.grid.size = {header.dim[1], header.dim[2], header.dim[3]};
    description.geometry = header.geometry;
    MFRES_TRY(description.grid.affine,
              affine_of(header.geometry, description.grid.size, options.use, files.header.string()));

    auto consumed = static_cast<std::int64_t>(header_bytes.size());
    if (files.pair) {
        MFRES_CHECK(open_voxels(source, files, options.max_bytes));
        consumed = 0;
    }
    description.storage = {static_cast<NiftiDatatype>(header.datatype),
                           header.scl_slope,
                           header.scl_inter,
                           layout.offset,
                           header.big_endian,
                           source.compressed()};
    const auto gap = static_cast<std::uint64_t>(layout.offset - consumed);
    MFRES_TRY(const std::uint64_t skipped, source.skip(gap));
    if (skipped < gap)
        return file_error(ErrorCode::nifti_truncated, files.voxels,
                          text("ends before byte ", layout.offset, ", where its voxels should begin"));
    return OpenFile{std::move(source), std::move(files), header, layout, description};
}

Result<SliceReader> SliceReader::open(const fs::path& path, const NiftiReadOptions& options) {
    MFRES_TRY(OpenFile file, open_file(path, options, sizeof(float)));
    return SliceReader(std::move(file));
}

Status SliceReader::read(std::int64_t k, std::span<float> slice) {
    const auto voxel_bytes = static_cast<std::size_t>(file_.layout.voxel_bytes);
    std::vector<std::byte> stored(slice.size() * voxel_bytes);
    const std::uint64_t gap = static_cast<std::uint64_t>(k - next_) * stored.size();
    MFRES_TRY(const std::uint64_t skipped, file_.source.skip(gap));
    MFRES_TRY(const std::size_t got, file_.source.read(stored));
    next_ = k + 1;
    if (skipped < gap || got < stored.size())
        return file_error(ErrorCode::nifti_truncated, file_.files.voxels,
                          text("has become shorter since it was read first: it ends before slice ", k + 1));
    to_native_order(stored, file_.header, file_.layout);
    const auto [slope, inter] = scaling_of(file_.header);
    SliceSink sink{slice};
    converter_for<SliceSink>(file_.description.storage.datatype)(stored, slope, inter, sink);
    return {};
}

} // namespace nifti

using nifti::FloatSink;
using nifti::LabelSink;
using nifti::OpenFile;

Result<NiftiVolume> read_nifti(const fs::path& path, const NiftiReadOptions& options) {
    return guarded(path, [&]() -> Result<NiftiVolume> {
        FloatSink sink;
        MFRES_TRY(nifti::Description description, nifti::read_into(path, options, sink));
        return NiftiVolume{{description.grid, std::move(sink.values)}, description.geometry, description.storage};
    });
}

Result<NiftiCompactVolume> read_nifti_scan(const fs::path& path, const NiftiReadOptions& options) {
    return guarded(path, [&]() -> Result<NiftiCompactVolume> {
        MFRES_TRY(OpenFile file, nifti::open_file(path, options, sizeof(float)));
        if (const auto total = static_cast<std::uint64_t>(file.layout.total); total <= options.most_inflated_bytes)
            file.source.inflate_all(total, options.inflated_memory);
        switch (file.description.storage.datatype) {
        case NiftiDatatype::uint8: return nifti::read_stored<std::uint8_t>(file, options.most_kept_bytes);
        case NiftiDatatype::int16: return nifti::read_stored<std::int16_t>(file, options.most_kept_bytes);
        case NiftiDatatype::uint16: return nifti::read_stored<std::uint16_t>(file, options.most_kept_bytes);
        case NiftiDatatype::int8:
        case NiftiDatatype::int32:
        case NiftiDatatype::uint32:
        case NiftiDatatype::float32:
        case NiftiDatatype::float64:
        case NiftiDatatype::int64:
        case NiftiDatatype::uint64: break;
        }
        return nifti::read_converted(file, options.most_kept_bytes);
    });
}

Result<NiftiLabels> read_nifti_labels(const fs::path& path, const NiftiReadOptions& options) {
    return guarded(path, [&]() -> Result<NiftiLabels> {
        LabelSink sink;
        MFRES_TRY(nifti::Description description, nifti::read_into(path, options, sink));
        return NiftiLabels{{description.grid, std::move(sink.values)}, description.geometry, description.storage};
    });
}

} // namespace mfres
