// SPDX-License-Identifier: MIT
// Healthy anatomy of the phantom: tissue fractions at a point of the head, from distance functions and noise.
#pragma once

#include "core/random.h"
#include "phantom/fields.h"

namespace mfres::phantom {

/// Tissue fractions of a voxel around a point, in [0, 1], with sum 1.
struct Tissue {
    float depth = 0;   ///< mm to the surface of the skull-stripped brain, positive inside
    float csf = 1;     ///< cerebrospinal fluid
    float grey = 0;    ///< grey matter
    float white = 0;   ///< white matter
    float barrier = 0; ///< fraction of ventricle and of the longitudinal fissure, which tumour does not cross
};

/// Mass effect of a lesion: anatomy is displaced away from `centre`, most at `radius`.
struct MassEffect {
    Point centre;
    float radius = 1;
    float shift = 0; ///< displacement at `radius` in mm; below radius / e, so that the map is one-to-one
};

/// Cerebrum with folded cortex, ventricles and deep nuclei, cerebellum and brainstem of one individual.
class Anatomy {
  public:
    /// `blur` is the half width of tissue borders in mm, at least half a voxel.
    Anatomy(Random random, float blur);

    void press(const MassEffect& effect) { effect_ = effect; }

    Tissue at(Point p) const;

    /// Distance in mm to the nearest of the brain's surface, the midline and the ventricles; negative outside the
    /// cerebrum. The centre of a tumour must have a minimum distance.
    float room_for_tumour(Point p) const;

    /// Density of blood vessels at a point of the fluid around the brain: 1 in the centre of a vessel, 0 far from it.
    float vessel(Point p) const;

  private:
    Point individual(Point p) const;
    Point displaced(Point p) const;
    float step(float distance) const;
    float fissure(Point p) const;
    float cortex(Point p, float hull) const;
    float sulcus(Point p, float hull) const;
    float lateral_sulcus(Point p) const;
    float ventricles(Point p) const;
    float cerebellum(Point p) const;
    void paint_cerebrum(Tissue& tissue, Point p, float hull) const;
    void paint_nuclei(Tissue& tissue, Point p) const;
    void paint_brainstem(Tissue& tissue, float distance) const;
    void paint_cerebellum(Tissue& tissue, Point p, float distance) const;
    void paint_fluid(Tissue& tissue, float fraction) const;

    float blur_;
    float thinning_; ///< reduction of sulci thinner than a voxel, which would contain too much fluid
    float sulcus_width_;
    float cortex_thickness_;
    float ventricle_size_;
    float folia_;
    MassEffect effect_;
    Field warp_x_, warp_y_, warp_z_;
    Field outline_;
    Field folds_;
    Field fold_depth_;
    Field thickness_;
    Field detail_;
    Field vessel_a_, vessel_b_;
};

} // namespace mfres::phantom
