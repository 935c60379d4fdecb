// SPDX-License-Identifier: MIT
#include "imaging/labels.h"

#include "core/names.h"
#include "core/runs.h"
#include "core/try.h"
#include "imaging/run_mask.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

namespace mfres {

namespace {

constexpr auto label_scheme_names = enum_names<LabelScheme>({{LabelScheme::brats, "brats"},
                                                             {LabelScheme::brats2023, "brats2023"},
                                                             {LabelScheme::brats2024, "brats2024"},
                                                             {LabelScheme::brats_ped, "brats-ped"},
                                                             {LabelScheme::msd, "msd"}});
constexpr auto region_definition_names =
    enum_names<RegionDefinition>({{RegionDefinition::brats, "brats"}, {RegionDefinition::paper, "paper"}});

constexpr std::uint8_t background_class = 0;
constexpr std::uint8_t core_class = 1;
/// What a mapping calls the classes.
constexpr std::array<std::string_view, tumour_classes> mapping_words = {"bg", "ncr", "ed", "et"};

/// What each value is replaced by; not_allowed for those that must not occur.
using Replacement = std::array<int, 256>;

constexpr int not_allowed = -1;

/// Calls visit(value, begin, end) for each run of one value, in their order. It may change the values of its run.
template <typename Visit>
void visit_runs(std::span<const std::uint8_t> labels, const Visit& visit) {
    const std::uint8_t* const all = labels.data();
    for (std::size_t begin = 0; begin < labels.size();) {
        const auto end = static_cast<std::size_t>(first_other(all + begin, all + labels.size(), all[begin]) - all);
        visit(all[begin], begin, end);
        begin = end;
    }
}

ValueCounts count_values(const LabelMap& map) {
    ValueCounts counts;
    counts.add(map.labels);
    return counts;
}

Replacement nothing_allowed() {
    Replacement table;
    table.fill(not_allowed);
    return table;
}

Replacement classes_themselves() {
    Replacement table = nothing_allowed();
    for (int c = 0; c < tumour_classes; ++c)
        table[static_cast<std::size_t>(c)] = c;
    return table;
}

std::string allowed_values(const Replacement& table) {
    std::string list;
    for (std::size_t value = 0; value < table.size(); ++value)
        if (table[value] != not_allowed)
            list += text(list.empty() ? "" : ", ", value);
    return list;
}

Replacement labels_of_classes(const LabelCoding& coding) {
    Replacement table = nothing_allowed();
    for (int c = 0; c < tumour_classes; ++c)
        if (const auto label = coding.label_of(c))
            table[static_cast<std::size_t>(c)] = *label;
    return table;
}
constexpr std::string_view kind_of_classes = "the classes that can be written in the scheme ";

/// The error for the smallest value that is not allowed, if there is one. `size` is that of the map.
std::optional<Error> stray_value(const std::array<std::int64_t, 3>& size, const ValueCounts& found,
                                 const Replacement& table, std::string_view kind, std::string_view scheme,
                                 std::string_view source) {
    for (std::size_t value = 0; value < found.counts.size(); ++value) {
        if (found.counts[value] == 0 || table[value] != not_allowed)
            continue;
        const std::int64_t first = found.first[value];
        return Error{ErrorCode::label_outside_scheme,
                     text(source, " has ", found.counts[value], " voxels of the value ", value, ", the first at (",
                          first % size[0], ", ", first / size[0] % size[1], ", ", first / size[0] / size[1], "); ",
                          kind, scheme, " are ", allowed_values(table)),
                     std::string(source)};
    }
    return std::nullopt;
}

/// Replaces every value as the table says. One that is not allowed is an error, and the map is unchanged then.
/// `kind` and `scheme` are words of the error.
Status replace_values(LabelMap& map, const Replacement& table, std::string_view kind, std::string_view scheme,
                      std::string_view source) {
    if (auto error = stray_value(map.grid.size, count_values(map), table, kind, scheme, source))
        return *std::move(error);
    for (std::uint8_t& value : map.labels)
        value = static_cast<std::uint8_t>(table[value]);
    return {};
}

} // namespace

std::string_view name(LabelScheme scheme) noexcept {
    return label_scheme_names.of(scheme);
}

Result<LabelScheme> label_scheme(std::string_view scheme_name) {
    return label_scheme_names.parse("label scheme", scheme_name);
}

std::array<std::uint8_t, tumour_classes> labels_of(LabelScheme scheme) noexcept {
    switch (scheme) {
    case LabelScheme::brats: return {0, 1, 2, 4};
    case LabelScheme::brats2023:
    case LabelScheme::brats2024: return {0, 1, 2, 3};
    case LabelScheme::brats_ped: return {0, 2, 4, 1};
    case LabelScheme::msd: return {0, 2, 1, 3};
    }
    return {};
}

LabelCoding::LabelCoding(LabelScheme scheme) : name_(mfres::name(scheme)) {
    const auto written = mfres::labels_of(scheme);
    for (std::uint8_t c = 0; c < tumour_classes; ++c)
        add(written[c], c);
    if (scheme == LabelScheme::brats2024)
        add(4, background_class); // the resection cavity
    if (scheme == LabelScheme::brats_ped)
        add(3, core_class); // cysts
}

Result<LabelCoding> LabelCoding::parse(std::string_view words) {
    if (words.find(':') == std::string_view::npos) {
        MFRES_TRY(const LabelScheme scheme, label_scheme(words));
        return LabelCoding(scheme);
    }
    const auto bad = [&](std::string_view pair) {
        return Error{ErrorCode::invalid_argument,
                     text("'", pair, "' in the label mapping '", words,
                          "' is not understood: it takes values from 1 to 255, each once, and bg, ncr, ed or et, like "
                          "1:ncr,2:ed,3:et"),
                     std::string(words)};
    };
    LabelCoding coding;
    coding.name_ = words;
    coding.add(0, background_class);
    for (std::size_t begin = 0; begin <= words.size();) {
        const std::size_t end = std::min(words.find(',', begin), words.size());
        const std::string_view pair = words.substr(begin, end - begin);
        begin = end + 1;
        unsigned value = 0;
        const auto [rest, problem] = std::from_chars(pair.data(), pair.data() + pair.size(), value);
        const std::string_view word = pair.substr(static_cast<std::size_t>(rest - pair.data()));
        const auto known = std::find(mapping_words.begin(), mapping_words.end(), word.substr(word.empty() ? 0 : 1));
        if (problem != std::errc() || value < 1 || value > 255 || !word.starts_with(':') ||
            known == mapping_words.end() || coding.class_of(static_cast<std::uint8_t>(value)))
            return bad(pair);
        coding.add(static_cast<std::uint8_t>(value), static_cast<std::uint8_t>(known - mapping_words.begin()));
    }
    return coding;
}

std::optional<int> LabelCoding::class_of(std::uint8_t value) const {
    for (const auto& [label, tumour_class] : meanings_)
        if (label == value)
            return tumour_class;
    return std::nullopt;
}

std::vector<std::uint8_t> LabelCoding::labels_of(int tumour_class) const {
    std::vector<std::uint8_t> labels;
    for (const auto& [label, of] : meanings_)
        if (of == tumour_class)
            labels.push_back(label);
    std::sort(labels.begin(), labels.end());
    return labels;
}

std::optional<std::uint8_t> LabelCoding::label_of(int tumour_class) const {
    for (const auto& [label, of] : meanings_)
        if (of == tumour_class)
            return label;
    return std::nullopt;
}

std::string LabelCoding::legend() const {
    auto sorted = meanings_;
    std::sort(sorted.begin(), sorted.end());
    std::string list;
    for (const auto& [label, tumour_class] : sorted)
        list += text(list.empty() ? "" : ", ", static_cast<int>(label), ' ', appearance(tumour_class).name);
    return list;
}

Status classes_to_labels(LabelMap& map, const LabelCoding& coding, std::string_view source) {
    return replace_values(map, labels_of_classes(coding), kind_of_classes, coding.name(), source);
}

Status labels_to_classes(LabelMap& map, const LabelCoding& coding, std::string_view source) {
    Replacement table = nothing_allowed();
    for (std::size_t value = 0; value < table.size(); ++value)
        table[value] = coding.class_of(static_cast<std::uint8_t>(value)).value_or(not_allowed);
    return replace_values(map, table, "labels of the scheme ", coding.name(), source);
}

std::int64_t count_set_aside(const LabelMap& labels, const LabelCoding& coding) {
    const ValueCounts found = count_values(labels);
    std::int64_t voxels = 0;
    for (std::size_t value = 1; value < found.counts.size(); ++value)
        if (coding.class_of(static_cast<std::uint8_t>(value)) == background_class)
            voxels += found.counts[value];
    return voxels;
}

const ClassAppearance& appearance(int tumour_class) noexcept {
    static constexpr std::array<ClassAppearance, tumour_classes> appearances = {{
        {"background", {0, 0, 0}, false},
        {"necrotic core", {60, 80, 235}, true},
        {"oedema", {95, 190, 250}, true},
        {"enhancing tumour", {250, 230, 60}, true},
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
    return region_definition_names.of(definition);
}

Result<RegionDefinition> parse_region_definition(std::string_view text) {
    return region_definition_names.parse("region definition", text);
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

std::int64_t relabel_small_enhancing(LabelMap& classes, double least_mm3, double least_share) noexcept {
    constexpr std::uint8_t enhancing = 3;
    if (least_mm3 <= 0.0 && least_share <= 0.0)
        return 0;
    const ValueCounts found = count_values(classes);
    const std::int64_t voxels = found.counts[enhancing];
    const std::int64_t core = voxels + found.counts[core_class];
    const double mm3 = static_cast<double>(voxels) * voxel_millilitres(classes.grid) * 1000.0;
    if (mm3 >= least_mm3 && static_cast<double>(voxels) >= least_share * static_cast<double>(core))
        return 0;
    visit_runs(classes.labels, [&](std::uint8_t value, std::size_t begin, std::size_t end) {
        if (value == enhancing)
            std::fill(&classes.labels[begin], &classes.labels[end - 1] + 1, core_class);
    });
    return voxels;
}

namespace {

/// The voxels of all classes but background.
RunMask tumour_of(const LabelMap& classes) {
    RunMask mask;
    mask.size = classes.grid.size;
    const std::int64_t width = mask.size[0];
    const std::int64_t rows = mask.size[1] * mask.size[2];
    mask.first_run.reserve(static_cast<std::size_t>(rows + 1));
    for (std::int64_t row = 0; row < rows; ++row) {
        mask.first_run.push_back(mask.runs.size());
        const std::uint8_t* const begin = classes.labels.data() + row * width;
        const std::uint8_t* const end = begin + width;
        for (const std::uint8_t* at = first_other(begin, end, background_class); at < end;) {
            const std::uint8_t* const run_end = std::find(at, end, background_class);
            mask.runs.push_back({static_cast<std::int32_t>(at - begin), static_cast<std::int32_t>(run_end - begin)});
            at = first_other(run_end, end, background_class);
        }
    }
    mask.first_run.push_back(mask.runs.size());
    return mask;
}

} // namespace

std::int64_t remove_small_components(LabelMap& classes, double least_mm3) {
    if (least_mm3 <= 0.0)
        return 0;
    const double voxel_mm3 = voxel_millilitres(classes.grid) * 1000.0;
    const RunMask tumour = tumour_of(classes);
    Components components(tumour, Neighbours::all);
    const PageVector<std::int64_t> voxels = components.voxels(tumour);
    // Of equally large ones the first.
    const auto largest = static_cast<std::size_t>(std::max_element(voxels.begin(), voxels.end()) - voxels.begin());
    std::int64_t removed = 0;
    for (std::size_t row = 0; row + 1 < tumour.first_run.size(); ++row)
        for (std::size_t run = tumour.first_run[row]; run < tumour.first_run[row + 1]; ++run) {
            const std::size_t root = components.root(run);
            if (root == largest || static_cast<double>(voxels[root]) * voxel_mm3 >= least_mm3)
                continue;
            const VoxelRun& small = tumour.runs[run];
            const std::int64_t begin = static_cast<std::int64_t>(row) * tumour.size[0] + small.begin;
            std::fill_n(classes.labels.begin() + begin, small.length(), background_class);
            removed += small.length();
        }
    return removed;
}

double voxel_millilitres(const Grid& grid) noexcept {
    const auto& a = grid.affine;
    const double determinant = a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1]) -
                               a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0]) +
                               a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0]);
    return std::abs(determinant) / 1000.0;
}

namespace {

Result<TumourVolumes> volumes_of(const ValueCounts& found, const Grid& grid, RegionDefinition definition,
                                 std::string_view source) {
    if (auto error = stray_value(grid.size, found, classes_themselves(), "the network's classes", "", source))
        return *std::move(error);
    const double millilitres = voxel_millilitres(grid);
    const auto part = [millilitres](std::int64_t voxels) {
        return PartVolume{voxels, static_cast<double>(voxels) * millilitres};
    };
    TumourVolumes volumes;
    volumes.definition = definition;
    for (std::size_t c = 0; c < volumes.classes.size(); ++c)
        volumes.classes[c] = part(found.counts[c]);
    for (std::size_t r = 0; r < tumour_regions.size(); ++r) {
        const ClassSet members = region_classes(tumour_regions[r], definition);
        std::int64_t voxels = 0;
        for (std::size_t c = 0; c < members.size(); ++c)
            voxels += members[c] ? found.counts[c] : 0;
        volumes.regions[r] = part(voxels);
    }
    return volumes;
}

} // namespace

void ValueCounts::add(std::span<const std::uint8_t> labels) {
    visit_runs(labels, [this](std::uint8_t value, std::size_t begin, std::size_t end) {
        if (counts[value] == 0)
            first[value] = voxels;
        counts[value] += static_cast<std::int64_t>(end - begin);
        voxels += static_cast<std::int64_t>(end - begin);
    });
}

LabelTranslation::LabelTranslation(const LabelCoding& coding) : coding_(coding) {
    for (std::uint8_t c = 0; c < tumour_classes; ++c)
        labels_[c] = coding.label_of(c).value_or(0);
}

void LabelTranslation::replace(std::span<std::uint8_t> classes) {
    counts_.add(classes);
    visit_runs(classes, [&](std::uint8_t value, std::size_t begin, std::size_t end) {
        if (labels_[value] != value)
            std::fill(&classes[begin], &classes[end - 1] + 1, labels_[value]);
    });
}

Result<TumourVolumes> LabelTranslation::finish(const Grid& grid, RegionDefinition definition,
                                               std::string_view source) const {
    MFRES_TRY(const TumourVolumes volumes, volumes_of(counts_, grid, definition, source));
    if (auto error =
            stray_value(grid.size, counts_, labels_of_classes(coding_), kind_of_classes, coding_.name(), source))
        return *std::move(error);
    return volumes;
}

Result<TumourVolumes> tumour_volumes(const LabelMap& classes, RegionDefinition definition, std::string_view source) {
    return volumes_of(count_values(classes), classes.grid, definition, source);
}

} // namespace mfres
