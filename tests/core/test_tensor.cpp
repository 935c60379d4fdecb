// SPDX-License-Identifier: MIT
#include "core/tensor.h"
#include "support/catch.h"

#include <bit>
#include <limits>
#include <utility>
#include <vector>

using namespace mfres;

TEST_CASE("a shape knows its elements and prints itself") {
    const Shape shape{1, 4, 3, 5, 7};
    CHECK(shape.elements() == 420);
    CHECK(to_string(shape) == "1x4x3x5x7");
    CHECK(shape == Shape{1, 4, 3, 5, 7});
    CHECK_FALSE(shape == Shape{1, 4, 3, 5});
    CHECK(Shape{}.elements() == 1);
}

TEST_CASE("tensor memory starts on a 64-byte boundary") {
    const Tensor tensor(Shape{1, 3, 5, 7, 11}, 2.5F);
    CHECK(reinterpret_cast<std::uintptr_t>(tensor.data()) % 64 == 0);
    CHECK(tensor.elements() == 1155);
    CHECK(tensor[1154] == 2.5F);
}

TEST_CASE("copying between layouts keeps every element") {
    const Shape shape{1, 2, 3, 4, 5};
    Tensor dense(shape);
    for (std::int64_t i = 0; i < dense.elements(); ++i)
        dense[i] = static_cast<float>(i);
    Tensor channels_last_memory(shape);
    const StridedView<float> channels_last{channels_last_memory.data(), shape, {120, 1, 40, 10, 2}};
    copy(view(static_cast<const Tensor&>(dense)), channels_last);
    CHECK(channels_last.at(0, 1, 2, 3, 4) == 119.0F);
    CHECK(channels_last_memory[1] == channels_last.at(0, 1, 0, 0, 0));
    Tensor back(shape);
    copy(as_const(channels_last), view(back));
    for (std::int64_t i = 0; i < dense.elements(); ++i)
        REQUIRE(back[i] == dense[i]);
}

TEST_CASE("products of sizes say when they do not fit") {
    constexpr auto big = std::numeric_limits<std::int64_t>::max();
    CHECK(checked_product({3, 4, 5}) == 60);
    CHECK_FALSE(checked_product({big, 2}));
    CHECK_FALSE(checked_product({-1, 2}));
    CHECK_FALSE(checked_add(big, 1));
    CHECK(checked_add(big - 1, 1) == big);
}

TEST_CASE("an array that a process cannot address is no memory, not a shorter array") {
    CHECK(array_size<float>(0) == 0);
    CHECK(array_size<float>(7) == 7);
    constexpr auto most = static_cast<std::int64_t>(std::numeric_limits<std::ptrdiff_t>::max());
    CHECK(array_size<std::byte>(most) == static_cast<std::size_t>(most));
    CHECK(array_size<float>(most / 4) == static_cast<std::size_t>(most / 4));
    CHECK_THROWS_AS(array_size<float>(most / 4 + 1), std::bad_alloc);
    CHECK_THROWS_AS(array_size<std::byte>(-1), std::bad_alloc);
    CHECK_THROWS_AS(Tensor(Shape{1 << 20, 1 << 20, 1 << 20, 4}), std::bad_alloc);
}

TEST_CASE("values are finite unless one is NaN or infinite, wherever it is") {
    std::vector<float> values(37, 1.0F);
    values[3] = -std::numeric_limits<float>::max();
    values[5] = std::numeric_limits<float>::denorm_min();
    values[7] = -0.0F;
    CHECK(all_finite(values));
    CHECK(all_finite({}));
    for (std::size_t i = 0; i < values.size(); ++i)
        for (const float wrong : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                                  std::numeric_limits<float>::quiet_NaN(), std::bit_cast<float>(0xFF800001U)}) {
            const float before = std::exchange(values[i], wrong);
            CHECK_FALSE(all_finite(values));
            values[i] = before;
        }
}
