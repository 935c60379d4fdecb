// SPDX-License-Identifier: MIT
// Data sets in several places: folders and caches found together, merged into one file, and read as one cache.
#include "core/file.h"
#include "data/cache_file.h"
#include "data/sources.h"
#include "support/cached_cases.h"

#include <algorithm>

namespace mfres {

namespace {

using test::TemporaryFolder;
namespace fs = std::filesystem;
using Paths = std::vector<fs::path>;

/// Folders and caches of phantoms, made once: first/{a,d}, second/{b}, the cache of {c, e}, and that of second.
struct Phantoms {
    TemporaryFolder folder;
    fs::path first = folder / "first";
    fs::path second = folder / "second";
    fs::path cache = folder / "third.mfcache";
    fs::path cache_of_second = folder / "packed.mfcache";

    Phantoms() {
        add("first", "d", 4);
        add("first", "a", 1);
        add("second", "b", 2);
        add("elsewhere", "c", 3);
        add("elsewhere", "e", 5);
        pack(folder / "elsewhere", cache, 16);
        pack(second, cache_of_second, 0);
    }

    void add(const std::string& group, const std::string& id, std::uint64_t seed) const {
        auto phantom = make_phantom({.seed = seed, .size = {48, 56, 48}, .threads = 1});
        REQUIRE_OK(phantom);
        test::write_labelled_case(folder, id, phantom->volumes, phantom->labels);
        fs::create_directories(folder / group);
        fs::rename(folder / id, folder / group / id);
    }
    static void pack(const fs::path& folder, const fs::path& path, int levels) {
        const auto cases = find_cases(folder);
        REQUIRE_OK(cases);
        REQUIRE_OK(write_cache(path, *cases, {.levels = levels}, {}));
    }
};

const Phantoms& phantoms() {
    static const Phantoms all;
    return all;
}

CaseSet found(const Paths& sources) {
    auto data = CaseSet::find(sources);
    REQUIRE_OK(data);
    return std::move(data).value();
}

std::string ids_of(const CaseSet& cases) {
    std::string ids;
    for (std::size_t i = 0; i < cases.size(); ++i)
        ids += cases.id(i);
    return ids;
}

std::shared_ptr<const CacheFile> opened(const fs::path& path) {
    auto file = CacheFile::open(path);
    REQUIRE_OK(file);
    return std::move(file).value();
}

/// Every block of a case as it lies in its file.
std::vector<std::vector<std::byte>> blocks_of(const CacheFile& file, const std::string& id) {
    std::vector<std::vector<std::byte>> blocks;
    for (std::size_t i = 0; i < file.records().size(); ++i)
        for (std::size_t b = 0; b < cache_blocks && file.records()[i].id == id; ++b) {
            auto block = file.read_block(i, b);
            REQUIRE_OK(block);
            blocks.push_back(std::move(block).value());
        }
    REQUIRE(blocks.size() == cache_blocks);
    return blocks;
}

void check_equal_cases(const CachedCase& a, const CachedCase& b) {
    CHECK(a.id == b.id);
    CHECK(a.size == b.size);
    CHECK(a.voxel_mm == b.voxel_mm);
    CHECK(a.classes == b.classes);
    CHECK(a.brain == b.brain);
    for (std::size_t m = 0; m < 4; ++m) {
        CHECK(a.modalities[m].quanta == b.modalities[m].quanta);
        CHECK(a.modalities[m].scale == b.modalities[m].scale);
        CHECK(a.modalities[m].offset == b.modalities[m].offset);
    }
}

} // namespace

TEST_CASE("folders and caches are found together, in the order of the ids, each case with its source") {
    const auto& all = phantoms();
    const auto mixed = found({all.cache, all.first, all.second});
    CHECK(ids_of(mixed) == "abcde");
    CHECK(mixed.source(0) == "first");
    CHECK(mixed.source(1) == "second");
    CHECK(mixed.source(2) == "third");
    REQUIRE(stored_case(mixed[2]) != nullptr);
    CHECK(stored_case(mixed[2])->file->path() == all.cache);
    CHECK(stored_case(mixed[0]) == nullptr);
    CHECK(mixed.spread(2).source(1) == "third");
    CHECK(CaseSet({CaseFiles{"alone", {}, {}}}).source(0).empty());
    CHECK(ids_of(found({all.second, all.cache, all.first})) == "abcde");
    CHECK(ids_of(found({all.cache})) == "ce");
    CHECK(source_name(all.first.string() + "/") == "first");
    CHECK(source_name(all.first / ".") == "first");

    // Label schemes are chosen on request, for each folder by itself.
    CHECK(found({all.cache, all.first}).label_scheme().empty());
    std::vector<std::string> notes;
    const auto chosen = CaseSet::find(Paths{all.cache, all.first, all.second}, "", notes);
    REQUIRE_OK(chosen);
    CHECK(chosen->label_scheme() == "brats");
    REQUIRE(notes.size() == 2);
    CHECK(notes[0].find(all.first.string()) != std::string::npos);
    CHECK(notes[1].find(all.second.string()) != std::string::npos);
    REQUIRE_CODE(CaseSet::find(Paths{all.first}, "no scheme", notes), invalid_argument);

    REQUIRE_CODE(CaseSet::find(Paths{}), dataset_empty);
    REQUIRE_CODE(CaseSet::find(Paths{all.first, all.folder / "absent"}), file_not_found);
    REQUIRE_CODE(CaseSet::find(Paths{all.first / "a" / "a_t1.nii.gz"}), cache_invalid);
    const auto twice = CaseSet::find(Paths{all.second, all.cache_of_second});
    REQUIRE_CODE(twice, invalid_argument);
    CHECK(twice.error().message.find("case b occurs twice") != std::string::npos);
    CHECK(twice.error().message.find((all.second / "b").string()) != std::string::npos);
    CHECK(twice.error().message.find(all.cache_of_second.string()) != std::string::npos);
}

TEST_CASE("a merged cache holds the blocks of its sources as they are, and reads as they do") {
    const auto& all = phantoms();
    const TemporaryFolder folder;
    const auto sources = found({all.cache, all.cache_of_second});
    REQUIRE_OK(write_cache(folder / "merged", sources, {.levels = 2, .threads = 2}, {}));
    const auto merged = opened(folder / "merged");
    REQUIRE(merged->records().size() == 3);
    for (const char* id : {"c", "e"})
        CHECK(blocks_of(*merged, id) == blocks_of(*opened(all.cache), id));
    CHECK(blocks_of(*merged, "b") == blocks_of(*opened(all.cache_of_second), "b"));

    // The same file whatever the order, with folders in place of their caches, and after a second merge.
    const auto same_bytes = [&](const Paths& paths, const std::string& name) {
        REQUIRE_OK(write_cache(folder / name, found(paths), {}, {}));
        return read_file(folder / name, 1U << 30U).value() == read_file(folder / "merged", 1U << 30U).value();
    };
    CHECK(same_bytes({all.cache_of_second, all.cache}, "reversed"));
    CHECK(same_bytes({all.second, all.cache}, "mixed"));
    CHECK(same_bytes({folder / "merged"}, "again"));

    // Taken together in memory they are what the file is.
    std::vector<CacheCase> cases;
    for (std::size_t i = 0; i < sources.size(); ++i)
        cases.push_back(*stored_case(sources[i]));
    const auto together = open_cases(cases);
    const auto file = Cache::open(folder / "merged");
    REQUIRE_OK(together);
    REQUIRE_OK(file);
    CHECK((*together)->fingerprint() == (*file)->fingerprint());
    REQUIRE((*together)->entries().size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
        CHECK((*together)->entries()[i].id == (*file)->entries()[i].id);
        CHECK((*together)->entries()[i].bytes == (*file)->entries()[i].bytes);
        const auto a = (*together)->load(i);
        const auto b = (*file)->load(i);
        REQUIRE_OK(a);
        REQUIRE_OK(b);
        check_equal_cases(**a, **b);
    }
    REQUIRE_CODE((*together)->load(3), invalid_argument);
    const auto some = open_cases({cases[0], cases[2]});
    REQUIRE_OK(some);
    CHECK((*some)->fingerprint() != (*file)->fingerprint());
    const auto other_order = open_cases({cases[2], cases[0]});
    REQUIRE_OK(other_order);
    CHECK((*other_order)->fingerprint() != (*some)->fingerprint());
    REQUIRE_CODE(open_cases({}), dataset_empty);
}

TEST_CASE("a merge that cannot be is rejected, and leaves no file") {
    const auto& all = phantoms();
    const TemporaryFolder folder;
    fs::copy_file(all.cache, folder / "own");
    const auto own = found({folder / "own", all.first});
    const auto before = read_file(folder / "own", 1U << 30U).value();
    REQUIRE_CODE(write_cache(folder / "own", own, {.overwrite = true}, {}), invalid_argument);
    CHECK(read_file(folder / "own", 1U << 30U).value() == before);

    auto bytes = before;
    bytes[cache_header_bytes + 20] ^= std::byte{1}; // in the first block
    REQUIRE_OK(write_file_atomically(folder / "own", bytes));
    const auto damaged = write_cache(folder / "merged", found({folder / "own", all.first}), {}, {});
    REQUIRE_CODE(damaged, cache_damaged);
    CHECK(damaged.error().message.find("the T1 block of case c in ") != std::string::npos);
    CHECK_FALSE(fs::exists(folder / "merged"));
}

TEST_CASE("files of cases have a fingerprint that follows bytes and ids, not places") {
    const auto& all = phantoms();
    const TemporaryFolder folder;
    const auto fingerprint = [](const fs::path& path) {
        const auto cases = find_cases(path);
        REQUIRE_OK(cases);
        const auto hash = fingerprint_of_files(*cases);
        REQUIRE_OK(hash);
        CHECK(hash->size() == 64);
        return *hash;
    };
    fs::copy(all.first, folder / "copy", fs::copy_options::recursive);
    const std::string before = fingerprint(all.first);
    CHECK(fingerprint(folder / "copy") == before);
    const fs::path changed = folder / "copy/a/a_seg.nii.gz";
    auto bytes = read_file(changed, 1U << 30U).value();
    bytes.back() ^= std::byte{1};
    REQUIRE_OK(write_file_atomically(changed, bytes));
    CHECK(fingerprint(folder / "copy") != before);
    CHECK(fingerprint(all.second) != before);
    auto cases = find_cases(all.first);
    REQUIRE_OK(cases);
    cases->front().modalities[0] = all.folder / "absent";
    REQUIRE_CODE(fingerprint_of_files(*cases), file_not_found);
}

TEST_CASE("the caches of real cases read, and merge with blocks and fingerprint unchanged") {
    const auto more = test::shared_data("data/real/train-more.mfcache");
    const auto val = test::shared_data("data/real/val-more.mfcache");
    if (!more || !val)
        return;
    // SHA-256 of header and index, by Python's hashlib.
    CHECK((*Cache::open(*more))->fingerprint() == "69ab3b17136f4bf107baf3c215c77fb24dd558bae63fd367fb050abba90bbb5d");
    CHECK((*Cache::open(*val))->fingerprint() == "09f581bbbb4df3b18adcc85489d34525f239ce2283f8d154c832bccc4ce6f491");
    const TemporaryFolder folder;
    const auto cases = found({*more, *val});
    CHECK(cases.size() == 48);
    REQUIRE_OK(write_cache(folder / "all", cases, {}, {}));
    const auto merged = opened(folder / "all");
    for (const auto& path : {*more, *val})
        for (const CacheRecord& record : opened(path)->records())
            CHECK(blocks_of(*merged, record.id) == blocks_of(*opened(path), record.id));
    REQUIRE_OK(write_cache(folder / "more", found({*more}), {}, {}));
    CHECK(read_file(folder / "more", 1U << 30U).value() == read_file(*more, 1U << 30U).value());
    REQUIRE_CODE(CaseSet::find(Paths{*more, folder / "all"}), invalid_argument);
}

} // namespace mfres
