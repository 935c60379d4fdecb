// SPDX-License-Identifier: MIT
#include "data/sources.h"

#include "core/file.h"
#include "core/guard.h"
#include "core/try.h"
#include "imaging/labels.h"
#include "model/sha256.h"

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <vector>

namespace mfres {

namespace {

namespace fs = std::filesystem;

/// Hashes a file in pieces, so that a volume need not fit into memory.
Status add_file(const fs::path& path, Sha256& hash) {
    constexpr std::uint64_t piece = std::uint64_t{1} << 20U;
    MFRES_TRY(const ReadableFile file, ReadableFile::open(path));
    hash.update(text(file.size(), '\n'));
    std::vector<std::byte> bytes;
    for (std::uint64_t at = 0; at < file.size(); at += bytes.size()) {
        bytes.resize(static_cast<std::size_t>(std::min(piece, file.size() - at)));
        MFRES_CHECK(file.read_at(at, bytes));
        hash.update(bytes);
    }
    return {};
}

} // namespace

std::string source_name(const fs::path& source) {
    std::error_code ignored;
    fs::path whole = fs::absolute(source, ignored).lexically_normal();
    if (!whole.has_filename()) // it ends in a slash
        whole = whole.parent_path();
    return fs::is_directory(whole, ignored) ? whole.filename().string() : whole.stem().string();
}

Result<std::string> fingerprint_of_files(std::span<const CaseFiles> cases) {
    return guarded("", [&]() -> Result<std::string> {
        Sha256 hash;
        for (const CaseFiles& files : cases) {
            hash.update(text(files.id.size(), '\n', files.id, '\n'));
            for (const fs::path& modality : files.modalities)
                MFRES_CHECK(add_file(modality, hash));
            if (files.segmentation)
                MFRES_CHECK(add_file(*files.segmentation, hash));
            // Those two were told by the files themselves before schemes were chosen for a data set.
            if (!files.label_scheme.empty() && files.label_scheme != name(LabelScheme::brats) &&
                files.label_scheme != name(LabelScheme::brats2023))
                hash.update(text(files.label_scheme, '\n'));
        }
        return to_hex(hash.finish());
    });
}

} // namespace mfres
