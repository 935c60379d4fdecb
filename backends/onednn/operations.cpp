#include "backends/onednn/operations.h"

#include "backends/onednn/convolution.h"
#include "backends/onednn/loops.h"
#include "core/try.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace mfres::onednn {

namespace {

/// A loop of our own with its constants bound to it.
class Loop final : public Operation {
  public:
    using Body = std::function<void(const Place&)>;

    Loop(std::string name, Body body, std::int64_t scratch_bytes = 0, std::int64_t constant_bytes = 0)
        : name_(std::move(name)), body_(std::move(body)), scratch_bytes_(scratch_bytes),
          constant_bytes_(constant_bytes) {}

    std::string implementation() const override { return "mfres:" + name_; }
    std::int64_t scratch_bytes() const override { return scratch_bytes_; }
    std::int64_t constant_bytes() const override { return constant_bytes_; }
    void bind(const Place& place) override { place_ = place; }
    void run(dnnl::stream&) override { body_(place_); }

  private:
    std::string name_;
    Body body_;
    std::int64_t scratch_bytes_;
    std::int64_t constant_bytes_;
    Place place_;
};

class Maker {
  public:
    Maker(const Compilation& compilation, const Step& step)
        : compilation_(compilation), step_(step),
          node_(compilation.graph.node(step.main)), domain_{node_.shape, compilation.threads} {}

    std::unique_ptr<Operation> conv(bool residual_in_output) const {
        ConvolutionStep convolution;
        convolution.conv = node_.as<Conv>();
        convolution.in = input_shape(0);
        convolution.out = node_.shape;
        convolution.weights = &parameter(0);
        convolution.bias = convolution.conv.bias ? &parameter(1) : nullptr;
        convolution.residual = step_.residual.has_value();
        convolution.residual_in_output = residual_in_output;
        convolution.activation = step_.activation;
        convolution.threads = compilation_.threads;
        if (!compilation_.reductions.of_node.empty())
            convolution.reduction = compilation_.reductions.of_node[static_cast<std::size_t>(step_.main)];
        return make_convolution(convolution, compilation_.engine);
    }

    std::unique_ptr<Operation> batch_norm() const {
        const std::int64_t channels = domain_.channels();
        std::vector<float> scale(static_cast<std::size_t>(channels));
        std::vector<float> shift(scale.size());
        for (std::int64_t c = 0; c < channels; ++c) {
            const double factor =
                double{parameter(0)[c]} / std::sqrt(double{parameter(3)[c]} + node_.as<BatchNorm>().epsilon);
            scale[static_cast<std::size_t>(c)] = static_cast<float>(factor);
            shift[static_cast<std::size_t>(c)] =
                static_cast<float>(double{parameter(1)[c]} - double{parameter(2)[c]} * factor);
        }
        return loop(
            "batch_norm",
            [domain = domain_, activation = step_.activation, scale = std::move(scale), shift = std::move(shift)](
                const Place& p) { scale_shift(domain, activation, p.inputs[0], scale.data(), shift.data(), p.output); },
            0, 2 * channels);
    }

    std::unique_ptr<Operation> instance_norm() const {
        const auto& weight = parameter(0).values();
        const auto& bias = parameter(1).values();
        return loop(
            "instance_norm",
            [domain = domain_, activation = step_.activation, epsilon = node_.as<InstanceNorm>().epsilon,
             weight = std::vector<float>(weight.begin(), weight.end()),
             bias = std::vector<float>(bias.begin(), bias.end())](const Place& p) {
                onednn::instance_norm(domain, activation, epsilon, weight.data(), bias.data(), p.inputs[0], p.scratch,
                                      p.output);
            },
            instance_norm_scratch(domain_.shape), 2 * domain_.channels());
    }

    std::unique_ptr<Operation> activation(const std::string& name, const Activation& activation) const {
        return loop(name, [domain = domain_, activation](const Place& p) {
            activate(domain, activation, p.inputs[0], p.output);
        });
    }

    std::unique_ptr<Operation> add() const {
        auto reads = channel_reads();
        if (std::all_of(reads.begin(), reads.end(), [&](const auto& read) { return is_whole(read); }))
            return weighted("add", {});
        return loop(
            "add", [domain = domain_, activation = step_.activation, reads = std::move(reads)](const Place& p) mutable {
                for (std::size_t k = 0; k < reads.size(); ++k)
                    reads[k].x = p.inputs[k];
                add_channels(domain, activation, reads, p.output);
            });
    }

    std::unique_ptr<Operation> scaled_add() const {
        std::vector<float> weights;
        for (std::size_t k = 0; k < node_.parameters.size(); ++k)
            weights.push_back(parameter(k)[0]);
        return weighted("scaled_add", std::move(weights));
    }

    std::unique_ptr<Operation> concat() const { return channel_copies("concat", channel_reads()); }

    std::unique_ptr<Operation> slice() const {
        const auto& op = node_.as<Slice>();
        return channel_copies("slice", {{nullptr, input_shape(0)[1], op.begin, op.end - op.begin}});
    }

    std::unique_ptr<Operation> max_pool() const {
        return loop("max_pool", [domain = domain_, op = node_.as<MaxPool>(), in = input_shape(0)](const Place& p) {
            onednn::max_pool(domain, op, in, p.inputs[0], p.output);
        });
    }

    std::unique_ptr<Operation> adaptive_avg_pool() const {
        return loop("adaptive_avg_pool", [domain = domain_, in = input_shape(0)](const Place& p) {
            onednn::adaptive_avg_pool(domain, in, p.inputs[0], p.output);
        });
    }

    std::unique_ptr<Operation> upsample() const {
        const Interpolation mode = node_.as<Upsample>().mode;
        return loop(
            "upsample_" + std::string(name(mode)),
            [domain = domain_, activation = step_.activation, mode, in = input_shape(0)](const Place& p) {
                onednn::upsample(domain, mode, activation, in, p.inputs[0], p.residual, p.scratch, p.output);
            },
            upsample_scratch(domain_, input_shape(0)));
    }

    std::unique_ptr<Operation> softmax() const {
        return loop("softmax", [domain = domain_](const Place& p) { onednn::softmax(domain, p.inputs[0], p.output); });
    }

  private:
    const Tensor& parameter(std::size_t index) const {
        return compilation_.weights.find(node_.parameters[index].name)->second;
    }
    const Shape& input_shape(std::size_t index) const { return compilation_.graph.node(node_.inputs[index]).shape; }

    static std::unique_ptr<Operation> loop(std::string name, Loop::Body body, std::int64_t scratch_bytes = 0,
                                           std::int64_t constants = 0) {
        return std::make_unique<Loop>(std::move(name), std::move(body), scratch_bytes,
                                      constants * static_cast<std::int64_t>(sizeof(float)));
    }

    /// What each input is, and in which channels of which array it lies.
    std::vector<ChannelRead> channel_reads() const {
        std::vector<ChannelRead> reads;
        for (std::size_t k = 0; k < node_.inputs.size(); ++k) {
            const ChannelRange& range = compilation_.ranges[static_cast<std::size_t>(node_.inputs[k])];
            reads.push_back({nullptr, compilation_.graph.node(range.value).shape[1], range.begin, input_shape(k)[1]});
        }
        return reads;
    }

    static bool is_whole(const ChannelRead& read) { return read.count == read.x_channels; }

    std::unique_ptr<Operation> weighted(std::string name, std::vector<float> weights) const {
        const auto count = static_cast<std::int64_t>(weights.size());
        return loop(
            std::move(name),
            [domain = domain_, activation = step_.activation, weights = std::move(weights)](const Place& p) {
                weighted_sum(domain, activation, p.inputs, weights, p.output);
            },
            0, count);
    }

    std::unique_ptr<Operation> channel_copies(std::string name, std::vector<ChannelRead> reads) const {
        return loop(std::move(name), [domain = domain_, reads = std::move(reads)](const Place& p) mutable {
            for (std::size_t k = 0; k < reads.size(); ++k)
                reads[k].x = p.inputs[k];
            copy_channels(domain, reads, p.output);
        });
    }

    const Compilation& compilation_;
    const Step& step_;
    const Node& node_;
    Domain domain_;
};

} // namespace

std::unique_ptr<Operation> make_operation(const Compilation& compilation, const Step& step, bool residual_in_output) {
    const Maker make(compilation, step);
    const Node& node = compilation.graph.node(step.main);
    switch (node.kind()) {
    case OpKind::input: break; // no step computes it
    case OpKind::conv: return make.conv(residual_in_output);
    case OpKind::batch_norm: return make.batch_norm();
    case OpKind::instance_norm: return make.instance_norm();
    case OpKind::relu: return make.activation("relu", {Activation::Kind::relu, 0.0F});
    case OpKind::leaky_relu:
        return make.activation("leaky_relu",
                               {Activation::Kind::leaky_relu, static_cast<float>(node.as<LeakyRelu>().slope)});
    case OpKind::add: return make.add();
    case OpKind::scaled_add: return make.scaled_add();
    case OpKind::concat: return make.concat();
    case OpKind::slice: return make.slice();
    case OpKind::max_pool: return make.max_pool();
    case OpKind::adaptive_avg_pool: return make.adaptive_avg_pool();
    case OpKind::upsample: return make.upsample();
    case OpKind::softmax: return make.softmax();
    }
    return nullptr;
}

std::string describe(const Graph& graph, const Task& task) {
    if (task.fused())
        return mfres::text(task.steps.size(), " steps from ", graph.node(task.steps[0].main).name);
    return mfres::describe(graph, task.steps[0]);
}

} // namespace mfres::onednn
