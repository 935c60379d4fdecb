// SPDX-License-Identifier: MIT
// What kernels use of the library of Highway: which targets the processor has, and which of them is chosen. For systems
// that have that library in its shared form only, as Debian does (CMakeLists.txt says where and why).
#include "backends/kernels/targets.h"

#include <hwy/targets.h>

#include <atomic>

namespace hwy {

namespace {

std::atomic<int64_t> disabled{0};
std::atomic<int64_t> for_test{0};

#if HWY_ARCH_X86

/// As Highway itself asks for them; the bits of the processor count only where the system saves the registers.
int64_t targets_of_processor() {
    __builtin_cpu_init();
    int64_t targets = HWY_STATIC_TARGET;
    if (!__builtin_cpu_supports("sse4.1") || !__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("pclmul") ||
        !__builtin_cpu_supports("aes"))
        return targets;
    targets |= HWY_SSE4;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2"))
        return targets;
    targets |= HWY_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw"))
        targets |= HWY_AVX3;
    return targets;
}

#else

/// The target that the compiler assumes everywhere.
int64_t targets_of_processor() {
    return HWY_STATIC_TARGET;
}

#endif

} // namespace

int64_t SupportedTargets() {
    static const int64_t of_processor = targets_of_processor();
    const int64_t test = for_test.load();
    const int64_t left = (test != 0 ? test : of_processor) & ~disabled.load();
    return left != 0 ? left : HWY_STATIC_TARGET;
}

ChosenTarget& GetChosenTarget() {
    static ChosenTarget chosen;
    return chosen;
}

void DisableTargets(int64_t targets) {
    disabled = targets & ~int64_t{HWY_STATIC_TARGET};
    GetChosenTarget().DeInit();
}

void SetSupportedTargetsForTest(int64_t targets) {
    for_test = targets;
    GetChosenTarget().DeInit();
}

} // namespace hwy
