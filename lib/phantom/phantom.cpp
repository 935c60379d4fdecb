// SPDX-License-Identifier: MIT
#include "phantom/phantom.h"

#include "core/parallel.h"
#include "core/random.h"
#include "core/try.h"
#include "phantom/anatomy.h"
#include "phantom/lesion.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mfres {

namespace {

using namespace phantom;

/// Random streams, one per independent part of the case.
enum Stream : std::uint64_t { pose_stream = 1, anatomy_stream, plan_stream, lesion_stream, image_stream };

/// Signal of each tissue relative to healthy white matter in the same modality.
struct Contrast {
    float csf, grey, white, oedema, rim, core, vessel;
    float noise;         ///< standard deviation of the noise in each receiver channel
    float through_plane; ///< weight of each neighbouring slice: 2-D acquisitions have thick slices
};

constexpr std::array<Contrast, 4> contrasts = {{
    {0.30F, 0.80F, 1.00F, 0.76F, 0.80F, 0.50F, 0.45F, 0.050F, 0.15F}, // T1
    {0.32F, 0.82F, 1.00F, 0.76F, 1.60F, 0.52F, 1.75F, 0.055F, 0.15F}, // T1ce
    {2.60F, 1.32F, 1.00F, 1.95F, 1.75F, 2.45F, 0.60F, 0.065F, 0.22F}, // T2
    {0.28F, 1.18F, 1.00F, 2.15F, 1.85F, 1.25F, 0.60F, 0.060F, 0.22F}, // FLAIR
}};

Pose draw_pose(Random random, const std::array<std::int64_t, 3>& size) {
    constexpr std::array<double, 3> adult = {240, 240, 155};
    double voxels_per_mm = random.uniform(0.96, 1.03);
    double fit = static_cast<double>(size[0]) / adult[0];
    for (std::size_t axis = 1; axis < 3; ++axis)
        fit = std::min(fit, static_cast<double>(size[axis]) / adult[axis]);
    voxels_per_mm *= fit;

    constexpr double degree = std::numbers::pi / 180.0;
    const double yaw = 1.5 * degree * random.normal();
    const double roll = 1.2 * degree * random.normal();
    const double pitch = 2.0 * degree * random.normal();
    const auto turned = [&](double x, double y, double z) {
        const double x1 = x * std::cos(yaw) - y * std::sin(yaw);
        const double y1 = x * std::sin(yaw) + y * std::cos(yaw);
        const double x2 = x1 * std::cos(roll) + z * std::sin(roll);
        const double z2 = z * std::cos(roll) - x1 * std::sin(roll);
        const double y3 = y1 * std::cos(pitch) - z2 * std::sin(pitch);
        const double z3 = y1 * std::sin(pitch) + z2 * std::cos(pitch);
        const double mm = 1.0 / voxels_per_mm;
        return Point{static_cast<float>(x2 * mm), static_cast<float>(y3 * mm), static_cast<float>(z3 * mm)};
    };

    Pose pose;
    pose.size = size;
    pose.voxel = static_cast<float>(1.0 / voxels_per_mm);
    pose.di = turned(-1, 0, 0);
    pose.dj = turned(0, -1, 0);
    pose.dk = turned(0, 0, 1);
    // The origin of the head is slightly posterior of the grid's centre, as in data registered to a common atlas.
    const double shift = 1.5 * voxels_per_mm;
    const double i = 0.5 * static_cast<double>(size[0] - 1) + shift * random.normal();
    const double j = 0.54 * static_cast<double>(size[1] - 1) + shift * random.normal();
    const double k = 0.50 * static_cast<double>(size[2] - 1) + shift * random.normal();
    pose.origin =
        Point{} - (pose.di * static_cast<float>(i) + pose.dj * static_cast<float>(j) + pose.dk * static_cast<float>(k));
    return pose;
}

std::uint8_t in_255ths(float fraction) {
    return static_cast<std::uint8_t>(std::clamp(fraction, 0.0F, 1.0F) * 255.0F + 0.5F);
}

TissueMap map_tissue(const Anatomy& anatomy, const Pose& pose, int threads) {
    TissueMap map;
    for (auto* part : {&map.inside, &map.csf, &map.grey, &map.barrier})
        part->resize(pose.voxels());
    parallel_ranges(pose.size[2], threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t k = begin; k < end; ++k)
            for (std::int64_t j = 0; j < pose.size[1]; ++j)
                for (std::int64_t i = 0; i < pose.size[0]; ++i) {
                    const Tissue tissue = anatomy.at(pose.head(i, j, k));
                    const std::size_t index = pose.index(i, j, k);
                    map.inside[index] = tissue.depth > 0 ? 1 : 0;
                    map.csf[index] = in_255ths(tissue.csf);
                    map.grey[index] = std::min<std::uint8_t>(in_255ths(tissue.grey), 255 - map.csf[index]);
                    map.barrier[index] = in_255ths(tissue.barrier);
                }
    });
    return map;
}

/// Fractions of tumour tissue around a voxel (partial volume), from labels weighted 1-2-1 along each axis.
struct LesionShare {
    float oedema = 0, rim = 0, core = 0;
};

LesionShare lesion_share(const Lesion& lesion, const Pose& pose, std::int64_t i, std::int64_t j, std::int64_t k) {
    LesionShare share;
    for (int dk = -1; dk <= 1; ++dk)
        for (int dj = -1; dj <= 1; ++dj)
            for (int di = -1; di <= 1; ++di) {
                const std::int64_t x = std::clamp<std::int64_t>(i + di, 0, pose.size[0] - 1);
                const std::int64_t y = std::clamp<std::int64_t>(j + dj, 0, pose.size[1] - 1);
                const std::int64_t z = std::clamp<std::int64_t>(k + dk, 0, pose.size[2] - 1);
                const std::size_t index = pose.index(x, y, z);
                const float weight = static_cast<float>((2 - std::abs(di)) * (2 - std::abs(dj)) * (2 - std::abs(dk)));
                const float part = weight / 64.0F;
                if (lesion.labels[index] == 2)
                    share.oedema += part * static_cast<float>(lesion.strength[index]) / 255.0F;
                else if (lesion.labels[index] == 4)
                    share.rim += part;
                else if (lesion.labels[index] == 1)
                    share.core += part;
            }
    return share;
}

/// Bounding box of the lesion with a margin of one voxel.
struct Box {
    std::array<std::int64_t, 3> low;
    std::array<std::int64_t, 3> high;

    bool holds(std::int64_t i, std::int64_t j, std::int64_t k) const {
        return i >= low[0] && i <= high[0] && j >= low[1] && j <= high[1] && k >= low[2] && k <= high[2];
    }
};

Box lesion_box(const Lesion& lesion, const Pose& pose) {
    Box box = {pose.size, {-1, -1, -1}};
    std::size_t index = 0;
    for (std::int64_t k = 0; k < pose.size[2]; ++k)
        for (std::int64_t j = 0; j < pose.size[1]; ++j)
            for (std::int64_t i = 0; i < pose.size[0]; ++i) {
                if (lesion.labels[index++] == 0)
                    continue;
                const std::array<std::int64_t, 3> p = {i, j, k};
                for (std::size_t axis = 0; axis < 3; ++axis) {
                    box.low[axis] = std::min(box.low[axis], p[axis] - 1);
                    box.high[axis] = std::max(box.high[axis], p[axis] + 1);
                }
            }
    return box;
}

/// What the four modalities have in common: head, lesion and textures.
struct Scene {
    const Pose& pose;
    const Anatomy& anatomy;
    const TissueMap& tissue;
    const Lesion& lesion;
    Box box;
    Field mottle;    ///< texture of a few millimetres, strongest in the tumour
    float enhancing; ///< uptake of contrast agent of this tumour, around 1
};

float tissue_signal(const Scene& scene, const Contrast& contrast, std::int64_t i, std::int64_t j, std::int64_t k) {
    const std::size_t index = scene.pose.index(i, j, k);
    const Point p = scene.pose.head(i, j, k);
    const float csf = static_cast<float>(scene.tissue.csf[index]) / 255.0F;
    const float grey = static_cast<float>(scene.tissue.grey[index]) / 255.0F;
    const float mottle = scene.mottle.at(p);
    float solid = (grey * contrast.grey + (1.0F - csf - grey) * contrast.white) * (1.0F + 0.02F * mottle);
    const float vessel = csf > 0.02F ? scene.anatomy.vessel(p) * std::min(1.0F, 2.0F * csf) : 0.0F;
    const float fluid = lerp(contrast.csf, contrast.vessel, vessel);
    if (!scene.box.holds(i, j, k))
        return csf * fluid + solid;
    const LesionShare share = lesion_share(scene.lesion, scene.pose, i, j, k);
    const float swollen = contrast.oedema * (1.0F + 0.06F * mottle);
    solid = lerp(solid, swollen * (1.0F - csf), share.oedema);
    const float enhancement = contrast.rim > contrast.white ? scene.enhancing : 1.0F;
    const float rim = contrast.rim * enhancement * (1.0F + 0.10F * mottle);
    const float core = contrast.core * (1.0F + 0.12F * mottle);
    const float healthy = 1.0F - share.rim - share.core;
    return (csf * fluid + solid) * healthy + rim * share.rim + core * share.core;
}

/// Magnitude of a complex signal with Gaussian noise in both channels, generated by Box-Muller.
float rician(float signal, float deviation, Random& random) {
    const double radius = deviation * std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
    const double phase = 2.0 * std::numbers::pi * random.uniform();
    const double squared = signal * (signal + 2.0 * radius * std::cos(phase)) + radius * radius;
    return static_cast<float>(std::sqrt(std::max(squared, 0.0)));
}

/// Blurs a slice along i and j with weights (0.15, 0.7, 0.15), the point spread of the scanner.
void blur_slice(float* slice, std::int64_t width, std::int64_t height) {
    constexpr float side = 0.15F;
    const auto blur_line = [](float* line, std::int64_t count, std::int64_t stride) {
        float before = line[0];
        for (std::int64_t n = 1; n + 1 < count; ++n) {
            const float here = line[n * stride];
            line[n * stride] = (1.0F - 2.0F * side) * here + side * (before + line[(n + 1) * stride]);
            before = here;
        }
    };
    for (std::int64_t j = 0; j < height; ++j)
        blur_line(slice + j * width, width, 1);
    for (std::int64_t i = 0; i < width; ++i)
        blur_line(slice + i, height, width);
}

/// One slice of a modality in units of white matter, with bias field and noise, blurred in its plane.
void draw_slice(const Scene& scene, const Contrast& contrast, const Field& bias, Random random, std::int64_t k,
                float* slice) {
    const Pose& pose = scene.pose;
    for (std::int64_t j = 0; j < pose.size[1]; ++j)
        for (std::int64_t i = 0; i < pose.size[0]; ++i) {
            if (scene.tissue.inside[pose.index(i, j, k)] == 0)
                continue;
            const float gain = 1.0F + 0.05F * bias.at(pose.head(i, j, k));
            slice[i + pose.size[0] * j] =
                rician(tissue_signal(scene, contrast, i, j, k) * gain, contrast.noise, random);
        }
    blur_slice(slice, pose.size[0], pose.size[1]);
}

/// Mixes neighbouring slices, scales to scanner units and rounds; 0 outside the brain, at least 1 inside.
void finish_slice(const Scene& scene, float share, float scale, const std::vector<float>& drawn, std::int64_t k,
                  std::vector<float>& voxels) {
    const auto plane = static_cast<std::size_t>(scene.pose.size[0] * scene.pose.size[1]);
    const auto start = [&](std::int64_t slice) {
        return drawn.data() +
               plane * static_cast<std::size_t>(std::clamp<std::int64_t>(slice, 0, scene.pose.size[2] - 1));
    };
    const float* below = start(k - 1);
    const float* here = start(k);
    const float* above = start(k + 1);
    for (std::size_t n = 0; n < plane; ++n) {
        const std::size_t index = plane * static_cast<std::size_t>(k) + n;
        const float mixed = (1.0F - 2.0F * share) * here[n] + share * (below[n] + above[n]);
        voxels[index] = scene.tissue.inside[index] ? std::clamp(std::round(mixed * scale), 1.0F, 32767.0F) : 0.0F;
    }
}

std::vector<float> draw_contrast(const Scene& scene, const Contrast& contrast, Random random, int threads) {
    const Field bias = noise_field(random.fork(1), 80);
    const auto scale = static_cast<float>(random.fork(2).uniform(250, 700));
    const Random noise = random.fork(3);
    const std::int64_t slices = scene.pose.size[2];
    const auto plane = static_cast<std::size_t>(scene.pose.size[0] * scene.pose.size[1]);
    std::vector<float> drawn(scene.pose.voxels());
    parallel_ranges(slices, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t k = begin; k < end; ++k)
            draw_slice(scene, contrast, bias, noise.fork(static_cast<std::uint64_t>(k)), k,
                       drawn.data() + plane * static_cast<std::size_t>(k));
    });
    std::vector<float> voxels(scene.pose.voxels());
    parallel_ranges(slices, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t k = begin; k < end; ++k)
            finish_slice(scene, contrast.through_plane, scale, drawn, k, voxels);
    });
    return voxels;
}

Grid brats_grid(const std::array<std::int64_t, 3>& size) {
    Grid grid;
    grid.size = size;
    grid.affine = {{{-1, 0, 0, 0}, {0, -1, 0, static_cast<double>(size[1] - 1)}, {0, 0, 1, 0}}};
    return grid;
}

Status check(const PhantomOptions& options) {
    for (const std::int64_t extent : options.size)
        if (extent < 32 || extent > 1024)
            return Error{ErrorCode::invalid_argument,
                         text("a phantom of ", options.size[0], " x ", options.size[1], " x ", options.size[2],
                              " voxels was requested, but every extent must be between 32 and 1024"),
                         "size"};
    if (options.threads < 0)
        return Error{ErrorCode::invalid_argument,
                     text("a phantom was requested with ", options.threads,
                          " threads, but the number of threads must be 0 (all) or more"),
                     "threads"};
    return {};
}

} // namespace

Result<Phantom> make_phantom(const PhantomOptions& options) {
    MFRES_CHECK(check(options));
    const int threads = resolve_threads(options.threads);
    const Random random(options.seed);
    const Pose pose = draw_pose(random.fork(pose_stream), options.size);
    Anatomy anatomy(random.fork(anatomy_stream), std::max(0.6F, 0.5F * pose.voxel));
    const LesionPlan plan = plan_lesion(random.fork(plan_stream), anatomy);
    anatomy.press(plan.pressure);
    const TissueMap tissue = map_tissue(anatomy, pose, threads);
    Lesion lesion = grow_lesion(random.fork(lesion_stream), plan, pose, tissue);

    const Random image = random.fork(image_stream);
    const Scene scene = {pose,
                         anatomy,
                         tissue,
                         lesion,
                         lesion_box(lesion, pose),
                         noise_field(image.fork(1), 7),
                         static_cast<float>(image.fork(2).uniform(0.95, 1.25))};
    Phantom phantom;
    for (std::size_t m = 0; m < modalities.size(); ++m) {
        phantom.volumes[m].grid = brats_grid(options.size);
        phantom.volumes[m].voxels = draw_contrast(scene, contrasts[m], image.fork(10 + m), threads);
    }
    phantom.labels.grid = brats_grid(options.size);
    phantom.labels.labels = std::move(lesion.labels);
    return phantom;
}

} // namespace mfres
