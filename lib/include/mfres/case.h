// SPDX-License-Identifier: MIT
// A case: the four MRI volumes of one patient at one time, as files.
#pragma once

#include <mfres/status.h>

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mfres {

/// Files of one case. Modalities are in the order of mfres::modalities: T1, T1ce, T2, FLAIR.
struct CaseFiles {
    std::string id; ///< the name of the folder for BraTS data
    std::array<std::filesystem::path, 4> modalities;
    std::optional<std::filesystem::path> segmentation; ///< the reference labels, if there are any
};

/// The case in a folder, its files matched by suffix: BraTS 2017-2021 (_t1, _t1ce, _t2, _flair, _seg) or 2023 and later
/// (-t1n, -t1c, -t2w, -t2f, -seg), .nii or .nii.gz, upper or lower case.
/// Errors: file_not_found, modality_missing (names every missing one and what was found), modality_ambiguous.
Result<CaseFiles> find_case(const std::filesystem::path& folder);

/// Every case below a folder, sorted by id: the folder itself, its subfolders, or the subfolders of BraTS's HGG and
/// LGG.
/// Errors: those of find_case for the first folder that is an incomplete case; file_not_found if there is no case.
Result<std::vector<CaseFiles>> find_cases(const std::filesystem::path& root);

} // namespace mfres
