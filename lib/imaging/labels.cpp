// SPDX-License-Identifier: MIT
#include "imaging/labels.h"

#include "core/names.h"
#include "core/try.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

namespace mfres {

namespace {

using ClassLabels = std::array<std::uint8_t, tumour_classes>;
using Histogram = std::array<std::int64_t, 256>;

constexpr ClassLabels class_indices = {0, 1, 2, 3};

std::string listed(const ClassLabels& values) {
    std::string list;
    for (const std::uint8_t value : values)
        list += text(list.empty() ? "" : ", ", static_cast<int>(value));
    return list;
}

Histogram count_values(const LabelMap& map) {
    Histogram counts{};
    for (const std::uint8_t value : map.labels)
        ++counts[value];
    return counts;
}

/// The error for the smallest value of the map that is not among `allowed`, if there is one.
std::optional<Error> stray_value(const LabelMap& map, const Histogram& counts, const ClassLabels& allowed,
                                 std::string_view kind, std::string_view source) {
    for (std::size_t value = 0; value < counts.size(); ++value) {
        if (counts[value] == 0 || std::find(allowed.begin(), allowed.end(), value) != allowed.end())
            continue;
        const auto first = std::find(map.labels.begin(), map.labels.end(), value) - map.labels.begin();
        const auto& size = map.grid.size;
        return Error{ErrorCode::label_outside_scheme,
                     text(source, " has ", counts[value], " voxels of the value ", value, ", the first at (",
                          first % size[0], ", ", first / size[0] % size[1], ", ", first / size[0] / size[1], "); ",
                          kind, " are ", listed(allowed)),
                     std::string(source)};
    }
    return std::nullopt;
}

/// Replaces from[c] by to[c]. Any other value is an error, and the map is unchanged then.
Status replace_values(LabelMap& map, const ClassLabels& from, const ClassLabels& to, std::string_view kind,
                      std::string_view source) {
    if (auto error = stray_value(map, count_values(map), from, kind, source))
        return *std::move(error);
    std::array<std::uint8_t, 256> table{};
    for (std::size_t c = 0; c < from.size(); ++c)
        table[from[c]] = to[c];
    for (std::uint8_t& value : map.labels)
        value = table[value];
    return {};
}

/// The value among `all` whose name() is `wanted`.
template <typename T, std::size_t count>
Result<T> by_name(const std::array<T, count>& all, std::string_view wanted, std::string_view kind) {
    std::string known;
    for (const T value : all) {
        if (name(value) == wanted)
            return value;
        known += text(known.empty() ? "" : ", ", name(value));
    }
    return Error{ErrorCode::invalid_argument, text("no ", kind, " is called \"", wanted, "\"; there are: ", known), {}};
}

} // namespace

std::string_view name(LabelScheme scheme) noexcept {
    switch (scheme) {
    case LabelScheme::brats: return "brats";
    case LabelScheme::brats2023: return "brats2023";
    }
    return "unknown";
}

Result<LabelScheme> label_scheme(std::string_view scheme_name) {
    return by_name(label_schemes, scheme_name, "label scheme");
}

LabelScheme scheme_shown_by(const LabelMap& labels) noexcept {
    const auto has = [&](std::uint8_t value) {
        return std::find(labels.labels.begin(), labels.labels.end(), value) != labels.labels.end();
    };
    return has(3) && !has(4) ? LabelScheme::brats2023 : LabelScheme::brats;
}

ClassLabels labels_of(LabelScheme scheme) noexcept {
    switch (scheme) {
    case LabelScheme::brats: return {0, 1, 2, 4};
    case LabelScheme::brats2023: return {0, 1, 2, 3};
    }
    return {};
}

Status classes_to_labels(LabelMap& map, LabelScheme scheme, std::string_view source) {
    return replace_values(map, class_indices, labels_of(scheme), "the network's classes", source);
}

Status labels_to_classes(LabelMap& map, LabelScheme scheme, std::string_view source) {
    return replace_values(map, labels_of(scheme), class_indices, text("labels of the scheme ", name(scheme)), source);
}

const ClassAppearance& appearance(int tumour_class) noexcept {
    static constexpr std::array<ClassAppearance, tumour_classes> appearances = {{
        {"background", {0, 0, 0}, false},
        {"necrotic core", {213, 94, 0}, true},
        {"oedema", {86, 180, 233}, true},
        {"enhancing tumour", {240, 228, 66}, true},
    }};
    return appearances[static_cast<std::size_t>(tumour_class)];
}

std::string_view name(TumourRegion region) noexcept {
    switch (region) {
    case TumourRegion::wt: return "WT";
    case TumourRegion::tc: return "TC";
    case TumourRegion::et: return "ET";
    }
    return "unknown";
}

std::string_view to_string(RegionDefinition definition) noexcept {
    switch (definition) {
    case RegionDefinition::brats: return "brats";
    case RegionDefinition::paper: return "paper";
    }
    return "unknown";
}

Result<RegionDefinition> parse_region_definition(std::string_view text) {
    return parse_name("region definition", region_definitions, text);
}

ClassSet region_classes(TumourRegion region, RegionDefinition definition) noexcept {
    const bool with_enhancing = definition == RegionDefinition::brats;
    switch (region) {
    case TumourRegion::wt: return {false, true, true, with_enhancing};
    case TumourRegion::tc: return {false, true, false, with_enhancing};
    case TumourRegion::et: return {false, false, false, true};
    }
    return {};
}

std::int64_t relabel_small_enhancing(LabelMap& classes, double least_mm3) noexcept {
    constexpr std::uint8_t core = 1;
    constexpr std::uint8_t enhancing = 3;
    const std::int64_t voxels = std::count(classes.labels.begin(), classes.labels.end(), enhancing);
    const double mm3 = static_cast<double>(voxels) * voxel_millilitres(classes.grid) * 1000.0;
    if (mm3 >= least_mm3)
        return 0;
    std::replace(classes.labels.begin(), classes.labels.end(), enhancing, core);
    return voxels;
}

namespace {

/// The connected component of the tumour that contains voxel `seed`, as indices into the map; marks its voxels in
/// `taken`.
std::vector<std::int64_t> take_component(const LabelMap& classes, std::int64_t seed, std::vector<bool>& taken) {
    const auto& size = classes.grid.size;
    std::vector<std::int64_t> component{seed};
    taken[static_cast<std::size_t>(seed)] = true;
    for (std::size_t next = 0; next < component.size(); ++next) {
        const std::int64_t i = component[next] % size[0];
        const std::int64_t j = component[next] / size[0] % size[1];
        const std::int64_t k = component[next] / size[0] / size[1];
        for (std::int64_t nk = std::max<std::int64_t>(k - 1, 0); nk < std::min(k + 2, size[2]); ++nk)
            for (std::int64_t nj = std::max<std::int64_t>(j - 1, 0); nj < std::min(j + 2, size[1]); ++nj)
                for (std::int64_t ni = std::max<std::int64_t>(i - 1, 0); ni < std::min(i + 2, size[0]); ++ni) {
                    const std::int64_t neighbour = ni + size[0] * (nj + size[1] * nk);
                    const auto index = static_cast<std::size_t>(neighbour);
                    if (classes.labels[index] != 0 && !taken[index]) {
                        taken[index] = true;
                        component.push_back(neighbour);
                    }
                }
    }
    return component;
}

} // namespace

std::int64_t remove_small_components(LabelMap& classes, double least_mm3) {
    if (least_mm3 <= 0.0)
        return 0;
    const double voxel_mm3 = voxel_millilitres(classes.grid) * 1000.0;
    std::vector<bool> taken(classes.labels.size(), false);
    std::vector<std::int64_t> small;   // voxels to relabel
    std::vector<std::int64_t> largest; // the largest component so far
    for (std::size_t seed = 0; seed < classes.labels.size(); ++seed) {
        if (classes.labels[seed] == 0 || taken[seed])
            continue;
        std::vector<std::int64_t> component = take_component(classes, static_cast<std::int64_t>(seed), taken);
        if (component.size() > largest.size())
            component.swap(largest);
        if (static_cast<double>(component.size()) * voxel_mm3 < least_mm3)
            small.insert(small.end(), component.begin(), component.end());
    }
    for (const std::int64_t voxel : small)
        classes.labels[static_cast<std::size_t>(voxel)] = 0;
    return static_cast<std::int64_t>(small.size());
}

double voxel_millilitres(const Grid& grid) noexcept {
    const auto& a = grid.affine;
    const double determinant = a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1]) -
                               a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0]) +
                               a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0]);
    return std::abs(determinant) / 1000.0;
}

Result<TumourVolumes> tumour_volumes(const LabelMap& classes, RegionDefinition definition, std::string_view source) {
    const Histogram counts = count_values(classes);
    if (auto error = stray_value(classes, counts, class_indices, "the network's classes", source))
        return *std::move(error);
    const double millilitres = voxel_millilitres(classes.grid);
    const auto part = [millilitres](std::int64_t voxels) {
        return PartVolume{voxels, static_cast<double>(voxels) * millilitres};
    };
    TumourVolumes volumes;
    volumes.definition = definition;
    for (std::size_t c = 0; c < volumes.classes.size(); ++c)
        volumes.classes[c] = part(counts[c]);
    for (std::size_t r = 0; r < tumour_regions.size(); ++r) {
        const ClassSet members = region_classes(tumour_regions[r], definition);
        std::int64_t voxels = 0;
        for (std::size_t c = 0; c < members.size(); ++c)
            voxels += members[c] ? counts[c] : 0;
        volumes.regions[r] = part(voxels);
    }
    return volumes;
}

} // namespace mfres
