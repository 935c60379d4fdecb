// SPDX-License-Identifier: MIT
// The table of an experiment as Markdown and as JSON.
#include "core/format.h"
#include "core/try.h"
#include "paper/plan.h"
#include "paper/published.h"
#include "report/text_table.h"

#include <mfres/segmenter.h>

#include <algorithm>

namespace mfres {

namespace {

using Cells = std::vector<std::string>;

constexpr std::array<std::int64_t, 3> published_size{128, 128, 128};
constexpr std::array<Metric, 2> shown_metrics{Metric::dice, Metric::hd95};
constexpr const char* no_value = "-";

/// Dice is shown in per cent, as in the paper; distances in millimetres.
double shown_scale(Metric metric) {
    return metric == Metric::dice ? 100.0 : 1.0;
}

std::string mean_and_spread(const Statistics& values, double scale) {
    if (!values.mean)
        return no_value;
    std::string words = grouped(*values.mean * scale, 2);
    if (values.deviation)
        words += " ± " + grouped(*values.deviation * scale, 2);
    return words;
}

std::size_t finished_runs(const ExperimentReport& report, std::size_t row) {
    return static_cast<std::size_t>(
        std::count_if(report.runs.begin(), report.runs.end(),
                      [&](const ExperimentRun& run) { return run.row == row && run.measured.has_value(); }));
}

/// "skipped: training needs ...", for every run of the row that has not been measured.
std::string notes_of(const ExperimentReport& report, std::size_t row) {
    std::string notes;
    for (const ExperimentRun& run : report.runs) {
        if (run.row != row || run.measured)
            continue;
        std::string note = report.plan.seeds.size() > 1 ? text("seed ", run.seed, " ") : "";
        note += name(run.state);
        if (run.state == RunState::begun)
            note += text(" (step ", run.step, ")");
        if (!run.reason.empty())
            note += ": " + run.reason;
        notes += (notes.empty() ? "" : "; ") + note;
    }
    std::replace(notes.begin(), notes.end(), '|', '/'); // a bar would end the cell
    return notes;
}

/// The name of a row, and for a variant the registered network it is derived from.
std::string label_of(const ExperimentReport& report, std::size_t row) {
    const ExperimentRow& shown = report.plan.rows[row];
    const auto described = describe_network(shown.network);
    if (report.plan.table == ExperimentTable::table1 || !described || described->standard)
        return shown.name;
    return text(shown.name, " (variant of ", described->network, ")");
}

std::optional<ComplexityCounts> counts_of(const ExperimentRow& row) {
    const auto counted = complexity(row.network, published_size);
    return counted ? std::optional(counted->total) : std::nullopt;
}

// Caption ----------------------------------------------------------------------------------------------------------

std::string seeds_words(const std::vector<std::uint64_t>& seeds) {
    std::string words = seeds.size() > 1 ? "seeds " : "seed ";
    for (std::size_t i = 0; i < seeds.size(); ++i)
        words += text(i > 0 ? ", " : "", seeds[i]);
    return words;
}

std::string budget_sentence(const ExperimentPlan& plan, const RecipeDescription& recipe) {
    const std::int64_t steps = recipe.total_steps;
    const auto passes = static_cast<double>(steps * recipe.batch) / static_cast<double>(plan.train.ids.size());
    return text("Budget of every run: ", counted(steps, "step"), " with a batch of ", recipe.batch, ", patches of ",
                recipe.crop[0], " x ", recipe.crop[1], " x ", recipe.crop[2], " voxels (", grouped(passes, 1),
                " passes over the cases); ", seeds_words(plan.seeds), ".");
}

/// Recipe keys that differ from the paper's, without budget, seeds and the keys that define the rows.
std::string recipe_sentence(const ExperimentPlan& plan, const RecipeDescription& recipe) {
    const auto standard = describe_recipe("{}");
    const Json ours = Json::parse(recipe.json, nullptr, false);
    const Json papers = standard ? Json::parse(standard->json, nullptr, false) : Json::object();
    constexpr std::array told{"network", "seed", "init_seed", "steps", "epochs", "validate_every", "batch", "crop"};
    std::string changes;
    for (const auto& entry : ours.items()) {
        const bool elsewhere = std::find(told.begin(), told.end(), entry.key()) != told.end() ||
                               (entry.key() == "loss" && plan.table == ExperimentTable::table1);
        if (!elsewhere && papers.value(entry.key(), Json()) != entry.value())
            changes += text(changes.empty() ? "" : ", ", entry.key(), ' ', entry.value().dump());
    }
    std::string words = "Recipe beside that budget: the paper's, and the project's defaults where the paper is silent";
    words += changes.empty() ? "" : "; but for " + changes;
    if (plan.table == ExperimentTable::table2)
        words += "; loss " + recipe.loss;
    return words + ".";
}

std::string network_sentence(const ExperimentPlan& plan) {
    const auto described = describe_network(plan.rows[0].network);
    if (!described)
        return {};
    return text("Network: ", described->name, described->standard ? "" : text(" (variant of ", described->network, ")"),
                ".");
}

std::string backend_sentence(const ExperimentReport& report) {
    std::vector<std::string> engines;
    for (const ExperimentRun& run : report.runs)
        if (!run.used.engine.empty() && std::find(engines.begin(), engines.end(), run.used.engine) == engines.end())
            engines.push_back(run.used.engine);
    std::string listed;
    for (const std::string& engine : engines)
        listed += (listed.empty() ? " (" : ", ") + engine;
    return text("Backend: ", report.plan.backend, listed, listed.empty() ? "" : ")", "; mfres ", version(), ".");
}

/// " (oneDNN 2.6.3, 2 threads)"
std::string cost_words(const ExperimentReport& report) {
    for (const ExperimentRun& run : report.runs)
        if (run.cost)
            return text(" (", run.cost->used.engine, ", ", counted(run.cost->used.threads, "thread"), ")");
    return {};
}

/// The caption, one sentence a line.
std::vector<std::string> caption(const ExperimentReport& report) {
    const ExperimentPlan& plan = report.plan;
    const auto recipe = recipe_of(plan, report.runs[0]);
    const bool networks_compared = plan.table == ExperimentTable::table2;
    std::vector<std::string> lines{
        "**published**: as the paper prints it, BraTS 2019 validation server, not re-measured.",
        "**ours**: these cases, this budget. The two are measured on different cases and are no ranking of each other.",
        text("Cases: ", plan.train.ids.size(), " trained on (data ", plan.train.fingerprint.substr(0, 16), "), ",
             plan.held_out.ids.size(), " held out (data ", plan.held_out.fingerprint.substr(0, 16), "): ", plan.split,
             ".")};
    if (!networks_compared)
        lines.push_back(network_sentence(plan));
    if (recipe) {
        lines.push_back(budget_sentence(plan, *recipe));
        lines.push_back(recipe_sentence(plan, *recipe));
    }
    lines.push_back(backend_sentence(report));
    lines.push_back(text("Dice in per cent and HD95 in mm: means over the held-out cases, whole brains "
                         "as `mfres evaluate` measures them (regions `brats`, empty regions `server2019`)",
                         plan.seeds.size() > 1 ? "; then mean ± sample standard deviation over the seeds" : "",
                         ". Weights of the last step: the held-out cases decided nothing."));
    if (networks_compared)
        lines.emplace_back("ms and MiB: a pass over 4 x 128 x 128 x 128 voxels (f32, median of 3) and the memory the "
                           "backend holds for it, on the machine as it was" +
                           cost_words(report) + ".");
    if (networks_compared)
        lines.emplace_back("Parameters in millions and operations in 10^9 as the paper's Table 2 counts them, at "
                           "1 x 4 x 128 x 128 x 128.");
    const bool no_new_net = std::any_of(plan.rows.begin(), plan.rows.end(),
                                        [](const ExperimentRow& row) { return row.name == "no-new-net"; });
    if (networks_compared && no_new_net)
        lines.emplace_back("No New-Net is trained as its own paper describes it; the published counts fit another "
                           "structure (`mfres complexity --network no-new-net-as-counted`).");
    return lines;
}

// Table ------------------------------------------------------------------------------------------------------------

std::vector<TableColumn> columns(ExperimentTable table) {
    const bool networks_compared = table == ExperimentTable::table2;
    std::vector<TableColumn> all{{"", networks_compared ? "network" : "loss", false}};
    const auto counts = [&](const std::string& group) {
        if (networks_compared) {
            all.push_back({group, "parameters"});
            all.push_back({group, "operations"});
        }
    };
    for (const TumourRegion region : tumour_regions)
        all.push_back({"published", text("Dice ", name(region))});
    counts("published");
    for (const Metric metric : shown_metrics)
        for (const TumourRegion region : tumour_regions)
            all.push_back({"ours", text(metric == Metric::dice ? "Dice " : "HD95 ", name(region))});
    counts("ours");
    if (networks_compared)
        for (const char* cost : {"ms", "MiB"})
            all.push_back({"ours", cost});
    all.push_back({"ours", "runs"});
    all.push_back({"", "note", false});
    return all;
}

std::string number_or_none(const std::optional<double>& value) {
    return value ? grouped(*value, 2) : no_value;
}

Cells published_cells(const ExperimentPlan& plan, const ExperimentRow& row) {
    const auto published = published_row(plan.table, row);
    const auto dice = published ? published->dice : std::nullopt;
    Cells cells;
    for (const auto part : {&PublishedDice::whole_tumour, &PublishedDice::tumour_core, &PublishedDice::enhancing})
        cells.push_back(dice ? grouped((*dice).*part, 2) : no_value);
    if (plan.table == ExperimentTable::table2) {
        cells.push_back(number_or_none(published ? published->parameters_m : std::nullopt));
        cells.push_back(number_or_none(published ? published->flops_g : std::nullopt));
    }
    return cells;
}

Cells our_cells(const ExperimentReport& report, std::size_t row) {
    Cells cells;
    for (const Metric metric : shown_metrics)
        for (const TumourRegion region : tumour_regions)
            cells.push_back(mean_and_spread(over_seeds(report, row, region, metric), shown_scale(metric)));
    if (report.plan.table == ExperimentTable::table2) {
        const auto counts = counts_of(report.plan.rows[row]);
        cells.push_back(counts ? grouped(static_cast<double>(counts->learnables) * 1e-6, 2) : no_value);
        cells.push_back(counts ? grouped(static_cast<double>(counts->table2_flops) * 1e-9, 2) : no_value);
        const auto cost = cost_of(report, row);
        cells.push_back(cost ? grouped(cost->milliseconds, 0) : no_value);
        cells.push_back(cost ? grouped(cost->peak_mib, 0) : no_value);
    }
    cells.push_back(text(finished_runs(report, row), " of ", report.plan.seeds.size()));
    return cells;
}

// JSON -------------------------------------------------------------------------------------------------------------

std::string lower_name(TumourRegion region) {
    constexpr std::array names{"wt", "tc", "et"};
    return names[static_cast<std::size_t>(region)];
}

const char* key(Metric metric) {
    return metric == Metric::dice ? "dice" : "hd95_mm";
}

Json optional_json(const std::optional<double>& value) {
    return value ? Json(*value) : Json();
}

Json published_json(const std::optional<PublishedFigures>& published) {
    if (!published)
        return {};
    Json object = {{"source", published->source},
                   {"note", "BraTS 2019 validation server, not re-measured"},
                   {"parameters_m", optional_json(published->parameters_m)},
                   {"flops_g", optional_json(published->flops_g)}};
    if (published->dice)
        object["dice_percent"] = {{"wt", published->dice->whole_tumour},
                                  {"tc", published->dice->tumour_core},
                                  {"et", published->dice->enhancing}};
    return object;
}

Json ours_json(const ExperimentReport& report, std::size_t row) {
    Json ours = {{"runs", finished_runs(report, row)}};
    for (const Metric metric : shown_metrics)
        for (const TumourRegion region : tumour_regions) {
            const Statistics values = over_seeds(report, row, region, metric);
            ours[key(metric)][lower_name(region)] = {{"mean", optional_json(values.mean)},
                                                     {"std", optional_json(values.deviation)}};
        }
    if (const auto counts = counts_of(report.plan.rows[row])) {
        ours["learnables"] = counts->learnables;
        ours["table2_flops"] = counts->table2_flops;
    }
    if (const auto cost = cost_of(report, row))
        ours["pass"] = {{"median_ms", cost->milliseconds},
                        {"planned_peak_mib", cost->peak_mib},
                        {"engine", cost->used.engine},
                        {"threads", cost->used.threads}};
    return ours;
}

Json run_json(const ExperimentReport& report, const ExperimentRun& run) {
    Json object = {{"run", run.folder},
                   {"row", report.plan.rows[run.row].name},
                   {"seed", run.seed},
                   {"state", name(run.state)},
                   {"reason", run.reason},
                   {"step", run.step},
                   {"seconds", run.seconds},
                   {"peak_bytes", run.peak_bytes},
                   {"backend_engine", run.used.engine},
                   {"threads", run.used.threads}};
    if (run.measured)
        for (const Metric metric : shown_metrics)
            for (const TumourRegion region : tumour_regions)
                object[key(metric)][lower_name(region)] = optional_json(run.measured->at(region, metric).mean);
    return object;
}

} // namespace

Statistics over_seeds(const ExperimentReport& report, std::size_t row, TumourRegion region, Metric metric) {
    std::vector<double> means;
    for (const ExperimentRun& run : report.runs)
        if (run.row == row && run.measured)
            if (const auto& mean = run.measured->at(region, metric).mean)
                means.push_back(*mean);
    return statistics(std::move(means));
}

std::optional<PassCost> cost_of(const ExperimentReport& report, std::size_t row) {
    std::optional<PassCost> least;
    for (const ExperimentRun& run : report.runs)
        if (run.row == row && run.cost && (!least || run.cost->milliseconds < least->milliseconds))
            least = run.cost;
    return least;
}

std::string to_markdown(const ExperimentReport& report) {
    std::string page = report.plan.table == ExperimentTable::table1
                           ? "# Losses compared, as in Table 1 of the MF-RES2Net paper\n\n"
                           : "# Networks compared, as in Table 2 of the MF-RES2Net paper\n\n";
    for (const std::string& line : caption(report))
        page += "- " + line + "\n";
    TextTable table(columns(report.plan.table));
    for (std::size_t row = 0; row < report.plan.rows.size(); ++row) {
        Cells cells{label_of(report, row)};
        for (const Cells& part : {published_cells(report.plan, report.plan.rows[row]), our_cells(report, row)})
            cells.insert(cells.end(), part.begin(), part.end());
        cells.push_back(notes_of(report, row));
        table.row(std::move(cells));
    }
    page += "\n" + table.markdown();
    const Json made = Json::parse(report.provenance, nullptr, false);
    return made.is_object() ? text(page, "\nMade by ", made.value("program", ""), " on ", made.value("date", ""), ".\n")
                            : page;
}

std::string to_json(const ExperimentReport& report) {
    Json rows = Json::array();
    for (std::size_t row = 0; row < report.plan.rows.size(); ++row)
        rows.push_back({{"name", report.plan.rows[row].name},
                        {"published", published_json(published_row(report.plan.table, report.plan.rows[row]))},
                        {"ours", ours_json(report, row)}});
    Json runs = Json::array();
    for (const ExperimentRun& run : report.runs)
        runs.push_back(run_json(report, run));
    Json object = {{"plan", plan_json(report.plan)}, {"caption", caption(report)}, {"rows", std::move(rows)},
                   {"runs", std::move(runs)},        {"stopped", report.stopped},  {"warnings", report.warnings},
                   {"notes", report.notes}};
    if (const Json made = Json::parse(report.provenance, nullptr, false); made.is_object())
        object.update(made);
    return object.dump(2, ' ', false, Json::error_handler_t::replace);
}

} // namespace mfres
