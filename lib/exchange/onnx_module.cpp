// SPDX-License-Identifier: MIT
#include "core/module.h"
#include "exchange/onnx_functions.h"

namespace {

constexpr mfres::OnnxFunctions functions = {&mfres::encode_onnx_program, &mfres::decode_onnx, &mfres::import_onnx,
                                            &mfres::import_onnx};

} // namespace

MFRES_MODULE(functions)
