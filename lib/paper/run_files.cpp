// SPDX-License-Identifier: MIT
#include "paper/run_files.h"

#include "core/file.h"
#include "core/try.h"
#include "paper/files.h"

namespace mfres {

namespace {

/// Backend and threads, which the reports of trainings and of benchmarks state alike. Throws nlohmann's exceptions.
RunInfo used_by(const Json& report) {
    RunInfo used;
    used.backend = report.at("backend").at("name").get<std::string>();
    used.engine = report.at("backend").at("engine").get<std::string>();
    used.threads = report.at("threads").get<int>();
    return used;
}

/// Reads the training part of a run from to_json(TrainReport).
Status read_training(const RunFiles& files, ExperimentRun& run) {
    MFRES_TRY(const Json report, read_json(files.train()));
    try {
        run.step = report.at("step").get<std::int64_t>();
        run.seconds = report.at("seconds").get<double>();
        run.peak_bytes = report.at("peak_bytes").get<std::int64_t>();
        run.used = used_by(report);
        const Json& recipe = report.at("recipe");
        MFRES_TRY(run.used.precision, parse_precision(recipe.at("precision").get<std::string>()));
        run.used.tf32 = recipe.at("allow_tf32").get<bool>();
        run.used.deterministic = recipe.at("deterministic").get<bool>();
    } catch (const Json::exception& problem) {
        return Error{ErrorCode::json_invalid,
                     text(files.train().string(), " is not a report of a training: ", problem.what()),
                     files.train().string()};
    }
    return {};
}

/// Reads the cost from to_json(BenchmarkReport).
Result<PassCost> read_cost(const RunFiles& files) {
    MFRES_TRY(const Json report, read_json(files.cost()));
    try {
        PassCost cost{report.at("median_ms").get<double>(), report.at("planned_peak_mib").get<double>(),
                      used_by(report)};
        MFRES_TRY(cost.used.precision, parse_precision(report.at("precision").get<std::string>()));
        cost.used.tf32 = report.at("allow_tf32").get<bool>();
        cost.used.deterministic = report.at("deterministic").get<bool>();
        return cost;
    } catch (const Json::exception& problem) {
        return Error{ErrorCode::json_invalid,
                     text(files.cost().string(), " is not a report of a benchmark: ", problem.what()),
                     files.cost().string()};
    }
}

} // namespace

Status write_training(const RunFiles& files, const TrainReport& report) {
    return write_file_atomically(files.train(), to_json(report) + "\n");
}

Status write_measurements(const RunFiles& files, const MetricsTable& table) {
    MFRES_CHECK(write_file_atomically(files.cases(), to_csv(table)));
    return write_file_atomically(files.summary(), to_json(table) + "\n");
}

Status read_run(const std::filesystem::path& out, ExperimentRun& run) {
    const RunFiles files{out / run.folder};
    if (is_there(files.train())) {
        MFRES_CHECK(read_training(files, run));
        run.state = RunState::trained;
        if (is_there(files.summary())) {
            MFRES_TRY(const MetricsTable table, read_csv(files.cases()));
            run.measured = summarise(table);
            run.state = RunState::finished;
        }
        if (is_there(files.cost())) {
            MFRES_TRY(run.cost, read_cost(files));
        }
        return {};
    }
    MFRES_TRY(const auto progress, run_progress(files.folder));
    if (progress) {
        run.step = progress->step;
        run.seconds = progress->seconds;
        run.state = RunState::begun;
    }
    return {};
}

} // namespace mfres
