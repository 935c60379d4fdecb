// SPDX-License-Identifier: MIT
// Which instruction set the kernels of this module use. Highway chooses the best target that the processor has, once for
// all kernels (HWY_DYNAMIC_DISPATCH); targets.h says for which targets they are compiled.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mfres::kernels {

/// Instruction sets of x86 processors, in ascending order.
enum class InstructionSet : std::uint8_t { sse4, avx2, avx512 };

/// Kernels that are looked up from now on use no target above `best`, under whatever name. Limits add up: the lowest one
/// of the process counts. Without effect on other architectures. Thread-safe.
void limit_instruction_set(InstructionSet best);

/// The targets, as Highway calls them, that kernels are compiled for and that this processor has within the limit, the
/// best first.
std::vector<std::string> supported_targets();

/// While it lives, kernels that are looked up use one target, in all threads. For tests.
class TargetScope {
  public:
    /// Precondition: `name` is one of supported_targets(), and there is no other TargetScope.
    explicit TargetScope(const std::string& name);
    ~TargetScope();
    TargetScope(const TargetScope&) = delete;
    TargetScope& operator=(const TargetScope&) = delete;
};

} // namespace mfres::kernels
