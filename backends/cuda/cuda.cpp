// The CUDA backend: cuDNN's convolutions and kernels of our own on one GPU.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/cuda_engine.h"

namespace mfres::cuda {

const Backend& backend() {
    static const CudaBackend instance("cuda", library_versions(), make_cuda_engine, device_available);
    return instance;
}

} // namespace mfres::cuda
