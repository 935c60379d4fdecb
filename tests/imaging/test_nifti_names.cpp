// SPDX-License-Identifier: MIT
#include "nifti_files.h"

using namespace mfres;
using test::Bytes;
using test::read;
using test::Recipe;
using test::zipped;

TEST_CASE("pairs work in any mixture of compression, case, and with an offset in the .img") {
    Recipe recipe;
    recipe.magic = std::string("ni1\0", 4);
    recipe.vox_offset = 16;
    const Bytes header = recipe.header();
    Bytes voxels(16);
    const Bytes data = recipe.data();
    voxels.insert(voxels.end(), data.begin(), data.end());
    for (const auto& [header_name, voxels_name] :
         std::vector<std::pair<std::string, std::string>>{{"x.hdr", "x.img"},
                                                          {"x.hdr.gz", "x.img"},
                                                          {"x.hdr", "x.img.gz"},
                                                          {"x.hdr.gz", "x.img.gz"},
                                                          {"X.HDR", "X.IMG"},
                                                          {"X.HDR.GZ", "X.IMG.GZ"}}) {
        const test::TemporaryFolder folder;
        const auto store = [&](const std::string& file, const Bytes& bytes) {
            test::save(folder / file, file.ends_with("z") || file.ends_with("Z") ? zipped(bytes) : bytes);
        };
        store(header_name, header);
        store(voxels_name, voxels);
        for (const auto& named : {header_name, voxels_name}) {
            INFO(header_name << " and " << voxels_name << ", named " << named);
            CHECK(read(folder / named).volume.voxels[119] == 120.0F);
        }
    }
}

TEST_CASE("pairs: a damaged header or a missing or wrong .img") {
    const test::TemporaryFolder folder;
    Recipe recipe;
    recipe.magic = std::string("ni1\0", 4);
    recipe.vox_offset = 0;
    const Bytes header = recipe.header();
    const Bytes data = recipe.data();
    test::save(folder / "x.hdr", header);
    REQUIRE_CODE(read_nifti(folder / "x.hdr"), file_not_found);
    REQUIRE_CODE(read_nifti(folder / "x.img"), file_not_found);
    test::save(folder / "x.img", data);
    REQUIRE_OK(read_nifti(folder / "x.hdr"));
    Bytes longer = data;
    longer.push_back({});
    test::save(folder / "x.img", longer);
    REQUIRE_CODE(read_nifti(folder / "x.hdr"), nifti_trailing_bytes);
    test::save(folder / "x.img", {data.begin(), data.end() - 1});
    REQUIRE_CODE(read_nifti(folder / "x.img"), nifti_truncated);
    test::save(folder / "x.img", {});
    REQUIRE_CODE(read_nifti(folder / "x.img"), nifti_truncated);

    test::save(folder / "z.img", data);
    Bytes compressed = zipped(header);
    compressed.pop_back();
    test::save(folder / "z.hdr.gz", compressed);
    REQUIRE_CODE(read_nifti(folder / "z.img"), gzip_truncated);
}
