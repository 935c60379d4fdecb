// SPDX-License-Identifier: MIT
#include "train/weight_dtype.h"

#include "core/names.h"

namespace mfres {

std::string_view to_string(WeightDtype dtype) noexcept {
    switch (dtype) {
    case WeightDtype::f32: return "f32";
    case WeightDtype::f16: return "f16";
    case WeightDtype::bf16: return "bf16";
    case WeightDtype::int8: return "int8";
    }
    return "";
}

Result<WeightDtype> parse_weight_dtype(std::string_view text) {
    return parse_name("dtype", weight_dtypes, text);
}

Dtype file_dtype(WeightDtype dtype) noexcept {
    switch (dtype) {
    case WeightDtype::f32: return Dtype::f32;
    case WeightDtype::f16: return Dtype::f16;
    case WeightDtype::bf16: return Dtype::bf16;
    case WeightDtype::int8: return Dtype::i8;
    }
    return Dtype::f32;
}

} // namespace mfres
