// SPDX-License-Identifier: MIT
#include "inference/test_time_augmentation.h"

#include "core/argmax.h"
#include "core/parallel.h"
#include "core/try.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

constexpr std::string_view axis_letters = "xyz";

/// Adds the softmax of `count` voxels along z, class by class, so that loops over z become vector instructions.
void add_row(const StridedView<const float>& values, const StridedView<float>& sums, std::int64_t x, std::int64_t y,
             std::vector<float>& greatest, std::vector<float>& total, std::vector<float>& exponentials) {
    const std::int64_t classes = values.shape[1];
    const std::int64_t count = values.shape[4];
    const std::int64_t stride = values.strides[4];
    for (std::int64_t c = 0; c < classes; ++c) {
        const float* const row = &values.at(0, c, x, y, 0);
        for (std::int64_t z = 0; z < count; ++z) {
            float& most = greatest[static_cast<std::size_t>(z)];
            most = c == 0 ? row[z * stride] : std::max(most, row[z * stride]);
        }
    }
    std::fill(total.begin(), total.end(), 0.0F);
    for (std::int64_t c = 0; c < classes; ++c) {
        const float* const row = &values.at(0, c, x, y, 0);
        float* const powers = exponentials.data() + c * count;
        for (std::int64_t z = 0; z < count; ++z) {
            powers[z] = std::exp(row[z * stride] - greatest[static_cast<std::size_t>(z)]);
            total[static_cast<std::size_t>(z)] += powers[z];
        }
    }
    for (std::int64_t c = 0; c < classes; ++c) {
        float* const sum = &sums.at(0, c, x, y, 0);
        const float* const powers = exponentials.data() + c * count;
        for (std::int64_t z = 0; z < count; ++z)
            sum[z] += powers[z] / total[static_cast<std::size_t>(z)];
    }
}

/// Adds the sigmoids of a z-line of every region. Precondition: the logits are finite.
void add_region_row(const StridedView<const float>& values, const StridedView<float>& sums, std::int64_t x,
                    std::int64_t y) {
    for (std::int64_t r = 0; r < values.shape[1]; ++r) {
        const float* const row = &values.at(0, r, x, y, 0);
        float* const sum = &sums.at(0, r, x, y, 0);
        for (std::int64_t z = 0; z < values.shape[4]; ++z)
            sum[z] += 1.0F / (1.0F + std::exp(-row[z * values.strides[4]]));
    }
}

} // namespace

Result<MirrorAxes> parse_mirror_axes(std::string_view letters) {
    MirrorAxes axes{};
    for (const char letter : letters) {
        const std::size_t axis = axis_letters.find(letter);
        if (axis == std::string_view::npos || axes[axis])
            return Error{ErrorCode::invalid_argument,
                         text("mirror axes are letters of xyz, each at most once, not '", letters, "'"), "mirror"};
        axes[axis] = true;
    }
    return axes;
}

std::size_t mirror_images(const MirrorAxes& axes) noexcept {
    return std::size_t{1} << static_cast<unsigned>(std::count(axes.begin(), axes.end(), true));
}

MirrorAxes mirror_image(const MirrorAxes& axes, std::size_t n) noexcept {
    MirrorAxes image{};
    for (std::size_t axis = 0; axis < axes.size(); ++axis)
        if (axes[axis]) {
            image[axis] = n % 2 == 1;
            n /= 2;
        }
    return image;
}

Status ProbabilityMean::add(const StridedView<const float>& values, int threads,
                            const std::array<std::int64_t, 3>& offset) {
    MFRES_CHECK(logits::check_logits(values, outputs_));
    if (!(values.shape == sums_.shape()))
        return Error{
            ErrorCode::invalid_argument,
            text("logits of ", to_string(values.shape), " cannot be added to those of ", to_string(sums_.shape())),
            {}};
    const int workers = resolve_threads(threads);
    if (const std::int64_t bad = logits::count_not_finite(values, workers); bad > 0)
        return logits::not_finite_error(values, bad, offset);
    const StridedView<float> sums = view(sums_);
    parallel_ranges(values.shape[2], workers, [&](std::int64_t begin, std::int64_t end) {
        const auto count = static_cast<std::size_t>(values.shape[4]);
        std::vector<float> greatest(count);
        std::vector<float> total(count);
        std::vector<float> exponentials(count * static_cast<std::size_t>(values.shape[1]));
        for (std::int64_t x = begin; x < end; ++x)
            for (std::int64_t y = 0; y < values.shape[3]; ++y)
                if (outputs_ == Outputs::regions)
                    add_region_row(values, sums, x, y);
                else
                    add_row(values, sums, x, y, greatest, total, exponentials);
    });
    return {};
}

void ProbabilityMean::clear() {
    std::fill_n(sums_.data(), sums_.elements(), 0.0F);
}

} // namespace mfres
