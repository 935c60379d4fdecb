// SPDX-License-Identifier: MIT
// Pages that one array leaves to the next.
#include "core/memory_usage.h"
#include "core/platform.h"
#include "support/catch.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <span>
#include <utility>

using namespace mfres;

namespace {

constexpr std::size_t large_page = std::size_t{2} << 20;

/// Pages in a scope of the test.
class Pages {
  public:
    explicit Pages(std::size_t bytes) : bytes_(bytes), data_(platform::take_pages(bytes, true)) {}
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    ~Pages() {
        if (data_)
            platform::give_back_pages(data_, bytes_);
    }

    std::span<unsigned char> bytes() const { return {static_cast<unsigned char*>(data_), bytes_}; }
    void fill(unsigned char value) const { std::memset(data_, value, bytes_); }
    std::size_t holding(unsigned char value) const {
        return static_cast<std::size_t>(std::count(bytes().begin(), bytes().end(), value));
    }
    void reserve() { platform::reserve_pages(std::exchange(data_, nullptr), bytes_); }

  private:
    std::size_t bytes_;
    void* data_;
};

bool pages_can_be_reserved() {
    const platform::PagesMayBeReserved scope;
    Pages pages(2 * large_page);
    pages.fill(1);
    pages.reserve();
    const bool kept = Pages(2 * large_page).holding(1) > 0;
    if (!kept)
        std::printf("SKIPPED: this system has no large pages that an array leaves to the next\n");
    return kept;
}

} // namespace

TEST_CASE("large pages that were reserved are those of the next arrays, each page once") {
    if (!pages_can_be_reserved())
        return;
    const platform::PagesMayBeReserved scope;
    // Of each the large pages that lie within it as a whole: one less than its size holds, or all.
    Pages first(4 * large_page + 5000);
    Pages second(3 * large_page);
    first.fill(7);
    second.fill(9);
    first.reserve();
    second.reserve();
    const Pages small(2 * large_page);
    const Pages larger(9 * large_page + 100);
    const auto holding = [&](unsigned char value) { return small.holding(value) + larger.holding(value); };
    CHECK(holding(7) >= 3 * large_page);
    CHECK(holding(7) <= 4 * large_page);
    CHECK(holding(9) >= 2 * large_page);
    CHECK(holding(9) <= 3 * large_page);
    CHECK(holding(7) + holding(9) + holding(0) == 11 * large_page + 100);
    larger.fill(1); // all of it can be written
    small.fill(2);
    CHECK(larger.holding(1) == larger.bytes().size());
    CHECK(small.holding(2) == small.bytes().size());
    CHECK(Pages(9 * large_page).holding(0) == 9 * large_page); // none is left
}

TEST_CASE("small arrays are filled with 0 and take no reserved pages") {
    if (!pages_can_be_reserved())
        return;
    const platform::PagesMayBeReserved scope;
    const std::size_t bytes = 3 * large_page;
    Pages pages(bytes);
    pages.fill(7);
    pages.reserve();
    auto* const small = static_cast<unsigned char*>(platform::take_pages(bytes, false));
    CHECK(std::count(small, small + bytes, 0) == static_cast<std::ptrdiff_t>(bytes));
    platform::give_back_pages(small, bytes);
    CHECK(Pages(bytes).holding(7) >= large_page);
}

TEST_CASE("pages are reserved within scopes only, and given back at their end") {
    const auto leave = [] {
        Pages pages(16 * large_page);
        pages.fill(7);
        pages.reserve();
    };
    const auto none_is_reserved = [] { return Pages(16 * large_page).holding(0) == 16 * large_page; };
    const bool can_be_reserved = pages_can_be_reserved();
    leave();
    CHECK(none_is_reserved());
    {
        const platform::PagesMayBeReserved outer;
        {
            const platform::PagesMayBeReserved inner;
            leave();
        }
        CHECK(none_is_reserved() != can_be_reserved);
        leave();
        platform::give_back_reserved_pages();
        CHECK(none_is_reserved());
        leave();
    }
    CHECK(none_is_reserved());
    const std::int64_t before = resident_bytes();
    {
        const platform::PagesMayBeReserved scope;
        for (int n = 0; n < 6; ++n) // more than are kept
            leave();
    }
    if (before > 0)
        CHECK(resident_bytes() < before + static_cast<std::int64_t>(8 * large_page));
}
