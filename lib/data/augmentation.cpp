// SPDX-License-Identifier: MIT
#include "data/augmentation.h"

#include "backends/axis_weights.h"
#include "core/random.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <variant>

namespace mfres {

namespace {

using Triple = std::array<std::int64_t, 3>;

// Copying --------------------------------------------------------------------------------------------------------

/// Along one axis: crop voxels [first, last) are in the box, and crop voxel o is box voxel start + step * o.
struct AxisWalk {
    std::int64_t first = 0;
    std::int64_t last = 0;
    std::int64_t start = 0;
    std::int64_t step = 1;

    AxisWalk(std::int64_t begin, std::int64_t extent, std::int64_t size, bool flip)
        : start(flip ? begin + extent - 1 : begin), step(flip ? -1 : 1) {
        const std::int64_t low = std::clamp<std::int64_t>(-begin, 0, extent);
        const std::int64_t high = std::clamp<std::int64_t>(size - begin, low, extent);
        first = flip ? extent - high : low;
        last = flip ? extent - low : high;
    }
    bool holds(std::int64_t o) const { return o >= first && o < last; }
    std::int64_t at(std::int64_t o) const { return start + step * o; }
};

/// z-scores of `count` voxels of a z-line, from `index` on in steps of `step` (1 or -1).
void copy_scores(const CachedModality& modality, const std::uint8_t* brain, std::int64_t index, std::int64_t step,
                 std::int64_t count, float* out, std::int64_t out_stride) {
    const float scale = modality.scale;
    const float offset = modality.offset;
    std::visit(
        [&](const auto& quanta) {
            const auto* const row = quanta.data() + index;
            const std::uint8_t* const inside = brain + index;
            if (step == 1 && out_stride == 1) {
                for (std::int64_t i = 0; i < count; ++i)
                    out[i] = inside[i] != 0 ? static_cast<float>(row[i]) * scale + offset : 0.0F;
            } else {
                for (std::int64_t i = 0; i < count; ++i)
                    out[i * out_stride] =
                        inside[i * step] != 0 ? static_cast<float>(row[i * step]) * scale + offset : 0.0F;
            }
        },
        modality.quanta);
}

void copy_labels(const std::uint8_t* labels, std::int64_t index, std::int64_t step, std::int64_t count,
                 std::uint8_t* out) {
    for (std::int64_t i = 0; i < count; ++i)
        out[i] = labels[index + i * step];
}

void fill_strided(float* out, std::int64_t stride, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
        out[i * stride] = 0.0F;
}

/// Copies a crop, mirrored; strides are those of `images` for channel, x, y, z.
void copy_crop(const CachedCase& source, const Pose& pose, const Crop& crop,
               const std::array<std::int64_t, 4>& strides) {
    const std::array<AxisWalk, 3> walks = {AxisWalk(pose.begin[0], crop.extents[0], source.size[0], pose.flip[0]),
                                           AxisWalk(pose.begin[1], crop.extents[1], source.size[1], pose.flip[1]),
                                           AxisWalk(pose.begin[2], crop.extents[2], source.size[2], pose.flip[2])};
    const std::int64_t length = crop.extents[2];
    for (std::int64_t x = 0; x < crop.extents[0]; ++x)
        for (std::int64_t y = 0; y < crop.extents[1]; ++y) {
            const bool inside = walks[0].holds(x) && walks[1].holds(y);
            const std::int64_t first = inside ? walks[2].first : length;
            const std::int64_t last = inside ? walks[2].last : length;
            const std::int64_t index =
                inside && first < last
                    ? (walks[0].at(x) * source.size[1] + walks[1].at(y)) * source.size[2] + walks[2].at(first)
                    : 0;
            const std::int64_t row = (x * crop.extents[1] + y) * length;
            for (std::size_t m = 0; m < source.modalities.size(); ++m) {
                float* const out =
                    crop.images + static_cast<std::int64_t>(m) * strides[0] + x * strides[1] + y * strides[2];
                fill_strided(out, strides[3], 0, first);
                copy_scores(source.modalities[m], source.brain.data(), index, walks[2].step, last - first,
                            out + first * strides[3], strides[3]);
                fill_strided(out, strides[3], last, length);
            }
            const auto label_row = [&](const std::vector<std::uint8_t>& labels, std::uint8_t* out) {
                std::fill_n(out, first, std::uint8_t{0});
                copy_labels(labels.data(), index, walks[2].step, last - first, out + first);
                std::fill_n(out + last, length - last, std::uint8_t{0});
            };
            label_row(source.classes, crop.classes + row);
            if (crop.brain != nullptr)
                label_row(source.brain, crop.brain + row);
        }
}

// Resampling -----------------------------------------------------------------------------------------------------

constexpr int fraction_bits = CropWalk::fraction_bits;
constexpr std::int64_t half = std::int64_t{1} << (fraction_bits - 1);

std::int64_t to_fixed(double voxels) {
    return std::llround(std::ldexp(voxels, fraction_bits));
}

/// The brain voxels of one z-line of a crop, and what to interpolate for them.
struct RowTaps {
    struct Tap {
        std::int64_t base; ///< the lowest of eight voxels
        std::int64_t z;    ///< in the z-line
        std::array<float, 2> x, y, z_weight;
    };
    std::vector<Tap> taps;
    std::vector<float> brain; ///< interpolated brain mask of each tap
};

/// Distances in memory to the next voxel along each axis; 0 where there is none.
struct Steps {
    std::int64_t x, y, z;

    explicit Steps(const Triple& size)
        : x(size[0] > 1 ? size[1] * size[2] : 0), y(size[1] > 1 ? size[2] : 0), z(size[2] > 1 ? 1 : 0) {}
};

template <typename T>
inline float interpolate(const T* at, const RowTaps::Tap& tap, const Steps& steps) {
    const auto along_z = [&](const T* pair) {
        return tap.z_weight[0] * static_cast<float>(pair[0]) + tap.z_weight[1] * static_cast<float>(pair[steps.z]);
    };
    const auto along_y = [&](const T* corner) {
        return tap.y[0] * along_z(corner) + tap.y[1] * along_z(corner + steps.y);
    };
    return tap.x[0] * along_y(at) + tap.x[1] * along_y(at + steps.x);
}

using Displacements = std::array<std::vector<std::int64_t>, 3>;

/// Classes and brain of a z-line from the nearest voxels; lists the voxels that are brain. `displacements` may be null.
void collect_row(const CachedCase& source, Triple begin, const Triple& step, std::int64_t length,
                 const Displacements* displacements, std::uint8_t* classes, std::uint8_t* brain, RowTaps& row) {
    row.taps.clear();
    for (std::int64_t z = 0; z < length; ++z) {
        Triple place = begin;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            begin[axis] += step[axis];
            if (displacements != nullptr)
                place[axis] += (*displacements)[axis][static_cast<std::size_t>(z)];
        }
        const Triple nearest = {(place[0] + half) >> fraction_bits, (place[1] + half) >> fraction_bits,
                                (place[2] + half) >> fraction_bits};
        const auto within = [&](std::size_t axis) {
            return static_cast<std::uint64_t>(nearest[axis]) < static_cast<std::uint64_t>(source.size[axis]);
        };
        classes[z] = 0;
        std::uint8_t is_brain = 0;
        if (within(0) && within(1) && within(2)) {
            const auto index =
                static_cast<std::size_t>((nearest[0] * source.size[1] + nearest[1]) * source.size[2] + nearest[2]);
            classes[z] = source.classes[index];
            is_brain = source.brain[index];
        }
        if (is_brain != 0) {
            const AxisWeights x = axis_weights(place[0], source.size[0]);
            const AxisWeights y = axis_weights(place[1], source.size[1]);
            const AxisWeights w = axis_weights(place[2], source.size[2]);
            row.taps.push_back({(x.index * source.size[1] + y.index) * source.size[2] + w.index,
                                z,
                                {x.low, x.high},
                                {y.low, y.high},
                                {w.low, w.high}});
        }
        if (brain != nullptr)
            brain[z] = is_brain;
    }
}

/// z-scores interpolate like quanta times scale, plus the offset of as much of the neighbourhood as is brain.
void interpolate_row(const CachedModality& modality, const RowTaps& row, const Steps& steps, std::int64_t length,
                     float* out) {
    std::fill_n(out, length, 0.0F);
    std::visit(
        [&](const auto& quanta) {
            for (std::size_t i = 0; i < row.taps.size(); ++i) {
                const auto& tap = row.taps[i];
                out[tap.z] =
                    interpolate(quanta.data() + tap.base, tap, steps) * modality.scale + modality.offset * row.brain[i];
            }
        },
        modality.quanta);
}

} // namespace

CropWalk walk_of(const Pose& pose, const Triple& extents) {
    const auto a = static_cast<std::size_t>(pose.axis);
    const std::size_t b = (a + 1) % 3;
    const std::size_t c = (a + 2) % 3;
    std::array<std::array<double, 3>, 3> inverse{}; // [box axis][crop axis]
    inverse[a][a] = 1.0 / pose.zoom;
    inverse[b][b] = inverse[c][c] = std::cos(pose.radians) / pose.zoom;
    inverse[b][c] = std::sin(pose.radians) / pose.zoom;
    inverse[c][b] = -inverse[b][c];
    CropWalk walk;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        double place = static_cast<double>(pose.begin[axis]) + 0.5 * static_cast<double>(extents[axis] - 1);
        for (std::size_t n = 0; n < 3; ++n) {
            const double entry = pose.flip[n] ? -inverse[axis][n] : inverse[axis][n];
            walk.column[n][axis] = to_fixed(entry);
            place -= entry * 0.5 * static_cast<double>(extents[n] - 1);
        }
        walk.start[axis] = to_fixed(place);
    }
    return walk;
}

CropSource source_of(const CachedCase& source) {
    CropSource made;
    made.size = source.size;
    for (std::size_t m = 0; m < made.modalities.size(); ++m) {
        const CachedModality& from = source.modalities[m];
        made.modalities[m] = {std::visit([](const auto& quanta) -> const void* { return quanta.data(); }, from.quanta),
                              from.quanta.index() == 1, from.scale, from.offset};
    }
    made.classes = source.classes.data();
    made.brain = source.brain.data();
    return made;
}

Warp::Warp(const Triple& extents, double amplitude, std::uint64_t seed)
    : fields_{SmoothField(extents, {spacing, spacing, spacing}, Random(seed).fork(0).state()),
              SmoothField(extents, {spacing, spacing, spacing}, Random(seed).fork(1).state()),
              SmoothField(extents, {spacing, spacing, spacing}, Random(seed).fork(2).state())},
      amplitude_(static_cast<float>(amplitude)), line_(static_cast<std::size_t>(extents[2])) {
    displacements_.fill(std::vector<std::int64_t>(line_.size()));
}

const std::array<std::vector<std::int64_t>, 3>& Warp::row(std::int64_t x, std::int64_t y) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
        fields_[axis].row(x, y, line_);
        for (std::size_t z = 0; z < line_.size(); ++z)
            displacements_[axis][z] = static_cast<std::int64_t>(amplitude_ * line_[z] * 0x1p32F);
    }
    return displacements_;
}

void resample_crop(const CachedCase& source, const Pose& pose, const Crop& crop, Warp* warp) {
    const CropWalk walk = walk_of(pose, crop.extents);
    const Steps steps(source.size);
    const std::int64_t length = crop.extents[2];
    const std::int64_t channel = crop.extents[0] * crop.extents[1] * length;
    RowTaps row;
    row.taps.reserve(static_cast<std::size_t>(length));
    for (std::int64_t x = 0; x < crop.extents[0]; ++x)
        for (std::int64_t y = 0; y < crop.extents[1]; ++y) {
            Triple place;
            for (std::size_t axis = 0; axis < 3; ++axis)
                place[axis] = walk.start[axis] + x * walk.column[0][axis] + y * walk.column[1][axis];
            const std::int64_t first = (x * crop.extents[1] + y) * length;
            collect_row(source, place, walk.column[2], length, warp != nullptr ? &warp->row(x, y) : nullptr,
                        crop.classes + first, crop.brain != nullptr ? crop.brain + first : nullptr, row);
            row.brain.resize(row.taps.size());
            for (std::size_t i = 0; i < row.taps.size(); ++i)
                row.brain[i] = interpolate(source.brain.data() + row.taps[i].base, row.taps[i], steps);
            for (std::size_t m = 0; m < source.modalities.size(); ++m)
                interpolate_row(source.modalities[m], row, steps, length,
                                crop.images + static_cast<std::int64_t>(m) * channel + first);
        }
}

void take_crop(const CachedCase& source, const Pose& pose, const Crop& crop, Warp* warp) {
    if (pose.resamples() || warp != nullptr)
        return resample_crop(source, pose, crop, warp);
    const std::int64_t plane = crop.extents[1] * crop.extents[2];
    copy_crop(source, pose, crop, {crop.extents[0] * plane, plane, crop.extents[2], 1});
}

void copy_block(const CachedCase& source, const std::array<std::int64_t, 3>& begin,
                const std::array<std::int64_t, 3>& extents, const StridedView<float>& image, std::uint8_t* classes) {
    const std::size_t channel_axis = image.shape.rank() == 5 ? 1 : 0;
    std::array<std::int64_t, 4> strides{};
    std::copy_n(image.strides.begin() + static_cast<std::ptrdiff_t>(channel_axis), strides.size(), strides.begin());
    Pose pose;
    pose.begin = begin;
    copy_crop(source, pose, {extents, image.data, classes, nullptr}, strides);
}

// Intensities ----------------------------------------------------------------------------------------------------

namespace {

/// A standard normal number for every index, two from one draw: that of an even index and its neighbour's are the parts
/// of Box and Muller's transform (Annals of Mathematical Statistics 29:610, 1958) of draw index / 2 of Random(seed).
class NormalNumbers {
  public:
    explicit NormalNumbers(std::uint64_t seed) : seed_(seed) {}

    float at(std::uint64_t index) {
        if (index / 2 != pair_ || !drawn_)
            draw(index / 2);
        return index % 2 == 0 ? even_ : odd_;
    }

  private:
    void draw(std::uint64_t pair) {
        constexpr std::uint64_t increment = 0x9E3779B97F4A7C15U; // of Random: what a draw moves its state by
        const std::uint64_t bits = Random(seed_ + pair * increment).next();
        const float u = static_cast<float>((bits >> 40U) + 1) * 0x1p-24F; // in (0, 1]
        const float v = static_cast<float>((bits >> 16U) & 0xFFFFFFU) * 0x1p-24F;
        const float radius = std::sqrt(-2.0F * std::log(u));
        const float angle = 2.0F * std::numbers::pi_v<float> * v;
        even_ = radius * std::cos(angle);
        odd_ = radius * std::sin(angle);
        pair_ = pair;
        drawn_ = true;
    }

    std::uint64_t seed_;
    std::uint64_t pair_ = 0;
    bool drawn_ = false;
    float even_ = 0.0F, odd_ = 0.0F;
};

void apply_gamma(std::span<float> image, std::span<const std::uint8_t> brain, float gamma, bool inverted) {
    float least = std::numeric_limits<float>::infinity();
    float greatest = -least;
    for (std::size_t i = 0; i < image.size(); ++i)
        if (brain[i] != 0) {
            least = std::min(least, image[i]);
            greatest = std::max(greatest, image[i]);
        }
    const float range = greatest - least;
    if (!(range > 0.0F))
        return;
    for (std::size_t i = 0; i < image.size(); ++i)
        if (brain[i] != 0)
            image[i] = inverted ? greatest - range * std::pow((greatest - image[i]) / range, gamma)
                                : least + range * std::pow((image[i] - least) / range, gamma);
}

} // namespace

void change_intensity(std::span<float> image, std::span<const std::uint8_t> brain, const IntensityChange& change) {
    if (change.gamma != 1.0)
        apply_gamma(image, brain, static_cast<float>(change.gamma), change.inverted);
    const auto scale = static_cast<float>(change.scale);
    const auto shift = static_cast<float>(change.shift);
    if (change.scale != 1.0 || change.shift != 0.0)
        for (std::size_t i = 0; i < image.size(); ++i)
            image[i] = brain[i] != 0 ? image[i] * scale + shift : image[i];
    if (change.noise > 0.0) {
        NormalNumbers normal(change.noise_seed);
        const auto deviation = static_cast<float>(change.noise);
        for (std::size_t i = 0; i < image.size(); ++i)
            if (brain[i] != 0)
                image[i] += deviation * normal.at(i);
    }
}

} // namespace mfres
