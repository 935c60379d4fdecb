// SPDX-License-Identifier: MIT
// A GPU through the CUDA runtime and cuDNN.
#pragma once

#include "backends/cuda/engine.h"

namespace mfres::cuda {

/// Whether there are a driver and a device. Error: backend_unavailable.
Status device_available();

/// "cuDNN 9.19.0, CUDA 13.0", and a warning where there is one; see cudnn_warning().
std::string library_versions();

/// How many devices are visible to this process (CUDA_VISIBLE_DEVICES chooses).
int device_count();

/// One of the visible devices. Errors: backend_unavailable, backend_failed, invalid_argument (there is no such device).
Result<std::unique_ptr<Engine>> make_cuda_engine(int device);

} // namespace mfres::cuda
