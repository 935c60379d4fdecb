// SPDX-License-Identifier: MIT
#include "imaging/nifti/bytes.h"

#include "core/try.h"
#include "imaging/nifti/names.h"

#include <algorithm>
#include <vector>

namespace mfres::nifti {

Result<ByteSource> ByteSource::open(const std::filesystem::path& path, std::uint64_t cap) {
    MFRES_TRY(ReadableFile opened, ReadableFile::open(path));
    if (opened.size() > cap)
        return Error{ErrorCode::nifti_too_large,
                     text(path.string(), " has ", opened.size(), " bytes, more than the ", cap, " allowed"),
                     path.string()};
    auto file = std::make_shared<const ReadableFile>(std::move(opened));
    ByteSource source(file);
    if (names_gzip(path))
        source.gzip_.emplace(
            [file, position = std::uint64_t{0}](std::span<std::byte> buffer) mutable -> Result<std::size_t> {
                const std::span<std::byte> part = buffer.first(
                    static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), file->size() - position)));
                MFRES_CHECK(file->read_at(position, part));
                position += part.size();
                return part.size();
            },
            file->size(), path.string());
    return source;
}

std::uint64_t ByteSource::most_bytes() const {
    return compressed() ? file_->size() * GzipReader::max_expansion : file_->size();
}

void ByteSource::inflate_all(std::uint64_t total, ArrayMemory* memory) {
    const std::uint64_t stored = file_->size();
    if (!gzip_ || total == 0 || total > most_bytes())
        return;
    std::optional<ArrayMemoryScope> scope;
    if (memory)
        scope.emplace(memory);
    try {
        const ArrayBlock compressed(static_cast<std::size_t>(stored));
        ArrayBlock content(static_cast<std::size_t>(total));
        const std::span<std::byte> file(compressed.data(), static_cast<std::size_t>(stored));
        if (!file_->read_at(0, file).ok() || !inflate_whole(file, {content.data(), static_cast<std::size_t>(total)}))
            return;
        inflated_ = std::move(content);
        total_ = total;
    } catch (const std::bad_alloc&) {
        return; // a piece at a time takes less
    }
}

Result<std::size_t> ByteSource::read(std::span<std::byte> output) {
    if (gzip_ && total_ == 0) {
        MFRES_TRY(const std::size_t got, gzip_->read(output));
        position_ += got;
        return got;
    }
    const std::uint64_t size = total_ > 0 ? total_ : file_->size();
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(output.size(), size - position_));
    if (total_ > 0)
        std::copy_n(inflated_.data() + position_, count, output.begin());
    else
        MFRES_CHECK(file_->read_at(position_, output.first(count)));
    position_ += count;
    return count;
}

Result<std::uint64_t> ByteSource::skip(std::uint64_t count) {
    if (!gzip_) {
        const std::uint64_t there = std::min(count, file_->size() - position_);
        position_ += there;
        return there;
    }
    std::vector<std::byte> skipped(static_cast<std::size_t>(std::min<std::uint64_t>(count, chunk_bytes)));
    std::uint64_t done = 0;
    while (done < count) {
        const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(count - done, skipped.size()));
        MFRES_TRY(const std::size_t got, read(std::span(skipped).first(wanted)));
        done += got;
        if (got < wanted)
            break;
    }
    return done;
}

} // namespace mfres::nifti
