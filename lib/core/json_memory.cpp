// SPDX-License-Identifier: MIT
#include "core/json_value.h"

#include <array>
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

namespace mfres::json_memory {

namespace {

/// A mutex that is there before any constructor has run. That of the standard library is not everywhere.
class EarlyMutex {
  public:
    void lock() noexcept {
        while (locked_.test_and_set(std::memory_order_acquire))
            std::this_thread::yield();
    }
    void unlock() noexcept { locked_.clear(std::memory_order_release); }

  private:
    std::atomic_flag locked_;
};

/// Blocks one after another. What is freed last, or when all is free, can be taken again: destructors free in that order.
class Reserve {
  public:
    void* take(std::size_t bytes) {
        const std::scoped_lock lock(mutex_);
        const std::size_t whole = rounded(bytes);
        if (whole > memory_.size() - used_)
            throw std::bad_alloc();
        used_ += whole;
        ++blocks_;
        return memory_.data() + used_ - whole;
    }

    bool owns(const void* memory) const {
        const std::less_equal<const void*> not_after;
        return not_after(memory_.data(), memory) && !not_after(memory_.data() + memory_.size(), memory);
    }

    void give_back(const void* memory, std::size_t bytes) {
        const std::scoped_lock lock(mutex_);
        const std::size_t whole = rounded(bytes);
        if (memory_.data() + used_ - whole == memory)
            used_ -= whole;
        if (--blocks_ == 0)
            used_ = 0;
    }

    bool in_use() {
        const std::scoped_lock lock(mutex_);
        return blocks_ > 0;
    }

  private:
    static constexpr std::size_t alignment = alignof(std::max_align_t);
    static std::size_t rounded(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

    EarlyMutex mutex_;
    std::size_t used_ = 0;   ///< bytes up to the end of the last block
    std::size_t blocks_ = 0; ///< that are taken
    alignas(
        alignment) std::array<std::byte, std::size_t{2} << 20U> memory_{}; ///< its pages do not exist before their use
};

constinit Reserve reserve{};

} // namespace

void* take(std::size_t bytes) {
    if (void* const memory = ::operator new(bytes, std::nothrow))
        return memory;
    return reserve.take(bytes);
}

void give_back(void* memory, std::size_t bytes) noexcept {
    if (reserve.owns(memory))
        reserve.give_back(memory, bytes);
    else
        ::operator delete(memory);
}

bool reserve_in_use() noexcept {
    return reserve.in_use();
}

} // namespace mfres::json_memory
