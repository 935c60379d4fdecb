// SPDX-License-Identifier: MIT
#include "train/weight_dtype.h"

#include "core/names.h"

namespace mfres {

namespace {

constexpr auto weight_dtype_names = enum_names<WeightDtype>(
    {{WeightDtype::f32, "f32"}, {WeightDtype::f16, "f16"}, {WeightDtype::bf16, "bf16"}, {WeightDtype::int8, "int8"}});

} // namespace

std::string_view to_string(WeightDtype dtype) noexcept {
    return weight_dtype_names.of(dtype);
}

Result<WeightDtype> parse_weight_dtype(std::string_view text) {
    return weight_dtype_names.parse("dtype", text);
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
