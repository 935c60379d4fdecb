// SPDX-License-Identifier: MIT
// Inference on oneDNN.
#pragma once

#include "backends/backend.h"
#include "core/thread_pool.h"
#include "graph/fuse.h"

#include <memory>

namespace mfres::onednn {

/// Compiles a network in its inference form for the threads of `pool`. Without a model no fusion groups are formed. Of
/// the options, precision and ranges are used. Errors: memory_limit, backend_failed.
Result<std::unique_ptr<Executable>> compile_inference(Network form, std::shared_ptr<ThreadPool> pool,
                                                      const FusionModel* model, const CompileOptions& options = {});

} // namespace mfres::onednn
