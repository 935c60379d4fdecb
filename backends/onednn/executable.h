// What the backend compiles a network to, for tests and measurements that choose which steps are fused.
#pragma once

#include "backends/backend.h"
#include "graph/fuse.h"

namespace mfres::onednn {

/// Whether this build and this processor have vector instructions for regions. Without them no step is fused.
bool can_fuse();

/// `network` as from inference_form; without a model no regions are made. Of the options precision and ranges count.
/// Errors: memory_limit, backend_failed. Throws dnnl::error if the engine does not start, and std::bad_alloc.
Result<std::unique_ptr<Executable>> make_executable(const Network& network, int threads, const FusionModel* model,
                                                    const CompileOptions& options = {});

} // namespace mfres::onednn
