// SPDX-License-Identifier: MIT
#define MFRES_KERNELS host
#include "backends/cuda/kernels_of.h"

namespace mfres::cuda {

const Kernels& host_kernels() {
    return host::table();
}

} // namespace mfres::cuda
