// SPDX-License-Identifier: MIT
// What is fuzzed: one function for every parser of the library. The libFuzzer program and the Catch2 test share them.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace mfres::fuzz {

struct Target {
    std::string_view name; ///< also that of its folder of seeds
    /// Parses `input` and returns whether it was accepted. Throws std::logic_error where the parser contradicts itself:
    /// what was read is written and read again, or read on another path, and must be the same.
    bool (*run)(std::span<const std::byte> input);
};

std::span<const Target> targets();

} // namespace mfres::fuzz
