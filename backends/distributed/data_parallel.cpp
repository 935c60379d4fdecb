// SPDX-License-Identifier: MIT
#include "backends/distributed/data_parallel.h"

#include "core/try.h"

#include <algorithm>

namespace mfres {

Communicator& ranks_of(const TrainingOptions& options) {
    return options.ranks ? *options.ranks : single_rank();
}

Status merge_moments(Communicator& ranks, double count, std::span<const double> pivots, std::span<Moments> moments) {
    if (ranks.alone() || moments.empty())
        return {};
    std::vector<double> sums;
    for (std::size_t i = 0; i < moments.size(); ++i) {
        const double distance = moments[i].mean - pivots[i];
        sums.push_back(count * distance);
        sums.push_back(count * (moments[i].variance + distance * distance));
    }
    MFRES_CHECK(ranks.all_reduce_sum(sums));
    const double all = count * ranks.size();
    for (std::size_t i = 0; i < moments.size(); ++i) {
        const double distance = sums[2 * i] / all;
        const double variance = sums[2 * i + 1] / all - distance * distance;
        moments[i] = {pivots[i] + distance, variance < 0.0 ? 0.0 : variance}; // std::max would turn NaN into 0
    }
    return {};
}

Status sum_classes(Communicator& ranks, std::span<ClassSums> sums) {
    if (ranks.alone())
        return {};
    std::vector<double> flat;
    for (const ClassSums& one : sums)
        flat.insert(flat.end(), {one.probability_truth, one.probability, one.probability_squared, one.truth});
    MFRES_CHECK(ranks.all_reduce_sum(flat));
    for (std::size_t i = 0; i < sums.size(); ++i)
        sums[i] = {flat[4 * i], flat[4 * i + 1], flat[4 * i + 2], flat[4 * i + 3]};
    return {};
}

std::vector<GradientBucket> gradient_buckets(const Graph& graph,
                                             const std::function<std::size_t(const Parameter&)>& offset_of,
                                             std::size_t floats, std::int64_t least_bytes) {
    const auto least = static_cast<std::size_t>(std::max<std::int64_t>(least_bytes, 1));
    std::vector<GradientBucket> buckets;
    std::size_t end = floats;
    for (NodeId id = graph.size(); id-- > 0 && end > 0;) {
        const auto& own = graph.node(id).parameters;
        if (own.empty())
            continue;
        const std::size_t first = offset_of(own.front());
        if (first == 0 || (end - first) * sizeof(float) >= least) {
            buckets.push_back({id, first, end});
            end = first;
        }
    }
    return buckets;
}

GradientSum::GradientSum(const Graph& graph, const ParameterStore& parameters, const TrainingOptions& options,
                         Start start, std::function<Status()> finish)
    : start_(std::move(start)), finish_(std::move(finish)) {
    if (ranks_of(options).alone())
        return;
    const auto offset = [&](const Parameter& parameter) { return parameters.offset(parameter); };
    buckets_ = gradient_buckets(graph, offset, parameters.floats(), options.bucket_bytes);
}

Status GradientSum::finished(NodeId from) {
    for (; next_ < buckets_.size() && buckets_[next_].from >= from; ++next_)
        MFRES_CHECK(start_(buckets_[next_].begin, buckets_[next_].end));
    return {};
}

Status GradientSum::finish() {
    if (buckets_.empty())
        return {};
    MFRES_CHECK(finished(0));
    return finish_();
}

} // namespace mfres
