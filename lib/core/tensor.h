// SPDX-License-Identifier: MIT
// Shape and Tensor: numbers without geometry (see Volume for images). Activations are
// [batch, channel, x, y, z] with z contiguous; weights are [out, in/groups, kx, ky, kz] or [channels].
#pragma once

#include "core/checked.h"

#include <mfres/export.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

namespace mfres {

/// Up to five extents. A default Shape has rank 0 and one element.
class MFRES_EXPORT Shape {
  public:
    static constexpr int max_rank = 5;

    Shape() = default;
    Shape(std::initializer_list<std::int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}
    /// Precondition: at most five extents.
    explicit Shape(std::span<const std::int64_t> extents) : rank_(static_cast<int>(extents.size())) {
        for (std::size_t i = 0; i < extents.size(); ++i)
            extents_[i] = extents[i];
    }

    int rank() const { return rank_; }
    std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
    std::int64_t& operator[](int axis) { return extents_[static_cast<std::size_t>(axis)]; }
    const std::int64_t* begin() const { return extents_.data(); }
    const std::int64_t* end() const { return extents_.data() + rank_; }

    /// Number of elements. Shapes in a Graph were checked when it was built, so this cannot overflow there.
    std::int64_t elements() const {
        std::int64_t product = 1;
        for (const auto extent : *this)
            product *= extent;
        return product;
    }

    friend bool operator==(const Shape& a, const Shape& b) {
        if (a.rank_ != b.rank_)
            return false;
        for (int i = 0; i < a.rank_; ++i)
            if (a[i] != b[i])
                return false;
        return true;
    }

  private:
    std::array<std::int64_t, max_rank> extents_{};
    int rank_ = 0;
};

/// "1x4x128x128x128"
MFRES_EXPORT std::string to_string(const Shape& shape);

/// Allocates on 64-byte boundaries (a cache line, an AVX-512 register) and leaves floats uninitialised.
template <typename T>
struct AlignedAllocator {
    using value_type = T;
    static constexpr std::size_t alignment = 64;

    AlignedAllocator() = default;
    template <typename U>
    explicit AlignedAllocator(const AlignedAllocator<U>&) {}

    T* allocate(std::size_t count) {
        return static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{alignment}));
    }
    void deallocate(T* pointer, std::size_t) { ::operator delete (pointer, std::align_val_t{alignment}); }

    template <typename U>
    void construct(U* pointer) {
        ::new (static_cast<void*>(pointer)) U;
    }
    template <typename U, typename... Arguments>
    void construct(U* pointer, Arguments&&... arguments) {
        ::new (static_cast<void*>(pointer)) U(std::forward<Arguments>(arguments)...);
    }

    friend bool operator==(const AlignedAllocator&, const AlignedAllocator&) { return true; }
};

template <typename T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

/// A dense array of floats, last axis contiguous.
class MFRES_EXPORT Tensor {
  public:
    Tensor() = default;
    /// Uninitialised floats; use `Tensor(shape, 0.0F)` for zeros. Both throw std::bad_alloc.
    explicit Tensor(const Shape& shape) : shape_(shape), values_(array_size<float>(shape.elements())) {}
    Tensor(const Shape& shape, float fill) : shape_(shape), values_(array_size<float>(shape.elements()), fill) {}

    const Shape& shape() const { return shape_; }
    std::int64_t elements() const { return static_cast<std::int64_t>(values_.size()); }
    float* data() { return values_.data(); }
    const float* data() const { return values_.data(); }
    std::span<float> values() { return values_; }
    std::span<const float> values() const { return values_; }
    float& operator[](std::int64_t i) { return values_[static_cast<std::size_t>(i)]; }
    float operator[](std::int64_t i) const { return values_[static_cast<std::size_t>(i)]; }

  private:
    Shape shape_;
    AlignedVector<float> values_;
};

/// A view of floats with arbitrary strides (in elements), used by backends to expose their memory.
/// T is float or const float.
template <typename T>
struct StridedView {
    T* data = nullptr;
    Shape shape;
    std::array<std::int64_t, Shape::max_rank> strides{};

    /// Element [n, c, x, y, z] of a rank-5 view.
    T& at(std::int64_t n, std::int64_t c, std::int64_t x, std::int64_t y, std::int64_t z) const {
        return data[n * strides[0] + c * strides[1] + x * strides[2] + y * strides[3] + z * strides[4]];
    }
};

/// Whether none of them is NaN or infinite.
MFRES_EXPORT bool all_finite(std::span<const float> values);

/// Strides of a dense array of that shape, last axis contiguous.
MFRES_EXPORT std::array<std::int64_t, Shape::max_rank> dense_strides(const Shape& shape);

/// Copies every element of one view to the other. Precondition: equal shapes.
MFRES_EXPORT void copy(const StridedView<const float>& source, const StridedView<float>& destination);

MFRES_EXPORT StridedView<const float> view(const Tensor& tensor);
MFRES_EXPORT StridedView<float> view(Tensor& tensor);
inline StridedView<const float> as_const(const StridedView<float>& v) {
    return {v.data, v.shape, v.strides};
}

} // namespace mfres
