// SPDX-License-Identifier: MIT
#include "imaging/run_mask.h"

#include <algorithm>
#include <numeric>

namespace mfres {

RunMask complement(const RunMask& mask) {
    RunMask others;
    others.size = mask.size;
    others.first_run.reserve(mask.first_run.size());
    const auto row_end = static_cast<std::int32_t>(mask.size[0]);
    for (std::size_t row = 0; row + 1 < mask.first_run.size(); ++row) {
        others.first_run.push_back(others.runs.size());
        std::int32_t from = 0;
        for (std::size_t run = mask.first_run[row]; run < mask.first_run[row + 1]; ++run) {
            if (mask.runs[run].begin > from)
                others.runs.push_back({from, mask.runs[run].begin});
            from = mask.runs[run].end;
        }
        if (from < row_end)
            others.runs.push_back({from, row_end});
    }
    others.first_run.push_back(others.runs.size());
    return others;
}

Components::Components(const RunMask& mask, Neighbours neighbours) : parent_(mask.runs.size()) {
    std::iota(parent_.begin(), parent_.end(), 0U);
    const auto& size = mask.size;
    const std::int64_t side = neighbours == Neighbours::all ? 1 : 0;
    const auto reach = static_cast<std::int32_t>(side);
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j) {
            const auto row = static_cast<std::size_t>(j + size[1] * k);
            if (mask.first_run[row] == mask.first_run[row + 1])
                continue;
            if (j > 0)
                join_rows(mask, row, row - 1, reach);
            if (k > 0)
                for (std::int64_t dj = j > 0 ? -side : 0; dj <= (j + 1 < size[1] ? side : 0); ++dj)
                    join_rows(mask, row, static_cast<std::size_t>(j + dj + size[1] * (k - 1)), reach);
        }
}

/// Joins the runs of two neighbouring rows that touch.
void Components::join_rows(const RunMask& mask, std::size_t row, std::size_t other, std::int32_t reach) {
    std::size_t a = mask.first_run[row];
    std::size_t b = mask.first_run[other];
    while (a < mask.first_run[row + 1] && b < mask.first_run[other + 1]) {
        const VoxelRun& first = mask.runs[a];
        const VoxelRun& second = mask.runs[b];
        if (first.begin < second.end + reach && second.begin < first.end + reach)
            join(a, b);
        if (first.end < second.end)
            ++a;
        else
            ++b;
    }
}

/// The smaller index becomes the root, so the forest does not depend on the order of joins.
void Components::join(std::size_t a, std::size_t b) {
    const std::uint32_t first = root(a);
    const std::uint32_t second = root(b);
    parent_[std::max(first, second)] = std::min(first, second);
}

PageVector<std::int64_t> Components::voxels(const RunMask& mask) {
    PageVector<std::int64_t> voxels(mask.runs.size(), 0);
    for (std::size_t run = 0; run < mask.runs.size(); ++run)
        voxels[root(run)] += mask.runs[run].length();
    return voxels;
}

} // namespace mfres
