// SPDX-License-Identifier: MIT
#include "backends/kernels/blocked_loops.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace mfres::kernels {

namespace {

template <typename T>
void copy_range(const T* from, std::int64_t from_channels, T* to, std::int64_t to_channels, std::int64_t count,
                std::int64_t voxels) {
    if (count == from_channels && count == to_channels) {
        std::memcpy(to, from, static_cast<std::size_t>(voxels * count) * sizeof(T));
        return;
    }
    with_count(count, [&](const auto n) {
        for (std::int64_t voxel = 0; voxel < voxels; ++voxel)
            std::memcpy(to + voxel * to_channels, from + voxel * from_channels,
                        static_cast<std::size_t>(n) * sizeof(T));
    });
}

void add_range(const float* from, std::int64_t from_channels, float* to, std::int64_t to_channels, std::int64_t count,
               std::int64_t voxels) {
    if (count == from_channels && count == to_channels) { // contiguous on both sides
        MFRES_SIMD
        for (std::int64_t i = 0; i < voxels * count; ++i)
            to[i] += from[i];
        return;
    }
    with_count(count, [&](const auto n) {
        for (std::int64_t voxel = 0; voxel < voxels; ++voxel) {
            const float* a = from + voxel * from_channels;
            float* b = to + voxel * to_channels;
            MFRES_SIMD
            for (std::int64_t c = 0; c < n; ++c)
                b[c] += a[c];
        }
    });
}

} // namespace

Blocks::Blocks(const Shape& shape, int threads)
    : channels_(shape[1]), samples_(shape[0]), voxels_(shape[2] * shape[3] * shape[4]) {
    constexpr std::int64_t vector = 16;        // floats of the widest vectors there are
    constexpr std::int64_t least_pattern = 64; // several vectors, so that sums are not one chain of additions
    constexpr std::int64_t target_block = 4096;
    constexpr std::int64_t target_chunk = 65536;
    constexpr std::int64_t most_chunks = 64;
    pattern_ = std::lcm(channels_, vector);
    if (pattern_ > target_block)
        pattern_ = channels_;
    const std::int64_t voxels_in_lcm = pattern_ / channels_;
    while (pattern_ < least_pattern)
        pattern_ += voxels_in_lcm * channels_;
    block_voxels_ = std::max<std::int64_t>(1, target_block / pattern_) * pattern_ / channels_;
    chunks_per_sample_ = std::clamp<std::int64_t>(voxels_ * channels_ / target_chunk, 1, most_chunks);
    threads_ = static_cast<int>(std::clamp<std::int64_t>(chunks(), 1, threads));
}

Blocks::Chunk Blocks::chunk(std::int64_t index) const {
    const std::int64_t sample = index / chunks_per_sample_;
    const std::int64_t within = index % chunks_per_sample_;
    return {index, sample, sample * voxels_ + voxels_ * within / chunks_per_sample_,
            sample * voxels_ + voxels_ * (within + 1) / chunks_per_sample_};
}

RowReader::RowReader(const Binding& binding, std::int64_t channels, const std::vector<GradientContribution>& terms)
    : channels_(channels) {
    std::vector<bool> covered(static_cast<std::size_t>(channels), false);
    for (const GradientContribution& term : terms)
        add_part(
            {binding.values(term.from.array), term.from.channels, term.from.begin, term.from.count, term.to, false},
            covered);
    gaps_ = std::find(covered.begin(), covered.end(), false) != covered.end();
    if (parts_.size() == 1 && !gaps_ && parts_[0].count == parts_[0].from_channels)
        direct_ = parts_[0].from;
}

/// Splits a term where it begins or ends to meet channels that earlier terms have set.
void RowReader::add_part(const Part& part, std::vector<bool>& covered) {
    const auto is_covered = [&](std::int64_t c) { return covered[static_cast<std::size_t>(part.to + c)]; };
    for (std::int64_t c = 0; c < part.count;) {
        const bool adds = is_covered(c);
        std::int64_t end = c;
        while (end < part.count && is_covered(end) == adds)
            ++end;
        parts_.push_back({part.from, part.from_channels, part.begin + c, end - c, part.to + c, adds});
        adds_ = adds_ || adds;
        c = end;
    }
    std::fill_n(covered.begin() + static_cast<std::ptrdiff_t>(part.to), part.count, true);
}

void RowReader::copy_rows(std::int64_t first, std::int64_t voxels, float* to) const {
    if (gaps_)
        std::fill_n(to, voxels * channels_, 0.0F);
    for (const Part& part : parts_) {
        const std::int64_t place = part.place(first);
        if (part.from.rounds() && !part.adds && part.count == part.from_channels && part.count == channels_)
            vector_loops().from_bf16(voxels * channels_, part.from.bf16() + place, to);
        else if (part.from.rounds())
            vector_loops().widen_channels(part.from.bf16() + place, part.from_channels, to + part.to, channels_,
                                          part.count, voxels, part.adds);
        else
            (part.adds ? add_range : copy_range<float>)(part.from.f32() + place, part.from_channels, to + part.to,
                                                        channels_, part.count, voxels);
    }
}

void RowReader::store_rows(std::int64_t first, std::int64_t voxels, const ValueArray& to, float* workspace) const {
    const std::int64_t place = first * channels_;
    if (to.rounds() && !adds_) { // copied as they are
        if (gaps_)
            std::fill_n(to.bf16() + place, voxels * channels_, std::uint16_t{0});
        for (const Part& part : parts_)
            copy_range<std::uint16_t>(part.from.bf16() + part.place(first), part.from_channels,
                                      to.bf16() + place + part.to, channels_, part.count, voxels);
        return;
    }
    float* const rows = to.target(place, workspace);
    copy_rows(first, voxels, rows);
    to.store(place, voxels * channels_, rows);
}

void RowReader::store_all(const Blocks& rows, const ValueArray& to, float* workspace) const {
    rows.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
        float* const own = workspace ? workspace + thread * rows.block() : nullptr;
        rows.for_blocks(chunk, [&](std::int64_t first, std::int64_t voxels) { store_rows(first, voxels, to, own); });
    });
}

void RowWriter::write(const float* rows, std::int64_t channels, std::int64_t first, std::int64_t voxels) const {
    if (to.rounds())
        vector_loops().narrow_channels(rows + from, channels, to.bf16() + first * count, count, count, voxels);
    else
        copy_range(rows + from, channels, to.f32() + first * count, count, count, voxels);
}

void repeat(const double* values, std::int64_t channels, std::int64_t pattern, float* to) {
    for (std::int64_t i = 0; i < pattern; ++i)
        to[i] = static_cast<float>(values[i % channels]);
}

} // namespace mfres::kernels
