// SPDX-License-Identifier: MIT
#include "core/tensor.h"

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

void copy_axis(const StridedView<const float>& source, const StridedView<float>& destination, int axis,
               const float* from, float* to) {
    const auto a = static_cast<std::size_t>(axis);
    const std::int64_t extent = source.shape[axis];
    if (axis == source.shape.rank() - 1) {
        for (std::int64_t i = 0; i < extent; ++i)
            to[i * destination.strides[a]] = from[i * source.strides[a]];
        return;
    }
    for (std::int64_t i = 0; i < extent; ++i)
        copy_axis(source, destination, axis + 1, from + i * source.strides[a], to + i * destination.strides[a]);
}

} // namespace

void copy(const StridedView<const float>& source, const StridedView<float>& destination) {
    if (source.shape.rank() == 0)
        *destination.data = *source.data;
    else
        copy_axis(source, destination, 0, source.data, destination.data);
}

StridedView<const float> view(const Tensor& tensor) {
    return {tensor.data(), tensor.shape(), dense_strides(tensor.shape())};
}

StridedView<float> view(Tensor& tensor) {
    return {tensor.data(), tensor.shape(), dense_strides(tensor.shape())};
}

} // namespace mfres
