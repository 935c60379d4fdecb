// SPDX-License-Identifier: MIT
#include "imaging/case.h"

#include "core/array_memory.h"
#include "core/file.h"
#include "core/guard.h"
#include "core/parallel.h"
#include "core/platform.h"
#include "core/sha256.h"
#include "core/try.h"
#include "imaging/border.h"
#include "imaging/brain.h"
#include "imaging/case_names.h"
#include "imaging/contrasts.h"
#include "imaging/labels.h"
#include "imaging/nifti/voxels.h"
#include "imaging/reorient.h"
#include "imaging/slice_stack.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace mfres {

namespace {

namespace fs = std::filesystem;

constexpr double position_limit_mm = 0.1;
constexpr double network_voxel_mm = 1.0;
constexpr double worth_a_warning_degrees = 5.0;
constexpr int deepest_layer = 3; // root/BraTS.../HGG/case

// Discovery ------------------------------------------------------------------------------------------------------

/// How file names say what they hold: the naming up to BraTS 2021, and that of 2023 and later.
struct Ending {
    std::string_view text;
    std::size_t slot; ///< index into mfres::modalities, or segmentation_slot
};
constexpr std::array<Ending, 10> endings = {{{"_t1", 0},
                                             {"-t1n", 0},
                                             {"_t1ce", 1},
                                             {"-t1c", 1},
                                             {"_t2", 2},
                                             {"-t2w", 2},
                                             {"_flair", 3},
                                             {"-t2f", 3},
                                             {"_seg", segmentation_slot},
                                             {"-seg", segmentation_slot}}};

/// A file's name in lower case without the ending of its type; nothing if it has none of `types`.
template <std::size_t Count>
std::optional<std::string> lower_stem(const fs::path& file, const std::array<std::string_view, Count>& types) {
    std::string name = file.filename().string();
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (const std::string_view type : types)
        if (name.ends_with(type)) {
            name.resize(name.size() - type.size());
            return name;
        }
    return std::nullopt;
}

/// What a folder holds, sorted by name so that messages and results do not depend on the file system.
struct Listing {
    std::vector<fs::path> images;   ///< files with an ending of BraTS's
    std::vector<fs::path> others;   ///< files whose last word says what they hold
    std::vector<fs::path> numbered; ///< files of nnU-Net's naming
    std::vector<fs::path> folders;
    std::vector<std::string> unknown; ///< names of NIfTI files without a known ending
    std::vector<std::string> broken;  ///< names of links with a known ending to files that do not exist
    bool has_modality = false;
};

bool is_nifti_name(const fs::path& file) {
    const std::string name = file.filename().string();
    return !name.starts_with('.') && (name.ends_with(".nii") || name.ends_with(".nii.gz"));
}

/// A file whose name is not one of BraTS's.
void list_other(const fs::path& file, Listing& listing) {
    if (const auto slot = common_slot(file)) {
        listing.others.push_back(file);
        listing.has_modality |= *slot != segmentation_slot;
    } else if (is_nifti_name(file)) {
        if (numbered_file(file))
            listing.numbered.push_back(file);
        listing.unknown.push_back(file.filename().string());
    }
}

Result<Listing> list(const fs::path& folder) {
    MFRES_TRY(const auto entries, list_folder(folder));
    Listing listing;
    for (const FolderEntry& entry : entries)
        if (entry.is_folder) {
            if (!entry.path.filename().string().starts_with('.'))
                listing.folders.push_back(entry.path);
        } else if (const auto slot = brats_slot(entry.path); slot && entry.is_file) {
            listing.images.push_back(entry.path);
            listing.has_modality |= *slot != segmentation_slot;
        } else if (slot && entry.is_broken) {
            listing.broken.push_back(entry.path.filename().string());
            listing.has_modality |= *slot != segmentation_slot;
        } else if (!slot && entry.is_file) {
            list_other(entry.path, listing);
        }
    return listing;
}

std::string_view slot_name(std::size_t slot) {
    return slot == segmentation_slot ? "segmentation" : name(modalities[slot]);
}

/// Where the files of a case lie.
fs::path folder_of(const CaseFiles& files) {
    for (const fs::path& file : files.modalities)
        if (!file.empty())
            return file.parent_path();
    return {};
}

/// "a, b, c", at most eight of them.
std::string some_of(const std::vector<std::string>& names) {
    constexpr std::size_t most = 8;
    std::string list;
    for (std::size_t i = 0; i < std::min(names.size(), most); ++i)
        list += (i == 0 ? "" : ", ") + names[i];
    return names.size() > most ? text(list, " and ", names.size() - most, " more") : list;
}

/// "_t1ce or -t1c": how names of a slot end.
std::string endings_of(std::size_t slot) {
    std::string list;
    for (const Ending& ending : endings)
        if (ending.slot == slot)
            list += text(list.empty() ? "" : " or ", ending.text);
    return list;
}

/// What may be the reason for a missing contrast: names that are not known, and links to nowhere.
std::string reasons(const Listing& listing, const std::array<fs::path, 5>& found) {
    std::string wanted;
    for (std::size_t slot = 0; slot < modalities.size(); ++slot)
        if (found[slot].empty())
            wanted += text(wanted.empty() ? "" : "; ", slot_name(slot), " ends in ", endings_of(slot));
    std::string sentence = text(" (", wanted, ", before .nii or .nii.gz)");
    if (!listing.unknown.empty())
        sentence +=
            text("; not recognised by their names: ", some_of(listing.unknown),
                 ", which can be renamed, or given one by one (--t1 F --t1ce F --t2 F --flair F); names of BIDS, "
                 "UPENN-GBM, UCSF-PDGM and nnU-Net are known, too");
    if (!listing.broken.empty())
        sentence += text("; links to files that do not exist: ", some_of(listing.broken));
    return sentence;
}

Result<CaseFiles> case_from(const fs::path& folder, const Listing& listing, bool allow_absent) {
    CaseFiles files;
    files.id = case_id(folder);
    std::array<fs::path, 5> found;
    std::string present;
    const auto put = [&](const fs::path& image, std::size_t slot) -> Status {
        if (!found[slot].empty())
            return Error{ErrorCode::modality_ambiguous,
                         text(folder.string(), " has two files for ", slot_name(slot), ": ",
                              found[slot].filename().string(), " and ", image.filename().string()),
                         folder.string()};
        found[slot] = image;
        present += text(present.empty() ? "" : ", ", image.filename().string());
        return {};
    };
    for (const auto& image : listing.images)
        MFRES_CHECK(put(image, brats_slot(image).value_or(segmentation_slot)));
    // Names of other kinds count where none of BraTS's says the same; of several label maps none is taken.
    const std::array<fs::path, 5> named = found;
    const auto label_maps = std::count_if(listing.others.begin(), listing.others.end(),
                                          [](const fs::path& file) { return common_slot(file) == segmentation_slot; });
    for (const auto& image : listing.others) {
        const std::size_t slot = common_slot(image).value_or(segmentation_slot);
        if (named[slot].empty() && (slot != segmentation_slot || label_maps == 1))
            MFRES_CHECK(put(image, slot));
    }
    const std::string why = reasons(listing, found);
    std::string missing;
    for (std::size_t slot = 0; slot < modalities.size(); ++slot) {
        if (found[slot].empty())
            missing += text(missing.empty() ? "" : ", ", slot_name(slot));
        files.modalities[slot] = std::move(found[slot]);
    }
    const bool none = present_in(files) == ModalitySet{};
    if (!missing.empty() && (none || !allow_absent || !listing.broken.empty()))
        return Error{ErrorCode::modality_missing,
                     text(folder.string(), " has no file for ", missing, "; found ",
                          present.empty() ? "no image with a known ending" : present, why),
                     folder.string()};
    if (!found[segmentation_slot].empty())
        files.segmentation = std::move(found[segmentation_slot]);
    return files;
}

/// A case of nnU-Net that lacks contrasts. Errors: modality_missing.
Status check_numbered(const CaseFiles& files, const fs::path& folder, bool allow_absent) {
    std::string missing;
    for (std::size_t slot = 0; slot < modalities.size(); ++slot)
        if (files.modalities[slot].empty())
            missing += text(missing.empty() ? "" : ", ", slot_name(slot));
    if (missing.empty() || (allow_absent && present_in(files) != ModalitySet{}))
        return {};
    return Error{ErrorCode::modality_missing,
                 text("case ", files.id, " of ", folder.string(), " has no file for ", missing,
                      ", by the channels of its dataset.json"),
                 folder.string()};
}

/// The cases of a folder of nnU-Net.
Status collect_numbered(const fs::path& folder, const Listing& listing, bool allow_absent, FoundCases& found) {
    auto cases = numbered_cases(folder, listing.numbered);
    if (!cases) {
        found.rejected.push_back({case_id(folder), std::move(cases).error()});
        return {};
    }
    for (CaseFiles& files : *cases)
        if (auto checked = check_numbered(files, folder, allow_absent); checked)
            found.cases.push_back(std::move(files));
        else
            found.rejected.push_back({files.id, checked.error()});
    return {};
}

Status collect_cases(const fs::path& folder, int layer, bool allow_absent, FoundCases& found) {
    MFRES_TRY(const Listing listing, list(folder));
    if (listing.has_modality) {
        auto files = case_from(folder, listing, allow_absent);
        if (files)
            found.cases.push_back(std::move(files).value());
        else
            found.rejected.push_back({case_id(folder), std::move(files).error()});
        return {};
    }
    if (!listing.numbered.empty())
        return collect_numbered(folder, listing, allow_absent, found);
    if (!listing.unknown.empty() && !holds_numbered_labels(folder))
        found.skipped.push_back({case_id(folder),
                                 {ErrorCode::modality_missing,
                                  text(folder.string(), " is no case, since none of its files is named as a contrast: ",
                                       some_of(listing.unknown)),
                                  folder.string()}});
    if (layer < deepest_layer)
        for (const auto& inner : listing.folders)
            MFRES_CHECK(collect_cases(inner, layer + 1, allow_absent, found));
    return {};
}

/// Case folders of one name are told apart by nothing, so none of them is used.
void reject_twins(FoundCases& found, const fs::path& root) {
    std::vector<CaseFiles> single;
    for (auto begin = found.cases.begin(); begin != found.cases.end();) {
        const auto end = std::find_if(begin, found.cases.end(), [&](const auto& one) { return one.id != begin->id; });
        if (std::next(begin) == end)
            single.push_back(std::move(*begin));
        else
            found.rejected.push_back({begin->id,
                                      {ErrorCode::invalid_argument,
                                       text("two case folders are named ", begin->id, ": ", folder_of(*begin).string(),
                                            " and ", folder_of(*std::next(begin)).string()),
                                       root.string()}});
        begin = end;
    }
    found.cases = std::move(single);
}

// Checks ---------------------------------------------------------------------------------------------------------

std::string size_text(const Grid& grid) {
    return text(grid.size[0], "x", grid.size[1], "x", grid.size[2]);
}

Status check_not_constant(const CompactVolume& scan, std::string_view name) {
    if (scan.constant())
        return Error{ErrorCode::volume_constant,
                     text("every one of the ", scan.grid().voxels(), " voxels of ", name, " is ", scan.background()),
                     std::string(name)};
    return {};
}

/// Files of up to so many bytes are inflated at once: a head of 1 mm as floats, and at 0.5 mm as bytes.
constexpr std::uint64_t most_inflated_bytes = std::uint64_t{64} << 20U;

/// One contrast as it came from a file or from memory.
struct Source {
    PageString name; ///< the file's path, or a name for messages
    CompactVolume scan;
    NiftiGeometry geometry;
    std::int64_t inflated_bytes = 0; ///< while it was read
};
using Sources = std::array<Source, 4>;

Error same_voxels(std::size_t a, std::string_view first, std::size_t b, std::string_view second, const Grid& grid) {
    return {ErrorCode::modality_duplicate,
            text(first, " (", name(modalities[a]), ") and ", second, " (", name(modalities[b]), ") hold the same ",
                 grid.voxels(), " voxels"),
            std::string(second)};
}

Status check_distinct(const Sources& read, const ModalitySet& present) {
    for (std::size_t a = 0; a < read.size(); ++a)
        for (std::size_t b = a + 1; b < read.size(); ++b)
            if (present[a] && present[b] && same_intensities(read[a].scan, read[b].scan))
                return same_voxels(a, read[a].name, b, read[b].name, read[a].scan.grid());
    return {};
}

/// The contrasts that are there, from read(slot), on up to four threads. Each thread keeps its own outcome, so that the
/// error reported is that of the first modality in order and not of the fastest thread.
template <typename Read>
Result<Sources> read_modalities(const ModalitySet& present, int threads, const Read& read) {
    std::array<std::optional<Result<Source>>, 4> outcomes;
    for_contrasts(present, threads, [&](std::size_t slot) {
        outcomes[slot].emplace(read(slot));
        if (!outcomes[slot]->ok())
            return;
        const auto status = check_not_constant((*outcomes[slot])->scan, (*outcomes[slot])->name);
        if (!status)
            outcomes[slot].emplace(status.error());
    });
    Sources sources;
    for (std::size_t slot = 0; slot < sources.size(); ++slot)
        if (outcomes[slot]) {
            MFRES_TRY(sources[slot], *std::move(outcomes[slot]));
        }
    return sources;
}

/// The set without the contrasts of another.
ModalitySet without(ModalitySet set, const ModalitySet& others) {
    for (std::size_t slot = 0; slot < set.size(); ++slot)
        set[slot] = set[slot] && !others[slot];
    return set;
}

Status check_present(std::string_view id, const ModalitySet& present, const CaseOptions& options) {
    if (present == all_modalities || (options.allow_absent && present != ModalitySet{}))
        return {};
    return Error{ErrorCode::modality_missing, text("case ", id, " lacks ", names(without(all_modalities, present))),
                 std::string(id)};
}

bool voxels_in_range(const Point& mm, const CaseOptions& options) {
    return std::all_of(mm.begin(), mm.end(),
                       [&](double size) { return size >= options.min_voxel_mm && size <= options.max_voxel_mm; });
}

std::string millimetres(const Point& mm) {
    return text(mm[0], " x ", mm[1], " x ", mm[2], " mm");
}

/// The grid the network is to see: the canonical one, or one of 1 mm voxels where that was allowed.
Result<Grid> network_grid(const Grid& canonical, const CaseOptions& options, std::string_view where) {
    const Point mm = voxel_size(canonical.affine);
    if (voxels_in_range(mm, options))
        return canonical;
    if (!options.resample)
        return Error{ErrorCode::voxel_size_out_of_range,
                     text(where, " has voxels of ", millimetres(mm), "; the model was trained for ",
                          options.min_voxel_mm, " to ", options.max_voxel_mm, " mm. Resampling has to be asked for"),
                     std::string(where)};
    const Grid grid = with_voxel_size(canonical, network_voxel_mm);
    if (std::any_of(grid.size.begin(), grid.size.end(), [](std::int64_t n) { return n < 2 || n > 1024; }))
        return Error{ErrorCode::voxel_size_out_of_range,
                     text(where, " has ", size_text(canonical), " voxels of ", millimetres(mm), "; as ",
                          network_voxel_mm, " mm voxels that would be a grid of ", size_text(grid),
                          ", and 2 to 1024 per axis are allowed"),
                     std::string(where)};
    const auto bytes = static_cast<std::uint64_t>(grid.voxels()) * sizeof(float);
    if (bytes > options.max_bytes)
        return Error{ErrorCode::nifti_too_large,
                     text(where, " resampled to ", size_text(grid), " voxels takes ", bytes, " bytes, more than the ",
                          options.max_bytes, " allowed"),
                     std::string(where)};
    return grid;
}

Status check_options(const CaseOptions& options) {
    if (!(options.min_voxel_mm > 0.0) || !(options.max_voxel_mm >= options.min_voxel_mm))
        return Error{
            ErrorCode::invalid_argument,
            text("a voxel size range of ", options.min_voxel_mm, " to ", options.max_voxel_mm, " mm makes no sense"),
            ""};
    if (!(options.min_brain_ml >= 0.0) || !(options.max_brain_ml >= options.min_brain_ml))
        return Error{ErrorCode::invalid_argument,
                     text("a brain of ", options.min_brain_ml, " to ", options.max_brain_ml, " ml makes no sense"), ""};
    for (const ErrorCode code : options.accept)
        MFRES_CHECK(parse_plausibility_check(name(code)));
    return {};
}

/// Whether the files' names agree with what they are given as.
Status check_names(const CaseFiles& files, const AcceptedChecks& accept, std::vector<std::string>& warnings) {
    for (std::size_t slot = 0; slot < files.modalities.size(); ++slot) {
        const fs::path& file = files.modalities[slot];
        if (const auto named = named_slot(file); named && *named != slot)
            MFRES_CHECK(
                reject_or_warn({ErrorCode::modality_misnamed,
                                text(file.string(), " is given as ", name(modalities[slot]), ", but its name says ",
                                     slot_name(*named), ". Give each file as what it holds, or rename it"),
                                file.string()},
                               accept, warnings));
    }
    return {};
}

/// Gives slice k of a contrast, i fastest; later slices with each call.
using Slices = std::function<Status(std::int64_t k, std::span<float> slice)>;

/// Marks the brain in plane `at` of an array that `orientation` turns into the brain's grid.
void mark_brain(const Brain& brain, const Orientation& orientation, std::int64_t at, std::span<std::uint8_t> plane) {
    const auto& size = brain.grid.size;
    std::array<std::int64_t, 3> begin{}; // of the plane, in the brain's grid
    std::array<std::int64_t, 3> end = size;
    std::array<std::int64_t, 3> strides{}; // in the plane
    std::int64_t origin = 0;
    for (std::size_t c = 0; c < 3; ++c) {
        const int axis = orientation.axis[c];
        const std::int64_t stride = axis == 0 ? 1 : size_before(size, orientation)[0];
        if (axis == 2) {
            begin[c] = orientation.flip[c] ? size[c] - 1 - at : at;
            end[c] = begin[c] + 1;
        } else {
            strides[c] = orientation.flip[c] ? -stride : stride;
            origin += orientation.flip[c] ? stride * (size[c] - 1) : 0;
        }
    }
    for (std::int64_t k = begin[2]; k < end[2]; ++k)
        for (std::int64_t j = begin[1]; j < end[1]; ++j)
            for (const VoxelRun& run : brain.row(j, k)) {
                const std::int64_t last = std::min<std::int64_t>(run.end, end[0]);
                for (std::int64_t i = std::max<std::int64_t>(run.begin, begin[0]); i < last; ++i)
                    plane[static_cast<std::size_t>(origin + i * strides[0] + j * strides[1] + k * strides[2])] = 1;
            }
}

/// A contrast on another grid, tissue from tissue only; elsewhere the background. `orientation` turns its slices into the
/// brain's grid.
Result<CompactVolume> resampled(const Slices& slices, const Orientation& orientation, const Brain& brain,
                                const Background& background, const Grid& target, int threads) {
    const auto read = [&](std::int64_t k, std::span<float> values, std::span<std::uint8_t> tissue) -> Status {
        MFRES_CHECK(slices(k, values));
        std::transform(values.begin(), values.end(), tissue.begin(),
                       [&](float value) { return static_cast<std::uint8_t>(background.differs(value)); });
        mark_brain(brain, orientation, k, tissue);
        return {};
    };
    SliceStack<float> stack(reorient(target, inverse(orientation)), 1.0, 0.0,
                            static_cast<std::size_t>(target.voxels()));
    MFRES_CHECK(resample_tissue({brain.grid, read, orientation}, background.values.front(), target, threads,
                                [&](std::span<const float> plane) { stack.append(plane); }));
    CompactVolume scan = reorient(std::move(stack).finish(), orientation);
    scan.set_grid(target); // the same up to rounding, and now to the bit
    return scan;
}

void add_warnings(Case& loaded, std::string_view where) {
    if (const double degrees = tilt_degrees(loaded.original_grid.affine); degrees > worth_a_warning_degrees)
        loaded.warnings.push_back(
            text(where, " is turned by ", degrees, " degrees against the body's axes; the network sees it as it is"));
    if (loaded.resampled)
        loaded.warnings.push_back(text(where, " has voxels of ", millimetres(voxel_size(loaded.canonical_grid.affine)),
                                       "; the network sees it resampled to ", network_voxel_mm,
                                       " mm, and labels are resampled back"));
}

/// The most bytes that a scan takes once it is resampled: the box that is kept of it and a voxel around, as floats.
std::int64_t resampled_bytes(const std::array<std::int64_t, 3>& kept_size, const Grid& from, const Grid& to) {
    const Point old_mm = voxel_size(from.affine);
    const Point new_mm = voxel_size(to.affine);
    std::int64_t voxels = 1;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const double kept = static_cast<double>(kept_size[axis] + 1) * old_mm[axis] / new_mm[axis];
        voxels *= std::min(to.size[axis], static_cast<std::int64_t>(kept) + 2);
    }
    return voxels * static_cast<std::int64_t>(sizeof(float));
}

/// Runs of marks in the rows of a grid and the joining of them, at most (measured).
std::int64_t runs_bytes(const Grid& grid) {
    constexpr std::int64_t row_bytes = 64;
    return row_bytes * grid.size[1] * grid.size[2];
}

/// Planes that are resampled: three of the source with their marks, one of them as stored, and one of the result.
std::int64_t planes_bytes(const Grid& from, const Grid& to) {
    const auto plane = [](const Grid& grid) {
        const auto& size = grid.size;
        return std::max({size[0] * size[1], size[0] * size[2], size[1] * size[2]});
    };
    constexpr std::int64_t of_source = 3 * (sizeof(float) + sizeof(std::uint8_t)) + sizeof(double);
    return of_source * plane(from) + static_cast<std::int64_t>(sizeof(float)) * plane(to);
}

/// Notes that loading takes so many bytes at some time. Error: memory_limit if it may not.
Status take_memory(Case& loaded, std::int64_t bytes) {
    loaded.loading_bytes = std::max(loaded.loading_bytes, bytes);
    const std::int64_t most = loaded.options.max_memory;
    if (most == 0 || bytes <= most)
        return {};
    return Error{ErrorCode::memory_limit,
                 text("case ", loaded.id, ": its scans of ", size_text(loaded.original_grid), " voxels",
                      loaded.resampled ? " and their resampling" : "", " take ", bytes, " bytes, more than the ", most,
                      " left of the memory allowed"),
                 std::string(loaded.id)};
}

/// Plans what loading takes, before anything is resampled: the scans, and beside them the marks while the brain is found,
/// then the resampled scans. That each scan goes when its successor is there is not counted.
Status plan_memory(Case& loaded) {
    std::int64_t scans = 0;
    std::int64_t results = 0;
    std::int64_t marks = 0;
    std::int64_t largest_marks = 0;
    for (const CompactVolume& scan : loaded.scans) {
        scans += scan.bytes();
        if (!loaded.resampled || scan.constant())
            continue;
        results += resampled_bytes(scan.kept_size(), loaded.canonical_grid, loaded.scan_grid);
        const std::int64_t own = VoxelBits(loaded.canonical_grid.size, scan.kept_begin(), scan.kept_size()).bytes();
        marks += own;
        largest_marks = std::max(largest_marks, own);
    }
    if (!loaded.resampled)
        return take_memory(loaded, scans);
    marks += std::max(largest_marks, runs_bytes(loaded.canonical_grid));
    results += runs_bytes(loaded.canonical_grid) + planes_bytes(loaded.canonical_grid, loaded.scan_grid);
    const std::int64_t reading =
        std::min(resolve_threads(loaded.options.threads), 4) *
        (loaded.inflated_bytes + border::reading_bytes(border::voxels(loaded.original_grid.size)));
    return take_memory(loaded, scans + std::max({reading, marks, results}));
}

/// Begins a case with what its first contrast says. Errors: orientation_oblique; those of network_grid.
Status begin_case(Case& loaded, const Source& first) {
    loaded.geometry = first.geometry;
    loaded.original_grid = first.scan.grid();
    loaded.grid_source = first.name;
    MFRES_TRY(loaded.orientation, orientation_of(loaded.original_grid.affine, first.name));
    loaded.canonical_grid = reorient(loaded.original_grid, loaded.orientation);
    MFRES_TRY(loaded.scan_grid, network_grid(loaded.canonical_grid, loaded.options, first.name));
    loaded.resampled = loaded.scan_grid != loaded.canonical_grid;
    return {};
}

/// A scan in canonical orientation. The contrasts agree within 0.1 mm; the first stands for all.
CompactVolume canonical(CompactVolume scan, const Case& loaded) {
    scan = reorient(std::move(scan), loaded.orientation);
    scan.set_grid(loaded.canonical_grid);
    return scan;
}

/// What was read as a case: compared, turned to canonical orientation, and resampled if that was asked for.
Result<Case> assemble(Case loaded, Sources read) {
    const ModalitySet& present = loaded.present;
    const std::size_t first = first_of(present);
    for (std::size_t slot = first + 1; slot < read.size(); ++slot)
        if (present[slot] && read[first].scan.grid() != read[slot].scan.grid())
            MFRES_CHECK(check_same_grid(read[first].scan.grid(), std::string_view(read[first].name),
                                        read[slot].scan.grid(), std::string_view(read[slot].name)));
    MFRES_CHECK(check_distinct(read, present));
    MFRES_CHECK(begin_case(loaded, read[first]));
    for (std::size_t slot = 0; slot < read.size(); ++slot) {
        if (!present[slot])
            continue;
        loaded.sources[slot] = read[slot].name;
        loaded.inflated_bytes = std::max(loaded.inflated_bytes, read[slot].inflated_bytes);
        loaded.scans[slot] = canonical(std::exchange(read[slot].scan, {}), loaded);
    }
    MFRES_CHECK(plan_memory(loaded));
    if (!loaded.resampled)
        return loaded;
    const int threads = resolve_threads(loaded.options.threads);
    const Brain brain = find_brain(loaded.scans, present, threads);
    for (std::size_t slot = 0; slot < read.size(); ++slot)
        if (present[slot]) {
            CompactVolume& scan = loaded.scans[slot];
            const auto& size = loaded.canonical_grid.size;
            const auto slices = [&](std::int64_t k, std::span<float> slice) -> Status {
                for (std::int64_t j = 0; j < size[1]; ++j)
                    scan.read(0, j, k, size[0], slice.data() + size[0] * j);
                return {};
            };
            MFRES_TRY(scan, resampled(slices, {}, brain, brain.backgrounds[slot], loaded.scan_grid, threads));
        }
    return loaded;
}

// Contrasts that are read one by one ---------------------------------------------------------------------------------

/// Where the contrasts of a case come from: files, or volumes in memory.
struct Images {
    /// All of one contrast. Throws std::bad_alloc or gives memory_limit where it keeps more than `most_bytes`; 0 = no cap.
    std::function<Result<Source>(std::size_t slot, std::int64_t most_bytes)> read;
    std::function<Result<Slices>(std::size_t slot)> slices; ///< of a contrast that has been read and accepted
    std::function<Result<Grid>(std::size_t slot)> grid;     ///< of its header alone
};

/// Whether the contrasts of a case are read one by one and twice: the first time for the brain, the second time for
/// resampling. So it is where the memory allowed might not hold all of them, of which the header alone tells the most.
bool read_singly(const Case& loaded, const Images& images) {
    const CaseOptions& options = loaded.options;
    if (!options.resample || options.max_memory == 0)
        return false;
    const auto grid = images.grid(first_of(loaded.present));
    if (!grid || voxels_in_range(voxel_size(grid->affine), options))
        return false;
    const auto contrasts = std::count(loaded.present.begin(), loaded.present.end(), true);
    return contrasts * grid->voxels() * static_cast<std::int64_t>(sizeof(float)) > options.max_memory;
}

/// A digest of all intensities of a scan: what differs from the background, row by row.
Sha256::Digest digest_of(const CompactVolume& scan) {
    Sha256 digest;
    const auto add = [&](const auto& values) { digest.update(std::as_bytes(std::span(values))); };
    const auto& from = scan.kept_begin();
    const auto& kept = scan.kept_size();
    const float background = scan.background() + 0.0F; // 0 and -0 are one intensity
    add(scan.grid().size);
    add(std::array{background});
    PageVector<float> row(static_cast<std::size_t>(kept[0]));
    for (std::int64_t k = from[2]; k < from[2] + kept[2]; ++k)
        for (std::int64_t j = from[1]; j < from[1] + kept[1]; ++j) {
            scan.read(from[0], j, k, kept[0], row.data());
            std::transform(row.begin(), row.end(), row.begin(), [](float value) { return value + 0.0F; });
            const auto differs = [background](float value) { return value != background; };
            const auto first = std::find_if(row.begin(), row.end(), differs);
            if (first == row.end())
                continue;
            const auto last = std::find_if(row.rbegin(), row.rend(), differs).base();
            add(std::array{from[0] + (first - row.begin()), j, k, std::int64_t{last - first}});
            add(std::span(first, last));
        }
    return digest.finish();
}

/// What is found out about the contrasts of a case while they are read one by one. No two are in memory at a time.
class SingleContrasts {
  public:
    SingleContrasts(Case& loaded, const Images& images)
        : loaded_(loaded), images_(images), finder_(resolve_threads(loaded.options.threads)) {}

    /// Reads a contrast for the brain. Errors: those of reading, memory_limit. What comes after that in load_case's order
    /// is left to complaint().
    Status add(std::size_t slot) {
        MFRES_TRY(Source read, this->read(slot));
        MFRES_CHECK(check_not_constant(read.scan, read.name));
        loaded_.sources[slot] = read.name;
        if (slot == first_of(loaded_.present))
            unfit_ = begin_case(loaded_, read);
        else if (mismatched_.ok() && loaded_.original_grid != read.scan.grid())
            mismatched_ = check_same_grid(loaded_.original_grid, std::string_view(loaded_.grid_source),
                                          read.scan.grid(), std::string_view(read.name));
        check_new(slot, read);
        if (!complaint().ok())
            return {};
        const CompactVolume scan = canonical(std::exchange(read.scan, {}), loaded_);
        const std::int64_t before = finder_.bytes();
        const std::int64_t marks = VoxelBits(scan.grid().size, scan.kept_begin(), scan.kept_size()).bytes();
        MFRES_CHECK(take_memory(loaded_, before + scan.bytes() + std::max(reading_bytes(), 2 * marks)));
        finder_.add(slot, scan);
        results_ += resampled_bytes(scan.kept_size(), loaded_.canonical_grid, loaded_.scan_grid);
        return {};
    }

    /// grid_size_mismatch, grid_position_mismatch; modality_duplicate; what begin_case() rejects.
    const Status& complaint() const {
        if (!mismatched_.ok())
            return mismatched_;
        return duplicate_.ok() ? unfit_ : duplicate_;
    }

    /// Reads all contrasts again and resamples them.
    Status resample() {
        MFRES_CHECK(take_memory(loaded_, finder_.bytes() + runs_bytes(loaded_.canonical_grid)));
        MFRES_CHECK(take_memory(loaded_, runs_bytes(loaded_.canonical_grid) + results_ + reading_bytes() +
                                             planes_bytes(loaded_.canonical_grid, loaded_.scan_grid)));
        const Brain brain = std::move(finder_).finish();
        for (std::size_t slot = 0; slot < loaded_.scans.size(); ++slot)
            if (loaded_.present[slot]) {
                MFRES_TRY(const Slices slices, images_.slices(slot));
                MFRES_TRY(loaded_.scans[slot], resampled(slices, loaded_.orientation, brain, brain.backgrounds[slot],
                                                         loaded_.scan_grid, resolve_threads(loaded_.options.threads)));
            }
        return {};
    }

  private:
    std::int64_t reading_bytes() const { return border::reading_bytes(border::voxels(loaded_.original_grid.size)); }

    Result<Source> read(std::size_t slot) const {
        const std::int64_t most = std::max<std::int64_t>(1, loaded_.options.max_memory - finder_.bytes());
        const auto too_much = [&] {
            return Error{ErrorCode::memory_limit,
                         text("case ", loaded_.id, ": ", name(modalities[slot]), " takes more than the ", most,
                              " bytes left of the memory allowed"),
                         std::string(loaded_.id)};
        };
        try {
            auto read = images_.read(slot, most);
            if (!read && read.error().code == ErrorCode::memory_limit)
                return too_much();
            return read;
        } catch (const std::bad_alloc&) {
            return too_much();
        }
    }

    /// Whether a contrast before has the same voxels.
    void check_new(std::size_t slot, const Source& read) {
        digests_[slot] = digest_of(read.scan);
        for (std::size_t other = 0; other < slot; ++other)
            if (duplicate_.ok() && digests_[other] == digests_[slot])
                duplicate_ = same_voxels(other, loaded_.sources[other], slot, read.name, read.scan.grid());
    }

    Case& loaded_;
    const Images& images_;
    BrainFinder finder_;
    std::array<std::optional<Sha256::Digest>, 4> digests_;
    std::int64_t results_ = 0; ///< bytes of the resampled contrasts
    Status mismatched_;
    Status duplicate_;
    Status unfit_;
};

Result<Case> load_singly(Case loaded, const Images& images) {
    SingleContrasts contrasts(loaded, images);
    for (std::size_t slot = 0; slot < loaded.present.size(); ++slot)
        if (loaded.present[slot])
            MFRES_CHECK(contrasts.add(slot));
    MFRES_CHECK(contrasts.complaint());
    MFRES_CHECK(contrasts.resample());
    return loaded;
}

/// load_case without protection against a lack of memory. `warnings` come before others.
Result<Case> load(std::string_view id, const ModalitySet& present, const CaseOptions& options, const Images& images,
                  std::vector<std::string> warnings) {
    Case loaded;
    loaded.id = id;
    loaded.present = present;
    loaded.options = options;
    loaded.warnings = std::move(warnings);
    if (read_singly(loaded, images)) {
        MFRES_TRY(loaded, load_singly(std::move(loaded), images));
    } else {
        MFRES_TRY(Sources read,
                  read_modalities(present, options.threads, [&](std::size_t slot) { return images.read(slot, 0); }));
        MFRES_TRY(loaded, assemble(std::move(loaded), std::move(read)));
    }
    add_warnings(loaded, loaded.grid_source);
    return loaded;
}

Result<Case> load(const CaseFiles& files, const CaseOptions& options) {
    MFRES_CHECK(check_options(options));
    const ModalitySet present = present_in(files);
    MFRES_CHECK(check_present(files.id, present, options));
    std::vector<std::string> warnings;
    MFRES_CHECK(check_names(files, options.accept, warnings));
    // Files of a case are inflated to as many bytes each, so the next one takes the pages of one before: fresh pages have to
    // be cleared by the system. Those of the last ones may become the network's.
    ArrayMemory inflated(
        [](std::size_t bytes, std::size_t) { return platform::take_pages(bytes, bytes >= platform::large_pages_from); },
        [](void* pages, std::size_t bytes) { platform::reserve_pages(pages, bytes); }, true);
    const auto reading = [&](std::int64_t most_bytes) {
        const std::uint64_t most_inflated = options.max_memory == 0 ? most_inflated_bytes : 0;
        return NiftiReadOptions{options.use, options.max_bytes, most_bytes, most_inflated,
                                ArrayMemory::current() ? nullptr : &inflated};
    };
    const auto read = [&](std::size_t slot, std::int64_t most_bytes) -> Result<Source> {
        MFRES_TRY(NiftiCompactVolume volume, read_nifti_scan(files.modalities[slot], reading(most_bytes)));
        return Source{PageString(files.modalities[slot].string()), std::move(volume.scan), volume.geometry,
                      volume.inflated_bytes};
    };
    const auto slices = [&](std::size_t slot) -> Result<Slices> {
        MFRES_TRY(nifti::SliceReader opened, nifti::SliceReader::open(files.modalities[slot], reading(0)));
        const auto reader = std::make_shared<nifti::SliceReader>(std::move(opened));
        return Slices([reader](std::int64_t k, std::span<float> slice) { return reader->read(k, slice); });
    };
    const auto grid = [&](std::size_t slot) -> Result<Grid> {
        MFRES_TRY(const nifti::OpenFile opened, nifti::open_file(files.modalities[slot], reading(0), sizeof(float)));
        return opened.description.grid;
    };
    return load(files.id, present, options, {std::cref(read), std::cref(slices), std::cref(grid)}, std::move(warnings));
}

/// Header geometry that holds exactly the affine of a grid in memory.
Result<NiftiGeometry> checked_geometry(const Grid& grid, std::string_view where) {
    NiftiGeometry exact;
    exact.sform_code = 1;
    exact.srow = grid.affine;
    exact.xyzt_units = 2;
    MFRES_TRY(const Affine affine, affine_of(exact, grid.size, AffineSource::sform, where));
    return geometry_of({grid.size, affine});
}

Result<Case> load(const std::string& id, const std::array<VolumeView, 4>& volumes, const CaseOptions& options) {
    MFRES_CHECK(check_options(options));
    ModalitySet present{};
    for (std::size_t slot = 0; slot < volumes.size(); ++slot)
        present[slot] = volumes[slot].voxels != nullptr;
    MFRES_CHECK(check_present(id, present, options));
    const auto read = [&](std::size_t slot, std::int64_t most_bytes) -> Result<Source> {
        PageString where(name(modalities[slot]));
        where.append(" of ").append(id);
        const auto bytes =
            static_cast<std::uint64_t>(std::max<std::int64_t>(0, volumes[slot].grid.voxels())) * sizeof(float);
        MFRES_TRY(CompactVolume scan, compact_volume_of(volumes[slot], where, most_bytes));
        if (bytes > options.max_bytes)
            return Error{
                ErrorCode::nifti_too_large,
                text(where, " takes ", bytes, " bytes as floats, more than the ", options.max_bytes, " allowed"),
                std::string(where)};
        MFRES_TRY(const NiftiGeometry geometry, checked_geometry(scan.grid(), where));
        return Source{where, std::move(scan), geometry};
    };
    const auto slices = [&](std::size_t slot) -> Result<Slices> {
        return Slices([&view = volumes[slot]](std::int64_t k, std::span<float> slice) -> Status {
            read_slice(view, k, slice);
            return {};
        });
    };
    const auto grid = [&](std::size_t slot) -> Result<Grid> { return volumes[slot].grid; };
    return load(id, present, options, {std::cref(read), std::cref(slices), std::cref(grid)}, {});
}

Error no_memory(const std::string& id) {
    return {ErrorCode::memory_limit, text("case ", id, " does not fit into memory"), id};
}

} // namespace

std::optional<std::size_t> brats_slot(const fs::path& file) {
    constexpr std::array<std::string_view, 2> types = {".nii.gz", ".nii"};
    const auto stem = lower_stem(file, types);
    if (!stem || stem->starts_with('.'))
        return std::nullopt;
    for (const auto& ending : endings)
        if (stem->ends_with(ending.text))
            return ending.slot;
    return std::nullopt;
}

std::optional<std::size_t> named_slot(const fs::path& file) {
    constexpr std::array<std::string_view, 6> types = {".nii.gz", ".nii", ".hdr.gz", ".img.gz", ".hdr", ".img"};
    const auto stem = lower_stem(file, types);
    return stem ? slot_of_stem(*stem) : std::nullopt;
}

Status reject_or_warn(Error finding, const AcceptedChecks& accepted, std::vector<std::string>& warnings) {
    if (accepted.count(finding.code) == 0)
        return Error{finding.code,
                     text(finding.message, ". If the case is right nevertheless, accept ", name(finding.code)),
                     std::move(finding.where)};
    warnings.push_back(text(finding.message, " (accepted: ", name(finding.code), ")"));
    return {};
}

std::string reasons_of_absence(const CaseFiles& files) {
    std::array<fs::path, 5> found;
    for (std::size_t slot = 0; slot < modalities.size(); ++slot) {
        const fs::path& file = files.modalities[slot];
        if (!file.empty() && brats_slot(file).value_or(common_slot(file).value_or(segmentation_slot)) != slot)
            return {};
        found[slot] = file;
    }
    const fs::path folder = folder_of(files);
    if (folder.empty())
        return {};
    const auto listing = list(folder);
    return listing ? reasons(*listing, found) : std::string();
}

ModalitySet present_in(const CaseFiles& files) {
    ModalitySet present{};
    for (std::size_t slot = 0; slot < present.size(); ++slot)
        present[slot] = !files.modalities[slot].empty();
    return present;
}

Result<CaseFiles> find_case(const fs::path& folder, bool allow_absent) {
    return guarded(folder, [&]() -> Result<CaseFiles> {
        MFRES_TRY(const Listing listing, list(folder));
        if (!listing.has_modality && !listing.numbered.empty()) {
            MFRES_TRY(std::vector<CaseFiles> cases, numbered_cases(folder, listing.numbered));
            if (cases.size() == 1) {
                MFRES_CHECK(check_numbered(cases.front(), folder, allow_absent));
                return std::move(cases.front());
            }
        }
        if (!listing.has_modality && (!listing.folders.empty() || !listing.numbered.empty()))
            if (const auto below = search_cases(folder, true); below && !below->cases.empty())
                return Error{ErrorCode::modality_missing,
                             text(folder.string(), " is no case but holds ", below->cases.size(), " of them, ",
                                  below->cases.front().id,
                                  " first; name one of them, or give it as a data set (--data)"),
                             folder.string()};
        return case_from(folder, listing, allow_absent);
    });
}

Result<std::vector<CaseFiles>> find_cases(const fs::path& root, bool allow_absent) {
    return guarded(root, [&]() -> Result<std::vector<CaseFiles>> {
        MFRES_TRY(FoundCases found, search_cases(root, allow_absent));
        if (!found.rejected.empty())
            return std::move(found.rejected.front().error);
        return std::move(found.cases);
    });
}

namespace {

Result<FoundCases> cases_below(const fs::path& root, bool allow_absent) {
    FoundCases found;
    MFRES_CHECK(collect_cases(root, 0, allow_absent, found));
    std::vector<CaseFiles>& cases = found.cases;
    if (cases.empty() && found.rejected.empty())
        return Error{ErrorCode::file_not_found,
                     text("no case folder with files ending in _t1, _t1ce, _t2, _flair or -t1n, -t1c, -t2w, -t2f was "
                          "found in ",
                          root.string(),
                          " (names of BIDS, UPENN-GBM, UCSF-PDGM and nnU-Net are known, too; files of any "
                          "other name are given one by one: --t1 F --t1ce F --t2 F --flair F)",
                          found.skipped.empty() ? std::string() : "; " + found.skipped.front().error.message),
                     root.string()};
    const auto by_id = [](const auto& a, const auto& b) { return a.id < b.id; };
    std::stable_sort(cases.begin(), cases.end(), by_id);
    reject_twins(found, root);
    std::stable_sort(found.rejected.begin(), found.rejected.end(), by_id);
    std::stable_sort(found.skipped.begin(), found.skipped.end(), by_id);
    return found;
}

} // namespace

Result<FoundCases> search_cases(const fs::path& root, bool allow_absent) {
    return guarded(root, [&] { return cases_below(root, allow_absent); });
}

Status check_same_grid(const Grid& reference, const fs::path& reference_path, const Grid& grid, const fs::path& path) {
    if (grid.size != reference.size)
        return Error{ErrorCode::grid_size_mismatch,
                     text(path.string(), " has ", size_text(grid), " voxels, but ", reference_path.string(), " has ",
                          size_text(reference)),
                     path.string()};
    const double distance = max_corner_distance(reference, grid);
    if (!(distance <= position_limit_mm))
        return Error{ErrorCode::grid_position_mismatch,
                     text("a corner of ", path.string(), " lies ", distance, " mm away from that of ",
                          reference_path.string(), " (limit ", position_limit_mm, ")"),
                     path.string()};
    return {};
}

Result<Case> load_case(const CaseFiles& files, const CaseOptions& options) {
    try {
        return load(files, options);
    } catch (const std::bad_alloc&) {
        return no_memory(files.id);
    }
}

Result<Case> load_case(const std::string& id, const std::array<VolumeView, 4>& volumes, const CaseOptions& options) {
    try {
        return load(id, volumes, options);
    } catch (const std::bad_alloc&) {
        return no_memory(id);
    }
}

LabelMap restore_labels(const Case& loaded, LabelMap canonical) {
    LabelMap restored;
    restore_labels(loaded, canonical, restored);
    return restored;
}

void restore_labels(const Case& loaded, LabelMap& canonical, LabelMap& restored) {
    restored.grid = loaded.original_grid;
    if (!loaded.resampled && loaded.orientation.is_canonical()) {
        std::swap(restored.labels, canonical.labels);
        return;
    }
    restored.labels.resize(static_cast<std::size_t>(restored.grid.voxels()));
    const auto slice = static_cast<std::size_t>(restored.grid.size[0] * restored.grid.size[1]);
    for (std::int64_t k = 0; k < restored.grid.size[2]; ++k)
        restore_slice(loaded, canonical, k,
                      std::span(restored.labels).subspan(static_cast<std::size_t>(k) * slice, slice));
}

void restore_slice(const Case& loaded, const LabelMap& canonical, std::int64_t k, std::span<std::uint8_t> slice) {
    if (loaded.resampled) {
        // The scans' grid is made from an invertible one, so this cannot fail.
        (void)resample_nearest_plane(canonical, loaded.canonical_grid, loaded.orientation, k, slice,
                                     resolve_threads(loaded.options.threads));
        return;
    }
    // A row of the file lies along one axis of the canonical map, in either direction.
    const auto& size = canonical.grid.size;
    const std::int64_t width = loaded.original_grid.size[0];
    const auto place = [&](std::int64_t i, std::int64_t j) {
        const auto at = turned({i, j, k}, size, loaded.orientation);
        return at[0] + size[0] * (at[1] + size[1] * at[2]);
    };
    const std::int64_t step = place(1, 0) - place(0, 0);
    for (std::int64_t j = 0; j < loaded.original_grid.size[1]; ++j) {
        const std::uint8_t* const from = canonical.labels.data() + place(0, j);
        std::uint8_t* const row = slice.data() + width * j;
        if (step == 1)
            std::copy_n(from, width, row);
        else if (step == -1)
            std::reverse_copy(from + 1 - width, from + 1, row);
        else
            for (std::int64_t i = 0; i < width; ++i)
                row[i] = from[i * step];
    }
}

Result<ProbabilityMap> restore_probabilities(const Case& loaded, ProbabilityMap&& canonical, ProbabilityMap reused) {
    if (!loaded.resampled && loaded.orientation.is_canonical()) {
        canonical.grid = loaded.original_grid;
        return std::move(canonical);
    }
    ProbabilityMap restored{loaded.original_grid, canonical.classes, std::move(reused.values)};
    const std::int64_t voxels = restored.grid.voxels();
    restored.values.resize(static_cast<std::size_t>(voxels * restored.classes));
    const Orientation back = inverse(loaded.orientation);
    for (std::int64_t index = 0; index < canonical.classes; ++index) {
        const auto values = canonical.of_class(index);
        float* const out = restored.values.data() + index * voxels;
        if (loaded.resampled) {
            MFRES_TRY(const Volume volume,
                      resample_linear({canonical.grid, {values.begin(), values.end()}}, loaded.canonical_grid,
                                      resolve_threads(loaded.options.threads)));
            reorient_into(volume.voxels.data(), volume.grid.size, back, out);
        } else {
            reorient_into(values.data(), canonical.grid.size, back, out);
        }
    }
    return restored;
}

Result<LabelMap> load_segmentation(const CaseFiles& files, const Case& loaded) {
    if (!files.segmentation)
        return Error{ErrorCode::file_not_found, text("case ", files.id, " has no segmentation"), files.id};
    try {
        MFRES_TRY(NiftiLabels labels,
                  read_nifti_labels(*files.segmentation, {loaded.options.use, loaded.options.max_bytes}));
        MFRES_CHECK(check_same_grid(loaded.original_grid, std::string_view(loaded.grid_source), labels.map.grid,
                                    *files.segmentation));
        LabelMap canonical = reorient(std::move(labels.map), loaded.orientation);
        canonical.grid = loaded.canonical_grid;
        if (!loaded.resampled)
            return canonical;
        return resample_nearest(canonical, loaded.scan_grid, resolve_threads(loaded.options.threads));
    } catch (const std::bad_alloc&) {
        return no_memory(files.id);
    }
}

Result<LabelMap> load_reference_classes(const CaseFiles& files, const Case& loaded) {
    MFRES_TRY(LabelMap labels, load_segmentation(files, loaded));
    if (files.label_scheme.empty())
        return Error{ErrorCode::label_scheme_unclear,
                     text("the label scheme of ", files.segmentation->string(), " has not been chosen"),
                     files.segmentation->string()};
    MFRES_TRY(const LabelCoding coding, LabelCoding::parse(files.label_scheme));
    MFRES_CHECK(labels_to_classes(labels, coding, files.segmentation->string()));
    return labels;
}

} // namespace mfres
