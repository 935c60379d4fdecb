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
#include <span>
#include <string>
#include <utility>

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

/// Reads the slices of a file from front to back, as intensities.
class SliceReader {
  public:
    /// Errors: as read_nifti before it comes to the voxels.
    static Result<SliceReader> open(const std::filesystem::path& path, const NiftiReadOptions& options);

    /// Slice k, i fastest. Precondition: later than the slice of the last call. Errors: those of ByteSource::read;
    /// nifti_truncated if the file ends before.
    Status read(std::int64_t k, std::span<float> slice);

  private:
    explicit SliceReader(OpenFile file) : file_(std::move(file)) {}
    OpenFile file_;
    std::int64_t next_ = 0; ///< slice that the file's next byte belongs to
};

} // namespace mfres::nifti
