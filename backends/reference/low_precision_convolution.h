// SPDX-License-Identifier: MIT
// Convolutions in reduced precision as plain loops: the truth for backends that run them with fewer bits.
#pragma once

#include "backends/backend.h"
#include "backends/reference/ops.h"

#include <optional>
#include <vector>

namespace mfres::reference {

/// One convolution of an inference form whose operands are rounded: to the integers of graph/quantization.h, or to
/// bfloat16. The sum is exact, or in double; bias and scale are applied in double. The result is f32.
class LowPrecisionConvolution {
  public:
    /// Nothing if the options leave this convolution in f32. In bf16 every convolution is rounded.
    static std::optional<LowPrecisionConvolution> make(const Network& network, const Node& conv,
                                                       const CompileOptions& options);

    /// y = conv(x); both dense [batch, channel, x, y, z].
    void run(const float* x, float* y, int threads) const;

  private:
    LowPrecisionConvolution() = default;

    Shape in_, out_;
    Conv conv_;
    std::optional<Quantizer> quantiser_; ///< of int8; none for bf16
    std::vector<double> weights_;        ///< whole numbers in int8
    std::vector<double> scales_, bias_;  ///< per output channel
};

} // namespace mfres::reference
