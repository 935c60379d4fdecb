// SPDX-License-Identifier: MIT
#include "support/catch.h"

#ifdef MFRES_WITH_ONEDNN
#include "backends/onednn/conv_formulation.h"

using namespace mfres;
using namespace mfres::onednn;

TEST_CASE("names of oneDNN's implementations tell gemm and what adds an operand wrongly") {
    struct Name {
        const char* name;
        Speed speed;
        bool adds_correctly;
    };
    using enum Speed;
    // Names of oneDNN 2.6 and 3.7 on x86-64 and AArch64.
    // clang-format off
    for (const Name& each : {Name{"jit:avx2", compiled, true},
                             Name{"jit_1x1:avx512_core", compiled, true},
                             Name{"jit_uni_dw:sse41", compiled, true},
                             Name{"jit:sve_512", compiled, true},
                             Name{"brgconv:avx512_core_bf16", compiled, true},
                             Name{"brg_conv_fwd:avx2", compiled, true},
                             Name{"brgemm_1x1:avx512_core", compiled, true},
                             Name{"gemm:jit", gemm, false},
                             Name{"gemm:ref", gemm, false},
                             Name{"x64:gemm:jit", gemm, false},
                             Name{"gemm:acl", gemm, false},
                             Name{"indirect_gemm:acl", gemm, false},
                             Name{"gemm_s8u8s32x:jit", gemm, false},
                             Name{"ref:any", naive, true},
                             Name{"ref_int8:any", naive, true},
                             Name{"wino:acl", compiled, false}}) {
        INFO(each.name);
        CHECK(speed_of(each.name) == each.speed);
        CHECK(adds_operand_correctly(each.name) == each.adds_correctly);
    }
    // clang-format on
}
#endif
