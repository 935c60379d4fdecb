// SPDX-License-Identifier: MIT
// How exported weights may be stored.
#pragma once

#include "core/try.h"
#include "model/safetensors.h"

#include <string_view>

namespace mfres {

/// "f32", "f16" or "bf16". Errors: invalid_argument.
inline Result<Dtype> storage_of(std::string_view storage) {
    if (storage == "f32")
        return Dtype::f32;
    if (storage == "f16")
        return Dtype::f16;
    if (storage == "bf16")
        return Dtype::bf16;
    return Error{ErrorCode::invalid_argument, text("storage is ", storage, ", allowed is f32, f16 or bf16"), "storage"};
}

} // namespace mfres
