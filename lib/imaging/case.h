// SPDX-License-Identifier: MIT
// A patient as the network wants to see it: four modalities on one grid in L-P-S order, checked so that nothing
// doubtful is segmented, and the way back to the input's own grid. Finding the files is <mfres/case.h>.
#pragma once

#include "core/page_vector.h"
#include "imaging/compact_volume.h"
#include "imaging/geometry.h"
#include "imaging/nifti/nifti.h"

#include <mfres/case.h>
#include <mfres/plausibility.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mfres {

struct CaseOptions {
    AffineSource use = AffineSource::automatic;
    bool resample = false; ///< bring voxels outside the range below to 1 mm, and labels back
    double min_voxel_mm = 0.95;
    double max_voxel_mm = 1.05;
    /// Per file, see NiftiReadOptions. As floats: 512 x 512 x 512 voxels, more than a head has at 0.5 mm.
    std::uint64_t max_bytes = std::uint64_t{512} << 20U;
    /// Bytes that the scans and their resampling may take; 0 = no limit. With a limit that might not hold all scans before
    /// they are resampled, they are read one by one and twice. The result is the same.
    std::int64_t max_memory = 0;
    int threads = 1;           ///< 0 = all processors
    bool allow_absent = false; ///< whether contrasts may be absent (an empty path, a view without voxels)
    double min_brain_ml = 400.0;
    double max_brain_ml = 2500.0;
    AcceptedChecks accept{}; ///< checks that give warnings instead of errors
};

/// Four scans ready for preprocessing, and what it takes to put labels back where the files came from. The first
/// contrast that is there, T1 as a rule, stands for the geometry of all.
struct Case {
    PageString id;
    ModalitySet present = all_modalities;
    std::array<CompactVolume, 4> scans; ///< canonical L-P-S, all on one grid; 1 mm if resampled; empty where absent
    NiftiGeometry geometry;             ///< header geometry of the first file, for writing outputs
    Grid original_grid;                 ///< of the first file
    PageString grid_source;             ///< the file or volume that the grid is of, for messages
    std::array<PageString, 4> sources;  ///< the file or volume of each contrast, likewise
    Orientation orientation;            ///< from original to canonical
    Grid canonical_grid;                ///< original voxels in canonical order, before any resampling
    Grid scan_grid;                     ///< of the scans
    bool resampled = false;             ///< scans are not on canonical_grid but on a 1 mm grid
    std::int64_t loading_bytes = 0;     ///< most that scans, and what resampling them takes, took at once
    std::int64_t inflated_bytes = 0;    ///< of the largest file that was inflated at once
    CaseOptions options;                ///< what it was loaded with
    std::vector<std::string> warnings;  ///< sentences for the report
};

/// Which contrasts have a file.
ModalitySet present_in(const CaseFiles& files);

/// Why a case of a folder may lack contrasts, to be added to a message: how names of these end, files of the folder with
/// other names, and links to nowhere. Empty where the contrasts that are there are not known by their names.
std::string reasons_of_absence(const CaseFiles& files);

/// Reads and checks the four files. The first complaint in this order is returned, for any number of threads:
/// modality_missing (an absent contrast, unless allowed, or no contrast at all); modality_misnamed (unless accepted) if
/// named_slot() of a file is another contrast or the segmentation; per modality everything read_nifti
/// rejects, then volume_constant; against the first grid_size_mismatch and
/// grid_position_mismatch (corners more than 0.1 mm apart); modality_duplicate; orientation_oblique;
/// voxel_size_out_of_range (without `resample`, or if 1 mm voxels would need a grid beyond 2 to 1024 per axis);
/// nifti_too_large (the resampled volume exceeds max_bytes); memory_limit (max_memory, which is judged before anything
/// is resampled, and for scans that are read one by one as soon as one shows to be too large; or none is left);
/// invalid_argument (options).
Result<Case> load_case(const CaseFiles& files, const CaseOptions& options = {});

/// The same for volumes in memory, in the order of `modalities`. A volume counts with the grid it is given; the case's
/// geometry is that of a file written by us. Errors: as load_case, with those of compact_volume_of, affine_singular and
/// affine_sheared in place of read_nifti's.
Result<Case> load_case(const std::string& id, const std::array<VolumeView, 4>& volumes,
                       const CaseOptions& options = {});

/// brats_slot() of a segmentation.
inline constexpr std::size_t segmentation_slot = modalities.size();

/// What any file holds by the last word of its name: as brats_slot, also without anything before the word, with other
/// words (t1w, t1gd, t2flair ...) and for .hdr and .img; a T1w of BIDS with the entity ce- is T1ce.
std::optional<std::size_t> named_slot(const std::filesystem::path& file);

/// The finding of a check of <mfres/plausibility.h>: an error, or a warning if that check is accepted.
Status reject_or_warn(Error finding, const AcceptedChecks& accepted, std::vector<std::string>& warnings);

/// What a file holds by its name's ending, as <mfres/case.h> describes them: the index into mfres::modalities, or
/// segmentation_slot; nothing for any other file.
std::optional<std::size_t> brats_slot(const std::filesystem::path& file);

/// Whether two files describe the same grid. `reference_path` and `path` are named in the error.
/// Errors: grid_size_mismatch, grid_position_mismatch (corners more than 0.1 mm apart).
Status check_same_grid(const Grid& reference, const std::filesystem::path& reference_path, const Grid& grid,
                       const std::filesystem::path& path);

/// Labels on the grid of `loaded.scans` brought back to the input's grid: nearest-neighbour resampling if the case
/// was resampled, then the input's own axis order. The result's grid equals `loaded.original_grid` exactly.
/// Precondition: `canonical.grid` is that of the scans.
LabelMap restore_labels(const Case& loaded, LabelMap canonical);
/// The same into an object whose memory is reused. Swaps both where that suffices, and leaves anything in `canonical`.
void restore_labels(const Case& loaded, LabelMap& canonical, LabelMap& restored);
/// Slice k of the same, i fastest, for a label map that is never whole in memory.
void restore_slice(const Case& loaded, const LabelMap& canonical, std::int64_t k, std::span<std::uint8_t> slice);

/// Probabilities brought back likewise, interpolated linearly if the case was resampled. Takes the memory of `canonical`
/// where that is the result, else that of `reused`.
Result<ProbabilityMap> restore_probabilities(const Case& loaded, ProbabilityMap&& canonical,
                                             ProbabilityMap reused = {});

/// The segmentation that belongs to a case, on the grid of `loaded.scans` (nearest neighbour if resampled). Values
/// are as in the file; whether they fit a label scheme is checked by its user. Errors: file_not_found if there is
/// none, those of read_nifti_labels, grid_size_mismatch, grid_position_mismatch.
Result<LabelMap> load_segmentation(const CaseFiles& files, const Case& loaded);

/// The same as class indices, by the case's label scheme. Errors: also those of labels_to_classes; label_scheme_unclear
/// for a case whose scheme nobody has chosen (choose_labels).
Result<LabelMap> load_reference_classes(const CaseFiles& files, const Case& loaded);

} // namespace mfres
