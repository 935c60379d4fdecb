// SPDX-License-Identifier: MIT
#include "data/artefacts.h"

#include "core/random.h"
#include "data/smooth_field.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace mfres {

namespace {

using Triple = std::array<std::int64_t, 3>;

/// From a function that adds the weights of all inputs for an output. A row has those from the first to the last
/// nonzero.
template <typename Weights>
AxisOperator dense_operator(std::int64_t size, const Weights& weights_of) {
    AxisOperator made;
    std::vector<double> weights(static_cast<std::size_t>(size));
    for (std::int64_t o = 0; o < size; ++o) {
        std::fill(weights.begin(), weights.end(), 0.0);
        weights_of(o, weights);
        const auto used = [](double weight) { return weight != 0.0; };
        const auto first = std::find_if(weights.begin(), weights.end(), used);
        const auto last = std::find_if(weights.rbegin(), std::make_reverse_iterator(first), used).base();
        AxisOperator::Row row{first - weights.begin(), {}};
        for (auto weight = first; weight < last; ++weight)
            row.weights.push_back(static_cast<float>(*weight));
        made.rows.push_back(std::move(row));
    }
    return made;
}

/// The symmetric kernel kernel[|t|], normalised to the sum 1.
AxisOperator symmetric_operator(std::int64_t size, const std::vector<double>& kernel) {
    double sum = kernel[0];
    for (std::size_t t = 1; t < kernel.size(); ++t)
        sum += 2.0 * kernel[t];
    const auto reach = static_cast<std::int64_t>(kernel.size()) - 1;
    return dense_operator(size, [&](std::int64_t o, std::vector<double>& weights) {
        for (std::int64_t i = std::max<std::int64_t>(0, o - reach); i <= std::min(size - 1, o + reach); ++i)
            weights[static_cast<std::size_t>(i)] = kernel[static_cast<std::size_t>(std::abs(i - o))] / sum;
    });
}

/// Filters in place along one axis, 16 lines at a time: neighbours along z, or, for a filter along z, along y.
void apply_along(std::span<float> data, const Triple& extents, std::size_t axis, const AxisOperator& op,
                 std::vector<float>& line) {
    constexpr std::int64_t lanes = 16;
    const Triple strides = {extents[1] * extents[2], extents[2], 1};
    const std::size_t across = axis == 2 ? 1 : 2;
    const std::size_t outer = 3 - axis - across;
    const std::int64_t size = extents[axis];
    line.assign(static_cast<std::size_t>(size * lanes), 0.0F);
    for (std::int64_t n = 0; n < extents[outer]; ++n)
        for (std::int64_t begin = 0; begin < extents[across]; begin += lanes) {
            const std::int64_t count = std::min(lanes, extents[across] - begin);
            float* const base = data.data() + n * strides[outer] + begin * strides[across];
            for (std::int64_t i = 0; i < size; ++i)
                for (std::int64_t lane = 0; lane < count; ++lane)
                    line[static_cast<std::size_t>(i * lanes + lane)] = base[i * strides[axis] + lane * strides[across]];
            for (std::int64_t o = 0; o < size; ++o) {
                const AxisOperator::Row& row = op.rows[static_cast<std::size_t>(o)];
                const float* from = line.data() + row.first * lanes;
                std::array<float, lanes> sums{};
                for (const float weight : row.weights) {
                    for (std::size_t lane = 0; lane < lanes; ++lane)
                        sums[lane] += weight * from[lane];
                    from += lanes;
                }
                for (std::int64_t lane = 0; lane < count; ++lane)
                    base[o * strides[axis] + lane * strides[across]] = sums[static_cast<std::size_t>(lane)];
            }
        }
}

/// Statistics of the brain voxels of a crop.
struct Statistics {
    float least = std::numeric_limits<float>::infinity();
    float greatest = -std::numeric_limits<float>::infinity();
    double mean = 0.0;
    double deviation = 0.0;

    Statistics(std::span<const float> image, std::span<const std::uint8_t> brain) {
        double sum = 0.0;
        double squares = 0.0;
        double count = 0.0;
        for (std::size_t i = 0; i < image.size(); ++i) {
            if (brain[i] == 0)
                continue;
            least = std::min(least, image[i]);
            greatest = std::max(greatest, image[i]);
            sum += image[i];
            squares += static_cast<double>(image[i]) * image[i];
            count += 1.0;
        }
        if (count == 0.0)
            return;
        mean = sum / count;
        deviation = greatest > least ? std::sqrt(std::max(0.0, squares / count - mean * mean)) : 0.0;
    }
};

template <typename Change>
void for_brain(std::span<float> image, std::span<const std::uint8_t> brain, const Change& change) {
    for (std::size_t i = 0; i < image.size(); ++i)
        if (brain[i] != 0)
            image[i] = change(image[i]);
}

void shift_histogram(std::span<float> image, std::span<const std::uint8_t> brain, const Statistics& statistics,
                     const Artefacts& artefacts) {
    constexpr std::size_t segments = Artefacts::segments;
    const float width = (statistics.greatest - statistics.least) / static_cast<float>(segments);
    if (!(width > 0.0F))
        return;
    std::array<float, segments + 1> place{};
    Random random(artefacts.histogram_seed);
    for (std::size_t i = 1; i < segments; ++i)
        place[i] = static_cast<float>(random.uniform(-artefacts.histogram_shift, artefacts.histogram_shift));
    for (std::size_t i = 0; i <= segments; ++i)
        place[i] = statistics.least + width * (static_cast<float>(i) + place[i]);
    for_brain(image, brain, [&](float value) {
        const float at = (value - statistics.least) / width;
        const std::size_t segment = std::min(static_cast<std::size_t>(at), segments - 1);
        const float share = at - static_cast<float>(segment);
        return place[segment] + share * (place[segment + 1] - place[segment]);
    });
}

void add_bias_field(std::span<float> image, const Triple& extents, std::span<const std::uint8_t> brain, float least,
                    const Artefacts& artefacts, std::vector<float>& line) {
    std::array<double, 3> spacing{};
    for (std::size_t axis = 0; axis < 3; ++axis)
        spacing[axis] = std::max(1.0, 0.5 * static_cast<double>(extents[axis]));
    SmoothField field(extents, spacing, artefacts.bias_seed);
    const auto strength = static_cast<float>(artefacts.bias_field);
    const auto length = static_cast<std::size_t>(extents[2]);
    line.resize(length);
    for (std::int64_t x = 0; x < extents[0]; ++x)
        for (std::int64_t y = 0; y < extents[1]; ++y) {
            field.row(x, y, std::span(line).first(length));
            const auto first = static_cast<std::size_t>((x * extents[1] + y) * extents[2]);
            for (std::size_t z = 0; z < length; ++z)
                if (brain[first + z] != 0)
                    image[first + z] = least + (image[first + z] - least) * (1.0F + strength * line[z]);
        }
}

/// Blur, low resolution and thick slices along an axis as one filter; without rows if none of them is to be applied.
AxisOperator resolution_along(std::size_t axis, std::int64_t size, const Artefacts& artefacts) {
    AxisOperator all;
    const auto add = [&](const AxisOperator& next) { all = all.rows.empty() ? next : composed(next, all); };
    if (artefacts.blur > 0.0)
        add(gaussian(size, artefacts.blur));
    if (artefacts.low_resolution > 1.0)
        add(slices(size, artefacts.low_resolution, artefacts.resolution_phase[axis]));
    if (artefacts.slice_thickness > 1.0 && axis == static_cast<std::size_t>(artefacts.slice_axis))
        add(slices(size, artefacts.slice_thickness, artefacts.slice_phase));
    return all;
}

/// Outside the brain the mean of the brain is used, so that the border of the brain mask does not ring.
void add_ringing(std::span<float> image, const Triple& extents, std::span<const std::uint8_t> brain,
                 const Artefacts& artefacts, std::vector<float>& line) {
    const auto axis = static_cast<std::size_t>(artefacts.ringing_axis);
    const auto mean = static_cast<float>(Statistics(image, brain).mean);
    for_brain(image, brain, [&](float value) { return value - mean; });
    apply_along(image, extents, axis, truncation(extents[axis], 1.0 - artefacts.ringing), line);
    for (std::size_t i = 0; i < image.size(); ++i)
        image[i] = brain[i] != 0 ? image[i] + mean : 0.0F;
}

void add_ghost(std::span<float> image, const Triple& extents, std::span<const std::uint8_t> brain,
               const Artefacts& artefacts, std::vector<float>& shown) {
    const float least = Statistics(image, brain).least;
    shown.resize(image.size());
    for (std::size_t i = 0; i < image.size(); ++i)
        shown[i] = brain[i] != 0 ? image[i] - least : 0.0F;
    const auto axis = static_cast<std::size_t>(artefacts.ghost_axis);
    const auto ghost = static_cast<float>(artefacts.ghost);
    const Triple strides = {extents[1] * extents[2], extents[2], 1};
    const std::int64_t last = extents[axis] - 1;
    const std::int64_t shift = std::min(artefacts.ghost_shift, last);
    Triple v{};
    std::int64_t i = 0;
    for (v[0] = 0; v[0] < extents[0]; ++v[0])
        for (v[1] = 0; v[1] < extents[1]; ++v[1])
            for (v[2] = 0; v[2] < extents[2]; ++v[2], ++i) {
                if (brain[static_cast<std::size_t>(i)] == 0)
                    continue;
                const std::int64_t before = std::abs(v[axis] - shift);
                const std::int64_t after = last - std::abs(last - v[axis] - shift);
                const float* const line = shown.data() + i - v[axis] * strides[axis];
                image[static_cast<std::size_t>(i)] =
                    least + (1.0F - ghost) * line[v[axis] * strides[axis]] +
                    0.5F * ghost * (line[before * strides[axis]] + line[after * strides[axis]]);
            }
}

void restore(std::span<float> image, std::span<const std::uint8_t> brain, const Statistics& before) {
    const Statistics now(image, brain);
    const double scale = now.deviation > 0.0 ? before.deviation / now.deviation : 1.0;
    const auto factor = static_cast<float>(scale);
    const auto offset = static_cast<float>(before.mean - now.mean * scale);
    for_brain(image, brain, [&](float value) { return value * factor + offset; });
}

} // namespace

AxisOperator gaussian(std::int64_t size, double sigma) {
    std::vector<double> kernel;
    for (double t = 0.0; t <= std::ceil(3.0 * sigma); t += 1.0)
        kernel.push_back(std::exp(-t * t / (2.0 * sigma * sigma)));
    return symmetric_operator(size, kernel);
}

AxisOperator truncation(std::int64_t size, double kept) {
    std::vector<double> kernel{kept};
    for (double t = 1.0; t <= 24.0; t += 1.0)
        kernel.push_back(std::sin(std::numbers::pi * kept * t) / (std::numbers::pi * t));
    return symmetric_operator(size, kernel);
}

AxisOperator slices(std::int64_t size, double thickness, double phase) {
    const auto end = static_cast<double>(size);
    const auto count = static_cast<std::int64_t>(std::ceil(end / thickness + phase - 1e-9));
    /// Adds `weight` times the mean over a slice.
    const auto add_mean = [&](std::int64_t slice, double weight, std::vector<double>& weights) {
        const double low = std::max(0.0, (static_cast<double>(slice) - phase) * thickness);
        const double high = std::min(end, (static_cast<double>(slice + 1) - phase) * thickness);
        for (auto i = static_cast<std::int64_t>(low); i < size && static_cast<double>(i) < high; ++i) {
            const double overlap = std::min(high, static_cast<double>(i + 1)) - std::max(low, static_cast<double>(i));
            weights[static_cast<std::size_t>(i)] += weight * overlap / (high - low);
        }
    };
    return dense_operator(size, [&](std::int64_t o, std::vector<double>& weights) {
        // Position in slices from the centre of the first one. The centre of slice i is at (i + 1/2 - phase) thickness.
        const double place = (static_cast<double>(o) + 0.5) / thickness + phase - 0.5;
        const double within = std::clamp(place, 0.0, static_cast<double>(count - 1));
        const auto slice = std::min(static_cast<std::int64_t>(within), std::max<std::int64_t>(0, count - 2));
        const double share = within - static_cast<double>(slice);
        add_mean(slice, 1.0 - share, weights);
        if (share > 0.0)
            add_mean(slice + 1, share, weights);
    });
}

AxisOperator composed(const AxisOperator& after, const AxisOperator& before) {
    return dense_operator(static_cast<std::int64_t>(after.rows.size()), [&](std::int64_t o, std::vector<double>& all) {
        const AxisOperator::Row& outer = after.rows[static_cast<std::size_t>(o)];
        for (std::size_t t = 0; t < outer.weights.size(); ++t) {
            const AxisOperator::Row& inner = before.rows[static_cast<std::size_t>(outer.first) + t];
            for (std::size_t k = 0; k < inner.weights.size(); ++k)
                all[static_cast<std::size_t>(inner.first) + k] +=
                    static_cast<double>(outer.weights[t]) * inner.weights[k];
        }
    });
}

void filter_inside(std::span<float> image, const Triple& extents, std::span<const std::uint8_t> brain,
                   const std::array<AxisOperator, 3>& operators, ArtefactWorkspace& workspace) {
    workspace.weight.assign(brain.begin(), brain.end());
    for (std::size_t axis = 0; axis < 3; ++axis)
        if (!operators[axis].rows.empty()) {
            apply_along(image, extents, axis, operators[axis], workspace.line);
            apply_along(workspace.weight, extents, axis, operators[axis], workspace.line);
        }
    for (std::size_t i = 0; i < image.size(); ++i)
        image[i] = brain[i] != 0 ? image[i] / workspace.weight[i] : 0.0F;
}

void add_artefacts(std::span<float> image, const Triple& extents, std::span<const std::uint8_t> brain,
                   const Artefacts& artefacts, ArtefactWorkspace& workspace) {
    if (!artefacts.any())
        return;
    const Statistics before(image, brain);
    if (!(before.greatest > before.least))
        return; // no contrast to change
    if (artefacts.histogram_shift > 0.0)
        shift_histogram(image, brain, before, artefacts);
    if (artefacts.bias_field > 0.0)
        add_bias_field(image, extents, brain, before.least, artefacts, workspace.line);
    if (artefacts.blur > 0.0 || artefacts.low_resolution > 1.0 || artefacts.slice_thickness > 1.0)
        filter_inside(image, extents, brain,
                      {resolution_along(0, extents[0], artefacts), resolution_along(1, extents[1], artefacts),
                       resolution_along(2, extents[2], artefacts)},
                      workspace);
    if (artefacts.ringing > 0.0)
        add_ringing(image, extents, brain, artefacts, workspace.line);
    if (artefacts.ghost > 0.0)
        add_ghost(image, extents, brain, artefacts, workspace.weight);
    restore(image, brain, before);
}

} // namespace mfres
