// SPDX-License-Identifier: MIT
#define MFRES_KERNELS gpu
#include "backends/cuda/kernels_of.h"

namespace mfres::cuda {

const Kernels& gpu_kernels() {
    return gpu::table();
}

} // namespace mfres::cuda
