// SPDX-License-Identifier: MIT
#include "backends/onednn/training.h"

#include "backends/distributed/data_parallel.h"
#include "backends/kernels/segmentation_loss.h"
#include "backends/kernels/threads.h"
#include "backends/onednn/errors.h"
#include "backends/onednn/low_precision.h"
#include "backends/onednn/training_convolution.h"
#include "backends/onednn/training_elementwise.h"
#include "backends/onednn/training_resample.h"
#include "core/try.h"
#include "graph/commute.h"

#include <algorithm>
#include <optional>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace mfres::onednn {

namespace {

/// Asks for large pages, which reduce page faults and misses of the address cache: activations take gigabytes.
void prefer_large_pages([[maybe_unused]] float* data, [[maybe_unused]] std::int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(data) + page - 1) / page * page;
    const std::uintptr_t end =
        (reinterpret_cast<std::uintptr_t>(data) + static_cast<std::uintptr_t>(bytes)) / page * page;
    if (begin < end)
        (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE); // optional: errors are ignored
#endif
}

/// oneDNN as an engine of the training executor. Values and gradients are channels-last arrays of f32 or bf16. In f32 the
/// caller reads and writes the planned arrays; in bf16 it reads and writes f32 copies of them.
class OneDnnTraining final : public TrainingEngine {
  public:
    OneDnnTraining(const Graph& graph, const Weights& weights, const TrainingOptions& options)
        : threads_(resolve_threads(options.threads)),
          type_(options.precision == Precision::bf16 ? ValueType::bf16 : ValueType::f32),
          engine_(dnnl::engine::kind::cpu, 0), parameters_(graph, weights, options.amsgrad, threads_),
          ranks_(ranks_of(options)) {}

    std::string_view name() const override { return "onednn"; }
    Status guarded(const std::string& node, const std::function<void()>& body) const override {
        return onednn::guarded(node, body);
    }
    /// Kernels and their workspaces are made for a number of threads.
    Status enter(const std::function<Status()>& body) const override {
        const ThreadScope scope(threads_);
        return body();
    }

    std::int64_t value_bytes() const override { return bytes_of(type_); }

    void begin(const TrainingNetwork& network) override {
        network_ = &network;
        context_.emplace(TrainingContext{network, parameters_, engine_, dnnl::stream(engine_), threads_, type_});
        for (const NodeId output : network.graph.outputs())
            losses_.emplace_back(network.graph.node(output).shape, threads_);
    }

    std::unique_ptr<TrainingOp> make_convolution(const std::vector<NodeId>& nodes) override {
        return onednn::make_convolution(*context_, nodes[0]);
    }
    std::unique_ptr<TrainingOp> make_sum(const FusedSum& sum) override { return onednn::make_sum(*context_, sum); }
    std::unique_ptr<TrainingOp> make_copy(NodeId node) override { return onednn::make_copy(*context_, node); }
    std::unique_ptr<TrainingOp> make_resampling(NodeId node) override {
        return onednn::make_resampling(*context_, node);
    }

    std::int64_t loss_workspace_bytes() const override {
        std::int64_t bytes = 0;
        for (const SegmentationLoss& loss : losses_)
            bytes = std::max(bytes, loss.workspace_bytes());
        return bytes;
    }

    std::int64_t other_bytes() const override {
        constexpr auto float_bytes = static_cast<std::int64_t>(sizeof(float));
        return parameters_.bytes() + float_bytes * (copied_floats() + static_cast<std::int64_t>(targets_.size()));
    }

    void allocate(std::int64_t block_bytes) override {
        allocate(block_, block_bytes);
        allocate(copies_, static_cast<std::int64_t>(sizeof(float)) * copied_floats());
    }

    std::byte* block() const override {
        return const_cast<std::byte*>(reinterpret_cast<const std::byte*>(block_.data()));
    }

    void bind(const TrainingEnds& ends) override {
        const Binding binding = context_->binding(ends.placement);
        float* copy = copies_.data();
        const auto exchanged = [&](ArrayId array, const Shape& shape) {
            const ValueArray values = binding.values(array);
            float* const data = values.target(0, copy);
            copy += values.rounds() ? shape.elements() : 0;
            return Exchanged{values, {data, shape, channels_last_strides(shape)}};
        };
        input_ = exchanged(ends.input, network_->input_shape());
        for (std::size_t k = 0; k < ends.outputs.size(); ++k) {
            outputs_.push_back(exchanged(ends.outputs[k], network_->output_shape(k)));
            output_gradients_.push_back(exchanged(ends.output_gradients[k], network_->output_shape(k)));
        }
        loss_workspace_ = binding.workspace(ends.loss_workspace);
    }

    StridedView<float> input() override { return input_.view; }
    StridedView<const float> output(std::size_t index) const override { return as_const(outputs_[index].view); }
    StridedView<float> output_gradient(std::size_t index) override { return output_gradients_[index].view; }

    void allocate_targets() override {
        targets_.resize(static_cast<std::size_t>(network_->output_shape(0).elements()));
    }
    StridedView<float> targets() override {
        const Shape& shape = network_->output_shape(0);
        return {targets_.data(), shape, channels_last_strides(shape)};
    }

    ParameterStore& parameters() override { return parameters_; }
    const ParameterStore& parameters() const override { return parameters_; }
    Status start_gradient_sum(std::size_t begin, std::size_t end) override {
        return ranks_.start_sum(parameters_.flat_gradients().subspan(begin, end - begin));
    }
    Status finish_gradient_sums() override { return ranks_.finish_sums(); }

    void convert_input() override { input_.store(threads_); }
    void finish_forward() override {
        for (const Exchanged& output : outputs_)
            output.load(threads_);
    }
    void start_backward() override {
        for (const Exchanged& gradient : output_gradients_)
            gradient.store(threads_);
    }

    void set_classes(std::span<const std::uint8_t> classes) override { classes_ = own_classes_ = classes; }

    void start_loss(std::size_t output, const LossTerms&) override {
        if (output == 0)
            return;
        chosen_classes_ = every_nth_class(classes_, network_->output_shape(0), network_->output_shape(output));
        own_classes_ = chosen_classes_;
    }

    std::vector<ClassSums> class_sums(std::size_t output, const LossTerms& terms) override {
        return losses_[output].sums(logits(output), own_classes_.data(), terms, loss_workspace_);
    }

    void count_digits(std::size_t output, const LossTerms& terms, std::uint64_t prefix, int shift,
                      std::span<double> counts) override {
        losses_[output].count_digits(logits(output), own_classes_.data(), terms, prefix, shift, counts,
                                     loss_workspace_);
    }

    VoxelSums loss_gradient(std::size_t output, const LossTerms& terms) override {
        return losses_[output].gradient(logits(output), own_classes_.data(), terms, targets_.data(), loss_workspace_,
                                        output_gradients_[output].view.data);
    }

  private:
    /// An array that the caller reads or writes.
    struct Exchanged {
        ValueArray values;
        StridedView<float> view; ///< the same array, or an f32 copy of it

        void store(int threads) const { values.store_all(view.shape.elements(), threads, view.data); }
        void load(int threads) const { values.read_all(view.shape.elements(), threads, view.data); }
    };

    const float* logits(std::size_t output) const { return outputs_[output].view.data; }

    /// Of the f32 copies of the input, the outputs and their gradients; none in f32.
    std::int64_t copied_floats() const {
        if (type_ == ValueType::f32)
            return 0;
        std::int64_t floats = network_->input_shape().elements();
        for (std::size_t k = 0; k < losses_.size(); ++k)
            floats += 2 * network_->output_shape(k).elements();
        return floats;
    }

    void allocate(AlignedVector<float>& memory, std::int64_t bytes) const {
        const std::size_t floats = static_cast<std::size_t>(bytes) / sizeof(float);
        if (floats > memory.max_size())
            throw std::bad_alloc();
        memory.resize(floats);
        prefer_large_pages(memory.data(), bytes);
        // The threads that will work on the memory are the first to touch it.
        parallel_for(static_cast<std::int64_t>(memory.size()), threads_,
                     [&](std::int64_t begin, std::int64_t end, int) {
                         std::fill(memory.begin() + begin, memory.begin() + end, 0.0F);
                     });
    }

    int threads_;
    ValueType type_;
    dnnl::engine engine_;
    HostParameters parameters_;
    Communicator& ranks_;
    const TrainingNetwork* network_ = nullptr;
    std::optional<TrainingContext> context_;
    std::vector<SegmentationLoss> losses_; ///< by output
    AlignedVector<float> block_, copies_;
    AlignedVector<float> targets_; ///< of distillation; empty until allocate_targets()
    Exchanged input_;
    std::vector<Exchanged> outputs_, output_gradients_;
    std::span<const std::uint8_t> classes_, own_classes_; ///< of output 0, and of the output whose loss is computed
    std::vector<std::uint8_t> chosen_classes_;
    float* loss_workspace_ = nullptr;
};

} // namespace

std::vector<Unsupported> unsupported_in_training(const Graph& graph, const TrainingOptions& options) {
    std::vector<Unsupported> rejected = unsupported_relaxations(graph, options.allow_tf32, options.deterministic);
    if (options.precision != Precision::bf16)
        append(rejected, unsupported_precision(graph, options.precision));
    else if (const auto missing = missing_instructions(options.precision))
        rejected.push_back({graph.node(graph.input()).name, *missing});
    return rejected;
}

Result<std::unique_ptr<TrainingExecutable>> compile_training(const Graph& graph, const Weights& weights,
                                                             const TrainingOptions& options) {
    try {
        const Graph& trained =
            options.precision == Precision::bf16 ? move_pointwise_before_whole_upsample(graph) : graph;
        return compile_planned_training(std::make_unique<OneDnnTraining>(trained, weights, options), trained, options);
    } catch (const dnnl::error& error) {
        return Error{ErrorCode::backend_failed, text("oneDNN failed to start: ", error.what()), {}};
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, "no memory was left for the parameters of the onednn backend", {}};
    }
}

} // namespace mfres::onednn
