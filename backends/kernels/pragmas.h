// SPDX-License-Identifier: MIT
// Hints for the loop that follows.
#pragma once

// Its iterations are independent: an output that shares memory with an input is read and written at the same index.
// Compilers cannot know that, and at -O2 they vectorise only the loops that are marked.
#define MFRES_SIMD _Pragma("omp simd")

// Its length is a small constant: it is unrolled completely.
#if defined(__clang__)
#define MFRES_UNROLL _Pragma("unroll")
#else
#define MFRES_UNROLL _Pragma("GCC unroll 16")
#endif
