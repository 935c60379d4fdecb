// SPDX-License-Identifier: MIT
// The selftest: a list of checks, and their report.
#include <mfres/selftest.h>

#include "backends/backend.h"
#include "core/file.h"
#include "core/guard.h"
#include "core/parallel.h"
#include "core/thread_pool.h"
#include "core/try.h"
#include "imaging/labels.h"
#include "model/find_model.h"
#include "model/model.h"
#include "phantom/phantom.h"
#include "selftest/golden.h"
#include "selftest/op_cases.h"
#include "selftest/record.h"
#include "selftest/run_graph.h"

#include <mfres/metrics.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <system_error>
#include <utility>

namespace mfres {

namespace {

using selftest::OpCase;
using selftest::Record;

/// Largest squared error of an op, relative to the squares of the values.
constexpr double op_tolerance = 1e-10;

struct Check {
    std::string name;
    std::function<Result<std::string>(const Progress&)> run;
};

// ---- ops ------------------------------------------------------------------------------------------------------------

/// The op cases with what the reference backend computes, each of them computed when it is first asked for.
class References {
  public:
    Result<std::string> compare(const Backend& backend, int threads, const Progress& progress) {
        MFRES_TRY(const Backend* const reference, find_backend("reference"));
        MFRES_TRY(const CompileOptions options, compile_options(threads));
        double worst = 0.0;
        std::size_t rejected = 0;
        for (std::size_t i = 0; i < cases_.size(); ++i) {
            if (progress && !progress("", static_cast<double>(i) / static_cast<double>(cases_.size())))
                return Error{ErrorCode::interrupted, "the selftest was stopped on request", {}};
            MFRES_TRY(const auto error, error_of(i, backend, *reference, options));
            if (!error) {
                ++rejected;
                continue;
            }
            if (!(*error <= op_tolerance))
                return Error{ErrorCode::internal,
                             text(backend.name(), " computes '", cases_[i].name, "' with a squared error of ", *error,
                                  " of the squares of the values, allowed is ", op_tolerance),
                             cases_[i].name};
            worst = std::max(worst, *error);
        }
        return text(cases_.size() - rejected, " op cases, largest squared error ", worst,
                    rejected > 0 ? text("; it rejects ", rejected) : "");
    }

  private:
    static Result<CompileOptions> compile_options(int threads) {
        CompileOptions options;
        options.threads = threads;
        MFRES_TRY(options.pool, ThreadPool::create({.threads = threads}));
        return options;
    }

    /// Nothing where the backend rejects the case.
    Result<std::optional<double>> error_of(std::size_t index, const Backend& backend, const Backend& reference,
                                           const CompileOptions& options) {
        const OpCase& op_case = cases_[index];
        const std::uint64_t seed = selftest::hash(op_case.name);
        const Weights weights = selftest::random_weights(op_case.graph, seed);
        const Tensor input = selftest::random_tensor(op_case.graph.node(op_case.graph.input()).shape, seed + 1);
        if (index == expected_.size()) {
            MFRES_TRY(Tensor expected, selftest::run(reference, op_case.graph, weights, input, options));
            expected_.push_back(std::move(expected));
        }
        if (!backend.unsupported(op_case.graph, options).empty())
            return std::optional<double>();
        MFRES_TRY(const Tensor got, selftest::run(backend, op_case.graph, weights, input, options));
        return std::optional(selftest::normalised_squared_error(got, expected_[index].values()));
    }

    std::vector<OpCase> cases_ = selftest::op_cases();
    std::vector<Tensor> expected_;
};

// ---- phantom --------------------------------------------------------------------------------------------------------

/// The synthetic case with its true classes; made when it is first asked for.
class SyntheticCase {
  public:
    explicit SyntheticCase(int threads) : threads_(threads) {}

    /// What a model makes of it. Errors: those of Predictor::open and predict.
    Result<Record> segmented(const std::filesystem::path& model, const std::string& backend, const Progress& progress) {
        MFRES_CHECK(make());
        PredictorOptions options;
        options.compute.backend = backend;
        options.compute.threads = threads_;
        MFRES_TRY(Predictor predictor, Predictor::open(model, options));
        CaseVolumes volumes;
        volumes.id = "phantom";
        for (const Modality modality : modalities)
            volumes[modality] = VolumeView::of(phantom_->volumes[static_cast<std::size_t>(modality)]);
        MFRES_TRY(Prediction prediction, predictor.predict(volumes, {.label_scheme = "brats"}, progress));
        MFRES_CHECK(labels_to_classes(prediction.labels, LabelScheme::brats, "phantom"));
        return measured(prediction);
    }

  private:
    Status make() {
        if (phantom_)
            return {};
        MFRES_TRY(Phantom made, make_phantom({.seed = Record{}.seed, .threads = threads_}));
        MFRES_CHECK(labels_to_classes(made.labels, LabelScheme::brats, "phantom"));
        phantom_ = std::move(made);
        return {};
    }

    Record measured(const Prediction& prediction) const {
        Record record{.weights_sha256 = prediction.report.weights_sha256};
        for (const std::uint8_t value : prediction.labels.labels)
            if (value != 0)
                ++record.voxels[value - 1U];
        const RegionCounts counts =
            count_regions(prediction.labels.labels, phantom_->labels.labels, RegionDefinition::brats);
        for (const TumourRegion region : tumour_regions)
            record.dice[static_cast<std::size_t>(region)] = dice(counts[region]);
        return record;
    }

    int threads_;
    std::optional<Phantom> phantom_;
};

Result<std::string> check_weights_file(const std::filesystem::path& named) {
    MFRES_TRY(const auto path, find_model(named));
    MFRES_TRY(const Model model, load_model(path));
    const auto record_file = selftest::record_path(path);
    MFRES_TRY(const Record record, selftest::read_record(record_file));
    if (model.metadata.weights_sha256 != record.weights_sha256)
        return Error{ErrorCode::model_hash_mismatch,
                     text(path.string(), ": the weights have SHA-256 ", model.metadata.weights_sha256,
                          ", their record ", record_file.string(), " has ", record.weights_sha256),
                     path.string()};
    return text(model.variant.name(), ", SHA-256 ", model.metadata.weights_sha256.substr(0, 12), "...");
}

Result<std::string> check_phantom(SyntheticCase& phantom, const std::filesystem::path& model,
                                  const std::string& backend, const Progress& progress) {
    MFRES_TRY(const Record recorded, selftest::read_record(selftest::record_path(model)));
    // The stages of a case begin at 0 each; the check as a whole does not go back.
    const Progress begun = [&](std::string_view, double) { return !progress || progress("", 0.0); };
    MFRES_TRY(const Record measured, phantom.segmented(model, backend, begun));
    MFRES_CHECK(selftest::check_record(measured, recorded, text(model.stem().string(), " on ", backend)));
    const auto shown = [&](std::size_t region) { return std::round(measured.dice[region] * 1e4) / 1e4; };
    return text("Dice ", shown(0), " (WT), ", shown(1), " (TC), ", shown(2), " (ET)");
}

// ---- the list -------------------------------------------------------------------------------------------------------

/// The backends that work here, first those that are faster.
Result<std::vector<const Backend*>> chosen_backends(const std::string& choice, std::vector<std::string>& not_run) {
    std::vector<const Backend*> chosen;
    if (choice != "auto") {
        MFRES_TRY(const Backend* const backend, find_backend(choice));
        chosen.push_back(backend);
        return chosen;
    }
    for (const Backend* const backend : backends()) {
        const Status available = backend->available();
        if (available)
            chosen.push_back(backend);
        else
            not_run.push_back(text(backend->name(), ": ", available.error().message));
    }
    return chosen;
}

/// The model files; a name that none has stays as it is, and its check says so.
std::vector<std::filesystem::path> chosen_models(const std::vector<std::filesystem::path>& named) {
    if (named.empty()) {
        auto shipped = shipped_models();
        return shipped.empty() ? std::vector<std::filesystem::path>{"mf-res2net"} : shipped;
    }
    std::vector<std::filesystem::path> models;
    for (const auto& model : named) {
        const auto found = find_model(model);
        models.push_back(found ? *found : model);
    }
    return models;
}

std::filesystem::path smallest(const std::vector<std::filesystem::path>& models) {
    std::error_code ignored;
    return *std::min_element(models.begin(), models.end(), [&](const auto& a, const auto& b) {
        return std::filesystem::file_size(a, ignored) < std::filesystem::file_size(b, ignored);
    });
}

std::vector<Check> list_checks(const SelftestOptions& options, const std::vector<const Backend*>& chosen,
                               const std::shared_ptr<References>& references,
                               const std::shared_ptr<SyntheticCase>& phantom) {
    std::vector<Check> checks;
    for (const auto& golden : selftest::golden_checks())
        checks.push_back({golden.name, [&golden](const Progress&) { return golden.run(); }});
    const int threads = options.threads;
    for (const Backend* const backend : chosen)
        if (backend->name() != "reference")
            checks.push_back({text("ops: ", backend->name()), [=](const Progress& progress) {
                                  return references->compare(*backend, threads, progress);
                              }});
    const auto models = chosen_models(options.models);
    for (const auto& model : models)
        checks.push_back(
            {"weights: " + model.stem().string(), [model](const Progress&) { return check_weights_file(model); }});
    const auto add_phantom = [&](const std::filesystem::path& model, const Backend& backend) {
        checks.push_back({text("phantom: ", model.stem().string(), " on ", backend.name()),
                          [=, name = std::string(backend.name())](const Progress& progress) {
                              return check_phantom(*phantom, model, name, progress);
                          }});
    };
    for (const Backend* const backend : chosen) {
        if (backend != chosen.front() && backend->name() != "reference")
            add_phantom(smallest(models), *backend);
        else if (backend == chosen.front())
            for (const auto& model : models)
                add_phantom(model, *backend);
    }
    return checks;
}

SelftestCheck run_check(const Check& check, const Progress& progress) {
    const auto start = std::chrono::steady_clock::now();
    auto found = guarded(check.name, [&] { return check.run(progress); });
    SelftestCheck done{.name = check.name};
    done.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (found)
        done.found = std::move(found).value();
    else
        done.failure = std::move(found).error();
    return done;
}

Status check_threads(int threads) {
    if (threads < 0 || threads > CompileOptions::max_threads)
        return Error{ErrorCode::invalid_argument,
                     text("threads is ", threads, ", allowed is 0 to ", CompileOptions::max_threads), "threads"};
    return {};
}

Result<SelftestReport> run_all(const SelftestOptions& options, const Progress& progress) {
    MFRES_CHECK(check_threads(options.threads));
    SelftestReport report;
    MFRES_TRY(const auto chosen, chosen_backends(options.backend, report.not_run));
    const auto checks =
        list_checks(options, chosen, std::make_shared<References>(), std::make_shared<SyntheticCase>(options.threads));
    const auto total = static_cast<double>(checks.size());
    for (const Check& check : checks) {
        const auto done = static_cast<double>(report.checks.size());
        const Progress of_check = [&](std::string_view, double share) {
            return !progress || progress(check.name, (done + share) / total);
        };
        if (!of_check("", 0.0))
            return Error{ErrorCode::interrupted, "the selftest was stopped on request", {}};
        report.checks.push_back(run_check(check, of_check));
        const auto& failure = report.checks.back().failure;
        if (failure && failure->code == ErrorCode::interrupted)
            return *failure;
    }
    return report;
}

} // namespace

Result<SelftestReport> run_selftest(const SelftestOptions& options, const Progress& progress) {
    return guarded("selftest", [&] { return run_all(options, progress); });
}

Result<std::filesystem::path> record_selftest(const std::filesystem::path& model, const SelftestOptions& options,
                                              bool overwrite, const Progress& progress) {
    return guarded(model, [&]() -> Result<std::filesystem::path> {
        MFRES_CHECK(check_threads(options.threads));
        MFRES_TRY(const auto file, find_model(model));
        const auto path = selftest::record_path(file);
        MFRES_CHECK(check_output(path, overwrite));
        SyntheticCase phantom(options.threads);
        MFRES_TRY(const Record record, phantom.segmented(file, options.backend, progress));
        MFRES_CHECK(write_file_atomically(path, selftest::to_json(record), overwrite));
        return path;
    });
}

} // namespace mfres
