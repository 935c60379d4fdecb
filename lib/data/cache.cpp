// SPDX-License-Identifier: MIT
#include "data/cache.h"

#include "core/checked.h"
#include "core/file.h"
#include "core/guard.h"
#include "core/try.h"
#include "data/block_codec.h"
#include "data/cache_file.h"
#include "model/sha256.h"

#include <algorithm>
#include <array>
#include <limits>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace mfres {

namespace {

/// Whether many brain voxels have the largest value of a contrast: half as many as clipping sets to it, since the brain
/// may be found otherwise today. Without clipping it is one voxel or a few.
bool has_clipped_end(const CachedModality& modality, const std::vector<std::uint8_t>& brain) {
    constexpr std::int64_t one_in = 4000;
    return std::visit(
        [&](const auto& quanta) {
            auto largest = std::numeric_limits<typename std::decay_t<decltype(quanta)>::value_type>::min();
            std::int64_t voxels = 0;
            std::int64_t at_largest = 0;
            for (std::size_t i = 0; i < quanta.size(); ++i) {
                if (brain[i] == 0)
                    continue;
                ++voxels;
                at_largest = quanta[i] > largest ? 1 : at_largest + (quanta[i] == largest ? 1 : 0);
                largest = std::max(largest, quanta[i]);
            }
            return at_largest >= voxels / one_in;
        },
        modality.quanta);
}

/// Cases in memory, the latest used first; older ones leave when the sum of their bytes exceeds a limit.
class RecentCases {
  public:
    std::shared_ptr<const CachedCase> find(std::size_t index) {
        const std::lock_guard lock(mutex_);
        const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& k) { return k.index == index; });
        if (found == kept_.end())
            return nullptr;
        kept_.splice(kept_.begin(), kept_, found);
        return kept_.front().content;
    }

    void keep(std::size_t index, std::uint64_t bytes, std::shared_ptr<const CachedCase> content) {
        const std::lock_guard lock(mutex_);
        // Two threads may have read the same case at the same time.
        if (std::any_of(kept_.begin(), kept_.end(), [&](const Kept& k) { return k.index == index; }))
            return;
        kept_.push_front({index, bytes, std::move(content)});
        bytes_ += bytes;
        forget_oldest();
    }

    void limit(std::uint64_t bytes) {
        const std::lock_guard lock(mutex_);
        limit_ = bytes;
        forget_oldest();
    }

  private:
    struct Kept {
        std::size_t index;
        std::uint64_t bytes;
        std::shared_ptr<const CachedCase> content;
    };

    void forget_oldest() {
        while (bytes_ > limit_) {
            bytes_ -= kept_.back().bytes;
            kept_.pop_back();
        }
    }

    std::mutex mutex_;
    std::list<Kept> kept_;
    std::uint64_t bytes_ = 0;
    std::uint64_t limit_ = std::uint64_t{8} << 30U;
};

/// Bytes of a case in memory.
std::uint64_t memory_of(const CacheRecord& record) {
    std::uint64_t bytes_per_voxel = 2; // classes and brain
    for (const auto& modality : record.modalities)
        bytes_per_voxel += modality.wide ? 2 : 1;
    return bytes_per_voxel * static_cast<std::uint64_t>(record.voxels());
}

/// Cases of one cache file or of several.
class OpenedCache final : public Cache {
  public:
    explicit OpenedCache(std::vector<CacheCase> cases) : cases_(std::move(cases)) {
        std::vector<CacheRecord> records;
        for (const CacheCase& one : cases_) {
            const CacheRecord& record = one.record();
            std::uint64_t bytes = 0;
            for (const auto& block : record.blocks)
                bytes += block.bytes;
            entries_.push_back({record.id, record.size, record.class_voxels, bytes, record.normalisation});
            records.push_back(record);
        }
        fingerprint_ = fingerprint_of(records);
    }

    const std::vector<CacheEntry>& entries() const override { return entries_; }
    const std::string& fingerprint() const override { return fingerprint_; }
    void keep_at_most(std::uint64_t bytes) const override { recent_.limit(bytes); }
    const CacheCase* stored(std::size_t index) const override { return &cases_[index]; }

    Result<std::shared_ptr<const CachedCase>> load(std::size_t index) const override {
        if (index >= cases_.size())
            return Error{ErrorCode::invalid_argument,
                         text("case ", index, " was asked for, but ", where(cases_[0]), " holds ", cases_.size()),
                         where(cases_[0])};
        if (auto kept = recent_.find(index))
            return kept;
        return guarded(where(cases_[index]), [&]() -> Result<std::shared_ptr<const CachedCase>> {
            MFRES_TRY(CachedCase loaded, read_case(cases_[index]));
            auto shared = std::make_shared<const CachedCase>(std::move(loaded));
            recent_.keep(index, memory_of(cases_[index].record()), shared);
            return std::shared_ptr<const CachedCase>(std::move(shared));
        });
    }

  private:
    static std::string where(const CacheCase& of) { return of.file->path().string(); }

    static Result<std::vector<std::uint8_t>> read_labels(const CacheCase& of, std::size_t block) {
        MFRES_TRY(const auto packed, of.file->read_block(of.index, block));
        std::vector<std::uint8_t> labels(static_cast<std::size_t>(of.record().voxels()));
        MFRES_CHECK(unpack_labels(packed, labels, of.file->place(of.index, block)));
        return labels;
    }

    template <typename T>
    static Status read_quanta(const CacheCase& of, std::size_t block, CachedCase& loaded) {
        const CacheRecord& record = of.record();
        MFRES_TRY(const auto packed, of.file->read_block(of.index, block));
        std::vector<T> quanta(static_cast<std::size_t>(record.voxels()));
        MFRES_CHECK(
            unpack_quanta(packed, loaded.brain, record.size, std::span<T>(quanta), of.file->place(of.index, block)));
        loaded.modalities[block] = {std::move(quanta), record.modalities[block].scale, record.modalities[block].offset};
        return {};
    }

    static Status check_labels(const CacheCase& of, const CachedCase& loaded) {
        const CacheRecord& record = of.record();
        std::array<std::int64_t, 256> classes{};
        for (const auto value : loaded.classes)
            ++classes[value];
        for (std::size_t c = 0; c < record.class_voxels.size(); ++c)
            if (classes[c] != record.class_voxels[c])
                return of.file->damaged(of.index, classes_block,
                                        text("it holds ", classes[c], " voxels of class ", c,
                                             " where the index counts ", record.class_voxels[c]));
        std::array<std::int64_t, 256> brain{};
        for (const auto value : loaded.brain)
            ++brain[value];
        if (brain[1] != record.brain_voxels || brain[0] != record.voxels() - record.brain_voxels)
            return of.file->damaged(
                of.index, brain_block,
                text("it holds ", brain[1], " brain voxels where the index counts ", record.brain_voxels));
        return {};
    }

    static Result<CachedCase> read_case(const CacheCase& of) {
        const CacheRecord& record = of.record();
        CachedCase loaded;
        loaded.id = record.id;
        loaded.size = record.size;
        loaded.voxel_mm = record.voxel_mm;
        loaded.normalisation = record.normalisation;
        MFRES_TRY(loaded.classes, read_labels(of, classes_block));
        MFRES_TRY(loaded.brain, read_labels(of, brain_block));
        MFRES_CHECK(check_labels(of, loaded));
        for (std::size_t m = 0; m < loaded.modalities.size(); ++m)
            MFRES_CHECK(record.modalities[m].wide ? read_quanta<std::int16_t>(of, m, loaded)
                                                  : read_quanta<std::uint8_t>(of, m, loaded));
        return loaded;
    }

    std::vector<CacheCase> cases_; ///< at least one
    std::vector<CacheEntry> entries_;
    std::string fingerprint_;
    mutable RecentCases recent_;
};

Result<std::shared_ptr<const CacheFile>> open_file(const std::filesystem::path& path) {
    const std::string where = path.string();
    MFRES_TRY(ReadableFile file, ReadableFile::open(path));
    std::vector<std::byte> head(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), cache_header_bytes)));
    MFRES_CHECK(file.read_at(0, head));
    MFRES_TRY(const CacheHeader header, decode_header(head, file.size(), where));
    std::vector<std::byte> index(static_cast<std::size_t>(header.index_bytes));
    MFRES_CHECK(file.read_at(header.index_begin, index));
    MFRES_TRY(auto records, decode_index(header, index, where));
    return std::shared_ptr<const CacheFile>(std::make_shared<CacheFile>(std::move(file), std::move(records)));
}

} // namespace

Result<std::shared_ptr<const CacheFile>> CacheFile::open(const std::filesystem::path& path) {
    return guarded(path, [&]() -> Result<std::shared_ptr<const CacheFile>> { return open_file(path); });
}

std::string CacheFile::place(std::size_t index, std::size_t block) const {
    constexpr std::array<const char*, cache_blocks> names = {"T1", "T1ce", "T2", "FLAIR", "classes", "brain mask"};
    return text("the ", names[block], " block of case ", records_[index].id, " in ", path().string());
}

Error CacheFile::damaged(std::size_t index, std::size_t block, const std::string& what) const {
    return {ErrorCode::cache_damaged, text(place(index, block), " is damaged: ", what), path().string()};
}

Result<std::vector<std::byte>> CacheFile::read_block(std::size_t index, std::size_t block) const {
    const CacheBlock& there = records_[index].blocks[block];
    std::vector<std::byte> bytes(array_size<std::byte>(static_cast<std::int64_t>(there.bytes)));
    MFRES_CHECK(file_.read_at(there.begin, bytes));
    if (crc32_of(bytes) != there.crc)
        return damaged(index, block, text("its ", there.bytes, " bytes do not have the CRC-32 that was recorded"));
    return bytes;
}

std::vector<CacheCase> cases_of(const std::shared_ptr<const CacheFile>& file) {
    std::vector<CacheCase> cases;
    for (std::size_t i = 0; i < file->records().size(); ++i)
        cases.push_back({file, i});
    return cases;
}

std::string fingerprint_of(std::span<const CacheRecord> records) {
    std::uint64_t index_begin = cache_header_bytes;
    for (const CacheRecord& record : records)
        for (const CacheBlock& block : record.blocks)
            index_begin += block.bytes;
    const std::vector<std::byte> index = encode_index(records);
    Sha256 hash;
    hash.update(encode_header(records.size(), index_begin, index));
    hash.update(index);
    return to_hex(hash.finish());
}

Result<std::shared_ptr<const Cache>> open_cases(std::vector<CacheCase> cases) {
    if (cases.empty())
        return Error{ErrorCode::dataset_empty, "no case is left of the data", {}};
    return guarded("", [&]() -> Result<std::shared_ptr<const Cache>> {
        return std::shared_ptr<const Cache>(std::make_shared<OpenedCache>(std::move(cases)));
    });
}

bool is_clipped(const CachedCase& source) {
    return source.normalisation == Normalisation::zscore_brain_clipped ||
           std::all_of(source.modalities.begin(), source.modalities.end(),
                       [&](const CachedModality& modality) { return has_clipped_end(modality, source.brain); });
}

bool is_cache(const std::filesystem::path& path) {
    std::array<char, cache_magic.size()> first{};
    const auto file = ReadableFile::open(path);
    return file && file->size() >= first.size() && file->read_at(0, std::as_writable_bytes(std::span(first))) &&
           std::string_view(first.data(), first.size()) == cache_magic;
}

Result<std::shared_ptr<const Cache>> Cache::open(const std::filesystem::path& path) {
    MFRES_TRY(const auto file, CacheFile::open(path));
    return open_cases(cases_of(file));
}

} // namespace mfres
