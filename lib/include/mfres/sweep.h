// SPDX-License-Identifier: MIT
// Two networks beside each other, and many variants of one under budgets.
#pragma once

#include <mfres/complexity.h>
#include <mfres/compute.h>
#include <mfres/export.h>
#include <mfres/segmenter.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// A layer or stage of two networks, matched by its name.
struct ComparedPart {
    std::string name;
    std::optional<std::string> operation_a, operation_b; ///< of a layer; empty for a stage; none: only in the other one
    std::optional<ComplexityCounts> a, b;
    bool equal = false; ///< the same operation with the same counts
};

/// Predicted times of both networks on one machine (machine.h).
struct ComparedTime {
    std::string machine;
    Precision precision = Precision::f32;
    int threads = 1;
    double a_ms = 0.0;
    double b_ms = 0.0;
};

struct ComplexityComparison {
    ComplexityReport a, b;
    std::vector<ComparedTime> predicted; ///< filled by the caller
    std::vector<ComparedPart> stages;    ///< in the order of a, those only in b where b has them
    std::vector<ComparedPart> layers;
};

/// Matches layers and stages by name: of several with one name the first with the first, and so on.
MFRES_EXPORT ComplexityComparison compare(ComplexityReport a, ComplexityReport b);

/// What differs: stages, or with `per_layer` layers, that are not equal; then the totals. JSON and CSV have the equal ones
/// too.
MFRES_EXPORT std::string render(const ComplexityComparison& comparison, ReportFormat format, bool per_layer = false);

/// One key that is varied. Values are JSON. Beside the keys of the network there are "size" ("96" or "[240, 240, 160]")
/// and "scale": a factor for all lists of widths, whose entries are rounded to multiples of 8, least 8.
struct SweepAxis {
    std::string key;
    std::vector<std::string> values;
};

struct SweepBudget {
    std::optional<std::int64_t> parameters, macs, bytes; ///< bytes: weights and peak memory of activations
    std::optional<double> ms;
};

struct SweepOptions {
    std::string network = "mf-res2net"; ///< a name or JSON: what the axes change
    std::vector<SweepAxis> axes;        ///< every combination of their values, the last axis fastest
    std::array<std::int64_t, 3> size{128, 128, 128};
    std::int64_t batch = 1;
    SweepBudget budget;
    /// Predicted milliseconds of a variant's JSON at a size. Null: none are predicted.
    std::function<Result<double>(const std::string& json, const std::array<std::int64_t, 3>& size)> predict;
};

inline constexpr std::int64_t max_sweep_variants = 100'000;

struct SweepVariant {
    std::vector<std::string> values; ///< one per axis
    std::string json;                ///< of the variant, canonical
    std::array<std::int64_t, 3> size{};
    std::int64_t parameters = 0;
    std::int64_t macs = 0;
    std::int64_t table2_flops = 0;
    std::int64_t bytes = 0; ///< weights and peak memory of activations, as the budget has it
    std::optional<double> ms;
    bool within = true; ///< all budgets
    /// Within the budgets, and no other such variant has as many parameters or more for less: time, or multiply-adds
    /// without a prediction.
    bool pareto = false;
};

/// A combination that is no variant.
struct SweepRejection {
    std::vector<std::string> values;
    std::string reason;
};

struct SweepReport {
    std::string network;
    std::vector<std::string> keys; ///< of the axes
    SweepBudget budget;
    bool predicted = false;
    std::vector<SweepVariant> variants;
    std::vector<SweepRejection> rejected;
};

/// Counts every combination. Errors: invalid_argument (no axis, a key or value that is impossible, more than
/// max_sweep_variants combinations), those of describe_network for the network itself, interrupted.
MFRES_EXPORT Result<SweepReport> sweep(const SweepOptions& options, const Progress& progress = {});

/// Text, Markdown and HTML: the Pareto front, then others within the budgets, at most `rows` in all. CSV and JSON: all.
MFRES_EXPORT std::string render(const SweepReport& report, ReportFormat format, std::size_t rows = 40);

/// Parameters against time, or multiply-adds, with the Pareto front. SVG.
MFRES_EXPORT std::string pareto_svg(const SweepReport& report);

} // namespace mfres
