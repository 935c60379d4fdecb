// SPDX-License-Identifier: MIT
// Whole training runs on small phantoms: what it takes to start one, and to compare two.
#pragma once

#include "backends/training.h"
#include "data/cache.h"
#include "model/model.h"
#include "networks/registry.h"
#include "support/cached_cases.h"
#include "support/cases.h"
#include "support/paths.h"
#include "train/checkpoint.h"

#include <mfres/trainer.h>

#include <nlohmann/json.hpp>

#include <algorithm>

namespace mfres::test {

/// A cache of phantoms, made once per test program. Their ids are `prefix` and the seed.
class PhantomCache {
  public:
    PhantomCache(std::size_t cases, std::uint64_t first_seed, const std::string& prefix = "case-") {
        std::vector<CaseFiles> files;
        for (std::size_t i = 0; i < cases; ++i) {
            auto phantom = make_phantom({.seed = first_seed + i, .size = {48, 56, 48}, .threads = 1});
            REQUIRE_OK(phantom);
            files.push_back(write_labelled_case(folder_, prefix + std::to_string(first_seed + i), phantom->volumes,
                                                phantom->labels));
        }
        REQUIRE_OK(write_cache(path(), files, {}, {}));
    }
    std::filesystem::path path() const { return folder_ / "cases.mfcache"; }
    const std::filesystem::path& cases() const { return folder_.path(); }

  private:
    TemporaryFolder folder_;
};

inline const PhantomCache& training_cases() {
    static const PhantomCache cache(2, 1);
    return cache;
}
inline const PhantomCache& validation_cases() {
    static const PhantomCache cache(1, 9);
    return cache;
}

/// The smallest network that has every kind of layer, on the smallest crops.
inline std::string tiny_recipe(const nlohmann::json& changes = nlohmann::json::object()) {
    nlohmann::json recipe = {{"network", nlohmann::json::parse(small_network)},
                             {"steps", 20},
                             {"batch", 2},
                             {"crop", {16, 16, 16}},
                             {"tumour_probability", 1.0},
                             {"validate_every", 10}};
    recipe.update(changes);
    return recipe.dump();
}

inline TrainerOptions tiny_run(const std::filesystem::path& run, std::string_view backend, std::string recipe) {
    TrainerOptions options;
    options.data = training_cases().path();
    options.run = run;
    options.recipe = std::move(recipe);
    options.compute.backend = backend;
    options.compute.threads = 1; // threads that wait for each other on a busy machine take far longer than one
    options.log_steps = 4;
    return options;
}

/// A small model with weights drawn from the seed.
inline Model small_model(std::uint64_t seed, std::string_view network = small_network) {
    const auto variant = parse_variant(network);
    REQUIRE_OK(variant);
    auto model = init_model(*variant, seed);
    REQUIRE_OK(model);
    return std::move(model).value();
}

/// That an error has this code and that its message contains all parts.
inline void check_error(const Error& error, ErrorCode code, const std::vector<std::string>& parts) {
    INFO(error.message);
    CHECK(error.code == code);
    for (const std::string& part : parts) {
        INFO(part);
        CHECK(error.message.find(part) != std::string::npos);
    }
}

/// That a run is rejected before its first step.
inline void check_rejected(const TrainerOptions& options, ErrorCode code, const std::vector<std::string>& parts = {}) {
    const auto trainer = Trainer::open(options);
    REQUIRE_FALSE(trainer.ok());
    check_error(trainer.error(), code, parts);
}

inline TrainReport train(const TrainerOptions& options, const TrainObserver& observer = {}) {
    auto trainer = Trainer::open(options, observer);
    REQUIRE_OK(trainer);
    auto report = trainer->run(observer);
    REQUIRE_OK(report);
    return std::move(report).value();
}

/// Notes the loss of every step, and stops after step `last` (0 = never).
inline TrainObserver noting(std::vector<double>& losses, std::int64_t last = 0) {
    return [&losses, last](const TrainEvent& event) {
        if (event.kind != TrainEvent::Kind::step)
            return true;
        losses.push_back(event.loss);
        return event.step != last;
    };
}

inline Checkpoint checkpoint_of(const std::filesystem::path& path) {
    auto checkpoint = read_checkpoint(path);
    REQUIRE_OK(checkpoint);
    return std::move(checkpoint).value();
}

inline void check_equal_bits(const Weights& a, const Weights& b) {
    REQUIRE(a.size() == b.size());
    for (const auto& [name, tensor] : a) {
        INFO(name);
        const auto other = b.find(name);
        REQUIRE(other != b.end());
        CHECK(std::equal(tensor.values().begin(), tensor.values().end(), other->second.values().begin(),
                         other->second.values().end()));
    }
}

/// Everything but what a clock says.
inline void check_same_training(const Checkpoint& a, const Checkpoint& b) {
    CHECK(a.step == b.step);
    CHECK(a.skipped == b.skipped);
    CHECK(a.skipped_in_row == b.skipped_in_row);
    CHECK(a.state.loss_scaling == b.state.loss_scaling);
    check_equal_bits(a.state.weights, b.state.weights);
    check_equal_bits(a.state.first_moment, b.state.first_moment);
    check_equal_bits(a.state.second_moment, b.state.second_moment);
    check_equal_bits(a.state.largest_second_moment, b.state.largest_second_moment);
    check_equal_bits(a.average, b.average);
    REQUIRE(a.rows.size() == b.rows.size());
    for (std::size_t i = 0; i < a.rows.size(); ++i) {
        CHECK(a.rows[i].step == b.rows[i].step);
        CHECK(a.rows[i].loss == b.rows[i].loss);
        CHECK(a.rows[i].gradient_norm == b.rows[i].gradient_norm);
        CHECK(a.rows[i].learning_rate == b.rows[i].learning_rate);
        CHECK(a.rows[i].dice == b.rows[i].dice);
        CHECK(a.rows[i].skipped == b.rows[i].skipped);
    }
    REQUIRE(a.validations.size() == b.validations.size());
    for (std::size_t i = 0; i < a.validations.size(); ++i)
        CHECK(a.validations[i].mean == b.validations[i].mean);
    CHECK(a.best == b.best);
}

} // namespace mfres::test
