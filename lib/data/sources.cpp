// SPDX-License-Identifier: MIT
#include "data/sources.h"

#include "core/file.h"
#include "core/try.h"
#include "imaging/labels.h"
#include "model/sha256.h"

#include <algorithm>
#include <map>
#include <new>
#include <system_error>

namespace mfres {

namespace {

namespace fs = std::filesystem;

Result<std::vector<DataCase>> cases_in(const fs::path& source, const std::string& labels,
                                       std::vector<std::string>* told) {
    std::error_code ignored;
    std::vector<DataCase> found;
    const std::string name = source_name(source);
    if (fs::is_directory(source, ignored)) {
        MFRES_TRY(auto cases, find_cases(source));
        MFRES_TRY(std::string chosen, choose_labels(cases, labels, source.string()));
        if (told != nullptr && !chosen.empty())
            told->push_back(std::move(chosen));
        for (CaseFiles& files : cases)
            found.push_back({std::move(files), name});
        return found;
    }
    MFRES_TRY(const auto file, CacheFile::open(source));
    for (CacheCase& cached : cases_of(file))
        found.push_back({std::move(cached), name});
    return found;
}

/// Where a case lies, in words.
std::string place_of(const DataCase& found) {
    if (const auto* files = std::get_if<CaseFiles>(&found.content))
        return files->modalities[0].parent_path().string();
    return std::get<CacheCase>(found.content).file->path().string();
}

Status check_unique(const std::vector<DataCase>& cases) {
    std::map<std::string_view, const DataCase*> seen;
    for (const DataCase& one : cases) {
        const auto [known, added] = seen.emplace(one.id(), &one);
        if (!added)
            return Error{ErrorCode::invalid_argument,
                         text("case ", one.id(), " occurs twice in the data: in ", place_of(*known->second), " and in ",
                              place_of(one), "; leave out one of them, or rename it if they differ"),
                         one.id()};
    }
    return {};
}

/// A file in pieces, since a volume need not be held to be hashed.
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

const std::string& id_of(const CaseSource& source) {
    const auto* files = std::get_if<CaseFiles>(&source);
    return files != nullptr ? files->id : std::get<CacheCase>(source).record().id;
}

std::string source_name(const fs::path& source) {
    std::error_code ignored;
    fs::path whole = fs::absolute(source, ignored).lexically_normal();
    if (!whole.has_filename()) // a folder named with a slash behind
        whole = whole.parent_path();
    return fs::is_directory(whole, ignored) ? whole.filename().string() : whole.stem().string();
}

Result<std::vector<DataCase>> find_data(std::span<const fs::path> sources, const std::string& labels,
                                        std::vector<std::string>* told) {
    if (sources.empty())
        return Error{ErrorCode::dataset_empty, "no folder and no training cache was named to take cases from", {}};
    std::vector<DataCase> all;
    for (const fs::path& source : sources) {
        MFRES_TRY(auto found, cases_in(source, labels, told));
        std::move(found.begin(), found.end(), std::back_inserter(all));
    }
    if (sources.size() > 1)
        std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.id() < b.id(); });
    MFRES_CHECK(check_unique(all));
    return all;
}

Result<std::string> fingerprint_of_files(std::span<const CaseFiles> cases) {
    try {
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
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, "there is no memory to read the cases", {}};
    }
}

} // namespace mfres
