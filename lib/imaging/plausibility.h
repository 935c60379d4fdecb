// SPDX-License-Identifier: MIT
// Whether a case is plausible, by its brain and its intensities. The one place through which every use of a case goes:
// segmentation, evaluation, calibration, checking, and the packing of training caches.
#pragma once

#include "imaging/case.h"
#include "imaging/preprocess.h"

#include <mfres/plausibility.h>
#include <mfres/status.h>

namespace mfres {

/// plan_preprocessing of a case, and the checks of <mfres/plausibility.h> on the result, with the limits and the accepted
/// checks of the case's options. Accepted findings, and what is remarkable without being wrong, are added to the
/// case's warnings: T1 and T1ce that look swapped, a noisy background, large parts that are not connected to the brain.
/// Errors: those of plan_preprocessing; brain_implausible, brain_at_border, modality_moved, modality_coverage,
/// modality_correlation, intensity_outliers (unless the normalisation clips them).
Result<Preprocessing> preprocess_case(Case& loaded, const PreprocessOptions& options);

} // namespace mfres
