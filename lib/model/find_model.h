// SPDX-License-Identifier: MIT
// The weights that come with mfres. find_model(), in <mfres/predictor.h>, finds one by its name.
#pragma once

#include "model/model.h"

#include <filesystem>
#include <vector>

namespace mfres {

/// Their files in the order of their names, from the first folder of find_model() that has any.
std::vector<std::filesystem::path> shipped_models();

/// The model of a file, or of the name of weights that come with mfres. Errors: those of find_model and load_model.
Result<Model> load_named_model(const std::filesystem::path& model);

} // namespace mfres
