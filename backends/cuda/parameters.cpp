// SPDX-License-Identifier: MIT
#include "backends/cuda/parameters.h"

#include "backends/cuda/device_arrays.h"
#include "core/try.h"

#include <cmath>
#include <iterator>
#include <utility>

namespace mfres::cuda {

DeviceParameters::DeviceParameters(Engine& engine, const Graph& graph, const Weights& weights, ElementType packed_as,
                                   bool amsgrad)
    : engine_(engine), packed_as_(packed_as), host_(graph, weights, amsgrad) {
    const std::vector<std::uint8_t> learned = host_.learnable_lines();
    lines_ = static_cast<std::int64_t>(learned.size());
    for (std::size_t i = 0; i < arrays; ++i) {
        const auto floats = mirror(static_cast<Array>(i)).size();
        if (floats > 0)
            blocks_[i] = Block(engine_, static_cast<std::int64_t>(floats * sizeof(float)));
    }
    send(Array::values);
    if (lines_ == 0) // a network without parameters
        return;
    learned_ = Block(engine_, lines_);
    engine_.upload(learned_.data(), learned.data(), lines_);
    sums_ = Block(engine_, (WholeSum::most_partials + 2) * 8); // and a total and a counter
    packed_values_ = Block(engine_, std::ssize(mirror(Array::values)) * bytes_of(packed_as_));
    packed_gradients_ = Block(engine_, std::ssize(mirror(Array::values)) * 4);
}

/// Parameters packed together take no more lines than each by itself, and each has its own lines of floats: there is space
/// for all.
DeviceParameters::Packed DeviceParameters::pack(const std::vector<Parameter>& parameters, ElementType gradient_type) {
    constexpr auto line = static_cast<std::int64_t>(HostParameters::line);
    const std::int64_t group = packed_elements_;
    std::int64_t begin = 0;
    for (const Parameter& parameter : parameters) {
        const auto first = static_cast<std::int64_t>(host_.offset(parameter));
        const WeightOrder order = weight_order(parameter.shape);
        packed_.push_back({first, group, begin, order, gradient_type});
        begin += order.count();
    }
    packed_elements_ += (begin + line - 1) / line * line;
    return {packed_values_.as<std::byte>() + group * bytes_of(packed_as_), packed_gradients_.as<float>() + group};
}

void DeviceParameters::finish_packing() {
    if (packed_.empty())
        return;
    constexpr auto line = static_cast<std::int64_t>(HostParameters::line);
    std::vector<std::int32_t> lines(static_cast<std::size_t>(lines_), -1);
    for (std::size_t k = 0; k < packed_.size(); ++k)
        for (std::int64_t i = 0; i < packed_[k].order.count(); i += line)
            lines[static_cast<std::size_t>((packed_[k].first + i) / line)] = static_cast<std::int32_t>(k);
    packed_table_ = Block(engine_, static_cast<std::int64_t>(packed_.size() * sizeof(PackedParameter)));
    engine_.upload(packed_table_.data(), packed_.data(), packed_table_.bytes());
    packed_lines_ = Block(engine_, lines_ * 4);
    engine_.upload(packed_lines_.data(), lines.data(), packed_lines_.bytes());
}

PackingTable DeviceParameters::packing() const {
    PackingTable table;
    table.lines = packed_.empty() ? 0 : lines_;
    table.parameters = packed_table_.as<PackedParameter>();
    table.parameter_of_line = packed_lines_.as<std::int32_t>();
    table.type = packed_as_;
    table.packed_values = packed_values_.data();
    table.packed_gradients = packed_gradients_.data();
    return table;
}

void DeviceParameters::pack_values() {
    if (!std::exchange(values_are_packed_, true))
        engine_.kernels().pack_parameters(engine_.stream(), packing(), data(Array::values));
}

void DeviceParameters::unpack_gradients(std::size_t begin, std::size_t end) const {
    PackingTable table = packing();
    if (table.lines == 0)
        return;
    table.first_line = static_cast<std::int64_t>(begin / HostParameters::line);
    table.lines = static_cast<std::int64_t>(end / HostParameters::line) - table.first_line;
    engine_.kernels().unpack_gradients(engine_.stream(), table, data(Array::gradients));
}

std::span<float> DeviceParameters::mirror(Array array) const {
    const HostParameters::Arrays all = host_.arrays();
    switch (array) {
    case Array::values: return all.values;
    case Array::gradients: return all.gradients;
    case Array::first_moment: return all.first_moment;
    case Array::second_moment: return all.second_moment;
    case Array::largest_second_moment: return all.largest_second_moment;
    }
    return {};
}

void DeviceParameters::fetch(Array array) const {
    const std::span<float> host = mirror(array);
    if (!host.empty())
        engine_.download(host.data(), data(array), static_cast<std::int64_t>(host.size_bytes()));
}

void DeviceParameters::send(Array array) const {
    const std::span<float> host = mirror(array);
    if (!host.empty())
        engine_.upload(data(array), host.data(), static_cast<std::int64_t>(host.size_bytes()));
}

Weights DeviceParameters::weights() const {
    fetch(Array::values);
    return host_.weights();
}

Weights DeviceParameters::gradients(double scale) const {
    fetch(Array::gradients);
    if (scale != 1.0)
        for (float& value : mirror(Array::gradients))
            value = static_cast<float>(double{value} / scale);
    return host_.gradients();
}

TrainingState DeviceParameters::state() const {
    for (const Array array : {Array::values, Array::first_moment, Array::second_moment, Array::largest_second_moment})
        fetch(array);
    return host_.state();
}

Status DeviceParameters::set_state(const TrainingState& state) {
    MFRES_CHECK(host_.set_state(state));
    for (const Array array : {Array::values, Array::first_moment, Array::second_moment, Array::largest_second_moment})
        send(array);
    values_are_packed_ = false;
    return {};
}

UpdateArguments DeviceParameters::arguments() const {
    UpdateArguments a;
    a.lines = lines_;
    a.learned = learned_.as<std::uint8_t>();
    a.gradients = data(Array::gradients);
    a.values = data(Array::values);
    a.first_moment = data(Array::first_moment);
    a.second_moment = data(Array::second_moment);
    a.largest_second_moment = data(Array::largest_second_moment);
    return a;
}

double DeviceParameters::gradient_norm(double scale) const {
    if (lines_ == 0)
        return 0.0;
    WholeSum sums;
    sums.partials = sums_.as<double>();
    sums.total = sums.partials + WholeSum::most_partials;
    sums.counter = reinterpret_cast<std::uint32_t*>(sums.total + 1);
    engine_.kernels().squares(engine_.stream(), arguments(), sums);
    double squares = 0.0;
    engine_.download(&squares, sums.total, sizeof(squares));
    return std::sqrt(squares) / scale;
}

void DeviceParameters::apply(const OptimiserStep& step, double norm, double scale) {
    if (lines_ == 0)
        return;
    UpdateArguments a = arguments();
    a.gradient_factor = (step.clip_norm > 0.0 && norm > step.clip_norm ? step.clip_norm / norm : 1.0) / scale;
    a.l2 = step.l2;
    a.beta1 = step.beta1;
    a.beta2 = step.beta2;
    a.epsilon = step.epsilon;
    a.learning_rate = step.learning_rate;
    a.correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(step.step));
    a.correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(step.step));
    if (values_are_packed_)
        a.packing = packing();
    engine_.kernels().update(engine_.stream(), a);
}

std::int64_t DeviceParameters::bytes() const {
    // The table is counted before it is made: memory is planned with it.
    const auto table = static_cast<std::int64_t>(packed_.size() * sizeof(PackedParameter)) + 4 * lines_;
    std::int64_t all = learned_.bytes() + sums_.bytes() + packed_values_.bytes() + packed_gradients_.bytes() + table;
    for (const Block& block : blocks_)
        all += block.bytes();
    return all;
}

} // namespace mfres::cuda
