// SPDX-License-Identifier: MIT
// File names of NIfTI images: what a suffix means, and which two files make a .hdr/.img pair.
#pragma once

#include <mfres/status.h>

#include <filesystem>
#include <string>

namespace mfres::nifti {

/// The error "<path> <reason>" whose place is `path`.
Error file_error(ErrorCode code, const std::filesystem::path& path, const std::string& reason);

/// Whether the name ends in .gz, in either case.
bool names_gzip(const std::filesystem::path& path);

/// The suffix without ".gz", in lower case: ".nii", ".hdr", ".img" or another one.
std::string suffix_of(const std::filesystem::path& path);

/// The other half of a .hdr/.img pair; `suffix` is ".hdr" or ".img". A half that is compressed like `path` is
/// preferred, and the case of the suffix follows that of `path`. Errors: file_not_found.
Result<std::filesystem::path> partner(const std::filesystem::path& path, std::string suffix);

/// Where the header and the voxels of one image are: in one file, or in a pair of files.
struct Files {
    std::filesystem::path header;
    std::filesystem::path voxels; ///< empty for a pair named by its header: see partner()
    bool pair = false;
};

/// The files that `path` names. The voxel file of a pair is not looked for here, because a header that is not NIfTI is
/// the more useful error. Errors: invalid_argument (another suffix), file_not_found (an .img without a header).
Result<Files> files_of(const std::filesystem::path& path);

} // namespace mfres::nifti
