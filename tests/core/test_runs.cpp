// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "core/runs.h"
#include "support/catch.h"

#include <cstdint>
#include <vector>

using namespace mfres;

namespace {

/// Runs that begin and end anywhere within the 32 bytes that are compared at once.
template <typename T>
void compare(T value) {
    Random random(5);
    for (int round = 0; round < 300; ++round) {
        std::vector<T> values(random.below(120), value);
        const std::size_t others = random.below(3);
        for (std::size_t n = 0; n < others && !values.empty(); ++n)
            values[random.below(values.size())] = static_cast<T>(value + 1);
        const T* const begin = values.data();
        const T* const end = begin + values.size();
        for (const T* from = begin;; ++from) {
            const T* expected = from;
            while (expected != end && *expected == value)
                ++expected;
            REQUIRE(first_other(from, end, value) == expected);
            if (from == end)
                break;
        }
    }
}

} // namespace

TEST_CASE("a run ends at the first other value") {
    compare<std::uint8_t>(0);
    compare<std::uint8_t>(255);
    compare<std::int16_t>(-32768);
    compare<float>(-1024.0F);
    // Equal values need not have equal bits.
    const std::vector<float> zeros = {0.0F, -0.0F, 0.0F, 0.0F, 0.0F, 0.0F, 0.0F, 0.0F, -0.0F, 1.0F};
    CHECK(first_other(zeros.data(), zeros.data() + zeros.size(), 0.0F) == &zeros.back());
}
