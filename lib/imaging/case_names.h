// SPDX-License-Identifier: MIT
// What the names of files and folders tell of a case: which contrast a file holds, and which patient a folder is of.
#pragma once

#include <mfres/case.h>
#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// What a file holds by the last word of its name, as named_slot (case.h), for files that a folder is searched for:
/// .nii, .nii.gz, .hdr and .hdr.gz. A T1w that BIDS calls contrast-enhanced (ce-LABEL) is T1ce; segmentations of anything
/// but a tumour are none.
std::optional<std::size_t> common_slot(const std::filesystem::path& file);

/// The word that ends a stem in lower case, with BIDS's entity for contrast agents. `stem` has no ending of its type.
std::optional<std::size_t> slot_of_stem(std::string_view stem);

/// "CASE_0001.nii.gz" as nnU-Net names it.
struct NumberedFile {
    std::string id;          ///< "CASE"
    std::size_t channel = 0; ///< 1
};
std::optional<NumberedFile> numbered_file(const std::filesystem::path& file);

/// Which contrast each channel of a data set of nnU-Net is, by "channel_names" (or "modality", as before version 2) of the
/// dataset.json in `folder` or in the folder above it. Channels of other names are left out.
/// Errors: modality_missing (there is no such file, or it names no contrast), json_invalid, file_read.
Result<std::map<std::size_t, std::size_t>> channels_of(const std::filesystem::path& folder);

/// Whether `folder` holds the label maps of a data set of nnU-Net (labelsTr beside dataset.json), and no cases.
bool holds_numbered_labels(const std::filesystem::path& folder);

/// The cases of a folder of numbered files, sorted by id, with the label maps beside it (labelsTr for imagesTr).
/// Contrasts without a file are empty. Errors: those of channels_of.
Result<std::vector<CaseFiles>> numbered_cases(const std::filesystem::path& folder,
                                              const std::vector<std::filesystem::path>& files);

/// The name of a case folder: its own, or in a data set in BIDS layout that of subject and session: "sub-01_ses-2" for
/// sub-01/ses-2/anat. "a/b/" and "a/b/." are both "b".
std::string case_id(const std::filesystem::path& folder);

} // namespace mfres
