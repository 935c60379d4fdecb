// SPDX-License-Identifier: MIT
// Which hospital a case comes from, and what a table says of each.
#include "core/file.h"
#include "core/guard.h"
#include "core/try.h"
#include "metrics/csv_rows.h"

#include <mfres/metrics.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace mfres {

namespace {

std::string capitals(std::string_view words) {
    std::string all(words);
    std::transform(all.begin(), all.end(), all.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    return all;
}

bool are_digits(std::string_view words) {
    return !words.empty() &&
           std::all_of(words.begin(), words.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// The site within an id of BraTS 2017 to 2019: "CBICA" of "CBICA_AAB_1".
std::string site_in_release(std::string_view rest) {
    constexpr std::string_view numbered = "TCIA";
    const std::size_t end = rest.find('_');
    if (end == std::string_view::npos) // nothing that it could be the site of
        return {};
    const std::string_view site = rest.substr(0, end);
    const bool has_number = site.starts_with(numbered) && are_digits(site.substr(numbered.size()));
    return std::string(has_number ? numbered : site);
}

/// Of ids that begin with BraTS and a year: "Brats18_CBICA_AAB_1".
std::string site_of_year(std::string_view id) {
    constexpr std::string_view brats = "BraTS";
    const std::string_view year = id.substr(brats.size(), id.find('_') - brats.size());
    const std::string_view rest = id.substr(std::min(id.size(), brats.size() + year.size() + 1));
    for (const std::string_view release : {"17", "18", "19"})
        if (year == release)
            return site_in_release(rest);
    if (year == "20" || year == "2020")
        return "BraTS2020";
    return year == "2021" ? "BraTS2021" : "";
}

/// Of ids like "BRATS-GLI-00005-000" in capitals.
std::string site_of_challenge(std::string_view id) {
    const std::string_view rest = id.substr(std::string_view("BRATS-").size());
    const std::string_view challenge = rest.substr(0, rest.find('-'));
    if (challenge.empty() || challenge.size() == rest.size())
        return {};
    return challenge == "SSA" ? "BraTS-Africa" : "BraTS-" + std::string(challenge);
}

Error invalid(const std::string& source, std::size_t line, const std::string& what) {
    return {ErrorCode::table_invalid, text(source, ", line ", line, ": ", what), source};
}

Result<SiteTable> parse_sites(std::string_view csv, const std::string& source) {
    MFRES_TRY(const auto rows, csv_rows(csv, source));
    using Cells = std::vector<std::string>;
    const bool case_first = !rows.empty() && rows[0].cells == Cells{"case", "site"};
    if (!case_first && (rows.empty() || rows[0].cells != Cells{"site", "case"}))
        return invalid(source, 1, "a table of sites has two columns, and begins with the line \"case,site\"");
    SiteTable sites;
    for (std::size_t r = 1; r < rows.size(); ++r) {
        const CsvRow& row = rows[r];
        if (row.cells.size() != 2 || row.cells[0].empty() || row.cells[1].empty())
            return invalid(source, row.line, "a row has a case and its site, neither of them empty");
        const auto& [id, site] =
            case_first ? std::pair(row.cells[0], row.cells[1]) : std::pair(row.cells[1], row.cells[0]);
        if (!sites.emplace(id, site).second)
            return invalid(source, row.line, text("the case \"", id, "\" appears twice"));
    }
    return sites;
}

} // namespace

std::string site_named_by(std::string_view id) {
    const std::string words = capitals(id);
    if (words.starts_with("BRATS-"))
        return site_of_challenge(words);
    if (words.starts_with("BRATS"))
        return site_of_year(id);
    if (words.starts_with("UPENN-GBM-"))
        return "UPENN";
    return words.starts_with("TCGA-") ? "TCGA" : "";
}

Result<SiteTable> read_sites(const std::filesystem::path& path) {
    constexpr std::uint64_t largest_file = std::uint64_t{64} << 20U;
    return guarded(path, [&]() -> Result<SiteTable> {
        MFRES_TRY(const auto bytes, read_file(path, largest_file, ErrorCode::table_invalid));
        return parse_sites({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
    });
}

std::string site_of(std::string_view id, const SiteTable& sites, std::string_view source) {
    if (const auto told = sites.find(id); told != sites.end())
        return told->second;
    if (std::string named = site_named_by(id); !named.empty())
        return named;
    return std::string(source);
}

void set_sites(MetricsTable& table, const SiteTable& sites, std::string_view source) {
    std::size_t found = 0;
    for (CaseMetrics& measured : table.cases) {
        found += sites.count(measured.id);
        measured.site = site_of(measured.id, sites, source);
    }
    if (found < sites.size())
        table.notes.push_back(text("The table of sites names ", sites.size() - found, " of ", sites.size(),
                                   " cases that were not measured."));
}

std::vector<SiteSummary> summarise_by_site(const MetricsTable& table) {
    std::map<std::string, MetricsTable> by_site;
    for (const CaseMetrics& measured : table.cases)
        by_site[measured.site.empty() ? site_of(measured.id) : measured.site].cases.push_back(measured);
    std::vector<SiteSummary> all;
    for (const auto& [site, cases] : by_site)
        all.push_back({site, summarise(cases)});
    return all;
}

} // namespace mfres
