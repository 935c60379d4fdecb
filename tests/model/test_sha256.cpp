// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "core/sha256_blocks.h"
#include "model/sha256.h"
#include "support/catch.h"

#include <string>
#include <vector>

using namespace mfres;

namespace {

std::string sha256(std::string_view message) {
    Sha256 hash;
    hash.update(message);
    return to_hex(hash.finish());
}

Weights two_tensors() {
    Tensor a(Shape{2}, 0.0F);
    a[0] = 1.0F;
    a[1] = -2.5F;
    Weights weights;
    weights.emplace("a", a);
    weights.emplace("b.weight", Tensor(Shape{1, 2}, 0.5F));
    return weights;
}

} // namespace

TEST_CASE("SHA-256 of NIST's example messages") {
    CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(sha256("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                 "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu") ==
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    CHECK(sha256(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("every implementation of SHA-256 that works here compresses alike") {
    std::vector<std::byte> bytes(std::size_t{64} * 40);
    Random random(3);
    for (std::byte& byte : bytes)
        byte = static_cast<std::byte>(random.below(256));
    const auto portable = sha256_blocks().back();
    REQUIRE(std::string(portable.name) == "portable");
    for (const Sha256Blocks& implementation : sha256_blocks()) {
        INFO(implementation.name);
        for (std::size_t blocks = 0; blocks <= 40; ++blocks) {
            Sha256State expected{1, 2, 3, 4, 5, 6, 7, 0xFFFFFFFFU};
            Sha256State state = expected;
            portable.compress(expected, bytes.data(), blocks);
            implementation.compress(state, bytes.data(), blocks);
            CHECK(state == expected);
        }
    }
}

TEST_CASE("HMAC-SHA-256 of RFC 4231's messages") {
    const auto hmac = [](const std::string& key, const std::string& message) {
        return to_hex(hmac_sha256(std::as_bytes(std::span(key)), std::as_bytes(std::span(message))));
    };
    CHECK(hmac(std::string(20, '\x0b'), "Hi There") ==
          "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    CHECK(hmac("Jefe", "what do ya want for nothing?") ==
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    CHECK(hmac(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First") ==
          "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST_CASE("SHA-256 does not depend on how a message is cut, around every block border") {
    std::string message;
    for (int i = 0; i < 200; ++i)
        message += static_cast<char>('A' + i % 53);
    for (std::size_t length = 0; length <= message.size(); ++length) {
        const std::string_view whole = std::string_view(message).substr(0, length);
        Sha256 bytewise;
        for (const char character : whole)
            bytewise.update(std::string_view(&character, 1));
        Sha256 halves;
        halves.update(whole.substr(0, length / 3));
        halves.update(whole.substr(length / 3));
        const std::string expected = sha256(whole);
        CHECK(to_hex(bytewise.finish()) == expected);
        CHECK(to_hex(halves.finish()) == expected);
    }
}

TEST_CASE("the hash of weights is that of the documented byte string") {
    // Written out by hand from the description in sha256.h.
    std::string bytes;
    bytes += std::string("\x01\0\0\0\0\0\0\0", 8) + "a";
    bytes += std::string("\x01\0\0\0\0\0\0\0", 8) + std::string("\x02\0\0\0\0\0\0\0", 8);
    bytes += std::string("\0\0\x80\x3F", 4) + std::string("\0\0\x20\xC0", 4);
    bytes += std::string("\x08\0\0\0\0\0\0\0", 8) + "b.weight";
    bytes += std::string("\x02\0\0\0\0\0\0\0", 8) + std::string("\x01\0\0\0\0\0\0\0", 8) +
             std::string("\x02\0\0\0\0\0\0\0", 8);
    bytes += std::string("\0\0\0\x3F", 4) + std::string("\0\0\0\x3F", 4);
    CHECK(weights_sha256(two_tensors()) == sha256(bytes));
}

TEST_CASE("the hash of weights sees names, shapes and single values") {
    const std::string original = weights_sha256(two_tensors());
    Weights renamed = two_tensors();
    auto node = renamed.extract("a");
    node.key() = "A";
    renamed.insert(std::move(node));
    CHECK(weights_sha256(renamed) != original);
    Weights reshaped = two_tensors();
    reshaped.at("b.weight") = Tensor(Shape{2, 1}, 0.5F);
    CHECK(weights_sha256(reshaped) != original);
    Weights changed = two_tensors();
    changed.at("a")[1] = -2.5000002F;
    CHECK(weights_sha256(changed) != original);
    CHECK(weights_sha256(two_tensors()) == original);
}
