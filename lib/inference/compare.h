// SPDX-License-Identifier: MIT
// Two models on one case: what a conversion changed.
#pragma once

#include "model/model.h"

#include <mfres/case.h>
#include <mfres/compute.h>
#include <mfres/plausibility.h>
#include <mfres/status.h>

#include <cstdint>
#include <string>

namespace mfres {

struct ModelComparison {
    std::int64_t voxels = 0;         ///< of the padded brain box, on which the logits were compared
    std::int64_t different = 0;      ///< voxels of which the largest logit is another class's
    double largest_difference = 0.0; ///< of two logits
    double largest_logit = 0.0;      ///< magnitude, of the first model

    /// Share of voxels with the same class, 0..1.
    double agreement() const {
        return voxels > 0 ? 1.0 - static_cast<double>(different) / static_cast<double>(voxels) : 1.0;
    }
};

/// Runs both on the whole brain box of a case, one after the other, the case prepared as each expects it. Errors: those of CasePredictor;
/// invalid_argument for models of different channels, classes or grid multiples, or other than segmentation's four
/// channels; logits_not_finite.
Result<ModelComparison> compare_models(const Model& first, const Model& second, const CaseFiles& files,
                                       const ComputeOptions& compute, const AcceptedChecks& accept = {});

} // namespace mfres
