// SPDX-License-Identifier: MIT
// The plan of an experiment. It is made from the options before any case is read, and recorded in the experiment's
// folder to be compared with the options when the experiment is resumed.
#pragma once

#include "core/json_value.h"
#include "paper/experiment.h"

#include <mfres/trainer.h>

#include <filesystem>
#include <string>
#include <vector>

namespace mfres {

/// Rows, recipe, seeds and backend of the options; without cases. Every row's network is built once for the recipe's
/// batch and crop. Errors: as run_experiment lists them for options, networks and recipe.
Result<ExperimentPlan> make_plan(const ExperimentOptions& options);

/// The runs of a plan in the order in which they are done: every row with the first seed, then with the second, ...
std::vector<ExperimentRun> runs_of(const ExperimentPlan& plan);

/// The recipe of a run on the plan's cases. Errors: recipe_invalid; none occurs for a plan of make_plan.
Result<RecipeDescription> recipe_of(const ExperimentPlan& plan, const ExperimentRun& run);

/// experiment.json: every member of the plan.
Json plan_json(const ExperimentPlan& plan);

/// The inverse. Errors: json_invalid, naming `where`.
Result<ExperimentPlan> parse_plan(const Json& json, const std::filesystem::path& where);

/// The differences as text: "recipe steps 20 instead of 40". Empty for equal plans.
std::vector<std::string> plan_differences(const ExperimentPlan& wanted, const ExperimentPlan& recorded);

} // namespace mfres
