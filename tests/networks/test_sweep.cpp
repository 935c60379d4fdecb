// SPDX-License-Identifier: MIT
// Comparisons of two networks, sweeps over variants, and what is printed of them.
#include "support/catch.h"

#include <mfres/sweep.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <regex>
#include <set>
#include <sstream>

using namespace mfres;
using nlohmann::json;

namespace {

ComplexityReport counted(const std::string& network, std::int64_t edge = 64) {
    auto report = complexity(network, {edge, edge, edge});
    REQUIRE_OK(report);
    return std::move(report).value();
}

SweepReport swept(const SweepOptions& options) {
    auto report = sweep(options);
    REQUIRE_OK(report);
    return std::move(report).value();
}

/// All texts of a JSON value, with spaces between.
std::string words_of(const json& value) {
    if (value.is_string())
        return value.get<std::string>() + ' ';
    std::string all;
    if (value.is_structured())
        for (const json& entry : value)
            all += words_of(entry);
    return all;
}

void numbers_of(const json& value, std::vector<double>& all) {
    if (value.is_number())
        all.push_back(value.get<double>());
    if (value.is_structured())
        for (const json& entry : value)
            numbers_of(entry, all);
    if (value.is_array())
        all.push_back(static_cast<double>(value.size()));
}

/// Every number of the text is in a text of the JSON, or one of its numbers: as it is, in
/// thousands, millions, 2^20 or per cent, rounded to the decimals that are shown.
std::vector<std::string> missing_numbers(const std::string& text, const json& values) {
    std::vector<double> known;
    numbers_of(values, known);
    const std::string words = words_of(values);
    std::vector<std::string> missing;
    static const std::regex number(R"((?:^|[ \n])([+-]?[0-9][0-9,]*(?:\.[0-9]+)?)(?=[ \n]|$))");
    for (std::sregex_iterator at(text.begin(), text.end(), number), end; at != end; ++at) {
        std::string digits = (*at)[1];
        digits.erase(std::remove(digits.begin(), digits.end(), ','), digits.end());
        const double shown = std::stod(digits);
        const std::size_t point = digits.find('.');
        const double step =
            point == std::string::npos ? 1.0 : std::pow(10.0, 1.0 + double(point) - double(digits.size()));
        const bool found = std::any_of(known.begin(), known.end(), [&](double value) {
            for (const double unit : {1.0, 1e-2, 1e3, 1e6, 1e9, 1048576.0})
                if (std::abs(value / unit - shown) <= 0.5001 * step)
                    return true;
            return false;
        });
        if (!found && words.find((*at)[1]) == std::string::npos)
            missing.push_back((*at)[1]);
    }
    return missing;
}

} // namespace

TEST_CASE("a network compared with itself has no difference, and with a variant that of its counts") {
    const ComplexityComparison same = compare(counted("mf-res2net"), counted("mf-res2net"));
    CHECK(std::all_of(same.layers.begin(), same.layers.end(), [](const ComparedPart& part) { return part.equal; }));
    CHECK(same.layers.size() == same.a.layers.size());

    const ComplexityComparison other =
        compare(counted("mf-res2net"), counted(R"({"network": "mf-res2net", "units": [2, 1, 2, 3]})"));
    std::int64_t difference = 0;
    std::set<std::string> only_a, only_b;
    for (const ComparedPart& part : other.layers) {
        difference += (part.b ? part.b->macs : 0) - (part.a ? part.a->macs : 0);
        if (!part.b)
            only_a.insert(part.name.substr(0, 10));
        if (!part.a)
            only_b.insert(part.name.substr(0, 10));
        CHECK((part.a || part.b));
    }
    CHECK(difference == other.b.total.macs - other.a.total.macs);
    CHECK(only_a == std::set<std::string>{"enc2.unit2"});
    CHECK(only_b == std::set<std::string>{"enc4.unit3"});
    const auto place = [&](const std::string& name) {
        return std::find_if(other.layers.begin(), other.layers.end(),
                            [&](const ComparedPart& part) { return part.name.starts_with(name); });
    };
    CHECK(place("enc4.unit3") < place("dec1")); // where b has it
}

TEST_CASE(
    "a comparison is printed in every format, and every number of the text is in the JSON or a difference of it") {
    const ComplexityComparison both = compare(counted("mfnet-96"), counted("dmfnet"));
    const json parsed = json::parse(render(both, ReportFormat::json, true));
    CHECK(parsed.at("a").at("macs") == both.a.total.macs);
    CHECK(parsed.at("layers").size() == both.layers.size());
    const std::string text = render(both, ReportFormat::text);
    INFO(text);
    CHECK(text.find("+2,062,530") != std::string::npos); // 3,875,890 - 1,813,360
    for (const ReportFormat format : report_formats)
        CHECK(render(both, format).find("encoder_block2") != std::string::npos);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);)
        CHECK(line.size() <= 120);
    const std::string csv = render(both, ReportFormat::csv, true);
    CHECK(std::count(csv.begin(), csv.end(), '\n') == static_cast<std::ptrdiff_t>(both.layers.size()) + 1);
}

TEST_CASE("every number of the text of a report is in its JSON") {
    for (const char* network : {"mf-res2net", "3d-espnet", "no-new-net"})
        for (const bool per_layer : {false, true}) {
            const ComplexityReport report = counted(network);
            const std::string text = render(report, ReportFormat::text, per_layer);
            const auto missing = missing_numbers(text.substr(0, text.find("Conventions.")),
                                                 json::parse(render(report, ReportFormat::json, per_layer)));
            INFO(network << ' ' << (missing.empty() ? "" : missing.front()) << '\n' << text);
            CHECK(missing.empty());
        }
}

TEST_CASE("a sweep counts every combination as complexity does, and names those that are no variants") {
    SweepOptions options;
    options.axes = {{"splits", {"2", "4", "3"}}, {"size", {"64", "[64, 32, 32]"}}};
    const SweepReport report = swept(options);
    REQUIRE(report.variants.size() == 4);
    REQUIRE(report.rejected.size() == 2);
    CHECK(report.rejected[0].values == std::vector<std::string>{"3", "64"});
    CHECK(report.rejected[0].reason.find("splits") != std::string::npos);
    const SweepVariant& last = report.variants[3];
    CHECK(last.values == std::vector<std::string>{"4", "[64, 32, 32]"});
    const auto known = complexity(last.json, {64, 32, 32});
    REQUIRE_OK(known);
    CHECK(last.parameters == known->total.learnables);
    CHECK(last.macs == known->total.macs);
    CHECK(last.table2_flops == known->total.table2_flops);
    CHECK(last.bytes == known->weight_bytes + known->memory.planned);
    CHECK_FALSE(last.ms);
}

TEST_CASE("the scale of a sweep multiplies all widths and keeps them multiples of 8") {
    SweepOptions options;
    options.size = {32, 32, 32};
    options.axes = {{"scale", {"0.5", "1"}}, {"widths", {"[16, 64, 112, 240]", "[24, 64, 112, 240]"}}};
    const SweepReport report = swept(options);
    REQUIRE(report.variants.size() == 4);
    CHECK(json::parse(report.variants[0].json).at("widths") == json({8, 32, 56, 120}));
    CHECK(json::parse(report.variants[0].json).at("decoder") == json({40, 16, 8, 8}));
    CHECK(json::parse(report.variants[2].json).at("widths") == json({16, 64, 112, 240}));
}

TEST_CASE("budgets of a sweep hold, and its Pareto front is what a search over all pairs finds") {
    SweepOptions options;
    options.size = {32, 32, 32};
    options.axes = {{"scale", {"0.5", "0.75", "1", "1.5"}},
                    {"units", {"[1,1,1,1]", "[2,2,2,2]", "[1,1,3,3]"}},
                    {"splits", {"1", "2", "4"}}};
    options.budget.macs = 400'000'000;
    options.budget.parameters = 4'000'000;
    options.predict = [](const std::string& variant, const std::array<std::int64_t, 3>&) -> Result<double> {
        return static_cast<double>(variant.size()) + 0.25; // any number
    };
    options.budget.ms = 1e6;
    const SweepReport report = swept(options);
    CHECK(report.variants.size() == 36);
    std::size_t within = 0;
    std::size_t front = 0;
    for (const SweepVariant& variant : report.variants) {
        REQUIRE(variant.ms);
        CHECK(variant.within == (variant.macs <= 400'000'000 && variant.parameters <= 4'000'000));
        const bool beaten = std::any_of(report.variants.begin(), report.variants.end(), [&](const SweepVariant& other) {
            const bool better = other.parameters > variant.parameters || *other.ms < *variant.ms;
            return other.within && other.parameters >= variant.parameters && *other.ms <= *variant.ms && better;
        });
        if (variant.pareto)
            CHECK((variant.within && !beaten));
        within += variant.within ? 1 : 0;
        front += variant.pareto ? 1 : 0;
    }
    CHECK(within > 0);
    CHECK(within < 36);
    CHECK(front > 0);
    const json parsed = json::parse(render(report, ReportFormat::json));
    CHECK(parsed.at("variants").size() == 36);
    const std::string text = render(report, ReportFormat::text);
    const auto missing = missing_numbers(text.substr(0, text.find("MiB: weights")), parsed);
    INFO((missing.empty() ? "" : missing.front()) << '\n' << text);
    CHECK(missing.empty());
    const std::string csv = render(report, ReportFormat::csv);
    CHECK(std::count(csv.begin(), csv.end(), '\n') == 37);
    const std::string svg = pareto_svg(report);
    CHECK(svg.find("<svg") != std::string::npos);
    CHECK(render(report, ReportFormat::html).find("<svg") != std::string::npos);
}

TEST_CASE("a sweep of 1,000 variants counts all of them") {
    SweepOptions options;
    options.size = {64, 64, 64};
    options.axes = {{"splits", {"1", "2", "4", "8"}},
                    {"mf_reduction", {"1", "2", "4", "8"}},
                    {"scale", {"0.25", "0.5", "0.75", "1", "1.25", "1.5", "1.75", "2"}},
                    {"units", {"[1,1,1,1]", "[1,1,2,2]", "[2,2,1,1]", "[2,2,2,2]"}},
                    {"size", {"32", "64"}}};
    const SweepReport report = swept(options);
    CHECK(report.variants.size() + report.rejected.size() == 1024);
    CHECK(report.variants.size() >= 1000);
}

TEST_CASE("impossible sweeps are rejected") {
    const auto rejected = [](const SweepAxis& axis) {
        SweepOptions options;
        options.axes = {axis};
        return sweep(options);
    };
    REQUIRE_CODE(sweep({}), invalid_argument);
    REQUIRE_CODE(rejected({"depth", {"1"}}), invalid_argument);
    REQUIRE_CODE(rejected({"splits", {}}), invalid_argument);
    REQUIRE_CODE(rejected({"splits", {"{"}}), json_invalid);
    REQUIRE_CODE(rejected({"size", {"0"}}), invalid_argument);
    REQUIRE_CODE(rejected({"size", {"[16, 16]"}}), invalid_argument);
    REQUIRE_CODE(rejected({"scale", {"-1"}}), invalid_argument);
    REQUIRE_CODE(rejected({"splits", std::vector<std::string>(100'001, "1")}), invalid_argument);
    SweepOptions unknown;
    unknown.network = "resnet";
    REQUIRE_CODE(sweep(unknown), network_unknown);
    SweepOptions stopped;
    stopped.axes = {{"splits", {"1", "2"}}};
    REQUIRE_CODE(sweep(stopped, [](std::string_view, double) { return false; }), interrupted);
}
