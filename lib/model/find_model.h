// SPDX-License-Identifier: MIT
// The weights that come with mfres. find_model(), in <mfres/predictor.h>, finds one by its name.
#pragma once

#include <filesystem>
#include <vector>

namespace mfres {

/// Their files in the order of their names, from the first folder of find_model() that has any.
std::vector<std::filesystem::path> shipped_models();

} // namespace mfres
