// SPDX-License-Identifier: MIT
// Where large arrays come from: the caller's allocator or the system, and arrays that are kept for reuse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace mfres {

/// The arrays of one predictor. Thread-safe. It must outlive its arrays.
class ArrayMemory {
  public:
    using Allocate = std::function<void*(std::size_t bytes, std::size_t alignment)>;
    using Release = std::function<void(void* memory, std::size_t bytes)>;

    /// Of every array: a cache line, an AVX-512 register.
    static constexpr std::size_t alignment = 64;
    /// Arrays of so many bytes, with their header, come from the caller's allocator.
    static constexpr std::size_t large = std::size_t{1} << 16;

    /// Without `allocate` arrays come from the system. With `keep` freed arrays are kept, in classes of size that are an
    /// eighth apart, until end_case() finds that the case has not used them. Each part of a parallel loop keeps its own:
    /// how many a case needs does not depend on which parts run at the same time.
    ArrayMemory(Allocate allocate, Release release, bool keep);
    ~ArrayMemory();
    ArrayMemory(const ArrayMemory&) = delete;
    ArrayMemory& operator=(const ArrayMemory&) = delete;

    /// Whether it does anything that the system does not.
    bool active() const { return keep_ || allocate_; }

    /// Gives back kept arrays that were not used since the call before.
    void end_case();

    /// The memory of the innermost ArrayMemoryScope of the calling thread, null outside of scopes.
    static ArrayMemory* current();

  private:
    friend void* allocate_array(std::size_t bytes);
    friend void free_array(void* array) noexcept;
    struct Block {
        void* memory = nullptr;
        std::size_t bytes = 0;
        int part = 0;      ///< of the parallel loop that took it; 0 outside of loops
        bool used = false; ///< since end_case()
    };

    void* take(std::size_t bytes, int part);
    void give(void* memory, std::size_t bytes, int part) noexcept;
    void* fresh(std::size_t bytes);
    void discard(void* memory, std::size_t bytes) noexcept;

    Allocate allocate_;
    Release release_;
    bool keep_;
    std::mutex lock_;
    std::vector<Block> free_;
};

/// During its lifetime arrays of the calling thread, and of the parallel loops that it runs on a ThreadPool, come from a
/// memory; null or one that is not active: from the system.
class ArrayMemoryScope {
  public:
    /// `part` counts the parts of a loop from 1.
    explicit ArrayMemoryScope(ArrayMemory* memory, int part = 0);
    ~ArrayMemoryScope();
    ArrayMemoryScope(const ArrayMemoryScope&) = delete;
    ArrayMemoryScope& operator=(const ArrayMemoryScope&) = delete;

  private:
    ArrayMemory* before_;
    int part_before_;
};

/// At least one byte, aligned to ArrayMemory::alignment, from the memory of the calling thread or from the system, there
/// as anonymous pages if it is 1 MiB or more: malloc may keep freed blocks, tens of megabytes that would count against a
/// memory limit. Throws std::bad_alloc.
void* allocate_array(std::size_t bytes);
/// Gives an array back to where it came from. From any thread.
void free_array(void* array) noexcept;

/// An array of bytes without initial values.
class ArrayBlock {
  public:
    ArrayBlock() = default;
    explicit ArrayBlock(std::size_t bytes) : memory_(static_cast<std::byte*>(allocate_array(bytes))) {}
    std::byte* data() const { return memory_.get(); }

  private:
    struct Free {
        void operator()(std::byte* memory) const noexcept { free_array(memory); }
    };
    std::unique_ptr<std::byte, Free> memory_;
};

} // namespace mfres
