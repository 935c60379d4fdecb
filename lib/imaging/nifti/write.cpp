// SPDX-License-Identifier: MIT
#include "core/file.h"
#include "core/guard.h"
#include "core/half.h"
#include "core/try.h"
#include "imaging/nifti/gzip.h"
#include "imaging/nifti/header.h"
#include "imaging/nifti/names.h"
#include "imaging/nifti/nifti.h"
#include "imaging/nifti/voxels.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nifti2_io.h>
#include <optional>
#include <span>
#include <type_traits>

namespace mfres {

namespace fs = std::filesystem;

using nifti::file_error;

namespace {

/// Fills the fields that both versions have.
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

/// The header and the four bytes that declare no extensions; empty if nifti_clib could not allocate it.
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
    std::span<const std::byte> voxels = {};
};

std::vector<std::byte> new_header(const Content& content, const NiftiGeometry& geometry, std::string_view description) {
    nifti::silence_nifti_clib();
    const auto& size = content.size;
    const std::array<std::int64_t, 8> dim = {
        content.volumes > 1 ? 4 : 3, size[0], size[1], size[2], content.volumes, 1, 1, 1};
    const int code = static_cast<int>(content.datatype);
    return geometry.version == 2
               ? header_bytes(nifti_make_new_n2_header(dim.data(), code), geometry, description, content.slope)
               : header_bytes(nifti_make_new_n1_header(dim.data(), code), geometry, description, content.slope);
}

/// What a file begins with.
Result<std::vector<std::byte>> encode_header(const fs::path& path, const Content& content,
                                             const NiftiGeometry& geometry, std::string_view description) {
    if (geometry.version != 1 && geometry.version != 2)
        return file_error(ErrorCode::invalid_argument, path,
                          text("cannot be written as NIfTI version ", geometry.version));
    std::vector<std::byte> bytes = new_header(content, geometry, description);
    if (bytes.empty())
        return file_error(ErrorCode::memory_limit, path, "does not fit into memory");
    return bytes;
}

constexpr int gzip_level = 6;

/// The bytes of a file.
Result<std::vector<std::byte>> encode_volume(const fs::path& path, const Content& content,
                                             const NiftiGeometry& geometry, std::string_view description) {
    MFRES_TRY(std::vector<std::byte> bytes, encode_header(path, content, geometry, description));
    // Not insert(), of which GCC 14 believes that it could write beyond the end.
    const std::size_t header = bytes.size();
    bytes.resize(header + content.voxels.size());
    std::copy(content.voxels.begin(), content.voxels.end(), bytes.begin() + static_cast<std::ptrdiff_t>(header));
    if (!nifti::names_gzip(path))
        return bytes;
    return gzip(bytes, gzip_level, GzipMatches::all);
}

Status write_encoded(const fs::path& path, const Result<std::vector<std::byte>>& bytes, bool overwrite) {
    return bytes ? write_file_atomically(path, *bytes, overwrite) : Status(bytes.error());
}

Status check_writable(const fs::path& path, const Grid& grid, std::size_t voxels) {
    if (nifti::suffix_of(path) != ".nii")
        return file_error(ErrorCode::invalid_argument, path, "cannot be written: its name must end in .nii or .nii.gz");
    const bool sizes_allowed = std::all_of(grid.size.begin(), grid.size.end(), [](std::int64_t extent) {
        return extent >= 1 && extent <= nifti::largest_extent;
    });
    if (!sizes_allowed || static_cast<std::uint64_t>(grid.voxels()) != voxels)
        return file_error(ErrorCode::invalid_argument, path,
                          text("cannot be written: ", voxels, " voxels do not make a grid of ", grid.size[0], "x",
                               grid.size[1], "x", grid.size[2], " with 1 to ", nifti::largest_extent,
                               " along each axis"));
    return {};
}

Result<std::vector<std::int16_t>> rounded(const Volume& volume, const fs::path& path) {
    std::vector<std::int16_t> result;
    result.reserve(volume.voxels.size());
    for (const float value : volume.voxels) {
        const float whole = std::nearbyint(value);
        if (!(whole >= -32768.0F && whole <= 32767.0F))
            return file_error(ErrorCode::invalid_argument, path,
                              text("cannot be written as int16: voxel ",
                                   nifti::position(static_cast<std::int64_t>(result.size()), volume.grid.size), " is ",
                                   value));
        result.push_back(static_cast<std::int16_t>(whole));
    }
    return result;
}

} // namespace

Status write_nifti(const fs::path& path, const Volume& volume, const NiftiGeometry& geometry, NiftiDatatype datatype,
                   std::string_view description, bool overwrite) {
    return guarded(path, [&]() -> Status {
        MFRES_CHECK(check_writable(path, volume.grid, volume.voxels.size()));
        if (datatype == NiftiDatatype::float32)
            return write_encoded(
                path,
                encode_volume(path, {volume.grid.size, 1, datatype, 0.0, std::as_bytes(std::span(volume.voxels))},
                              geometry, description),
                overwrite);
        if (datatype != NiftiDatatype::int16)
            return file_error(
                ErrorCode::invalid_argument, path,
                text("cannot be written as ", name(datatype), "; volumes are written as int16 or float32"));
        MFRES_TRY(const auto voxels, rounded(volume, path));
        return write_encoded(path,
                             encode_volume(path, {volume.grid.size, 1, datatype, 0.0, std::as_bytes(std::span(voxels))},
                                           geometry, description),
                             overwrite);
    });
}

struct NiftiLabelWriter::State {
    explicit State(PendingWriter opened) : file(std::move(opened)) {}

    PendingWriter file;
    std::optional<GzipWriter> gzip;
    std::int64_t left = 0; ///< labels to come

    Status append(std::span<const std::byte> bytes) { return gzip ? gzip->append(bytes) : file.append(bytes); }
};

NiftiLabelWriter::NiftiLabelWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
NiftiLabelWriter::NiftiLabelWriter(NiftiLabelWriter&&) noexcept = default;
NiftiLabelWriter& NiftiLabelWriter::operator=(NiftiLabelWriter&&) noexcept = default;
NiftiLabelWriter::~NiftiLabelWriter() = default;

Result<NiftiLabelWriter> NiftiLabelWriter::create(const fs::path& path, const Grid& grid, const NiftiGeometry& geometry,
                                                  std::string_view description, bool overwrite) {
    return guarded(path, [&]() -> Result<NiftiLabelWriter> {
        MFRES_CHECK(check_writable(path, grid, static_cast<std::size_t>(grid.voxels())));
        MFRES_TRY(const auto header,
                  encode_header(path, {grid.size, 1, NiftiDatatype::uint8, 0.0}, geometry, description));
        MFRES_TRY(PendingWriter file, PendingWriter::create(path, overwrite));
        auto state = std::make_unique<State>(std::move(file));
        state->left = grid.voxels();
        if (nifti::names_gzip(path)) {
            MFRES_TRY(state->gzip, GzipWriter::create(gzip_level, GzipMatches::runs,
                                                      [&to = state->file](std::span<const std::byte> bytes) {
                                                          return to.append(bytes);
                                                      }));
        }
        MFRES_CHECK(state->append(header));
        return NiftiLabelWriter(std::move(state));
    });
}

Status NiftiLabelWriter::append(std::span<const std::uint8_t> labels) {
    state_->left -= std::ssize(labels);
    return state_->append(std::as_bytes(labels));
}

Result<PendingFile> NiftiLabelWriter::finish() && {
    if (state_->left != 0)
        return Error{ErrorCode::invalid_argument,
                     text("a label map lacks ", state_->left, " of the labels of its grid"), ""};
    if (state_->gzip)
        MFRES_CHECK(state_->gzip->finish());
    return std::move(state_->file).finish();
}

Result<std::vector<std::byte>> encode_nifti_probabilities(const fs::path& path, const ProbabilityMap& probabilities,
                                                          bool as_uint8, const NiftiGeometry& geometry,
                                                          std::string_view description) {
    return guarded(path, [&]() -> Result<std::vector<std::byte>> {
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
    });
}

Status write_nifti_labels(const fs::path& path, const LabelMap& labels, const NiftiGeometry& geometry,
                          std::string_view description, bool overwrite) {
    return guarded(path, [&]() -> Status {
        MFRES_CHECK(check_writable(path, labels.grid, labels.labels.size()));
        MFRES_TRY(NiftiLabelWriter writer,
                  NiftiLabelWriter::create(path, labels.grid, geometry, description, overwrite));
        MFRES_CHECK(writer.append(labels.labels));
        MFRES_TRY(PendingFile file, std::move(writer).finish());
        return file.commit();
    });
}

} // namespace mfres
