// SPDX-License-Identifier: MIT
// A compact volume: one modality in memory, in the type in which its file stores voxels, cropped to the box of voxels
// that differ from the background. A brain fills a third of its grid and most files have 8 or 16 bits a voxel, so a
// case takes a sixth of the memory of four float volumes. The representation is lossless: every voxel is read as the
// float that a Volume would hold.
#pragma once

#include "core/page_vector.h"
#include "imaging/geometry.h"

#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace mfres {

/// The background value of a volume: the most frequent value on the six faces of its grid; of equally frequent ones the
/// smallest. Without a majority, values within 0.5 % of the range are alike, and one of the most numerous kind is taken.
/// NaN is ignored. Precondition: the number of voxels is that of the grid.
float border_value(const Volume& volume);

/// The value that more than half of them have, if there is one.
std::optional<float> majority(std::span<const float> values);

class CompactVolume {
  public:
    using Voxels =
        std::variant<PageVector<float>, PageVector<std::uint8_t>, PageVector<std::int16_t>, PageVector<std::uint16_t>>;

    CompactVolume() = default;
    /// Crops `voxels`, one per grid position, to the smallest box that holds every voxel that differs from the
    /// background. Intensity = stored * slope + inter in double precision, rounded to float.
    CompactVolume(const Grid& grid, Voxels voxels, double slope, double inter);
    /// The same cropped already: `kept` are the voxels of the box, `background` is the intensity of all others.
    CompactVolume(const Grid& grid, float background, const std::array<std::int64_t, 3>& begin,
                  const std::array<std::int64_t, 3>& size, Voxels kept, double slope, double inter);

    const Grid& grid() const { return grid_; }
    /// border_value() of the whole volume.
    float background() const { return background_; }
    /// The box that is kept: begin <= i < begin + size along each axis. All other voxels have the background value.
    const std::array<std::int64_t, 3>& kept_begin() const { return begin_; }
    const std::array<std::int64_t, 3>& kept_size() const { return size_; }
    /// Whether every voxel has one value.
    bool constant() const { return size_[0] == 0; }
    /// Memory of the voxels after and before cropping, in bytes.
    std::int64_t bytes() const;
    std::int64_t whole_bytes() const;

    /// Intensities of `count` voxels (i, j, k) of the grid from i = first on; all inside the grid.
    void read(std::int64_t first, std::int64_t j, std::int64_t k, std::int64_t count, float* out) const;

    /// How many stored values there are, the range of their type: 2^8, 2^16, or 0 for floats.
    std::size_t stored_values() const;
    /// The intensity of stored value n, counted from the least one of the type. Precondition: n < stored_values().
    float intensity(std::size_t n) const;
    /// Adds 1 to counts[n] for each of those voxels (i, j, k) of the grid from i = first on that has stored value n and is
    /// kept; returns how many of them are not kept. Precondition: counts.size() == stored_values() > 0.
    std::int64_t count(std::int64_t first, std::int64_t j, std::int64_t k, std::int64_t count,
                       std::span<std::uint32_t> counts) const;

    /// The whole volume as floats.
    Volume volume() const;

    /// Frees the memory of the voxels. read() and volume() are not allowed afterwards.
    void clear();

    /// As reorient() of geometry.h: every voxel keeps its world position. No voxel is moved in memory.
    friend CompactVolume reorient(CompactVolume scan, const Orientation& orientation);
    /// Replaces the grid, for modalities whose affines differ by less than the tolerance.
    void set_grid(const Grid& grid) { grid_ = grid; }

  private:
    /// Says that the voxels of the box lie in memory with i fastest.
    void lay_out();
    /// Those of count voxels (i, j, k) from i = first on that are kept: begin <= i < end, begin == end where none is.
    std::pair<std::int64_t, std::int64_t> kept_part(std::int64_t first, std::int64_t j, std::int64_t k,
                                                    std::int64_t count) const;
    /// The place in memory of a voxel that is kept.
    std::int64_t place(std::int64_t i, std::int64_t j, std::int64_t k) const {
        return origin_ + strides_[0] * (i - begin_[0]) + strides_[1] * (j - begin_[1]) + strides_[2] * (k - begin_[2]);
    }

    Grid grid_;
    float background_ = 0.0F;
    std::array<std::int64_t, 3> begin_{};
    std::array<std::int64_t, 3> size_{};
    double slope_ = 1.0;
    double inter_ = 0.0;
    std::int64_t origin_ = 0;               ///< place of the box's voxel (0, 0, 0)
    std::array<std::int64_t, 3> strides_{}; ///< from one voxel to the next along each axis
    Voxels voxels_;                         ///< of the box that is kept
};

/// The compact form of a volume. Volumes of integers that fit into 16 bits are stored as such.
/// Errors: invalid_argument (an empty grid, or another number of voxels than the grid has).
Result<CompactVolume> make_scan(const Volume& volume);
Result<CompactVolume> make_scan(const Grid& grid, std::span<const float> intensities);

/// The same for voxels in memory; 8-bit unsigned and 16-bit integers are kept as they are, with their scaling.
/// `where` names the volume in messages. Errors: invalid_argument (no voxels, a size outside 2..1024, an affine, slope or
/// intercept that is not finite, strides of which some but not all are 0), voxel_not_finite (NaN or infinite before or
/// after scaling, with counts and the first place). Throws std::bad_alloc where it keeps more than `most_bytes`; 0 = no cap.
Result<CompactVolume> compact_volume_of(const VolumeView& view, std::string_view where, std::int64_t most_bytes = 0);

/// The intensities of slice k of a view that has been accepted, i fastest.
void read_slice(const VolumeView& view, std::int64_t k, std::span<float> slice);

/// Whether both have the same intensity in every voxel. False for different sizes.
bool same_intensities(const CompactVolume& a, const CompactVolume& b);

} // namespace mfres
