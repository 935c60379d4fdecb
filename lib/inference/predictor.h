// SPDX-License-Identifier: MIT
// The implementation that Predictor and Segmenter share: a model with its preprocessing, compiled network and
// postprocessing. Calibration, comparison, evaluation and robustness use it, too.
#pragma once

#include "backends/backend.h"
#include "core/array_memory.h"
#include "core/guard.h"
#include "core/stop.h"
#include "core/thread_pool.h"
#include "imaging/case.h"
#include "imaging/labels.h"
#include "imaging/preprocess.h"
#include "inference/box_predictor.h"
#include "inference/model_input.h"
#include "inference/stage_clock.h"
#include "model/model.h"

#include <mfres/case.h>
#include <mfres/predictor.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mfres {

/// A case loaded and preprocessed.
struct PreparedCase {
    Case loaded;
    Preprocessing preprocessing;

    /// The input of the network; it refers to this object. `threads` threads write it.
    BrainBox box(int threads) const;
};

/// How a case is labelled, and which results are computed besides its labels.
struct CaseRequest {
    LabelCoding scheme = LabelScheme::brats;
    PostprocessingSizes sizes;
    bool probabilities = false;
    bool labels = true;   ///< on the input's grid as a whole, and not a slice at a time
    ModalitySet kept{};   ///< volumes that are not released after inference
    bool picture = false; ///< these are for a preview
};

/// Classes and probabilities on the grid of Case::scans.
struct LabelledCase {
    LabelMap classes;
    std::optional<ProbabilityMap> probabilities;
};

class CasePredictor {
  public:
    /// `name` stands for the model in messages and reports. Errors: those of find_backend, model_input and
    /// compile_options; invalid_argument (options).
    static Result<std::unique_ptr<CasePredictor>> open(std::shared_ptr<const Model> model, std::string name,
                                                       const PredictorOptions& options);

    /// The same for a model file, or the name of weights that come with mfres. Errors: also those of find_model and
    /// load_model.
    static Result<std::unique_ptr<CasePredictor>> open(const std::filesystem::path& model,
                                                       const PredictorOptions& options);

    const Model& model() const { return *model_; }
    const std::string& name() const { return name_; }
    const ModelInput& input() const { return input_; }
    const Backend& backend() const { return *backend_; }
    const AcceptedChecks& accepted() const { return options_.accept; }
    BoxPredictor& boxes() { return *boxes_; }
    ThreadPool* pool() const { return pool_.get(); }
    ArrayMemory* arrays() const { return arrays_.get(); }
    int threads() const { return boxes_->threads(); }

    /// Error: model_metadata_invalid, unless the model has the four classes of a tumour.
    Status check_classes() const;

    /// The scheme or mapping of that name, of the model if it is empty or "auto". Errors: those of LabelCoding::parse.
    Result<LabelCoding> scheme(const std::string& wanted) const;

    /// The sizes given, or those of the model's metadata, or 0. Errors: invalid_argument (one that is negative or not
    /// finite).
    Result<PostprocessingSizes> postprocessing(std::optional<double> min_component_mm3,
                                               std::optional<double> min_enhancing_mm3) const;

    /// A case with the contrasts and the voxel size that the model was trained for. `any_contrasts` as in
    /// PredictOptions. Errors: those of check_contrasts and load_case.
    Result<Case> load(const CaseFiles& files, AffineSource use, bool resample, bool any_contrasts) const;
    Result<Case> load(const CaseVolumes& volumes, bool resample, bool any_contrasts) const;

    /// Errors: those of preprocess_case.
    Result<PreparedCase> prepare(Case loaded) const;

    /// To be called when a case begins: restarts the measurement of peak memory, and, under a memory limit, releases
    /// the network that was compiled for the case before.
    void begin_case();

    /// Stages "prepare" to "restore". Releases the volumes that are not in CaseRequest::kept. Sets all fields of the
    /// report but `classes`, `regions` and `measured_peak_bytes`. The memory of `reused` may become that of the result.
    /// Errors: those of preprocess_case, compiling and running; memory_limit; invalid_argument (postprocessing sizes).
    Result<LabelledCase> label(Case& loaded, const CaseRequest& request, StageClock& clock, PredictionReport& report,
                               LabelledCase reused = {});

    /// Memory of labels and probabilities on the scans' grid, for the next case; with keep_memory only.
    LabelledCase& kept_case() { return kept_case_; }
    bool keeps_memory() const { return options_.keep_memory; }

    /// Labels a preprocessed case: stages "compile" to "labels". Errors: as label().
    Result<BoxPrediction> label_box(const BrainBox& box, bool probabilities, StageClock& clock,
                                    PredictionReport& report);

    /// Compiles for a box of that size, and runs the network once on zeros. Errors: those of Predictor::warm_up.
    Status warm_up(const std::array<std::int64_t, 3>& brain_size);

    /// See Predictor::cancel. begin_case() forgets it.
    void cancel() noexcept { cancelled_ = true; }
    const std::atomic<bool>* cancelled() const { return &cancelled_; }

    /// Tells the user's log what was opened, and what a case came to.
    void log_opened() const;
    void log_case(const PredictionReport& report) const;
    /// Returns its argument, and tells the user's log of its error.
    template <typename Value>
    Result<Value> logged(Result<Value> result) const {
        if (!result)
            log(LogLevel::error, result.error().message);
        return result;
    }
    void log(LogLevel level, std::string_view message) const;

    /// Peak resident memory of the process since begin_case(), less the resident memory before open(); 0 where the
    /// system does not report it.
    std::int64_t measured_peak() const;

  private:
    CasePredictor() = default;
    void describe_run(PredictionReport& report) const;
    CaseOptions options_of_case(bool resample) const;

    std::shared_ptr<const Model> model_;
    std::string name_;
    ModelInput input_;
    const Backend* backend_ = nullptr;
    PredictorOptions options_;
    RunInfo used_;
    std::shared_ptr<ThreadPool> pool_;
    std::unique_ptr<ArrayMemory> arrays_; ///< outlives what is compiled in it
    std::unique_ptr<BoxPredictor> boxes_;
    std::atomic<bool> cancelled_{false};
    LabelledCase kept_case_;
    std::int64_t idle_bytes_ = 0; ///< resident memory before the model was opened
    std::int64_t kept_bytes_ = 0; ///< of the network compiled for the case before
};

/// During its lifetime the calling thread works on a case: its parallel loops run on the predictor's threads, its arrays
/// come from the predictor's memory, and loops end with Stopped where it is cancelled (see guarded_case).
class CaseScope {
  public:
    explicit CaseScope(CasePredictor& predictor)
        : predictor_(predictor), threads_(predictor.pool()), arrays_(predictor.arrays()),
          stop_(predictor.cancelled(), OnStop::unwind) {
        predictor.begin_case();
    }
    ~CaseScope() { predictor_.arrays()->end_case(); }
    CaseScope(const CaseScope&) = delete;
    CaseScope& operator=(const CaseScope&) = delete;

  private:
    CasePredictor& predictor_;
    ThreadPoolScope threads_;
    ArrayMemoryScope arrays_;
    StopScope stop_;
};

/// guarded() for what works in a CaseScope. An error, among them interrupted for Stopped, goes to the user's log.
template <typename Body>
auto guarded_case(const CasePredictor& predictor, const std::string& where, const Body& body) -> decltype(body()) {
    const auto work = [&]() -> decltype(body()) {
        try {
            return body();
        } catch (const Stopped& stopped) {
            return Error{ErrorCode::interrupted, stopped.what(), {}};
        }
    };
    return guarded(where, [&] { return predictor.logged(guarded(where, work)); });
}

/// A pointer without ownership, for CasePredictor::open: `model` must outlive it.
inline std::shared_ptr<const Model> borrowed(const Model& model) {
    return {std::shared_ptr<const Model>(), &model};
}

/// The labels of a case as they are written, into an object whose memory is reused: on the grid of the input, in
/// CaseRequest::scheme. Sets `classes` and `regions` of the report from this map. Leaves anything in `classes`.
/// Errors: label_outside_scheme.
Status write_labels(const Case& loaded, LabelMap& classes, const CaseRequest& request, LabelMap& labels,
                    PredictionReport& report);
/// The same labels a slice at a time, i fastest, so that the map is never whole in memory. Errors: also those of `take`;
/// label_outside_scheme comes after the last slice.
Status write_label_slices(const Case& loaded, const LabelMap& classes, const CaseRequest& request,
                          PredictionReport& report, const std::function<Status(std::span<const std::uint8_t>)>& take);

/// Errors: invalid_argument for a size that is negative or not finite.
Status check_sizes(const PostprocessingSizes& sizes);

} // namespace mfres
