#include "imaging/tiles.h"

#include "core/parallel.h"
#include "core/try.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <new>
#include <optional>

namespace mfres {

namespace {

using namespace logits;
using Size = std::array<std::int64_t, 3>;

std::int64_t volume(const Size& size) {
    return size[0] * size[1] * size[2];
}

Error invalid(std::string message) {
    return {ErrorCode::invalid_argument, std::move(message), {}};
}

Status check_tiling(const Size& size, std::string_view what, std::int64_t overlap, std::int64_t multiple) {
    if (multiple < 1 || overlap < 0)
        return invalid(text("tiles need a multiple of at least 1 and an overlap of at least 0 voxels, got ", multiple,
                            " and ", overlap));
    for (const std::int64_t edge : size)
        if (edge < 1 || edge % multiple != 0)
            return invalid(text("the ", what, " of ", to_string(Shape(size)),
                                " voxels has an edge that is no positive multiple of ", multiple));
    return {};
}

/// Positions needed along one axis, or nothing if the overlap leaves no room to advance. All in voxels.
std::optional<std::int64_t> positions(std::int64_t box, std::int64_t tile, std::int64_t overlap,
                                      std::int64_t multiple) {
    if (tile >= box)
        return 1;
    const std::int64_t step = (tile - overlap) / multiple * multiple;
    if (step < multiple)
        return std::nullopt;
    return (box - tile + step - 1) / step + 1;
}

/// `count` starts from 0 to box - tile on multiples. Rounding even spacing down keeps every gap at or below the
/// largest gap that the overlap allows, because that gap is itself a multiple.
std::vector<std::int64_t> spread(std::int64_t box, std::int64_t tile, std::int64_t count, std::int64_t multiple) {
    std::vector<std::int64_t> starts(static_cast<std::size_t>(count), 0);
    const std::int64_t units = (box - tile) / multiple;
    for (std::int64_t n = 1; n < count; ++n)
        starts[static_cast<std::size_t>(n)] = units * n / (count - 1) * multiple;
    return starts;
}

} // namespace

Size TilePlan::offset(std::size_t n) const {
    const std::size_t z = n % starts[2].size();
    const std::size_t y = n / starts[2].size() % starts[1].size();
    const std::size_t x = n / starts[2].size() / starts[1].size();
    return {starts[0][x], starts[1][y], starts[2][z]};
}

Result<TilePlan> plan_tiles(const Size& box_size, const Size& tile_size, std::int64_t overlap, std::int64_t multiple) {
    MFRES_CHECK(check_tiling(box_size, "box", overlap, multiple));
    MFRES_CHECK(check_tiling(tile_size, "tile", overlap, multiple));
    TilePlan plan;
    plan.box_size = box_size;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t tile = std::min(tile_size[axis], box_size[axis]);
        const auto count = positions(box_size[axis], tile, overlap, multiple);
        if (!count)
            return invalid(text("tiles of ", to_string(Shape(tile_size)), " voxels that share ", overlap,
                                " with their neighbours advance by less than ", multiple, " along axis ", axis));
        plan.tile_size[axis] = tile;
        plan.starts[axis] = spread(box_size[axis], tile, *count, multiple);
    }
    return plan;
}

namespace {

struct EdgeChoice {
    std::int64_t edge = 0;
    std::int64_t positions = 0;
};

/// For every number of positions along an axis the smallest edge that needs no more, largest edge first.
std::vector<EdgeChoice> edge_choices(std::int64_t box, std::int64_t overlap, std::int64_t multiple) {
    std::vector<EdgeChoice> choices;
    for (std::int64_t edge = box; edge >= multiple; edge -= multiple) {
        const auto count = positions(box, edge, overlap, multiple);
        if (!count)
            break;
        if (!choices.empty() && choices.back().positions == *count)
            choices.back().edge = edge;
        else
            choices.push_back({edge, *count});
    }
    return choices;
}

struct Candidate {
    Size tile{};
    std::int64_t computed_voxels = 0;
};

std::vector<Candidate> tile_candidates(const Size& box, std::int64_t overlap, std::int64_t multiple) {
    std::vector<Candidate> candidates;
    for (const auto& x : edge_choices(box[0], overlap, multiple))
        for (const auto& y : edge_choices(box[1], overlap, multiple))
            for (const auto& z : edge_choices(box[2], overlap, multiple)) {
                const Size tile = {x.edge, y.edge, z.edge};
                candidates.push_back({tile, volume(tile) * x.positions * y.positions * z.positions});
            }
    // Of tiles that are equal in both respects the one that is shorter along x keeps fewer planes open.
    std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
        if (a.computed_voxels != b.computed_voxels)
            return a.computed_voxels < b.computed_voxels;
        if (volume(a.tile) != volume(b.tile))
            return volume(a.tile) > volume(b.tile);
        return a.tile < b.tile;
    });
    return candidates;
}

} // namespace

Result<Size> choose_tile(const Size& box_size, std::int64_t overlap, std::int64_t multiple, std::int64_t limit_bytes,
                         const std::function<std::int64_t(const Size&)>& bytes_of) {
    MFRES_CHECK(check_tiling(box_size, "box", overlap, multiple));
    std::int64_t smallest_need = std::numeric_limits<std::int64_t>::max();
    Size smallest{};
    for (const Candidate& candidate : tile_candidates(box_size, overlap, multiple)) {
        const std::int64_t bytes = bytes_of(candidate.tile);
        if (bytes <= limit_bytes)
            return candidate.tile;
        if (bytes < smallest_need) {
            smallest_need = bytes;
            smallest = candidate.tile;
        }
    }
    return Error{ErrorCode::memory_limit,
                 text("segmenting a box of ", to_string(Shape(box_size)), " voxels needs at least ", smallest_need,
                      " bytes (with tiles of ", to_string(Shape(smallest)), "), more than the ", limit_bytes,
                      " allowed"),
                 {}};
}

std::vector<float> blend_weights(std::int64_t length) {
    std::vector<float> weights(static_cast<std::size_t>(length));
    const double centre = 0.5 * static_cast<double>(length - 1);
    for (std::int64_t i = 0; i < length; ++i) {
        const double deviations = (static_cast<double>(i) - centre) * 8.0 / static_cast<double>(length);
        weights[static_cast<std::size_t>(i)] = static_cast<float>(std::exp(-0.5 * deviations * deviations));
    }
    return weights;
}

std::int64_t blend_bytes(const Size& box_size, const Size& tile_size, int classes) {
    const std::int64_t window = std::min(tile_size[0], box_size[0]) * box_size[1] * box_size[2] * classes;
    std::int64_t weights = 0;
    for (std::size_t axis = 0; axis < 3; ++axis)
        weights += 3 * std::min(tile_size[axis], box_size[axis]);
    return static_cast<std::int64_t>(sizeof(float)) * (window + weights);
}

Result<BlendedArgmax> BlendedArgmax::create(TilePlan plan, int classes, std::span<std::uint8_t> labels, int threads) {
    if (classes < 1 || classes > 256)
        return invalid(text("labels need 1 to 256 classes, got ", classes));
    if (plan.count() == 0)
        return invalid("a plan without tiles covers no box");
    if (labels.size() != static_cast<std::uint64_t>(volume(plan.box_size)))
        return invalid(
            text("a box of ", to_string(Shape(plan.box_size)), " voxels does not fit ", labels.size(), " labels"));
    BlendedArgmax blended;
    blended.classes_ = classes;
    blended.threads_ = resolve_threads(threads);
    blended.labels_ = labels;
    try {
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const auto length = static_cast<std::size_t>(plan.tile_size[axis]);
            blended.weights_[axis].own = blend_weights(plan.tile_size[axis]);
            blended.weights_[axis].before.resize(length);
            blended.weights_[axis].total.resize(length);
        }
        blended.window_.assign(
            static_cast<std::size_t>(plan.tile_size[0] * plan.box_size[1] * plan.box_size[2] * classes), 0.0F);
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit,
                     text("blending tiles of ", to_string(Shape(plan.tile_size)), " voxels needs ",
                          blend_bytes(plan.box_size, plan.tile_size, classes), " bytes, which could not be allocated"),
                     {}};
    }
    blended.plan_ = std::move(plan);
    return blended;
}

/// Fills weights_ for the current tile. Positions are summed in their order, so that the sum before the last position
/// plus its own weight is the total, bit for bit.
void BlendedArgmax::weigh_tile() {
    const Size offset = plan_.offset(next_tile_);
    for (std::size_t axis = 0; axis < 3; ++axis) {
        AxisWeights& weights = weights_[axis];
        const std::int64_t length = plan_.tile_size[axis];
        std::fill(weights.before.begin(), weights.before.end(), 0.0F);
        std::fill(weights.total.begin(), weights.total.end(), 0.0F);
        for (const std::int64_t start : plan_.starts[axis]) {
            const std::int64_t shift = offset[axis] - start;
            for (std::int64_t i = std::max<std::int64_t>(0, -shift); i < std::min(length, length - shift); ++i) {
                const float weight = weights.own[static_cast<std::size_t>(i + shift)];
                weights.total[static_cast<std::size_t>(i)] += weight;
                if (start < offset[axis])
                    weights.before[static_cast<std::size_t>(i)] += weight;
            }
        }
    }
}

float* BlendedArgmax::row_of(std::int64_t x, std::int64_t y) {
    const std::int64_t plane = x % plan_.tile_size[0];
    return window_.data() + (plane * plan_.box_size[1] + y) * classes_ * plan_.box_size[2];
}

/// Moves the means of tile row (x, y) towards its logits. The weight of all earlier tiles at (x, y, z) is
/// before_x total_y total_z + own_x (before_y total_z + own_y before_z): whole layers, whole rows, then single tiles.
void BlendedArgmax::blend_row(const float* logits, const StridedView<const float>& view, std::int64_t x, std::int64_t y,
                              const Size& offset) {
    const auto xi = static_cast<std::size_t>(x);
    const auto yi = static_cast<std::size_t>(y);
    const float earlier_rows =
        weights_[0].before[xi] * weights_[1].total[yi] + weights_[0].own[xi] * weights_[1].before[yi];
    const float this_row = weights_[0].own[xi] * weights_[1].own[yi];
    const std::int64_t depth = view.shape[4];
    float* const means = row_of(offset[0] + x, offset[1] + y) + offset[2];
    for (std::int64_t z = 0; z < depth; z += lanes) {
        const std::int64_t count = std::min(lanes, depth - z);
        Lanes share;
        for (std::int64_t i = 0; i < count; ++i) {
            const auto zi = static_cast<std::size_t>(z + i);
            const float earlier = earlier_rows * weights_[2].total[zi];
            share[static_cast<std::size_t>(i)] =
                this_row * weights_[2].own[zi] / (earlier + this_row * (weights_[2].before[zi] + weights_[2].own[zi]));
        }
        for (std::int64_t c = 0; c < classes_; ++c) {
            Lanes values;
            load(logits + c * view.strides[1] + z * view.strides[4], view.strides[4], count, values);
            float* const mean = means + c * plan_.box_size[2] + z;
            for (std::int64_t i = 0; i < count; ++i)
                mean[i] += share[static_cast<std::size_t>(i)] * (values[static_cast<std::size_t>(i)] - mean[i]);
        }
    }
}

/// Labels planes [finished_planes_, end) and empties them for the planes that come round the ring next.
Status BlendedArgmax::finish_planes(std::int64_t end) {
    const Size& box = plan_.box_size;
    const std::int64_t row = classes_ * box[2];
    const StridedView<const float> means{
        window_.data(), Shape{1, classes_, plan_.tile_size[0], box[1], box[2]}, {0, box[2], box[1] * row, row, 1}};
    std::atomic<std::int64_t> bad{0};
    parallel_ranges(end - finished_planes_, threads_, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t x = finished_planes_ + first; x < finished_planes_ + last; ++x) {
            bad += label_plane(means, x % plan_.tile_size[0], labels_.data() + x * box[1] * box[2]);
            std::fill_n(row_of(x, 0), box[1] * row, 0.0F);
        }
    });
    if (bad > 0)
        return Error{ErrorCode::logits_not_finite,
                     text(bad.load(), " blended logits of planes x = ", finished_planes_, " to ", end - 1,
                          " of the padded box are not finite, because their tiles' logits are too far apart"),
                     {}};
    finished_planes_ = end;
    return {};
}

Status BlendedArgmax::add(const StridedView<const float>& logits) {
    const Size& tile = plan_.tile_size;
    if (complete())
        return invalid(text("all ", plan_.count(), " tiles of the plan were already added"));
    if (!(logits.shape == Shape{1, classes_, tile[0], tile[1], tile[2]}))
        return invalid(text("tiles of ", to_string(Shape(tile)), " voxels and ", classes_,
                            " classes cannot take logits of ", to_string(logits.shape)));
    const Size offset = plan_.offset(next_tile_);
    if (const std::int64_t bad = count_not_finite(logits, threads_); bad > 0)
        return not_finite_error(logits, bad, offset);

    weigh_tile();
    parallel_ranges(tile[0], threads_, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t x = begin; x < end; ++x)
            for (std::int64_t y = 0; y < tile[1]; ++y)
                blend_row(&logits.at(0, 0, x, y, 0), logits, x, y, offset);
    });
    ++next_tile_;
    const std::int64_t open_from = complete() ? plan_.box_size[0] : plan_.offset(next_tile_)[0];
    if (open_from > finished_planes_)
        return finish_planes(open_from);
    return {};
}

} // namespace mfres
