// SPDX-License-Identifier: MIT
// Training any graph in double precision as the truth, and the backends that have to agree with it.
#pragma once

#include "backends/planned/training_fusion.h"
#include "backends/reference/gradients.h"
#include "backends/training.h"
#include "core/half.h"
#include "support/catch.h"
#include "support/run_graph.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace mfres::test {

/// The backends of this build that train; those that reject every network are left out.
inline std::vector<const Backend*> training_backends() {
    GraphBuilder builder;
    builder.output(builder.conv("c", builder.input(Shape{1, 1, 2, 2, 2}), Conv{.out_channels = 1}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    std::vector<const Backend*> training;
    for (const Backend* backend : usable_backends()) {
        const auto compiled = backend->compile_training(*graph, random_weights(*graph, 1), {});
        if (compiled) {
            training.push_back(backend);
            continue;
        }
        REQUIRE_CODE(compiled, operation_unsupported);
    }
    return training;
}

inline std::unique_ptr<TrainingExecutable> compile_training(const Backend& backend, const Graph& graph,
                                                            const Weights& weights,
                                                            const TrainingOptions& options = {}) {
    auto compiled = backend.compile_training(graph, weights, options);
    REQUIRE_OK(compiled);
    return std::move(compiled).value();
}

inline Tensor dense(const StridedView<const float>& values) {
    Tensor tensor(values.shape);
    copy(values, view(tensor));
    return tensor;
}

/// The same names with the same values, bit by bit.
inline bool same_bits(const Weights& a, const Weights& b) {
    bool same = a.size() == b.size();
    for (const auto& [name, tensor] : a) {
        const auto other = b.find(name);
        same = same && other != b.end() && tensor.shape() == other->second.shape() &&
               std::equal(tensor.values().begin(), tensor.values().end(), other->second.values().begin());
    }
    return same;
}

inline bool same_bits(const TrainingState& a, const TrainingState& b) {
    return same_bits(a.weights, b.weights) && same_bits(a.first_moment, b.first_moment) &&
           same_bits(a.second_moment, b.second_moment) && same_bits(a.largest_second_moment, b.largest_second_moment) &&
           a.loss_scaling == b.loss_scaling;
}

using Doubles = std::vector<double>;

inline Doubles doubles(const Tensor& tensor) {
    return {tensor.values().begin(), tensor.values().end()};
}

/// Where training in bf16 rounds: every value that a fused op of training_fusion.h stores and every gradient that it
/// computes or adds, once each, and the weights of convolutions. Values inside a fused op are not rounded.
class Bf16Rounding {
  public:
    /// The convolutions that an engine runs with the weights as they are, by name: forward, and backward.
    Bf16Rounding(const Graph& graph, std::set<std::string> exact_forward, std::set<std::string> exact_backward)
        : exact_forward_(std::move(exact_forward)), exact_backward_(std::move(exact_backward)),
          stored_(static_cast<std::size_t>(graph.size()), true), sums_gradient_(stored_.size(), false) {
        for (const FusedTrainingOp& op : fuse_training_ops(graph)) {
            if (op.kind == FusedTrainingOp::Kind::convolution)
                at(sums_gradient_, op.node) = true;
            if (op.kind != FusedTrainingOp::Kind::sum)
                continue;
            const auto& operands = op.sum.operands;
            for (const SumOperand& operand : operands)
                if (operand.normalises())
                    at(stored_, operand.norm) = false;
            at(stored_, op.sum.main) = false;
            at(stored_, op.sum.output) = true;
            at(sums_gradient_, op.sum.main) =
                op.sum.activation.kind != Activation::Kind::none || graph.node(op.sum.main).kind() != OpKind::add ||
                std::any_of(operands.begin(), operands.end(), [](const SumOperand& o) { return o.normalises(); });
        }
    }

    static void round(Doubles& values) {
        for (double& value : values)
            value = double{bf16_to_f32(f32_to_bf16(static_cast<float>(value)))};
    }
    bool stores(NodeId id) const { return stored_[static_cast<std::size_t>(id)]; }
    /// The sum of the gradient contributions of a node's consumers is stored before it is used.
    bool sums_gradient(NodeId id) const { return sums_gradient_[static_cast<std::size_t>(id)]; }
    /// Operations that pass on the gradient itself.
    static bool passes_on(OpKind kind) {
        return kind == OpKind::add || kind == OpKind::concat || kind == OpKind::slice;
    }
    bool rounds_weights(const Node& node, bool backward) const {
        return node.kind() == OpKind::conv && (backward ? exact_backward_ : exact_forward_).count(node.name) == 0;
    }

  private:
    static std::vector<bool>::reference at(std::vector<bool>& values, NodeId id) {
        return values[static_cast<std::size_t>(id)];
    }

    std::set<std::string> exact_forward_, exact_backward_;
    std::vector<bool> stored_, sums_gradient_; ///< by node
};

/// A network in training mode with every value, gradient and parameter in double precision.
class DoubleTraining {
  public:
    DoubleTraining(const Graph& graph, const Weights& weights, const Tensor& image, double momentum = 0.1)
        : input(doubles(image)), graph_(graph), momentum_(momentum) {
        for (const auto& [name, tensor] : weights)
            parameters[name] = doubles(tensor);
    }

    Doubles input;
    std::map<std::string, Doubles> parameters; ///< with running statistics, which forward() moves
    std::map<std::string, Doubles> gradients;  ///< of every parameter; running statistics have zeros
    Doubles input_gradient;
    std::optional<Bf16Rounding> rounding; ///< none: as exact as doubles are

    const Doubles& forward(NormStatistics statistics = NormStatistics::batch) {
        statistics_ = statistics;
        values_.assign(static_cast<std::size_t>(graph_.size()), {});
        values_[0] = input;
        if (rounding)
            rounding->round(values_[0]);
        for (NodeId id = 1; id < graph_.size(); ++id) {
            const Node& node = graph_.node(id);
            Doubles& out = values_[static_cast<std::size_t>(id)];
            out.resize(static_cast<std::size_t>(node.shape.elements()));
            reference::RunningStatistics<double> running{nullptr, nullptr, momentum_, statistics};
            for (const Parameter& parameter : node.parameters) {
                if (parameter.role == ParameterRole::running_mean)
                    running.mean = parameters.at(parameter.name).data();
                if (parameter.role == ParameterRole::running_var)
                    running.variance = parameters.at(parameter.name).data();
            }
            REQUIRE_OK(reference::forward_training(node, operands(node, false), out.data(), running, 2));
            if (rounding && rounding->stores(id))
                rounding->round(out);
        }
        return values_[static_cast<std::size_t>(graph_.outputs()[0])];
    }

    /// Of the last forward().
    const Doubles& value(NodeId id) const { return values_[static_cast<std::size_t>(id)]; }

    /// Precondition: forward() was run.
    void backward(const Doubles& output_gradient) { backward(std::vector<Doubles>{output_gradient}); }
    /// The same for several outputs, which nodes behind them do not read.
    void backward(const std::vector<Doubles>& output_gradients) {
        std::vector<Doubles> slopes;
        for (const Node& node : graph_.nodes()) {
            slopes.emplace_back(static_cast<std::size_t>(node.shape.elements()));
            for (const Parameter& parameter : node.parameters)
                gradients[parameter.name].assign(static_cast<std::size_t>(parameter.shape.elements()), 0.0);
        }
        for (std::size_t k = 0; k < output_gradients.size(); ++k) {
            Doubles& slope = slopes[static_cast<std::size_t>(graph_.outputs()[k])];
            slope = output_gradients[k];
            if (rounding)
                rounding->round(slope);
        }
        for (NodeId id = graph_.size() - 1; id > 0; --id) {
            const Node& node = graph_.node(id);
            if (rounding && rounding->sums_gradient(id))
                rounding->round(slopes[static_cast<std::size_t>(id)]);
            std::vector<Doubles> passed; // by input
            for (const NodeId source : node.inputs)
                passed.emplace_back(slopes[static_cast<std::size_t>(source)].size());
            reference::Gradients<double> all;
            all.output = values_[static_cast<std::size_t>(id)].data();
            all.of_output = slopes[static_cast<std::size_t>(id)].data();
            for (Doubles& gradient : passed)
                all.of_inputs.push_back(gradient.data());
            for (const Parameter& parameter : node.parameters)
                all.of_parameters.push_back(gradients.at(parameter.name).data());
            REQUIRE_OK(reference::backward(node, operands(node, true), all, statistics_, 2));
            for (std::size_t k = 0; k < passed.size(); ++k) {
                if (rounding && rounding->stores(node.inputs[k]) && !rounding->passes_on(node.kind()))
                    rounding->round(passed[k]);
                Doubles& sum = slopes[static_cast<std::size_t>(node.inputs[k])];
                std::transform(sum.begin(), sum.end(), passed[k].begin(), sum.begin(), std::plus<>());
            }
        }
        input_gradient = slopes[0];
    }

  private:
    reference::Operands<double> operands(const Node& node, bool backward) {
        reference::Operands<double> all;
        for (const NodeId source : node.inputs) {
            all.inputs.push_back(values_[static_cast<std::size_t>(source)].data());
            all.shapes.push_back(graph_.node(source).shape);
        }
        for (const Parameter& parameter : node.parameters)
            all.parameters.push_back(parameters.at(parameter.name).data());
        if (rounding && rounding->rounds_weights(node, backward)) {
            rounded_weight_ = parameters.at(node.parameters[0].name);
            rounding->round(rounded_weight_);
            all.parameters[0] = rounded_weight_.data();
        }
        return all;
    }

    const Graph& graph_;
    double momentum_;
    NormStatistics statistics_ = NormStatistics::batch;
    std::vector<Doubles> values_;
    Doubles rounded_weight_; ///< of the convolution that runs
};

/// (sum (a - b)^2 / sum b^2)^(1/2)
template <typename Values, typename Truth>
double relative_error(const Values& got, const Truth& truth) {
    double difference = 0.0;
    double norm = 0.0;
    for (std::size_t i = 0; i < truth.size(); ++i) {
        const auto expected = static_cast<double>(truth[i]);
        const double distance = static_cast<double>(got[i]) - expected;
        difference += distance * distance;
        norm += expected * expected;
    }
    return std::sqrt(difference / std::max(norm, 1e-300));
}

/// The same over all values of the truth's tensors at once. Precondition: both have the same names and shapes.
inline double relative_error(const Weights& got, const Weights& truth) {
    Doubles values;
    Doubles expected;
    for (const auto& [name, tensor] : truth) {
        values.insert(values.end(), got.at(name).values().begin(), got.at(name).values().end());
        expected.insert(expected.end(), tensor.values().begin(), tensor.values().end());
    }
    return relative_error(values, expected);
}

} // namespace mfres::test
