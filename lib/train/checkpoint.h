// SPDX-License-Identifier: MIT
// Checkpoints: the complete state of a training run in one file. A run that is resumed gives the same
// bits as one without a break.
//
// Layout, all integers little-endian:
//   8 bytes   "MFRESCKP"
//   u32       format version, 1
//   u32       number of sections
//   per section: 16 bytes name (ASCII, padded with zeros), u64 length in bytes, u32 CRC-32 of its bytes
//   u32       CRC-32 of everything before
//   the sections' bytes in the same order, nothing between or after them
// Sections "state" (with the loss scaling of fp16) and "history" are JSON; "weights", "first_moment", "second_moment",
// "largest_moment" (AMSGrad only) and "average" (moving average only) are safetensors with f32 values.
#pragma once

#include "backends/training.h"
#include "train/recipe.h"
#include "train/run_data.h"

#include <mfres/status.h>
#include <mfres/trainer.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mfres {

/// Sums over the steps since the last row of the history.
struct OpenRow {
    std::int64_t steps = 0;
    double loss = 0.0;
    double gradient_norm = 0.0;
    double learning_rate = 0.0; ///< of the last step
    double seconds = 0.0;       ///< in training steps
    double waited = 0.0;        ///< seconds of these spent waiting for batches
    std::int64_t skipped = 0;   ///< steps of these that overflowed and changed nothing
    friend bool operator==(const OpenRow&, const OpenRow&) = default;
};

struct Checkpoint {
    Recipe recipe;
    std::int64_t step = 0; ///< steps trained; the sampler and all random numbers follow from it and the recipe's seed
    double epoch = 0.0;    ///< passes over the cases, for information
    std::string data_fingerprint;
    std::string validation_fingerprint; ///< empty without validation
    RunData data;                       ///< where these cases are found again
    std::string backend;
    int threads = 0;                 ///< of each rank
    int ranks = 1;                   ///< that trained together
    double seconds = 0.0;            ///< of training and validation so far
    std::int64_t skipped = 0;        ///< steps so far that overflowed in fp16 and changed nothing
    std::int64_t skipped_in_row = 0; ///< of these the last ones, one after the other
    TrainingState state;
    Weights average; ///< moving average of all parameters, empty without one
    OpenRow open_row;
    std::vector<TrainRow> rows;
    std::vector<Validation> validations; ///< in the order of steps
    std::optional<std::size_t> best;     ///< index into validations

    /// What is evaluated and exported.
    const Weights& evaluated() const { return average.empty() ? state.weights : average; }
};

/// The bytes of a checkpoint file. Errors: training_diverged (a weight or moment is NaN or infinite).
Result<std::vector<std::byte>> encode_checkpoint(const Checkpoint& checkpoint);

/// Reads and checks all of it; `path` is only named in messages. Errors: checkpoint_damaged (cut short, other bytes
/// than were written, another format version).
Result<Checkpoint> decode_checkpoint(std::span<const std::byte> bytes, const std::string& path);

/// Errors: file_not_found, file_read, checkpoint_damaged.
Result<Checkpoint> read_checkpoint(const std::filesystem::path& path);

/// Complete or not at all: after a crash the file holds the old bytes or the new ones.
/// Errors: training_diverged, file_write.
Status write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// The two newest checkpoints of a run: last.ckpt and, from the save before, previous.ckpt. A process that is killed at
/// any moment leaves at least one of them complete and undamaged.
class CheckpointFolder {
  public:
    explicit CheckpointFolder(std::filesystem::path folder);

    const std::filesystem::path& last() const { return last_; }
    const std::filesystem::path& previous() const { return previous_; }

    /// The newest checkpoint that is not damaged, and a warning if it is not last.ckpt.
    struct Found {
        Checkpoint checkpoint;
        std::string warning;
    };
    /// Errors: file_not_found (there is neither file), checkpoint_damaged (names what is wrong with each).
    Result<Found> load();

    /// last.ckpt becomes previous.ckpt, unless it is damaged, and the checkpoint last.ckpt.
    /// Errors: training_diverged (nothing was changed), file_write.
    Status save(const Checkpoint& checkpoint);

    /// Removes temporary files that a killed process left behind. Precondition: no other process saves here.
    void remove_leftovers() const;

  private:
    Status keep_last_as_previous() const;

    std::filesystem::path folder_, last_, previous_;
    std::optional<bool> last_is_sound_; ///< empty until last.ckpt was checked
};

} // namespace mfres
