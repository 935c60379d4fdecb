// SPDX-License-Identifier: MIT
// Values that other programs computed, and this library's own beside them.
#pragma once

#include "selftest/op_cases.h"

#include <mfres/status.h>

#include <array>
#include <span>
#include <string>
#include <vector>

namespace mfres::selftest {

/// A golden check: what it found, or its error.
struct GoldenCheck {
    const char* name;
    Result<std::string> (*run)();
};

/// SHA-256, a NIfTI file and a damaged one, Dice and HD95, and the ops of the reference backend.
std::span<const GoldenCheck> golden_checks();

/// What PyTorch computed in double precision (tests/selftest/golden.py) for an op on golden_values().
struct GoldenOp {
    const char* name;
    /// The first, the middle (element n / 2) and the last output; the mean of all, and the mean of their squares.
    std::array<double, 5> values;
};

/// The table of these values, and the graph of each row.
std::span<const GoldenOp> golden_ops();
std::vector<OpCase> golden_graphs();

/// Element i is ((7919 i + 104729 salt) mod 2003) / 1001.5 - 1, rounded to f32. The input has salt 0, the parameters of
/// the graph 1, 2, ... in their order; scales and variances are 1 plus half of it.
Tensor golden_values(const Shape& shape, std::int64_t salt);
Weights golden_weights(const Graph& graph);

} // namespace mfres::selftest
