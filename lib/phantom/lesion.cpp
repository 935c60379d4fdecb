// SPDX-License-Identifier: MIT
#include "phantom/lesion.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <queue>
#include <utility>

namespace mfres::phantom {

namespace {

constexpr std::uint8_t background = 0;
constexpr std::uint8_t necrosis = 1;
constexpr std::uint8_t oedema = 2;
constexpr std::uint8_t enhancing = 4;

using Index3 = std::array<std::int64_t, 3>;

Index3 position(const Pose& pose, std::size_t index) {
    const auto n = static_cast<std::int64_t>(index);
    return {n % pose.size[0], n / pose.size[0] % pose.size[1], n / (pose.size[0] * pose.size[1])};
}

/// Calls visit(index, offset) for the 6 or 26 neighbours of a voxel inside the grid.
template <typename Visit>
void for_neighbours(const Pose& pose, std::size_t index, bool faces_only, const Visit& visit) {
    const Index3 p = position(pose, index);
    for (int dk = -1; dk <= 1; ++dk)
        for (int dj = -1; dj <= 1; ++dj)
            for (int di = -1; di <= 1; ++di) {
                const int steps = std::abs(di) + std::abs(dj) + std::abs(dk);
                if (steps == 0 || (faces_only && steps > 1))
                    continue;
                const Index3 q = {p[0] + di, p[1] + dj, p[2] + dk};
                if (q[0] < 0 || q[1] < 0 || q[2] < 0 || q[0] >= pose.size[0] || q[1] >= pose.size[1] ||
                    q[2] >= pose.size[2])
                    continue;
                visit(pose.index(q[0], q[1], q[2]), steps);
            }
}

/// Level set of core and rim in mm, negative inside.
class Shape {
  public:
    Shape(Random random, const LesionPlan& plan)
        : plan_(plan), coarse_(noise_field(random.fork(1), std::max(0.9F * plan.radius, 8.0F))),
          fine_(noise_field(random.fork(2), 7)), rim_(noise_field(random.fork(3), 9)) {
        Random draw = random.fork(4);
        const double axial = draw.uniform(-1.0, 1.0);
        const double around = draw.uniform(0.0, 2.0 * std::numbers::pi);
        const double across = std::sqrt(1.0 - axial * axial);
        axis_ = {static_cast<float>(across * std::cos(around)), static_cast<float>(across * std::sin(around)),
                 static_cast<float>(axial)};
        stretch_ = static_cast<float>(draw.uniform(0.75, 1.35));
        const double lobe_angle = draw.uniform(0.0, 2.0 * std::numbers::pi);
        lobe_ = plan.centre + Point{static_cast<float>(std::cos(lobe_angle)), static_cast<float>(std::sin(lobe_angle)),
                                    static_cast<float>(draw.uniform(-0.5, 0.5))} *
                                  (0.55F * plan.radius);
    }

    float body(Point p) const {
        const Point d = p - plan_.centre;
        const float along = dot(d, axis_);
        const Point across = d - axis_ * along;
        const float spread = std::sqrt(stretch_); // the ellipsoid has the volume of the ball
        const float main = length(across * spread + axis_ * (along / stretch_)) - 0.93F * plan_.radius;
        const float side = length(p - lobe_) - 0.62F * plan_.radius;
        return smooth_min(main, side, 0.3F * plan_.radius) +
               plan_.radius * (0.12F * coarse_.at(p) + 0.05F * fine_.at(p));
    }

    /// Thickness of the enhancing rim in mm, at least one voxel.
    float rim(Point p, float voxel) const {
        const float thickness = std::clamp(3.2F + 1.6F * rim_.at(p), 1.3F, 8.0F);
        return std::min(std::max(thickness, 1.1F * voxel), 0.55F * plan_.radius);
    }

  private:
    const LesionPlan& plan_;
    Field coarse_, fine_, rim_;
    Point axis_;
    float stretch_ = 1;
    Point lobe_;
};

/// Whether a voxel is parenchyma that tumour may replace.
bool is_open(const TissueMap& tissue, std::size_t index) {
    return tissue.inside[index] != 0 && tissue.barrier[index] < 128;
}
bool is_parenchyma(const TissueMap& tissue, std::size_t index) {
    return is_open(tissue, index) && tissue.csf[index] < 128;
}

/// The connected component of core and rim that contains the deepest voxel, with the level set at each voxel.
std::vector<std::pair<std::size_t, float>> body_voxels(const Shape& shape, const Pose& pose, const TissueMap& tissue) {
    std::vector<float> level(pose.voxels(), std::numeric_limits<float>::infinity());
    std::size_t deepest = 0;
    for (std::int64_t k = 0; k < pose.size[2]; ++k)
        for (std::int64_t j = 0; j < pose.size[1]; ++j)
            for (std::int64_t i = 0; i < pose.size[0]; ++i) {
                const std::size_t index = pose.index(i, j, k);
                if (!is_open(tissue, index))
                    continue;
                level[index] = shape.body(pose.head(i, j, k));
                if (level[index] < level[deepest])
                    deepest = index;
            }
    std::vector<std::pair<std::size_t, float>> body = {{deepest, level[deepest]}};
    level[deepest] = std::numeric_limits<float>::infinity();
    for (std::size_t next = 0; next < body.size(); ++next)
        for_neighbours(pose, body[next].first, true, [&](std::size_t neighbour, int) {
            if (level[neighbour] < 0) {
                body.emplace_back(neighbour, level[neighbour]);
                level[neighbour] = std::numeric_limits<float>::infinity();
            }
        });
    return body;
}

/// Distance of every voxel of core and rim to the outside, in steps between face neighbours: 1 at the surface.
std::vector<std::uint8_t> steps_from_outside(const Pose& pose, const std::vector<std::pair<std::size_t, float>>& body) {
    constexpr std::uint8_t unknown = 255;
    std::vector<std::uint8_t> steps(pose.voxels(), 0);
    for (const auto& [index, level] : body)
        steps[index] = unknown;
    std::vector<std::size_t> layer;
    for (const auto& [index, level] : body) {
        bool exposed = false;
        for_neighbours(pose, index, true, [&](std::size_t to, int) { exposed = exposed || steps[to] == 0; });
        if (exposed)
            layer.push_back(index);
    }
    for (std::uint8_t depth = 1; !layer.empty() && depth < unknown; ++depth) {
        std::vector<std::size_t> next;
        for (const std::size_t index : layer)
            steps[index] = std::min(steps[index], depth);
        for (const std::size_t index : layer)
            for_neighbours(pose, index, true, [&](std::size_t to, int) {
                if (steps[to] == unknown)
                    next.push_back(to);
            });
        layer = std::move(next);
    }
    return steps;
}

/// Labels as core the voxels that are deeper than the rim's thickness, both in the level set and in steps from outside.
void label_body(Lesion& lesion, const Shape& shape, const Pose& pose, const TissueMap& tissue) {
    constexpr float mean_step = 0.8F; // Euclidean distance per step between face neighbours, averaged over directions
    const auto body = body_voxels(shape, pose, tissue);
    const auto steps = steps_from_outside(pose, body);
    for (const auto& [index, level] : body) {
        const Index3 p = position(pose, index);
        const float rim = shape.rim(pose.head(p[0], p[1], p[2]), pose.voxel);
        const float inwards = mean_step * pose.voxel * (static_cast<float>(steps[index]) - 0.5F);
        lesion.labels[index] = steps[index] > 1 && std::min(-level, inwards) > rim ? necrosis : enhancing;
    }
}

float front_speed(const TissueMap& tissue, const Field& fingers, const Pose& pose, std::size_t index) {
    const Index3 p = position(pose, index);
    const float grey = static_cast<float>(tissue.grey[index]) / 255.0F;
    const float white = 1.0F - grey - static_cast<float>(tissue.csf[index]) / 255.0F;
    return (white + 0.13F * grey + 0.02F) * std::exp(0.75F * fingers.at(pose.head(p[0], p[1], p[2])));
}

/// Labels oedema voxels in the order of their arrival times until `target` voxels are tumour.
void run_front(Lesion& lesion, std::size_t target, const Field& fingers, const Pose& pose, const TissueMap& tissue) {
    using Arrival = std::pair<float, std::size_t>;
    std::priority_queue<Arrival, std::vector<Arrival>, std::greater<>> front;
    std::vector<Arrival> reached;
    std::size_t count = 0;
    const auto spread = [&](std::size_t from, float time) {
        for_neighbours(pose, from, false, [&](std::size_t to, int steps) {
            if (lesion.labels[to] == background && is_parenchyma(tissue, to))
                front.emplace(time + std::sqrt(static_cast<float>(steps)) / front_speed(tissue, fingers, pose, to), to);
        });
    };
    for (std::size_t index = 0; index < lesion.labels.size(); ++index)
        if (lesion.labels[index] != background)
            ++count;
    for (std::size_t index = 0; index < lesion.labels.size(); ++index)
        if (lesion.labels[index] == enhancing)
            spread(index, 0.0F);
    while (!front.empty() && count < target) {
        const auto [time, index] = front.top();
        front.pop();
        if (lesion.labels[index] != background)
            continue;
        lesion.labels[index] = oedema;
        reached.emplace_back(time, index);
        ++count;
        spread(index, time);
    }
    const float last = reached.empty() ? 1.0F : reached.back().first;
    for (const auto& [time, index] : reached)
        lesion.strength[index] = static_cast<std::uint8_t>(255.0F - 90.0F * time / last);
}

/// Majority filter over 27 voxels between tumour and background, which gives oedema a smooth border as in manual
/// segmentations. Core and rim are unchanged.
void smooth_oedema(Lesion& lesion, const Pose& pose, const TissueMap& tissue) {
    const std::vector<std::uint8_t> before = lesion.labels;
    for (std::size_t index = 0; index < before.size(); ++index) {
        if (before[index] == necrosis || before[index] == enhancing || !is_parenchyma(tissue, index))
            continue;
        int votes = before[index] != background ? 1 : 0;
        int strongest = lesion.strength[index];
        for_neighbours(pose, index, false, [&](std::size_t neighbour, int) {
            votes += before[neighbour] != background ? 1 : 0;
            strongest = std::max<int>(strongest, before[neighbour] == oedema ? lesion.strength[neighbour] : 0);
        });
        lesion.labels[index] = votes >= 14 ? oedema : background;
        if (votes >= 14 && before[index] == background)
            lesion.strength[index] = static_cast<std::uint8_t>(strongest);
    }
}

} // namespace

LesionPlan plan_lesion(Random random, const Anatomy& anatomy) {
    LesionPlan plan;
    plan.whole_volume = static_cast<float>(random.uniform(40e3, 105e3));
    const double core_share = random.uniform(0.22, 0.48);
    plan.radius = static_cast<float>(std::cbrt(plan.whole_volume * core_share * 0.75 / std::numbers::pi));
    const float side = random.uniform() < 0.5 ? -1.0F : 1.0F;
    float most_room = -std::numeric_limits<float>::infinity();
    for (int attempt = 0; attempt < 200 && most_room < 0.9F * plan.radius; ++attempt) {
        const Point place = {side * static_cast<float>(random.uniform(18, 48)),
                             static_cast<float>(random.uniform(-52, 48)), static_cast<float>(random.uniform(-4, 44))};
        const float room = anatomy.room_for_tumour(place);
        if (room > most_room) {
            most_room = room;
            plan.centre = place;
        }
    }
    plan.pressure = {plan.centre, plan.radius, static_cast<float>(random.uniform(0.10, 0.26)) * plan.radius};
    return plan;
}

Lesion grow_lesion(Random random, const LesionPlan& plan, const Pose& pose, const TissueMap& tissue) {
    Lesion lesion = {std::vector<std::uint8_t>(pose.voxels()), std::vector<std::uint8_t>(pose.voxels())};
    const Shape shape(random.fork(1), plan);
    label_body(lesion, shape, pose, tissue);
    const Field fingers = noise_field(random.fork(2), 9);
    const float voxel_volume = pose.voxel * pose.voxel * pose.voxel;
    run_front(lesion, static_cast<std::size_t>(plan.whole_volume / voxel_volume), fingers, pose, tissue);
    smooth_oedema(lesion, pose, tissue);
    smooth_oedema(lesion, pose, tissue);
    return lesion;
}

} // namespace mfres::phantom
