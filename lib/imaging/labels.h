// SPDX-License-Identifier: MIT
// Classes and labels: label values of the BraTS years, names and colours, tumour regions, volumes in ml.
#pragma once

#include <mfres/regions.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace mfres {

/// Classes of the networks: 0 background, 1 necrotic and non-enhancing core, 2 oedema, 3 enhancing tumour.
inline constexpr int tumour_classes = 4;

/// The label value of each class in files.
enum class LabelScheme : std::uint8_t {
    brats,     ///< 0, 1, 2, 4: BraTS 2017 to 2021
    brats2023, ///< 0, 1, 2, 3: BraTS 2023 and later
};
inline constexpr std::array<LabelScheme, 2> label_schemes = {LabelScheme::brats, LabelScheme::brats2023};

/// "brats", "brats2023"
std::string_view name(LabelScheme scheme) noexcept;

/// The scheme of that name. Errors: invalid_argument, listing the schemes.
Result<LabelScheme> label_scheme(std::string_view scheme_name);

/// Guesses the scheme from label values: 3 without 4 is brats2023, everything else brats.
LabelScheme scheme_shown_by(const LabelMap& labels) noexcept;

/// Label value of class 0, 1, 2, 3.
std::array<std::uint8_t, tumour_classes> labels_of(LabelScheme scheme) noexcept;

/// Replaces class indices by the scheme's label values, in place. `source` (a file or case) is named in the error.
/// Errors: label_outside_scheme for a value that is not a class, with value, count and first voxel; the map is
/// unchanged then.
Status classes_to_labels(LabelMap& map, LabelScheme scheme, std::string_view source);

/// Replaces label values of the scheme by class indices, in place. `source` (a file or case) is named in the error.
/// Errors: label_outside_scheme for a value the scheme does not have, with value, count and first voxel; the map
/// is unchanged then.
Status labels_to_classes(LabelMap& map, LabelScheme scheme, std::string_view source);

/// Name and colour of a class. Colours are of the Okabe-Ito palette (Okabe and Ito 2008), which is distinguishable with
/// every common colour vision deficiency.
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

/// Relabels enhancing tumour as necrotic and non-enhancing core if the whole map has less of it than `least_mm3`,
/// because so little is more likely a false positive. Returns the number of relabelled voxels. The map holds class
/// indices.
std::int64_t relabel_small_enhancing(LabelMap& classes, double least_mm3) noexcept;

/// Relabels connected components of the tumour (26-neighbourhood, all tumour classes together) of less than `least_mm3`
/// as background, except the largest one, because small components are more likely false positives. Returns the number
/// of relabelled voxels. The map holds class indices. Workspace: one bit per voxel and up to 24 bytes per tumour voxel.
std::int64_t remove_small_components(LabelMap& classes, double least_mm3);

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

/// Measures a map of class indices. `source` (a file or case) is named in the error.
/// Errors: label_outside_scheme for a value that is not a class, with value, count and first voxel.
Result<TumourVolumes> tumour_volumes(const LabelMap& classes, RegionDefinition definition, std::string_view source);

} // namespace mfres
