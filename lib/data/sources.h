// SPDX-License-Identifier: MIT
// Sources of a data set: folders of cases and training caches, see CaseSet::find.
#pragma once

#include <mfres/case.h>
#include <mfres/status.h>

#include <filesystem>
#include <span>
#include <string>

namespace mfres {

/// The name of a source, as CaseSet::source: "cohort" of "/data/cohort/" and of "/data/cohort.mfcache".
std::string source_name(const std::filesystem::path& source);

/// SHA-256 over ids, bytes and unusual label schemes of all files of these cases, without their paths: tells whether a
/// folder still holds what a cache was made of. 64 hexadecimal digits. Errors: file_not_found, file_read, memory_limit.
Result<std::string> fingerprint_of_files(std::span<const CaseFiles> cases);

} // namespace mfres
