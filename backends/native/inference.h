// SPDX-License-Identifier: MIT
// Inference by our own kernels.
#pragma once

#include "backends/backend.h"
#include "core/thread_pool.h"
#include "graph/fuse.h"

#include <memory>

namespace mfres::native {

/// Compiles a network in its inference form for the threads of `pool`, in f32. Without a model no fusion groups are
/// formed. Errors: memory_limit.
Result<std::unique_ptr<Executable>> compile_inference(Network form, std::shared_ptr<ThreadPool> pool,
                                                      const FusionModel* model);

} // namespace mfres::native
