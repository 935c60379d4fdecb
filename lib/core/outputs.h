// SPDX-License-Identifier: MIT
// What the output channels of a segmentation network mean: classes that exclude each other, or nested regions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace mfres {

enum class Outputs : std::uint8_t {
    /// A channel for each class; probabilities are the softmax over the channels, and the greatest is the label.
    classes,
    /// Three channels, whole tumour (WT), tumour core (TC) and enhancing tumour (ET); the probability of each is the
    /// sigmoid of its logit. The label is that of the innermost region above one half: ET over TC over WT
    /// (region-based training; Isensee et al. 2020, "nnU-Net for brain tumor segmentation").
    regions,
};

/// The classes of each region: bit c of the mask stands for class c (0 background, 1 necrotic core, 2 oedema,
/// 3 enhancing tumour).
inline constexpr std::array<std::uint8_t, 3> region_masks{0b1110, 0b1010, 0b1000};
inline constexpr std::int64_t region_count = 3;
inline constexpr std::int64_t classes_of_regions = 4;

constexpr bool in_region(std::int64_t region, std::int64_t class_index) {
    return (region_masks[static_cast<std::size_t>(region)] >> static_cast<unsigned>(class_index) & 1U) != 0;
}

} // namespace mfres
