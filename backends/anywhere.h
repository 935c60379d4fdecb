// SPDX-License-Identifier: MIT
// Marks functions that a GPU computes as well as the host. Without nvcc the marks are empty.
#pragma once

#ifdef __CUDACC__
#define MFRES_ANYWHERE __host__ __device__
#define MFRES_APART __noinline__
#else
#define MFRES_ANYWHERE
#define MFRES_APART
#endif
