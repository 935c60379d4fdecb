// SPDX-License-Identifier: MIT
// In which precision a model runs.
#pragma once

#include "backends/backend.h"
#include "model/model.h"

#include <string_view>

namespace mfres {

/// How to compile the model for a precision by name, or for "auto": int8 where the file holds integers and the backend
/// can, else f32. All but precision and ranges is as in `base`. Errors: invalid_argument (no such precision),
/// operation_unsupported (the backend's reason: it has no such precision or relaxation, the processor has not, or the
/// model was not calibrated).
Result<CompileOptions> compile_options(const Model& model, const Backend& backend, std::string_view precision,
                                       const CompileOptions& base);

} // namespace mfres
