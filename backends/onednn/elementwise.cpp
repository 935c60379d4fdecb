// SPDX-License-Identifier: MIT
#include "backends/onednn/elementwise.h"

#include "backends/onednn/ops.h"

#include <algorithm>
#include <cstring>

namespace mfres::onednn {

void copy_values(const Domain& domain, const float* x, float* y) {
    for_values(domain, [&](std::int64_t begin, std::int64_t end) { std::copy(x + begin, x + end, y + begin); });
}

void pad_z(const Domain& domain, const float* x, std::int64_t margin, float* y) {
    const std::int64_t line = domain.shape[4] * domain.channels();
    const std::int64_t zeros = margin * domain.channels();
    const std::int64_t lines = domain.shape[0] * domain.shape[2] * domain.shape[3];
    parallel_for(lines, domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
            float* to = std::fill_n(y + i * (line + 2 * zeros), zeros, 0.0F);
            std::fill_n(std::copy_n(x + i * line, line, to), zeros, 0.0F);
        }
    });
}

void activate(const Domain& domain, const Activation& activation, const float* x, float* y) {
    with_activation(activation, [&](const auto& f) {
        for_values(domain, [&](std::int64_t begin, std::int64_t end) {
            MFRES_SIMD
            for (std::int64_t i = begin; i < end; ++i)
                y[i] = f(x[i]);
        });
    });
}

void weighted_sum(const Domain& domain, const Activation& activation, const std::vector<const float*>& inputs,
                  const std::vector<float>& weights, float* y) {
    constexpr std::int64_t block = 4096; // floats: what one pass over an input leaves in L1 for the next
    const auto weight = [&](std::size_t k) { return weights.empty() ? 1.0F : weights[k]; };
    with_activation(activation, [&](const auto& f) {
        for_values(domain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t from = begin; from < end; from += block) {
                const std::int64_t to = std::min(end, from + block);
                const std::size_t last = inputs.size() - 1;
                const float* first = inputs[0];
                float scale = weight(0); // of what is summed so far
                for (std::size_t k = 1; k < last; ++k) {
                    const float* next = inputs[k];
                    const float w = weight(k);
                    MFRES_SIMD
                    for (std::int64_t i = from; i < to; ++i)
                        y[i] = scale * first[i] + w * next[i];
                    first = y;
                    scale = 1.0F;
                }
                const float* next = inputs[last];
                const float w = weight(last);
                MFRES_SIMD
                for (std::int64_t i = from; i < to; ++i)
                    y[i] = f(scale * first[i] + w * next[i]);
            }
        });
    });
}

void scale_shift(const Domain& domain, const Activation& activation, const float* x, const float* scale,
                 const float* shift, float* y) {
    const std::int64_t channels = domain.channels();
    with_activation(activation, [&](const auto& f) {
        with_count(channels, [&](const auto count) {
            parallel_for(domain.voxels(), domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
                for (std::int64_t voxel = begin; voxel < end; ++voxel) {
                    const float* from = x + voxel * count;
                    float* to = y + voxel * count;
                    MFRES_SIMD
                    for (std::int64_t c = 0; c < count; ++c)
                        to[c] = f(from[c] * scale[c] + shift[c]);
                }
            });
        });
    });
}

void copy_channels(const Domain& domain, const std::vector<ChannelRead>& reads, float* y) {
    constexpr std::int64_t block = 128; // voxels: their output lines are written while they are in L1
    const std::int64_t channels = domain.channels();
    parallel_for(domain.voxels(), domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t first = begin; first < end; first += block) {
            const std::int64_t voxels = std::min(end, first + block) - first;
            float* to = y + first * channels;
            for (const ChannelRead& read : reads) {
                with_count(read.count, [&](const auto count) {
                    const float* from = read.x + first * read.x_channels + read.from;
                    for (std::int64_t voxel = 0; voxel < voxels; ++voxel)
                        std::memcpy(to + voxel * channels, from + voxel * read.x_channels,
                                    static_cast<std::size_t>(count) * sizeof(float));
                });
                to += read.count;
            }
        }
    });
}

void add_channels(const Domain& domain, const Activation& activation, const std::vector<ChannelRead>& reads, float* y) {
    const std::int64_t channels = domain.channels();
    const auto add = [&](const ChannelRead& sum, const ChannelRead& next, std::int64_t begin, std::int64_t end,
                         const auto count, const auto& f) {
        for (std::int64_t voxel = begin; voxel < end; ++voxel) {
            const float* a = sum.x + voxel * sum.x_channels + sum.from;
            const float* b = next.x + voxel * next.x_channels + next.from;
            float* to = y + voxel * count;
            MFRES_SIMD
            for (std::int64_t c = 0; c < count; ++c)
                to[c] = f(a[c] + b[c]);
        }
    };
    with_activation(activation, [&](const auto& f) {
        with_count(channels, [&](const auto count) {
            parallel_for(domain.voxels(), domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
                ChannelRead sum = reads[0];
                for (std::size_t k = 1; k + 1 < reads.size(); ++k) {
                    add(sum, reads[k], begin, end, count, [](float x) { return x; });
                    sum = {y, channels, 0, channels};
                }
                add(sum, reads.back(), begin, end, count, f);
            });
        });
    });
}

namespace {

/// Where the inputs of an op lie: in which channels of which array.
std::vector<ChannelRead> channel_reads(const OpContext& context, const FusedOp& op) {
    std::vector<ChannelRead> reads;
    for (const NodeId input : context.main(op).inputs) {
        const ChannelRange& range = context.range(input);
        reads.push_back(
            {nullptr, context.graph().node(range.value).shape[1], range.begin, context.graph().node(input).shape[1]});
    }
    return reads;
}

void set_arrays(std::vector<ChannelRead>& reads, const OpArguments& arguments) {
    for (std::size_t k = 0; k < reads.size(); ++k)
        reads[k].x = arguments.input<float>(k);
}

std::unique_ptr<InferenceOp> make_weighted_sum(const OpContext& context, const FusedOp& op, const std::string& name,
                                               std::vector<float> weights) {
    const auto bytes = static_cast<std::int64_t>(weights.size() * sizeof(float));
    return make_function_op(
        {"mfres:" + name,
         [domain = context.domain(op), activation = op.activation, weights = std::move(weights)](const OpArguments& a) {
             std::vector<const float*> inputs;
             for (std::size_t k = 0; k < a.inputs.size(); ++k)
                 inputs.push_back(a.input<float>(k));
             weighted_sum(domain, activation, inputs, weights, static_cast<float*>(a.output));
         },
         0, bytes});
}

std::unique_ptr<InferenceOp> make_copy(const OpContext& context, const FusedOp& op, const std::string& name,
                                       std::vector<ChannelRead> reads) {
    return make_function_op(
        {"mfres:" + name, [domain = context.domain(op), reads = std::move(reads)](const OpArguments& a) mutable {
             set_arrays(reads, a);
             copy_channels(domain, reads, static_cast<float*>(a.output));
         }});
}

} // namespace

std::unique_ptr<InferenceOp> make_activation(const OpContext& context, const FusedOp& op,
                                             const Activation& activation) {
    return make_function_op({"mfres:" + std::string(name(context.main(op).kind())),
                             [domain = context.domain(op), activation](const OpArguments& a) {
                                 activate(domain, activation, a.input<float>(0), static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_add(const OpContext& context, const FusedOp& op) {
    auto reads = channel_reads(context, op);
    if (std::all_of(reads.begin(), reads.end(), [](const ChannelRead& read) { return read.count == read.x_channels; }))
        return make_weighted_sum(context, op, "add", {});
    return make_function_op({"mfres:add", [domain = context.domain(op), activation = op.activation,
                                           reads = std::move(reads)](const OpArguments& a) mutable {
                                 set_arrays(reads, a);
                                 add_channels(domain, activation, reads, static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_scaled_add(const OpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    std::vector<float> weights;
    for (std::size_t k = 0; k < node.parameters.size(); ++k)
        weights.push_back(context.parameter(node, k)[0]);
    return make_weighted_sum(context, op, "scaled_add", std::move(weights));
}

std::unique_ptr<InferenceOp> make_concat(const OpContext& context, const FusedOp& op) {
    return make_copy(context, op, "concat", channel_reads(context, op));
}

std::unique_ptr<InferenceOp> make_slice(const OpContext& context, const FusedOp& op) {
    const auto& slice = context.main(op).as<Slice>();
    return make_copy(context, op, "slice",
                     {{nullptr, context.input_shape(op, 0)[1], slice.begin, slice.end - slice.begin}});
}

} // namespace mfres::onednn
