// SPDX-License-Identifier: MIT
#include "backends/onednn/vector_loops.h"

namespace mfres::onednn {

extern const VectorLoops vector_loops_plain;
#ifdef MFRES_X86_VECTORS
extern const VectorLoops vector_loops_avx2;
extern const VectorLoops vector_loops_avx512;
#endif

const VectorLoops& vector_loops() {
#ifdef MFRES_X86_VECTORS
    static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return avx512 ? vector_loops_avx512 : avx2 ? vector_loops_avx2 : vector_loops_plain;
#else
    return vector_loops_plain;
#endif
}

} // namespace mfres::onednn
