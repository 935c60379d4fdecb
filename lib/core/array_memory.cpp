// SPDX-License-Identifier: MIT
#include "core/array_memory.h"

#include "core/platform.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

namespace mfres {

namespace {

thread_local ArrayMemory* current_memory = nullptr;
thread_local int current_part = 0;

/// In front of every array.
struct alignas(ArrayMemory::alignment) Header {
    ArrayMemory* owner = nullptr; ///< null = the system
    std::size_t bytes = 0;        ///< with this header
    int part = 0;                 ///< see ArrayMemory::Block
};

void* system_memory(std::size_t bytes) {
    if (platform::uses_pages(bytes))
        return platform::take_pages(bytes, bytes >= platform::large_pages_from);
    return ::operator new (bytes, std::align_val_t{ArrayMemory::alignment});
}

void free_system_memory(void* memory, std::size_t bytes) noexcept {
    if (platform::uses_pages(bytes))
        platform::give_back_pages(memory, bytes);
    else
        ::operator delete (memory, std::align_val_t{ArrayMemory::alignment});
}

/// The least size of a class that holds `bytes`: a power of 2 in eighths.
std::size_t size_class(std::size_t bytes) {
    const std::size_t step = std::max<std::size_t>(ArrayMemory::alignment, std::bit_floor(bytes) / 8);
    return (bytes + step - 1) / step * step;
}

} // namespace

ArrayMemory::ArrayMemory(Allocate allocate, Release release, bool keep)
    : allocate_(std::move(allocate)), release_(std::move(release)), keep_(keep) {}

ArrayMemory::~ArrayMemory() {
    for (const Block& block : free_)
        discard(block.memory, block.bytes);
}

ArrayMemory* ArrayMemory::current() {
    return current_memory;
}

void* ArrayMemory::fresh(std::size_t bytes) {
    if (!allocate_ || bytes < large)
        return system_memory(bytes);
    void* const memory = allocate_(bytes, alignment);
    if (!memory)
        throw std::bad_alloc();
    return memory;
}

void ArrayMemory::discard(void* memory, std::size_t bytes) noexcept {
    if (!allocate_ || bytes < large)
        free_system_memory(memory, bytes);
    else
        release_(memory, bytes);
}

void* ArrayMemory::take(std::size_t bytes, int part) {
    const std::lock_guard lock(lock_);
    auto kept = free_.end();
    for (auto block = free_.begin(); block != free_.end(); ++block)
        if (block->bytes == bytes && block->part == part && (kept == free_.end() || block->used))
            kept = block; // rather one that this case has used, so that those too many are never used
    if (kept == free_.end())
        return nullptr;
    void* const memory = kept->memory;
    *kept = free_.back();
    free_.pop_back();
    return memory;
}

/// Where there is no memory to note a block for reuse, it is freed.
void ArrayMemory::give(void* memory, std::size_t bytes, int part) noexcept {
    if (keep_)
        try {
            const std::lock_guard lock(lock_);
            free_.push_back({memory, bytes, part, true});
            return;
        } catch (const std::exception&) {
        }
    discard(memory, bytes);
}

void ArrayMemory::end_case() {
    const std::lock_guard lock(lock_);
    const auto unused = std::partition(free_.begin(), free_.end(), [](const Block& block) { return block.used; });
    std::for_each(unused, free_.end(), [this](const Block& block) { discard(block.memory, block.bytes); });
    free_.erase(unused, free_.end());
    for (Block& block : free_)
        block.used = false;
}

ArrayMemoryScope::ArrayMemoryScope(ArrayMemory* memory, int part)
    : before_(std::exchange(current_memory, memory && memory->active() ? memory : nullptr)),
      part_before_(std::exchange(current_part, part)) {}

ArrayMemoryScope::~ArrayMemoryScope() {
    current_memory = before_;
    current_part = part_before_;
}

void* allocate_array(std::size_t bytes) {
    if (bytes > static_cast<std::size_t>(-1) / 2)
        throw std::bad_array_new_length();
    Header header{current_memory, bytes + sizeof(Header), current_part};
    void* memory = nullptr;
    if (ArrayMemory* const owner = header.owner) {
        if (owner->keep_) {
            header.bytes = size_class(header.bytes);
            memory = owner->take(header.bytes, header.part);
        }
        if (!memory)
            memory = owner->fresh(header.bytes);
    } else {
        memory = system_memory(header.bytes);
    }
    return new (memory) Header(header) + 1;
}

void free_array(void* array) noexcept {
    if (!array)
        return;
    Header* const header = static_cast<Header*>(array) - 1;
    if (header->owner)
        header->owner->give(header, header->bytes, header->part);
    else
        free_system_memory(header, header->bytes);
}

} // namespace mfres
