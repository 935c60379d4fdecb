// Which convolutions of a network are computed in bf16 or int8, and which values are kept so between them.
//
// A convolution gains where arithmetic bounds it and its channels fill the vectors; rounding what it reads costs a pass
// over it. A model of both decides, and only what oneDNN has a compiled kernel for is taken. Regions of this backend's
// own (fused_region.h) stay in f32: they are bound by what narrow channels cost, not by the width of a multiply-add.
#pragma once

#include "backends/backend.h"
#include "backends/onednn/convolution.h"
#include "graph/fuse.h"

#include <vector>

namespace mfres::onednn {

/// What one thread does; the figures are those of a server with AVX-512, and only their ratios matter.
struct LowPrecisionModel {
    double f32_macs_per_ns = 80.0;
    double bf16_macs_per_ns = 150.0;
    double int8_macs_per_ns = 250.0;
    double bytes_per_ns = 15.0; ///< of f32 read and rounded values written
    /// Fewer channels than these, in or out, leave half of a dot product's or vector's lanes empty.
    std::int64_t least_channels = 16;
};

struct LowPrecisionOps {
    std::vector<std::optional<LowPrecision>> of_node; ///< by node, for convolutions
    std::vector<Storage> stored;                      ///< by node: how its value is kept
};

/// The reductions for a network in its inference form. A value is kept reduced where only reduced convolutions read
/// it, all in the same way, and a convolution without residual leaves it. In bf16 the first and the last convolution
/// stay in f32; in int8 those without a range.
LowPrecisionOps plan_reductions(const Network& network, const std::vector<Task>& tasks, const CompileOptions& options,
                                const LowPrecisionModel& model, const dnnl::engine& engine);

/// Why this processor does not run the precision, or nothing: bf16 needs AVX512-BF16 or AMX, int8 AVX-VNNI, AVX512-VNNI
/// or AMX (without them oneDNN emulates bf16, and adds up pairs of int8 products in 16 bits, which overflow).
std::optional<std::string> missing_instructions(Precision precision);

} // namespace mfres::onednn
