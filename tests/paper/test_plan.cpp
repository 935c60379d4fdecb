// SPDX-License-Identifier: MIT
// What an experiment does, decided before anything is read.
#include "core/file.h"
#include "paper/files.h"
#include "paper/plan.h"
#include "paper/published.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/paths.h"

namespace mfres {

namespace {

using nlohmann::json;

ExperimentOptions options_for(ExperimentTable table) {
    ExperimentOptions options;
    options.table = table;
    options.data = "data";
    options.out = "out";
    options.recipe = R"({"steps": 20, "crop": [32, 32, 32], "batch": 2})";
    return options;
}

std::vector<std::string> names_of(const ExperimentPlan& plan) {
    std::vector<std::string> names;
    for (const ExperimentRow& row : plan.rows)
        names.push_back(row.name);
    return names;
}

std::vector<std::string> folders_of(const ExperimentPlan& plan) {
    std::vector<std::string> folders;
    for (const ExperimentRun& run : runs_of(plan))
        folders.push_back(run.folder);
    return folders;
}

/// A JSON variant of mf-res2net with that name.
std::string tiny(const std::string& name) {
    json variant = json::parse(test::small_network);
    variant["name"] = name;
    return variant.dump();
}

} // namespace

TEST_CASE("table 1 trains one network with the paper's three losses") {
    const auto plan = make_plan(options_for(ExperimentTable::table1));
    REQUIRE_OK(plan);
    CHECK(names_of(*plan) == std::vector<std::string>{"dice", "gdl", "weighted-tversky"});
    const auto runs = runs_of(*plan);
    REQUIRE(runs.size() == 3);
    for (const ExperimentRun& run : runs) {
        const auto recipe = recipe_of(*plan, run);
        REQUIRE_OK(recipe);
        CHECK(recipe->loss == run.folder);
        CHECK(recipe->total_steps == 20);
        CHECK(recipe->batch == 2);
        CHECK(recipe->crop == std::array<std::int64_t, 3>{32, 32, 32});
        const json keys = json::parse(recipe->json);
        CHECK(keys["network"]["network"] == "mf-res2net");
        CHECK(keys["learning_rate"] == 1e-3); // the paper's, where the options say nothing
    }
}

TEST_CASE("table 2 trains the networks of the paper's comparison with one recipe") {
    const auto plan = make_plan(options_for(ExperimentTable::table2));
    REQUIRE_OK(plan);
    CHECK(names_of(*plan) ==
          std::vector<std::string>{"mf-res2net", "3d-espnet", "dmfnet", "3d-unet", "3d-unetpp", "no-new-net"});
    std::vector<json> recipes;
    for (const ExperimentRun& run : runs_of(*plan)) {
        const auto recipe = recipe_of(*plan, run);
        REQUIRE_OK(recipe);
        recipes.push_back(json::parse(recipe->json));
        CHECK(recipes.back()["network"]["network"] == run.folder);
        recipes.back().erase("network");
        CHECK(recipes.back() == recipes.front());
    }
    CHECK(recipes.front()["loss"] == "weighted-tversky");
}

TEST_CASE("repeats differ in their seeds only, and every row comes before any repeat") {
    auto options = options_for(ExperimentTable::table2);
    options.networks = {"dmfnet", tiny("tiny")};
    options.seed = 7;
    options.seeds = 2;
    const auto plan = make_plan(options);
    REQUIRE_OK(plan);
    CHECK(folders_of(*plan) == std::vector<std::string>{"dmfnet-seed7", "tiny-seed7", "dmfnet-seed8", "tiny-seed8"});
    const auto runs = runs_of(*plan);
    const auto first = recipe_of(*plan, runs[1]);
    const auto second = recipe_of(*plan, runs[3]);
    REQUIRE_OK(first);
    REQUIRE_OK(second);
    json earlier = json::parse(first->json);
    json later = json::parse(second->json);
    for (const char* key : {"seed", "init_seed"}) {
        CHECK(earlier[key] == 7);
        CHECK(later[key] == 8);
        earlier.erase(key);
        later.erase(key);
    }
    CHECK(earlier == later);
}

TEST_CASE("a plan rejects what could only fail later") {
    const auto rejected = [](ExperimentTable table, const auto& change) {
        auto options = options_for(table);
        change(options);
        const auto plan = make_plan(options);
        return plan ? Error{ErrorCode::internal, "nothing was rejected", {}} : plan.error();
    };
    using Options = ExperimentOptions;
    const auto check = [](const Error& error, ErrorCode code, const std::string& words) {
        INFO(error.message);
        CHECK(name(error.code) == name(code));
        CHECK(error.message.find(words) != std::string::npos);
    };
    constexpr auto table1 = ExperimentTable::table1;
    constexpr auto table2 = ExperimentTable::table2;
    const auto argument = ErrorCode::invalid_argument;
    const auto recipe = ErrorCode::recipe_invalid;
    check(rejected(table1, [](Options& o) { o.data = ""; }), argument, "folder of segmented cases");
    check(rejected(table1, [](Options& o) { o.out = ""; }), argument, "folder of its own");
    check(rejected(table1, [](Options& o) { o.seeds = 0; }), argument, "seeds is 0");
    check(rejected(table1, [](Options& o) { o.max_memory = -1; }), argument, "max_memory is -1");
    check(rejected(table1, [](Options& o) { o.networks = {"dmfnet", "3d-unet"}; }), argument, "not of 2");
    check(rejected(table2, [](Options& o) { o.losses = {"dice"}; }), argument, "key of the recipe");
    check(rejected(table2, [](Options& o) { o.networks = {"dmfnet", "dmfnet"}; }), argument, "named dmfnet");
    check(rejected(table2, [](Options& o) { o.networks = {tiny("..")}; }), argument, "..");
    check(rejected(table2, [](Options& o) { o.networks = {tiny("table.md")}; }), argument, "table.md");
    check(rejected(table1, [](Options& o) { o.losses = {"hope"}; }), recipe, "hope");
    check(rejected(table1, [](Options& o) { o.recipe = R"({"loss": "dice"})"; }), recipe, "key loss");
    check(rejected(table2, [](Options& o) { o.recipe = R"({"seed": 3})"; }), recipe, "key seed");
    check(rejected(table2, [](Options& o) { o.recipe = R"({"network": "dmfnet"})"; }), recipe, "key network");
    check(rejected(table2, [](Options& o) { o.recipe = R"({"stepps": 3})"; }), recipe, "stepps");
    check(rejected(table2, [](Options& o) { o.recipe = "[]"; }), recipe, "recipe");
    check(rejected(table2, [](Options& o) { o.recipe = R"({"steps": 1, "steps": 2})"; }), recipe, "steps");
    check(rejected(table2, [](Options& o) { o.networks = {"unet"}; }), ErrorCode::network_unknown, "unet");
    check(rejected(table2, [](Options& o) { o.networks = {""}; }), ErrorCode::network_unknown, "there is no network");
    check(rejected(table2, [](Options& o) { o.compute.backend = "abacus"; }), ErrorCode::backend_unknown, "abacus");
}

TEST_CASE("a patch that a network cannot take is rejected with its name") {
    auto options = options_for(ExperimentTable::table2);
    options.recipe = R"({"steps": 20, "crop": [24, 24, 24]})";
    options.networks = {"3d-espnet"};
    REQUIRE_OK(make_plan(options));
    options.networks = {"3d-espnet", "dmfnet"};
    const auto plan = make_plan(options);
    REQUIRE_CODE(plan, recipe_invalid);
    CHECK(plan.error().message.find("dmfnet") != std::string::npos);
    CHECK(plan.error().message.find("multiple of 16") != std::string::npos);
}

TEST_CASE("a plan comes back from its record, and differences are named") {
    auto options = options_for(ExperimentTable::table2);
    options.networks = {tiny("tiny"), "3d-espnet"};
    options.seeds = 3;
    auto made = make_plan(options);
    REQUIRE_OK(made);
    ExperimentPlan plan = *made;
    plan.split = "some rule";
    plan.train = {{"a", "b"}, "0123456789abcdef0123"};
    plan.held_out = {{"c"}, "fedcba9876543210fedc"};
    const auto back = parse_plan(json::parse(plan_json(plan).dump()), "record");
    REQUIRE_OK(back);
    CHECK(plan_json(*back) == plan_json(plan));
    CHECK(plan_differences(plan, *back).empty());

    const auto difference = [&](const auto& change) {
        ExperimentPlan wanted = plan;
        change(wanted);
        const auto differences = plan_differences(wanted, plan);
        REQUIRE(differences.size() == 1);
        return differences[0];
    };
    using Plan = ExperimentPlan;
    CHECK(difference([](Plan& p) { p.table = ExperimentTable::table1; }) == "the experiment table1 instead of table2");
    CHECK(difference([](Plan& p) { p.seeds = {1, 2}; }) == "seeds [1,2] instead of [1,2,3]");
    CHECK(difference([](Plan& p) { p.backend = "reference"; }) == "backend reference instead of auto");
    CHECK(difference([](Plan& p) { p.rows.pop_back(); }) == "rows tiny instead of tiny, 3d-espnet");
    CHECK(difference([](Plan& p) { p.rows[0].network = p.rows[1].network; }).substr(0, 8) == "tiny as ");
    CHECK(difference([](Plan& p) { p.train.ids = {"a"}; }) ==
          "1 case to train on instead of 2 (b is in one of them only)");
    CHECK(difference([](Plan& p) { p.held_out.fingerprint = "00"; }) ==
          "data 00... of the cases held out instead of fedcba9876543210...");
    CHECK(difference([](Plan& p) {
              json recipe = json::parse(p.recipe);
              recipe["batch"] = 4;
              p.recipe = recipe.dump();
          }) == "recipe batch 4 instead of 2");

    options.recipe = R"({"epochs": 3, "crop": [32, 32, 32], "batch": 2})";
    made = make_plan(options);
    REQUIRE_OK(made);
    ExperimentPlan longer = *made;
    longer.train = plan.train;
    longer.held_out = plan.held_out;
    CHECK(plan_differences(longer, plan) ==
          std::vector<std::string>{"recipe epochs 3 instead of \"nothing\"", "recipe steps \"nothing\" instead of 20"});
}

TEST_CASE("a record that this library did not write is rejected") {
    const auto plan = make_plan(options_for(ExperimentTable::table1));
    REQUIRE_OK(plan);
    const json sound = plan_json(*plan);
    REQUIRE_OK(parse_plan(sound, "record"));
    for (const auto& entry : sound.items()) {
        INFO(entry.key());
        json without = sound;
        without.erase(entry.key());
        REQUIRE_CODE(parse_plan(without, "record"), json_invalid);
    }
    const auto with = [&](const char* key, const json& value) {
        json changed = sound;
        changed[key] = value;
        return parse_plan(changed, "record");
    };
    REQUIRE_CODE(with("format", 2), json_invalid);
    REQUIRE_CODE(with("rows", json::array()), json_invalid);
    REQUIRE_CODE(with("seeds", "one"), json_invalid);
    REQUIRE_CODE(with("seeds", json::array()), json_invalid);
    REQUIRE_CODE(parse_plan(json::array(), "record"), json_invalid);
}

TEST_CASE("a record that nests deeply is rejected before it is read") {
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_file_atomically(folder / "deep.json", std::string(100'000, '[')));
    REQUIRE_CODE(read_json(folder / "deep.json"), json_invalid);
    const std::string closed = std::string(100'000, '[') + std::string(100'000, ']');
    REQUIRE_OK(write_file_atomically(folder / "closed.json", closed));
    const auto read = read_json(folder / "closed.json");
    REQUIRE_CODE(read, json_invalid);
    CHECK(read.error().message.find((folder / "closed.json").string()) == 0);
}

TEST_CASE("published figures stand beside the networks as registered, and no others") {
    const auto dice = [](ExperimentTable table, const std::string& network, const std::string& loss) {
        const auto published = published_row(table, {"", network, loss});
        return published && published->dice ? std::vector{published->dice->whole_tumour, published->dice->tumour_core,
                                                          published->dice->enhancing}
                                            : std::vector<double>{};
    };
    constexpr auto table1 = ExperimentTable::table1;
    constexpr auto table2 = ExperimentTable::table2;
    using Dice = std::vector<double>;
    CHECK(dice(table1, "mf-res2net", "dice") == Dice{89.93, 82.49, 76.42});
    CHECK(dice(table1, "mf-res2net", "gdl") == Dice{89.83, 82.71, 76.62});
    CHECK(dice(table1, "mf-res2net", "weighted-tversky") == Dice{89.98, 84.02, 77.62});
    CHECK(dice(table1, "mf-res2net", "tversky").empty());
    CHECK(dice(table1, "dmfnet", "dice").empty());
    CHECK(dice(table1, std::string(test::small_network), "dice").empty());
    CHECK(dice(table2, "mf-res2net", "dice") == Dice{89.98, 84.02, 77.62});
    CHECK(dice(table2, "3d-espnet", "") == Dice{87.15, 78.68, 66.32});
    CHECK(dice(table2, "dmfnet", "") == Dice{89.34, 82.87, 77.19});
    CHECK(dice(table2, "3d-unet", "") == Dice{88.35, 80.74, 74.82});
    CHECK(dice(table2, "3d-unetpp", "") == Dice{89.53, 82.91, 74.80});
    CHECK(dice(table2, "no-new-net", "") == Dice{90.74, 84.90, 75.40});
    CHECK(dice(table2, "mfnet-96", "").empty());
    CHECK(dice(table2, std::string(test::small_network), "").empty());
}

} // namespace mfres
