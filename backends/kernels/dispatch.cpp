// SPDX-License-Identifier: MIT
#include "backends/kernels/targets.h"

#include "backends/kernels/dispatch.h"

#include <hwy/targets.h>

#include <mutex>

namespace mfres::kernels {

namespace {

#if HWY_ARCH_X86
std::int64_t target_of(InstructionSet set) {
    switch (set) {
    case InstructionSet::sse4: return HWY_SSE4;
    case InstructionSet::avx2: return HWY_AVX2;
    case InstructionSet::avx512: return HWY_AVX3;
    }
    return HWY_AVX3;
}
#endif

/// The best first.
std::vector<std::int64_t> targets_here() {
    const std::int64_t targets = hwy::SupportedTargets();
    // In Highway 1.2, SupportedTargets() chooses among all targets of the processor until its caller names those to choose
    // from.
    hwy::GetChosenTarget().Update(targets);
    // The library of Highway may be compiled for less than these kernels, on 32-bit Arm without NEON, and then knows of nothing
    // more: what the compiler assumes everywhere is there.
    const std::int64_t usable = (targets & HWY_TARGETS) != 0 ? targets & HWY_TARGETS : std::int64_t{HWY_STATIC_TARGET};
    std::vector<std::int64_t> each;
    for (std::int64_t rest = usable; rest != 0; rest &= rest - 1)
        each.push_back(rest & -rest);
    return each;
}

} // namespace

void limit_instruction_set([[maybe_unused]] InstructionSet best) {
#if HWY_ARCH_X86
    static std::mutex mutex;
    static std::int64_t limited_to = 1;
    const std::scoped_lock lock(mutex);
    if (target_of(best) <= limited_to) // a better target has a lower bit
        return;
    limited_to = target_of(best);
    hwy::DisableTargets(limited_to - 1); // all lower bits, whatever targets they are in this version of Highway
#endif
}

std::vector<std::string> supported_targets() {
    std::vector<std::string> names;
    for (const std::int64_t target : targets_here())
        names.emplace_back(hwy::TargetName(target));
    return names;
}

TargetScope::TargetScope(const std::string& name) {
    for (const std::int64_t target : targets_here())
        if (name == hwy::TargetName(target))
            hwy::SetSupportedTargetsForTest(target);
}

TargetScope::~TargetScope() {
    hwy::SetSupportedTargetsForTest(0);
}

} // namespace mfres::kernels
