// SPDX-License-Identifier: MIT
// The summary rows of the challenge server's tables: Mean, StdDev, Median, 25quantile and 75quantile.
#pragma once

#include <mfres/metrics.h>

#include <array>
#include <string_view>

namespace mfres {

inline constexpr std::array<std::string_view, 5> summary_labels = {"Mean", "StdDev", "Median", "25quantile",
                                                                   "75quantile"};

/// The statistics as rows, in the order of summary_labels.
std::array<CaseMetrics, 5> summary_rows(const MetricsSummary& summary);

} // namespace mfres
