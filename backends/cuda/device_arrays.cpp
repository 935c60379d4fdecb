// SPDX-License-Identifier: MIT
#include "backends/cuda/device_arrays.h"

#include <algorithm>
#include <cmath>

namespace mfres::cuda {

namespace {

AxisTable axis_table(Constants& constants, Interpolation mode, std::int64_t from, std::int64_t to) {
    const auto targets = static_cast<std::size_t>(to);
    const auto sources = static_cast<std::size_t>(from);
    std::vector<std::int32_t> low(targets), high(targets), first(sources, static_cast<std::int32_t>(to)),
        end(sources, 0);
    std::vector<float> fraction(targets, 0.0F);
    for (std::size_t i = 0; i < targets; ++i) {
        const auto place = static_cast<std::int64_t>(i);
        if (mode == Interpolation::nearest) {
            low[i] = high[i] = static_cast<std::int32_t>(place * from / to);
        } else {
            const double position = std::max(
                0.0, (static_cast<double>(place) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5);
            const std::int64_t below = std::min(static_cast<std::int64_t>(position), from - 1);
            low[i] = static_cast<std::int32_t>(below);
            high[i] = static_cast<std::int32_t>(std::min(below + 1, from - 1));
            fraction[i] = static_cast<float>(position - static_cast<double>(below));
        }
        for (const std::int32_t source : {low[i], high[i]}) {
            const auto s = static_cast<std::size_t>(source);
            first[s] = std::min(first[s], static_cast<std::int32_t>(i));
            end[s] = std::max(end[s], static_cast<std::int32_t>(i) + 1);
        }
    }
    return {constants.add(low), constants.add(high), constants.add(fraction), constants.add(first), constants.add(end)};
}

} // namespace

std::array<AxisTable, 3> upsample_tables(Constants& constants, Interpolation mode, const Shape& in, const Shape& out) {
    std::array<AxisTable, 3> tables;
    for (int axis = 0; axis < 3; ++axis)
        tables[static_cast<std::size_t>(axis)] = axis_table(constants, mode, in[axis + 2], out[axis + 2]);
    return tables;
}

void gather(const Engine& engine, ElementType type, const Chunking& chunks, const std::vector<Part>& parts, void* to) {
    GradientArguments arguments;
    arguments.chunks = chunks;
    arguments.store = to;
    std::size_t next = 0;
    do {
        Parts& now = arguments.gradient;
        now.count = 0;
        if (next > 0)
            now.parts[now.count++] = {to, chunks.channels, 0, 0, chunks.channels};
        while (now.count < Parts::most && next < parts.size())
            now.parts[now.count++] = parts[next++];
        engine.kernels().gradient(engine.stream(), type, arguments);
    } while (next < parts.size());
}

void sum(const Engine& engine, ElementType type, SumArguments arguments, const std::vector<Operand>& operands) {
    const Activation last = arguments.activation;
    const std::int64_t whole = operands[0].x.count;
    std::size_t next = 0;
    do {
        arguments.count = 0;
        if (next > 0) {
            Operand& before = arguments.operands[arguments.count++] = Operand();
            before.x = {arguments.y, arguments.stride(), arguments.y_from, arguments.first, whole};
        }
        while (arguments.count < SumArguments::most && next < operands.size())
            arguments.operands[arguments.count++] = operands[next++];
        arguments.activation = next < operands.size() ? Activation() : last;
        engine.kernels().sum(engine.stream(), type, arguments);
    } while (next < operands.size());
}

} // namespace mfres::cuda
