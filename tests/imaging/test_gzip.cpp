// SPDX-License-Identifier: MIT
#include "core/memory_usage.h"
#include "core/random.h"
#include "core/thread_pool.h"
#include "imaging/nifti/gzip.h"
#include "support/catch.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <iostream>
#include <span>
#include <string>
#include <string_view>

using namespace mfres;

namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes_of(std::string_view content) {
    Bytes bytes(content.size());
    std::memcpy(bytes.data(), content.data(), content.size());
    return bytes;
}

Bytes compressible(std::size_t count) {
    Random random(7);
    Bytes bytes(count);
    for (auto& byte : bytes)
        byte = static_cast<std::byte>(random.below(5));
    return bytes;
}

Bytes compressed(const Bytes& content, int level = 6) {
    auto result = gzip(content, level);
    REQUIRE_OK(result);
    return std::move(result).value();
}

Result<Bytes> inflated(const Bytes& file, std::uint64_t cap = 1U << 24U) {
    return gunzip(file, cap, "x.gz");
}

} // namespace

TEST_CASE("gunzip reads what the gzip program wrote") {
    const unsigned char file[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0x48, 0xcd,
                                  0xc9, 0xc9, 0x07, 0x00, 0x86, 0xa6, 0x10, 0x36, 0x05, 0x00, 0x00, 0x00};
    const auto result = gunzip(std::as_bytes(std::span(file)), 5, "hello.gz");
    REQUIRE_OK(result);
    CHECK(*result == bytes_of("hello"));
}

TEST_CASE("gzip and gunzip are inverse for every level and size") {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{65535}, std::size_t{65536},
                                   std::size_t{65537}, std::size_t{300001}}) {
        const Bytes content = compressible(size);
        for (const int level : {0, 1, 6, 9}) {
            const auto result = inflated(compressed(content, level));
            REQUIRE_OK(result);
            CHECK(*result == content);
        }
    }
    REQUIRE_CODE(gzip(Bytes(3), 10), invalid_argument);
    REQUIRE_CODE(gzip(Bytes(3), -1), invalid_argument);
}

TEST_CASE("content that comes in parts gives the gzip file of the whole") {
    Random random(9);
    Bytes runs; // as of a label map
    while (runs.size() < 400'000)
        runs.insert(runs.end(), 1 + random.below(900), static_cast<std::byte>(random.below(4)));
    for (const Bytes& content : {runs, compressible(300'000), Bytes()})
        for (const GzipMatches matches : {GzipMatches::all, GzipMatches::runs}) {
            const auto whole = gzip(content, 6, matches);
            REQUIRE_OK(whole);
            for (const std::size_t most : {std::size_t{7000}, std::size_t{150'000}}) {
                Bytes file;
                auto writer = GzipWriter::create(6, matches, [&](std::span<const std::byte> bytes) -> Status {
                    file.insert(file.end(), bytes.begin(), bytes.end());
                    return {};
                });
                REQUIRE_OK(writer);
                for (std::size_t done = 0; done < content.size();) {
                    const std::size_t count = std::min<std::size_t>(content.size() - done, random.below(most));
                    REQUIRE_OK(writer->append(std::span(content).subspan(done, count)));
                    done += count;
                }
                REQUIRE_OK(writer->finish());
                CHECK(file == *whole);
            }
        }
    auto failing = GzipWriter::create(6, GzipMatches::all, [](std::span<const std::byte>) -> Status {
        return Error{ErrorCode::file_write, "full", ""};
    });
    REQUIRE_OK(failing);
    const Status failed = failing->append(bytes_of("little")); // the header comes out
    REQUIRE_CODE(failed, file_write);
}

TEST_CASE("content of several megabytes gives the same gzip file on any number of threads") {
    constexpr std::size_t part = std::size_t{1} << 20U; // what is compressed at a time
    Random random(10);
    Bytes runs;
    while (runs.size() < 5 * part / 2)
        runs.insert(runs.end(), 1 + random.below(900), static_cast<std::byte>(random.below(4)));
    Bytes copies; // of 20,000 bytes that repeat nothing, so that a window is needed to find them again
    for (Bytes pattern = Bytes(20'000); copies.size() < 3 * part + 7;) {
        if (copies.empty())
            std::generate(pattern.begin(), pattern.end(), [&] { return static_cast<std::byte>(random.below(256)); });
        copies.insert(copies.end(), pattern.begin(), pattern.end());
    }
    copies.resize(3 * part);
    for (const Bytes& content : {runs, copies, Bytes(part), Bytes(2 * part - 1), Bytes(2 * part + 1)})
        for (const GzipMatches matches : {GzipMatches::all, GzipMatches::runs}) {
            const auto alone = gzip(content, 6, matches);
            REQUIRE_OK(alone);
            const auto back = inflated(*alone);
            REQUIRE_OK(back);
            CHECK(*back == content);
            for (const int threads : {2, 3, 12}) {
                const auto pool = ThreadPool::create({.threads = threads});
                REQUIRE_OK(pool);
                const ThreadPoolScope scope(pool->get());
                const auto shared = gzip(content, 6, matches);
                REQUIRE_OK(shared);
                CHECK(*shared == *alone);
            }
        }
    CHECK(compressed(copies).size() < 50'000); // of 3 MiB: the first part has the pattern, and the others find it there
}

TEST_CASE("equal content gives equal gzip files without a time stamp or a system") {
    const Bytes content = compressible(5000);
    const Bytes file = compressed(content);
    CHECK(file == compressed(content));
    for (const std::size_t time_byte : {4U, 5U, 6U, 7U})
        CHECK(file[time_byte] == std::byte{0});
    CHECK(file[9] == std::byte{255});
}

TEST_CASE("files that are inflated at once are those of the reader, and nothing else passes") {
    const Bytes probe = compressed(bytes_of("probe"));
    Bytes probed(5);
    if (!inflate_whole(probe, probed)) {
        std::cout << "SKIPPED: built without libdeflate, so no file is inflated at once\n";
        return;
    }
    CHECK(probed == bytes_of("probe"));

    const auto joined = [](std::initializer_list<Bytes> members) {
        Bytes file;
        for (const Bytes& member : members)
            file.insert(file.end(), member.begin(), member.end());
        return file;
    };
    const Bytes content = compressible(70'001);
    const std::vector<Bytes> files = {compressed(content, 0), compressed(content, 1), compressed(content, 9),
                                      compressed(Bytes()),
                                      joined({compressed(content), compressed(Bytes()), compressed(probe)})};
    for (const Bytes& file : files) {
        const auto expected = inflated(file);
        REQUIRE_OK(expected);
        for (const std::size_t size : {expected->size(), expected->size() + 1}) {
            Bytes whole(size);
            REQUIRE(inflate_whole(file, whole) == (size == expected->size()));
            if (size == expected->size())
                CHECK(whole == *expected);
        }
        if (!expected->empty()) {
            Bytes less(expected->size() - 1);
            CHECK_FALSE(inflate_whole(file, less));
        }
    }

    // Whatever the reader rejects, at the reader's strictness: cut anywhere, any bit, a header's CRC-16, trailing bytes.
    const Bytes words = compressed(bytes_of("the same words, the same words, the same words"));
    Bytes out(46);
    REQUIRE(inflate_whole(words, out));
    for (std::size_t size = 0; size < words.size(); ++size)
        CHECK_FALSE(inflate_whole(std::span(words).first(size), out));
    for (std::size_t bit = 0; bit < 8 * words.size(); ++bit) {
        Bytes flipped = words;
        flipped[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
        const auto read = inflated(flipped);
        const bool same = inflate_whole(flipped, out);
        INFO("bit " << bit);
        CHECK((!same || (read.ok() && *read == out)));
    }
    CHECK_FALSE(inflate_whole(joined({words, Bytes(3)}), out));
}

TEST_CASE("several gzip members read as one") {
    Bytes file = compressed(bytes_of("first, "));
    const Bytes empty = compressed({});
    const Bytes second = compressed(bytes_of("second"));
    file.insert(file.end(), empty.begin(), empty.end());
    file.insert(file.end(), second.begin(), second.end());
    const auto result = inflated(file);
    REQUIRE_OK(result);
    CHECK(*result == bytes_of("first, second"));

    file.pop_back();
    REQUIRE_CODE(inflated(file), gzip_truncated);
}

TEST_CASE("a gzip file cut anywhere is rejected") {
    for (const auto& content : {compressible(40000), Bytes(100000), bytes_of("short")}) {
        const Bytes whole = compressed(content);
        for (std::size_t size = 0; size<whole.size(); size += whole.size() - size> 70 ? 61 : 1) {
            INFO("first " << size << " of " << whole.size() << " bytes");
            REQUIRE_CODE(inflated({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}), gzip_truncated);
        }
    }
}

TEST_CASE("every flipped bit of CRC-32 and length is rejected") {
    const Bytes whole = compressed(compressible(3000));
    for (std::size_t bit = 0; bit < 64; ++bit) {
        Bytes damaged = whole;
        damaged[whole.size() - 8 + bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
        INFO("bit " << bit);
        REQUIRE_CODE(inflated(damaged), gzip_corrupt);
    }
}

TEST_CASE("flipped bits within the compressed data never pass unnoticed") {
    const Bytes content = compressible(3000);
    const Bytes whole = compressed(content);
    for (std::size_t at = 10; at < whole.size() - 8; ++at) {
        Bytes damaged = whole;
        damaged[at] ^= std::byte{0x10};
        const auto result = inflated(damaged);
        INFO("byte " << at);
        REQUIRE_FALSE(result.ok());
        CHECK((result.error().code == ErrorCode::gzip_corrupt || result.error().code == ErrorCode::gzip_truncated));
    }
}

TEST_CASE("what follows a gzip stream must be another one") {
    for (const std::string_view garbage : {std::string_view("x"), std::string_view("garbage behind the end"),
                                           std::string_view("\0\0\0\0", 4), std::string_view("\x1f\x8c\x08", 3)}) {
        Bytes file = compressed(bytes_of("content"));
        const Bytes tail = bytes_of(garbage);
        file.insert(file.end(), tail.begin(), tail.end());
        REQUIRE_CODE(inflated(file), gzip_corrupt);
    }
}

TEST_CASE("bytes that are no gzip file are corrupt, none at all are truncated") {
    REQUIRE_CODE(inflated(bytes_of("this is no gzip file")), gzip_corrupt);
    REQUIRE_CODE(inflated({}), gzip_truncated);
    Bytes unknown_method = compressed(bytes_of("content"));
    unknown_method[2] = std::byte{7};
    REQUIRE_CODE(inflated(unknown_method), gzip_corrupt);
    Bytes reserved_flag = compressed(bytes_of("content"));
    reserved_flag[3] = std::byte{0x80};
    REQUIRE_CODE(inflated(reserved_flag), gzip_corrupt);
    const auto zlib_not_gzip = bytes_of(std::string_view("\x78\x9c\xcb\x48\xcd\xc9\xc9\x07\x00\x06\x2c\x02\x15", 13));
    REQUIRE_CODE(inflated(zlib_not_gzip), gzip_corrupt);
}

TEST_CASE("the cap is exact, and a bomb costs little memory") {
    const Bytes content = compressible(70000);
    const Bytes file = compressed(content);
    REQUIRE_OK(inflated(file, content.size()));
    REQUIRE_CODE(inflated(file, content.size() - 1), nifti_too_large);
    REQUIRE_CODE(inflated(file, 0), nifti_too_large);
    const auto nothing = inflated(compressed({}), 0);
    REQUIRE_OK(nothing);
    CHECK(nothing->empty());

    Bytes bomb = compressed(Bytes(std::size_t{64} << 20U), 9);
    if (!reset_peak_resident())
        return;
    const auto before = resident_bytes();
    REQUIRE_CODE(inflated(bomb, 1U << 20U), nifti_too_large);
    CHECK(peak_resident_bytes() - before < (std::int64_t{8} << 20U));
}

TEST_CASE("the reader fills pieces of any size") {
    const Bytes content = compressible(10000);
    const Bytes file = compressed(content);
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{10000}, std::size_t{20000}}) {
        GzipReader reader(file, "x.gz");
        Bytes collected;
        Bytes buffer(piece);
        while (true) {
            const auto got = reader.read(buffer);
            REQUIRE_OK(got);
            collected.insert(collected.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(*got));
            if (*got < piece)
                break;
        }
        CHECK(collected == content);
        const auto after = reader.read(buffer);
        REQUIRE_OK(after);
        CHECK(*after == 0);
    }
}
