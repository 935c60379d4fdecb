// SPDX-License-Identifier: MIT
// What the tests of NIfTI files share: reading, compressing and the conformance files.
#pragma once

#include "core/file.h"
#include "imaging/nifti/gzip.h"
#include "imaging/nifti/nifti.h"
#include "nifti_bytes.h"
#include "support/catch.h"
#include "support/paths.h"

#include <optional>
#include <string>
#include <utility>

namespace mfres::test {

inline NiftiVolume read(const std::filesystem::path& path, const NiftiReadOptions& options = {}) {
    auto result = read_nifti(path, options);
    REQUIRE_OK(result);
    return std::move(result).value();
}

inline Bytes zipped(const Bytes& content) {
    auto result = gzip(content);
    REQUIRE_OK(result);
    return std::move(result).value();
}

inline Bytes content_of(const std::filesystem::path& path) {
    auto bytes = read_file(path, 1U << 30U);
    REQUIRE_OK(bytes);
    return std::move(bytes).value();
}

/// A conformance file, or nothing where the shared data is absent.
inline std::optional<std::filesystem::path> conformance(const std::string& name) {
    return shared_data("data/nifti/" + name);
}

} // namespace mfres::test
