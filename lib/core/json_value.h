// SPDX-License-Identifier: MIT
// The type of JSON values: nlohmann's, with memory where it can do without none.
#pragma once

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

namespace mfres {

/// Memory for the few allocations of nlohmann::basic_json 3.11 that must not fail: its destructor moves children to a
/// vector and is noexcept, and a null becomes an object before there is memory for one.
namespace json_memory {

/// Memory of operator new, or of a reserve of 2 MiB where that has none. That is enough to destroy any value of a text of
/// 64 KiB. Throws std::bad_alloc when both are used up. Any thread.
void* take(std::size_t bytes);
void give_back(void* memory, std::size_t bytes) noexcept;

/// Whether any value has memory of the reserve.
bool reserve_in_use() noexcept;

} // namespace json_memory

/// Allocator of JSON values. Arrays, objects and strings themselves may come from the reserve, so that an object that is
/// begun can be destroyed. Their elements and nodes come from operator new alone: that fails first.
template <typename T>
struct JsonAllocator {
    using value_type = T;
    static constexpr bool is_container = requires { typename T::value_type; };

    JsonAllocator() = default;
    template <typename Other>
    JsonAllocator(const JsonAllocator<Other>&) noexcept {} // NOLINT(google-explicit-constructor): as allocators do

    T* allocate(std::size_t count) {
        if constexpr (is_container)
            return static_cast<T*>(json_memory::take(count * sizeof(T)));
        else
            return std::allocator<T>().allocate(count);
    }
    void deallocate(T* memory, std::size_t count) noexcept {
        if constexpr (is_container)
            json_memory::give_back(memory, count * sizeof(T));
        else
            std::allocator<T>().deallocate(memory, count);
    }
    bool operator==(const JsonAllocator&) const = default;
};

using Json =
    nlohmann::basic_json<std::map, std::vector, std::string, bool, std::int64_t, std::uint64_t, double, JsonAllocator>;
/// The same with keys in the order in which they were set.
using OrderedJson = nlohmann::basic_json<nlohmann::ordered_map, std::vector, std::string, bool, std::int64_t,
                                         std::uint64_t, double, JsonAllocator>;

} // namespace mfres

/// Of the vector in the destructor of basic_json, which names no allocator. Arrays have JsonAllocator.
template <template <typename, typename, typename...> class Object>
class std::allocator<nlohmann::basic_json<Object, std::vector, std::string, bool, std::int64_t, std::uint64_t, double,
                                          mfres::JsonAllocator>> {
  public:
    using value_type = nlohmann::basic_json<Object, std::vector, std::string, bool, std::int64_t, std::uint64_t, double,
                                            mfres::JsonAllocator>;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using propagate_on_container_move_assignment = std::true_type;

    allocator() = default;
    template <typename Other>
    allocator(const allocator<Other>&) noexcept {} // NOLINT(google-explicit-constructor): as allocators do

    value_type* allocate(std::size_t count) {
        return static_cast<value_type*>(mfres::json_memory::take(count * sizeof(value_type)));
    }
    void deallocate(value_type* memory, std::size_t count) noexcept {
        mfres::json_memory::give_back(memory, count * sizeof(value_type));
    }
    bool operator==(const allocator&) const = default;
};
