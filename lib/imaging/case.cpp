// SPDX-License-Identifier: MIT
#include "imaging/case.h"

#include "core/file.h"
#include "core/guard.h"
#include "core/parallel.h"
#include "core/try.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <iterator>
#include <new>
#include <optional>
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

/// What a folder holds, sorted by name so that messages and results do not depend on the file system.
struct Listing {
    std::vector<fs::path> images; ///< files with a known ending
    std::vector<fs::path> folders;
    bool has_modality = false;
};

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
        }
    return listing;
}

/// The last named part of a path; "a/b/" and "a/b/." are both "b".
std::string folder_name(const fs::path& folder) {
    std::error_code ignored;
    fs::path full = fs::absolute(folder, ignored).lexically_normal();
    if (!full.has_filename())
        full = full.parent_path();
    return full.filename().string();
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

Result<CaseFiles> case_from(const fs::path& folder, const Listing& listing, bool allow_absent) {
    CaseFiles files;
    files.id = folder_name(folder);
    std::array<fs::path, 5> found;
    std::string present;
    for (const auto& image : listing.images) {
        const std::size_t slot = brats_slot(image).value_or(segmentation_slot);
        if (!found[slot].empty())
            return Error{ErrorCode::modality_ambiguous,
                         text(folder.string(), " has two files for ", slot_name(slot), ": ",
                              found[slot].filename().string(), " and ", image.filename().string()),
                         folder.string()};
        found[slot] = image;
        present += text(present.empty() ? "" : ", ", image.filename().string());
    }
    std::string missing;
    for (std::size_t slot = 0; slot < modalities.size(); ++slot) {
        if (found[slot].empty())
            missing += text(missing.empty() ? "" : ", ", slot_name(slot));
        files.modalities[slot] = std::move(found[slot]);
    }
    const bool none = present_in(files) == ModalitySet{};
    if (!missing.empty() && (none || !allow_absent))
        return Error{ErrorCode::modality_missing,
                     text(folder.string(), " has no file for ", missing, "; found ",
                          present.empty() ? "no image with a known ending" : present),
                     folder.string()};
    if (!found[segmentation_slot].empty())
        files.segmentation = std::move(found[segmentation_slot]);
    return files;
}

Status collect_cases(const fs::path& folder, int layer, bool allow_absent, std::vector<CaseFiles>& cases) {
    MFRES_TRY(const Listing listing, list(folder));
    if (listing.has_modality) {
        MFRES_TRY(CaseFiles files, case_from(folder, listing, allow_absent));
        cases.push_back(std::move(files));
        return {};
    }
    if (layer < deepest_layer)
        for (const auto& inner : listing.folders)
            MFRES_CHECK(collect_cases(inner, layer + 1, allow_absent, cases));
    return {};
}

// Checks ---------------------------------------------------------------------------------------------------------

std::string size_text(const Grid& grid) {
    return text(grid.size[0], "x", grid.size[1], "x", grid.size[2]);
}

Status check_not_constant(const CompactVolume& scan, const fs::path& path) {
    if (scan.constant())
        return Error{
            ErrorCode::volume_constant,
            text("every one of the ", scan.grid().voxels(), " voxels of ", path.string(), " is ", scan.background()),
            path.string()};
    return {};
}

/// One contrast as it came from a file or from memory.
struct Source {
    fs::path path; ///< of the file, or a name for messages
    CompactVolume scan;
    NiftiGeometry geometry;
};
using Sources = std::array<Source, 4>;

Status check_distinct(const Sources& read, const ModalitySet& present) {
    for (std::size_t a = 0; a < read.size(); ++a)
        for (std::size_t b = a + 1; b < read.size(); ++b)
            if (present[a] && present[b] && same_intensities(read[a].scan, read[b].scan))
                return Error{ErrorCode::modality_duplicate,
                             text(read[a].path.string(), " (", name(modalities[a]), ") and ", read[b].path.string(),
                                  " (", name(modalities[b]), ") hold the same ", read[a].scan.grid().voxels(),
                                  " voxels"),
                             read[b].path.string()};
    return {};
}

/// The contrasts that are there, from read(slot), on up to four threads. Each thread keeps its own outcome, so that the
/// error reported is that of the first modality in order and not of the fastest thread.
template <typename Read>
Result<Sources> read_modalities(const ModalitySet& present, int threads, const Read& read) {
    std::array<std::optional<Result<Source>>, 4> outcomes;
    parallel_ranges(static_cast<std::int64_t>(outcomes.size()), resolve_threads(threads),
                    [&](std::int64_t begin, std::int64_t end) {
                        for (auto slot = static_cast<std::size_t>(begin); slot < static_cast<std::size_t>(end);
                             ++slot) {
                            if (!present[slot])
                                continue;
                            outcomes[slot].emplace(read(slot));
                            if (!outcomes[slot]->ok())
                                continue;
                            const auto status = check_not_constant((*outcomes[slot])->scan, (*outcomes[slot])->path);
                            if (!status)
                                outcomes[slot].emplace(status.error());
                        }
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

Status check_present(const std::string& id, const ModalitySet& present, const CaseOptions& options) {
    if (present == all_modalities || (options.allow_absent && present != ModalitySet{}))
        return {};
    return Error{ErrorCode::modality_missing, text("case ", id, " lacks ", names(without(all_modalities, present))),
                 id};
}

bool voxels_in_range(const Point& mm, const CaseOptions& options) {
    return std::all_of(mm.begin(), mm.end(),
                       [&](double size) { return size >= options.min_voxel_mm && size <= options.max_voxel_mm; });
}

std::string millimetres(const Point& mm) {
    return text(mm[0], " x ", mm[1], " x ", mm[2], " mm");
}

/// The grid the network is to see: the canonical one, or one of 1 mm voxels where that was allowed.
Result<Grid> network_grid(const Grid& canonical, const CaseOptions& options, const std::string& where) {
    const Point mm = voxel_size(canonical.affine);
    if (voxels_in_range(mm, options))
        return canonical;
    if (!options.resample)
        return Error{ErrorCode::voxel_size_out_of_range,
                     text(where, " has voxels of ", millimetres(mm), "; the model was trained for ",
                          options.min_voxel_mm, " to ", options.max_voxel_mm, " mm. Resampling has to be asked for"),
                     where};
    const Grid grid = with_voxel_size(canonical, network_voxel_mm);
    if (std::any_of(grid.size.begin(), grid.size.end(), [](std::int64_t n) { return n < 2 || n > 1024; }))
        return Error{ErrorCode::voxel_size_out_of_range,
                     text(where, " has ", size_text(canonical), " voxels of ", millimetres(mm), "; as ",
                          network_voxel_mm, " mm voxels that would be a grid of ", size_text(grid),
                          ", and 2 to 1024 per axis are allowed"),
                     where};
    const auto bytes = static_cast<std::uint64_t>(grid.voxels()) * sizeof(float);
    if (bytes > options.max_bytes)
        return Error{ErrorCode::nifti_too_large,
                     text(where, " resampled to ", size_text(grid), " voxels takes ", bytes, " bytes, more than the ",
                          options.max_bytes, " allowed"),
                     where};
    return grid;
}

Status check_options(const CaseOptions& options) {
    if (!(options.min_voxel_mm > 0.0) || !(options.max_voxel_mm >= options.min_voxel_mm))
        return Error{
            ErrorCode::invalid_argument,
            text("a voxel size range of ", options.min_voxel_mm, " to ", options.max_voxel_mm, " mm makes no sense"),
            ""};
    return {};
}

void add_warnings(Case& loaded, const std::string& where) {
    if (const double degrees = tilt_degrees(loaded.original_grid.affine); degrees > worth_a_warning_degrees)
        loaded.warnings.push_back(
            text(where, " is turned by ", degrees, " degrees against the body's axes; the network sees it as it is"));
    if (loaded.resampled)
        loaded.warnings.push_back(text(where, " has voxels of ", millimetres(voxel_size(loaded.canonical_grid.affine)),
                                       "; the network sees it resampled to ", network_voxel_mm,
                                       " mm, and labels are resampled back"));
}

/// Plans what loading takes, before anything is resampled.
Status plan_memory(Case& loaded, const Sources& read) {
    const std::int64_t most = loaded.options.max_memory;
    std::int64_t& needed = loaded.loading_bytes;
    needed = loaded.resampled ? resampling_bytes(loaded.canonical_grid, loaded.scan_grid) : 0;
    for (const Source& source : read)
        needed += source.scan.bytes();
    if (most == 0 || needed <= most)
        return {};
    return Error{ErrorCode::memory_limit,
                 text("case ", loaded.id, ": its scans of ", size_text(loaded.original_grid), " voxels",
                      loaded.resampled ? " and their resampling" : "", " take ", needed, " bytes, more than the ", most,
                      " left of the memory allowed"),
                 loaded.id};
}

/// What was read as a case: compared, turned to canonical orientation, and resampled if that was asked for.
Result<Case> assemble(const std::string& id, Sources read, const ModalitySet& present, const CaseOptions& options) {
    const auto first = static_cast<std::size_t>(std::find(present.begin(), present.end(), true) - present.begin());
    const fs::path path = read[first].path;
    const std::string where = path.string();
    for (std::size_t slot = first + 1; slot < read.size(); ++slot)
        if (present[slot])
            MFRES_CHECK(check_same_grid(read[first].scan.grid(), path, read[slot].scan.grid(), read[slot].path));
    MFRES_CHECK(check_distinct(read, present));

    Case loaded;
    loaded.id = id;
    loaded.present = present;
    loaded.geometry = read[first].geometry;
    loaded.original_grid = read[first].scan.grid();
    loaded.grid_source = where;
    loaded.options = options;
    MFRES_TRY(loaded.orientation, orientation_of(loaded.original_grid.affine, where));
    loaded.canonical_grid = reorient(loaded.original_grid, loaded.orientation);
    MFRES_TRY(loaded.scan_grid, network_grid(loaded.canonical_grid, options, where));
    loaded.resampled = loaded.scan_grid != loaded.canonical_grid;
    MFRES_CHECK(plan_memory(loaded, read));
    for (std::size_t slot = 0; slot < read.size(); ++slot) {
        if (!present[slot])
            continue;
        CompactVolume scan = reorient(std::exchange(read[slot].scan, {}), loaded.orientation);
        scan.set_grid(loaded.canonical_grid); // the modalities agree within 0.1 mm; the first stands for all
        if (loaded.resampled) {
            MFRES_TRY(const Volume volume,
                      resample_linear(scan.volume(), loaded.scan_grid, resolve_threads(options.threads)));
            MFRES_TRY(scan, make_scan(volume));
        }
        loaded.scans[slot] = std::move(scan);
    }
    add_warnings(loaded, where);
    return loaded;
}

/// load_case without protection against a lack of memory.
Result<Case> load(const CaseFiles& files, const CaseOptions& options) {
    MFRES_CHECK(check_options(options));
    const ModalitySet present = present_in(files);
    MFRES_CHECK(check_present(files.id, present, options));
    MFRES_TRY(Sources read, read_modalities(present, options.threads, [&](std::size_t slot) -> Result<Source> {
                  MFRES_TRY(NiftiCompactVolume volume,
                            read_nifti_scan(files.modalities[slot], {options.use, options.max_bytes}));
                  return Source{files.modalities[slot], std::move(volume.scan), volume.geometry};
              }));
    return assemble(files.id, std::move(read), present, options);
}

/// Header geometry that holds exactly the affine of a grid in memory.
Result<NiftiGeometry> checked_geometry(const Grid& grid, const std::string& where) {
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
    MFRES_TRY(Sources read, read_modalities(present, options.threads, [&](std::size_t slot) -> Result<Source> {
                  const std::string where = text(name(modalities[slot]), " of ", id);
                  const auto bytes =
                      static_cast<std::uint64_t>(std::max<std::int64_t>(0, volumes[slot].grid.voxels())) *
                      sizeof(float);
                  MFRES_TRY(CompactVolume scan, compact_volume_of(volumes[slot], where));
                  if (bytes > options.max_bytes)
                      return Error{ErrorCode::nifti_too_large,
                                   text(where, " takes ", bytes, " bytes as floats, more than the ", options.max_bytes,
                                        " allowed"),
                                   where};
                  MFRES_TRY(const NiftiGeometry geometry, checked_geometry(scan.grid(), where));
                  return Source{where, std::move(scan), geometry};
              }));
    return assemble(id, std::move(read), present, options);
}

Error no_memory(const std::string& id) {
    return {ErrorCode::memory_limit, text("case ", id, " does not fit into memory"), id};
}

} // namespace

std::int64_t resampling_bytes(const Grid& from, const Grid& to) {
    constexpr std::int64_t number = sizeof(float);
    return (number + 2) * from.voxels() + 2 * number * to.voxels();
}

std::optional<std::size_t> brats_slot(const fs::path& file) {
    std::string name = file.filename().string();
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (name.starts_with('.'))
        return std::nullopt;
    for (const std::string_view suffix : {".nii.gz", ".nii"})
        if (name.ends_with(suffix)) {
            name.resize(name.size() - suffix.size());
            for (const auto& ending : endings)
                if (name.ends_with(ending.text))
                    return ending.slot;
            return std::nullopt;
        }
    return std::nullopt;
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
        return case_from(folder, listing, allow_absent);
    });
}

namespace {

Result<std::vector<CaseFiles>> cases_below(const fs::path& root, bool allow_absent) {
    std::vector<CaseFiles> cases;
    MFRES_CHECK(collect_cases(root, 0, allow_absent, cases));
    if (cases.empty())
        return Error{ErrorCode::file_not_found,
                     text("no case folder with files ending in _t1, _t1ce, _t2, _flair or -t1n, -t1c, -t2w, -t2f was "
                          "found in ",
                          root.string()),
                     root.string()};
    std::stable_sort(cases.begin(), cases.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
    const auto twin =
        std::adjacent_find(cases.begin(), cases.end(), [](const auto& a, const auto& b) { return a.id == b.id; });
    if (twin != cases.end())
        return Error{ErrorCode::invalid_argument,
                     text("two case folders are named ", twin->id, ": ", folder_of(*twin).string(), " and ",
                          folder_of(*std::next(twin)).string()),
                     root.string()};
    return cases;
}

} // namespace

Result<std::vector<CaseFiles>> find_cases(const fs::path& root, bool allow_absent) {
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
    if (loaded.resampled) {
        // The scans' grid is made from an invertible one, so this cannot fail.
        auto resampled = resample_nearest(canonical, loaded.canonical_grid, resolve_threads(loaded.options.threads));
        if (resampled)
            canonical = std::move(resampled).value();
    }
    LabelMap restored = reorient(std::move(canonical), inverse(loaded.orientation));
    restored.grid = loaded.original_grid; // the same up to rounding, and now to the bit
    return restored;
}

Result<ProbabilityMap> restore_probabilities(const Case& loaded, ProbabilityMap canonical) {
    if (!loaded.resampled && loaded.orientation.is_canonical()) {
        canonical.grid = loaded.original_grid;
        return canonical;
    }
    ProbabilityMap restored{loaded.original_grid, canonical.classes, {}};
    restored.values.reserve(static_cast<std::size_t>(restored.grid.voxels() * restored.classes));
    for (std::int64_t index = 0; index < canonical.classes; ++index) {
        const auto values = canonical.of_class(index);
        Volume volume{canonical.grid, {values.begin(), values.end()}};
        if (loaded.resampled) {
            MFRES_TRY(volume, resample_linear(volume, loaded.canonical_grid, resolve_threads(loaded.options.threads)));
        }
        volume = reorient(std::move(volume), inverse(loaded.orientation));
        restored.values.insert(restored.values.end(), volume.voxels.begin(), volume.voxels.end());
    }
    return restored;
}

Result<LabelMap> load_segmentation(const CaseFiles& files, const Case& loaded) {
    if (!files.segmentation)
        return Error{ErrorCode::file_not_found, text("case ", files.id, " has no segmentation"), files.id};
    try {
        MFRES_TRY(NiftiLabels labels,
                  read_nifti_labels(*files.segmentation, {loaded.options.use, loaded.options.max_bytes}));
        MFRES_CHECK(check_same_grid(loaded.original_grid, loaded.grid_source, labels.map.grid, *files.segmentation));
        LabelMap canonical = reorient(std::move(labels.map), loaded.orientation);
        canonical.grid = loaded.canonical_grid;
        if (!loaded.resampled)
            return canonical;
        return resample_nearest(canonical, loaded.scan_grid, resolve_threads(loaded.options.threads));
    } catch (const std::bad_alloc&) {
        return no_memory(files.id);
    }
}

} // namespace mfres
