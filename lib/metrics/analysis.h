// SPDX-License-Identifier: MIT
// What a table of measurements tells beyond its statistics: confidence intervals, outliers, and the differences between two
// tables of the same cases.
#pragma once

#include <mfres/metrics.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mfres {

struct Interval {
    double low = 0.0;
    double high = 0.0;
    friend bool operator==(const Interval&, const Interval&) = default;
};

inline constexpr int bootstrap_resamples = 10'000;

/// The 95 % percentile interval of the mean by the bootstrap (Efron 1979): the 2.5 and 97.5 percentiles of the means of
/// bootstrap_resamples samples of the same size, drawn with replacement. The same values give the same interval. Nothing
/// below two values.
std::optional<Interval> mean_interval(std::span<const double> values);

/// A value of a case that is far from those of the others (Tukey 1977): Dice, sensitivity or specificity more than 1.5
/// times the distance of the quartiles below the lower one, or HD95 as much above the upper one.
struct Outlier {
    std::size_t index = 0; ///< of the case in the table
    TumourRegion region = TumourRegion::wt;
    Metric metric = Metric::dice;
    double value = 0.0;
    double limit = 0.0;
};
/// In the order of the cases, of Dice and HD95. Below 5 values of a column there are none.
std::vector<Outlier> outliers(const MetricsTable& table);

/// The cases by their mean Dice over the regions, the lowest first; indices into the table.
std::vector<std::size_t> by_dice(const MetricsTable& table);
/// That mean; nothing where all are blank.
std::optional<double> mean_dice(const CaseMetrics& measured);

/// The `most` cases of lowest Dice as a Markdown table of Dice and HD95, outliers marked with '*'. Empty for `most` = 0.
std::string cases_markdown(const MetricsTable& table, std::size_t most);

/// The 95 % intervals of the means of Dice and HD95 as a sentence; empty below two cases.
std::string intervals_sentence(const MetricsTable& table);

/// The table of to_csv without the rows of its summary.
std::string cases_csv(const MetricsTable& table);
/// Those rows alone, and two more, CI95low and CI95high: mean_interval of each column.
std::string summary_csv(const MetricsTable& table);

/// The JSON object of to_json with "confidence_95" ([low, high] of the mean of each column) and "outliers".
std::string to_json_with_analysis(const MetricsTable& table);

/// One column of two tables, over the cases that have a value in both.
struct PairedDifference {
    std::int64_t count = 0;
    std::int64_t higher = 0, equal = 0, lower = 0; ///< cases in which the second is higher than the first, and so on
    std::optional<double> first_mean, second_mean, mean; ///< of the differences, second - first
    std::optional<Interval> interval;                    ///< mean_interval of the differences
};

struct TableComparison {
    std::string first, second;                              ///< names
    std::int64_t cases = 0;                                 ///< in both
    std::array<std::array<PairedDifference, 4>, 3> columns; ///< [region][metric]
    std::vector<std::string> notes;                         ///< cases that are in one table only
};

/// Pairs cases by their ids. Errors: dataset_empty (no case is in both).
Result<TableComparison> compare_tables(const MetricsTable& first, const std::string& first_name,
                                       const MetricsTable& second, const std::string& second_name);

std::string to_json(const TableComparison& comparison);
/// A row per metric and region. A difference whose interval does not contain 0 is marked with '*'.
std::string to_markdown(const TableComparison& comparison);

/// A page (HTML) of a table that needs no network: means with intervals, and every case with bars, the lowest Dice first;
/// columns are sorted by a click. `facts` are shown at its end: what made the table.
std::string evaluation_page(const MetricsTable& table, const std::string& title,
                            const std::vector<std::pair<std::string, std::string>>& facts);

} // namespace mfres
