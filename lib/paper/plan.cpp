// SPDX-License-Identifier: MIT
#include "paper/plan.h"

#include "core/format.h"
#include "core/json.h"
#include "core/names.h"
#include "core/try.h"

#include <mfres/complexity.h>
#include <mfres/predictor.h>

#include <algorithm>
#include <array>
#include <set>

namespace mfres {

namespace {

constexpr auto experiment_table_names =
    enum_names<ExperimentTable>({{ExperimentTable::table1, "table1"}, {ExperimentTable::table2, "table2"}});

constexpr int record_format = 1;
constexpr int most_seeds = 1000;

Error invalid(const std::string& option, const std::string& sentence) {
    return {ErrorCode::invalid_argument, sentence, option};
}

Status check_options(const ExperimentOptions& options) {
    if (options.data.empty())
        return invalid("data", "an experiment needs a folder of segmented cases");
    if (options.out.empty())
        return invalid("out", "an experiment needs a folder of its own");
    if (options.seeds < 1 || options.seeds > most_seeds)
        return invalid("seeds", text("seeds is ", options.seeds, ", allowed is 1 to ", most_seeds));
    if (options.max_memory < 0)
        return invalid("max_memory", text("max_memory is ", options.max_memory, ", allowed is 0 or more"));
    if (options.table == ExperimentTable::table1 && options.networks.size() > 1)
        return invalid("networks", text("table 1 compares losses of one network, not of ", options.networks.size()));
    if (options.table == ExperimentTable::table2 && !options.losses.empty())
        return invalid("losses", "table 2 compares networks; their one loss is a key of the recipe");
    return {};
}

/// Recipe keys that the experiment sets.
std::vector<std::string> decided_keys(ExperimentTable table) {
    std::vector<std::string> keys{"network", "seed", "init_seed"};
    if (table == ExperimentTable::table1)
        keys.emplace_back("loss");
    return keys;
}

/// The recipe of the options as an object.
Result<Json> shared_recipe(const ExperimentOptions& options) {
    const auto shared = parse_json(recipe_with(options.recipe, options.compute), "recipe");
    if (!shared)
        return Error{ErrorCode::recipe_invalid, shared.error().message, shared.error().where};
    if (!shared->is_object())
        return Error{ErrorCode::recipe_invalid,
                     text("the recipe ", json_excerpt(*shared), " is not an object of keys and values"), "/"};
    for (const std::string& key : decided_keys(options.table))
        if (shared->contains(key))
            return Error{ErrorCode::recipe_invalid,
                         text("recipe key ", key,
                              ": an experiment decides it by itself (networks, losses and seed are "
                              "options of their own)"),
                         key};
    return *shared;
}

/// Network and loss of every row, as in the options.
std::vector<ExperimentRow> wanted_rows(const ExperimentOptions& options) {
    const bool losses = options.table == ExperimentTable::table1;
    std::vector<std::string> networks = options.networks;
    if (networks.empty() && losses)
        networks = {"mf-res2net"};
    if (networks.empty())
        networks = {"mf-res2net", "3d-espnet", "dmfnet", "3d-unet", "3d-unetpp", "no-new-net"};
    std::vector<std::string> names = options.losses;
    if (names.empty() && losses)
        names = {"dice", "gdl", "weighted-tversky"};
    std::vector<ExperimentRow> rows;
    if (losses)
        for (const std::string& loss : names)
            rows.push_back({loss, networks[0], loss});
    else
        for (const std::string& network : networks)
            rows.push_back({"", network, ""});
    return rows;
}

Json network_json(const std::string& network) {
    auto object = parse_json(network, "variant");
    return object && object->is_object() ? std::move(object).value() : Json(network);
}

/// Completes a row, and returns its recipe.
Result<RecipeDescription> settle(ExperimentRow& row, const Json& shared) {
    Json wanted = shared;
    wanted["network"] = network_json(row.network);
    if (!row.loss.empty())
        wanted["loss"] = row.loss;
    // The original text is parsed, because repeated keys are lost after parsing.
    MFRES_TRY(NetworkDescription network, describe_network(row.network));
    MFRES_TRY(RecipeDescription recipe, describe_recipe(wanted.dump()));
    MFRES_CHECK(complexity(network.json, recipe.crop, recipe.batch)); // which builds it
    row.network = std::move(network.json);
    row.loss = recipe.loss;
    if (row.name.empty())
        row.name = std::move(network.name);
    return recipe;
}

/// Checks that folders of runs do not have names of the experiment's files.
Status check_folders(const ExperimentPlan& plan) {
    std::set<std::string> taken{"experiment.json", "train.mfcache", "held-out.mfcache", "table.md",
                                "table.json",      "tradeoff.svg",  "tradeoff.png"};
    for (const ExperimentRun& run : runs_of(plan)) {
        if (run.folder.starts_with('.'))
            return invalid("networks", text("a row cannot be named ", run.folder, ", since its runs' folder is"));
        if (!taken.insert(run.folder).second)
            return invalid("networks", text("two rows, or a row and a file of the experiment, are named ", run.folder,
                                            "; a variant gets a name of its own by the key \"name\""));
    }
    return {};
}

Json cases_json(const ExperimentCases& cases) {
    return {{"cases", cases.ids}, {"fingerprint", cases.fingerprint}};
}

ExperimentCases cases_of(const Json& object) {
    return {object.at("cases").get<std::vector<std::string>>(), object.at("fingerprint").get<std::string>()};
}

std::string names_of(const ExperimentPlan& plan) {
    std::string names;
    for (const ExperimentRow& row : plan.rows)
        names += (names.empty() ? "" : ", ") + row.name;
    return names;
}

/// Adds the first difference between the cases, and their numbers.
void compare_cases(const std::string& what, const ExperimentCases& wanted, const ExperimentCases& recorded,
                   std::vector<std::string>& differences) {
    if (wanted.ids != recorded.ids) {
        std::vector<std::string> others;
        std::set_symmetric_difference(wanted.ids.begin(), wanted.ids.end(), recorded.ids.begin(), recorded.ids.end(),
                                      std::back_inserter(others));
        differences.push_back(text(counted(wanted.ids.size(), "case"), " ", what, " instead of ", recorded.ids.size(),
                                   others.empty() ? "" : text(" (", others[0], " is in one of them only)")));
    } else if (wanted.fingerprint != recorded.fingerprint) {
        differences.push_back(text("data ", wanted.fingerprint.substr(0, 16), "... of the cases ", what, " instead of ",
                                   recorded.fingerprint.substr(0, 16), "..."));
    }
}

} // namespace

std::string_view name(RunState state) noexcept {
    switch (state) {
    case RunState::waiting: return "waiting";
    case RunState::begun: return "begun";
    case RunState::trained: return "trained";
    case RunState::finished: return "finished";
    case RunState::skipped: return "skipped";
    case RunState::failed: return "failed";
    }
    return "unknown";
}

Result<ExperimentPlan> make_plan(const ExperimentOptions& options) {
    MFRES_CHECK(check_options(options));
    MFRES_TRY(const Json shared, shared_recipe(options));
    ExperimentPlan plan;
    plan.table = options.table;
    plan.rows = wanted_rows(options);
    RecipeDescription recipe;
    for (ExperimentRow& row : plan.rows) {
        MFRES_TRY(recipe, settle(row, shared));
    }
    Json canonical = Json::parse(recipe.json, nullptr, false);
    for (const std::string& key : decided_keys(plan.table))
        canonical.erase(key);
    plan.recipe = canonical.dump();
    for (int repeat = 0; repeat < options.seeds; ++repeat)
        plan.seeds.push_back(options.seed + static_cast<std::uint64_t>(repeat));
    MFRES_CHECK(backend_info(options.compute.backend));
    plan.backend = options.compute.backend;
    MFRES_CHECK(check_folders(plan));
    return plan;
}

std::vector<ExperimentRun> runs_of(const ExperimentPlan& plan) {
    std::vector<ExperimentRun> runs;
    for (const std::uint64_t seed : plan.seeds)
        for (std::size_t row = 0; row < plan.rows.size(); ++row) {
            ExperimentRun run;
            run.folder = plan.rows[row].name + (plan.seeds.size() > 1 ? text("-seed", seed) : "");
            run.row = row;
            run.seed = seed;
            runs.push_back(std::move(run));
        }
    return runs;
}

Result<RecipeDescription> recipe_of(const ExperimentPlan& plan, const ExperimentRun& run) {
    Json recipe = Json::parse(plan.recipe, nullptr, false);
    recipe["network"] = network_json(plan.rows[run.row].network);
    recipe["loss"] = plan.rows[run.row].loss;
    recipe["seed"] = run.seed;
    recipe["init_seed"] = run.seed;
    return describe_recipe(recipe.dump(), plan.train.ids.size());
}

Json plan_json(const ExperimentPlan& plan) {
    Json rows = Json::array();
    for (const ExperimentRow& row : plan.rows)
        rows.push_back({{"name", row.name}, {"network", network_json(row.network)}, {"loss", row.loss}});
    return {{"format", record_format},
            {"table", to_string(plan.table)},
            {"rows", std::move(rows)},
            {"recipe", Json::parse(plan.recipe, nullptr, false)},
            {"seeds", plan.seeds},
            {"backend", plan.backend},
            {"split", plan.split},
            {"train", cases_json(plan.train)},
            {"held_out", cases_json(plan.held_out)}};
}

Result<ExperimentPlan> parse_plan(const Json& object, const std::filesystem::path& where) {
    const auto reject = [&](const std::string& problem) {
        return Error{ErrorCode::json_invalid, text(where.string(), " is not a record of an experiment: ", problem),
                     where.string()};
    };
    try {
        if (object.at("format") != record_format)
            return reject("its format is not " + std::to_string(record_format));
        ExperimentPlan plan;
        MFRES_TRY(plan.table, parse_experiment_table(object.at("table").get<std::string>()));
        for (const Json& row : object.at("rows"))
            plan.rows.push_back(
                {row.at("name").get<std::string>(), row.at("network").dump(), row.at("loss").get<std::string>()});
        plan.recipe = object.at("recipe").dump();
        plan.seeds = object.at("seeds").get<std::vector<std::uint64_t>>();
        plan.backend = object.at("backend").get<std::string>();
        plan.split = object.at("split").get<std::string>();
        plan.train = cases_of(object.at("train"));
        plan.held_out = cases_of(object.at("held_out"));
        if (plan.rows.empty() || plan.seeds.empty())
            return reject("it has no rows or no seeds");
        for (const ExperimentRun& run : runs_of(plan))
            MFRES_CHECK(recipe_of(plan, run));
        return plan;
    } catch (const Json::exception& problem) {
        return reject(problem.what());
    }
}

std::vector<std::string> plan_differences(const ExperimentPlan& wanted, const ExperimentPlan& recorded) {
    std::vector<std::string> differences;
    const auto compare = [&](const std::string& what, const auto& here, const auto& there) {
        if (here != there)
            differences.push_back(text(what, ' ', here, " instead of ", there));
    };
    compare("the experiment", to_string(wanted.table), to_string(recorded.table));
    compare("rows", names_of(wanted), names_of(recorded));
    if (names_of(wanted) == names_of(recorded))
        for (std::size_t row = 0; row < wanted.rows.size(); ++row)
            compare(wanted.rows[row].name + " as", wanted.rows[row].network, recorded.rows[row].network);
    const Json here = Json::parse(wanted.recipe, nullptr, false);
    const Json there = Json::parse(recorded.recipe, nullptr, false);
    std::set<std::string> keys;
    for (const Json* recipe : {&here, &there})
        for (const auto& entry : recipe->items())
            keys.insert(entry.key());
    for (const std::string& key : keys)
        compare("recipe " + key, here.value(key, Json("nothing")).dump(), there.value(key, Json("nothing")).dump());
    compare("seeds", Json(wanted.seeds).dump(), Json(recorded.seeds).dump());
    compare("backend", wanted.backend, recorded.backend);
    compare_cases("to train on", wanted.train, recorded.train, differences);
    compare_cases("held out", wanted.held_out, recorded.held_out, differences);
    return differences;
}

std::string_view to_string(ExperimentTable table) noexcept {
    return experiment_table_names.of(table);
}

Result<ExperimentTable> parse_experiment_table(std::string_view text) {
    return experiment_table_names.parse("experiment", text);
}

} // namespace mfres
