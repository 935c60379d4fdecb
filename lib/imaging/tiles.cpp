#include "imaging/tiles.h"

#include "core/parallel.h"
#include "core/try.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

namespace mfres {

namespace {

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

namespace {

/// Voxels of one row handled at once: a constant, so that loops over them become vector instructions.
constexpr std::int64_t lanes = 32;
using Lanes = std::array<float, lanes>;

/// Gathers `count` <= lanes values; the lanes behind them become 0.
inline void load(const float* from, std::int64_t stride, std::int64_t count, Lanes& to) {
    if (count < lanes)
        to.fill(0.0F);
    if (stride == 1)
        std::copy_n(from, count, to.begin());
    else
        for (std::int64_t i = 0; i < count; ++i)
            to[static_cast<std::size_t>(i)] = from[i * stride];
}

/// How many lanes are NaN or infinite: those whose exponent bits are all set.
inline std::int32_t not_finite(const Lanes& values) {
    constexpr std::uint32_t exponent = 0x7F800000U;
    std::int32_t count = 0;
    for (const float value : values)
        count += (std::bit_cast<std::uint32_t>(value) & exponent) == exponent ? 1 : 0;
    return count;
}

/// Labels of up to `lanes` voxels along z; returns how many of their logits are not finite.
std::int64_t label_voxels(const float* logits, std::int64_t class_stride, std::int64_t z_stride, std::int64_t classes,
                          std::int64_t count, std::uint8_t* labels) {
    Lanes best;
    Lanes candidate;
    std::array<std::int32_t, lanes> winner{};
    load(logits, z_stride, count, best);
    std::int64_t bad = not_finite(best);
    for (std::int32_t c = 1; c < classes; ++c) {
        load(logits + c * class_stride, z_stride, count, candidate);
        bad += not_finite(candidate);
        for (std::size_t i = 0; i < lanes; ++i) {
            const bool greater = candidate[i] > best[i];
            best[i] = greater ? candidate[i] : best[i];
            winner[i] = greater ? c : winner[i];
        }
    }
    for (std::int64_t i = 0; i < count; ++i)
        labels[i] = static_cast<std::uint8_t>(winner[static_cast<std::size_t>(i)]);
    return bad;
}

/// Labels of `count` voxels of plane x and row y from z on; returns how many of their logits are not finite.
std::int64_t label_row(const StridedView<const float>& logits, std::int64_t x, std::int64_t y, std::int64_t z,
                       std::int64_t count, std::uint8_t* labels) {
    std::int64_t bad = 0;
    for (std::int64_t done = 0; done < count; done += lanes)
        bad += label_voxels(&logits.at(0, 0, x, y, z + done), logits.strides[1], logits.strides[4], logits.shape[1],
                            std::min(lanes, count - done), labels + done);
    return bad;
}

std::int64_t count_not_finite(const StridedView<const float>& logits, int threads) {
    std::atomic<std::int64_t> total{0};
    parallel_ranges(logits.shape[2], threads, [&](std::int64_t begin, std::int64_t end) {
        std::int64_t bad = 0;
        Lanes values;
        for (std::int64_t x = begin; x < end; ++x)
            for (std::int64_t y = 0; y < logits.shape[3]; ++y)
                for (std::int64_t z = 0; z < logits.shape[4]; z += lanes)
                    for (std::int64_t c = 0; c < logits.shape[1]; ++c) {
                        load(&logits.at(0, c, x, y, z), logits.strides[4], std::min(lanes, logits.shape[4] - z),
                             values);
                        bad += not_finite(values);
                    }
        total += bad;
    });
    return total;
}

/// The sentence for logits of which `bad` are not finite; `offset` is where the logits' first voxel lies in the box.
Error not_finite_error(const StridedView<const float>& logits, std::int64_t bad, const Size& offset) {
    std::int64_t nans = 0;
    std::string first;
    for (std::int64_t x = 0; x < logits.shape[2]; ++x)
        for (std::int64_t y = 0; y < logits.shape[3]; ++y)
            for (std::int64_t z = 0; z < logits.shape[4]; ++z)
                for (std::int64_t c = 0; c < logits.shape[1]; ++c) {
                    const float value = logits.at(0, c, x, y, z);
                    nans += std::isnan(value) ? 1 : 0;
                    if (first.empty() && !std::isfinite(value))
                        first = text("class ", c, " at voxel (", x + offset[0], ", ", y + offset[1], ", ",
                                     z + offset[2], ") of the padded box");
                }
    return {ErrorCode::logits_not_finite,
            text(bad, " of ", logits.shape.elements(), " logits are not finite (", nans, " NaN, ", bad - nans,
                 " infinite), the first for ", first),
            {}};
}

Status check_logits(const StridedView<const float>& logits) {
    if (logits.shape.rank() != 5 || logits.shape[0] != 1 || logits.shape[1] < 1 || logits.shape[1] > 256)
        return invalid(text("labels need logits of one batch item and 1 to 256 classes, [1, classes, x, y, z], got ",
                            to_string(logits.shape)));
    return {};
}

} // namespace

Status argmax(const StridedView<const float>& logits, std::span<std::uint8_t> labels, int threads) {
    MFRES_CHECK(check_logits(logits));
    const std::int64_t plane = logits.shape[3] * logits.shape[4];
    if (labels.size() != static_cast<std::uint64_t>(logits.shape[2] * plane))
        return invalid(text("logits of ", to_string(logits.shape), " do not fit ", labels.size(), " labels"));
    std::atomic<std::int64_t> bad{0};
    parallel_ranges(logits.shape[2], resolve_threads(threads), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t x = begin; x < end; ++x)
            for (std::int64_t y = 0; y < logits.shape[3]; ++y)
                bad += label_row(logits, x, y, 0, logits.shape[4], labels.data() + x * plane + y * logits.shape[4]);
    });
    if (bad > 0)
        return not_finite_error(logits, bad, {0, 0, 0});
    return {};
}

std::pair<std::int64_t, std::int64_t> decided_by(const TilePlan& plan, std::size_t axis, std::size_t n) {
    const auto& starts = plan.starts[axis];
    const auto middle = [&](std::size_t left) { return (starts[left] + plan.tile_size[axis] + starts[left + 1]) / 2; };
    return {n == 0 ? 0 : middle(n - 1), n + 1 == starts.size() ? plan.box_size[axis] : middle(n)};
}

Result<TileLabels> TileLabels::create(TilePlan plan, std::span<std::uint8_t> labels, int threads) {
    if (plan.count() == 0)
        return invalid("a plan without tiles covers no box");
    if (labels.size() != static_cast<std::uint64_t>(volume(plan.box_size)))
        return invalid(
            text("a box of ", to_string(Shape(plan.box_size)), " voxels does not fit ", labels.size(), " labels"));
    return TileLabels(std::move(plan), labels, resolve_threads(threads));
}

Status TileLabels::add(const StridedView<const float>& logits) {
    const Size& tile = plan_.tile_size;
    if (complete())
        return invalid(text("all ", plan_.count(), " tiles of the plan were already added"));
    MFRES_CHECK(check_logits(logits));
    if (!(logits.shape == Shape{1, logits.shape[1], tile[0], tile[1], tile[2]}))
        return invalid(
            text("tiles of ", to_string(Shape(tile)), " voxels cannot take logits of ", to_string(logits.shape)));
    const Size offset = plan_.offset(next_tile_);
    if (const std::int64_t bad = count_not_finite(logits, threads_); bad > 0)
        return not_finite_error(logits, bad, offset);

    const auto [x_begin, x_end] = decided_by(plan_, 0, next_tile_ / plan_.starts[2].size() / plan_.starts[1].size());
    const auto [y_begin, y_end] = decided_by(plan_, 1, next_tile_ / plan_.starts[2].size() % plan_.starts[1].size());
    const auto [z_begin, z_end] = decided_by(plan_, 2, next_tile_ % plan_.starts[2].size());
    parallel_ranges(x_end - x_begin, threads_,
                    [&, x_from = x_begin, y_from = y_begin, y_to = y_end, z_from = z_begin,
                     z_to = z_end](std::int64_t first, std::int64_t last) {
                        for (std::int64_t x = x_from + first; x < x_from + last; ++x)
                            for (std::int64_t y = y_from; y < y_to; ++y)
                                label_row(logits, x - offset[0], y - offset[1], z_from - offset[2], z_to - z_from,
                                          labels_.data() + (x * plan_.box_size[1] + y) * plan_.box_size[2] + z_from);
                    });
    ++next_tile_;
    return {};
}

} // namespace mfres
