// SPDX-License-Identifier: MIT
// Classes and labels: label values of the BraTS years, names and colours, tumour regions, volumes in ml.
#pragma once

#include "core/page_vector.h"

#include <mfres/regions.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mfres {

/// Classes of the networks: 0 background, 1 necrotic and non-enhancing core, 2 oedema, 3 enhancing tumour.
inline constexpr int tumour_classes = 4;

/// What the label values of public data sets stand for (labels.cpp has the table).
enum class LabelScheme : std::uint8_t {
    brats,     ///< BraTS 2017 to 2021: necrotic and non-enhancing core 1, oedema 2, enhancing tumour 4
    brats2023, ///< BraTS 2023 (GLI, SSA, MET): enhancing tumour 3
    brats2024, ///< BraTS 2024 after treatment: as 2023, and 4 is a resection cavity, which is background
    brats_ped, ///< BraTS-PED: enhancing tumour 1, non-enhancing core 2, cyst 3 (core, too), oedema 4
    msd,       ///< Medical Segmentation Decathlon, Task01: oedema 1, non-enhancing core 2, enhancing tumour 3
};
inline constexpr std::array<LabelScheme, 5> label_schemes = {
    LabelScheme::brats, LabelScheme::brats2023, LabelScheme::brats2024, LabelScheme::brats_ped, LabelScheme::msd};

/// "brats", "brats2023", "brats2024", "brats-ped", "msd"
std::string_view name(LabelScheme scheme) noexcept;

/// The scheme of that name. Errors: invalid_argument, listing the schemes.
Result<LabelScheme> label_scheme(std::string_view scheme_name);

/// Which class each label value of a data set stands for: by a scheme, or by a mapping of the user's own.
class LabelCoding {
  public:
    LabelCoding(LabelScheme scheme);

    /// The name of a scheme, or a mapping like "1:ncr,2:ed,3:et": values from 1 to 255 and what they are, one of bg, ncr
    /// (necrotic and non-enhancing core), ed (oedema) and et (enhancing tumour). A class is written as the first value
    /// that stands for it. Errors: invalid_argument, saying what is allowed.
    static Result<LabelCoding> parse(std::string_view words);

    /// The scheme's name, or the mapping.
    const std::string& name() const { return name_; }
    /// The class that a value stands for; nothing for one that the scheme does not have.
    std::optional<int> class_of(std::uint8_t value) const;
    /// The value that a class is written as; nothing where a mapping has none for it.
    std::optional<std::uint8_t> label_of(int tumour_class) const;
    /// All values that stand for a class, in their order.
    std::vector<std::uint8_t> labels_of(int tumour_class) const;
    /// "0 background, 1 necrotic core, ...": every value and its class.
    std::string legend() const;

    friend bool operator==(const LabelCoding&, const LabelCoding&) = default;

  private:
    LabelCoding() = default;
    void add(std::uint8_t value, std::uint8_t tumour_class) { meanings_.emplace_back(value, tumour_class); }

    std::string name_;
    PageVector<std::pair<std::uint8_t, std::uint8_t>> meanings_; ///< value and class; the first of a class is written
};

/// The value that class 0, 1, 2, 3 is written as.
std::array<std::uint8_t, tumour_classes> labels_of(LabelScheme scheme) noexcept;

/// Replaces class indices by label values, in place. `source` (a file or case) is named in the error.
/// Errors: label_outside_scheme for a value that is not a class, with value, count and first voxel, and for a class that
/// a mapping has no value for; the map is unchanged then.
Status classes_to_labels(LabelMap& map, const LabelCoding& coding, std::string_view source);

/// Replaces label values by class indices, in place. `source` (a file or case) is named in the error.
/// Errors: label_outside_scheme for a value that stands for nothing, with value, count and first voxel; the map
/// is unchanged then.
Status labels_to_classes(LabelMap& map, const LabelCoding& coding, std::string_view source);

/// Voxels whose value is not 0 and stands for background all the same, as the resection cavity of brats2024 does.
std::int64_t count_set_aside(const LabelMap& labels, const LabelCoding& coding);

/// Name and colour of a class. Without red or green cones (protanopia, deuteranopia), too, all differ in brightness
/// and from the grey of an image, and enhancing tumour differs in hue from what it touches.
struct ClassAppearance {
    std::string_view name;
    std::array<std::uint8_t, 3> rgb; ///< 0..255; unused if `drawn` is false
    bool drawn;                      ///< the background is not drawn
};

/// "background", "necrotic core", "oedema", "enhancing tumour". Precondition: 0 <= tumour_class < tumour_classes.
const ClassAppearance& appearance(int tumour_class) noexcept;

/// Which classes belong to a region.
using ClassSet = std::array<bool, tumour_classes>;
ClassSet region_classes(TumourRegion region, RegionDefinition definition) noexcept;

/// Relabels enhancing tumour as necrotic and non-enhancing core if the whole map has less of it than `least_mm3`, or than
/// `least_share` of the tumour core, because so little is more likely a false positive. Returns the number of relabelled
/// voxels. The map holds class indices.
std::int64_t relabel_small_enhancing(LabelMap& classes, double least_mm3, double least_share = 0.0) noexcept;

/// Relabels connected components of the tumour (26-neighbourhood, all tumour classes together) of less than `least_mm3`
/// as background, except the largest one, because small components are more likely false positives. Returns the number
/// of relabelled voxels. The map holds class indices. Workspace: 20 bytes for each run of tumour along i and 8 for each row.
/// Precondition: fewer than 2^32 voxels.
std::int64_t remove_small_components(LabelMap& classes, double least_mm3);

/// How often each value occurs in a label map that comes in parts, i fastest.
struct ValueCounts {
    std::array<std::int64_t, 256> counts{};
    std::array<std::int64_t, 256> first{}; ///< voxel
    std::int64_t voxels = 0;               ///< so far

    void add(std::span<const std::uint8_t> labels);
};

/// Size of a class or region.
struct PartVolume {
    std::int64_t voxels = 0;
    double millilitres = 0.0;
};

/// Sizes of every class and region, for reports.
struct TumourVolumes {
    RegionDefinition definition = RegionDefinition::brats;
    std::array<PartVolume, tumour_classes> classes{}; ///< by class
    std::array<PartVolume, 3> regions{};              ///< in the order of tumour_regions
};

/// Volume of one voxel in millilitres: |determinant of the affine's 3x3 part| / 1000 mm^3 per ml.
double voxel_millilitres(const Grid& grid) noexcept;

/// Class indices that come in parts, i fastest, are replaced by label values and counted.
class LabelTranslation {
  public:
    explicit LabelTranslation(const LabelCoding& coding);

    /// Replaces the next classes. What is no class, and what has no value, becomes 0.
    void replace(std::span<std::uint8_t> classes);

    /// The sizes of what came, for a map on `grid`. `source` (a file or case) is named in errors. Errors: those of
    /// tumour_volumes and classes_to_labels.
    Result<TumourVolumes> finish(const Grid& grid, RegionDefinition definition, std::string_view source) const;

  private:
    LabelCoding coding_;
    std::array<std::uint8_t, 256> labels_{};
    ValueCounts counts_;
};

/// Measures a map of class indices. `source` (a file or case) is named in the error.
/// Errors: label_outside_scheme for a value that is not a class, with value, count and first voxel.
Result<TumourVolumes> tumour_volumes(const LabelMap& classes, RegionDefinition definition, std::string_view source);

} // namespace mfres
