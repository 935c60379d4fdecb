// SPDX-License-Identifier: MIT
// A training run on one rank: its options, folder, cases and state.
#pragma once

#include "backends/distributed/communicator.h"
#include "core/try.h"
#include "data/cache.h"
#include "train/checkpoint.h"
#include "train/run_folder.h"

#include <mfres/trainer.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>

namespace mfres {

struct Run {
    TrainerOptions options;
    RunFolder folder;
    Checkpoint now;  ///< what is saved, without `state` once there is an executable, which holds it
    Weights initial; ///< of a run without steps; empty = not drawn yet, or not needed any more
    std::shared_ptr<const Cache> data;
    std::shared_ptr<const Cache> validation; ///< null without one
    std::int64_t steps = 0;                  ///< of the whole training; 0 before the cases are known

    const Recipe& recipe() const { return now.recipe; }
    Communicator& ranks() const { return options.ranks ? *options.ranks : single_rank(); }
    bool is_root() const { return ranks().is_root(); }
    /// Samples of a batch on this rank.
    std::int64_t own_batch() const { return recipe().sampling.batch / ranks().size(); }
};

} // namespace mfres
