#include "backends/data_parallel.h"

#include "core/try.h"

#include <algorithm>

namespace mfres {

Communicator& ranks_of(const TrainingOptions& options) {
    return options.ranks ? *options.ranks : lone_rank();
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
        moments[i] = {pivots[i] + distance, variance < 0.0 ? 0.0 : variance}; // a maximum would turn NaN into 0
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

GradientSum::GradientSum(const Graph& graph, HostParameters& parameters, Communicator& ranks)
    : parameters_(parameters), ranks_(ranks), first_(static_cast<std::size_t>(graph.size())) {
    const std::span<float> all = parameters.flat_gradients();
    std::size_t first = all.size();
    for (std::size_t id = first_.size(); id-- > 0;) {
        if (const auto& own = graph.nodes()[id].parameters; !own.empty())
            first = static_cast<std::size_t>(parameters.gradient(own.front().name) - all.data());
        first_[id] = first;
    }
}

Status GradientSum::finished(NodeId from) {
    constexpr std::size_t least = (std::size_t{2} << 20U) / sizeof(float);
    const std::size_t first = first_[static_cast<std::size_t>(from)];
    if (ranks_.alone() || first + least > end_)
        return {};
    MFRES_CHECK(ranks_.start_sum(parameters_.flat_gradients().subspan(first, end_ - first)));
    end_ = first;
    return {};
}

Status GradientSum::finish() {
    if (ranks_.alone())
        return {};
    if (end_ > 0)
        MFRES_CHECK(ranks_.start_sum(parameters_.flat_gradients().first(end_)));
    end_ = 0;
    return ranks_.finish_sums();
}

} // namespace mfres
