// SPDX-License-Identifier: MIT
// Parameters, operations and memory of a network at a given input size, in three named conventions.
#pragma once

#include <mfres/export.h>
#include <mfres/network.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Exact integers of a layer, a stage or a network.
struct ComplexityCounts {
    std::int64_t learnables = 0;       ///< learned scalars: weights, real biases, norm scale and shift, branch weights
    std::int64_t macs = 0;             ///< multiply-accumulates of convolutions
    std::int64_t table2_flops = 0;     ///< operations as the counter behind the paper's Table 2 counts them
    std::int64_t eq11_parameters = 0;  ///< paper, eq. 11: biases always counted, normalisations not
    std::int64_t eq13_flops = 0;       ///< paper, eq. 13: twice the MACs
    std::int64_t activation_bytes = 0; ///< of all outputs, 4 bytes each
};

/// Activation memory of one inference in bytes (f32), with values placed in one arena according to their lifetimes. The
/// network is rewritten for inference first (BatchNorm folded, pointwise convolutions moved before upsampling); sums
/// and activations are computed in place.
struct ActivationMemory {
    std::int64_t lower_bound = 0; ///< largest sum of live values: no placement for this order needs less
    std::int64_t planned = 0;     ///< peak memory of the static plan
};

struct LayerComplexity {
    std::string name;
    std::string operation;                ///< "conv 3x3x3 stride 2 groups 16"
    std::array<std::int64_t, 5> output{}; ///< [batch, channel, x, y, z]
    bool seen_by_table2 = true; ///< false: a function call in the original code, which that counter does not see
    ComplexityCounts counts;
};

/// All layers whose names are equal up to the first dot.
struct StageComplexity {
    std::string name;
    ComplexityCounts counts;
};

struct ComplexityReport {
    NetworkDescription network;
    std::string status;                        ///< of the registered network; empty for a changed variant
    std::optional<PublishedFigures> published; ///< only for an unchanged registered network at the published input
    std::array<std::int64_t, 5> input{};       ///< [batch, channel, x, y, z]
    ComplexityCounts total;
    std::int64_t convolutions = 0;
    std::int64_t weight_bytes = 0; ///< learned scalars and running statistics, f32
    ActivationMemory memory;
    std::vector<StageComplexity> stages;
    std::vector<LayerComplexity> layers;
};

/// Counts a registered network or a JSON variant at an input of [batch, its channels, size x, size y, size z].
/// Errors: those of describe_network; invalid_argument (size is not a multiple of what the network needs); graph_invalid;
/// operation_unsupported; size_overflow.
MFRES_EXPORT Result<ComplexityReport> complexity(std::string_view name_or_json, const std::array<std::int64_t, 3>& size,
                                                 std::int64_t batch = 1);

/// One registered network and its published figures.
struct Table2Row {
    std::string name;
    std::string status;
    ComplexityCounts counts;
    std::optional<PublishedFigures> published; ///< not re-measured
};

struct Table2Report {
    std::array<std::int64_t, 5> input{};
    std::vector<Table2Row> rows;
};

/// All registered networks at input 1x4x128x128x128. Errors: those of `complexity`, none of which is expected.
MFRES_EXPORT Result<Table2Report> table2();

enum class ReportFormat : std::uint8_t { text, markdown, csv, json };

inline constexpr std::array<ReportFormat, 4> report_formats = {ReportFormat::text, ReportFormat::markdown,
                                                               ReportFormat::csv, ReportFormat::json};

/// "text", "markdown", "csv", "json"
MFRES_EXPORT std::string_view to_string(ReportFormat format) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<ReportFormat> parse_report_format(std::string_view text);

/// The report as text for a terminal of 120 columns, as Markdown, or as CSV or JSON with exact integers.
/// `per_layer` lists every layer instead of every stage; CSV without it has one line for the whole network.
MFRES_EXPORT std::string render(const ComplexityReport& report, ReportFormat format, bool per_layer = false);

/// Several networks in one table; JSON: an array of reports. With `per_layer`, the layers of each follow.
MFRES_EXPORT std::string render(const std::vector<ComplexityReport>& reports, ReportFormat format,
                                bool per_layer = false);

/// Published figures, counts in the Table 2 convention, residuals (count - published, absolute and per cent), both
/// paper formulas, published Dice (not re-measured) and the status of every network.
MFRES_EXPORT std::string render(const Table2Report& report, ReportFormat format);

} // namespace mfres
