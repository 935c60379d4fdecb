// SPDX-License-Identifier: MIT
// Files of the runs of an experiment.
#pragma once

#include "paper/experiment.h"

#include <filesystem>

namespace mfres {

/// The files that an experiment adds to the folder of one training. They are written atomically and in this order, so
/// that the last one that exists defines the state of the run.
struct RunFiles {
    std::filesystem::path folder;

    std::filesystem::path model() const { return folder / "model.safetensors"; } ///< by the Trainer
    std::filesystem::path train() const { return folder / "train.json"; }
    std::filesystem::path cases() const { return folder / "cases.csv"; }
    std::filesystem::path summary() const { return folder / "summary.json"; }
    std::filesystem::path cost() const { return folder / "bench.json"; } ///< table 2 only
};

/// Records a complete training. Errors: file_write.
Status write_training(const RunFiles& files, const TrainReport& report);

/// Records the measurements of its model. Errors: file_write.
Status write_measurements(const RunFiles& files, const MetricsTable& table);

/// Reads state, step, training and measurements of a run from its folder below `out`. Without a folder the state is
/// `waiting`. Errors: file_read, json_invalid, table_invalid, checkpoint_damaged.
Status read_run(const std::filesystem::path& out, ExperimentRun& run);

} // namespace mfres
