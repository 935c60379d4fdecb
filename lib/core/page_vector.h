// SPDX-License-Identifier: MIT
// A vector for the arrays of a case: its memory is that of the predictor that works on the calling thread, and without
// one is returned to the system when it is freed. See core/array_memory.h.
#pragma once

#include "core/array_memory.h"

#include <cstddef>
#include <new>
#include <vector>

namespace mfres {

template <typename T>
struct PageAllocator {
    using value_type = T;
    static_assert(alignof(T) <= ArrayMemory::alignment);

    PageAllocator() = default;
    template <typename U>
    explicit PageAllocator(const PageAllocator<U>&) {}

    T* allocate(std::size_t count) {
        if (count > static_cast<std::size_t>(-1) / sizeof(T))
            throw std::bad_array_new_length();
        return static_cast<T*>(allocate_array(count * sizeof(T)));
    }

    void deallocate(T* pointer, std::size_t) noexcept { free_array(pointer); }

    friend bool operator==(const PageAllocator&, const PageAllocator&) { return true; }
};

template <typename T>
using PageVector = std::vector<T, PageAllocator<T>>;

} // namespace mfres
