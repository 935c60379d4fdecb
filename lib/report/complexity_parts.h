// SPDX-License-Identifier: MIT
// What the renderings of reports, comparisons, sweeps and predictions share.
#pragma once

#include "core/json_value.h"
#include "report/page.h"

#include <mfres/complexity.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mfres::complexity_parts {

/// "1x4x128x128x128", from an axis on.
std::string times(const std::vector<std::int64_t>& extents, std::size_t from = 0);
/// Bytes in MiB with one decimal.
std::string mebibytes(std::int64_t bytes);
/// Shortens long names in the middle.
std::string shortened(const std::string& name, std::size_t width);

/// The style of a format that is neither CSV nor JSON.
PageStyle page_style(ReportFormat format);
void add_report(Page& page, PageStyle style, const ComplexityReport& report, bool per_layer);

/// The cells of a line with commas between, and a line feed.
std::string csv_line(const std::vector<std::string>& fields);
void append(std::vector<std::string>& fields, const std::vector<std::string>& more);
/// Names and values of all counts.
const std::vector<std::string>& count_names();
std::vector<std::string> count_fields(const ComplexityCounts& counts);

void put_counts(OrderedJson& json, const ComplexityCounts& counts);
OrderedJson as_json(const ComplexityReport& report, bool per_layer);
std::string dumped(const OrderedJson& json);

} // namespace mfres::complexity_parts
