// SPDX-License-Identifier: MIT
// The part of a Predictor behind preprocessing: a network on brain boxes. It builds and compiles the network for a box,
// or for tiles where memory is limited, fills its input, runs it on mirror images, and makes labels and probabilities.
// Every use of a network on cases goes through it: segmentation, calibration, comparison, validation while training.
#pragma once

#include "backends/backend.h"
#include "core/argmax.h"
#include "core/line_spans.h"
#include "core/page_vector.h"
#include "core/tensor.h"
#include "graph/rewrite.h"
#include "inference/memory_budget.h"
#include "inference/stage_clock.h"
#include "inference/test_time_augmentation.h"
#include "networks/registry.h"

#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace mfres {

/// A preprocessed case: its brain box, padded behind to the network's multiple.
struct BrainBox {
    std::array<std::int64_t, 3> size{}; ///< padded
    /// Writes the input [1, channels, x, y, z], whose voxel (0, 0, 0) is voxel `offset` of the box; 0 beyond the box.
    std::function<void(const std::array<std::int64_t, 3>& offset, const StridedView<float>& input)> fill;
    /// Called after the last fill() in the case that there was one only; may give memory back. May be empty.
    std::function<void()> filled;
    /// Adds the brain voxels of the part of the box that begins at `offset` and has the size of `needed`: those whose labels
    /// and probabilities will be used. May be empty: all.
    std::function<void(const std::array<std::int64_t, 3>& offset, LineSpans& needed)> add_needed;
};

/// Arrays [x][y][z] of the box, z fastest. Outside the spans of BrainBox::add_needed they have no meaning.
struct BoxPrediction {
    PageVector<std::uint8_t> classes;
    /// [1, classes, x, y, z], where they were asked for. Of regions those of the classes between them: with WT, TC and
    /// ET each at least what is inside it, 1 - WT, TC - ET, WT - TC and ET.
    std::optional<Tensor> probabilities;
};

struct BoxPredictorOptions {
    CompileOptions compile;
    MirrorAxes mirror{};
    std::int64_t max_memory = 0;    ///< bytes, 0 = no limit; see PredictorOptions
    std::int64_t system_memory = 0; ///< bytes that the system lets the process take, 0 = not known
    int threads = 1;                ///< outside the backend, at least 1
    bool keep_memory = false;       ///< arrays of probabilities stay for the next box of their size
    bool skip_background = true;    ///< see PredictorOptions
};

class BoxPredictor {
  public:
    /// Variant, weights and backend must outlive it.
    BoxPredictor(const Variant& variant, const Weights& weights, const Backend& backend, BoxPredictorOptions options);

    /// Builds and compiles the network for one input size and keeps it for the next call with that size; one of another
    /// size is dropped before. Errors: those of build_network and Backend::compile.
    Status compile(const std::array<std::int64_t, 3>& size);

    /// Compiles for the whole box, or for the tile that labels it with the least work within the memory limit. Returns
    /// the size. Errors: as compile; memory_limit.
    Result<std::array<std::int64_t, 3>> compile_within_limit(const CaseMemory& memory);

    /// What compile() made; null before and after drop().
    Executable* executable() const { return executable_.get(); }
    /// What it chose for each op.
    const std::vector<Chosen>& chosen() const { return chosen_; }
    /// Its Executable::warnings.
    const std::vector<std::string>& warnings() const { return warnings_; }
    void drop() { executable_.reset(); }
    /// Bytes of the compiled network, 0 if there is none.
    std::int64_t executable_bytes() const { return executable_ ? executable_->peak_bytes() : 0; }

    /// Number of tiles of `tile` that cover a box.
    std::int64_t tiles(const std::array<std::int64_t, 3>& box, const std::array<std::int64_t, 3>& tile) const;

    /// Labels a box with the network compiled for `tile`, tile by tile where it is smaller. Labels are the same bits
    /// with and without probabilities. Probabilities are the mean over mirror images of the tile that decides the
    /// label. Precondition: compile(tile) succeeded. Errors: logits_not_finite, interrupted, backend_failed.
    Result<BoxPrediction> run(const BrainBox& box, const std::array<std::int64_t, 3>& tile, bool probabilities,
                              StageClock& clock) const;

    /// Takes back what run() gave, for the next box; with keep_memory only.
    void recycle(Tensor probabilities);

    /// Output 0 of the whole box, dense. Compiles for it. Errors: as compile and run.
    Result<Tensor> logits(const BrainBox& box);

    /// The network of a box in its inference form (normalisations folded), for measurements inside.
    Result<Network> inference_network(const std::array<std::int64_t, 3>& size) const;

    /// Runs `network`, an inference_network of the box's size, with the given values as its outputs and in the precision
    /// of the options, and calls look(executable): output n is values[n].
    Status observe(const Network& network, const std::vector<NodeId>& values, const BrainBox& box,
                   const std::function<Status(const Executable&)>& look) const;

    const MemoryBudget& budget() const { return budget_; }
    int threads() const { return options_.threads; }
    /// Of the edges of a box.
    std::int64_t multiple() const { return variant_.multiple(); }

  private:
    using Size = std::array<std::int64_t, 3>;

    LabelRule rule() const;
    bool mirrors() const { return mirror_images(options_.mirror) > 1; }
    std::int64_t estimated_bytes(const Size& size) const;
    Status check_system_memory(const CaseMemory& memory) const;
    Status compute_needed(const BrainBox& box, const Size& offset, const MirrorAxes& image) const;
    Status run_pass(StageClock& clock, std::size_t pass, std::size_t passes) const;
    Status run_images(const BrainBox& box, const Size& offset, std::size_t tile, std::size_t tiles,
                      ProbabilityMean* mean, StageClock& clock) const;
    ProbabilityMean take_mean() const;
    Tensor take_probabilities(const BrainBox& box) const;
    Result<BoxPrediction> run_once(const BrainBox& box, bool probabilities, StageClock& clock) const;
    Result<BoxPrediction> run_tiles(const BrainBox& box, const Size& tile, bool probabilities, StageClock& clock) const;

    const Variant& variant_;
    const Weights& weights_;
    const Backend& backend_;
    BoxPredictorOptions options_;
    MemoryBudget budget_;
    Size compiled_size_{};
    std::unique_ptr<Executable> executable_;
    std::vector<Chosen> chosen_;
    std::vector<std::string> warnings_;
    mutable LineSpans needed_;                         ///< of the pass that runs
    mutable std::optional<ProbabilityMean> kept_mean_; ///< with keep_memory
    mutable std::optional<Tensor> kept_probabilities_; ///< likewise
};

} // namespace mfres
