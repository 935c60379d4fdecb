// SPDX-License-Identifier: MIT
// Segmentation metrics: Dice, sensitivity, specificity and HD95 per tumour region and case, and tables of many cases.
#pragma once

#include <mfres/export.h>
#include <mfres/regions.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

// Counts -------------------------------------------------------------------------------------------------------------

/// Voxels of one region.
struct RegionCount {
    std::int64_t true_positives = 0; ///< in the prediction and in the reference
    std::int64_t predicted = 0;      ///< in the prediction
    std::int64_t reference = 0;      ///< in the reference

    friend bool operator==(const RegionCount&, const RegionCount&) = default;
};

/// Voxel counts of every region. Counts of several cases may be added.
struct RegionCounts {
    std::int64_t voxels = 0;              ///< number of voxels compared
    std::array<RegionCount, 3> regions{}; ///< in the order of tumour_regions

    const RegionCount& operator[](TumourRegion region) const { return regions[static_cast<std::size_t>(region)]; }
    RegionCounts& operator+=(const RegionCounts& other);
    friend bool operator==(const RegionCounts&, const RegionCounts&) = default;
};

/// Compares two arrays of class indices 0..3; any other value counts as background. One pass, no allocation.
/// Precondition: equal lengths (otherwise the common prefix is counted).
MFRES_EXPORT RegionCounts count_regions(std::span<const std::uint8_t> predicted_classes,
                                        std::span<const std::uint8_t> reference_classes, RegionDefinition definition);

/// 2 |P n R| / (|P| + |R|) (Dice 1945; eq. 9-10 of the MF-RES2Net paper), 0..1; 1 where both are empty.
MFRES_EXPORT double dice(const RegionCount& count) noexcept;

/// |P n R| / |R|, 0..1. With an empty reference: 1 if the prediction is empty too, else 0.
MFRES_EXPORT double sensitivity(const RegionCount& count) noexcept;

/// The fraction of the voxels outside the reference that the prediction leaves out, 0..1; 1 if there are none.
/// `voxels` is the number of voxels compared. Over a whole grid with much background the value is close to 1. The
/// published values of the challenge server are lower than a 240 x 240 x 155 grid can give, so the server counted over
/// a smaller part of it.
MFRES_EXPORT double specificity(const RegionCount& count, std::int64_t voxels) noexcept;

// Surface distances --------------------------------------------------------------------------------------------------

/// The 95th percentile of the Hausdorff distance between two masks (non-zero = inside), mm, as the challenge server's
/// 2018/19 measure and medpy define it. The surface of a mask is its voxels with a 6-neighbour outside; voxels beyond
/// the array count as outside. The distances of the voxels of each surface to the other surface are pooled, and the
/// percentile is interpolated linearly. Exact Euclidean distances (Felzenszwalb and Huttenlocher, Distance Transforms
/// of Sampled Functions, 2012) within the common bounding box. Nothing if a mask is empty.
/// `size` voxels along i, j, k with i fastest, `spacing_mm` between their centres.
/// Errors: invalid_argument (lengths that are not the product of `size`, spacing not positive and finite),
/// memory_limit.
MFRES_EXPORT Result<std::optional<double>> hausdorff95(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                                                       const std::array<std::int64_t, 3>& size,
                                                       const std::array<double, 3>& spacing_mm);

// Cases --------------------------------------------------------------------------------------------------------------

/// Scores of a region whose prediction or reference is empty.
enum class EmptyScheme : std::uint8_t {
    server2019, ///< both empty: Dice, sensitivity and specificity 1, HD95 blank; one empty: Dice and sensitivity 0,
                ///< HD95 blank. Means skip blanks.
    brats2020,  ///< both empty: Dice 1, HD95 0; one empty: Dice 0, HD95 373.12866 mm; otherwise as server2019
};
inline constexpr std::array<EmptyScheme, 2> empty_schemes = {EmptyScheme::server2019, EmptyScheme::brats2020};

/// HD95 that BraTS 2020 gives a region which only one of prediction and reference has, mm: about the diagonal of
/// 240 x 240 x 155 voxels of 1 mm.
inline constexpr double worst_hd95_mm = 373.12866;

/// "server2019", "brats2020"
MFRES_EXPORT std::string_view to_string(EmptyScheme scheme) noexcept;

/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<EmptyScheme> parse_empty_scheme(std::string_view text);

enum class Metric : std::uint8_t { dice, sensitivity, specificity, hd95 };
inline constexpr std::array<Metric, 4> all_metrics = {Metric::dice, Metric::sensitivity, Metric::specificity,
                                                      Metric::hd95};

/// "Dice", "Sensitivity", "Specificity", "Hausdorff95", as in the challenge server's tables
MFRES_EXPORT std::string_view name(Metric metric) noexcept;

/// Metrics of one region of one case; nullopt = blank.
class MFRES_EXPORT RegionMetrics {
  public:
    std::optional<double>& operator[](Metric metric) { return values_[static_cast<std::size_t>(metric)]; }
    const std::optional<double>& operator[](Metric metric) const { return values_[static_cast<std::size_t>(metric)]; }
    friend bool operator==(const RegionMetrics&, const RegionMetrics&) = default;

  private:
    std::array<std::optional<double>, 4> values_;
};

struct CaseMetrics {
    std::string id;
    std::array<RegionMetrics, 3> regions; ///< in the order of tumour_regions
    std::string site{};                   ///< empty = site_of the id alone

    RegionMetrics& operator[](TumourRegion region) { return regions[static_cast<std::size_t>(region)]; }
    const RegionMetrics& operator[](TumourRegion region) const { return regions[static_cast<std::size_t>(region)]; }
    friend bool operator==(const CaseMetrics&, const CaseMetrics&) = default;
};

/// Measures one case: two maps of class indices 0..3 on one grid. The result does not depend on `threads` (0 = all).
/// Errors: grid_size_mismatch, grid_position_mismatch (corners more than 0.1 mm apart), label_outside_scheme (a value
/// that is not a class), invalid_argument (the number of voxels differs from the grid's size), memory_limit.
MFRES_EXPORT Result<CaseMetrics> evaluate_case(std::string id, const LabelMap& predicted_classes,
                                               const LabelMap& reference_classes, RegionDefinition definition,
                                               EmptyScheme scheme, int threads = 1);

// Tables -------------------------------------------------------------------------------------------------------------

/// Measurements of many cases.
struct MetricsTable {
    std::vector<CaseMetrics> cases;
    std::optional<RegionDefinition> definition; ///< nullopt if a table file does not state it
    std::optional<EmptyScheme> scheme;          ///< likewise
    std::vector<std::string> notes;             ///< remarks for the report
    /// What the labels of the references were read as: a scheme's name or a mapping. Empty where class indices were
    /// compared, and for a table file.
    std::string labels{};
};

/// One column of a table; blanks are skipped.
struct Statistics {
    std::int64_t count = 0;          ///< values that are not blank
    std::optional<double> mean;      ///< nullopt without values, as all below
    std::optional<double> deviation; ///< of the sample (divided by count - 1); nullopt below two values
    std::optional<double> median;    ///< quantiles are interpolated linearly
    std::optional<double> lower_quartile;
    std::optional<double> upper_quartile;
};

/// Statistics of finite values, in any order.
MFRES_EXPORT Statistics statistics(std::vector<double> values);

/// Every column of a table.
struct MetricsSummary {
    std::int64_t cases = 0;
    std::array<std::array<Statistics, 4>, 3> columns; ///< [region][metric]

    const Statistics& at(TumourRegion region, Metric metric) const& {
        return columns[static_cast<std::size_t>(region)][static_cast<std::size_t>(metric)];
    }
    const Statistics& at(TumourRegion region, Metric metric) const&& = delete; ///< would dangle
};
MFRES_EXPORT MetricsSummary summarise(const MetricsTable& table);

// Sites --------------------------------------------------------------------------------------------------------------

/// The hospital, or the collection, that a case id names, since a mean over several hides the one that fails:
///   Brats17_, Brats18_, BraTS19_: what follows (CBICA_AAB_1), TCIA without number   CBICA, 2013, UAB, TCIA
///   BraTS20_, BraTS2021_                                                            BraTS2020, BraTS2021
///   BraTS-SSA-                                                                      BraTS-Africa
///   BraTS-GLI- and other challenges of BraTS 2023 and later                         BraTS-GLI
///   UPENN-GBM-, TCGA-                                                               UPENN, TCGA
/// with "BraTS" in small or capital letters. Empty where it names none.
MFRES_EXPORT std::string site_named_by(std::string_view id);

/// Sites by case id.
using SiteTable = std::map<std::string, std::string, std::less<>>;

/// Reads a CSV table with the columns case and site in any order, and no other. Errors: table_invalid (naming file,
/// line and value: other columns, a row without case or site, a case that is named twice), file_not_found, file_read.
MFRES_EXPORT Result<SiteTable> read_sites(const std::filesystem::path& path);

/// The site of a case that nothing is known of.
inline constexpr std::string_view unknown_site = "unknown";

/// The site of a case: what `sites` says; else what its id names; else `source`, the name of the folder or file it
/// comes from.
MFRES_EXPORT std::string site_of(std::string_view id, const SiteTable& sites = {},
                                 std::string_view source = unknown_site);

/// Sets the site of every case. Cases that `sites` names and the table does not hold are told in a note.
MFRES_EXPORT void set_sites(MetricsTable& table, const SiteTable& sites, std::string_view source);

/// The cases of one site.
struct SiteSummary {
    std::string site;
    MetricsSummary summary;
};

/// A summary for each site of a table, in the order of their names.
MFRES_EXPORT std::vector<SiteSummary> summarise_by_site(const MetricsTable& table);

/// Site,Cases,Dice_ET,Dice_WT,...,Hausdorff95_TC: the means of each site in the columns of the challenge server's
/// tables. Blank = no value.
MFRES_EXPORT std::string sites_csv(const MetricsTable& table);

/// The table under another scheme. From server2019 to brats2020, blank HD95 values become 0 where Dice is 1 and
/// 373.12866 where it is 0. From brats2020 to server2019 the values are unchanged, because the original blanks cannot
/// be identified.
MFRES_EXPORT MetricsTable with_scheme(MetricsTable table, EmptyScheme scheme);

/// The table as the challenge server writes it: Label,Dice_ET,Dice_WT,Dice_TC,Sensitivity_ET,...,Hausdorff95_TC, one
/// row per case, then Mean, StdDev, Median, 25quantile and 75quantile. Blank = no value. Numbers are the shortest
/// that read back as the same double.
MFRES_EXPORT std::string to_csv(const MetricsTable& table);

/// Reads such a table. Columns may be in any order; absent ones are blank. The summary rows of the file are not cases:
/// they are compared with the computed statistics, and a note states the result. `source` is named in errors.
/// Errors: table_invalid, naming line, column and value: unknown, repeated or missing columns, another number of cells
/// than columns, a value that is not a finite number, a Dice, sensitivity or specificity outside 0..1, a negative
/// distance, a repeated or empty label, no case, an unclosed quotation mark.
MFRES_EXPORT Result<MetricsTable> parse_csv(std::string_view csv, const std::string& source);

/// parse_csv of a file of at most 64 MiB. Errors: also file_not_found, file_read.
MFRES_EXPORT Result<MetricsTable> read_csv(const std::filesystem::path& path);

/// Names, statistics of every column over all cases and by site, notes and every case as a JSON object; numbers read back as the same double.
MFRES_EXPORT std::string to_json(const MetricsTable& table);

/// The statistics as a Markdown table under a line that names definition and scheme, then the mean Dice of each site
/// where the site of any case is known.
MFRES_EXPORT std::string to_markdown(const MetricsTable& table);

} // namespace mfres
