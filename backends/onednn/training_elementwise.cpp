// SPDX-License-Identifier: MIT
#include "backends/onednn/training_elementwise.h"

#include "backends/distributed/data_parallel.h"
#include "backends/kernels/blocked_loops.h"
#include "backends/kernels/vector_loops.h"
#include "backends/onednn/errors.h"

#include <algorithm>
#include <cmath>

namespace mfres::onednn {

namespace {

/// Sums per chunk, [chunk][operand][2][channel], added up in a fixed order.
class ChunkSums {
  public:
    static std::int64_t bytes(const Blocks& rows, std::size_t operands) {
        return rows.chunks() * static_cast<std::int64_t>(operands) * 2 * rows.channels() *
               static_cast<std::int64_t>(sizeof(double));
    }

    ChunkSums() = default;
    ChunkSums(const Blocks& rows, std::size_t operands, float* memory)
        : data_(reinterpret_cast<double*>(memory)), channels_(rows.channels()),
          per_chunk_(static_cast<std::int64_t>(operands) * 2 * rows.channels()) {}

    void clear(std::int64_t chunk) { std::fill_n(data_ + chunk * per_chunk_, per_chunk_, 0.0); }

    /// Adds a block's two patterns of sums.
    void add(std::int64_t chunk, std::size_t operand, const float* sums, std::int64_t pattern) {
        double* to = data_ + chunk * per_chunk_ + static_cast<std::int64_t>(operand) * 2 * channels_;
        for (std::int64_t half = 0; half < 2; ++half, to += channels_, sums += pattern)
            for (std::int64_t i = 0; i < pattern; i += channels_)
                for (std::int64_t c = 0; c < channels_; ++c)
                    to[c] += double{sums[i + c]};
    }

    struct Pair {
        double first = 0.0, second = 0.0;
    };
    Pair total(std::int64_t first_chunk, std::int64_t chunks, std::size_t operand, std::int64_t channel) const {
        Pair pair;
        const double* from =
            data_ + first_chunk * per_chunk_ + static_cast<std::int64_t>(operand) * 2 * channels_ + channel;
        for (std::int64_t i = 0; i < chunks; ++i, from += per_chunk_) {
            pair.first += from[0];
            pair.second += from[channels_];
        }
        return pair;
    }

  private:
    double* data_ = nullptr;
    std::int64_t channels_ = 0;
    std::int64_t per_chunk_ = 0;
};

/// Per-channel values of each sample, or of the whole batch, as patterns.
class Patterns {
  public:
    Patterns() = default;
    Patterns(const Blocks& rows, std::int64_t groups)
        : pattern_(rows.pattern()), channels_(rows.channels()), shared_(groups == 1),
          values_(static_cast<std::size_t>(groups * rows.pattern()), 0.0F) {}

    void set(std::int64_t group, const std::vector<double>& by_channel) {
        repeat(by_channel.data(), channels_, pattern_, values_.data() + group * pattern_);
    }
    const float* of(std::int64_t sample) const { return values_.data() + (shared_ ? 0 : sample * pattern_); }
    float* group(std::int64_t index) { return values_.data() + index * pattern_; }
    std::int64_t bytes() const { return static_cast<std::int64_t>(values_.size() * sizeof(float)); }

  private:
    std::int64_t pattern_ = 0, channels_ = 0;
    bool shared_ = true;
    AlignedVector<float> values_;
};

/// One operand with what its n_k needs.
struct Operand {
    using Kind = SumOperand::Kind;

    Kind kind = Kind::plain;
    double epsilon = 0.0;
    // Parameters: scale and shift of a norm, or the weight alone.
    float *scale = nullptr, *scale_gradient = nullptr;
    float *shift = nullptr, *shift_gradient = nullptr;
    float *running_mean = nullptr, *running_variance = nullptr;

    std::int64_t groups = 1; ///< with statistics of their own
    Patterns mean, factor, offset;
    Patterns own, centred, constant; ///< of the gradient
    std::vector<Moments> moments;    ///< [group][channel]
    std::vector<double> deviation;   ///< 1 / sqrt(variance + epsilon), [group][channel]

    RowReader reader; ///< of the backward
    ValueArray dx;

    bool normalises() const { return kind == Kind::batch_norm || kind == Kind::instance_norm; }
    bool plain() const { return kind == Kind::plain; }
    Affine affine(std::int64_t sample) const { return {mean.of(sample), factor.of(sample), offset.of(sample)}; }
    AffineGradient gradient(std::int64_t sample) const {
        return {mean.of(sample), own.of(sample), centred.of(sample), constant.of(sample)};
    }
};

const Activation no_activation;

class Sum final : public TrainingOp {
  public:
    Sum(const TrainingContext& context, const FusedSum& sum)
        : context_(context), sum_(sum), rows_(context.node(sum.output).shape, context.threads) {
        for (std::size_t k = 0; k < sum.operands.size(); ++k)
            operands_.push_back(make_operand(sum.operands[k], k));
    }

    std::string forward_implementation() const override { return "mfres:sum"; }
    std::string backward_implementation() const override { return "mfres:sum"; }

    std::int64_t constant_bytes() const override {
        std::int64_t bytes = 0;
        for (const Operand& operand : operands_)
            for (const Patterns* patterns :
                 {&operand.mean, &operand.factor, &operand.offset, &operand.own, &operand.centred, &operand.constant})
                bytes += patterns->bytes();
        return bytes;
    }

    OpWorkspace workspace() const override {
        const std::int64_t sums = ChunkSums::bytes(rows_, operands_.size());
        OpWorkspace workspace;
        workspace.recompute = threads_workspace(2);
        workspace.forward = threads_workspace(2) + sums;
        workspace.backward = threads_workspace(4) + sums;
        return workspace;
    }

    void bind(const ArrayPlacement& placement, const OpArrays& arrays) override {
        const Binding binding = context_.binding(placement);
        for (const OpArrays::Forward& forward : arrays.forwards) {
            Pass& pass = passes_.emplace_back();
            for (const Channels& channels : forward.inputs)
                pass.readers.emplace_back(binding, channels);
            for (const OpArrays::Output& output : forward.outputs)
                pass.writers.push_back({output.first, output.channels.count, binding.values(output.channels.array)});
            pass.memory = binding.workspace(forward.workspace);
        }
        sums_memory_ = ChunkSums(rows_, operands_.size(), behind(passes_[0].memory, 2));
        if (!arrays.has_backward)
            return;
        for (std::size_t k = 0; k < operands_.size(); ++k) {
            if (!operands_[k].plain())
                operands_[k].reader = RowReader(binding, arrays.inputs[k]);
            operands_[k].dx = binding.values(arrays.input_gradients[k].array);
            writes_inputs_ = writes_inputs_ || operands_[k].dx;
        }
        mask_ = arrays.mask;
        gradient_reader_ = RowReader(binding, rows_.channels(), arrays.contributions);
        if (mask_ == MaskBy::array)
            mask_reader_ = RowReader(binding, arrays.mask_array);
        masked_ = binding.values(arrays.summed);
        gradient_ = binding.values(arrays.gradient);
        backward_memory_ = binding.workspace(arrays.workspace);
        backward_sums_memory_ = ChunkSums(rows_, operands_.size(), behind(backward_memory_, 4));
    }

    void forward(bool recompute) override {
        const Pass& pass = passes_[recompute ? 1 : 0];
        if (!recompute)
            prepare_operands(pass);
        rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
            rows_.for_blocks(chunk, [&](std::int64_t first, std::int64_t voxels) {
                compute_block(pass, chunk.sample, first, voxels, of_thread(pass.memory, thread, 2));
            });
        });
    }

    void backward() override {
        rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
            backward_sums_memory_.clear(chunk.index);
            rows_.for_blocks(chunk, [&](std::int64_t first, std::int64_t voxels) {
                sum_block(chunk, first, voxels, of_thread(backward_memory_, thread, 4));
            });
        });
        std::vector<GradientSums> sums;
        for (std::size_t k = 0; k < operands_.size(); ++k)
            sums.push_back(gradient_sums(k));
        for (std::size_t k = 0; k < operands_.size(); ++k)
            set_parameter_gradients(operands_[k], sums[k]);
        add_other_ranks(sums);
        for (std::size_t k = 0; k < operands_.size(); ++k)
            prepare_input_gradient(operands_[k], sums[k]);
        if (!writes_inputs_)
            return;
        rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
            rows_.for_blocks(chunk, [&](std::int64_t first, std::int64_t voxels) {
                input_gradient_block(chunk.sample, first, voxels, of_thread(backward_memory_, thread, 4));
            });
        });
    }

  private:
    struct Pass {
        std::vector<RowReader> readers; ///< by operand
        std::vector<RowWriter> writers;
        float* memory = nullptr;
    };

    std::size_t channel_count() const { return static_cast<std::size_t>(rows_.channels()); }

    Operand make_operand(const SumOperand& from, std::size_t index) const {
        Operand operand;
        operand.kind = from.kind;
        if (operand.plain())
            return operand;
        if (operand.normalises()) {
            const Node& norm = context_.node(from.norm);
            const bool batch = operand.kind == Operand::Kind::batch_norm;
            operand.epsilon = batch ? norm.as<BatchNorm>().epsilon : norm.as<InstanceNorm>().epsilon;
            operand.groups = batch ? 1 : rows_.samples();
            operand.scale = context_.values(norm, 0);
            operand.scale_gradient = context_.gradient(norm, 0);
            operand.shift = context_.values(norm, 1);
            operand.shift_gradient = context_.gradient(norm, 1);
            if (batch) {
                operand.running_mean = context_.values(norm, 2);
                operand.running_variance = context_.values(norm, 3);
            }
        } else {
            operand.scale = context_.values(context_.node(sum_.main), index);
            operand.scale_gradient = context_.gradient(context_.node(sum_.main), index);
        }
        for (Patterns* patterns :
             {&operand.mean, &operand.factor, &operand.offset, &operand.own, &operand.centred, &operand.constant})
            *patterns = Patterns(rows_, operand.groups);
        operand.deviation.resize(static_cast<std::size_t>(operand.groups) * channel_count());
        operand.moments.resize(operand.deviation.size());
        return operand;
    }

    /// Floats of a thread's workspace: `blocks` blocks and two patterns of sums.
    std::int64_t workspace_floats(std::int64_t blocks) const {
        return (blocks * rows_.block() + 2 * rows_.pattern() + 15) / 16 * 16;
    }
    std::int64_t threads_workspace(std::int64_t blocks) const {
        return rows_.threads() * workspace_floats(blocks) * static_cast<std::int64_t>(sizeof(float));
    }
    /// The sums of chunks follow the workspace of all threads.
    float* behind(float* memory, std::int64_t blocks) const {
        return memory + rows_.threads() * workspace_floats(blocks);
    }
    float* of_thread(float* memory, int thread, std::int64_t blocks) const {
        return memory + thread * workspace_floats(blocks);
    }
    float* workspace_block(float* memory, std::int64_t index) const {
        return memory + 2 * rows_.pattern() + index * rows_.block();
    }

    // Forward.

    /// Whether the norm uses its running statistics in this step.
    bool fixed(const Operand& operand) const {
        return operand.kind == Operand::Kind::batch_norm && context_.network.statistics == NormStatistics::running;
    }
    /// Whether the norm computes the statistics of its input.
    bool measures(const Operand& operand) const { return operand.normalises() && !fixed(operand); }

    void use_running_statistics(Operand& operand) const {
        std::vector<double> mean(channel_count()), factor(channel_count()), offset(channel_count());
        for (std::size_t c = 0; c < mean.size(); ++c) {
            operand.deviation[c] = 1.0 / std::sqrt(double{operand.running_variance[c]} + operand.epsilon);
            mean[c] = double{operand.running_mean[c]};
            factor[c] = double{operand.scale[c]} * operand.deviation[c];
            offset[c] = double{operand.shift[c]};
        }
        operand.mean.set(0, mean);
        operand.factor.set(0, factor);
        operand.offset.set(0, offset);
    }

    /// Sets operand.mean to a value near the mean of each channel, the mean of a few voxels. It is subtracted before
    /// values are squared.
    void find_pivot(Operand& operand, const RowReader& reader, std::int64_t group) const {
        constexpr std::int64_t probes = 32;
        const std::int64_t samples = rows_.samples() / operand.groups;
        const std::int64_t voxels = samples * rows_.voxels_per_sample();
        std::vector<double> pivot(channel_count(), 0.0);
        std::vector<float> row(channel_count());
        for (std::int64_t i = 0; i < probes; ++i) {
            const float* at = reader.rows(group * voxels + voxels * i / probes, 1, row.data());
            for (std::size_t c = 0; c < pivot.size(); ++c)
                pivot[c] += double{at[c]} / static_cast<double>(probes);
        }
        operand.mean.set(group, pivot);
    }

    void prepare_operands(const Pass& pass) {
        for (Operand& operand : operands_)
            if (fixed(operand))
                use_running_statistics(operand);
        if (std::any_of(operands_.begin(), operands_.end(), [&](const auto& o) { return measures(o); }))
            take_statistics(pass);
        for (Operand& operand : operands_)
            if (operand.kind == Operand::Kind::weight)
                operand.factor.set(0, std::vector<double>(channel_count(), double{operand.scale[0]}));
    }

    void take_statistics(const Pass& pass) {
        for (std::size_t k = 0; k < operands_.size(); ++k)
            for (std::int64_t group = 0; measures(operands_[k]) && group < operands_[k].groups; ++group)
                find_pivot(operands_[k], pass.readers[k], group);
        rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
            float* memory = of_thread(pass.memory, thread, 2);
            sums_memory_.clear(chunk.index);
            for (std::size_t k = 0; k < operands_.size(); ++k)
                if (measures(operands_[k]))
                    rows_.for_blocks(chunk, [&](std::int64_t first, std::int64_t voxels) {
                        const float* x = pass.readers[k].rows(first, voxels, workspace_block(memory, 0));
                        std::fill_n(memory, 2 * rows_.pattern(), 0.0F);
                        loops_.add_statistics(row(voxels), x, operands_[k].mean.of(chunk.sample), memory,
                                              memory + rows_.pattern());
                        sums_memory_.add(chunk.index, k, memory, rows_.pattern());
                    });
        });
        for (std::size_t k = 0; k < operands_.size(); ++k)
            if (measures(operands_[k]))
                find_moments(k);
        merge_over_ranks();
        for (Operand& operand : operands_)
            for (std::int64_t group = 0; measures(operand) && group < operand.groups; ++group)
                use_moments(operand, group);
    }

    /// From the sums around the pivots, which operand.mean contains.
    void find_moments(std::size_t k) {
        Operand& operand = operands_[k];
        const std::int64_t chunks = rows_.chunks() / operand.groups;
        const double count = values_per_group(operand);
        for (std::int64_t group = 0; group < operand.groups; ++group)
            for (std::size_t c = 0; c < channel_count(); ++c) {
                const auto sums = sums_memory_.total(group * chunks, chunks, k, static_cast<std::int64_t>(c));
                const double from_pivot = sums.first / count;
                const double spread = sums.second / count - from_pivot * from_pivot;
                operand.moments[static_cast<std::size_t>(group) * channel_count() + c] = {
                    double{operand.mean.of(group)[c]} + from_pivot,
                    spread < 0.0 ? 0.0 : spread}; // a maximum would turn NaN into 0
            }
    }

    /// Whether the statistics are those of the samples of all ranks.
    bool spans_ranks(const Operand& operand) const {
        return !context_.network.ranks.alone() && operand.kind == Operand::Kind::batch_norm && measures(operand);
    }

    /// Moments of the batch of all ranks, for all batch_norms in one collective.
    void merge_over_ranks() {
        std::vector<Moments> all;
        std::vector<double> pivots;
        for (const Operand& operand : operands_)
            if (spans_ranks(operand)) {
                all.insert(all.end(), operand.moments.begin(), operand.moments.end());
                pivots.insert(pivots.end(), operand.running_mean, operand.running_mean + channel_count());
            }
        const auto count = static_cast<double>(rows_.samples() * rows_.voxels_per_sample());
        require(merge_moments(context_.network.ranks, count, pivots, all));
        auto next = all.begin();
        for (Operand& operand : operands_)
            if (spans_ranks(operand)) {
                std::copy_n(next, channel_count(), operand.moments.begin());
                next += static_cast<std::ptrdiff_t>(channel_count());
            }
    }

    void use_moments(Operand& operand, std::int64_t group) const {
        const double count = values_per_group(operand) * (spans_ranks(operand) ? context_.network.ranks.size() : 1);
        std::vector<double> mean(channel_count()), factor(channel_count()), offset(channel_count());
        for (std::size_t c = 0; c < mean.size(); ++c) {
            const std::size_t place = static_cast<std::size_t>(group) * mean.size() + c;
            const double variance = operand.moments[place].variance;
            const double deviation = 1.0 / std::sqrt(variance + operand.epsilon);
            mean[c] = operand.moments[place].mean;
            factor[c] = double{operand.scale[c]} * deviation;
            offset[c] = double{operand.shift[c]};
            operand.deviation[place] = deviation;
            if (operand.running_mean) {
                const double unbiased = count > 1.0 ? variance * count / (count - 1.0) : variance;
                move_running(operand.running_mean[c], mean[c]);
                move_running(operand.running_variance[c], unbiased);
            }
        }
        operand.mean.set(group, mean);
        operand.factor.set(group, factor);
        operand.offset.set(group, offset);
    }

    /// The number of values of this rank that one mean is taken over.
    double values_per_group(const Operand& operand) const {
        return static_cast<double>(rows_.samples() / operand.groups * rows_.voxels_per_sample());
    }

    void move_running(float& running, double batch) const {
        const double share = context_.network.batch_norm_momentum;
        running = static_cast<float>((1.0 - share) * double{running} + share * batch);
    }

    Row row(std::int64_t voxels) const { return {voxels * rows_.channels(), rows_.pattern()}; }

    void compute_block(const Pass& pass, std::int64_t sample, std::int64_t first, std::int64_t voxels, float* memory) {
        const bool direct = sum_.slices.empty();
        const std::int64_t place = first * rows_.channels();
        const ValueArray& whole = pass.writers[0].to;
        float* y = direct ? whole.target(place, workspace_block(memory, 0)) : workspace_block(memory, 0);
        for (std::size_t k = 0; k < operands_.size(); ++k) {
            const Operand& operand = operands_[k];
            const float* x = pass.readers[k].rows(first, voxels, workspace_block(memory, 1));
            const Activation& activation = k + 1 == operands_.size() ? sum_.activation : no_activation;
            if (operand.plain())
                loops_.take(row(voxels), activation, x, k > 0, y);
            else
                loops_.normalise(row(voxels), activation, operand.affine(sample), x, k > 0, y);
        }
        if (direct)
            return whole.store(place, voxels * rows_.channels(), y);
        for (const RowWriter& writer : pass.writers)
            writer.write(y, rows_.channels(), first, voxels);
    }

    // Backward.

    /// Stores the masked gradient if there is an array for it, and adds to the sums.
    void sum_block(const Blocks::Chunk& chunk, std::int64_t first, std::int64_t voxels, float* memory) {
        const Row r = row(voxels);
        const float* g = gradient_reader_.rows(first, voxels, workspace_block(memory, 0));
        if (masked_) {
            const std::int64_t place = first * rows_.channels();
            float* to = masked_.target(place, workspace_block(memory, 2));
            if (mask_ == MaskBy::array)
                loops_.mask(r, sum_.activation, g, mask_reader_.rows(first, voxels, workspace_block(memory, 1)), to);
            else if (mask_ == MaskBy::operand)
                loops_.mask_normalised(r, sum_.activation, operands_[0].affine(chunk.sample), g,
                                       operands_[0].reader.rows(first, voxels, workspace_block(memory, 1)), to);
            else
                loops_.take(r, no_activation, g, false, to);
            masked_.store(place, r.count, to);
            g = masked_.read(place, r.count, to); // the sums are those of what was stored
        }
        for (std::size_t k = 0; k < operands_.size(); ++k) {
            if (operands_[k].plain())
                continue;
            const float* x = operands_[k].reader.rows(first, voxels, workspace_block(memory, 1));
            const Affine affine = operands_[k].affine(chunk.sample);
            std::fill_n(memory, 2 * r.pattern, 0.0F);
            if (!masked_ && mask_ == MaskBy::operand)
                loops_.add_masked_products(r, sum_.activation, affine, g, x, memory, memory + r.pattern);
            else
                loops_.add_products(r, g, x, affine.mean, memory, memory + r.pattern);
            backward_sums_memory_.add(chunk.index, k, memory, r.pattern);
        }
    }

    /// With g the gradient of the sum: S = sum g and D = sum g (x - mean), [group][channel]; none for a plain operand.
    using GradientSums = std::vector<ChunkSums::Pair>;

    GradientSums gradient_sums(std::size_t k) const {
        const Operand& operand = operands_[k];
        GradientSums sums;
        const std::int64_t chunks = rows_.chunks() / operand.groups;
        for (std::int64_t group = 0; !operand.plain() && group < operand.groups; ++group)
            for (std::int64_t c = 0; c < rows_.channels(); ++c)
                sums.push_back(backward_sums_memory_.total(group * chunks, chunks, k, c));
        return sums;
    }

    /// With s = 1/sqrt(variance + epsilon): d scale = s D, d shift = S, and D for a weight; of this rank's samples.
    void set_parameter_gradients(Operand& operand, const GradientSums& sums) const {
        if (operand.plain())
            return;
        std::vector<double> scale_sum(channel_count(), 0.0), shift_sum(channel_count(), 0.0);
        for (std::size_t i = 0; i < sums.size(); ++i) {
            const std::size_t c = i % channel_count();
            scale_sum[c] += (operand.normalises() ? operand.deviation[i] : 1.0) * sums[i].second;
            shift_sum[c] += sums[i].first;
        }
        if (operand.normalises()) {
            std::transform(scale_sum.begin(), scale_sum.end(), operand.scale_gradient, narrow);
            std::transform(shift_sum.begin(), shift_sum.end(), operand.shift_gradient, narrow);
        } else {
            double sum = 0.0;
            for (const double part : scale_sum)
                sum += part;
            operand.scale_gradient[0] = narrow(sum);
        }
    }

    /// S and D of the batch of all ranks for the norms whose statistics are those of all ranks.
    void add_other_ranks(std::vector<GradientSums>& sums) const {
        std::vector<double> all;
        for (std::size_t k = 0; k < operands_.size(); ++k)
            for (const ChunkSums::Pair& pair : sums[k])
                if (spans_ranks(operands_[k]))
                    all.insert(all.end(), {pair.first, pair.second});
        if (all.empty())
            return;
        require(context_.network.ranks.all_reduce_sum(all));
        auto next = all.begin();
        for (std::size_t k = 0; k < operands_.size(); ++k)
            for (ChunkSums::Pair& pair : sums[k])
                if (spans_ranks(operands_[k])) {
                    pair.first = *next++;
                    pair.second = *next++;
                }
    }

    /// dx = scale s (g - S/n - (x - mean) s^2 D/n) with n values, with fixed statistics scale s g.
    void prepare_input_gradient(Operand& operand, const GradientSums& sums) const {
        if (operand.plain())
            return;
        const double count = values_per_group(operand) * (spans_ranks(operand) ? context_.network.ranks.size() : 1);
        std::vector<double> own(channel_count()), centred(channel_count()), constant(channel_count());
        for (std::int64_t group = 0; group < operand.groups; ++group) {
            for (std::size_t c = 0; c < own.size(); ++c) {
                const std::size_t place = static_cast<std::size_t>(group) * own.size() + c;
                const double s = operand.normalises() ? operand.deviation[place] : 1.0;
                own[c] = operand.normalises() ? double{operand.scale[c]} * s : double{operand.scale[0]};
                centred[c] = measures(operand) ? -own[c] * s * s * sums[place].second / count : 0.0;
                constant[c] = measures(operand) ? -own[c] * sums[place].first / count : 0.0;
            }
            operand.own.set(group, own);
            operand.centred.set(group, centred);
            operand.constant.set(group, constant);
        }
    }

    static float narrow(double value) { return static_cast<float>(value); }

    void input_gradient_block(std::int64_t sample, std::int64_t first, std::int64_t voxels, float* memory) {
        const Row r = row(voxels);
        const std::int64_t place = first * rows_.channels();
        const float* g = gradient_.read(place, r.count, workspace_block(memory, 1));
        for (const Operand& operand : operands_) {
            if (!operand.dx)
                continue;
            float* dx = operand.dx.target(place, workspace_block(memory, 2));
            if (operand.kind == Operand::Kind::weight) {
                loops_.scale(r.count, operand.scale[0], g, dx);
            } else {
                const float* x = operand.reader.rows(first, voxels, workspace_block(memory, 0));
                if (!masked_ && mask_ == MaskBy::operand)
                    loops_.masked_input_gradient(r, sum_.activation, operand.affine(sample), operand.gradient(sample),
                                                 g, x, dx);
                else
                    loops_.input_gradient(r, operand.gradient(sample), g, x, dx);
            }
            operand.dx.store(place, r.count, dx);
        }
    }

    TrainingContext context_;
    FusedSum sum_;
    Blocks rows_;
    const VectorLoops& loops_ = vector_loops();
    std::vector<Operand> operands_;

    std::vector<Pass> passes_; ///< forward and recomputation
    ChunkSums sums_memory_;

    bool writes_inputs_ = false; ///< the backward op has a second pass, for gradients of operands
    RowReader gradient_reader_;
    MaskBy mask_ = MaskBy::nothing;
    RowReader mask_reader_;
    ValueArray masked_;   ///< where the first pass stores the masked gradient; null if it does not
    ValueArray gradient_; ///< what the second pass reads: `masked_`, or the only contribution
    float* backward_memory_ = nullptr;
    ChunkSums backward_sums_memory_;
};

/// Concat and slices.
class Copy final : public TrainingOp {
  public:
    Copy(const TrainingContext& context, NodeId id)
        : context_(context), node_(context.node(id)), rows_(node_.shape, context.threads) {}

    std::string forward_implementation() const override { return "mfres:copy"; }
    std::string backward_implementation() const override { return {}; }

    OpWorkspace workspace() const override { return {}; }

    void bind(const ArrayPlacement& placement, const OpArrays& arrays) override {
        const Binding binding = context_.binding(placement);
        for (const OpArrays::Forward& forward : arrays.forwards)
            passes_.push_back({RowReader(binding, rows_.channels(), copied_channels(node_, forward)),
                               binding.values(forward.outputs[0].channels.array)});
    }

    void forward(bool recompute) override {
        const Pass& pass = passes_[recompute ? 1 : 0];
        pass.reader.store_all(rows_, pass.to, nullptr);
    }

    void backward() override {}

  private:
    struct Pass {
        RowReader reader;
        ValueArray to;
    };

    TrainingContext context_;
    const Node& node_;
    Blocks rows_;
    std::vector<Pass> passes_; ///< forward and recomputation
};

} // namespace

std::unique_ptr<TrainingOp> make_sum(const TrainingContext& context, const FusedSum& sum) {
    return std::make_unique<Sum>(context, sum);
}

std::unique_ptr<TrainingOp> make_copy(const TrainingContext& context, NodeId id) {
    return std::make_unique<Copy>(context, id);
}

} // namespace mfres::onednn
