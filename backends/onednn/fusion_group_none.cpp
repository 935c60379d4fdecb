// SPDX-License-Identifier: MIT
// In place of fusion_group.cpp in a build without Highway.
#include "backends/onednn/fusion_group.h"

#include "backends/onednn/inference.h"

namespace mfres::onednn {

bool can_fuse() {
    return false;
}

std::unique_ptr<InferenceOp> make_fusion_group(const OpContext&, const FusionGroup&) {
    return nullptr; // no group has several ops
}

} // namespace mfres::onednn
