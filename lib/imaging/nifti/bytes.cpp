// SPDX-License-Identifier: MIT
#include "imaging/nifti/bytes.h"

#include "core/file.h"
#include "core/try.h"
#include "imaging/nifti/names.h"

#include <algorithm>

namespace mfres::nifti {

Result<ByteSource> ByteSource::open(const std::filesystem::path& path, std::uint64_t cap) {
    ByteSource source;
    MFRES_TRY(source.bytes_, read_file(path, cap, ErrorCode::nifti_too_large));
    if (names_gzip(path))
        source.gzip_.emplace(source.bytes_, path.string());
    return source;
}

std::uint64_t ByteSource::most_bytes() const {
    return compressed() ? bytes_.size() * GzipReader::max_expansion : bytes_.size();
}

Result<std::size_t> ByteSource::read(std::span<std::byte> output) {
    if (gzip_)
        return gzip_->read(output);
    const std::size_t count = std::min(output.size(), bytes_.size() - position_);
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(position_), count, output.begin());
    position_ += count;
    return count;
}

Result<std::uint64_t> ByteSource::skip(std::uint64_t count) {
    std::vector<std::byte> skipped(std::min<std::uint64_t>(count, chunk_bytes));
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
