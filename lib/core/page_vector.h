// SPDX-License-Identifier: MIT
// A vector and a string for what belongs to a case: their memory is that of the predictor that works on the calling thread, and
// without one is returned to the system when it is freed. See core/array_memory.h.
#pragma once

#include "core/array_memory.h"

#include <cstddef>
#include <new>
#include <string>
#include <vector>

namespace mfres {

template <typename T>
struct PageAllocator {
    using value_type = T;
    static_assert(alignof(T) <= ArrayMemory::alignment);

    PageAllocator() = default;
    template <typename U>
    PageAllocator(const PageAllocator<U>&) {} // not explicit, as std::vector<bool> wants it

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
using PageString = std::basic_string<char, std::char_traits<char>, PageAllocator<char>>;

} // namespace mfres
