// SPDX-License-Identifier: MIT
// The small graphs that every backend has to run and to train. Those to run are part of the library (mfres selftest).
#pragma once

#include "selftest/op_cases.h"

#include <vector>

namespace mfres::test {

using selftest::op_cases;
using selftest::OpCase;

/// At least 40 small cases for the backward; every OpKind occurs. What is to be differentiated stands behind a
/// learnable layer, so that a backend needs the gradient of its input as well, and in some cases reads the network's
/// input, so that it does not. No gradient is exactly zero.
std::vector<OpCase> gradient_cases();

} // namespace mfres::test
