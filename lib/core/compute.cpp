// SPDX-License-Identifier: MIT
#include <mfres/compute.h>

#include "core/names.h"

namespace mfres {

std::string_view to_string(Precision precision) noexcept {
    switch (precision) {
    case Precision::f32: return "f32";
    case Precision::bf16: return "bf16";
    case Precision::fp16: return "fp16";
    case Precision::int8: return "int8";
    }
    return "";
}

Result<Precision> parse_precision(std::string_view text) {
    return parse_name("precision", precisions, text);
}

std::string_view to_string(WaitPolicy policy) noexcept {
    switch (policy) {
    case WaitPolicy::automatic: return "auto";
    case WaitPolicy::active: return "active";
    case WaitPolicy::passive: return "passive";
    }
    return "";
}

Result<WaitPolicy> parse_wait_policy(std::string_view text) {
    return parse_name("wait policy", wait_policies, text);
}

} // namespace mfres
