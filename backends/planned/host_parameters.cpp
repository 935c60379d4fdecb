// SPDX-License-Identifier: MIT
#include "backends/planned/host_parameters.h"

#include "core/parallel.h"
#include "core/try.h"

#include <algorithm>
#include <cmath>

namespace mfres {

HostParameters::HostParameters(const Graph& graph, const Weights& weights, bool amsgrad, int threads)
    : threads_(threads) {
    std::size_t size = 0;
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters) {
            const auto count = static_cast<std::size_t>(parameter.shape.elements());
            index_.emplace(parameter.name, slots_.size());
            slots_.push_back({parameter.name, parameter.shape, size, count, parameter.learnable()});
            size += (count + line - 1) / line * line;
        }
    for (auto* flat : {&values_, &gradients_, &first_moment_, &second_moment_})
        flat->assign(size, 0.0F);
    if (amsgrad)
        largest_second_moment_.assign(size, 0.0F);
    assign(values_, weights);
}

std::vector<std::uint8_t> HostParameters::learnable_lines() const {
    std::vector<std::uint8_t> lines(values_.size() / line, 0);
    for (const Slot& slot : slots_)
        if (slot.learnable)
            for (std::size_t i = slot.offset; i < slot.offset + slot.count; i += line)
                lines[i / line] = 1;
    return lines;
}

void HostParameters::clear_gradients() {
    std::fill(gradients_.begin(), gradients_.end(), 0.0F);
}

Weights HostParameters::gradients(double) const {
    return named(gradients_, true);
}

double HostParameters::gradient_norm(double) const {
    double squares = 0.0;
    for (const Slot& slot : slots_) {
        if (!slot.learnable)
            continue;
        double part = 0.0; // one sum per parameter keeps the long ones from swallowing the short ones
        for (std::size_t i = slot.offset; i < slot.offset + slot.count; ++i)
            part += double{gradients_[i]} * double{gradients_[i]};
        squares += part;
    }
    return std::sqrt(squares);
}

void HostParameters::apply(const OptimiserStep& step, double norm, double) {
    const double clip = step.clip_norm > 0.0 && norm > step.clip_norm ? step.clip_norm / norm : 1.0;
    const double correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(step.step));
    const double correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(step.step));
    const auto advance = [&](std::size_t i) {
        const double w = values_[i];
        const double g = clip * double{gradients_[i]} + step.l2 * w;
        const double m = step.beta1 * double{first_moment_[i]} + (1.0 - step.beta1) * g;
        const double v = step.beta2 * double{second_moment_[i]} + (1.0 - step.beta2) * g * g;
        first_moment_[i] = static_cast<float>(m);
        second_moment_[i] = static_cast<float>(v);
        double root = v;
        if (!largest_second_moment_.empty()) {
            largest_second_moment_[i] = std::max(largest_second_moment_[i], second_moment_[i]);
            root = largest_second_moment_[i];
        }
        const double change = step.learning_rate * (m / correction1) / (std::sqrt(root / correction2) + step.epsilon);
        values_[i] = static_cast<float>(w - change);
    };
    parallel_ranges(static_cast<std::int64_t>(slots_.size()), threads_, [&](std::int64_t begin, std::int64_t end) {
        for (auto s = static_cast<std::size_t>(begin); s < static_cast<std::size_t>(end); ++s)
            if (slots_[s].learnable)
                for (std::size_t i = slots_[s].offset; i < slots_[s].offset + slots_[s].count; ++i)
                    advance(i);
    });
}

Weights HostParameters::named(const AlignedVector<float>& flat, bool learnable_only) const {
    Weights weights;
    if (flat.empty())
        return weights;
    for (const Slot& slot : slots_) {
        if (learnable_only && !slot.learnable)
            continue;
        Tensor tensor(slot.shape);
        std::copy_n(flat.data() + slot.offset, slot.count, tensor.data());
        weights.emplace(slot.name, std::move(tensor));
    }
    return weights;
}

TrainingState HostParameters::state() const {
    return {weights(), named(first_moment_, true), named(second_moment_, true), named(largest_second_moment_, true)};
}

Status HostParameters::check(const Weights& weights, bool learnable_only, std::string_view what) const {
    std::size_t expected = 0;
    for (const Slot& slot : slots_) {
        if (learnable_only && !slot.learnable)
            continue;
        ++expected;
        const auto found = weights.find(slot.name);
        if (found == weights.end())
            return Error{ErrorCode::model_tensor_missing, text("there is no ", what, " of ", slot.name), slot.name};
        if (!(found->second.shape() == slot.shape))
            return Error{ErrorCode::model_tensor_shape,
                         text("the ", what, " of ", slot.name, " has shape ", to_string(found->second.shape()),
                              ", the network needs ", to_string(slot.shape)),
                         slot.name};
    }
    for (const auto& [name, tensor] : weights)
        if (index_.count(name) == 0 || (learnable_only && !slot(name).learnable))
            return Error{ErrorCode::model_tensor_extra,
                         text("there is a ", what, " of ", name, ", which the network does not have (", weights.size(),
                              " tensors, ", expected, " expected)"),
                         name};
    return {};
}

void HostParameters::assign(AlignedVector<float>& flat, const Weights& weights) const {
    for (const auto& [name, tensor] : weights)
        std::copy_n(tensor.data(), tensor.elements(), flat.data() + slot(name).offset);
}

Status HostParameters::set_state(const TrainingState& state) {
    MFRES_CHECK(check(state.weights, false, "value"));
    MFRES_CHECK(check(state.first_moment, true, "first moment"));
    MFRES_CHECK(check(state.second_moment, true, "second moment"));
    if (!largest_second_moment_.empty())
        MFRES_CHECK(check(state.largest_second_moment, true, "largest second moment"));
    else if (!state.largest_second_moment.empty())
        return Error{ErrorCode::model_tensor_extra, "the state holds AMSGrad's moments, but AMSGrad is off", {}};
    assign(values_, state.weights);
    assign(first_moment_, state.first_moment);
    assign(second_moment_, state.second_moment);
    assign(largest_second_moment_, state.largest_second_moment);
    return {};
}

std::int64_t HostParameters::bytes() const {
    const std::size_t floats = values_.size() + gradients_.size() + first_moment_.size() + second_moment_.size() +
                               largest_second_moment_.size();
    return static_cast<std::int64_t>(floats * sizeof(float));
}

} // namespace mfres
