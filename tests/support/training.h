// Training any graph in double precision as the truth, and the backends that have to agree with it.
#pragma once

#include "backends/reference/gradients.h"
#include "backends/training.h"
#include "support/catch.h"
#include "support/run_graph.h"

#include <map>
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

    const Doubles& forward(NormStatistics statistics = NormStatistics::batch) {
        statistics_ = statistics;
        values_.assign(static_cast<std::size_t>(graph_.size()), {});
        values_[0] = input;
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
            REQUIRE_OK(reference::forward_training(node, operands(node), out.data(), running, 2));
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
        for (std::size_t k = 0; k < output_gradients.size(); ++k)
            slopes[static_cast<std::size_t>(graph_.outputs()[k])] = output_gradients[k];
        for (NodeId id = graph_.size() - 1; id > 0; --id) {
            const Node& node = graph_.node(id);
            reference::Gradients<double> all;
            all.output = values_[static_cast<std::size_t>(id)].data();
            all.of_output = slopes[static_cast<std::size_t>(id)].data();
            for (const NodeId source : node.inputs)
                all.of_inputs.push_back(slopes[static_cast<std::size_t>(source)].data());
            for (const Parameter& parameter : node.parameters)
                all.of_parameters.push_back(gradients.at(parameter.name).data());
            REQUIRE_OK(reference::backward(node, operands(node), all, statistics_, 2));
        }
        input_gradient = slopes[0];
    }

  private:
    reference::Operands<double> operands(const Node& node) const {
        reference::Operands<double> all;
        for (const NodeId source : node.inputs) {
            all.inputs.push_back(values_[static_cast<std::size_t>(source)].data());
            all.shapes.push_back(graph_.node(source).shape);
        }
        for (const Parameter& parameter : node.parameters)
            all.parameters.push_back(parameters.at(parameter.name).data());
        return all;
    }

    const Graph& graph_;
    double momentum_;
    NormStatistics statistics_ = NormStatistics::batch;
    std::vector<Doubles> values_;
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
