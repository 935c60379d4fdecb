// SPDX-License-Identifier: MIT
// A vector whose memory is returned to the system when it is freed.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace mfres {

/// Allocates large blocks as anonymous pages where the system has them. malloc may keep freed blocks for reuse, tens of
/// megabytes that would count against a memory limit.
template <typename T>
struct PageAllocator {
    using value_type = T;
    static constexpr std::size_t large = std::size_t{1} << 20; ///< bytes

    PageAllocator() = default;
    template <typename U>
    explicit PageAllocator(const PageAllocator<U>&) {}

    T* allocate(std::size_t count) {
        if (count > static_cast<std::size_t>(-1) / sizeof(T))
            throw std::bad_array_new_length();
#ifdef __linux__
        if (count * sizeof(T) >= large) {
            void* const pages =
                ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (pages == MAP_FAILED)
                throw std::bad_alloc();
            return static_cast<T*>(pages);
        }
#endif
        return static_cast<T*>(::operator new(count * sizeof(T)));
    }

    void deallocate(T* pointer, std::size_t count) {
#ifdef __linux__
        if (count * sizeof(T) >= large) {
            ::munmap(pointer, count * sizeof(T));
            return;
        }
#endif
        ::operator delete(pointer);
    }

    friend bool operator==(const PageAllocator&, const PageAllocator&) {
        return true;
    }
};

template <typename T>
using PageVector = std::vector<T, PageAllocator<T>>;

} // namespace mfres
