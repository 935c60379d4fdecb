// What the runs of an experiment leave in their folders, and what can be read from it.
#pragma once

#include <mfres/experiment.h>

#include <filesystem>

namespace mfres {

/// The files that an experiment adds to the folder of one training. They are written in this order, each complete or
/// absent, so the last one that is there tells how far the run has come.
struct RunFiles {
    std::filesystem::path folder;

    std::filesystem::path model() const { return folder / "model.safetensors"; } ///< by the Trainer
    std::filesystem::path train() const { return folder / "train.json"; }
    std::filesystem::path cases() const { return folder / "cases.csv"; }
    std::filesystem::path summary() const { return folder / "summary.json"; }
    std::filesystem::path cost() const { return folder / "bench.json"; } ///< table 2 only
};

/// True if the folder holds a checkpoint to go on from.
bool has_checkpoint(const std::filesystem::path& folder);

/// Records a complete training. Errors: file_write.
Status write_training(const RunFiles& files, const TrainReport& report);

/// Records the measurements of its model. Errors: file_write.
Status write_measurements(const RunFiles& files, const MetricsTable& table);

/// Fills state, step, measurements and what is told of the training from the run's folder below `out`; a folder that
/// is not there leaves the run waiting. Errors: file_read, json_invalid, table_invalid, checkpoint_damaged.
Status read_run(const std::filesystem::path& out, ExperimentRun& run);

} // namespace mfres
