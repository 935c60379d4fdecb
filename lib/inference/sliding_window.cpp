// SPDX-License-Identifier: MIT
#include "inference/sliding_window.h"

#include "core/parallel.h"
#include "core/try.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
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

/// Number of positions along one axis, or none if the overlap leaves no step to the next tile. All in voxels.
std::optional<std::int64_t> positions(std::int64_t box, std::int64_t tile, std::int64_t overlap,
                                      std::int64_t multiple) {
    if (tile >= box)
        return 1;
    const std::int64_t step = (tile - overlap) / multiple * multiple;
    if (step < multiple)
        return std::nullopt;
    return (box - tile + step - 1) / step + 1;
}

/// `count` starts from 0 to box - tile, multiples of `multiple`. Rounding the even spacing down keeps every step at or
/// below the largest one that the overlap allows, because that one is itself a multiple.
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

/// For each number of positions along an axis the smallest edge that needs no more positions, largest edge first.
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
    // Of tiles that are equal in both, the one that is shorter along x: kernels that sweep along x buffer fewer planes.
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

std::pair<std::int64_t, std::int64_t> decided_by(const TilePlan& plan, std::size_t axis, std::size_t n) {
    const auto& starts = plan.starts[axis];
    const auto middle = [&](std::size_t left) { return (starts[left] + plan.tile_size[axis] + starts[left + 1]) / 2; };
    return {n == 0 ? 0 : middle(n - 1), n + 1 == starts.size() ? plan.box_size[axis] : middle(n)};
}

std::array<std::pair<std::int64_t, std::int64_t>, 3> decided_by(const TilePlan& plan, std::size_t tile) {
    const std::size_t ny = plan.starts[1].size();
    const std::size_t nz = plan.starts[2].size();
    return {decided_by(plan, 0, tile / nz / ny), decided_by(plan, 1, tile / nz % ny), decided_by(plan, 2, tile % nz)};
}

Result<TileLabels> TileLabels::create(TilePlan plan, std::span<std::uint8_t> labels, int threads,
                                      const LabelRule& rule) {
    if (plan.count() == 0)
        return invalid("a plan without tiles covers no box");
    if (labels.size() != static_cast<std::uint64_t>(volume(plan.box_size)))
        return invalid(
            text("a box of ", to_string(Shape(plan.box_size)), " voxels does not fit ", labels.size(), " labels"));
    return TileLabels(std::move(plan), labels, resolve_threads(threads), rule);
}

Status TileLabels::add(const StridedView<const float>& values) {
    const Size& tile = plan_.tile_size;
    if (complete())
        return invalid(text("all ", plan_.count(), " tiles of the plan were already added"));
    MFRES_CHECK(logits::check_logits(values, rule_.outputs));
    if (!(values.shape == Shape{1, values.shape[1], tile[0], tile[1], tile[2]}))
        return invalid(
            text("tiles of ", to_string(Shape(tile)), " voxels cannot take logits of ", to_string(values.shape)));
    const Size offset = plan_.offset(next_tile_);
    if (const std::int64_t bad = logits::count_not_finite(values, threads_); bad > 0)
        return logits::not_finite_error(values, bad, offset);

    const auto decided = decided_by(plan_, next_tile_);
    const std::int64_t z = decided[2].first;
    parallel_ranges(decided[0].second - decided[0].first, threads_, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t x = decided[0].first + first; x < decided[0].first + last; ++x)
            for (std::int64_t y = decided[1].first; y < decided[1].second; ++y)
                logits::label_row(values, x - offset[0], y - offset[1], z - offset[2], decided[2].second - z, rule_,
                                  labels_.data() + (x * plan_.box_size[1] + y) * plan_.box_size[2] + z);
    });
    ++next_tile_;
    return {};
}

} // namespace mfres
