// SPDX-License-Identifier: MIT
// The CUDA backend: cuDNN's convolutions and kernels of our own on GPUs.
#include "backends/cuda/backend.h"
#include "backends/cuda/cuda_engine.h"

namespace mfres::cuda {

const Backend& backend() {
    static const CudaBackend instance("cuda", library_versions(), make_cuda_engine, device_available, device_count);
    return instance;
}

} // namespace mfres::cuda
