// SPDX-License-Identifier: MIT
// The element type of a file for WeightDtype.
#pragma once

#include "model/safetensors.h"

#include <mfres/trainer.h>

namespace mfres {

Dtype file_dtype(WeightDtype dtype) noexcept;

} // namespace mfres
