// SPDX-License-Identifier: MIT
// Channels-last arrays a block at a time: rows of whole voxels that stay in the first-level cache while several plain
// loops go over them. A value per channel is kept as a repeating pattern, so that the loops run over contiguous floats
// and never over two or four channels.
#pragma once

#include "backends/kernels/elementwise.h"
#include "backends/kernels/threads.h"
#include "backends/kernels/value_array.h"
#include "backends/planned/training_plan.h"
#include "core/tensor.h"

#include <cstdint>
#include <vector>

namespace mfres::kernels {

/// A tensor cut into chunks that depend on its shape alone, none across samples, and these into blocks. Sums taken by
/// chunk do not depend on the number of threads.
class Blocks {
  public:
    Blocks(const Shape& shape, int threads);

    std::int64_t channels() const { return channels_; }
    std::int64_t samples() const { return samples_; }
    std::int64_t voxels_per_sample() const { return voxels_; }
    std::int64_t chunks() const { return samples_ * chunks_per_sample_; }
    std::int64_t chunks_per_sample() const { return chunks_per_sample_; }
    /// Floats of a pattern: a whole number of voxels, and where that is possible of vectors.
    std::int64_t pattern() const { return pattern_; }
    /// Floats of the largest block.
    std::int64_t block() const { return block_voxels_ * channels_; }
    /// Threads that for_chunks uses.
    int threads() const { return threads_; }

    struct Chunk {
        std::int64_t index, sample, first, end; ///< voxels [first, end) counted over all samples
    };

    /// body(chunk, thread), by all threads.
    template <typename Body>
    void for_chunks(const Body& body) const {
        parallel_for(chunks(), threads_, [&](std::int64_t begin, std::int64_t end, int thread) {
            for (std::int64_t index = begin; index < end; ++index)
                body(chunk(index), thread);
        });
    }

    /// body(first voxel, voxels) for the blocks of a chunk.
    template <typename Body>
    void for_blocks(const Chunk& chunk, const Body& body) const {
        for (std::int64_t first = chunk.first; first < chunk.end; first += block_voxels_)
            body(first, std::min(block_voxels_, chunk.end - first));
    }

  private:
    Chunk chunk(std::int64_t index) const;

    std::int64_t channels_, samples_, voxels_;
    std::int64_t pattern_ = 0;
    std::int64_t block_voxels_ = 0;
    std::int64_t chunks_per_sample_ = 0;
    int threads_;
};

/// Reads a sum of channel ranges as dense rows: a value, a slice of one, or the terms of a gradient.
class RowReader {
  public:
    RowReader() = default;
    /// What no term covers reads as zero.
    RowReader(const Binding& binding, std::int64_t channels, const std::vector<GradientContribution>& terms);
    RowReader(const Binding& binding, const Channels& channels) : RowReader(binding, channels.count, {{channels, 0}}) {}

    /// Rows of the voxels: in place if they are stored as such, else copied into `workspace`.
    const float* rows(std::int64_t first, std::int64_t voxels, float* workspace) const {
        if (direct_)
            return direct_.read(first * channels_, voxels * channels_, workspace);
        copy_rows(first, voxels, workspace);
        return workspace;
    }
    void copy_rows(std::int64_t first, std::int64_t voxels, float* to) const;

    /// The same rows of a dense array become these. Floats of `workspace`: those of the rows; none is needed where
    /// nothing is added up or the array is f32.
    void store_rows(std::int64_t first, std::int64_t voxels, const ValueArray& to, float* workspace) const;
    /// All rows of a dense array, by the threads of `rows`. Floats of `workspace`: a block for each of them.
    void store_all(const Blocks& rows, const ValueArray& to, float* workspace) const;

  private:
    struct Part {
        ValueArray from;
        std::int64_t from_channels = 0, begin = 0, count = 0;
        std::int64_t to = 0;
        bool adds = false;

        std::int64_t place(std::int64_t voxel) const { return voxel * from_channels + begin; }
    };
    void add_part(const Part& part, std::vector<bool>& covered);

    std::int64_t channels_ = 0;
    ValueArray direct_;
    bool gaps_ = false;
    bool adds_ = false; ///< any part
    std::vector<Part> parts_;
};

/// Writes channels [from, from + count) of dense rows to a dense array of `count` channels.
struct RowWriter {
    std::int64_t from = 0;
    std::int64_t count = 0;
    ValueArray to;

    void write(const float* rows, std::int64_t channels, std::int64_t first, std::int64_t voxels) const;
};

/// Fills to[0, pattern) with values[c] repeated, as floats.
void repeat(const double* values, std::int64_t channels, std::int64_t pattern, float* to);

} // namespace mfres::kernels
