#include "data/cache.h"

#include "core/file.h"
#include "core/try.h"
#include "data/block_codec.h"
#include "data/cache_format.h"
#include "model/sha256.h"

#include <algorithm>
#include <list>
#include <mutex>
#include <new>
#include <optional>

namespace mfres {

namespace {

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

class OpenedCache final : public Cache {
  public:
    OpenedCache(ReadableFile file, std::vector<CacheRecord> records, std::string fingerprint)
        : file_(std::move(file)), records_(std::move(records)), fingerprint_(std::move(fingerprint)) {
        for (const auto& record : records_) {
            std::uint64_t bytes = 0;
            for (const auto& block : record.blocks)
                bytes += block.bytes;
            entries_.push_back({record.id, record.size, record.class_voxels, bytes, record.normalisation});
        }
    }

    const std::vector<CacheEntry>& entries() const override { return entries_; }
    const std::string& fingerprint() const override { return fingerprint_; }
    void keep_at_most(std::uint64_t bytes) const override { recent_.limit(bytes); }

    Result<std::shared_ptr<const CachedCase>> load(std::size_t index) const override {
        if (index >= records_.size())
            return Error{
                ErrorCode::invalid_argument,
                text("case ", index, " was asked for, but ", file_.path().string(), " holds ", records_.size()),
                file_.path().string()};
        if (auto kept = recent_.find(index))
            return kept;
        try {
            MFRES_TRY(CachedCase loaded, read_case(records_[index]));
            auto shared = std::make_shared<const CachedCase>(std::move(loaded));
            recent_.keep(index, memory_of(records_[index]), shared);
            return std::shared_ptr<const CachedCase>(std::move(shared));
        } catch (const std::bad_alloc&) {
            return Error{ErrorCode::memory_limit,
                         text("there is no memory for case ", records_[index].id, " of ", file_.path().string()),
                         file_.path().string()};
        }
    }

  private:
    /// Names a block in errors.
    std::string place(const CacheRecord& record, std::size_t block) const {
        constexpr std::array<const char*, cache_blocks> names = {"T1", "T1ce", "T2", "FLAIR", "classes", "brain mask"};
        return text("the ", names[block], " block of case ", record.id, " in ", file_.path().string());
    }

    Error damaged(const CacheRecord& record, std::size_t block, const std::string& what) const {
        return {ErrorCode::cache_damaged, text(place(record, block), " is damaged: ", what), file_.path().string()};
    }

    /// The bytes of a block, checksum verified.
    Result<std::vector<std::byte>> read_block(const CacheRecord& record, std::size_t block) const {
        const CacheBlock& there = record.blocks[block];
        std::vector<std::byte> bytes(there.bytes);
        MFRES_CHECK(file_.read_at(there.begin, bytes));
        if (crc32_of(bytes) != there.crc)
            return damaged(record, block, text("its ", there.bytes, " bytes do not have the CRC-32 that was recorded"));
        return bytes;
    }

    Result<std::vector<std::uint8_t>> read_labels(const CacheRecord& record, std::size_t block) const {
        MFRES_TRY(const auto packed, read_block(record, block));
        std::vector<std::uint8_t> labels(static_cast<std::size_t>(record.voxels()));
        MFRES_CHECK(unpack_labels(packed, labels, place(record, block)));
        return labels;
    }

    template <typename T>
    Status read_quanta(const CacheRecord& record, std::size_t block, CachedCase& loaded) const {
        MFRES_TRY(const auto packed, read_block(record, block));
        std::vector<T> quanta(static_cast<std::size_t>(record.voxels()));
        MFRES_CHECK(unpack_quanta(packed, loaded.brain, record.size, std::span<T>(quanta), place(record, block)));
        loaded.modalities[block] = {std::move(quanta), record.modalities[block].scale, record.modalities[block].offset};
        return {};
    }

    Status check_labels(const CacheRecord& record, const CachedCase& loaded) const {
        std::array<std::int64_t, 256> classes{};
        for (const auto value : loaded.classes)
            ++classes[value];
        for (std::size_t c = 0; c < record.class_voxels.size(); ++c)
            if (classes[c] != record.class_voxels[c])
                return damaged(record, classes_block,
                               text("it holds ", classes[c], " voxels of class ", c, " where the index counts ",
                                    record.class_voxels[c]));
        std::array<std::int64_t, 256> brain{};
        for (const auto value : loaded.brain)
            ++brain[value];
        if (brain[1] != record.brain_voxels || brain[0] != record.voxels() - record.brain_voxels)
            return damaged(record, brain_block,
                           text("it holds ", brain[1], " brain voxels where the index counts ", record.brain_voxels));
        return {};
    }

    Result<CachedCase> read_case(const CacheRecord& record) const {
        CachedCase loaded;
        loaded.id = record.id;
        loaded.size = record.size;
        loaded.voxel_mm = record.voxel_mm;
        loaded.normalisation = record.normalisation;
        MFRES_TRY(loaded.classes, read_labels(record, classes_block));
        MFRES_TRY(loaded.brain, read_labels(record, brain_block));
        MFRES_CHECK(check_labels(record, loaded));
        for (std::size_t m = 0; m < loaded.modalities.size(); ++m)
            MFRES_CHECK(record.modalities[m].wide ? read_quanta<std::int16_t>(record, m, loaded)
                                                  : read_quanta<std::uint8_t>(record, m, loaded));
        return loaded;
    }

    ReadableFile file_;
    std::vector<CacheRecord> records_;
    std::vector<CacheEntry> entries_;
    std::string fingerprint_;
    mutable RecentCases recent_;
};

Result<std::shared_ptr<const Cache>> open_cache(const std::filesystem::path& path) {
    const std::string where = path.string();
    MFRES_TRY(ReadableFile file, ReadableFile::open(path));
    std::vector<std::byte> head(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), cache_header_bytes)));
    MFRES_CHECK(file.read_at(0, head));
    MFRES_TRY(const CacheHeader header, decode_header(head, file.size(), where));
    std::vector<std::byte> index(static_cast<std::size_t>(header.index_bytes));
    MFRES_CHECK(file.read_at(header.index_begin, index));
    MFRES_TRY(auto records, decode_index(header, index, where));
    Sha256 hash;
    hash.update(head);
    hash.update(index);
    return std::shared_ptr<const Cache>(
        std::make_shared<OpenedCache>(std::move(file), std::move(records), to_hex(hash.finish())));
}

} // namespace

Result<std::shared_ptr<const Cache>> Cache::open(const std::filesystem::path& path) {
    try {
        return open_cache(path);
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, text("there is no memory for the index of ", path.string()),
                     path.string()};
    }
}

} // namespace mfres
