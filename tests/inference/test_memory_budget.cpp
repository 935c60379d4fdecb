// SPDX-License-Identifier: MIT
// What a case is planned to take, in bytes, counted by hand.
#include "imaging/nifti/gzip.h"
#include "inference/memory_budget.h"
#include "support/catch.h"

using namespace mfres;

namespace {

constexpr std::int64_t mib = std::int64_t{1} << 20;
constexpr std::array<std::int64_t, 3> box = {128, 160, 128};
constexpr std::int64_t box_voxels = 128 * 160 * 128;

CaseMemory usual_case() {
    CaseMemory memory;
    memory.grid = memory.output = {240, 240, 155};
    memory.box = box;
    memory.scans = 20 * mib;
    memory.border = 250'000;
    memory.keep_network = false;
    return memory;
}

} // namespace

TEST_CASE("the peak is that of the network, the files or the end, whichever is highest") {
    const MemoryBudget budget(13 * mib, 4, false, 2, 16 * mib);
    const std::int64_t fixed = (12 + 13) * mib; // process and weights
    const CaseMemory memory = usual_case();
    // In one pass the scans have been given back when the network runs.
    CHECK(budget.peak(memory, box, 300 * mib) == fixed + 16 * mib + 300 * mib + box_voxels);
    // In tiles they are still needed.
    CHECK(budget.peak(memory, {64, 160, 128}, 100 * mib) == fixed + 16 * mib + 100 * mib + box_voxels + 20 * mib);
    // A network that takes nothing leaves the reading: two threads with a border each, and what they have read.
    const std::int64_t readers = 2 * (mib + 12 * memory.border);
    CHECK(budget.reading_peak(memory, 0) == fixed + 20 * mib + readers);
    CHECK(budget.reading_peak(memory, 200 * mib) == fixed + (16 + 200 + 20) * mib + readers);
    CaseMemory resampled = memory;
    resampled.resampling = 300 * mib;
    CHECK(budget.peak(resampled, box, 0) == fixed + 300 * mib);
}

TEST_CASE("labels of a finer grid count where they are returned, written by slices they do not") {
    const MemoryBudget budget(0, 4, false, 1, 16 * mib);
    CaseMemory fine = usual_case();
    fine.scans = 0;
    fine.output = {480, 480, 310};
    fine.components = true;
    constexpr std::int64_t labels = 240 * 240 * 155;
    const std::int64_t by_slices = budget.peak(fine, box, 0);
    // Beside process and engine: the labels, a quarter as much to find small parts, a slice, buffers, and what is compressed
    // by one thread: a part of 1 MiB, and zlib.
    CHECK(GzipWriter::workspace_bytes(8 * labels, 1) == mib + (64 + 268) * 1024);
    CHECK(by_slices == (12 + 16) * mib + mib / 2 + mib + (64 + 268) * 1024 + labels + labels / 4 + 480 * 480);
    CaseMemory kept = fine; // no small parts are looked for
    kept.components = false;
    CHECK(budget.peak(kept, box, 0) == by_slices - labels / 4);
    fine.labels = true;
    CHECK(budget.peak(fine, box, 0) == by_slices + 8 * labels - labels / 4);
}

TEST_CASE("mirror images, pictures and probabilities take what they hold") {
    const CaseMemory memory = usual_case();
    const MemoryBudget plain(0, 4, false, 1, 16 * mib);
    const MemoryBudget mirrors(0, 4, true, 1, 16 * mib);
    constexpr std::int64_t executable = 2000 * mib;
    // Sums of four classes in floats, and the scans, since another pass needs them.
    CHECK(mirrors.peak(memory, box, executable) - plain.peak(memory, box, executable) == 4 * 4 * box_voxels + 20 * mib);
    CaseMemory picture = memory;
    picture.picture = true;
    picture.images = 10 * mib;
    CHECK(plain.peak(picture, box, executable) >= plain.peak(memory, box, executable) + 10 * mib);
    CaseMemory probabilities = memory;
    probabilities.probabilities = true;
    CHECK(plain.peak(probabilities, box, executable) - plain.peak(memory, box, executable) == 2 * 4 * 4 * box_voxels);
    CHECK(plain.peak(probabilities, box, 0) > 3 * 4 * 4 * memory.grid[0] * memory.grid[1] * memory.grid[2]);
}
