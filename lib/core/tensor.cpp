// SPDX-License-Identifier: MIT
#include "core/tensor.h"

#include <algorithm>
#include <bit>

namespace mfres {

std::string to_string(const Shape& shape) {
    std::string text;
    for (int axis = 0; axis < shape.rank(); ++axis) {
        if (axis > 0)
            text += 'x';
        text += std::to_string(shape[axis]);
    }
    return text;
}

bool all_finite(std::span<const float> values) {
    constexpr std::int32_t infinity = 0x7F800000;
    std::int32_t largest = 0; // of the bits without the sign, which are in the order of the magnitudes
    for (const float value : values)
        largest = std::max(largest, std::bit_cast<std::int32_t>(value) & 0x7FFFFFFF);
    return largest < infinity;
}

std::array<std::int64_t, Shape::max_rank> dense_strides(const Shape& shape) {
    std::array<std::int64_t, Shape::max_rank> strides{};
    std::int64_t stride = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
        strides[static_cast<std::size_t>(axis)] = stride;
        stride *= shape[axis];
    }
    return strides;
}

namespace {

/// Strides of five axes. Those that a view of lower rank lacks come first and have one position.
template <typename T>
std::array<std::int64_t, Shape::max_rank> five_strides(const StridedView<T>& view) {
    std::array<std::int64_t, Shape::max_rank> strides{};
    std::copy_backward(view.strides.begin(), view.strides.begin() + view.shape.rank(), strides.end());
    return strides;
}

} // namespace

void copy(const StridedView<const float>& source, const StridedView<float>& destination) {
    std::array<std::int64_t, Shape::max_rank> extent;
    extent.fill(1);
    std::copy_backward(source.shape.begin(), source.shape.end(), extent.end());
    const auto step = five_strides(source);
    const auto to_step = five_strides(destination);
    for (std::int64_t a = 0; a < extent[0]; ++a)
        for (std::int64_t b = 0; b < extent[1]; ++b)
            for (std::int64_t c = 0; c < extent[2]; ++c)
                for (std::int64_t d = 0; d < extent[3]; ++d) {
                    const float* from = source.data + a * step[0] + b * step[1] + c * step[2] + d * step[3];
                    float* to = destination.data + a * to_step[0] + b * to_step[1] + c * to_step[2] + d * to_step[3];
                    for (std::int64_t e = 0; e < extent[4]; ++e)
                        to[e * to_step[4]] = from[e * step[4]];
                }
}

StridedView<const float> view(const Tensor& tensor) {
    return {tensor.data(), tensor.shape(), dense_strides(tensor.shape())};
}

StridedView<float> view(Tensor& tensor) {
    return {tensor.data(), tensor.shape(), dense_strides(tensor.shape())};
}

} // namespace mfres
