// SPDX-License-Identifier: MIT
// Files that are wrong on purpose. Each has exactly one thing wrong, and its own error code.
#include "nifti_files.h"

#include <cmath>
#include <functional>
#include <limits>

using namespace mfres;
using test::Bytes;
using test::Recipe;
using test::zipped;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct BadFile {
    const char* what;
    ErrorCode expected;
    std::function<void(Recipe&)> recipe; ///< changes the file before it is put together
    std::function<void(Bytes&)> bytes;   ///< changes its bytes afterwards; may be empty
    const char* file = "x.nii";          ///< compressed after `bytes` if it ends in .gz
};

void unchanged(Recipe&) {}

std::function<void(Recipe&)> second_version(const std::function<void(Recipe&)>& change) {
    return [change](Recipe& r) {
        r.version = 2;
        change(r);
    };
}

std::function<void(Recipe&)> qform(const std::function<void(Recipe&)>& change) {
    return [change](Recipe& r) {
        r.sform_code = 0;
        r.qform_code = 1;
        change(r);
    };
}

std::function<void(Recipe&)> stored_as(int datatype, int bits) {
    return [=](Recipe& r) {
        r.datatype = datatype;
        r.bitpix = bits;
    };
}

std::vector<BadFile> bad_files() {
    using E = ErrorCode;
    return {
        {"empty file", E::not_nifti, unchanged, [](Bytes& b) { b.clear(); }},
        {"three bytes", E::not_nifti, unchanged, [](Bytes& b) { b.resize(3); }},
        {"text", E::not_nifti, unchanged, [](Bytes& b) { std::fill(b.begin(), b.end(), std::byte{'a'}); }},
        {"all zeros", E::not_nifti, unchanged, [](Bytes& b) { std::fill(b.begin(), b.end(), std::byte{0}); }},
        {"sizeof_hdr 347", E::not_nifti, [](Recipe& r) { r.sizeof_hdr = 347; }, {}},
        {"sizeof_hdr -348", E::not_nifti, [](Recipe& r) { r.sizeof_hdr = -348; }, {}},
        {"no magic, as ANALYZE 7.5", E::not_nifti, [](Recipe& r) { r.magic = std::string(4, '\0'); }, {}},
        {"magic n+3", E::not_nifti, [](Recipe& r) { r.magic = std::string("n+3\0", 4); }, {}},
        {"magic without its zero", E::not_nifti, [](Recipe& r) { r.magic = "n+1x"; }, {}},
        {"NIfTI-1 magic in a NIfTI-2 header",
         E::not_nifti,
         second_version([](Recipe& r) { r.magic = std::string("n+1\0\r\n\032\n", 8); }),
         {}},
        {"NIfTI-2 magic after a text-mode transfer",
         E::nifti_header_invalid,
         second_version([](Recipe& r) { r.magic = std::string("n+2\0\n\n\032\n", 8); }),
         {}},
        {"gzip in a file named .nii", E::not_nifti, unchanged, [](Bytes& b) { b = zipped(b); }},
        {"pair magic in a .nii", E::nifti_header_invalid, [](Recipe& r) { r.magic = std::string("ni1\0", 4); }, {}},
        {"single-file magic in a .hdr", E::nifti_header_invalid, unchanged, {}, "x.hdr"},
        {"half a NIfTI-1 header", E::nifti_truncated, unchanged, [](Bytes& b) { b.resize(200); }},
        {"one byte less than a NIfTI-1 header", E::nifti_truncated, unchanged, [](Bytes& b) { b.resize(347); }},
        {"NIfTI-2 header of 348 bytes", E::nifti_truncated, second_version(unchanged), [](Bytes& b) { b.resize(348); }},
        {"one byte less than a NIfTI-2 header", E::nifti_truncated, second_version(unchanged),
         [](Bytes& b) { b.resize(539); }},
        {"dim[0] = 0", E::nifti_dimensions, [](Recipe& r) { r.dim[0] = 0; }, {}},
        {"dim[0] = 8", E::nifti_dimensions, [](Recipe& r) { r.dim[0] = 8; }, {}},
        {"dim[0] = -1", E::nifti_dimensions, [](Recipe& r) { r.dim[0] = -1; }, {}},
        {"dim[0] = 2^40 in NIfTI-2",
         E::nifti_dimensions,
         second_version([](Recipe& r) { r.dim[0] = std::int64_t{1} << 40; }),
         {}},
        {"dim[1] = 0", E::nifti_dimensions, [](Recipe& r) { r.dim[1] = 0; }, {}},
        {"dim[2] = -5",
         E::nifti_dimensions,
         [](Recipe& r) {
             r.dim[2] = -5;
             r.values.assign(120, 1);
         },
         {}},
        {"dim[3] = 1025", E::nifti_dimensions, [](Recipe& r) { r.dim[3] = 1025; }, {}},
        {"dim[1] = 2^62 in NIfTI-2",
         E::nifti_dimensions,
         second_version([](Recipe& r) {
             r.dim[1] = std::int64_t{1} << 62;
             r.values.assign(120, 1);
         }),
         {}},
        {"dim[4] = 0 within dim[0]",
         E::nifti_dimensions,
         [](Recipe& r) {
             r.dim[0] = 4;
             r.dim[4] = 0;
         },
         {}},
        {"one axis", E::nifti_not_3d, [](Recipe& r) { r.dim = {1, 4, 1, 1, 1, 1, 1, 1}; }, {}},
        {"two axes", E::nifti_not_3d, [](Recipe& r) { r.dim = {2, 4, 5, 1, 1, 1, 1, 1}; }, {}},
        {"a single slice", E::nifti_not_3d, [](Recipe& r) { r.dim[3] = 1; }, {}},
        {"two volumes",
         E::nifti_not_3d,
         [](Recipe& r) {
             r.dim[0] = 4;
             r.dim[4] = 2;
         },
         {}},
        {"vectors along the fifth axis",
         E::nifti_not_3d,
         [](Recipe& r) {
             r.dim[0] = 5;
             r.dim[5] = 3;
         },
         {}},
        {"two along the seventh axis",
         E::nifti_not_3d,
         [](Recipe& r) {
             r.dim[0] = 7;
             r.dim[7] = 2;
         },
         {}},
        {"no datatype", E::nifti_datatype, stored_as(0, 32), {}},
        {"binary", E::nifti_datatype, stored_as(1, 8), {}},
        {"complex64", E::nifti_datatype, stored_as(32, 64), {}},
        {"RGB24", E::nifti_datatype, stored_as(128, 24), {}},
        {"float128", E::nifti_datatype, stored_as(1536, 128), {}},
        {"complex128", E::nifti_datatype, stored_as(1792, 128), {}},
        {"RGBA32", E::nifti_datatype, stored_as(2304, 32), {}},
        {"datatype 12345", E::nifti_datatype, stored_as(12345, 32), {}},
        {"negative datatype", E::nifti_datatype, stored_as(-16, 32), {}},
        {"int16 of 32 bits", E::nifti_header_invalid, stored_as(4, 32), {}},
        {"bitpix 0", E::nifti_header_invalid, unchanged, [](Bytes& b) { test::put<std::int16_t>(b, 72, 0, false); }},
        {"vox_offset 0", E::nifti_header_invalid, [](Recipe& r) { r.vox_offset = 0; }, {}},
        {"vox_offset within the header", E::nifti_header_invalid, [](Recipe& r) { r.vox_offset = 351; }, {}},
        {"vox_offset NaN", E::nifti_header_invalid, [](Recipe& r) { r.vox_offset = std::nan(""); }, {}},
        {"vox_offset infinite", E::nifti_header_invalid, [](Recipe& r) { r.vox_offset = infinity; }, {}},
        {"vox_offset 352.5", E::nifti_header_invalid, [](Recipe& r) { r.vox_offset = 352.5; }, {}},
        {"negative vox_offset", E::nifti_header_invalid, [](Recipe& r) { r.vox_offset = -352; }, {}},
        {"NIfTI-2 vox_offset within the header",
         E::nifti_header_invalid,
         second_version([](Recipe& r) { r.vox_offset = 543; }),
         {}},
        {"NIfTI-2 vox_offset near the end of int64", E::nifti_header_invalid, second_version(unchanged),
         [](Bytes& b) { test::put(b, 168, std::numeric_limits<std::int64_t>::max(), false); }},
        {"vox_offset behind the end", E::nifti_truncated, [](Recipe& r) { r.vox_offset = 2e6; }, {}},
        {"vox_offset of 2 GB of extensions", E::nifti_too_large, [](Recipe& r) { r.vox_offset = 2e9; }, {}},
        {"vox_offset beyond the cap", E::nifti_too_large, [](Recipe& r) { r.vox_offset = 1e15; }, {}},
        {"infinite slope", E::nifti_header_invalid, [](Recipe& r) { r.slope = infinity; }, {}},
        {"NaN intercept",
         E::nifti_header_invalid,
         [](Recipe& r) {
             r.slope = 1;
             r.inter = std::nan("");
         },
         {}},
        {"spatial unit 5", E::nifti_header_invalid, [](Recipe& r) { r.units = 5; }, {}},
        {"more than the cap",
         E::nifti_too_large,
         [](Recipe& r) {
             r.dim = {3, 1024, 1024, 1024, 1, 1, 1, 1};
             r.values.assign(120, 1);
         },
         {}},
        {"more than the cap once decoded",
         E::nifti_too_large,
         [](Recipe& r) {
             r.dim = {3, 1024, 1024, 600, 1, 1, 1, 1};
             r.datatype = 2;
             r.bitpix = 8;
             r.values.assign(120, 1);
         },
         {}},
        {"one voxel byte missing", E::nifti_truncated, unchanged, [](Bytes& b) { b.pop_back(); }},
        {"no voxels", E::nifti_truncated, unchanged, [](Bytes& b) { b.resize(352); }},
        {"header without the four extension bytes", E::nifti_truncated, unchanged, [](Bytes& b) { b.resize(348); }},
        {"one byte too many", E::nifti_trailing_bytes, unchanged, [](Bytes& b) { b.push_back({}); }},
        {"a second volume behind", E::nifti_trailing_bytes, unchanged, [](Bytes& b) { b.resize(352 + 960); }},
        {"compressed, one voxel byte missing", E::nifti_truncated, unchanged, [](Bytes& b) { b.pop_back(); },
         "x.nii.gz"},
        {"compressed, one byte too many", E::nifti_trailing_bytes, unchanged, [](Bytes& b) { b.push_back({}); },
         "x.nii.gz"},
        {"compressed, 120 voxels instead of a gigabyte",
         E::nifti_truncated,
         [](Recipe& r) {
             r.dim = {3, 1024, 1024, 256, 1, 1, 1, 1};
             r.values.assign(120, 1);
         },
         {},
         "x.nii.gz"},
        {"compressed random bytes", E::not_nifti, unchanged,
         [](Bytes& b) { std::fill(b.begin(), b.end(), std::byte{0xA5}); }, "x.nii.gz"},
        {"both codes 0", E::orientation_missing, [](Recipe& r) { r.sform_code = 0; }, {}},
        {"negative codes",
         E::orientation_missing,
         [](Recipe& r) {
             r.sform_code = -1;
             r.qform_code = -1;
         },
         {}},
        {"NaN in the sform", E::nifti_header_invalid, [](Recipe& r) { r.srow[6] = std::nan(""); }, {}},
        {"infinite sform origin", E::nifti_header_invalid, [](Recipe& r) { r.srow[3] = infinity; }, {}},
        {"sform of zeros", E::affine_singular, [](Recipe& r) { r.srow.fill(0); }, {}},
        {"two equal sform columns",
         E::affine_singular,
         [](Recipe& r) { r.srow = {1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0}; },
         {}},
        {"sform sheared by 1.1 degrees",
         E::affine_sheared,
         [](Recipe& r) { r.srow[1] = std::tan(1.1 / 57.29578); },
         {}},
        {"qform with voxel size 0", E::nifti_header_invalid, qform([](Recipe& r) { r.pixdim[2] = 0; }), {}},
        {"qform with a negative voxel size", E::nifti_header_invalid, qform([](Recipe& r) { r.pixdim[1] = -1; }), {}},
        {"qform with a NaN voxel size",
         E::nifti_header_invalid,
         qform([](Recipe& r) { r.pixdim[3] = std::nan(""); }),
         {}},
        {"quaternion longer than 1",
         E::nifti_header_invalid,
         qform([](Recipe& r) {
             r.quatern = {0.9, 0.9, 0.9};
         }),
         {}},
        {"NaN quaternion", E::nifti_header_invalid, qform([](Recipe& r) { r.quatern[0] = std::nan(""); }), {}},
        {"infinite qform offset", E::nifti_header_invalid, qform([](Recipe& r) { r.qoffset[1] = infinity; }), {}},
        {"qform and sform 3 mm apart",
         E::qform_sform_disagree,
         [](Recipe& r) {
             r.qform_code = 1;
             r.quatern = {0, 0, 1};
             r.qoffset = {0, 4, 3};
         },
         {}},
        {"qform and sform mirrored",
         E::qform_sform_disagree,
         [](Recipe& r) {
             r.qform_code = 1;
             r.quatern = {0, 0, 1};
             r.qoffset = {0, 4, 0};
             r.pixdim[0] = -1;
         },
         {}},
        {"a NaN voxel",
         E::voxel_not_finite,
         [](Recipe& r) {
             r.values.assign(120, 1);
             r.values[9] = std::nan("");
         },
         {}},
        {"an infinite voxel",
         E::voxel_not_finite,
         [](Recipe& r) {
             r.values.assign(120, 1);
             r.values[9] = -infinity;
         },
         {}},
        {"a double beyond float",
         E::voxel_not_finite,
         [](Recipe& r) {
             r.datatype = 64;
             r.bitpix = 64;
             r.values.assign(120, 1e300);
         },
         {}},
        {"scaling beyond float", E::voxel_not_finite, [](Recipe& r) { r.slope = 3e38; }, {}},
        {"another suffix", E::invalid_argument, unchanged, {}, "x.nrrd"},
        {"no suffix", E::invalid_argument, unchanged, {}, "x"},
        {".gz only", E::invalid_argument, unchanged, {}, "x.gz"},
    };
}

} // namespace

TEST_CASE("handcrafted bad files are rejected with the exact code, in both byte orders where it applies") {
    const auto table = bad_files();
    CHECK(table.size() >= 60);
    for (const auto& bad : table)
        for (const bool big_endian : {false, true}) {
            const test::TemporaryFolder folder;
            Recipe recipe;
            recipe.big_endian = big_endian;
            bad.recipe(recipe);
            Bytes bytes = recipe.file();
            if (bad.bytes)
                bad.bytes(bytes);
            const std::filesystem::path path = folder / bad.file;
            test::save(path, path.extension() == ".gz" ? zipped(bytes) : bytes);
            const bool native_edit = bad.what == std::string_view("NIfTI-2 vox_offset near the end of int64");
            if (big_endian && native_edit)
                continue;
            INFO(bad.what << (big_endian ? ", big-endian" : ", little-endian"));
            const auto result = read_nifti(path);
            REQUIRE_FALSE(result.ok());
            INFO(result.error().message);
            CHECK(name(result.error().code) == name(bad.expected));
            CHECK(result.error().message.find(bad.file) != std::string::npos);
            CHECK(result.error().where.find(bad.file) != std::string::npos);
        }
}

TEST_CASE("the recipe the bad files are made from is good") {
    const test::TemporaryFolder folder;
    for (const int version : {1, 2})
        for (const bool big_endian : {false, true}) {
            Recipe recipe;
            recipe.version = version;
            recipe.big_endian = big_endian;
            test::save(folder / "x.nii", recipe.file());
            test::save(folder / "y.nii.gz", zipped(recipe.file()));
            REQUIRE_OK(read_nifti(folder / "x.nii"));
            REQUIRE_OK(read_nifti(folder / "y.nii.gz"));
        }
}
