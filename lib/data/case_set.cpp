// SPDX-License-Identifier: MIT
#include <mfres/case.h>

#include "core/guard.h"
#include "data/cache.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace mfres {

Result<CaseSet> CaseSet::find(const std::filesystem::path& source) {
    return guarded(source, [&]() -> Result<CaseSet> {
        std::error_code ignored;
        CaseSet set;
        if (!std::filesystem::is_regular_file(source, ignored)) {
            MFRES_TRY(const auto cases, find_cases(source));
            set.entries_.assign(cases.begin(), cases.end());
            return set;
        }
        MFRES_TRY(const auto cache, Cache::open(source));
        for (std::size_t i = 0; i < cache->entries().size(); ++i)
            set.entries_.emplace_back(Cached{cache, i});
        return set;
    });
}

const std::string& CaseSet::id(std::size_t index) const {
    const Entry& entry = entries_[index];
    if (const auto* files = std::get_if<CaseFiles>(&entry))
        return files->id;
    const Cached& cached = *std::get_if<Cached>(&entry);
    return cached.cache->entries()[cached.index].id;
}

CaseSet CaseSet::spread(std::size_t count) const {
    CaseSet chosen;
    count = std::min(count, size());
    for (std::size_t i = 0; i < count; ++i)
        chosen.entries_.push_back(entries_[i * size() / count]);
    return chosen;
}

Result<std::string> CaseSet::choose_labels(const std::string& wanted, const std::string& where, AffineSource affine,
                                           int threads) {
    std::vector<CaseFiles> files;
    for (const Entry& entry : entries_)
        if (const auto* one = std::get_if<CaseFiles>(&entry))
            files.push_back(*one);
    MFRES_TRY(std::string note, mfres::choose_labels(files, wanted, where, affine, threads));
    auto next = files.begin();
    for (Entry& entry : entries_)
        if (auto* one = std::get_if<CaseFiles>(&entry))
            *one = std::move(*next++);
    return note;
}

std::string CaseSet::label_scheme() const {
    std::string scheme;
    for (const Entry& entry : entries_)
        if (const auto* one = std::get_if<CaseFiles>(&entry))
            scheme = one->label_scheme;
    return scheme;
}

} // namespace mfres
