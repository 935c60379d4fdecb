// SPDX-License-Identifier: MIT
#include "backends/onednn/kernels.h"

#include "backends/kernels/dispatch.h"

#include <dnnl.hpp>

namespace mfres::onednn {

namespace {

/// oneDNN's sets are sets of bits: a larger one has all bits of a smaller one.
bool may_use(dnnl::cpu_isa isa) {
    static const auto allowed = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    return (~allowed & static_cast<unsigned>(isa)) == 0;
}

} // namespace

void obey_max_cpu_isa() {
    if (!may_use(dnnl::cpu_isa::avx2))
        limit_instruction_set(InstructionSet::sse4);
    else if (!may_use(dnnl::cpu_isa::avx512_core))
        limit_instruction_set(InstructionSet::avx2);
}

} // namespace mfres::onednn
