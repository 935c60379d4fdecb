// SPDX-License-Identifier: MIT
#include "option_groups.h"
#include "recipe_text.h"
#include "run_and_print.h"
#include "train_display.h"

#include "backends/distributed/communicator.h"
#include "backends/distributed/sockets.h"
#include "core/format.h"
#include "core/json.h"
#include "core/number.h"
#include "core/try.h"

#include <mfres/trainer.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Trains a network on segmented BraTS cases. A run lives in a folder of its own: recipe.json, metrics.csv,\n"
    "validation.csv, curve.svg, checkpoints (last, previous, best) and in the end model.safetensors, made of the best\n"
    "weights. Ctrl-C saves and stops; --resume goes on as if there had been no break. Every option of the recipe is\n"
    "listed below with what the paper (or, where it is silent, the network's lineage) uses.\n"
    "--data and --val take several folders and caches. A case that occurs twice, and a patient on both sides, are\n"
    "rejected. --fold I/K holds out patients: those whose place in the order of the SHA-256 of their ids is I, I + K,\n"
    "I + 2K and so on. Scans of one patient stay together: those that BraTS names alike, and those that a line of\n"
    "--same-patient lists (ids with spaces or commas between). Validations are told by site, too: what an id of BraTS\n"
    "names, what --sites says, or else the name of the folder or cache.\n"
    "Several processes that mpirun or srun starts train one network together: --batch is that of all of them, each\n"
    "takes an equal part of it, and the result is that of one process up to rounding. --threads and --loader-threads\n"
    "are those of each process. Only the first one writes, validates and prints. Where there are GPUs each process\n"
    "takes one; --gpus trains on several from one process.\n"
    "Research use only: not a medical device.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres train --data BraTS2019/Training --out runs/paper\n"
    "  mfres train --data train.mfcache --val val.mfcache --out runs/laptop --steps 2000 --batch 2 --crop 64 \\\n"
    "      --tumour-probability 0.7 --intensity-scale 0.1 --intensity-shift 0.1 --clip-norm 5 --validate-every 250\n"
    "  mfres train --data train.mfcache --val val.mfcache --out runs/laptop --resume\n"
    "  mfres train --data BraTS2021 africa.mfcache --fold 2/5 --same-patient patients.txt --out runs/fold2\n"
    "  mfres train --init runs/laptop/model.safetensors --data train.mfcache --val val.mfcache --out runs/finer \\\n"
    "      --steps 1000 --learning-rate 3e-4 --fixed-norm-steps 1000 --clip-norm 5\n"
    "  mfres train --data train.mfcache --val val.mfcache --out runs/small --network small.json --loss dice-ce \\\n"
    "      --teacher fold0.safetensors --teacher fold1.safetensors --distill-temperature 2\n"
    "  mfres convert runs/laptop/best.ckpt --out best.safetensors --dtype f16\n"
    "  mpirun -n 4 --map-by slot:PE=8 --mca odls_base_sigkill_timeout 30 \\\n"
    "      mfres train --data train.mfcache --out runs/four --batch 8 --threads 8\n"
    "  mfres train --data train.mfcache --out runs/gpus --batch 8 --gpus all\n"
    "  torchrun --no-python --nproc-per-node 4 mfres train --data train.mfcache --out runs/four --batch 8\n"
    "  srun --mpi=pmix -n 4 -c 8 mfres train --data train.mfcache --out runs/four --batch 8 --threads 8\n\n"
    "mpirun kills what has not ended a second after its Ctrl-C unless odls_base_sigkill_timeout gives it time to "
    "save;\n"
    "SIGUSR1, which schedulers can send before the time is up and mpirun passes on, saves and stops like Ctrl-C.\n"
    "A recipe file is a JSON object of the same names with underscores: {\"steps\": 2000, \"crop\": [64, 64, 64]};\n"
    "--precision, --allow-tf32 and --non-deterministic are its precision, allow_tf32 and deterministic.\n"
    "Progress is a bar on a terminal, and one line per row of metrics.csv in a log:\n"
    "  step 120/2000  loss 0.4312  1.92 s/step  ETA 1h00\n";

/// "learning_rate" -> "learning-rate"
std::string option_name(std::string key) {
    std::replace(key.begin(), key.end(), '_', '-');
    return key;
}

/// A key that the options of add_compute_options set.
bool is_compute(const RecipeField& field) {
    return field.key == "precision" || field.key == "allow_tf32" || field.key == "deterministic";
}

/// A default as the option reads it: "dice" -> dice, [128,128,128] -> 128, [128,96,80] -> 128,96,80.
std::string shown(const std::string& standard) {
    if (standard.front() == '"')
        return standard.substr(1, standard.size() - 2);
    if (standard.front() != '[')
        return standard;
    const std::string list = standard.substr(1, standard.size() - 2);
    const std::string first = list.substr(0, list.find(','));
    return list == text(first, ",", first, ",", first) ? first : list;
}

void add_recipe_options(Options& options) {
    auto add = options.add();
    for (const RecipeField& field : recipe_fields()) {
        if (is_compute(field))
            continue;
        std::string help = field.help;
        if (field.key == "crop")
            help += ", 96 or 96,112,80";
        if (const std::string standard = shown(field.standard); field.key != "network" && !standard.empty())
            help += " (default " + standard + ")";
        add(option_name(field.key).c_str(), po::value<std::string>(), help.c_str());
    }
}

Options make_options() {
    Options options("train --data FOLDER|CACHE ... --out RUN", about, examples);
    // clang-format off
    options.add()
        ("data", po::value<std::vector<std::string>>()->multitoken(), "folders of segmented cases, and training caches (.mfcache)")
        ("val", po::value<std::vector<std::string>>()->multitoken(), "likewise: cases to evaluate while training")
        ("fold", po::value<std::string>(), "evaluate part 2 of 5 of --data (2/5) while training, train on the others")
        ("same-patient", po::value<std::string>(), "file with a line per patient: the case ids of its scans")
        ("sites", po::value<std::string>(), "table (.csv: case,site) of the sites to tell apart while evaluating")
        ("init", po::value<std::string>(), "model file, or name of weights that come with mfres, whose weights training starts from, instead of new ones")
        ("teacher", po::value<std::vector<std::string>>()->composing(), "model file, or name of weights that come with mfres, whose probabilities the network learns to follow; given several times, their mean")
        ("out,o", po::value<std::string>()->required(), "folder of the run")
        ("resume", "go on with the run in that folder")
        ("recipe", po::value<std::string>(), "JSON file of a recipe")
        ("gpus", po::value<std::string>(), "train on several GPUs: all, a number of them (2), or a list (0,2)")
        ("loader-threads", po::value<int>()->default_value(1), "that make batches; 0 = between the steps")
        ("checkpoint-every", po::value<std::string>()->default_value("10m"), "steps (200) or minutes (10m)")
        ("stop-at", po::value<std::int64_t>()->default_value(0), "step at which to save and stop, with the schedule of the whole recipe; --resume goes on; 0 = at the end")
        ("log-every", po::value<std::int64_t>()->default_value(10), "steps that a line of metrics.csv sums up");
    // clang-format on
    add_label_options(options, "auto, for each folder");
    add_compute_options(options);
    add_accept_option(options);
    add_max_memory_option(
        options,
        "e.g. 11G: that training may hold (of the GPU where one trains); activations that do not fit are computed twice");
    add_recipe_options(options);
    add_report_options(options);
    return options;
}

// ---- the recipe -----------------------------------------------------------------------------------------------------

/// What an option's text stands for in JSON; text that fits nothing stays text, for the recipe's reader to reject.
Result<Json> json_value(const RecipeField& field, const std::string& given) {
    if (field.key == "network") {
        MFRES_TRY(const std::string network, network_text(given));
        auto variant = parse_json(network, "variant");
        return variant && variant->is_object() ? std::move(variant).value() : Json(network);
    }
    if (field.standard.front() == '"')
        return Json(given);
    if (field.standard.front() == '[') {
        const auto size = parse_size(given);
        return size ? Json(*size) : Json(given);
    }
    for (const auto& [word, value] : {std::pair{"yes", true}, {"on", true}, {"no", false}, {"off", false}})
        if (given == word)
            return Json(value);
    auto value = parse_json(given, field.key);
    return value ? std::move(value).value() : Json(given);
}

/// The recipe file with the options on top.
Result<std::string> recipe_of(const Options& options) {
    Json changes = Json::object();
    for (const RecipeField& field : recipe_fields()) {
        const std::string option = option_name(field.key);
        if (!is_compute(field) && options.has(option.c_str())) {
            MFRES_TRY(changes[field.key], json_value(field, options.get<std::string>(option.c_str())));
        }
    }
    return recipe_text(options.get_or_default<std::string>("recipe"), changes);
}

/// "200" = steps, "10m" = minutes.
Status read_checkpoint_interval(const std::string& given, TrainerOptions& options) {
    const auto [value, length] = read_number(given);
    const std::string unit = given.substr(length);
    const bool whole = value == std::floor(value) && value < 1e12;
    if (value <= 0 || !(unit == "m" || (unit.empty() && whole)))
        return Error{ErrorCode::invalid_argument,
                     text("--checkpoint-every '", given, "' is neither a number of steps (200) nor of minutes (10m)"),
                     "checkpoint-every"};
    options.checkpoint_minutes = unit == "m" ? value : 0.0;
    options.checkpoint_steps = unit == "m" ? 0 : static_cast<std::int64_t>(value);
    return {};
}

Result<TrainerOptions> trainer_options(const Options& options) {
    TrainerOptions chosen;
    chosen.data = options.paths("data");
    chosen.validation = options.paths("val");
    MFRES_TRY(chosen.accept, accepted_checks(options));
    chosen.fold = options.get_or_default<std::string>("fold");
    chosen.same_patient = options.get_or_default<std::string>("same-patient");
    chosen.sites = options.get_or_default<std::string>("sites");
    chosen.run = options.get<std::string>("out");
    chosen.init = options.get_or_default<std::string>("init");
    for (const std::string& teacher : options.get_or_default<std::vector<std::string>>("teacher"))
        chosen.teachers.emplace_back(teacher);
    MFRES_TRY(chosen.label_scheme, label_choice(options));
    MFRES_TRY(chosen.compute, compute_options(options));
    chosen.loader_threads = options.get<int>("loader-threads");
    chosen.resume = options.has("resume");
    chosen.stop_at = options.get<std::int64_t>("stop-at");
    chosen.log_steps = options.get<std::int64_t>("log-every");
    MFRES_TRY(chosen.max_memory, max_memory_of(options));
    MFRES_CHECK(read_checkpoint_interval(options.get<std::string>("checkpoint-every"), chosen));
    MFRES_TRY(chosen.recipe, recipe_of(options));
    return chosen;
}

// ---- what the user sees ---------------------------------------------------------------------------------------------

void print_summary(const TrainReport& report) {
    std::cout << report.run << ": " << report.network << ", step " << report.step << " of " << report.steps << " in "
              << duration(report.seconds) << " (" << report.used.backend << ", "
              << counted(report.used.threads, "thread") << ", "
              << (report.ranks > 1 ? text(report.ranks, " processes, ") : "") << counted(report.cases, "case") << ")\n";
    if (report.best)
        std::cout << "  best     step " << report.best->step << "  " << dice_words(report.best->mean) << '\n';
    if (report.latest)
        std::cout << "  latest   step " << report.latest->step << "  " << dice_words(report.latest->mean) << '\n';
    if (report.skipped > 0)
        std::cout << "  skipped  " << report.skipped << " steps, whose gradients overflowed\n";
    if (!report.model.empty())
        std::cout << "  model    " << report.model << '\n';
    if (report.stopped)
        std::cout << "  stopped and saved; --resume goes on\n";
}

/// On the GPUs that `gpus` names; without words on what the backend and the launcher choose.
Result<TrainReport> train(TrainerOptions options, const std::string& gpus, const TrainObserver& observer) {
    if (gpus.empty()) {
        MFRES_TRY(Trainer trainer, Trainer::open(options, observer));
        return trainer.run(observer);
    }
    MFRES_TRY(const std::vector<int> devices, find_devices(options.compute.backend, gpus));
    options.ranks = nullptr; // this process is alone
    return train_on_devices(options, devices, observer);
}

} // namespace

int train(const std::vector<std::string>& arguments) {
    watch_signals();
    set_rank_interrupt(stop_requested); // also while the other ranks are waited for
    const auto ranks = join_ranks();
    if (!ranks)
        return fail(ranks.error());
    const bool speaks = (*ranks)->is_root();
    if (!speaks) // one for all
        for (std::ostream* stream : {&std::cout, &std::cerr})
            stream->setstate(std::ios::failbit);
    Options options = make_options();
    if (const auto done = options.parse(arguments))
        return *done;
    const bool as_json = options.has("json");
    if (!options.has("data") && !options.has("resume"))
        return usage_error("--data names the cases to train on: folders, and training caches");
    if (options.has("fold") && options.has("val"))
        return usage_error("--fold evaluates a part of --data; --val is for cases of their own");
    auto chosen = trainer_options(options);
    if (!chosen)
        return fail(chosen.error(), as_json);
    if (!options.has("val") && !options.has("fold") && !options.has("resume"))
        std::cerr
            << "mfres: warning: no case is held out, so that nothing shows whether the network overfits and no model "
               "is the best; --val names cases to validate on, --fold 1/5 holds out a fifth of the patients\n";
    chosen->ranks = *ranks;
    if (options.has("gpus") && !(*ranks)->alone())
        return usage_error("--gpus is for one process; those of a launcher take a GPU each by themselves");

    TrainDisplay display(options.has("quiet") || !speaks);
    const auto observe = [&](const TrainEvent& event) { return display.show(event); };
    const auto report = train(*chosen, options.get_or_default<std::string>("gpus"), observe);
    display.clear();
    if (!report)
        return fail(report.error(), as_json);
    if (as_json)
        std::cout << with_provenance(options, to_json(*report)) << '\n';
    else
        print_summary(*report);
    const bool as_asked = chosen->stop_at > 0 && report->step >= chosen->stop_at;
    return report->stopped && !as_asked ? exit_interrupted : exit_ok;
}

} // namespace mfres::cli
