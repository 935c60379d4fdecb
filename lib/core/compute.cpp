// SPDX-License-Identifier: MIT
#include <mfres/compute.h>

#include "core/names.h"

namespace mfres {

namespace {

constexpr auto precision_names = enum_names<Precision>(
    {{Precision::f32, "f32"}, {Precision::bf16, "bf16"}, {Precision::fp16, "fp16"}, {Precision::int8, "int8"}});
constexpr auto wait_policy_names = enum_names<WaitPolicy>(
    {{WaitPolicy::automatic, "auto"}, {WaitPolicy::active, "active"}, {WaitPolicy::passive, "passive"}});

} // namespace

std::string_view to_string(Precision precision) noexcept {
    return precision_names.of(precision);
}

Result<Precision> parse_precision(std::string_view text) {
    return precision_names.parse("precision", text);
}

std::string_view to_string(WaitPolicy policy) noexcept {
    return wait_policy_names.of(policy);
}

Result<WaitPolicy> parse_wait_policy(std::string_view text) {
    return wait_policy_names.parse("wait policy", text);
}

} // namespace mfres
