// SPDX-License-Identifier: MIT
#include "phantom/anatomy.h"

#include <array>
#include <cmath>

namespace mfres::phantom {

namespace {

/// Approximate distance to the surface of an axis-aligned ellipsoid, positive inside: k (k - 1) / |gradient k^2 / 2|,
/// exact to first order at the surface.
float ellipsoid(Point p, Point centre, Point radii) {
    const Point d = p - centre;
    const Point a = {d.x / radii.x, d.y / radii.y, d.z / radii.z};
    const Point b = {a.x / radii.x, a.y / radii.y, a.z / radii.z};
    const float k = length(a);
    return k < 1e-4F ? std::min({radii.x, radii.y, radii.z}) : k * (1.0F - k) / length(b);
}

struct Bead {
    Point centre;
    float radius;
};

/// Distance to the convex hull of two spheres, positive inside.
float capsule(Point p, const Bead& a, const Bead& b) {
    const Point axis = b.centre - a.centre;
    const float t = std::clamp(dot(p - a.centre, axis) / dot(axis, axis), 0.0F, 1.0F);
    return lerp(a.radius, b.radius, t) - length(p - (a.centre + axis * t));
}

Point mirrored(Point p) {
    return {std::abs(p.x), p.y, p.z};
}

/// Distance to the tentorium, the surface between cerebrum and cerebellum; positive above. In front of the brainstem it
/// rises above the cerebellum and has no effect.
float above_tentorium(Point p) {
    const float roof = -9.0F + 0.24F * (p.y + 30.0F) - 0.25F * std::abs(p.x);
    return (p.z - roof) * 0.93F + 60.0F * smooth_step(-30.0F, 0.0F, p.y + 0.5F * std::abs(p.x));
}

/// Both hemispheres as one smooth ovoid, narrower in front and flat below.
float cerebral_egg(Point p) {
    constexpr float exponent = 2.35F;
    const float half_width = 67.0F * (1.0F - 0.13F * smooth_step(-20.0F, 80.0F, p.y));
    const float x = std::abs(p.x) / half_width;
    const float y = std::abs(p.y) / 86.0F;
    const float z = std::abs(p.z) / (p.z > 0 ? 66.0F : 33.0F);
    const float sum = std::pow(x, exponent) + std::pow(y, exponent) + std::pow(z, exponent);
    const float norm = std::max(std::pow(sum, 1.0F / exponent), 1e-3F);
    const Point gradient = {std::pow(x / norm, exponent - 1) / half_width, std::pow(y / norm, exponent - 1) / 86.0F,
                            std::pow(z / norm, exponent - 1) / (p.z > 0 ? 66.0F : 33.0F)};
    return (1.0F - norm) / std::max(length(gradient), 1e-3F);
}

float temporal_lobe(Point p) {
    return ellipsoid(mirrored(p), {41.0F, 4.0F, -25.0F}, {24.0F, 44.0F, 22.0F});
}

float cerebrum(Point p) {
    return smooth_min(smooth_max(cerebral_egg(p), temporal_lobe(p), 8.0F), above_tentorium(p), 9.0F);
}

float brainstem(Point p) {
    constexpr Bead midbrain = {{0, -16, -10}, 14};
    constexpr Bead pons = {{0, -12, -34}, 15};
    constexpr Bead medulla = {{0, -24, -58}, 10};
    constexpr Bead cord = {{0, -30, -82}, 8};
    return smooth_max(capsule(p, midbrain, pons), smooth_max(capsule(p, pons, medulla), capsule(p, medulla, cord), 3),
                      3);
}

/// The region that joins the hemispheres: corpus callosum and everything below it. Positive inside, mm.
float commissures(Point p) {
    const float y = (p.y + 3.0F) / 41.0F;
    const float z = (p.z - 4.0F) / 25.0F;
    return (1.0F - std::sqrt(y * y + z * z)) * 27.0F;
}

float third_ventricle(Point p) {
    return ellipsoid(p, {0, -5, 2}, {2.6F, 15, 11});
}

float fourth_ventricle(Point p) {
    return ellipsoid(p, {0, -31, -36}, {6, 4.5F, 10});
}

/// Cisterns: fluid between cerebrum, brainstem and cerebellum, which remains after skull stripping.
float cisterns(Point p) {
    return ellipsoid(p, {0, -40, -14}, {32, 24, 15});
}

/// Position of a deep nucleus and its grey matter fraction.
struct Nucleus {
    Point centre;
    Point radii;
    float grey;
};

constexpr std::array<Nucleus, 7> nuclei = {{
    {{13, 22, 9}, {6, 11, 9}, 0.95F},      // head of the caudate
    {{18, -4, 22}, {4, 18, 4}, 0.95F},     // body of the caudate
    {{12, -13, 5}, {9.5F, 15, 10}, 0.70F}, // thalamus
    {{26, 3, 1}, {5.5F, 18, 11}, 0.95F},   // putamen
    {{19, -1, -1}, {4.5F, 10, 7}, 0.50F},  // pallidum, rich in myelin and iron
    {{11, 12, -8}, {9, 9, 7}, 0.90F},      // ventral striatum and basal forebrain
    {{23, -4, -22}, {8, 10, 7}, 0.95F},    // amygdala and hippocampal head
}};

/// Half width of tissue borders at 1 mm voxels, mm.
constexpr float sharpest = 0.6F;

} // namespace

Anatomy::Anatomy(Random random, float blur)
    : blur_(blur), thinning_(0.6F * std::max(blur - sharpest, 0.0F)),
      sulcus_width_(static_cast<float>(random.uniform(0.45, 1.1))),
      cortex_thickness_(static_cast<float>(random.uniform(3.0, 3.6))),
      ventricle_size_(static_cast<float>(random.uniform(-0.3, 2.8))),
      folia_(static_cast<float>(random.uniform(16.0, 19.0))), warp_x_(noise_field(random.fork(1), 24)),
      warp_y_(noise_field(random.fork(2), 24)), warp_z_(noise_field(random.fork(3), 24)),
      outline_(noise_field(random.fork(4), 34)), folds_(wave_field(random.fork(5), 21)),
      fold_depth_(noise_field(random.fork(6), 22)), thickness_(noise_field(random.fork(7), 18)),
      detail_(noise_field(random.fork(8), 9)), vessel_a_(wave_field(random.fork(9), 44)),
      vessel_b_(wave_field(random.fork(10), 38)) {}

Point Anatomy::individual(Point p) const {
    constexpr float amplitude = 2.2F;
    return p + Point{warp_x_.at(p), warp_y_.at(p), warp_z_.at(p)} * amplitude;
}

Point Anatomy::displaced(Point p) const {
    if (effect_.shift <= 0)
        return p;
    const Point away = p - effect_.centre;
    const float relative = length(away) / effect_.radius;
    return p - away * (effect_.shift / effect_.radius * std::exp(1.0F - relative));
}

float Anatomy::step(float distance) const {
    return std::clamp(0.5F + distance / (2.0F * blur_), 0.0F, 1.0F);
}

/// Distance to the longitudinal fissure, positive beside it.
float Anatomy::fissure(Point p) const {
    const float joined = std::max(commissures(p), 0.0F);
    const float half_gap = 0.5F + 0.5F * sulcus_width_ * smooth_step(10, 70, length(p));
    return std::sqrt(p.x * p.x + joined * joined) - half_gap;
}

/// Distance to the nearest sulcus, positive beside it. Sulci are the zero set of `folds_`, evaluated at the
/// intersection of the surface and the ray from the centre of the hemisphere through p, so that they extend inwards.
float Anatomy::sulcus(Point p, float hull) const {
    constexpr float deepest = 30.0F;
    if (hull > deepest)
        return deepest;
    const float side = p.x < 0 ? -1.0F : 1.0F;
    const bool temporal = p.z < -11.0F - 0.42F * p.y && p.y > -35.0F;
    const Point outwards = temporal ? Point{p.x - side * 42.0F, 0.3F * (p.y - 4.0F), p.z + 24.0F}
                                    : Point{p.x - side * 28.0F, 0.30F * p.y, 0.5F * (p.z - 2.0F)};
    const float reach = length(outwards);
    if (reach < 3.0F)
        return deepest;
    const Point ray = outwards * (1.0F / reach);
    const Point foot = p + ray * hull;
    // No sulci where the ray intersects the midline below the corpus callosum, because there is no surface.
    const float joined = smooth_step(-4, 4, commissures(foot)) * smooth_step(-12, -4, -std::abs(foot.x));
    const float floor_depth = std::clamp(14.0F + 5.0F * fold_depth_.at(foot), 5.0F, 24.0F) - 40.0F * joined;
    const Point own = {foot.x + side * 15.0F, foot.y, foot.z}; // different sulci on both sides of the midline
    const float value = folds_.at(own);
    const Point gradient = folds_.gradient(own);
    const float slope = length(gradient - ray * dot(gradient, ray));
    const float beside = std::abs(value) / std::max(slope, 0.16F);
    const float below = std::max(hull - floor_depth, 0.0F);
    const float half_gap =
        0.5F * sulcus_width_ * (1.25F - 0.6F * std::clamp(hull / std::max(floor_depth, 1.0F), 0.0F, 1.0F));
    return std::sqrt(beside * beside + below * below) - half_gap + thinning_;
}

/// The lateral sulcus above the temporal lobe with the insula at its end, T-shaped in coronal section.
float Anatomy::lateral_sulcus(Point p) const {
    const float u = std::abs(p.x);
    const float height = (p.z + 11.0F + 0.42F * p.y + 2.0F * fold_depth_.at(p)) * 0.92F;
    const float along = std::max({p.y - 26.0F, -44.0F - p.y, 0.0F});
    const float inwards = std::max(36.0F - u, 0.0F);
    const float stem = std::sqrt(height * height + along * along + inwards * inwards);
    const float above = std::max(std::abs(height - 3.0F) - 13.0F, 0.0F);
    const float beside = u - 37.0F + 0.006F * p.y * p.y + 2.5F * fold_depth_.at(p);
    const float insula_along = std::max({p.y - 24.0F, -24.0F - p.y, 0.0F});
    const float insula = std::sqrt(beside * beside + above * above + insula_along * insula_along);
    return smooth_min(stem - (0.5F + 0.02F * std::max(u - 36.0F, 0.0F)) * (0.6F + 0.5F * sulcus_width_),
                      insula - 0.7F * sulcus_width_, 2.0F);
}

/// Distance to the outer surface of the cortex, positive inside and below it.
float Anatomy::cortex(Point p, float hull) const {
    const float midline = fissure(p);
    const float smooth_surface = smooth_min(hull, midline, 4.0F);
    const float folded = smooth_min(smooth_surface, sulcus(p, smooth_surface), 2.5F);
    return std::min(folded, lateral_sulcus(p));
}

float Anatomy::ventricles(Point p) const {
    constexpr Bead frontal_tip = {{12, 34, 4}, 2.5F};
    constexpr Bead frontal = {{8, 20, 12}, 5.0F};
    constexpr Bead body = {{10, -2, 20}, 5.0F};
    constexpr Bead rear_body = {{16, -22, 19}, 5.0F};
    constexpr Bead atrium = {{25, -38, 9}, 6.0F};
    constexpr Bead occipital = {{23, -60, 4}, 1.0F};
    constexpr Bead temporal = {{33, -22, -12}, 1.8F};
    constexpr Bead temporal_tip = {{29, -4, -20}, 1.0F};
    const Point q = mirrored(p);
    float lateral = capsule(q, frontal_tip, frontal);
    lateral = smooth_max(lateral, capsule(q, frontal, body), 3);
    lateral = smooth_max(lateral, capsule(q, body, rear_body), 3);
    lateral = smooth_max(lateral, capsule(q, rear_body, atrium), 3);
    lateral = smooth_max(lateral, capsule(q, atrium, occipital), 3);
    lateral = smooth_max(lateral, capsule(q, atrium, temporal), 2);
    lateral = std::max(lateral, capsule(q, temporal, temporal_tip));
    const float septum = q.x - 1.1F;
    lateral = std::min(lateral + ventricle_size_ + 0.5F * detail_.at(p), septum);
    return std::max({lateral, third_ventricle(p) + 0.4F * ventricle_size_, fourth_ventricle(p)});
}

float Anatomy::cerebellum(Point p) const {
    const float lobes = ellipsoid(mirrored(p), {24, -51, -44}, {32, 30, 26});
    const float vermis = ellipsoid(p, {0, -50, -42}, {12, 25, 22});
    return smooth_min(smooth_max(lobes, vermis, 4), -above_tentorium(p) - 1.0F, 7);
}

void Anatomy::paint_cerebrum(Tissue& tissue, Point p, float hull) const {
    const float surface = cortex(p, hull);
    const float thickness = cortex_thickness_ * (1.0F + 0.13F * thickness_.at(p));
    const float inside = step(surface);
    float white = inside * step(surface - thickness);
    const float joined = commissures(p);
    // No cortex on the corpus callosum and its radiation.
    const float callosum = step(joined) * step(8.0F - joined) * smooth_step(-8, 0, p.z) * step(13 - std::abs(p.x));
    white = lerp(white, inside, callosum);
    tissue.white = white;
    tissue.grey = inside - white;
    tissue.csf = 1.0F - inside;
}

void Anatomy::paint_nuclei(Tissue& tissue, Point p) const {
    const Point q = mirrored(p);
    for (const Nucleus& nucleus : nuclei) {
        const float inside = step(ellipsoid(q, nucleus.centre, nucleus.radii)) * (1.0F - tissue.csf);
        tissue.grey = lerp(tissue.grey, nucleus.grey * (1.0F - tissue.csf), inside);
        tissue.white = 1.0F - tissue.csf - tissue.grey;
    }
}

void Anatomy::paint_brainstem(Tissue& tissue, float distance) const {
    const float inside = step(distance);
    tissue.csf = lerp(tissue.csf, 0.0F, inside);
    tissue.grey = lerp(tissue.grey, 0.3F, inside);
    tissue.white = lerp(tissue.white, 0.7F, inside);
}

/// Folia as sheets that fan out from the fourth ventricle; white matter elsewhere.
void Anatomy::paint_cerebellum(Tissue& tissue, Point p, float distance) const {
    const float inside = step(distance);
    if (inside <= 0)
        return;
    const float y = p.y + 38.0F;
    const float z = p.z + 44.0F;
    const float angle = std::atan2(z, -y) + 0.13F * detail_.at(p) + 0.004F * std::abs(p.x);
    const float leaf = std::abs(std::sin(folia_ * angle)); // 0 between two folia, 1 in the middle of one
    const float gap = 0.45F * smooth_step(-0.45F, 0.0F, -leaf) * smooth_step(-11.0F, -6.0F, -distance);
    const float stalk = 0.75F * smooth_step(0.5F, 1.0F, leaf) * smooth_step(1.0F, 9.0F, distance);
    const float core = smooth_step(11.0F, 17.0F, distance + 2.0F * detail_.at(p));
    const float matter = inside * (1.0F - gap) * step(distance - 0.3F);
    const float white = matter * std::max(stalk, core);
    tissue.csf = lerp(tissue.csf, 1.0F - matter, inside);
    tissue.grey = lerp(tissue.grey, matter - white, inside);
    tissue.white = 1.0F - tissue.csf - tissue.grey;
}

void Anatomy::paint_fluid(Tissue& tissue, float fraction) const {
    tissue.csf = lerp(tissue.csf, 1.0F, fraction);
    tissue.grey *= 1.0F - fraction;
    tissue.white *= 1.0F - fraction;
}

Tissue Anatomy::at(Point p) const {
    constexpr float meninges = 1.0F; // fluid around the brain that remains after skull stripping, mm
    Tissue tissue;
    const Point bare = individual(p);
    const float bumps = 1.2F * outline_.at(p);
    const float brain = smooth_max(smooth_max(cerebrum(bare), cerebellum(bare), 12.0F), brainstem(bare), 12.0F);
    const float skull = smooth_max(brain, cisterns(bare), 6.0F) + bumps;
    tissue.depth = skull + meninges + 0.4F * detail_.at(p);
    if (tissue.depth < -blur_)
        return tissue;
    const Point q = displaced(bare);
    const float hull = std::min(cerebrum(q), cerebrum(bare)) + bumps;
    const float stem = brainstem(q);
    const float rear = cerebellum(q);
    if (hull > -blur_)
        paint_cerebrum(tissue, q, hull);
    if (hull > 12.0F)
        paint_nuclei(tissue, q);
    paint_brainstem(tissue, stem);
    if (rear > stem)
        paint_cerebellum(tissue, q, rear);
    const float lumen = step(ventricles(q));
    paint_fluid(tissue, lumen);
    tissue.barrier = std::max(lumen, step(-fissure(q)));
    return tissue;
}

float Anatomy::room_for_tumour(Point p) const {
    const Point q = individual(p);
    return std::min({cerebrum(q), fissure(q), -ventricles(q)});
}

float Anatomy::vessel(Point p) const {
    const float a = vessel_a_.at(p);
    const float b = vessel_b_.at(p);
    return std::exp(-(a * a + b * b) / (0.12F * 0.12F));
}

} // namespace mfres::phantom
