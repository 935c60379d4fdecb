// SPDX-License-Identifier: MIT
#include <mfres/sweep.h>

#include <algorithm>
#include <map>

namespace mfres {

namespace {

bool same_counts(const ComplexityCounts& a, const ComplexityCounts& b) {
    return a.learnables == b.learnables && a.macs == b.macs && a.table2_flops == b.table2_flops &&
           a.eq11_parameters == b.eq11_parameters && a.activation_bytes == b.activation_bytes &&
           a.bytes_read == b.bytes_read && a.bytes_written == b.bytes_written;
}

/// Parts of both networks in the order of `a`; a part that only `b` has follows the part in front of it there.
template <typename Part, typename Operation>
std::vector<ComparedPart> matched(const std::vector<Part>& a, const std::vector<Part>& b, const Operation& operation) {
    std::map<std::string, std::vector<std::size_t>, std::less<>> places; // of b, by name
    for (std::size_t i = 0; i < b.size(); ++i)
        places[b[i].name].push_back(i);
    std::map<std::string, std::size_t, std::less<>> taken;
    std::vector<bool> paired(b.size(), false);
    std::vector<ComparedPart> all;
    std::vector<std::size_t> partner_of;
    for (const Part& part : a) {
        const auto found = places.find(part.name);
        std::size_t& used = taken[part.name];
        ComparedPart both{part.name, operation(part), std::nullopt, part.counts, std::nullopt, false};
        std::size_t partner = b.size();
        if (found != places.end() && used < found->second.size()) {
            partner = found->second[used++];
            paired[partner] = true;
            both.operation_b = operation(b[partner]);
            both.b = b[partner].counts;
            both.equal = both.operation_a == both.operation_b && same_counts(part.counts, b[partner].counts);
        }
        all.push_back(std::move(both));
        partner_of.push_back(partner);
    }
    std::vector<ComparedPart> ordered;
    const auto add_from_b = [&](std::size_t from) {
        for (std::size_t i = from; i < b.size() && !paired[i]; ++i)
            ordered.push_back({b[i].name, std::nullopt, operation(b[i]), std::nullopt, b[i].counts, false});
    };
    add_from_b(0);
    for (std::size_t i = 0; i < all.size(); ++i) {
        ordered.push_back(std::move(all[i]));
        if (partner_of[i] < b.size())
            add_from_b(partner_of[i] + 1);
    }
    return ordered;
}

} // namespace

ComplexityComparison compare(ComplexityReport a, ComplexityReport b) {
    ComplexityComparison comparison;
    comparison.stages = matched(a.stages, b.stages, [](const StageComplexity&) { return std::string(); });
    comparison.layers = matched(a.layers, b.layers, [](const LayerComplexity& layer) { return layer.operation; });
    comparison.a = std::move(a);
    comparison.b = std::move(b);
    return comparison;
}

} // namespace mfres
