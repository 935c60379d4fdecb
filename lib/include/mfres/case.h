// SPDX-License-Identifier: MIT
// A case: the four MRI volumes of one patient at one time, as files.
#pragma once

#include <mfres/export.h>
#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
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
    /// What the labels of the segmentation mean: the name of a scheme ("brats", "brats2023", "brats2024", "brats-ped",
    /// "msd") or a mapping ("1:ncr,2:ed,3:et"), as choose_labels sets it. Empty = not decided yet.
    std::string label_scheme{};
};

/// The case in a folder, its files matched by suffix: BraTS 2017-2021 (_t1, _t1ce, _t2, _flair, _seg) or 2023 and later
/// (-t1n, -t1c, -t2w, -t2f, -seg), .nii or .nii.gz, upper or lower case. What these do not name is looked for by the last
/// word of other names, also in .hdr: BIDS (_T1w, _ce-gd_T1w, _T2w, _FLAIR, _dseg), UPENN-GBM and UCSF-PDGM (_T1, _T1GD,
/// _T1c), or the word alone (t1.nii.gz); nnU-Net's _0000 by the channel_names of its dataset.json. In BIDS's layout the id
/// is that of subject and session ("sub-01_ses-2").
/// Errors: file_not_found, modality_missing (names every missing one and what was found; with `allow_absent` only if all
/// four are missing), modality_ambiguous.
MFRES_EXPORT Result<CaseFiles> find_case(const std::filesystem::path& folder, bool allow_absent = false);

/// Every case below a folder, sorted by id: the folder itself, its subfolders, or the subfolders of BraTS's HGG and
/// LGG and of BIDS's sub-X; of nnU-Net every case of imagesTr and imagesTs.
/// Errors: those of find_case for the first folder that is an incomplete case; file_not_found if there is no case.
MFRES_EXPORT Result<std::vector<CaseFiles>> find_cases(const std::filesystem::path& root, bool allow_absent = false);

/// A folder that holds scans but is no usable case.
struct RejectedFolder {
    std::string id; ///< the folder's name
    Error error;
};

/// What a search finds below a folder.
struct FoundCases {
    std::vector<CaseFiles> cases;         ///< sorted by id
    std::vector<RejectedFolder> rejected; ///< incomplete or ambiguous cases and those of one name, likewise
    std::vector<RejectedFolder> skipped;  ///< folders of .nii or .nii.gz none of which is named as a contrast, likewise
};

/// find_cases that goes on after a folder that is no complete case, so that the others can be used.
/// Errors: those of find_cases that concern the whole search: file_not_found, file_read, invalid_argument.
MFRES_EXPORT Result<FoundCases> search_cases(const std::filesystem::path& root, bool allow_absent = false);

/// Decides what the labels of a data set mean, and sets CaseFiles::label_scheme of those cases for which it is not
/// decided yet. `wanted` is a scheme's name or a mapping, which every case gets; "auto" or empty looks at the values of
/// all segmentations together: 4 without 3 is brats, 3 without 4 is brats2023; where every file is named BraTS-PED it
/// is brats-ped. Files that cannot be read tell nothing here. `where` names the data set in messages, `affine` is as in
/// SegmentOptions. Returns a sentence that says what was chosen and on what evidence; empty where no case has a
/// segmentation that is not decided. Errors: invalid_argument (`wanted`), label_scheme_unclear (both 3 and 4 occur, or
/// neither of them; BraTS-PED among others).
MFRES_EXPORT Result<std::string> choose_labels(std::span<CaseFiles> cases, const std::string& wanted,
                                               const std::string& where, AffineSource affine = AffineSource::automatic,
                                               int threads = 0);

/// Training caches and folders of cases, taken together: one path, or a list.
class MFRES_EXPORT DataSources : public std::vector<std::filesystem::path> {
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
class MFRES_EXPORT CaseSet {
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
    /// Also chooses the label scheme of each folder by itself (mfres::choose_labels with `labels`); `notes` gets the
    /// sentences. Errors: also those of choose_labels.
    static Result<CaseSet> find(const DataSources& sources, const std::string& labels, std::vector<std::string>& notes);

    std::size_t size() const { return cases_.size(); }
    bool empty() const { return cases_.empty(); }
    const Entry& operator[](std::size_t index) const { return cases_[index].content; }
    /// The case's id.
    const std::string& id(std::size_t index) const;
    /// Name of the folder, or of the cache file without its extension, in which find() found the case; else empty.
    const std::string& source(std::size_t index) const { return cases_[index].source; }
    /// `count` of the cases, spread evenly; all if there are no more.
    CaseSet spread(std::size_t count) const;
    /// The cases whose element of `chosen` is `value`, in their order. Precondition: one element per case.
    CaseSet where(const std::vector<bool>& chosen, bool value) const;
    /// mfres::choose_labels for the cases that are not of a cache; returns its sentence.
    Result<std::string> choose_labels(const std::string& wanted, const std::string& where,
                                      AffineSource affine = AffineSource::automatic, int threads = 0);
    /// Label scheme of the last of them: what the heads of tables state. Empty where there is none.
    std::string label_scheme() const;

  private:
    struct Member {
        Entry content;
        std::string source;
    };
    using ChooseLabels = std::function<Status(std::vector<CaseFiles>& cases, const std::filesystem::path& folder)>;
    static Result<CaseSet> find_all(const DataSources& sources, const ChooseLabels& choose);
    static Result<std::vector<Member>> members_of(const std::filesystem::path& source, const ChooseLabels& choose);

    std::vector<Member> cases_;
};

} // namespace mfres
