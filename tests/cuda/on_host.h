// SPDX-License-Identifier: MIT
// The cuda backend with its kernels compiled for the host.
#pragma once

#include "backends/cuda/backend.h"
#include "backends/cuda/engine.h"

namespace mfres::test {

/// With two devices, which are both the host.
inline const Backend& on_host() {
    static const cuda::CudaBackend backend(
        "cuda", "kernels of the cuda backend on the host",
        [](int) { return Result<std::unique_ptr<cuda::Engine>>(cuda::make_host_engine()); }, [] { return Status(); },
        [] { return 2; });
    return backend;
}

} // namespace mfres::test
