// SPDX-License-Identifier: MIT
#include "core/memory_usage.h"
#include "nifti_files.h"

#include <utility>

using namespace mfres;
using test::Bytes;
using test::read;
using test::Recipe;
using test::zipped;

TEST_CASE("header extensions of any length are passed over") {
    const test::TemporaryFolder folder;
    for (const double offset : {352.0, 353.0, 736.0, 4576.0, 700001.0}) {
        Recipe recipe;
        recipe.vox_offset = offset;
        const Bytes file = recipe.file();
        test::save(folder / "x.nii", file);
        test::save(folder / "y.nii.gz", zipped(file));
        CHECK(read(folder / "x.nii").volume.voxels[0] == 1.0F);
        CHECK(read(folder / "y.nii.gz").volume.voxels[119] == 120.0F);
        CHECK(read(folder / "y.nii.gz").storage.vox_offset == static_cast<std::int64_t>(offset));
    }
}

TEST_CASE("a compressed volume cut at every one of its last 64 bytes is rejected as truncated") {
    const test::TemporaryFolder folder;
    const Bytes whole = zipped(Recipe{}.file());
    REQUIRE(whole.size() > 64);
    for (std::size_t missing = 1; missing <= 64; ++missing) {
        test::save(folder / "x.nii.gz", {whole.begin(), whole.end() - static_cast<std::ptrdiff_t>(missing)});
        INFO(missing << " bytes missing");
        REQUIRE_CODE(read_nifti(folder / "x.nii.gz"), gzip_truncated);
        REQUIRE_CODE(read_nifti_labels(folder / "x.nii.gz"), gzip_truncated);
    }
}

TEST_CASE("a flipped bit in CRC-32 or length of a compressed volume is rejected, all 64") {
    const test::TemporaryFolder folder;
    const Bytes whole = zipped(Recipe{}.file());
    for (std::size_t bit = 0; bit < 64; ++bit) {
        Bytes damaged = whole;
        damaged[whole.size() - 8 + bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
        test::save(folder / "x.nii.gz", damaged);
        INFO("bit " << bit);
        REQUIRE_CODE(read_nifti(folder / "x.nii.gz"), gzip_corrupt);
    }
}

TEST_CASE("a compressed volume that is inflated at once is the same, and is rejected with the same words") {
    const test::TemporaryFolder folder;
    const auto path = folder / "x.nii.gz";
    const auto both = [&](const Bytes& bytes, std::uint64_t most) {
        test::save(path, bytes);
        NiftiReadOptions options;
        auto by_piece = read_nifti_scan(path, options);
        options.most_inflated_bytes = most;
        return std::pair(std::move(by_piece), read_nifti_scan(path, options));
    };
    for (const double offset : {352.0, 700001.0}) {
        Recipe recipe;
        recipe.vox_offset = offset;
        const Bytes file = recipe.file();
        for (const std::uint64_t most : {std::uint64_t{file.size()}, std::uint64_t{file.size() - 1}}) {
            const auto [by_piece, at_once] = both(zipped(file), most);
            REQUIRE_OK(by_piece);
            REQUIRE_OK(at_once);
            CHECK(same_intensities(by_piece->scan, at_once->scan));
            CHECK(by_piece->inflated_bytes == 0);
            if (at_once->inflated_bytes != 0)
                CHECK((most == file.size() && at_once->inflated_bytes > static_cast<std::int64_t>(file.size())));
        }
        Bytes longer = file;
        longer.push_back(std::byte{0});
        const Bytes whole = zipped(file);
        for (const Bytes& damaged :
             {Bytes(whole.begin(), whole.end() - 3), zipped(longer), zipped(Bytes(file.begin(), file.end() - 1)),
              Bytes(whole.begin(), whole.end() - 9)}) {
            const auto [by_piece, at_once] = both(damaged, std::uint64_t{1} << 24U);
            REQUIRE_FALSE(by_piece.ok());
            REQUIRE_FALSE(at_once.ok());
            CHECK(at_once.error().code == by_piece.error().code);
            CHECK(at_once.error().message == by_piece.error().message);
        }
    }
}

TEST_CASE("damaged gzip around a good volume") {
    const test::TemporaryFolder folder;
    const auto read_bytes = [&](const Bytes& bytes) {
        test::save(folder / "x.nii.gz", bytes);
        return read_nifti(folder / "x.nii.gz");
    };
    const Bytes whole = zipped(Recipe{}.file());
    REQUIRE_CODE(read_bytes(Recipe{}.file()), gzip_corrupt); // not compressed at all
    REQUIRE_CODE(read_bytes({}), gzip_truncated);
    Bytes trailing = whole;
    trailing.push_back(std::byte{0});
    REQUIRE_CODE(read_bytes(trailing), gzip_corrupt);
    Bytes twice = whole;
    twice.insert(twice.end(), whole.begin(), whole.end());
    REQUIRE_CODE(read_bytes(twice), nifti_trailing_bytes);

    Bytes file = Recipe{}.file(); // one volume over two members is in order
    Bytes members = zipped({file.begin(), file.begin() + 500});
    const Bytes rest = zipped({file.begin() + 500, file.end()});
    members.insert(members.end(), rest.begin(), rest.end());
    REQUIRE_OK(read_bytes(members));
}

TEST_CASE("a missing file, a folder, and a file over the cap") {
    const test::TemporaryFolder folder;
    REQUIRE_CODE(read_nifti(folder / "x.nii"), file_not_found);
    std::filesystem::create_directory(folder / "folder.nii");
    REQUIRE_CODE(read_nifti(folder / "folder.nii"), file_read);
    const Bytes file = Recipe{}.file();
    test::save(folder / "x.nii", file);
    REQUIRE_OK(read_nifti(folder / "x.nii", {.max_bytes = file.size()}));
    REQUIRE_CODE(read_nifti(folder / "x.nii", {.max_bytes = file.size() - 1}), nifti_too_large);
    test::save(folder / "x.nii.gz", zipped(file));
    REQUIRE_OK(read_nifti(folder / "x.nii.gz", {.max_bytes = file.size()}));
    REQUIRE_CODE(read_nifti(folder / "x.nii.gz", {.max_bytes = file.size() - 1}), nifti_too_large);
}

TEST_CASE("a small file that declares gigabytes is rejected without allocating them") {
    const test::TemporaryFolder folder;
    Recipe recipe;
    recipe.dim = {3, 1024, 1024, 512, 1, 1, 1, 1}; // 2 GiB of float
    recipe.values.assign(120, 1);
    recipe.datatype = 2;
    recipe.bitpix = 8;
    test::save(folder / "x.nii", recipe.file());
    test::save(folder / "x.nii.gz", zipped(recipe.file()));
    if (!reset_peak_resident())
        return;
    const auto before = resident_bytes();
    REQUIRE_CODE(read_nifti(folder / "x.nii"), nifti_truncated);
    REQUIRE_CODE(read_nifti(folder / "x.nii.gz"), nifti_truncated);
    REQUIRE_CODE(read_nifti_labels(folder / "x.nii.gz"), nifti_truncated);
    CHECK(peak_resident_bytes() - before < (std::int64_t{16} << 20U));
}
