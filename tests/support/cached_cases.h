// SPDX-License-Identifier: MIT
// Small cases for tests of cache and loader: cached ones made of formulas, and caches that live in memory.
#pragma once

#include "core/random.h"
#include "data/cache.h"
#include "imaging/nifti/nifti.h"
#include "support/cases.h"

#include <cmath>

namespace mfres::test {

/// The place of a voxel in the arrays of a case.
inline std::size_t at(const CachedCase& source, std::int64_t x, std::int64_t y, std::int64_t z) {
    return static_cast<std::size_t>((x * source.size[1] + y) * source.size[2] + z);
}

/// The z-score of a voxel, 0 outside brain and box.
inline double score(const CachedCase& source, std::size_t modality, std::int64_t x, std::int64_t y, std::int64_t z) {
    const auto outside = [](std::int64_t v, std::int64_t size) { return v < 0 || v >= size; };
    if (outside(x, source.size[0]) || outside(y, source.size[1]) || outside(z, source.size[2]))
        return 0.0;
    const std::size_t index = at(source, x, y, z);
    if (source.brain[index] == 0)
        return 0.0;
    const auto& m = source.modalities[modality];
    const double quantum = std::visit([&](const auto& quanta) { return double(quanta[index]); }, m.quanta);
    return quantum * double(m.scale) + double(m.offset);
}

/// A box of noise inside an ellipsoid brain that touches its faces, with a tumour of all classes off its centre; T2 has
/// 16-bit quanta. Scores are integers times powers of two, so single precision holds them exactly.
inline CachedCase ellipsoid_case(const std::array<std::int64_t, 3>& size, std::uint64_t seed = 1) {
    CachedCase made;
    made.id = "ellipsoid-" + std::to_string(seed);
    made.size = size;
    const auto voxels = static_cast<std::size_t>(made.voxels());
    made.classes.assign(voxels, 0);
    made.brain.assign(voxels, 0);
    std::array<std::vector<std::uint8_t>, 4> narrow;
    narrow.fill(std::vector<std::uint8_t>(voxels, 0));
    std::vector<std::int16_t> wide(voxels, 0);
    Random random(seed);
    for (std::int64_t x = 0; x < size[0]; ++x)
        for (std::int64_t y = 0; y < size[1]; ++y)
            for (std::int64_t z = 0; z < size[2]; ++z) {
                const std::array<std::int64_t, 3> place = {x, y, z};
                double radius = 0.0;
                double from_tumour = 0.0;
                for (std::size_t a = 0; a < 3; ++a) {
                    const double u = (2.0 * double(place[a]) + 1.0) / double(size[a]) - 1.0;
                    radius += u * u;
                    from_tumour += (u - 0.3) * (u - 0.3);
                }
                const std::size_t index = at(made, x, y, z);
                if (radius > 1.0)
                    continue;
                made.brain[index] = 1;
                for (auto& quanta : narrow)
                    quanta[index] = static_cast<std::uint8_t>(random.below(256));
                wide[index] = static_cast<std::int16_t>(static_cast<std::int64_t>(random.below(4001)) - 2000);
                if (from_tumour < 0.09)
                    made.classes[index] = from_tumour < 0.02 ? 1 : from_tumour < 0.05 ? 3 : 2;
            }
    for (std::size_t m = 0; m < 4; ++m)
        made.modalities[m] = {std::move(narrow[m]), 0.0625F, -8.0F + static_cast<float>(m)};
    made.modalities[2] = {std::move(wide), 0x1.0p-9F, 0.25F};
    return made;
}

/// A cache that never was a file. load() of the case at `broken` fails.
class MemoryCache final : public Cache {
  public:
    explicit MemoryCache(std::vector<CachedCase> cases) {
        for (auto& one : cases) {
            CacheEntry entry{one.id, one.size, {}, 0};
            for (const auto value : one.classes)
                ++entry.class_voxels[value];
            entries_.push_back(entry);
            cases_.push_back(std::make_shared<const CachedCase>(std::move(one)));
        }
    }
    const std::vector<CacheEntry>& entries() const override { return entries_; }
    const std::string& fingerprint() const override { return fingerprint_; }
    Result<std::shared_ptr<const CachedCase>> load(std::size_t index) const override {
        if (broken && *broken == index)
            return Error{ErrorCode::cache_damaged, "case " + entries_[index].id + " is broken on purpose", ""};
        return cases_[index];
    }
    void keep_at_most(std::uint64_t) const override {}

    std::optional<std::size_t> broken;

  private:
    std::vector<CacheEntry> entries_;
    std::vector<std::shared_ptr<const CachedCase>> cases_;
    std::string fingerprint_ = std::string(64, '0');
};

/// Writes four volumes and, unless they are empty, labels as a case in BraTS layout.
inline CaseFiles write_labelled_case(const TemporaryFolder& folder, const std::string& id,
                                     const std::array<Volume, 4>& volumes, const LabelMap& labels) {
    const NiftiGeometry geometry = geometry_of(volumes[0].grid);
    CaseFiles files = write_case(folder, volumes, geometry, id);
    if (labels.labels.empty())
        return files;
    files.segmentation = folder / id / (id + "_seg.nii.gz");
    REQUIRE_OK(write_nifti_labels(*files.segmentation, labels, geometry, "synthetic", true));
    return files;
}

} // namespace mfres::test
