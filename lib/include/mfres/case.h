// SPDX-License-Identifier: MIT
// A case: the four MRI volumes of one patient at one time, as files.
#pragma once

#include <mfres/export.h>
#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace mfres {

/// Which affine of a NIfTI header to use where it has both.
enum class AffineSource : std::uint8_t {
    automatic, ///< the sform if set, otherwise the qform; qform_sform_disagree if both are set and differ
    sform,
    qform,
};
inline constexpr std::array<AffineSource, 3> affine_sources = {AffineSource::automatic, AffineSource::sform,
                                                               AffineSource::qform};

/// "auto", "sform", "qform"
MFRES_EXPORT std::string_view to_string(AffineSource source) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<AffineSource> parse_affine_source(std::string_view text);

/// Files of one case. Modalities are in the order of mfres::modalities: T1, T1ce, T2, FLAIR.
struct CaseFiles {
    std::string id;                                    ///< the name of the folder for BraTS data
    std::array<std::filesystem::path, 4> modalities;   ///< empty = the contrast is absent
    std::optional<std::filesystem::path> segmentation; ///< the reference labels, if there are any
};

/// The case in a folder, its files matched by suffix: BraTS 2017-2021 (_t1, _t1ce, _t2, _flair, _seg) or 2023 and later
/// (-t1n, -t1c, -t2w, -t2f, -seg), .nii or .nii.gz, upper or lower case.
/// Errors: file_not_found, modality_missing (names every missing one and what was found; with `allow_absent` only if all
/// four are missing), modality_ambiguous.
MFRES_EXPORT Result<CaseFiles> find_case(const std::filesystem::path& folder, bool allow_absent = false);

/// Every case below a folder, sorted by id: the folder itself, its subfolders, or the subfolders of BraTS's HGG and
/// LGG.
/// Errors: those of find_case for the first folder that is an incomplete case; file_not_found if there is no case.
MFRES_EXPORT Result<std::vector<CaseFiles>> find_cases(const std::filesystem::path& root, bool allow_absent = false);

class Cache; // data/cache.h

/// Cases to measure a model on, from image files and from training caches. A cache holds brain boxes with z-scores and
/// their reference classes.
class MFRES_EXPORT CaseSet {
  public:
    /// A case of a cache.
    struct Cached {
        std::shared_ptr<const Cache> cache;
        std::size_t index = 0;
    };
    using Entry = std::variant<CaseFiles, Cached>;

    CaseSet() = default;
    CaseSet(const std::vector<CaseFiles>& cases) : entries_(cases.begin(), cases.end()) {}
    CaseSet(std::initializer_list<CaseFiles> cases) : entries_(cases.begin(), cases.end()) {}

    /// The cases of a folder, as find_cases finds them, or of a training cache, which is a file. Errors: those of
    /// find_cases; file_not_found, file_read, cache_invalid, cache_damaged, dataset_empty, memory_limit for a cache.
    static Result<CaseSet> find(const std::filesystem::path& source);

    std::size_t size() const { return entries_.size(); }
    bool empty() const { return entries_.empty(); }
    const Entry& operator[](std::size_t index) const { return entries_[index]; }
    /// The case's id.
    const std::string& id(std::size_t index) const;
    /// `count` of the cases, spread evenly; all if there are no more.
    CaseSet spread(std::size_t count) const;

  private:
    std::vector<Entry> entries_;
};

} // namespace mfres
