// SPDX-License-Identifier: MIT
#include <mfres/sweep.h>

#include "core/checked.h"
#include "core/guard.h"
#include "core/json.h"
#include "graph/complexity.h"
#include "networks/family.h"
#include "networks/registry.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

constexpr std::int64_t width_step = 8; // of scaled widths

Error bad_value(const SweepAxis& axis, const std::string& value, const std::string& allowed) {
    return {ErrorCode::invalid_argument, text("the sweep's ", axis.key, " cannot be ", value, "; it is ", allowed),
            axis.key};
}

/// "96" or "[240, 240, 160]" as JSON.
Result<std::array<std::int64_t, 3>> size_of(const SweepAxis& axis, const std::string& value) {
    MFRES_TRY(const Json json, parse_json(value, axis.key));
    std::array<std::int64_t, 3> size{};
    const auto extent = [](const Json& entry) { return entry.is_number_integer() ? entry.get<std::int64_t>() : 0; };
    for (std::size_t i = 0; i < 3; ++i)
        size[i] = json.is_array() && json.size() == 3 ? extent(json[i]) : extent(json);
    if (*std::min_element(size.begin(), size.end()) < 1)
        return bad_value(axis, value, "a number of voxels, or a list of three");
    return size;
}

Json scaled(const Json& widths, double factor) {
    Json result = Json::array();
    for (const Json& width : widths) {
        const double steps = std::round(width.get<double>() * factor / static_cast<double>(width_step));
        result.push_back(std::max<std::int64_t>(1, static_cast<std::int64_t>(steps)) * width_step);
    }
    return result;
}

class Sweep {
  public:
    Sweep(const SweepOptions& options, const Progress& progress) : options_(options), progress_(progress) {}

    Result<SweepReport> run() {
        MFRES_TRY(const Variant base, parse_variant(options_.network));
        MFRES_TRY(base_, parse_json(base.json(), "variant"));
        report_.network = base.name();
        report_.budget = options_.budget;
        report_.predicted = options_.predict != nullptr;
        MFRES_TRY(const std::int64_t combinations, check_axes(base));
        for (std::int64_t i = 0; i < combinations; ++i) {
            if (progress_ && i % 16 == 0 &&
                !progress_("sweep", static_cast<double>(i) / static_cast<double>(combinations)))
                return Error{ErrorCode::interrupted, "the sweep was stopped on request", {}};
            MFRES_CHECK(add(i));
        }
        mark_pareto();
        return std::move(report_);
    }

  private:
    Result<std::int64_t> check_axes(const Variant& base) {
        if (options_.axes.empty())
            return Error{ErrorCode::invalid_argument, "a sweep needs a key to vary: splits=2|4, say", "sweep"};
        std::int64_t combinations = 1;
        for (const SweepAxis& axis : options_.axes) {
            const auto& keys = base.family().options;
            const bool own = std::any_of(keys.begin(), keys.end(), [&](const Option& o) { return o.key == axis.key; });
            if (!own && axis.key != "size" && axis.key != "scale")
                return Error{ErrorCode::invalid_argument,
                             text(base.name(), " has no key '", axis.key,
                                  "'; mfres complexity --list shows its keys, and there are size and scale"),
                             axis.key};
            for (const std::string& value : axis.values)
                MFRES_CHECK(check_value(axis, value));
            combinations = checked_multiply(combinations, static_cast<std::int64_t>(axis.values.size()))
                               .value_or(max_sweep_variants + 1);
            report_.keys.push_back(axis.key);
        }
        if (combinations < 1 || combinations > max_sweep_variants)
            return Error{ErrorCode::invalid_argument,
                         text("the sweep has ", combinations, " combinations, allowed are 1 to ", max_sweep_variants),
                         "sweep"};
        return combinations;
    }

    static Status check_value(const SweepAxis& axis, const std::string& value) {
        MFRES_TRY(const Json json, parse_json(value, axis.key));
        if (axis.key == "size")
            MFRES_CHECK(size_of(axis, value));
        if (axis.key == "scale" && !(json.is_number() && json.get<double>() > 0.0 && json.get<double>() <= 64.0))
            return bad_value(axis, value, "a factor above 0, at most 64");
        return {};
    }

    /// Values of combination `index`, the last axis fastest.
    std::vector<std::string> values_of(std::int64_t index) const {
        std::vector<std::string> values(options_.axes.size());
        for (std::size_t axis = values.size(); axis-- > 0;) {
            const auto& all = options_.axes[axis].values;
            values[axis] = all[static_cast<std::size_t>(index) % all.size()];
            index /= static_cast<std::int64_t>(all.size());
        }
        return values;
    }

    /// Keys first, then the scale of the widths that result.
    Result<Json> variant_of(const std::vector<std::string>& values, std::array<std::int64_t, 3>& size) const {
        Json variant = base_;
        double factor = 1.0;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const SweepAxis& axis = options_.axes[i];
            if (axis.key == "size") {
                MFRES_TRY(size, size_of(axis, values[i]));
                continue;
            }
            MFRES_TRY(Json value, parse_json(values[i], axis.key));
            if (axis.key == "scale")
                factor = value.get<double>();
            else
                variant[axis.key] = std::move(value);
        }
        for (const char* key : {"widths", "decoder"})
            if (factor != 1.0 && variant.contains(key) && variant[key].is_array())
                variant[key] = scaled(variant[key], factor);
        return variant;
    }

    /// Counts a combination, or notes why it is no variant.
    Status add(std::int64_t index) {
        SweepVariant entry;
        entry.values = values_of(index);
        entry.size = options_.size;
        MFRES_TRY(const Json json, variant_of(entry.values, entry.size));
        const auto counted = count(json, entry);
        if (!counted && counted.error().code == ErrorCode::internal)
            return counted;
        if (counted)
            report_.variants.push_back(std::move(entry));
        else
            report_.rejected.push_back({std::move(entry.values), counted.error().message});
        return {};
    }

    Status count(const Json& json, SweepVariant& entry) const {
        MFRES_TRY(const Variant variant, parse_variant(json.dump()));
        MFRES_TRY(const Graph graph, build_network(variant, entry.size, options_.batch));
        MFRES_TRY(const GraphCounts counts, count_operations(graph, variant.family().seen_by_table2));
        entry.json = variant.json();
        entry.parameters = counts.total.learnables;
        entry.macs = counts.total.macs;
        entry.table2_flops = counts.total.table2_flops;
        std::int64_t scalars = 0;
        for (const Node& node : graph.nodes())
            for (const Parameter& parameter : node.parameters)
                scalars += parameter.shape.elements();
        entry.bytes = scalars * static_cast<std::int64_t>(sizeof(float)) + plan_activations(graph).planned;
        if (options_.predict) {
            MFRES_TRY(const double ms, options_.predict(entry.json, entry.size));
            entry.ms = ms;
        }
        const SweepBudget& budget = options_.budget;
        entry.within = entry.parameters <= budget.parameters.value_or(entry.parameters) &&
                       entry.macs <= budget.macs.value_or(entry.macs) &&
                       entry.bytes <= budget.bytes.value_or(entry.bytes) &&
                       (!entry.ms || *entry.ms <= budget.ms.value_or(*entry.ms));
        return {};
    }

    static double cost(const SweepVariant& variant) { return variant.ms.value_or(static_cast<double>(variant.macs)); }

    /// From the cheapest on, a variant is on the front if it has more parameters than all cheaper ones.
    void mark_pareto() {
        std::vector<SweepVariant*> order;
        for (SweepVariant& variant : report_.variants)
            if (variant.within)
                order.push_back(&variant);
        std::stable_sort(order.begin(), order.end(), [](const SweepVariant* a, const SweepVariant* b) {
            return cost(*a) != cost(*b) ? cost(*a) < cost(*b) : a->parameters > b->parameters;
        });
        std::int64_t most = -1;
        for (SweepVariant* variant : order)
            if (variant->parameters > most) {
                variant->pareto = true;
                most = variant->parameters;
            }
    }

    const SweepOptions& options_;
    const Progress& progress_;
    Json base_;
    SweepReport report_;
};

} // namespace

Result<SweepReport> sweep(const SweepOptions& options, const Progress& progress) {
    return guarded("sweep", [&] { return Sweep(options, progress).run(); });
}

} // namespace mfres
