// SPDX-License-Identifier: MIT
// Checks whether a case is what it is given as: a skull-stripped head of an adult in four co-registered contrasts. A
// case that fails one is rejected; each can be accepted by its code, and then the report has a warning instead.
#pragma once

#include <mfres/status.h>

#include <array>
#include <set>
#include <string>
#include <string_view>

namespace mfres {

/// The checks that can be accepted, in the order in which they are made.
inline constexpr std::array<ErrorCode, 7> plausibility_checks = {
    ErrorCode::modality_misnamed, ErrorCode::brain_implausible, ErrorCode::brain_at_border,
    ErrorCode::modality_moved,    ErrorCode::modality_coverage, ErrorCode::modality_correlation,
    ErrorCode::intensity_outliers};

/// Those that do not reject a case.
using AcceptedChecks = std::set<ErrorCode>;

/// "modality_misnamed, brain_implausible, ...": for messages and help texts.
std::string plausibility_check_names();

/// The check of that name. Errors: invalid_argument.
Result<ErrorCode> parse_plausibility_check(std::string_view text);

} // namespace mfres
