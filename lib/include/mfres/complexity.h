// SPDX-License-Identifier: MIT
// Parameters, operations, memory traffic and memory of a network at a given input size, in three named conventions. The
// network is a registered one, a variant of it, or any ONNX file.
#pragma once

#include <mfres/export.h>
#include <mfres/network.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Exact integers of a layer, a stage or a network.
struct ComplexityCounts {
    std::int64_t learnables = 0;       ///< learned scalars: weights, real biases, norm scale and shift, branch weights
    std::int64_t macs = 0;             ///< multiply-accumulates of convolutions and products of matrices
    std::int64_t table2_flops = 0;     ///< operations as the counter behind the paper's Table 2 counts them
    std::int64_t eq11_parameters = 0;  ///< paper, eq. 11: biases always counted, normalisations not
    std::int64_t eq13_flops = 0;       ///< paper, eq. 13: twice the MACs
    std::int64_t activation_bytes = 0; ///< of all outputs: 4 bytes an element, or as an ONNX file types them
    /// Memory traffic if every layer reads each operand and parameter once and writes its output once. A layer that takes
    /// a part of its operand reads that part; one that only gives a value another shape moves nothing.
    std::int64_t bytes_read = 0;
    std::int64_t bytes_written = 0;
};

/// Arithmetic intensity: operations of eq. 13 per byte read or written; 0 where nothing is moved.
MFRES_EXPORT double arithmetic_intensity(const ComplexityCounts& counts) noexcept;

/// Activation memory of one inference in bytes (f32), with values placed in one arena according to their lifetimes. The
/// network is rewritten for inference first (BatchNorm folded, pointwise convolutions moved before upsampling); sums
/// and activations are computed in place.
struct ActivationMemory {
    std::int64_t lower_bound = 0; ///< largest sum of live values: no placement for this order needs less
    std::int64_t planned = 0;     ///< peak memory of the static plan
};

struct LayerComplexity {
    std::string name;
    std::string operation;            ///< "conv 3x3x3 stride 2 groups 16"
    std::vector<std::int64_t> output; ///< [batch, channel, x, y, z], or what an ONNX file gives
    bool seen_by_table2 = true;       ///< false: a function call in the original code, which that counter does not see
    /// Bytes of all values that are stored while the layer runs, its output included: every output has memory of its own
    /// until its last reader has run. As the network is written, before any rewrite.
    std::int64_t live_bytes = 0;
    ComplexityCounts counts;
};

/// All layers whose names are equal up to the first dot.
struct StageComplexity {
    std::string name;
    ComplexityCounts counts;
};

/// An input of an ONNX file.
struct OnnxInput {
    std::string name;
    std::vector<std::int64_t> shape;
};

/// A node that was left out because its operator cannot be counted (OnnxComplexityOptions::allow_unknown).
struct ExcludedNode {
    std::string node;
    std::string operation;
    std::string reason;
};

/// What a report of an ONNX file says beside its counts.
struct OnnxSource {
    std::string file;
    std::string producer;   ///< "pytorch 2.4"; empty if the file does not say
    std::int64_t opset = 0; ///< version of the operators
    std::vector<OnnxInput> inputs;
    std::vector<ExcludedNode> excluded; ///< in the order of the file
};

struct ComplexityReport {
    NetworkDescription network; ///< of an ONNX file only the name
    std::optional<OnnxSource> onnx;
    std::string status;                        ///< of the registered network; empty for a changed variant
    std::optional<PublishedFigures> published; ///< only for an unchanged registered network at the published input
    std::vector<std::int64_t> input;           ///< [batch, channel, x, y, z]; the first input of an ONNX file
    ComplexityCounts total;
    std::int64_t convolutions = 0;
    std::int64_t weight_bytes = 0; ///< learned scalars and running statistics
    ActivationMemory memory;       ///< of an ONNX file as it is written
    std::int64_t peak_bytes = 0;   ///< the largest live_bytes of all layers
    std::vector<StageComplexity> stages;
    std::vector<LayerComplexity> layers;
};

/// Counts a registered network or a JSON variant at an input of [batch, its channels, size x, size y, size z].
/// Errors: those of describe_network; invalid_argument (size is not a multiple of what the network needs); graph_invalid;
/// operation_unsupported; size_overflow.
MFRES_EXPORT Result<ComplexityReport> complexity(std::string_view name_or_json, const std::array<std::int64_t, 3>& size,
                                                 std::int64_t batch = 1);

struct OnnxComplexityOptions {
    /// Shapes of inputs by name, [batch, channel, ...]. They replace what the file says, and must be there for every input
    /// with free axes. An empty name stands for the only input.
    std::map<std::string, std::vector<std::int64_t>, std::less<>> inputs;
    /// Nodes that cannot be counted are listed and left out, and so are those whose operands come from them, unless the
    /// file gives their shapes.
    bool allow_unknown = false;
};

/// Counts any ONNX network, 2-D ones and transformers too, by the shapes of its values, which are inferred. Nothing is
/// executed and no tensor in another file is opened. docs/complexity.md says how every operator is counted.
/// Learnables are all initialisers of a floating-point type with at least one axis that a layer reads, each once, but the
/// running statistics of BatchNormalization, and integers that DequantizeLinear reads.
/// Errors: those of read_file; model_header_invalid (no ONNX, or an inconsistent graph), model_tensor_size,
/// invalid_argument (an input without a shape, or of other axes), operation_unsupported (an operator, or a shape that is
/// known only when the network runs; names the node and its operator), size_overflow, backend_unavailable.
MFRES_EXPORT Result<ComplexityReport> onnx_complexity(const std::filesystem::path& path,
                                                      const OnnxComplexityOptions& options = {});

/// One registered network and its published figures.
struct Table2Row {
    std::string name;
    std::string status;
    ComplexityCounts counts;
    std::optional<PublishedFigures> published; ///< not re-measured
};

struct Table2Report {
    std::vector<std::int64_t> input;
    std::vector<Table2Row> rows;
};

/// All registered networks at input 1x4x128x128x128. Errors: those of `complexity`, none of which is expected.
MFRES_EXPORT Result<Table2Report> table2();

enum class ReportFormat : std::uint8_t { text, markdown, csv, json, html };

inline constexpr std::array<ReportFormat, 5> report_formats = {
    ReportFormat::text, ReportFormat::markdown, ReportFormat::csv, ReportFormat::json, ReportFormat::html};

/// "text", "markdown", "csv", "json", "html"
MFRES_EXPORT std::string_view to_string(ReportFormat format) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<ReportFormat> parse_report_format(std::string_view text);

/// The report as text for a terminal of 120 columns, as Markdown, as a page of HTML, or as CSV or JSON with exact integers.
/// `per_layer` lists every layer instead of every stage; CSV without it has one line for the whole network.
MFRES_EXPORT std::string render(const ComplexityReport& report, ReportFormat format, bool per_layer = false);

/// Several networks in one table; JSON: an array of reports. With `per_layer`, the layers of each follow.
MFRES_EXPORT std::string render(const std::vector<ComplexityReport>& reports, ReportFormat format,
                                bool per_layer = false);

/// Published figures, counts in the Table 2 convention, residuals (count - published, absolute and per cent), both
/// paper formulas, published Dice (not re-measured) and the status of every network.
MFRES_EXPORT std::string render(const Table2Report& report, ReportFormat format);

} // namespace mfres
