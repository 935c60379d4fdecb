// SPDX-License-Identifier: MIT
// The Highway targets that kernels are compiled for. To be included before any header of Highway.
//
// Lines are padded to 16 floats, so no vector may be longer, and vectors of a size unknown at compile time (SVE, RVV) are
// left out. Kernels compute in f32: x86 targets above AVX3 (plain AVX-512) and Arm targets above NEON have nothing for
// them. A better target has a lower bit, so all of them are left out by value, including those that newer versions of
// Highway add. SSSE3 is left out because processors with it and without SSE4 are gone.
#pragma once

#define HWY_DISABLED_TARGETS ((HWY_ARCH_X86 ? HWY_AVX3 - 1 : HWY_NEON - 1) | HWY_SSSE3 | HWY_RVV)
