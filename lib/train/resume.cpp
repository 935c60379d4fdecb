// SPDX-License-Identifier: MIT
#include "train/resume.h"

#include "core/format.h"
#include "data/cache.h"
#include "model/find_model.h"
#include "model/model.h"
#include "train/teachers.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

namespace mfres {

namespace {

// A new run ----------------------------------------------------------------------------------------------------------

Error invalid_recipe(std::string sentence, const char* key) {
    return {ErrorCode::recipe_invalid, std::move(sentence), key};
}

/// Records the teachers in the recipe of a new run. Errors: those of teachers_sha256; recipe_invalid (the recipe names
/// others, or cannot have any).
Status record_teachers(const TrainerOptions& options, Recipe& recipe) {
    MFRES_TRY(const Normalisation normalisation, parse_normalisation(recipe.normalisation));
    MFRES_TRY(const Variant network, parse_variant(recipe.network));
    MFRES_TRY(const std::string given, teachers_sha256(options.teachers, normalisation, network.outputs()));
    if (!recipe.teachers_sha256.empty() && recipe.teachers_sha256 != given)
        return invalid_recipe(text("the recipe's teachers are ", recipe.teachers_sha256, ", and those given are ",
                                   given.empty() ? "none" : given, "; name the model files that hold them"),
                              "teachers_sha256");
    recipe.teachers_sha256 = given;
    const auto checked = parse_recipe("{}", recipe);
    return checked ? Status() : Status(checked.error());
}

/// Recipe of a run that starts from new weights.
Status start_from_seed(const TrainerOptions& options, Run& run) {
    MFRES_TRY(run.now.recipe, parse_recipe(recipe_with(options.recipe, options.compute)));
    MFRES_CHECK(record_teachers(options, run.now.recipe));
    if (!run.recipe().init_sha256.empty())
        return invalid_recipe(text("the recipe starts from the weights ", run.recipe().init_sha256,
                                   "; the model file that holds them has to be named as well"),
                              "init_sha256");
    return {};
}

/// Recipe and weights of a run that starts from those of a model.
Status start_from_model(const TrainerOptions& options, Run& run) {
    MFRES_TRY(Model model, load_named_model(options.init));
    const ModelMetadata standard;
    if (model.metadata.modalities != standard.modalities)
        return Error{ErrorCode::invalid_argument,
                     text(options.init.string(), " takes other input than training gives: t1, t1ce, t2 and flair"),
                     "init"};
    Recipe base;
    base.normalisation = to_string(model.metadata.normalisation); // unless the recipe names another, to be learnt
    base.network = model.variant.json();
    MFRES_TRY(Recipe recipe, parse_recipe(recipe_with(options.recipe, options.compute), base));
    if (recipe.network != base.network)
        return invalid_recipe(
            text("the recipe's network is ", recipe.network, ", but ", options.init.string(), " holds ", base.network),
            "network");
    const std::string& hash = model.metadata.weights_sha256;
    if (!recipe.init_sha256.empty() && recipe.init_sha256 != hash)
        return invalid_recipe(text("the recipe starts from the weights ", recipe.init_sha256, ", but ",
                                   options.init.string(), " holds ", hash),
                              "init_sha256");
    recipe.init_sha256 = hash;
    MFRES_CHECK(record_teachers(options, recipe));
    run.now.recipe = std::move(recipe);
    run.initial = std::move(model.weights);
    return {};
}

Status check_split(const Run& run) {
    const std::int64_t batch = run.recipe().sampling.batch;
    const int ranks = run.ranks().size();
    if (batch % ranks == 0)
        return {};
    return invalid_recipe(text("recipe key batch: ", batch, " samples cannot be split evenly over ", ranks,
                               " processes; allowed are multiples of ", ranks),
                          "batch");
}

// The root rank ------------------------------------------------------------------------------------------------------

/// The recorded state, if the recipe asked for is the recorded one.
Status load_recorded(Run& run, TrainLog& log) {
    MFRES_TRY(auto found, run.folder.checkpoints().load());
    if (!found.warning.empty())
        log.warn(found.warning);
    const Recipe recorded = found.checkpoint.recipe;
    MFRES_TRY(const Recipe wanted, parse_recipe(recipe_with(run.options.recipe, run.options.compute), recorded));
    std::string differences;
    for (const std::string& difference : recipe_differences(wanted, recorded))
        differences += (differences.empty() ? "" : "; ") + difference;
    if (!differences.empty())
        return resume_mismatch(run, "its recipe would change (" + differences + ")");
    run.now = std::move(found.checkpoint);
    run.now.recipe = wanted;
    return {};
}

/// A warning for caches without a record of their normalisation, whose intensities may have been clipped before.
/// Error: cache_invalid for clipped ones, if the recipe asks for others, and if the first one without a record shows
/// that its intensities were not clipped.
Status check_normalisation(const Cache& cache, Normalisation wanted, const std::string& source, TrainLog& log) {
    const auto other = [&](const CacheEntry& entry) { return entry.normalisation != wanted; };
    const auto& entries = cache.entries();
    const auto first = std::find_if(entries.begin(), entries.end(), other);
    if (first == entries.end())
        return {};
    const auto others = std::count_if(first, entries.end(), other);
    if (wanted == Normalisation::zscore_brain)
        return Error{ErrorCode::cache_invalid,
                     text(source, " holds ", counted(others, "case"), " normalised by ",
                          to_string(Normalisation::zscore_brain_clipped), ", the recipe asks for ", to_string(wanted)),
                     source};
    MFRES_TRY(const auto sample, cache.load(static_cast<std::size_t>(first - entries.begin())));
    if (!is_clipped(*sample))
        return Error{ErrorCode::cache_invalid,
                     text(source, " holds ", counted(others, "case"), " normalised by ",
                          to_string(first->normalisation), ", whose intensities were not clipped (", first->id,
                          "); the recipe asks for ", to_string(wanted),
                          ". Pack the images again with that normalisation"),
                     source};
    log.warn(text(source, " does not record how ", others, " of its cases were normalised; they are used as ",
                  to_string(wanted), ", which is right if their intensities were clipped before"));
    return {};
}

Status open_data(Run& run, DataUse use, TrainLog& log) {
    MFRES_TRY(const Normalisation wanted, parse_normalisation(run.recipe().normalisation));
    MFRES_TRY(OpenedData opened, open_run_data(run.options, run.folder.path(), use, run.now.data, wanted,
                                               [&](std::size_t done, std::size_t total) {
                                                   return log.tell(TrainEvent::Kind::caching, done, total);
                                               }));
    run.data = std::move(opened.train);
    run.validation = std::move(opened.validation);
    if (use != DataUse::join)
        run.now.data = std::move(opened.record);
    if (run.is_root())
        for (std::string& sentence : opened.label_notes)
            log.note(std::move(sentence));
    if (!opened.warning.empty())
        log.warn(std::move(opened.warning));
    MFRES_CHECK(check_normalisation(*run.data, wanted, source_words(run.options.data), log));
    if (run.validation)
        MFRES_CHECK(check_normalisation(*run.validation, wanted, source_words(run.options.validation), log));
    run.steps = total_steps(run.recipe(), run.data->entries().size());
    return {};
}

/// Compares the cases with the recorded ones of a run that is resumed, and records them.
Status check_data(Run& run) {
    const auto compare = [&](const char* what, const Cache* cache, std::string& recorded,
                             const DataSources& sources) -> Status {
        std::string own = cache ? cache->fingerprint() : "";
        if (run.options.resume && own != recorded)
            return resume_mismatch(run, text("it was ", what, " on data ", fingerprint_words(recorded), ", not on ",
                                             fingerprint_words(own), ", which is ", source_words(sources)));
        recorded = std::move(own);
        return {};
    };
    MFRES_CHECK(compare("trained", run.data.get(), run.now.data_fingerprint, run.options.data));
    MFRES_CHECK(compare("validated", run.validation.get(), run.now.validation_fingerprint, run.options.validation));
    if (run.steps < run.now.step)
        return resume_mismatch(run, text("it has trained ", counted(run.now.step, "step"), " already, more than the ",
                                         run.steps, " asked for"));
    return {};
}

Status start_root(Run& run, TrainLog& log) {
    if (run.options.resume)
        MFRES_CHECK(load_recorded(run, log));
    MFRES_CHECK(check_split(run));
    MFRES_CHECK(open_data(run, run.options.resume ? DataUse::resume : DataUse::begin, log));
    return check_data(run);
}

// The other ranks ----------------------------------------------------------------------------------------------------

/// Recipe, state and weights of the root rank to the others, as a checkpoint; that of a run without steps has no
/// moments.
Status share_state(Run& run) {
    Communicator& ranks = run.ranks();
    if (ranks.alone())
        return {};
    std::vector<std::byte> bytes;
    if (run.is_root()) {
        Checkpoint start = run.now;
        if (start.state.weights.empty()) {
            if (run.initial.empty()) {
                MFRES_TRY(run.initial, draw_weights(run.recipe()));
            }
            start.state.weights = run.initial;
        }
        MFRES_TRY(bytes, encode_checkpoint(start));
    }
    std::uint64_t size = bytes.size();
    MFRES_CHECK(ranks.broadcast(std::as_writable_bytes(std::span(&size, 1)), 0));
    bytes.resize(static_cast<std::size_t>(size));
    MFRES_CHECK(ranks.broadcast(bytes, 0));
    if (run.is_root())
        return {};
    MFRES_TRY(run.now, decode_checkpoint(bytes, "what rank 0 sent"));
    if (run.now.state.first_moment.empty()) {
        run.initial = std::move(run.now.state.weights);
        run.now.state = {};
    }
    return {};
}

/// The cases of the root rank, which alone makes caches.
Status join_data(Run& run, TrainLog& log) {
    MFRES_CHECK(open_data(run, DataUse::join, log));
    if (run.data->fingerprint() == run.now.data_fingerprint)
        return {};
    return Error{ErrorCode::checkpoint_mismatch,
                 text(source_words(run.options.data), " is data ", fingerprint_words(run.data->fingerprint()),
                      " here, and rank 0 trains on ", fingerprint_words(run.now.data_fingerprint)),
                 "data"};
}

} // namespace

Result<Run> claim_run(const TrainerOptions& options) {
    Run run{options, RunFolder::of_another(options.run), {}, {}, nullptr, nullptr, 0};
    if (!run.is_root())
        return run;
    if (options.resume) {
        MFRES_TRY(run.folder, RunFolder::claim_existing(options.run));
        return run;
    }
    MFRES_CHECK(options.init.empty() ? start_from_seed(options, run) : start_from_model(options, run));
    MFRES_CHECK(check_split(run));
    MFRES_TRY(run.folder, RunFolder::claim_new(options.run));
    return run;
}

Status start_run(Run& run, TrainLog& log) {
    if (run.is_root())
        MFRES_CHECK(start_root(run, log));
    MFRES_CHECK(share_state(run));
    return run.is_root() ? Status() : join_data(run, log);
}

Result<Weights> draw_weights(const Recipe& recipe) {
    MFRES_TRY(const Variant variant, parse_variant(recipe.network));
    MFRES_TRY(Model fresh, init_model(variant, recipe.init_seed));
    return std::move(fresh.weights);
}

Error resume_mismatch(const Run& run, const std::string& difference) {
    const std::string path = run.folder.path().string();
    return {ErrorCode::checkpoint_mismatch, text("the run in ", path, " cannot be resumed like this: ", difference),
            path};
}

std::string fingerprint_words(const std::string& fingerprint) {
    return fingerprint.empty() ? "none" : fingerprint.substr(0, 16) + "...";
}

} // namespace mfres
