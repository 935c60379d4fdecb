// SPDX-License-Identifier: MIT
// How much memory a case takes while it is segmented, planned before the network is compiled.
#pragma once

#include "imaging/compact_volume.h"

#include <mfres/volume.h>

#include <array>
#include <cstdint>

namespace mfres {

/// What a case and a request decide about memory. Sizes in voxels, the rest in bytes.
struct CaseMemory {
    std::array<std::int64_t, 3> grid{};   ///< of the scans
    std::array<std::int64_t, 3> output{}; ///< of the files, which is another one if the scans were resampled
    std::array<std::int64_t, 3> box{};    ///< of the padded brain box
    std::int64_t scans = 0;               ///< of all scans, cut to what is not background
    std::int64_t inflated = 0;            ///< of the largest file that was inflated at once
    std::int64_t border = 0;              ///< voxels on the faces of the files' grid
    std::int64_t resampling = 0;          ///< while the scans were resampled, with all of them; 0 if they were not
    std::int64_t images = 0;              ///< of the scans that are needed after the network has run
    bool labels = false;                  ///< there are labels of both grids at a time
    bool components = false;              ///< connected components of the labels are searched
    bool picture = false;                 ///< they are needed for a picture
    bool probabilities = false;           ///< of every class on the whole grid, too
    bool keep_network = true;             ///< the compiled network stays for the next case
};

/// The memory of a case's scans. `kept`: the ones that are needed after the network has run.
CaseMemory case_memory(const std::array<CompactVolume, 4>& scans, const Grid& grid, const Grid& output,
                       const std::array<std::int64_t, 3>& box, const ModalitySet& kept);

/// Plans in bytes on top of what the process held before the model was opened.
class MemoryBudget {
  public:
    /// `weights`: bytes of the model's weights as floats. `mirrors`: probabilities are averaged over mirror images.
    /// `threads`: that read and write files at the same time. `engine`: bytes of Backend::engine_bytes().
    MemoryBudget(std::int64_t weights, std::int64_t classes, bool mirrors, int threads, std::int64_t engine)
        : weights_(weights), classes_(classes), mirrors_(mirrors), threads_(threads), engine_(engine) {}

    std::int64_t weights() const { return weights_; }

    /// The peak of a case whose tiles run through an executable of `executable` bytes: the weights, and at the peak the
    /// files being read, the input being filled, the network with the scans that are still needed, or what is written at
    /// the end.
    std::int64_t peak(const CaseMemory& memory, const std::array<std::int64_t, 3>& tile, std::int64_t executable) const;

    /// What there is besides scans, network and results.
    std::int64_t fixed() const;

    /// The peak while files are read and an executable of an earlier case is kept (0 bytes: none is).
    std::int64_t reading_peak(const CaseMemory& memory, std::int64_t kept_executable) const;

  private:
    std::int64_t reading(const CaseMemory& memory) const;

    std::int64_t weights_;
    std::int64_t classes_;
    bool mirrors_;
    int threads_;
    std::int64_t engine_;
};

} // namespace mfres
