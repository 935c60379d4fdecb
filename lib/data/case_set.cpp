// SPDX-License-Identifier: MIT
#include <mfres/case.h>

#include "core/guard.h"
#include "core/try.h"
#include "data/cache_file.h"
#include "data/sources.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>

namespace mfres {

namespace {

namespace fs = std::filesystem;

/// Folder or file that a case is in, for messages.
std::string place_of(const CaseSet::Entry& entry) {
    if (const auto* files = std::get_if<CaseFiles>(&entry))
        return files->modalities[0].parent_path().string();
    const CacheCase* const stored = stored_case(entry);
    return stored ? stored->file->path().string() : "a cache in memory";
}

Status check_unique(const CaseSet& cases) {
    std::map<std::string_view, std::size_t> seen;
    for (std::size_t i = 0; i < cases.size(); ++i) {
        const auto [known, added] = seen.emplace(cases.id(i), i);
        if (!added)
            return Error{ErrorCode::invalid_argument,
                         text("case ", cases.id(i), " occurs twice in the data: in ", place_of(cases[known->second]),
                              " and in ", place_of(cases[i]), "; leave out one of them, or rename it if they differ"),
                         cases.id(i)};
    }
    return {};
}

const std::string& id_of(const CaseSet::Entry& entry) {
    if (const auto* files = std::get_if<CaseFiles>(&entry))
        return files->id;
    const auto& cached = std::get<CaseSet::Cached>(entry);
    return cached.cache->entries()[cached.index].id;
}

} // namespace

const CacheCase* stored_case(const CaseSet::Entry& entry) {
    const auto* cached = std::get_if<CaseSet::Cached>(&entry);
    return cached ? cached->cache->stored(cached->index) : nullptr;
}

CaseSet::CaseSet(const std::vector<CaseFiles>& cases) {
    for (const CaseFiles& files : cases)
        cases_.push_back({files, {}});
}

Result<std::vector<CaseSet::Member>> CaseSet::members_of(const fs::path& source, const ChooseLabels& choose) {
    std::error_code ignored;
    std::vector<Member> members;
    const std::string name = source_name(source);
    if (fs::is_directory(source, ignored)) {
        MFRES_TRY(auto cases, find_cases(source));
        MFRES_CHECK(choose(cases, source));
        for (CaseFiles& files : cases)
            members.push_back({std::move(files), name});
        return members;
    }
    MFRES_TRY(const auto cache, Cache::open(source));
    for (std::size_t i = 0; i < cache->entries().size(); ++i)
        members.push_back({Cached{cache, i}, name});
    return members;
}

Result<CaseSet> CaseSet::find(const DataSources& sources) {
    return find_all(sources, [](std::vector<CaseFiles>&, const fs::path&) { return Status(); });
}

Result<CaseSet> CaseSet::find(const DataSources& sources, const std::string& labels, std::vector<std::string>& notes) {
    return find_all(sources, [&](std::vector<CaseFiles>& cases, const fs::path& folder) -> Status {
        MFRES_TRY(std::string note, mfres::choose_labels(cases, labels, folder.string()));
        if (!note.empty())
            notes.push_back(std::move(note));
        return {};
    });
}

Result<CaseSet> CaseSet::find_all(const DataSources& sources, const ChooseLabels& choose) {
    if (sources.empty())
        return Error{ErrorCode::dataset_empty, "no folder and no training cache was named to take cases from", {}};
    return guarded(sources.front(), [&]() -> Result<CaseSet> {
        CaseSet all;
        for (const fs::path& source : sources) {
            MFRES_TRY(auto members, members_of(source, choose));
            std::move(members.begin(), members.end(), std::back_inserter(all.cases_));
        }
        if (sources.size() > 1)
            std::stable_sort(all.cases_.begin(), all.cases_.end(),
                             [](const Member& a, const Member& b) { return id_of(a.content) < id_of(b.content); });
        MFRES_CHECK(check_unique(all));
        return all;
    });
}

const std::string& CaseSet::id(std::size_t index) const {
    return id_of(cases_[index].content);
}

CaseSet CaseSet::spread(std::size_t count) const {
    CaseSet chosen;
    count = std::min(count, size());
    for (std::size_t i = 0; i < count; ++i)
        chosen.cases_.push_back(cases_[i * size() / count]);
    return chosen;
}

CaseSet CaseSet::where(const std::vector<bool>& chosen, bool value) const {
    CaseSet found;
    for (std::size_t i = 0; i < size(); ++i)
        if (chosen[i] == value)
            found.cases_.push_back(cases_[i]);
    return found;
}

Result<std::string> CaseSet::choose_labels(const std::string& wanted, const std::string& where, AffineSource affine,
                                           int threads) {
    return guarded(where, [&]() -> Result<std::string> {
        std::vector<CaseFiles> files;
        for (const Member& member : cases_)
            if (const auto* one = std::get_if<CaseFiles>(&member.content))
                files.push_back(*one);
        MFRES_TRY(std::string note, mfres::choose_labels(files, wanted, where, affine, threads));
        auto next = files.begin();
        for (Member& member : cases_)
            if (auto* one = std::get_if<CaseFiles>(&member.content))
                *one = std::move(*next++);
        return note;
    });
}

std::string CaseSet::label_scheme() const {
    std::string scheme;
    for (const Member& member : cases_)
        if (const auto* one = std::get_if<CaseFiles>(&member.content))
            scheme = one->label_scheme;
    return scheme;
}

} // namespace mfres
