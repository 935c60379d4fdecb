// One modality between its file and the network: voxels in the type they are stored in, and only where they are not
// background. A brain fills a third of its grid and most files hold 8 or 16 bits, so a case takes a sixth of what four
// volumes of floats take. Nothing is lost: every voxel is read back as the float that a Volume would hold.
#pragma once

#include "core/page_vector.h"
#include "imaging/geometry.h"

#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <string>
#include <variant>

namespace mfres {

/// The background value of a volume: the most frequent value on the six faces of its grid; of equally frequent ones the
/// smallest. NaN never wins. Precondition: the voxels fill the grid.
float border_value(const Volume& volume);

class CompactVolume {
  public:
    using Voxels =
        std::variant<PageVector<float>, PageVector<std::uint8_t>, PageVector<std::int16_t>, PageVector<std::uint16_t>>;

    CompactVolume() = default;
    /// Keeps of `voxels`, which fill the grid in its order, the smallest box that holds every voxel whose value differs
    /// from the background. Intensity = stored * slope + inter, in double precision, rounded to float.
    CompactVolume(const Grid& grid, Voxels voxels, double slope, double inter);

    const Grid& grid() const { return grid_; }
    /// border_value() of the whole.
    float background() const { return background_; }
    /// The part that is kept: voxels begin <= i < begin + size along each axis. All others have the background value.
    const std::array<std::int64_t, 3>& kept_begin() const { return begin_; }
    const std::array<std::int64_t, 3>& kept_size() const { return size_; }
    /// Whether every voxel has one value.
    bool constant() const { return size_[0] == 0; }
    /// Memory of the voxels kept, and of them all before they were cut, both in bytes.
    std::int64_t bytes() const;
    std::int64_t whole_bytes() const;

    /// Intensities of `count` voxels of row (j, k) of the grid from i = first on; all inside the grid.
    void read(std::int64_t first, std::int64_t j, std::int64_t k, std::int64_t count, float* out) const;

    /// The whole as floats.
    Volume volume() const;

    /// Gives the voxels' memory back; what is left has no voxels to read.
    void clear();

    /// As for volumes: every voxel keeps its place in the world.
    friend CompactVolume reorient(CompactVolume scan, const Orientation& orientation);
    /// For grids that agree better than their files say.
    void set_grid(const Grid& grid) { grid_ = grid; }

  private:
    Grid grid_;
    float background_ = 0.0F;
    std::array<std::int64_t, 3> begin_{};
    std::array<std::int64_t, 3> size_{};
    double slope_ = 1.0;
    double inter_ = 0.0;
    Voxels voxels_; ///< of the part kept, i fastest
};

/// The scan of a volume. Whole numbers that 16 bits can hold are kept as such.
/// Errors: invalid_argument (an empty grid, or voxels that do not fill it).
Result<CompactVolume> make_scan(const Volume& volume);

/// The same for voxels in memory; 8-bit unsigned and 16-bit integers are kept as they are, with their scaling.
/// `where` names the volume in messages. Errors: invalid_argument (no voxels, a size outside 2..1024, an affine, slope or
/// intercept that is not finite, strides of which some but not all are 0), voxel_not_finite (NaN or infinite before or
/// after scaling, with counts and the first place).
Result<CompactVolume> compact_volume_of(const VolumeView& view, const std::string& where);

/// Whether both have the same intensity in every voxel. False for different sizes.
bool same_intensities(const CompactVolume& a, const CompactVolume& b);

} // namespace mfres
