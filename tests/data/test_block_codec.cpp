// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "data/block_codec.h"
#include "support/cached_cases.h"
#include "support/catch.h"

#include <limits>

using namespace mfres;

namespace {

template <typename T>
std::vector<T> random_quanta(std::vector<std::uint8_t>& brain, std::uint64_t seed) {
    Random random(seed);
    std::vector<T> quanta(brain.size(), T{0});
    for (std::size_t i = 0; i < brain.size(); ++i) {
        brain[i] = random.below(4) != 0 ? 1 : 0;
        if (brain[i] == 0)
            continue;
        // Extremes next to each other make the differences wrap around.
        const std::uint64_t draw = random.below(4);
        quanta[i] = draw == 0   ? std::numeric_limits<T>::min()
                    : draw == 1 ? std::numeric_limits<T>::max()
                                : static_cast<T>(random.next());
    }
    return quanta;
}

template <typename T>
void check_round_trip(const BoxSize& size) {
    INFO("box " << size[0] << "x" << size[1] << "x" << size[2] << ", " << sizeof(T) << " bytes");
    std::vector<std::uint8_t> brain(static_cast<std::size_t>(size[0] * size[1] * size[2]));
    const std::vector<T> quanta = random_quanta<T>(brain, 11);
    const auto packed = pack_quanta(std::span<const T>(quanta), brain, size);
    REQUIRE_OK(packed);
    std::vector<T> back(quanta.size(), T{77});
    REQUIRE_OK(unpack_quanta(*packed, brain, size, std::span<T>(back), "block"));
    CHECK(back == quanta);
}

} // namespace

TEST_CASE("packed quanta come back, also from boxes one voxel thin and with differences that wrap") {
    for (const BoxSize& size : {BoxSize{7, 6, 5}, {1, 9, 8}, {9, 1, 8}, {9, 8, 1}, {1, 1, 30}, {2, 2, 2}}) {
        check_round_trip<std::uint8_t>(size);
        check_round_trip<std::int16_t>(size);
    }
}

TEST_CASE("a smooth image takes fewer bytes packed than its entropy without prediction") {
    const BoxSize size = {40, 44, 48};
    std::vector<std::uint8_t> quanta;
    Random random(3);
    for (std::int64_t x = 0; x < size[0]; ++x)
        for (std::int64_t y = 0; y < size[1]; ++y)
            for (std::int64_t z = 0; z < size[2]; ++z)
                quanta.push_back(static_cast<std::uint8_t>(x + y + 2 * z + static_cast<std::int64_t>(random.below(4))));
    const std::vector<std::uint8_t> brain(quanta.size(), 1);
    const auto packed = pack_quanta(std::span<const std::uint8_t>(quanta), brain, size);
    REQUIRE_OK(packed);
    CHECK(packed->size() < quanta.size() / 2); // noise of 2 bits; the plain values fill almost 8
}

TEST_CASE("a block that inflates to more, to less or not at all is damaged") {
    const BoxSize size = {6, 6, 6};
    std::vector<std::uint8_t> brain(216);
    const auto quanta = random_quanta<std::int16_t>(brain, 4);
    const auto packed = pack_quanta(std::span<const std::int16_t>(quanta), brain, size);
    REQUIRE_OK(packed);
    std::vector<std::int16_t> back(216);
    const std::span<std::int16_t> target(back);

    auto fewer = brain;
    *std::find(fewer.begin(), fewer.end(), 1) = 0;
    REQUIRE_CODE(unpack_quanta(*packed, fewer, size, target, "block"), cache_damaged);
    auto more = brain;
    *std::find(more.begin(), more.end(), 0) = 1;
    REQUIRE_CODE(unpack_quanta(*packed, more, size, target, "block"), cache_damaged);
    for (std::size_t kept = 0; kept < packed->size(); kept += 7)
        REQUIRE_CODE(unpack_quanta(std::span(*packed).first(kept), brain, size, target, "block"), cache_damaged);
    auto longer = *packed;
    longer.push_back(std::byte{0});
    REQUIRE_CODE(unpack_quanta(longer, brain, size, target, "block"), cache_damaged);

    const auto labels = pack_labels(brain);
    REQUIRE_OK(labels);
    std::vector<std::uint8_t> read(brain.size());
    REQUIRE_OK(unpack_labels(*labels, read, "block"));
    CHECK(read == brain);
    std::vector<std::uint8_t> too_small(brain.size() - 1);
    REQUIRE_CODE(unpack_labels(*labels, too_small, "block"), cache_damaged);
}

TEST_CASE("the checksum is the CRC-32 of the check value") {
    const std::string digits = "123456789"; // the check value every catalogue of CRCs lists
    const auto bytes = std::as_bytes(std::span(digits));
    CHECK(crc32_of(bytes) == 0xCBF43926U);
    CHECK(crc32_of(bytes.subspan(4), crc32_of(bytes.first(4))) == 0xCBF43926U);
}
