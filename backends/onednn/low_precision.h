// SPDX-License-Identifier: MIT
// Which convolutions of a network run in bf16 or int8, and which values are stored in that format between them.
//
// Low precision is faster where a convolution is bound by arithmetic and its channels fill the vectors, minus one pass over
// the source for converting it; not where Winograd's filtering in f32 multiplies less. A cost model decides, and only
// convolutions with a compiled kernel in oneDNN are taken.
// Fusion groups of several ops run in bf16 where the processor has it (kernels/pair_kernels.h), else in f32.
#pragma once

#include "backends/backend.h"
#include "backends/onednn/conv.h"
#include "backends/planned/executor.h"

#include <optional>
#include <string>
#include <vector>

namespace mfres::onednn {

/// The cost model: throughput of one thread. The figures are those of a server with AVX-512; only their ratios matter.
struct LowPrecisionModel {
    double f32_macs_per_ns = 80.0;
    double bf16_macs_per_ns = 150.0;
    double int8_macs_per_ns = 250.0;
    double bytes_per_ns = 15.0; ///< of f32 values read and converted values written
    /// With fewer input or output channels per group, half of the lanes of a vector or dot product are unused.
    std::int64_t min_channels = 16;
};

struct LowPrecisionPlan {
    std::vector<std::optional<LowPrecision>> of_node; ///< by node; none for what runs in f32
    std::vector<ValueFormat> stored;                  ///< by node: the format in which its value is stored
};

/// A value is stored in low precision if a convolution without residual computes it and if it is read only by
/// convolutions that convert it to the same format. bf16: the first and the last convolution stay in f32. int8:
/// convolutions without a range stay in f32. In f32 the plan is empty of both.
LowPrecisionPlan plan_low_precision(const PlannedNetwork& planned, Precision precision, const ActivationRanges& ranges,
                                    const LowPrecisionModel& model, const dnnl::engine& engine);

/// Why this processor does not run the precision, if it does not. bf16 needs AVX512-BF16 or AMX: oneDNN emulates it
/// elsewhere. int8 needs AVX-VNNI, AVX512-VNNI or AMX: elsewhere oneDNN adds pairs of products in 16 bits, which
/// overflows.
std::optional<std::string> missing_instructions(Precision precision);

} // namespace mfres::onednn
