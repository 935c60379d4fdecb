// Instead of fused_region.cpp in a build without Highway.
#include "backends/onednn/fusion_group.h"

#include "backends/onednn/executable.h"

namespace mfres::onednn {

bool can_fuse() {
    return false;
}

std::unique_ptr<Operation> make_fused_region(const Compilation&, const Task&) {
    return nullptr; // no task is fused here
}

} // namespace mfres::onednn
