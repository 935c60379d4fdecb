// SPDX-License-Identifier: MIT
#include "core/module.h"
#include "exchange/torch_functions.h"

namespace {

constexpr mfres::TorchFunctions functions = {&mfres::read_torch_state, &mfres::read_torch_state};

} // namespace

MFRES_MODULE(functions)
