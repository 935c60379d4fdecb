// SPDX-License-Identifier: MIT
// In which precision a model runs.
#pragma once

#include "backends/backend.h"
#include "model/model.h"

#include <mfres/compute.h>

namespace mfres {

/// A backend, and how it compiles a model.
struct ChosenBackend {
    const Backend* backend = nullptr;
    CompileOptions options; ///< without a pool, which is left to the caller
};

/// The backend that is asked for; "auto" is the first available one that has the precision and the relaxations asked for.
/// Without a precision: int8 where the file holds integers and the backend can, else f32. Errors: those of find_backend;
/// operation_unsupported (the backend's reason: it has no such precision or relaxation, the processor has not, or the
/// model was not calibrated).
Result<ChosenBackend> choose_backend(const Model& model, const ComputeOptions& compute);

/// What a run of the options uses.
RunInfo run_info(const Backend& backend, const CompileOptions& options);

} // namespace mfres
