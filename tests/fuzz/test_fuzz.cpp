// SPDX-License-Identifier: MIT
// The targets of libFuzzer without it: every committed seed, and a fixed number of mutations of each.
#include "core/file.h"
#include "core/random.h"
#include "fuzz/targets.h"
#include "support/catch.h"
#include "support/paths.h"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

using namespace mfres;

namespace {

using Bytes = std::vector<std::byte>;

std::vector<Bytes> seeds_of(const fuzz::Target& target) {
    const auto folder = std::filesystem::path(MFRES_SOURCE_DIR) / "tests" / "fuzz" / "seeds" / target.name;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    std::vector<Bytes> seeds;
    for (const auto& file : files) {
        auto bytes = read_file(file, std::uint64_t{1} << 20U);
        REQUIRE_OK(bytes);
        seeds.push_back(std::move(bytes).value());
    }
    return seeds;
}

/// Processor seconds of this process: on a busy machine the clock on the wall says nothing.
double processor_seconds() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// One change of the kinds that libFuzzer makes: a bit, a byte, a number at the edge of its type, bytes taken out, put in
/// twice or exchanged with another seed's, the end cut off.
void mutate(Bytes& bytes, const std::vector<Bytes>& seeds, Random& random) {
    const auto place = [&](std::size_t size) { return static_cast<std::size_t>(random.below(size + 1)); };
    const auto at = [&](std::size_t offset) { return bytes.begin() + static_cast<std::ptrdiff_t>(offset); };
    const std::size_t first = place(bytes.size());
    const std::size_t last = std::min(bytes.size(), first + place(24));
    switch (random.below(7)) {
    case 0:
        if (first < bytes.size())
            bytes[first] ^= std::byte{1} << random.below(8);
        break;
    case 1:
        if (first < bytes.size())
            bytes[first] = static_cast<std::byte>(random.below(256));
        break;
    case 2: {
        constexpr std::array<std::uint64_t, 8> edges = {0, 1, 0x7F, 0xFF, 0x7FFF, 0x7FFFFFFF, 0xFFFFFFFF, ~0ULL};
        const std::uint64_t value = edges[random.below(edges.size())];
        for (std::size_t i = 0; i < std::size_t{1} << random.below(4) && first + i < bytes.size(); ++i)
            bytes[first + i] = static_cast<std::byte>(value >> (8 * i) & 0xFFU);
        break;
    }
    case 3: bytes.erase(at(first), at(last)); break;
    case 4: {
        const Bytes piece(at(first), at(last));
        bytes.insert(at(place(bytes.size())), piece.begin(), piece.end());
        break;
    }
    case 5: {
        const Bytes& other = seeds[random.below(seeds.size())];
        const std::size_t begin = place(other.size());
        const std::size_t end = std::min(other.size(), begin + place(64));
        bytes.insert(at(first), other.begin() + static_cast<std::ptrdiff_t>(begin),
                     other.begin() + static_cast<std::ptrdiff_t>(end));
        break;
    }
    default: bytes.resize(first); break;
    }
}

/// Runs a target and keeps the input that it fails on, for libFuzzer and for a debugger.
bool accepts(const fuzz::Target& target, const Bytes& input, double& slowest) {
    const double before = processor_seconds();
    bool accepted = false;
    try {
        accepted = target.run(input);
    } catch (const std::exception& problem) {
        const auto file = test::fresh_folder() / target.name;
        (void)write_file_atomically(file, input);
        FAIL(target.name << ": " << problem.what() << "; the input is " << file.string());
    }
    slowest = std::max(slowest, processor_seconds() - before);
    return accepted;
}

} // namespace

TEST_CASE("every parser accepts a seed and survives all of them") {
    for (const fuzz::Target& target : fuzz::targets())
        DYNAMIC_SECTION(target.name) {
            double slowest = 0.0;
            std::size_t accepted = 0;
            for (const Bytes& seed : seeds_of(target))
                accepted += accepts(target, seed, slowest) ? 1 : 0;
            CHECK(accepted > 0);
            CHECK(slowest < 1.0);
        }
}

TEST_CASE("every parser survives mutations of its seeds") {
    constexpr int rounds = 2000;
    for (const fuzz::Target& target : fuzz::targets())
        DYNAMIC_SECTION(target.name) {
            const std::vector<Bytes> seeds = seeds_of(target);
            REQUIRE_FALSE(seeds.empty());
            Random random(2024);
            double slowest = 0.0;
            for (int round = 0; round < rounds; ++round) {
                Bytes input = seeds[random.below(seeds.size())];
                for (std::uint64_t change = 0, changes = 1 + random.below(4); change < changes; ++change)
                    mutate(input, seeds, random);
                (void)accepts(target, input, slowest);
            }
            CHECK(slowest < 1.0);
        }
}
