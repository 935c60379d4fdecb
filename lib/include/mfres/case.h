// SPDX-License-Identifier: MIT
// A case: the four MRI volumes of one patient at one time, as files.
#pragma once

#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace mfres {

/// Files of one case. Modalities are in the order of mfres::modalities: T1, T1ce, T2, FLAIR.
struct CaseFiles {
    std::string id;                                    ///< the name of the folder for BraTS data
    std::array<std::filesystem::path, 4> modalities;   ///< empty = the contrast is absent
    std::optional<std::filesystem::path> segmentation; ///< the reference labels, if there are any
};

/// The case in a folder, its files matched by suffix: BraTS 2017-2021 (_t1, _t1ce, _t2, _flair, _seg) or 2023 and later
/// (-t1n, -t1c, -t2w, -t2f, -seg), .nii or .nii.gz, upper or lower case.
/// Errors: file_not_found, modality_missing (names every missing one and what was found; with `allow_absent` only if
/// all four are missing), modality_ambiguous.
Result<CaseFiles> find_case(const std::filesystem::path& folder, bool allow_absent = false);

/// Every case below a folder, sorted by id: the folder itself, its subfolders, or the subfolders of BraTS's HGG and
/// LGG.
/// Errors: those of find_case for the first folder that is an incomplete case; file_not_found if there is no case.
Result<std::vector<CaseFiles>> find_cases(const std::filesystem::path& root, bool allow_absent = false);

/// Training caches and folders of cases, taken together: one path, or a list.
class DataSources : public std::vector<std::filesystem::path> {
  public:
    using std::vector<std::filesystem::path>::vector;
    DataSources() = default;
    DataSources(const std::filesystem::path& source) {
        if (!source.empty())
            push_back(source);
    }
    DataSources(const char* source) : DataSources(std::filesystem::path(source)) {}
    DataSources(const std::string& source) : DataSources(std::filesystem::path(source)) {}
    DataSources(std::vector<std::filesystem::path> sources) : vector(std::move(sources)) {}
};

class Cache; // data/cache.h

/// Labelled cases from folders and training caches: to train, to measure a model, or to make a cache of. A cache holds
/// brain boxes with z-scores and their reference classes.
class CaseSet {
  public:
    /// A case of a cache.
    struct Cached {
        std::shared_ptr<const Cache> cache;
        std::size_t index = 0;
    };
    using Entry = std::variant<CaseFiles, Cached>;

    CaseSet() = default;
    CaseSet(const std::vector<CaseFiles>& cases);
    CaseSet(std::initializer_list<CaseFiles> cases) : CaseSet(std::vector<CaseFiles>(cases)) {}

    /// All cases of the sources, each of which is a folder (find_cases) or a training cache. The cases of one source
    /// keep its order. Those of several are sorted by id, so that the order of the sources does not matter.
    /// Errors: those of find_cases; file_not_found, file_read, cache_invalid, cache_damaged, memory_limit for a cache;
    /// invalid_argument (a case id that occurs twice: names it and both places), dataset_empty (no source, or no case).
    static Result<CaseSet> find(const DataSources& sources);

    std::size_t size() const { return cases_.size(); }
    bool empty() const { return cases_.empty(); }
    const Entry& operator[](std::size_t index) const { return cases_[index].content; }
    /// The case's id.
    const std::string& id(std::size_t index) const;
    /// Name of the folder, or of the cache file without its extension, in which find() found the case; else empty.
    const std::string& source(std::size_t index) const { return cases_[index].source; }
    /// `count` of the cases, spread evenly; all if there are no more.
    CaseSet spread(std::size_t count) const;

  private:
    struct Member {
        Entry content;
        std::string source;
    };
    static Result<std::vector<Member>> members_of(const std::filesystem::path& source);

    std::vector<Member> cases_;
};

} // namespace mfres
