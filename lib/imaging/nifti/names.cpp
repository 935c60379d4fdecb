// SPDX-License-Identifier: MIT
#include "imaging/nifti/names.h"

#include "core/try.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace mfres::nifti {

namespace fs = std::filesystem;

namespace {

std::string lower_case(std::string s) {
    std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return s;
}

/// The path without ".gz".
fs::path without_gz(const fs::path& path) {
    fs::path result = path;
    return names_gzip(path) ? result.replace_extension() : result;
}

} // namespace

Error file_error(ErrorCode code, const fs::path& path, const std::string& reason) {
    return {code, text(path.string(), " ", reason), path.string()};
}

bool names_gzip(const fs::path& path) {
    return lower_case(path.extension().string()) == ".gz";
}

std::string suffix_of(const fs::path& path) {
    return lower_case(without_gz(path).extension().string());
}

Result<fs::path> partner(const fs::path& path, std::string suffix) {
    fs::path base = without_gz(path);
    const std::string own = base.extension().string();
    if (own.size() > 1 && std::isupper(static_cast<unsigned char>(own[1])))
        std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                       [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    const fs::path plain = base.replace_extension(suffix);
    const std::string gz = names_gzip(path) ? path.extension().string() : ".gz";
    const fs::path compressed = fs::path(plain).concat(gz);
    std::array<fs::path, 2> candidates = {plain, compressed};
    if (names_gzip(path))
        std::swap(candidates[0], candidates[1]);
    std::error_code ignored;
    for (const auto& candidate : candidates)
        if (fs::exists(candidate, ignored))
            return candidate;
    return file_error(ErrorCode::file_not_found, path,
                      text("is one half of a .hdr/.img pair, but neither ", candidates[0].string(), " nor ",
                           candidates[1].string(), " exists"));
}

Result<Files> files_of(const fs::path& path) {
    const std::string suffix = suffix_of(path);
    if (suffix == ".nii")
        return Files{path, path, false};
    if (suffix == ".hdr")
        return Files{path, {}, true};
    if (suffix == ".img") {
        MFRES_TRY(fs::path header, partner(path, ".hdr"));
        return Files{std::move(header), path, true};
    }
    return file_error(ErrorCode::invalid_argument, path,
                      "does not end in .nii, .nii.gz, .hdr, .hdr.gz, .img or .img.gz");
}

} // namespace mfres::nifti
