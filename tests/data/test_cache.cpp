// SPDX-License-Identifier: MIT
#include "core/file.h"
#include "data/block_codec.h"
#include "data/cache_format.h"
#include "imaging/case.h"
#include "imaging/labels.h"
#include "imaging/preprocess.h"
#include "support/cached_cases.h"
#include "support/program.h"

#include <thread>

using namespace mfres;

namespace {

using Index = std::array<std::int64_t, 3>;

/// Three cases that need the three ways of storing intensities: 16-bit integers, 8-bit integers, and anything.
std::vector<CaseFiles> three_cases(const test::TemporaryFolder& folder) {
    const Phantom& phantom = test::small_phantom();
    auto few = phantom.volumes;
    auto continuous = phantom.volumes;
    Random random(8);
    for (std::size_t m = 0; m < 4; ++m)
        for (std::size_t i = 0; i < few[m].voxels.size(); ++i) {
            float& value = few[m].voxels[i];
            if (value == 0.0F)
                continue;
            value = 1.0F + std::floor(value * 0.15F);
            continuous[m].voxels[i] += static_cast<float>(random.uniform());
        }
    return {test::write_labelled_case(folder, "a-integers", phantom.volumes, phantom.labels),
            test::write_labelled_case(folder, "b-few", few, phantom.labels),
            test::write_labelled_case(folder, "c-continuous", continuous, phantom.labels)};
}

std::shared_ptr<const Cache> open(const std::filesystem::path& path) {
    auto cache = Cache::open(path);
    REQUIRE_OK(cache);
    return std::move(cache).value();
}

std::shared_ptr<const CachedCase> load(const Cache& cache, std::size_t index) {
    auto loaded = cache.load(index);
    REQUIRE_OK(loaded);
    return std::move(loaded).value();
}

std::vector<std::byte> bytes_of(const std::filesystem::path& path) {
    auto bytes = read_file(path, 1U << 30U);
    REQUIRE_OK(bytes);
    return std::move(bytes).value();
}

/// What prepares a case for segmentation, as the truth for what is cached.
struct Prepared {
    Case loaded;
    Preprocessing preprocessing;
    LabelMap classes;
};

Prepared prepare(const CaseFiles& files) {
    auto loaded = load_case(files);
    REQUIRE_OK(loaded);
    auto preprocessing = plan_preprocessing(loaded->scans);
    REQUIRE_OK(preprocessing);
    auto labels = load_segmentation(files, *loaded);
    REQUIRE_OK(labels);
    REQUIRE_OK(labels_to_classes(*labels, LabelScheme::brats, files.id));
    return {std::move(loaded).value(), std::move(preprocessing).value(), std::move(labels).value()};
}

/// Compares every voxel of a region somewhat larger than the box with fill_input and the segmentation.
void check_against_preparation(const CachedCase& cached, const Prepared& truth, double tolerance) {
    const auto& preprocessing = truth.preprocessing;
    Index extents;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        REQUIRE(cached.size[axis] == preprocessing.box_end[axis] - preprocessing.box_begin[axis]);
        extents[axis] = cached.size[axis] + 5;
    }
    const Shape shape{1, 4, extents[0], extents[1], extents[2]};
    Tensor expected(shape);
    fill_input(preprocessing, truth.loaded.scans, {-2, -2, -2}, view(expected), 1);
    Tensor images(shape, 1e9F);
    std::vector<std::uint8_t> classes(static_cast<std::size_t>(extents[0] * extents[1] * extents[2]), 99);
    copy_block(cached, {-2, -2, -2}, extents, view(images), classes.data());
    double worst = 0.0;
    for (std::int64_t i = 0; i < images.elements(); ++i) {
        worst = std::max(worst, std::abs(double(images[i]) - double(expected[i])));
        if (expected[i] == 0.0F && images[i] != 0.0F)
            REQUIRE(std::abs(images[i]) <= tolerance);
    }
    CHECK(worst <= tolerance);

    const auto& grid = truth.classes.grid.size;
    std::int64_t wrong = 0;
    std::size_t n = 0;
    for (std::int64_t x = -2; x < extents[0] - 2; ++x)
        for (std::int64_t y = -2; y < extents[1] - 2; ++y)
            for (std::int64_t z = -2; z < extents[2] - 2; ++z) {
                const Index place = {x, y, z};
                bool inside = true;
                std::int64_t index = 0;
                for (std::size_t axis = 3; axis-- > 0;) {
                    inside = inside && place[axis] >= 0 && place[axis] < cached.size[axis];
                    index = index * grid[axis] + preprocessing.box_begin[axis] + place[axis];
                }
                wrong += classes[n++] != (inside ? truth.classes.labels[static_cast<std::size_t>(index)] : 0);
            }
    CHECK(wrong == 0);
}

/// A cache file of the three cases as bytes, and the means to make it wrong in one place and consistent elsewhere.
struct Forgery {
    std::vector<std::byte> blocks;
    std::vector<CacheRecord> records;

    explicit Forgery(std::vector<std::byte> file) {
        const auto header = decode_header(std::span(file).first(cache_header_bytes), file.size(), "file");
        REQUIRE_OK(header);
        const auto index = std::span(file).subspan(static_cast<std::size_t>(header->index_begin));
        auto decoded = decode_index(*header, index, "file");
        REQUIRE_OK(decoded);
        records = std::move(decoded).value();
        file.resize(static_cast<std::size_t>(header->index_begin));
        file.erase(file.begin(), file.begin() + cache_header_bytes);
        blocks = std::move(file);
    }

    std::vector<std::byte> bytes() const {
        const auto index = encode_index(records);
        const auto header = encode_header(records.size(), cache_header_bytes + blocks.size(), index);
        std::vector<std::byte> file(header.begin(), header.end());
        file.insert(file.end(), blocks.begin(), blocks.end());
        file.insert(file.end(), index.begin(), index.end());
        return file;
    }

    /// Puts other content in place of a block, checksum and lengths right.
    void replace_block(std::size_t record, std::size_t block, const std::vector<std::byte>& content) {
        CacheBlock& there = records[record].blocks[block];
        const auto begin = blocks.begin() + static_cast<std::ptrdiff_t>(there.begin - cache_header_bytes);
        const auto at = blocks.erase(begin, begin + static_cast<std::ptrdiff_t>(there.bytes));
        blocks.insert(at, content.begin(), content.end());
        there.bytes = content.size();
        there.crc = crc32_of(content);
    }
};

/// A written cache that many tests look at.
struct WrittenCache {
    test::TemporaryFolder folder;
    std::vector<CaseFiles> cases = three_cases(folder);
    std::filesystem::path path = folder / "train.mfcache";

    WrittenCache() { REQUIRE_OK(write_cache(path, cases, {.threads = 2}, {})); }
};

const WrittenCache& written() {
    static const WrittenCache cache;
    return cache;
}

Status write_and_open(const std::vector<std::byte>& bytes) {
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_file_atomically(folder / "f.mfcache", bytes));
    const auto cache = Cache::open(folder / "f.mfcache");
    return cache ? Status() : Status(cache.error());
}

Status write_and_load_all(const std::vector<std::byte>& bytes) {
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_file_atomically(folder / "f.mfcache", bytes));
    const auto cache = open(folder / "f.mfcache");
    for (std::size_t i = 0; i < cache->entries().size(); ++i)
        if (const auto loaded = cache->load(i); !loaded)
            return loaded.error();
    return {};
}

} // namespace

TEST_CASE("a cache gives the z-scores and classes that preprocessing gives") {
    const auto& files = written();
    const auto cache = open(files.path);
    REQUIRE(cache->entries().size() == 3);
    const std::array<bool, 3> narrow = {false, true, false};
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < 3; ++i) {
        INFO(files.cases[i].id);
        const auto cached = load(*cache, i);
        const Prepared truth = prepare(files.cases[i]);
        CHECK(cached->id == files.cases[i].id);
        CHECK(cached->voxel_mm == std::array<double, 3>{1.0, 1.0, 1.0});
        for (const auto& modality : cached->modalities)
            CHECK(std::holds_alternative<std::vector<std::uint8_t>>(modality.quanta) == narrow[i]);
        check_against_preparation(*cached, truth, i == 2 ? 1e-4 : 1e-5);

        const CacheEntry& entry = cache->entries()[i];
        CHECK(entry.id == files.cases[i].id);
        CHECK(entry.size == cached->size);
        for (std::size_t c = 0; c < 4; ++c)
            CHECK(entry.class_voxels[c] == std::count(cached->classes.begin(), cached->classes.end(), c));
        CHECK(entry.class_voxels[3] > 0);
        CHECK(std::count(cached->brain.begin(), cached->brain.end(), 1) == truth.preprocessing.brain_voxels);
        bytes += entry.bytes;
    }
    CHECK(bytes < std::filesystem::file_size(files.path));
    CHECK(bytes + 1024 > std::filesystem::file_size(files.path));
}

TEST_CASE("a cache of clipped intensities holds the clipped z-scores, and says so") {
    const test::TemporaryFolder folder;
    const std::vector<CaseFiles> cases = three_cases(folder);
    REQUIRE_OK(write_cache(folder / "plain.mfcache", cases, {.threads = 2}, {}));
    REQUIRE_OK(write_cache(folder / "clipped.mfcache", cases,
                           {.threads = 2, .normalisation = Normalisation::zscore_brain_clipped}, {}));
    const auto plain = open(folder / "plain.mfcache");
    const auto cache = open(folder / "clipped.mfcache");
    CHECK(plain->fingerprint() != cache->fingerprint());
    for (std::size_t i = 0; i < cases.size(); ++i) {
        INFO(cases[i].id);
        CHECK(plain->entries()[i].normalisation == Normalisation::zscore_brain);
        CHECK(cache->entries()[i].normalisation == Normalisation::zscore_brain_clipped);
        CHECK(load(*cache, i)->normalisation == Normalisation::zscore_brain_clipped);
        CHECK_FALSE(is_clipped(*load(*plain, i)));
        CachedCase without_record = *load(*cache, i);
        without_record.normalisation = Normalisation::zscore_brain;
        CHECK(is_clipped(without_record));
        Prepared truth = prepare(cases[i]);
        const auto clipped =
            plan_preprocessing(truth.loaded.scans, {.normalisation = Normalisation::zscore_brain_clipped});
        REQUIRE_OK(clipped);
        truth.preprocessing = *clipped;
        check_against_preparation(*load(*cache, i), truth, 1e-4);
    }
}

TEST_CASE("copy_block writes into any layout") {
    const CachedCase source = test::ellipsoid_case({9, 11, 13});
    const Index begin = {-1, 4, 2};
    const Index extents = {6, 9, 8};
    Tensor dense(Shape{4, 6, 9, 8}, 7.0F);
    std::vector<std::uint8_t> classes(6 * 9 * 8, 9);
    copy_block(source, begin, extents, view(dense), classes.data());

    Tensor channels_last(Shape{1, 6, 9, 8, 4}, 7.0F);
    const StridedView<float> strided{channels_last.data(), Shape{1, 4, 6, 9, 8}, {6 * 9 * 8 * 4, 1, 9 * 8 * 4, 32, 4}};
    std::vector<std::uint8_t> same_classes(6 * 9 * 8, 9);
    copy_block(source, begin, extents, strided, same_classes.data());
    CHECK(classes == same_classes);
    std::int64_t n = 0;
    for (std::int64_t m = 0; m < 4; ++m)
        for (std::int64_t x = 0; x < 6; ++x)
            for (std::int64_t y = 0; y < 9; ++y)
                for (std::int64_t z = 0; z < 8; ++z, ++n) {
                    const double expected = test::score(source, static_cast<std::size_t>(m), x - 1, y + 4, z + 2);
                    REQUIRE(dense[n] == expected);
                    REQUIRE(strided.at(0, m, x, y, z) == expected);
                }
}

TEST_CASE("the same cases give the same bytes whatever the threads, and other levels another fingerprint") {
    const auto& files = written();
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_cache(folder / "one", files.cases, {.threads = 1}, {}));
    REQUIRE_OK(write_cache(folder / "three", files.cases, {.threads = 3}, {}));
    REQUIRE_OK(write_cache(folder / "levels", files.cases, {.levels = 32}, {}));
    CHECK(test::file_text(folder / "one") == test::file_text(files.path));
    CHECK(test::file_text(folder / "three") == test::file_text(files.path));
    const auto exact = open(files.path);
    const auto rounded = open(folder / "levels");
    CHECK(exact->fingerprint() == open(folder / "one")->fingerprint());
    CHECK(exact->fingerprint().size() == 64);
    CHECK(exact->fingerprint().find_first_not_of("0123456789abcdef") == std::string::npos);
    CHECK(exact->fingerprint() != rounded->fingerprint());
    CHECK(std::filesystem::file_size(folder / "levels") < std::filesystem::file_size(files.path) * 2 / 3);
    for (std::size_t i = 0; i < 3; ++i)
        for (const auto& modality : load(*rounded, i)->modalities) {
            const auto& quanta = std::get<std::vector<std::uint8_t>>(modality.quanta);
            CHECK(*std::max_element(quanta.begin(), quanta.end()) == 31);
        }
    // A step over clipped intensities is about a tenth of a standard deviation.
    const auto rounded_case = load(*rounded, 0);
    const auto exact_case = load(*exact, 0);
    const auto [sx, sy, sz] = exact_case->size;
    double squares = 0.0;
    double count = 0.0;
    for (std::int64_t x = 0; x < sx; ++x)
        for (std::int64_t y = 0; y < sy; ++y)
            for (std::int64_t z = 0; z < sz; ++z)
                if (exact_case->brain[test::at(*exact_case, x, y, z)] != 0) {
                    const double error = test::score(*rounded_case, 3, x, y, z) - test::score(*exact_case, 3, x, y, z);
                    squares += error * error;
                    count += 1.0;
                }
    CHECK(std::sqrt(squares / count) < 0.1);
}

TEST_CASE("a change of one voxel changes the fingerprint") {
    const Phantom& phantom = test::small_phantom();
    const test::TemporaryFolder folder;
    auto labels = phantom.labels;
    const auto files = test::write_labelled_case(folder, "x", phantom.volumes, labels);
    REQUIRE_OK(write_cache(folder / "before", {files}, {}, {}));
    const auto enhancing = std::find(labels.labels.begin(), labels.labels.end(), 4);
    *enhancing = 1;
    const auto changed = test::write_labelled_case(folder, "x", phantom.volumes, labels);
    REQUIRE_OK(write_cache(folder / "after", {changed}, {}, {}));
    CHECK(open(folder / "before")->fingerprint() != open(folder / "after")->fingerprint());
}

TEST_CASE(
    "labels of BraTS 2023 become the same classes, and cases of two schemes are rejected unless theirs are named") {
    const Phantom& phantom = test::small_phantom();
    const test::TemporaryFolder folder;
    LabelMap recent = phantom.labels;
    std::replace(recent.labels.begin(), recent.labels.end(), std::uint8_t{4}, std::uint8_t{3});
    std::vector<CaseFiles> cases = {test::write_labelled_case(folder, "x", phantom.volumes, phantom.labels),
                                    test::write_labelled_case(folder, "y", phantom.volumes, recent)};
    REQUIRE_OK(write_cache(folder / "x.mfcache", {cases[0]}, {}, {}));
    REQUIRE_OK(write_cache(folder / "y.mfcache", {cases[1]}, {}, {}));
    CHECK(load(*open(folder / "x.mfcache"), 0)->classes == load(*open(folder / "y.mfcache"), 0)->classes);
    REQUIRE_CODE(write_cache(folder / "c", cases, {}, {}), label_scheme_unclear);
    CHECK_FALSE(std::filesystem::exists(folder / "c"));
    REQUIRE_OK(choose_labels(std::span(&cases[0], 1), "", "old")); // as CaseSet::find does for each folder
    REQUIRE_OK(choose_labels(std::span(&cases[1], 1), "", "recent"));
    CHECK(cases[1].label_scheme == "brats2023");
    REQUIRE_OK(write_cache(folder / "c", cases, {}, {}));
    const auto cache = open(folder / "c");
    CHECK(load(*cache, 0)->classes == load(*cache, 1)->classes);

    LabelMap mixed = phantom.labels;
    *std::find(mixed.labels.begin(), mixed.labels.end(), 4) = 3;
    const auto files = test::write_labelled_case(folder, "z", phantom.volumes, mixed);
    REQUIRE_CODE(write_cache(folder / "d", {files}, {}, {}), label_scheme_unclear);
    CHECK_FALSE(std::filesystem::exists(folder / "d"));
}

TEST_CASE("a cache is complete or absent") {
    const auto& files = written();
    const test::TemporaryFolder folder;
    const auto only_file = [&](const std::string& name) {
        const std::filesystem::directory_iterator entries(folder.path());
        return std::distance(entries, std::filesystem::directory_iterator()) == 1 &&
               std::filesystem::exists(folder / name);
    };
    REQUIRE_OK(write_file_atomically(folder / "c", "something else"));
    REQUIRE_CODE(write_cache(folder / "c", files.cases, {}, {}), file_exists);
    CHECK(test::file_text(folder / "c") == "something else");

    std::vector<std::pair<std::size_t, std::size_t>> reports;
    const auto stop_after_one = [&](std::size_t done, std::size_t total) {
        reports.emplace_back(done, total);
        return done < 1;
    };
    REQUIRE_CODE(write_cache(folder / "c", files.cases, {.overwrite = true}, stop_after_one), interrupted);
    CHECK(reports == std::vector<std::pair<std::size_t, std::size_t>>{{0, 3}, {1, 3}});
    CHECK(test::file_text(folder / "c") == "something else");
    CHECK(only_file("c"));

    auto unlabelled = files.cases;
    unlabelled[1].segmentation.reset();
    REQUIRE_CODE(write_cache(folder / "c", unlabelled, {.overwrite = true}, {}), file_not_found);
    auto missing = files.cases;
    missing[2].modalities[1] = folder / "missing.nii.gz";
    REQUIRE_CODE(write_cache(folder / "c", missing, {.overwrite = true}, {}), file_not_found);
    CHECK(only_file("c"));

    reports.clear();
    REQUIRE_OK(
        write_cache(folder / "c", {files.cases[0]}, {.overwrite = true}, [&](std::size_t done, std::size_t total) {
            reports.emplace_back(done, total);
            return true;
        }));
    CHECK(reports.back() == std::pair<std::size_t, std::size_t>{1, 1});
    CHECK(open(folder / "c")->entries().size() == 1);
    CHECK(only_file("c"));
}

TEST_CASE("options that make no sense are rejected before anything is read") {
    const test::TemporaryFolder folder;
    const auto& cases = written().cases;
    for (const int levels : {-1, 1, 257})
        REQUIRE_CODE(write_cache(folder / "c", cases, {.levels = levels}, {}), invalid_argument);
    REQUIRE_CODE(write_cache(folder / "c", cases, {.threads = -1}, {}), invalid_argument);
    REQUIRE_CODE(write_cache(folder / "c", {}, {}, {}), dataset_empty);
    auto nameless = cases;
    nameless[0].id.clear();
    REQUIRE_CODE(write_cache(folder / "c", nameless, {}, {}), invalid_argument);
    REQUIRE_CODE(write_cache(folder / "no folder/c", cases, {}, {}), file_write);
    CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("what is no cache, or a cache cut off or changed anywhere, is rejected") {
    const auto whole = bytes_of(written().path);
    REQUIRE_OK(write_and_load_all(whole));
    const auto changed = [&](std::size_t position) {
        auto bytes = whole;
        bytes[position] ^= std::byte{0x10};
        return bytes;
    };
    for (std::size_t position = 0; position < 12; ++position)
        REQUIRE_CODE(write_and_open(changed(position)), cache_invalid);
    for (std::size_t position = 12; position < cache_header_bytes; ++position)
        REQUIRE_CODE(write_and_open(changed(position)), cache_damaged);
    const Forgery parts(whole);
    for (std::size_t position = cache_header_bytes + parts.blocks.size(); position < whole.size(); position += 5)
        REQUIRE_CODE(write_and_open(changed(position)), cache_damaged);
    const std::size_t stride = parts.blocks.size() / 40;
    for (std::size_t n = 0; n < 40; ++n) {
        const auto status = write_and_load_all(changed(cache_header_bytes + n * stride));
        REQUIRE_CODE(status, cache_damaged);
    }
    REQUIRE_CODE(write_and_open({}), cache_invalid);
    for (std::size_t kept = 1; kept < whole.size(); kept += whole.size() / 50)
        REQUIRE_CODE(write_and_open({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(kept)}), cache_damaged);
    auto longer = whole;
    longer.push_back(std::byte{0});
    REQUIRE_CODE(write_and_open(longer), cache_damaged);

    const test::TemporaryFolder folder;
    REQUIRE_CODE(Cache::open(folder / "missing"), file_not_found);
    REQUIRE_CODE(Cache::open(folder.path()), file_read);
    REQUIRE_CODE(Cache::open(written().cases[0].modalities[0]), cache_invalid);
}

TEST_CASE("an index with the right checksum and impossible contents is rejected") {
    const auto whole = bytes_of(written().path);
    CHECK(Forgery(whole).bytes() == whole);
    const auto rejected = [&](const auto& change) {
        Forgery forgery(whole);
        change(forgery.records);
        REQUIRE_CODE(write_and_open(forgery.bytes()), cache_invalid);
    };
    using Records = std::vector<CacheRecord>;
    rejected([](Records& r) { r[1].size[0] = 0; });
    rejected([](Records& r) { r[1].size[2] = 1025; });
    rejected([](Records& r) { r[0].size = {1024, 1024, 1024}; });
    rejected([](Records& r) { // a box of 2^30 voxels, consistent otherwise: its blocks are far too small to fill it
        r[0].size = {1024, 1024, 1024};
        r[0].class_voxels = {std::int64_t{1} << 30, 0, 0, 0};
    });
    rejected([](Records& r) { r[2].class_voxels[0] += 1; });
    rejected([](Records& r) { r[2].class_voxels = {r[2].voxels() + 1, -1, 0, 0}; });
    rejected([](Records& r) { r[0].class_voxels[1] = std::int64_t{-9223372036854775807}; });
    rejected([](Records& r) { r[0].brain_voxels = 0; });
    rejected([](Records& r) { r[0].brain_voxels = r[0].voxels() + 1; });
    rejected([](Records& r) { r[0].voxel_mm[1] = 0.0; });
    rejected([](Records& r) { r[0].voxel_mm[1] = std::numeric_limits<double>::quiet_NaN(); });
    rejected([](Records& r) { r[0].modalities[3].scale = std::numeric_limits<float>::infinity(); });
    rejected([](Records& r) { r[0].modalities[0].offset = std::numeric_limits<float>::quiet_NaN(); });
    rejected([](Records& r) { r[0].id.clear(); });
    rejected([](Records& r) { r[0].id.assign(longest_case_id + 1, 'x'); });
    rejected([](Records& r) { r[0].blocks[0].bytes += 1; });
    rejected([](Records& r) { r[0].blocks[0].bytes = std::numeric_limits<std::uint64_t>::max(); });
    rejected([](Records& r) { // two lengths that wrap around to the right sum
        r[0].blocks[0].bytes += std::uint64_t{1} << 63U;
        r[0].blocks[1].bytes += std::uint64_t{1} << 63U;
    });
    rejected([](Records& r) { r[2].blocks[5].bytes -= 1; });
    rejected([](Records& r) { r.pop_back(); });

    Forgery empty(whole);
    empty.records.clear();
    empty.blocks.clear();
    REQUIRE_CODE(write_and_open(empty.bytes()), dataset_empty);

    // More cases than the index has, and an index with more than its cases.
    const auto index = encode_index(Forgery(whole).records);
    const std::uint64_t begin = whole.size() - index.size();
    for (const std::uint64_t cases : {std::uint64_t{2}, std::uint64_t{4}, std::uint64_t{1} << 60U}) {
        auto bytes = whole;
        const auto header = encode_header(cases, begin, index);
        std::copy(header.begin(), header.end(), bytes.begin());
        REQUIRE_CODE(write_and_open(bytes), cache_invalid);
    }
}

TEST_CASE("an index with random changes and the right checksum is read or rejected, never worse") {
    const test::TemporaryFolder folder;
    const auto only = std::span(written().cases).subspan(1, 1);
    REQUIRE_OK(write_cache(folder / "c", {only[0]}, {.levels = 4}, {}));
    const Forgery whole(bytes_of(folder / "c"));
    const auto index = encode_index(whole.records);
    Random random(31);
    int rejected = 0;
    for (int run = 0; run < 400; ++run) {
        auto changed = index;
        for (std::uint64_t n = 0; n <= random.below(3); ++n)
            changed[random.below(changed.size())] ^= static_cast<std::byte>(1 + random.below(255));
        const auto header = encode_header(1, cache_header_bytes + whole.blocks.size(), changed);
        std::vector<std::byte> file(header.begin(), header.end());
        file.insert(file.end(), whole.blocks.begin(), whole.blocks.end());
        file.insert(file.end(), changed.begin(), changed.end());
        REQUIRE_OK(write_file_atomically(folder / "f", file));
        const auto cache = Cache::open(folder / "f");
        const auto code =
            cache ? (*cache)->load(0).ok() ? ErrorCode::internal : (*cache)->load(0).error().code : cache.error().code;
        REQUIRE((code == ErrorCode::cache_invalid || code == ErrorCode::cache_damaged || code == ErrorCode::internal));
        rejected += code == ErrorCode::internal ? 0 : 1;
    }
    CHECK(rejected > 200); // names, voxel sizes, scales and offsets can change into others that make sense
}

TEST_CASE("a block with the right checksum and wrong contents is damaged, and the case is named") {
    const auto whole = bytes_of(written().path);
    const auto cached = load(*open(written().path), 1);
    const auto damaged = [&](std::size_t block, const std::vector<std::byte>& content) {
        Forgery forgery(whole);
        forgery.replace_block(1, block, content);
        const auto status = write_and_load_all(forgery.bytes());
        REQUIRE_CODE(status, cache_damaged);
        CHECK(status.error().message.find("b-few") != std::string::npos);
    };
    const auto packed = [](const std::vector<std::uint8_t>& labels) {
        auto bytes = pack_labels(labels);
        REQUIRE_OK(bytes);
        return std::move(bytes).value();
    };
    auto classes = cached->classes;
    std::replace(classes.begin(), classes.end(), 3, 4);
    damaged(classes_block, packed(classes));
    classes = cached->classes;
    *std::find(classes.begin(), classes.end(), 1) = 2;
    damaged(classes_block, packed(classes));
    auto brain = cached->brain;
    std::replace(brain.begin(), brain.end(), 1, 2);
    damaged(brain_block, packed(brain));
    brain = cached->brain;
    *std::find(brain.begin(), brain.end(), 0) = 1;
    damaged(brain_block, packed(brain));
    damaged(0, std::vector<std::byte>(5000, std::byte{0x5A}));
}

TEST_CASE("cases stay in memory as far as they may") {
    const auto cache = open(written().path);
    const auto first = load(*cache, 0);
    CHECK(load(*cache, 0) == first);
    const std::uint64_t one = 10 * static_cast<std::uint64_t>(first->voxels()); // four 16-bit modalities, two labels
    cache->keep_at_most(0);
    const auto again = load(*cache, 0);
    CHECK(again != first);
    CHECK(again->classes == first->classes);
    CHECK(again->modalities[2].quanta == first->modalities[2].quanta);

    cache->keep_at_most(one + one / 2); // room for one case of 16-bit intensities, not for two
    const auto kept = load(*cache, 0);
    CHECK(load(*cache, 0) == kept);
    const auto other = load(*cache, 2);
    CHECK(load(*cache, 2) == other);
    CHECK(load(*cache, 0) != kept);

    cache->keep_at_most(3 * one);
    const auto a = load(*cache, 0);
    const auto b = load(*cache, 1);
    const auto c = load(*cache, 2);
    CHECK(load(*cache, 0) == a); // now 1 is the one that was used longest ago
    cache->keep_at_most(2 * one);
    CHECK(load(*cache, 0) == a);
    CHECK(load(*cache, 2) == c);
    CHECK(load(*cache, 1) != b);
    REQUIRE_CODE(cache->load(3), invalid_argument);
}

TEST_CASE("several threads read one cache") {
    const auto cache = open(written().path);
    cache->keep_at_most(20'000'000);
    std::array<std::int64_t, 4> tumour{};
    std::vector<std::thread> readers;
    for (auto& sum : tumour)
        readers.emplace_back([&] {
            for (std::size_t n = 0; n < 12; ++n)
                if (const auto loaded = cache->load(n % 3))
                    sum += std::count((*loaded)->classes.begin(), (*loaded)->classes.end(), 3);
        });
    for (auto& reader : readers)
        reader.join();
    std::int64_t expected = 0;
    for (const auto& entry : cache->entries())
        expected += 4 * entry.class_voxels[3];
    for (const auto sum : tumour)
        CHECK(sum == expected);
}

TEST_CASE("real cases survive the cache") {
    const auto folder = test::shared_data("data/real/train");
    if (!folder)
        return;
    auto cases = find_cases(*folder);
    REQUIRE_OK(cases);
    std::vector<CaseFiles> two = {cases->front(), cases->back()};
    if (const auto original = test::shared_data("data/real/original/TCGA-FG-6692")) {
        auto scaled = find_case(*original); // int16 with slope and intercept, background not 0
        REQUIRE_OK(scaled);
        two.push_back(*scaled);
    }
    const test::TemporaryFolder target;
    REQUIRE_OK(write_cache(target / "c", two, {.threads = 2}, {}));
    const auto cache = open(target / "c");
    for (std::size_t i = 0; i < two.size(); ++i) {
        INFO(two[i].id);
        check_against_preparation(*load(*cache, i), prepare(two[i]), 1e-5);
    }
}
