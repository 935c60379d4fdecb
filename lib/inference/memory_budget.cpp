// SPDX-License-Identifier: MIT
#include "inference/memory_budget.h"

#include "imaging/border.h"
#include "imaging/nifti/gzip.h"

#include <algorithm>

namespace mfres {

namespace {

using Size = std::array<std::int64_t, 3>;

/// What no plan lists: pages of code, of which the system maps up to 4 MiB more or less from run to run, thread stacks,
/// slack of the allocator. Measured on x86-64.
constexpr std::int64_t process_overhead = std::int64_t{12} << 20;
constexpr std::int64_t writer_overhead = std::int64_t{1} << 19; // buffers of a file

std::int64_t voxels(const Size& size) {
    return size[0] * size[1] * size[2];
}

std::int64_t float_bytes(const Size& size, std::int64_t maps) {
    return voxels(size) * maps * static_cast<std::int64_t>(sizeof(float));
}

} // namespace

CaseMemory case_memory(const std::array<CompactVolume, 4>& scans, const Grid& grid, const Grid& output, const Size& box,
                       const ModalitySet& kept) {
    CaseMemory memory;
    memory.grid = grid.size;
    memory.output = output.size;
    memory.border = border::voxels(output.size);
    memory.box = box;
    for (std::size_t m = 0; m < scans.size(); ++m) {
        memory.scans += scans[m].bytes();
        if (kept[m])
            memory.images += scans[m].bytes();
    }
    return memory;
}

std::int64_t MemoryBudget::fixed() const {
    return process_overhead + weights_;
}

std::int64_t MemoryBudget::reading(const CaseMemory& memory) const {
    if (memory.resampling > 0)
        return memory.resampling;
    return memory.scans + (memory.inflated + border::reading_bytes(memory.border)) * std::min(threads_, 4);
}

std::int64_t MemoryBudget::peak(const CaseMemory& memory, const Size& tile, std::int64_t executable) const {
    const bool one_pass = tile == memory.box && !mirrors_;
    const std::int64_t labels = voxels(memory.grid);
    // Probabilities of the box, and the sums of a tile while they are made; mirror images have the sums anyhow.
    const std::int64_t box_probabilities = memory.probabilities ? float_bytes(memory.box, classes_) : 0;
    const std::int64_t sums = mirrors_ || memory.probabilities ? float_bytes(tile, classes_) : 0;
    const std::int64_t running = engine_ + executable + voxels(memory.box) + (one_pass ? memory.images : memory.scans) +
                                 sums + box_probabilities;
    // The scans and the input made of them, which has four channels. Kernels have weights in forms of their own: Winograd's
    // filters take 16/9 of them, and the rest pads blocks of channels.
    const std::int64_t filling = one_pass ? engine_ + std::min(executable, 2 * weights_ + float_bytes(memory.box, 4)) +
                                                voxels(memory.box) + memory.scans
                                          : 0;
    // Two volumes of floats and a copy of their brains for a picture.
    const std::int64_t picture = memory.picture ? memory.images + 3 * float_bytes(memory.grid, 1) + labels : 0;
    // Probabilities of the larger grid, rounded, and as a file, beside what else there is at that time.
    const std::int64_t probabilities =
        memory.probabilities
            ? 3 * std::max(float_bytes(memory.grid, classes_), float_bytes(memory.output, classes_)) + memory.images
            : 0;
    // Labels and a quarter as much to find small parts of them (runs, of which a tumour has few), or both grids' labels; a
    // slice with the buffers of its file.
    const std::int64_t beside = std::max(memory.components ? labels / 4 : 0, memory.labels ? voxels(memory.output) : 0);
    const std::int64_t written = labels + beside + memory.output[0] * memory.output[1] +
                                 GzipWriter::workspace_bytes(voxels(memory.output), threads_) + writer_overhead;
    const std::int64_t ending = std::max(picture, written) + std::max(probabilities, box_probabilities) + engine_ +
                                (memory.keep_network ? executable : 0);
    return fixed() + std::max({reading(memory), memory.scans + labels, filling, running, ending});
}

std::int64_t MemoryBudget::reading_peak(const CaseMemory& memory, std::int64_t kept_executable) const {
    return fixed() + reading(memory) + (kept_executable > 0 ? engine_ + kept_executable : 0);
}

} // namespace mfres
