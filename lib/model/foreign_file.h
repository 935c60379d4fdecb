// SPDX-License-Identifier: MIT
// What a file is that was given as a model and is none.
#pragma once

#include <filesystem>
#include <string>

namespace mfres {

/// A sentence that says what the file is, by its first bytes and its name, and what to do with it: ONNX, a PyTorch file, a
/// checkpoint or cache of mfres, an image, JSON. Empty where neither tells, and where the file cannot be read.
std::string foreign_file(const std::filesystem::path& path);

} // namespace mfres
