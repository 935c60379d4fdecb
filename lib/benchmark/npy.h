// SPDX-License-Identifier: MIT
// NumPy's file format for one f32 array (numpy.lib.format, version 1.0), to compare results with other runtimes on the
// same input.
#pragma once

#include "core/tensor.h"

#include <mfres/status.h>

#include <filesystem>

namespace mfres {

/// Writes a tensor atomically, in C order and little-endian. Errors: file_write.
Status write_npy(const std::filesystem::path& path, const StridedView<const float>& values);

} // namespace mfres
