// SPDX-License-Identifier: MIT
// Geometry of a NIfTI header: qform, sform, and the affine that follows from them.
#include "core/names.h"
#include "core/try.h"
#include "imaging/geometry.h"
#include "imaging/nifti/names.h"
#include "imaging/nifti/nifti.h"

#include <algorithm>
#include <cmath>
#include <nifti2_io.h>
#include <span>

namespace mfres {

using nifti::file_error;

namespace {

constexpr auto affine_source_names = enum_names<AffineSource>(
    {{AffineSource::automatic, "auto"}, {AffineSource::sform, "sform"}, {AffineSource::qform, "qform"}});

constexpr double disagreement_limit_mm = 0.5;
constexpr double shear_limit_degrees = 1.0;

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
        return file_error(ErrorCode::nifti_header_invalid, where,
                          text("has a qform with pixdim ", numbers(pixdim), "; voxel sizes must be positive"));
    const auto& [b, c, d] = geometry.quatern;
    constexpr double rounding = 1e-5;
    if (!finite(geometry.quatern) || !finite(geometry.qoffset) || b * b + c * c + d * d > 1.0 + rounding)
        return file_error(ErrorCode::nifti_header_invalid, where,
                          text("has a qform with the quaternion ", numbers(geometry.quatern), " and the offset ",
                               numbers(geometry.qoffset), "; it is not a rotation"));
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
            return file_error(ErrorCode::nifti_header_invalid, where, text("has an sform row of ", numbers(row)));
    return geometry.srow;
}

/// The chosen affine, in the unit of the header.
Result<Affine> chosen_affine(const NiftiGeometry& geometry, const std::array<std::int64_t, 3>& size, AffineSource use,
                             const std::string& where) {
    const bool has_qform = geometry.qform_code > 0;
    const bool has_sform = geometry.sform_code > 0;
    const bool missing = use == AffineSource::sform   ? !has_sform
                         : use == AffineSource::qform ? !has_qform
                                                      : !has_sform && !has_qform;
    if (missing)
        return file_error(ErrorCode::orientation_missing, where,
                          text("does not define the position of its voxels: qform_code ", geometry.qform_code,
                               ", sform_code ", geometry.sform_code,
                               use == AffineSource::sform   ? ", and the sform was requested"
                               : use == AffineSource::qform ? ", and the qform was requested"
                                                            : "",
                               use == AffineSource::automatic
                                   ? "; left and right cannot be told. Convert the scan again from DICOM with its "
                                     "orientation, or set a code if you know that its affine is true, in Python: "
                                     "image.set_sform(image.affine, 1) of nibabel"
                                   : ""));
    if (use == AffineSource::qform || !has_sform)
        return affine_of_qform(geometry, where);
    MFRES_TRY(const Affine sform, affine_of_sform(geometry, where));
    if (use == AffineSource::automatic && has_qform) {
        MFRES_TRY(const Affine qform, affine_of_qform(geometry, where));
        const double mm = unit_mm(geometry.xyzt_units) * max_corner_distance({size, sform}, {size, qform});
        if (!(mm <= disagreement_limit_mm))
            return file_error(ErrorCode::qform_sform_disagree, where,
                              text("has a qform and an sform that put a corner ", mm, " mm apart (limit ",
                                   disagreement_limit_mm, "); choose one of them"));
    }
    return sform;
}

} // namespace

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
        return file_error(ErrorCode::affine_singular, where,
                          text("has an affine without inverse: rows ", numbers(affine[0]), "; ", numbers(affine[1]),
                               "; ", numbers(affine[2])));
    if (const double degrees = shear_degrees(affine); degrees > shear_limit_degrees)
        return file_error(
            ErrorCode::affine_sheared, where,
            text("has axes that are ", degrees, " degrees away from right angles (limit ", shear_limit_degrees, ")"));
    return affine;
}

std::string_view to_string(AffineSource source) noexcept {
    return affine_source_names.of(source);
}

Result<AffineSource> parse_affine_source(std::string_view text) {
    return affine_source_names.parse("affine", text);
}

} // namespace mfres
