// SPDX-License-Identifier: MIT
// In which precision a model runs.
#pragma once

#include "backends/backend.h"
#include "model/model.h"

#include <mfres/compute.h>

namespace mfres {

/// How to compile the model. Without a precision: int8 where the file holds integers and the backend can, else f32.
/// The pool is left to the caller. Errors: operation_unsupported (the backend's reason: it has no such precision or
/// relaxation, the processor has not, or the model was not calibrated).
Result<CompileOptions> compile_options(const Model& model, const Backend& backend, const ComputeOptions& compute);

/// What a run of the options uses.
RunInfo run_info(const Backend& backend, const CompileOptions& options);

} // namespace mfres
