// SPDX-License-Identifier: MIT
// Small synthetic cases on disk, whole or with one thing wrong.
#pragma once

#include "imaging/nifti/nifti.h"
#include "model/model.h"
#include "phantom/phantom.h"
#include "support/catch.h"
#include "support/paths.h"

#include <mfres/case.h>

namespace mfres::test {

inline const Phantom& small_phantom() {
    static const Phantom phantom = [] {
        auto made = make_phantom({.seed = 5, .size = {64, 72, 56}, .threads = 2});
        REQUIRE_OK(made);
        return std::move(made).value();
    }();
    return phantom;
}

/// Share of the voxels that have one label in both maps.
inline double agreement(const LabelMap& a, const LabelMap& b) {
    REQUIRE(a.labels.size() == b.labels.size());
    std::size_t equal = 0;
    for (std::size_t i = 0; i < a.labels.size(); ++i)
        equal += a.labels[i] == b.labels[i];
    return static_cast<double>(equal) / static_cast<double>(a.labels.size());
}

/// Writes the phantom as <folder>/<id>/<id>_t1.nii.gz and so on.
inline CaseFiles write_case(const TemporaryFolder& folder, const std::array<Volume, 4>& volumes,
                            const NiftiGeometry& geometry, const std::string& id = "phantom") {
    CaseFiles files;
    files.id = id;
    std::filesystem::create_directories(folder / id);
    for (const Modality modality : modalities) {
        const auto path = folder / id / (id + "_" + std::string(name(modality)) + ".nii.gz");
        REQUIRE_OK(write_nifti(path, volumes[static_cast<std::size_t>(modality)], geometry, NiftiDatatype::float32,
                               "synthetic", true));
        files.modalities[static_cast<std::size_t>(modality)] = path;
    }
    return files;
}

inline CaseFiles write_case(const TemporaryFolder& folder) {
    const Phantom& phantom = small_phantom();
    return write_case(folder, phantom.volumes, geometry_of(phantom.volumes[0].grid));
}

/// The label file must lie exactly where the T1 file lies.
inline void check_same_geometry(const std::filesystem::path& labels, const CaseFiles& files) {
    const auto written = read_nifti_labels(labels);
    const auto input = read_nifti(files.modalities[0]);
    REQUIRE_OK(written);
    REQUIRE_OK(input);
    CHECK(written->map.grid == input->volume.grid);
    CHECK(written->geometry == input->geometry);
    CHECK(written->storage.datatype == NiftiDatatype::uint8);
}

/// Lets a model take phantoms of any size.
inline void take_any_brain(ModelMetadata& metadata) {
    metadata.brain_min_ml = 1e-3;
    metadata.brain_max_ml = 1e6;
}

/// A model file of that variant with seeded random weights, for brains of any size.
inline std::filesystem::path write_model(const TemporaryFolder& folder, std::string_view network = "mf-res2net",
                                         std::uint64_t seed = 1) {
    auto variant = parse_variant(network);
    REQUIRE_OK(variant);
    auto model = init_model(*variant, seed);
    REQUIRE_OK(model);
    take_any_brain(model->metadata);
    const auto path = folder / "model.safetensors";
    REQUIRE_OK(save_model(path, *model, Dtype::f32, true));
    return path;
}

/// A small network with the full one's structure, quick enough for the reference backend.
inline constexpr std::string_view small_network =
    R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})";

} // namespace mfres::test
