// SPDX-License-Identifier: MIT
// Training through the interface: what an engine offers besides inference. The trainer, the losses and the checkpoints see
// only this; where the parameters and their moments live (host memory, a GPU) is the engine's business.
//
// One step:  copy(image, t.input());  t.forward();  t.loss(classes, loss);  t.backward();  t.update(step);
#pragma once

#include "backends/backend.h"
#include "backends/crops.h"
#include "backends/distributed/communicator.h"
#include "core/outputs.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace mfres {

/// Sums of one class over every voxel of the batch; p = softmax probability of the class, g = 1 where it is the truth.
/// With Outputs::regions a region stands for a class: p is its sigmoid, g = 1 where the voxel's class is in the region.
/// Every loss of lib/train/loss.h is a function of these, so a whole batch (or several machines) can be summed first.
struct ClassSums {
    double probability_truth = 0.0;   ///< S p g
    double probability = 0.0;         ///< S p
    double probability_squared = 0.0; ///< S p^2
    double truth = 0.0;               ///< S g (= S g^2)
};

/// How the loss changes with the probability of a class at one voxel: dL/dp = truth * g + constant + probability * p.
struct ClassSlope {
    double truth = 0.0;
    double constant = 0.0;
    double probability = 0.0;
};

struct LossValue {
    double loss = 0.0;
    std::vector<ClassSlope> slopes; ///< by class
};

/// The part of a loss that is a function of the sums of all classes.
using OverlapLoss = std::function<LossValue(std::span<const ClassSums>)>;

/// The part of a loss that is a mean over voxels: with p the softmax probability of a voxel's true class,
/// f = (1 - p)^focal_gamma (-log p), which is the cross-entropy for 0 and the focal loss of Lin et al. 2017 else.
/// With top_share < 1 the mean is over the hardest voxels of the batch alone (Wu et al. 2016): of N voxels the
/// max(1, floor(top_share N)) with the greatest f, chosen over all samples and ranks. Voxels whose f equals the least
/// one chosen share what is left for them in equal parts, so the choice depends on no order.
/// With Outputs::regions f is the mean over the regions of that of sigmoid(z), p being sigmoid(z) inside the region and
/// 1 - sigmoid(z) outside: the binary cross-entropy.
struct PointwiseLoss {
    double weight = 0.0; ///< 0 = there is no such part
    double focal_gamma = 0.0;
    double top_share = 1.0;
};

/// The part of a loss that follows other networks (Hinton et al. 2015, "Distilling the knowledge in a neural network"):
/// the mean over all voxels of temperature^2 times the cross-entropy of softmax(logits / temperature) against the
/// probabilities in TrainingExecutable::targets(). With Outputs::regions the binary cross-entropy of sigmoid(logit /
/// temperature) against the probability of each region, its mean over the regions.
struct DistillationLoss {
    double weight = 0.0; ///< 0 = there is no such part
    double temperature = 1.0;
};

/// What a network is trained with: the sum of the parts.
struct Loss {
    Loss() = default;
    /// A function of class sums alone.
    template <typename Function>
    requires(!std::is_same_v<std::remove_cvref_t<Function>, Loss> &&
             std::is_invocable_r_v<LossValue, const Function&, std::span<const ClassSums>>) Loss(Function function)
        : overlap(std::move(function)) {}

    OverlapLoss overlap;                ///< null = there is no such part
    Outputs outputs = Outputs::classes; ///< what the channels of the logits are
    bool per_sample = false; ///< the mean of the overlap parts of all samples in place of that of the whole batch
    PointwiseLoss pointwise;
    DistillationLoss distillation;
    /// What each output of a graph with several counts for; the loss is their sum. Empty: there is one output.
    std::vector<double> output_weights;

    /// The overlap part. Precondition: there is one.
    LossValue operator()(std::span<const ClassSums> sums) const { return overlap(sums); }
};

/// One step of Adam (Kingma and Ba 2015) with L2 regularisation added to the gradient (the classic form, as PyTorch's
/// Adam with weight_decay): g += l2 * w;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
/// w -= rate * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon); with `amsgrad` (Reddi et al. 2018) the
/// largest v so far stands in the root. All learnable parameters alike.
struct OptimiserStep {
    std::int64_t step = 1; ///< counted from 1
    double learning_rate = 1e-3;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
    double l2 = 1e-5;
    bool amsgrad = false;
    double clip_norm = 0.0; ///< > 0: scale the whole gradient down to this Euclidean norm, before L2
};

/// What BatchNorm normalises with, and which gradient it passes on. `batch`: mean and variance of the batch, which the
/// running ones follow. `running`: the running ones, which stay as they are, just as at inference; a BatchNorm is then
/// an affine function of each voxel. With one sample per batch the batch's statistics are the patient's own, which
/// inference does not have: a training that ends with the running ones learns to do without.
enum class NormStatistics : std::uint8_t { batch, running };

/// How much gradients are scaled up in Precision::fp16, where small ones would be lost: by a power of two, which is
/// halved when a step overflows and doubled after many that have not (as in Micikevicius et al. 2018).
struct LossScaling {
    static constexpr double start = 65536.0;
    static constexpr double largest = 16777216.0;

    double scale = start;        ///< a power of two, 1 to `largest`
    std::int64_t good_steps = 0; ///< since it was last halved

    friend bool operator==(const LossScaling&, const LossScaling&) = default;
};

/// Whether `scaling` is one that training can have. Errors: invalid_argument.
Status check_loss_scaling(const LossScaling& scaling);

/// Everything that training has changed, by parameter name: what a checkpoint holds. Moments are those of learnable
/// parameters; `largest_second_moment` is empty without AMSGrad.
struct TrainingState {
    Weights weights; ///< all parameters, with running statistics
    Weights first_moment;
    Weights second_moment;
    Weights largest_second_moment;
    std::optional<LossScaling> loss_scaling; ///< of training in fp16 alone
};

struct TrainingOptions {
    int threads = 0; ///< 0 = all processors this process may use
    Precision precision = Precision::f32;
    bool amsgrad = false;             ///< keep the largest second moments
    double batch_norm_momentum = 0.1; ///< share of the batch in the running statistics (variance: the unbiased one)
    bool allow_tf32 = false;          ///< see CompileOptions
    bool deterministic = true;        ///< see CompileOptions; a resume is exact to the bit only with it
    /// Bytes that may be held (TrainingExecutable::peak_bytes), 0 = no limit. An engine that plans its memory computes
    /// activations a second time in the backward pass where they do not fit: gradients are the same bits.
    std::int64_t memory_cap = 0;
    /// Voxels of the largest case that start_crops() will cut from, so that what an engine holds for that is planned
    /// from the beginning; 0 = none will be.
    std::int64_t largest_case = 0;
    /// Ranks that train together, each with a graph of its own part of the batch, all parts equal. They give every
    /// call of the executable together, with the same options, weights and loss; batch statistics, the loss and the
    /// gradients are then those of the whole batch, and parameters stay equal on all ranks bit for bit. An error on one
    /// is not told to the others: its caller does. Null = this process alone. Has to outlive the executable.
    Communicator* ranks = nullptr;
    /// Gradients are summed over the ranks in parts of at least so many bytes, each as soon as the backward has it.
    std::int64_t bucket_bytes = std::int64_t{2} << 20U;
    int device = 0; ///< see CompileOptions
};

/// The same arithmetic for inference.
CompileOptions arithmetic_of(const TrainingOptions& options);

/// Outputs that a network can be trained on: all five-dimensional, with the batch and the channels of the first, whose
/// extents are whole multiples of theirs, the same along every axis. Errors: graph_invalid.
Status check_training_outputs(const Graph& graph);

/// What a backend asks once it knows how much it will hold, before it allocates any of the large parts: memory that was
/// promised and is not there kills the process. `plain_bytes`: without anything computed a second time, if that
/// differs. Errors: memory_limit (more than TrainingOptions::memory_cap; names the least that would do).
Status check_training_memory(std::string_view backend, std::int64_t bytes, std::int64_t plain_bytes,
                             const TrainingOptions& options);

/// Whether logits have the channels of such outputs. Errors: invalid_argument.
Status check_channels(Outputs outputs, const Shape& logits);

/// What every loss() checks: check_channels(), and one class for each voxel of the logits, [batch][x][y][z], below their number of channels,
/// with regions below classes_of_regions. Errors: invalid_argument.
Status check_classes(std::span<const std::uint8_t> classes, const Shape& logits, Outputs outputs = Outputs::classes);

/// What every update() checks: the ranges that PyTorch's Adam has. Errors: invalid_argument.
Status check_optimiser_step(const OptimiserStep& step);

/// What the backward pass of a step computes a second time to hold less.
struct Recomputation {
    std::int64_t steps = 0; ///< operations, as the engine runs them
    std::int64_t macs = 0;  ///< multiply-accumulates of their convolutions
};

/// A network made ready to train. One thread at a time may use it. Same state, same inputs, same threads: same bits.
class TrainingExecutable {
  public:
    TrainingExecutable() = default;
    TrainingExecutable(const TrainingExecutable&) = delete;
    TrainingExecutable& operator=(const TrainingExecutable&) = delete;
    virtual ~TrainingExecutable() = default;

    /// Where to put the input [batch, channel, x, y, z] before forward().
    virtual StridedView<float> input() = 0;

    /// Whether start_crops() can make inputs and classes from cases on the device.
    virtual bool cuts_crops() const { return false; }
    /// Begins to make the batch from as many crops as it has samples, beside what the device does meanwhile. What they
    /// point to may go when this returns. Errors: operation_unsupported (it does not cut crops), invalid_argument
    /// (another number of them), memory_limit, backend_failed.
    virtual Status start_crops(std::span<const CropRequest> crops);
    /// The batch that was begun last becomes the input of forward() and the classes of loss(). Precondition:
    /// start_crops() was called since.
    virtual Status take_crops();

    /// Computes the output; with batch statistics moves the running ones. backward() follows the last forward().
    /// Errors of this, loss() and backward() with several ranks: also those of Communicator.
    virtual Status forward(NormStatistics statistics = NormStatistics::batch) = 0;

    /// How many outputs the graph has; more than one for deep supervision.
    virtual std::size_t outputs() const { return 1; }

    /// Output `index` of the last forward(): logits.
    virtual StridedView<const float> output(std::size_t index = 0) const = 0;

    /// dL/d output, to be filled (by loss() or by the caller) before backward(); shape of output(index).
    virtual StridedView<float> output_gradient(std::size_t index = 0) = 0;

    /// Where to put the targets of DistillationLoss before loss(): probabilities by voxel, in the shape of output(0).
    /// Errors: memory_limit.
    virtual Result<StridedView<float>> targets() = 0;

    /// Probabilities of the output (Loss::outputs), the class sums against `classes` [batch][x][y][z] (0 <= class <
    /// channels, or classes_of_regions), the loss, and its gradient into output_gradient(). No classes at all stand for those of the crops
    /// that were taken last. Of several outputs each coarser one has the class of every n-th voxel, n being the ratio of
    /// extents; only the first follows the targets, whose weight goes to the pointwise part in the others.
    /// Precondition: forward() was run. Errors: those of check_classes; invalid_argument (another number of
    /// Loss::output_weights).
    virtual Result<double> loss(std::span<const std::uint8_t> classes, const Loss& loss) = 0;

    /// Gradients of all learnable parameters from output_gradient(), in place of those before.
    virtual Status backward() = 0;

    /// A copy of the gradients by parameter name, for tests and inspection.
    virtual Weights gradients() const = 0;

    /// Changes the parameters; returns the Euclidean norm of the gradient before clipping.
    /// Errors: those of check_optimiser_step; training_diverged if that norm is not finite; then nothing was changed. With Precision::fp16 gradients
    /// are scaled up to keep small ones; a step that overflows for that is left out, which the norm infinity tells, and
    /// the scale is halved; only below a scale of 1 that is an error.
    virtual Result<double> update(const OptimiserStep& step) = 0;

    /// A copy of the parameters with running statistics.
    virtual Weights weights() const = 0;

    virtual TrainingState state() const = 0;
    /// Loss scaling is used in fp16, where none starts anew, and ignored elsewhere. Errors: model_tensor_missing,
    /// model_tensor_shape, model_tensor_extra for any of the four maps, those of check_loss_scaling.
    virtual Status set_state(const TrainingState& state) = 0;

    /// Bytes held: parameters, moments, activations, gradients and workspace.
    virtual std::int64_t peak_bytes() const = 0;

    virtual Recomputation recomputation() const { return {}; }

    /// See Executable::warnings.
    virtual std::vector<std::string> warnings() const { return {}; }

    /// The implementation chosen for each step of forward and backward, in execution order.
    virtual std::vector<Chosen> chosen() const = 0;
};

} // namespace mfres
