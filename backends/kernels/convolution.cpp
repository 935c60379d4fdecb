// SPDX-License-Identifier: MIT
#include "backends/kernels/convolution.h"

#include "backends/kernels/line_kernels.h"
#include "backends/kernels/row_convolution.h"
#include "backends/kernels/tile_convolution.h"
#include "backends/kernels/winograd_convolution.h"

#include <algorithm>
#include <utility>

namespace mfres::kernels {

namespace {

/// The predicted gain of rows: the vectors that need not be multiplied, without the exchange of voxels and rows, which
/// takes about as long as a product for each channel. Rows whose channels do not fill the sums of a kernel take longer.
bool rows_are_faster(const ConvolutionSpec& spec) {
    constexpr double row_cost = 1.3;
    if (line_kernels().lanes == 1 || !can_convolve_rows(spec))
        return false;
    const auto channels = static_cast<double>(spec.in[1] + spec.out[1]);
    return row_cost * row_products(spec) + channels < tile_products(spec);
}

} // namespace

std::int64_t ConvolutionSpec::parts(std::int64_t most) const {
    constexpr std::int64_t least_macs = 500'000;
    constexpr std::int64_t most_macs = 64'000'000;
    if (threads == 1)
        return 1;
    const std::int64_t macs = weights->elements() * output_voxels();
    const std::int64_t rounds = std::clamp<std::int64_t>(macs / most_macs / threads, 1, 4);
    return std::clamp<std::int64_t>(std::min(threads * rounds, macs / least_macs), 1, most);
}

bool winograd_is_faster_by(const ConvolutionSpec& spec, double times) {
    return winograd_is_faster(spec, tile_products(spec) / times);
}

std::unique_ptr<InferenceOp> make_reduced_convolution(const ConvolutionSpec& spec) {
    if (winograd_is_faster_by(spec, 1.0))
        return make_winograd_convolution(spec);
    return rows_are_faster(spec) ? make_row_convolution(spec) : nullptr;
}

std::unique_ptr<InferenceOp> make_convolution(const ConvolutionSpec& spec) {
    auto reduced = make_reduced_convolution(spec);
    return reduced ? std::move(reduced) : make_tile_convolution(spec);
}

} // namespace mfres::kernels
