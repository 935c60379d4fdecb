// SPDX-License-Identifier: MIT
// Voxels of a NIfTI file: read, converted and checked.
#pragma once

#include "imaging/nifti/bytes.h"
#include "imaging/nifti/header.h"
#include "imaging/nifti/names.h"
#include "imaging/nifti/nifti.h"

#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace mfres::nifti {

/// "(x, y, z)" of the voxel at `index` of a volume, x fastest: for messages.
std::string position(std::int64_t index, const std::array<std::int64_t, 3>& size);

/// Everything about a file except its voxels.
struct Description {
    Grid grid;
    NiftiGeometry geometry;
    NiftiStorage storage;
};

/// A file whose header has been accepted and whose next byte is that of the first voxel.
struct OpenFile {
    ByteSource source;
    Files files;
    Header header;
    Layout layout;
    Description description;
};

/// Opens a file and checks its header. `decoded_bytes` is the size of one decoded voxel in memory, for the cap of
/// `options`. Errors: those at the top of nifti.h up to the voxels.
Result<OpenFile> open_file(const std::filesystem::path& path, const NiftiReadOptions& options,
                           std::size_t decoded_bytes);

} // namespace mfres::nifti
