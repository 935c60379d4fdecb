// SPDX-License-Identifier: MIT
// What the examples in C++ have in common: four files as volumes in memory.
#pragma once

#include "nifti_file.h"

#include <mfres/predictor.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

/// Four volumes in memory, and the views of them that a Predictor takes.
struct Volumes {
    std::array<std::unique_ptr<void, decltype(&std::free)>, 4> memory{
        {{nullptr, std::free}, {nullptr, std::free}, {nullptr, std::free}, {nullptr, std::free}}};
    mfres::CaseVolumes views;
};

inline std::optional<mfres::ScalarType> scalar_type(int nifti_datatype) {
    switch (nifti_datatype) {
    case 2: return mfres::ScalarType::uint8;
    case 4: return mfres::ScalarType::int16;
    case 8: return mfres::ScalarType::int32;
    case 16: return mfres::ScalarType::float32;
    case 64: return mfres::ScalarType::float64;
    case 512: return mfres::ScalarType::uint16;
    default: return std::nullopt;
    }
}

/// Reads T1, T1ce, T2 and FLAIR; nothing, and a message on stderr, if one cannot be read.
inline std::optional<Volumes> read_volumes(char** paths) {
    Volumes volumes;
    volumes.views.id = "example";
    for (std::size_t m = 0; m < 4; ++m) {
        nifti_file image;
        if (read_nifti_file(paths[m], &image) != 0)
            return std::nullopt;
        volumes.memory[m].reset(image.voxels);
        const auto type = scalar_type(image.datatype);
        if (!type) {
            std::fprintf(stderr, "%s has voxels of a type that this example does not read\n", paths[m]);
            return std::nullopt;
        }
        mfres::VolumeView& view = volumes.views.volumes[m];
        view.voxels = image.voxels;
        view.type = *type;
        std::copy_n(image.size, 3, view.grid.size.begin());
        for (std::size_t row = 0; row < 3; ++row)
            std::copy_n(image.affine[row], 4, view.grid.affine[row].begin());
        view.slope = image.slope;
        view.inter = image.inter;
    }
    return volumes;
}

inline int failed(const mfres::Error& error) {
    std::fprintf(stderr, "%s: %s\n", std::string(mfres::name(error.code)).c_str(), error.message.c_str());
    return 1;
}
