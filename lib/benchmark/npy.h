// NumPy's file format for one array of f32 (numpy.lib.format, version 1.0), so that other runtimes get the same input
// and their results can be compared.
#pragma once

#include "core/tensor.h"

#include <mfres/status.h>

#include <filesystem>

namespace mfres {

/// Writes a tensor, C order, little-endian; complete or not at all. Errors: file_write.
Status write_npy(const std::filesystem::path& path, const StridedView<const float>& values);

} // namespace mfres
