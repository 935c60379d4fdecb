// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "imaging/label_evidence.h"
#include "imaging/label_table.h"
#include "support/catch.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>
#include <string>

using namespace mfres;

namespace {

/// A 5 x 3 x 2 map with voxels of 1 x 2 x 3 mm.
LabelMap map_of(std::vector<std::uint8_t> labels) {
    labels.resize(30, 0);
    return {{{5, 3, 2}, {{{-1, 0, 0, 0}, {0, -2, 0, 0}, {0, 0, 3, 0}}}}, std::move(labels)};
}

} // namespace

TEST_CASE("label schemes are found by name, and an unknown name lists the known ones") {
    for (const LabelScheme scheme : label_schemes) {
        const auto found = label_scheme(name(scheme));
        REQUIRE_OK(found);
        CHECK(*found == scheme);
    }
    CHECK(*label_scheme("brats2023") == LabelScheme::brats2023);
    const auto rejected = label_scheme("BRATS");
    REQUIRE_CODE(rejected, invalid_argument);
    CHECK(rejected.error().message.find("'BRATS'") != std::string::npos);
    CHECK(rejected.error().message.find("brats, brats2023, brats2024, brats-ped, msd") != std::string::npos);
}

TEST_CASE("every scheme gives its labels the classes of its publication, and writes one value per class") {
    struct Case {
        LabelScheme scheme;
        std::vector<std::uint8_t> labels;
        std::vector<std::uint8_t> classes;
        std::vector<std::uint8_t> written; // of classes 0, 1, 2, 3
    };
    for (const Case& one : {Case{LabelScheme::brats, {0, 1, 2, 4}, {0, 1, 2, 3}, {0, 1, 2, 4}},
                            Case{LabelScheme::brats2023, {0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}},
                            Case{LabelScheme::brats2024, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 0}, {0, 1, 2, 3}},
                            Case{LabelScheme::brats_ped, {0, 1, 2, 3, 4}, {0, 3, 1, 1, 2}, {0, 2, 4, 1}},
                            Case{LabelScheme::msd, {0, 1, 2, 3}, {0, 2, 1, 3}, {0, 2, 1, 3}}}) {
        INFO(name(one.scheme));
        LabelMap map = map_of(one.labels);
        REQUIRE_OK(labels_to_classes(map, one.scheme, "case"));
        CHECK(map.labels == map_of(one.classes).labels);
        LabelMap classes = map_of({0, 1, 2, 3});
        REQUIRE_OK(classes_to_labels(classes, one.scheme, "case"));
        CHECK(classes.labels == map_of(one.written).labels);
    }
    CHECK(count_set_aside(map_of({4, 4, 3, 1}), LabelScheme::brats2024) == 2);
    CHECK(count_set_aside(map_of({4, 4, 3, 1}), LabelScheme::brats_ped) == 0);
}

TEST_CASE("a mapping says what values stand for, and one that is not understood is rejected with its pair") {
    const auto mapping = LabelCoding::parse("1:ncr,2:ed,5:et,7:et,9:bg");
    REQUIRE_OK(mapping);
    CHECK(mapping->name() == "1:ncr,2:ed,5:et,7:et,9:bg");
    CHECK(mapping->legend() == "0 background, 1 necrotic core, 2 oedema, 5 enhancing tumour, 7 enhancing tumour, "
                               "9 background");
    LabelMap map = map_of({0, 1, 2, 5, 7, 9});
    CHECK(count_set_aside(map, *mapping) == 1);
    REQUIRE_OK(labels_to_classes(map, *mapping, "case"));
    CHECK(map.labels == map_of({0, 1, 2, 3, 3, 0}).labels);
    REQUIRE_OK(classes_to_labels(map, *mapping, "case"));
    CHECK(map.labels == map_of({0, 1, 2, 5, 5, 0}).labels);
    for (const char* bad : {"1:necrosis", "1:ncr,1:ed", "0:et", "256:et", "1:", ":et", "1:ncr,", "1 :ncr", "-1:et"}) {
        INFO(bad);
        REQUIRE_CODE(LabelCoding::parse(bad), invalid_argument);
    }
    CHECK(LabelCoding::parse("2:ed,x:et").error().message.find("'x:et'") != std::string::npos);

    const auto partial = LabelCoding::parse("1:ed");
    REQUIRE_OK(partial);
    LabelMap enhancing = map_of({0, 2, 3});
    REQUIRE_CODE(classes_to_labels(enhancing, *partial, "case"), label_outside_scheme);
}

TEST_CASE("the scheme of a data set is chosen from all its files, or found to be unclear") {
    const auto of = [](const std::vector<std::vector<std::uint8_t>>& files, const std::string& file = "a_seg.nii") {
        LabelEvidence evidence;
        for (const auto& labels : files)
            evidence.add(map_of(labels), file);
        return evidence;
    };
    const auto brats = of({{1, 2}, {1, 4}, {}}); // a lone low-grade case decides nothing
    REQUIRE_OK(brats.scheme("set"));
    CHECK(*brats.scheme("set") == LabelScheme::brats);
    CHECK(brats.sentence() == "of 3 segmentations, 1 holds a 4 and none a 3");
    CHECK(*of({{1, 2}, {3}}).scheme("set") == LabelScheme::brats2023);
    CHECK(*of({{1, 4}, {1, 2, 3}}, "BraTS-PED-00001-000-seg.nii.gz").scheme("set") == LabelScheme::brats_ped);
    CHECK(*of({{}, {}}).scheme("set") == LabelScheme::brats); // nothing is labelled: all schemes agree

    const auto mixed = of({{1, 3}, {2, 4}});
    CHECK(mixed.kind() == LabelEvidence::Kind::mixed);
    REQUIRE_CODE(mixed.scheme("the set"), label_scheme_unclear);
    CHECK(mixed.scheme("the set").error().message.find("1 of 2 (a_seg.nii) hold a 3") != std::string::npos);
    CHECK(mixed.scheme("the set").error().message.find("--labels") != std::string::npos);
    REQUIRE_CODE(of({{1, 2}}).scheme("set"), label_scheme_unclear);
    REQUIRE_CODE(of({{1, 2}, {1}, {}}).scheme("set"), label_scheme_unclear);
    LabelEvidence some = of({{1, 4}});
    some += of({{1, 4}}, "BraTS-PED-00001-000-seg.nii.gz");
    REQUIRE_CODE(some.scheme("set"), label_scheme_unclear);
}

TEST_CASE("classes become the labels of the scheme and come back") {
    const LabelMap classes = map_of({0, 1, 2, 3, 3, 2, 1, 0});
    LabelMap map = classes;
    REQUIRE_OK(classes_to_labels(map, LabelScheme::brats, "case"));
    CHECK(map.labels == map_of({0, 1, 2, 4, 4, 2, 1, 0}).labels);
    CHECK(map.grid == classes.grid);
    REQUIRE_OK(labels_to_classes(map, LabelScheme::brats, "case"));
    CHECK(map.labels == classes.labels);
    REQUIRE_OK(classes_to_labels(map, LabelScheme::brats2023, "case"));
    CHECK(map.labels == classes.labels);
    REQUIRE_OK(labels_to_classes(map, LabelScheme::brats2023, "case"));
    CHECK(map.labels == classes.labels);
}

TEST_CASE("a label outside the scheme is rejected with file, value, count and first voxel, and changes nothing") {
    LabelMap map = map_of({4, 1});
    map.labels[5 * 3 + 5 * 1 + 2] = 3; // voxel (2, 1, 1)
    map.labels[29] = 3;
    const LabelMap before = map;
    const auto rejected = labels_to_classes(map, LabelScheme::brats, "/data/case_7/case_7_seg.nii.gz");
    REQUIRE_CODE(rejected, label_outside_scheme);
    const auto& message = rejected.error().message;
    CHECK(rejected.error().where == "/data/case_7/case_7_seg.nii.gz");
    CHECK(message.find("/data/case_7/case_7_seg.nii.gz has 2 voxels of the value 3") != std::string::npos);
    CHECK(message.find("(2, 1, 1)") != std::string::npos);
    CHECK(message.find("brats are 0, 1, 2, 4") != std::string::npos);
    CHECK(map.labels == before.labels);
}

TEST_CASE("each scheme rejects the other's enhancing label, and no class lies above 3") {
    LabelMap with_four = map_of({4});
    LabelMap with_three = map_of({3});
    REQUIRE_CODE(labels_to_classes(with_four, LabelScheme::brats2023, "case"), label_outside_scheme);
    REQUIRE_CODE(labels_to_classes(with_three, LabelScheme::brats, "case"), label_outside_scheme);
    REQUIRE_CODE(classes_to_labels(with_four, LabelScheme::brats, "case"), label_outside_scheme);
    LabelMap with_255 = map_of({255});
    REQUIRE_CODE(classes_to_labels(with_255, LabelScheme::brats2023, "case"), label_outside_scheme);
}

TEST_CASE("classes have distinct names and colours, and only the background is not drawn") {
    std::set<std::string_view> names;
    std::set<std::array<std::uint8_t, 3>> colours;
    for (int c = 0; c < tumour_classes; ++c) {
        names.insert(appearance(c).name);
        colours.insert(appearance(c).rgb);
        CHECK(appearance(c).drawn == (c != 0));
    }
    CHECK(names.size() == 4);
    CHECK(colours.size() == 4);
}

namespace {

using Linear = std::array<double, 3>;

Linear linear(const std::array<std::uint8_t, 3>& rgb) {
    Linear values{};
    for (std::size_t n = 0; n < 3; ++n) {
        const double share = rgb[n] / 255.0;
        values[n] = share <= 0.04045 ? share / 12.92 : std::pow((share + 0.055) / 1.055, 2.4);
    }
    return values;
}

/// CIE L*a*b* of linear sRGB, white D65.
std::array<double, 3> lab(const Linear& rgb) {
    const auto f = [](double t) { return t > 216.0 / 24389.0 ? std::cbrt(t) : (24389.0 / 27.0 * t + 16.0) / 116.0; };
    const double x = f((0.4124 * rgb[0] + 0.3576 * rgb[1] + 0.1805 * rgb[2]) / 0.9505);
    const double y = f(0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]);
    const double z = f((0.0193 * rgb[0] + 0.1192 * rgb[1] + 0.9505 * rgb[2]) / 1.089);
    return {116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)};
}

/// What a reader without green (deuteranopia) or red cones (protanopia) sees: Machado, Oliveira, Fernandes 2009.
using Matrix = std::array<Linear, 3>;
constexpr Matrix deuteranopia = {
    {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}};
constexpr Matrix protanopia = {
    {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}};

Linear seen(const Matrix& eye, const Linear& rgb) {
    Linear result{};
    for (std::size_t row = 0; row < 3; ++row)
        result[row] = std::clamp(eye[row][0] * rgb[0] + eye[row][1] * rgb[1] + eye[row][2] * rgb[2], 0.0, 1.0);
    return result;
}

} // namespace

TEST_CASE("colours of classes differ from each other and from grey, for colour-blind readers too") {
    constexpr Matrix all_cones = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
    for (const Matrix& eye : {all_cones, deuteranopia, protanopia}) {
        const auto shown = [&](int c) { return lab(seen(eye, linear(appearance(c).rgb))); };
        for (int a = 1; a < tumour_classes; ++a) {
            INFO(appearance(a).name);
            const auto p = shown(a);
            CHECK(std::hypot(p[1], p[2]) > 30.0); // a hue at all: images are grey
            for (int b = a + 1; b < tumour_classes; ++b) {
                INFO(appearance(b).name);
                const auto q = shown(b);
                CHECK(std::abs(p[0] - q[0]) > 10.0); // brightness, in grey prints as well
                CHECK(std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]) > 45.0);
                if (b == 3) // enhancing tumour touches both others
                    CHECK(std::hypot(p[1] - q[1], p[2] - q[2]) > 60.0);
            }
        }
    }
}

TEST_CASE("tables of label names and colours are in the formats of ITK-SNAP and 3D Slicer") {
    const std::string snap = itk_snap_labels(LabelScheme::brats);
    CHECK(snap.find("\n    0     0    0    0        0  0  0    \"Clear Label\"\n") != std::string::npos);
    CHECK(snap.find("\n    4   250  230   60        1  1  1    \"enhancing tumour\"\n") != std::string::npos);
    CHECK(std::count(snap.begin(), snap.end(), '\n') == 5 + 4);
    const std::string slicer = slicer_colours(LabelScheme::brats_ped);
    CHECK(slicer.find("\n1 enhancing_tumour 250 230 60 255\n") != std::string::npos);
    CHECK(slicer.find("\n2 necrotic_core ") != std::string::npos);
    CHECK(slicer.find("\n3 necrotic_core ") != std::string::npos); // cysts count as core
    CHECK(slicer.find("\n4 oedema ") != std::string::npos);
}

TEST_CASE("regions follow the challenge or the paper's text, in label values") {
    const auto labels_in = [](TumourRegion region, RegionDefinition definition) {
        std::set<int> labels;
        for (std::size_t c = 0; c < 4; ++c)
            if (region_classes(region, definition)[c])
                labels.insert(labels_of(LabelScheme::brats)[c]);
        return labels;
    };
    CHECK(labels_in(TumourRegion::wt, RegionDefinition::brats) == std::set<int>{1, 2, 4});
    CHECK(labels_in(TumourRegion::tc, RegionDefinition::brats) == std::set<int>{1, 4});
    CHECK(labels_in(TumourRegion::et, RegionDefinition::brats) == std::set<int>{4});
    CHECK(labels_in(TumourRegion::wt, RegionDefinition::paper) == std::set<int>{1, 2});
    CHECK(labels_in(TumourRegion::tc, RegionDefinition::paper) == std::set<int>{1});
    CHECK(labels_in(TumourRegion::et, RegionDefinition::paper) == std::set<int>{4});
    CHECK(name(TumourRegion::wt) == "WT");
    CHECK(name(TumourRegion::tc) == "TC");
    CHECK(name(TumourRegion::et) == "ET");
}

TEST_CASE("region definitions are found by name") {
    for (const RegionDefinition definition : region_definitions) {
        const auto found = parse_region_definition(to_string(definition));
        REQUIRE_OK(found);
        CHECK(*found == definition);
    }
    const auto rejected = parse_region_definition("both");
    REQUIRE_CODE(rejected, invalid_argument);
    CHECK(rejected.error().message.find("brats, paper") != std::string::npos);
}

TEST_CASE("volumes count voxels and honour the voxel size") {
    const LabelMap map = map_of({1, 1, 1, 2, 2, 3, 3, 3, 3, 3});
    CHECK(voxel_millilitres(map.grid) == Approx(0.006));
    const auto brats = tumour_volumes(map, RegionDefinition::brats, "case");
    REQUIRE_OK(brats);
    CHECK(brats->definition == RegionDefinition::brats);
    const std::array<std::int64_t, 4> by_class = {20, 3, 2, 5};
    const std::array<std::int64_t, 3> by_region = {10, 8, 5};
    for (std::size_t c = 0; c < 4; ++c) {
        CHECK(brats->classes[c].voxels == by_class[c]);
        CHECK(brats->classes[c].millilitres == Approx(0.006 * static_cast<double>(by_class[c])));
    }
    for (std::size_t r = 0; r < 3; ++r) {
        CHECK(brats->regions[r].voxels == by_region[r]);
        CHECK(brats->regions[r].millilitres == Approx(0.006 * static_cast<double>(by_region[r])));
    }
    const auto paper = tumour_volumes(map, RegionDefinition::paper, "case");
    REQUIRE_OK(paper);
    CHECK(paper->regions[0].voxels == 5);
    CHECK(paper->regions[1].voxels == 3);
    CHECK(paper->regions[2].voxels == 5);
}

TEST_CASE("the volume of a voxel is that of its rotated and flipped box") {
    Grid grid;
    grid.size = {2, 2, 2};
    // 30 degrees about z, voxels of 0.5 x 2 x 1.5 mm, second axis flipped
    grid.affine = {{{0.5 * 0.8660254037844386, 2.0 * 0.5, 0.0, 9.0},
                    {0.5 * 0.5, -2.0 * 0.8660254037844386, 0.0, -4.0},
                    {0.0, 0.0, 1.5, 1.0}}};
    CHECK(voxel_millilitres(grid) == Approx(0.0015));
}

TEST_CASE("a map with a value that is no class has no volumes") {
    const auto rejected = tumour_volumes(map_of({0, 4}), RegionDefinition::brats, "case_3");
    REQUIRE_CODE(rejected, label_outside_scheme);
    CHECK(rejected.error().message.find("case_3 has 1 voxels of the value 4, the first at (1, 0, 0)") !=
          std::string::npos);
}

TEST_CASE("small components become background, the largest one never") {
    const Grid grid{{8, 1, 1}, {{{2, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}}}; // 2 mm^3 per voxel
    LabelMap classes{grid, {1, 0, 2, 3, 0, 1, 1, 2}};
    CHECK(remove_small_components(classes, 0.0) == 0);
    CHECK(remove_small_components(classes, 2.0) == 0);
    CHECK(remove_small_components(classes, 4.0) == 1);
    CHECK(classes.labels == std::vector<std::uint8_t>{0, 0, 2, 3, 0, 1, 1, 2});
    CHECK(remove_small_components(classes, 1000.0) == 2);
    CHECK(classes.labels == std::vector<std::uint8_t>{0, 0, 0, 0, 0, 1, 1, 2});
    LabelMap nothing{grid, std::vector<std::uint8_t>(8, 0)};
    CHECK(remove_small_components(nothing, 10.0) == 0);
}

TEST_CASE("a component is connected through corners, along every axis, and not around the edge of the volume") {
    const Grid grid{{3, 3, 3}, {{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}}};
    LabelMap diagonal{grid, std::vector<std::uint8_t>(27, 0)};
    for (const std::size_t voxel : {0, 13, 26}) // from corner to corner
        diagonal.labels[voxel] = 1;
    CHECK(remove_small_components(diagonal, 3.0) == 0);
    LabelMap rows{grid, std::vector<std::uint8_t>(27, 0)};
    for (const std::size_t voxel : {2, 3, 9}) // 2 and 3 are neighbours in memory only; 3 and 9 touch along y and z
        rows.labels[voxel] = 1;
    CHECK(remove_small_components(rows, 2.0) == 1);
    CHECK(rows.labels[2] == 0);
    CHECK(rows.labels[3] == 1);
    CHECK(rows.labels[9] == 1);
}

TEST_CASE("components that are removed are those of labels that spread until nothing changes") {
    Random random(5);
    const Grid grid{{7, 5, 6}, {{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}}};
    const auto& size = grid.size;
    for (int round = 0; round < 100; ++round) {
        LabelMap classes{grid, std::vector<std::uint8_t>(static_cast<std::size_t>(grid.voxels()), 0)};
        for (std::uint8_t& value : classes.labels)
            value = random.below(6) == 0 ? static_cast<std::uint8_t>(1 + random.below(3)) : std::uint8_t{0};
        // Each voxel takes the least index of its neighbours, so a component has that of its first voxel in the end.
        std::vector<std::int64_t> first(classes.labels.size(), -1);
        for (std::size_t v = 0; v < first.size(); ++v)
            first[v] = classes.labels[v] != 0 ? static_cast<std::int64_t>(v) : -1;
        for (bool changed = true; changed;) {
            changed = false;
            for (std::int64_t a = 0; a < grid.voxels(); ++a)
                for (std::int64_t b = 0; b < grid.voxels(); ++b) {
                    const auto apart = [&](std::int64_t stride, std::int64_t extent) {
                        return std::abs(a / stride % extent - b / stride % extent);
                    };
                    std::int64_t& mine = first[static_cast<std::size_t>(a)];
                    const std::int64_t other = first[static_cast<std::size_t>(b)];
                    if (other >= 0 && mine > other && apart(1, size[0]) <= 1 && apart(size[0], size[1]) <= 1 &&
                        apart(size[0] * size[1], size[2]) <= 1) {
                        mine = other;
                        changed = true;
                    }
                }
        }
        std::map<std::int64_t, std::int64_t> voxels;
        for (const std::int64_t component : first)
            if (component >= 0)
                ++voxels[component];
        std::int64_t largest = -1;
        for (const auto& [component, count] : voxels)
            if (largest < 0 || count > voxels[largest])
                largest = component;
        LabelMap expected = classes;
        std::int64_t removed = 0;
        for (std::size_t v = 0; v < first.size(); ++v)
            if (first[v] >= 0 && first[v] != largest && voxels[first[v]] < 4) {
                expected.labels[v] = 0;
                ++removed;
            }
        CHECK(remove_small_components(classes, 4.0) == removed);
        CHECK(classes.labels == expected.labels);
    }
}

TEST_CASE("little enhancing tumour becomes core, enough of it stays") {
    const Grid grid{{4, 1, 1}, {{{2, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}}}; // 2 mm^3 per voxel
    LabelMap classes{grid, {0, 3, 2, 3}};
    CHECK(relabel_small_enhancing(classes, 4.0) == 0);
    CHECK(classes.labels == std::vector<std::uint8_t>{0, 3, 2, 3});
    CHECK(relabel_small_enhancing(classes, 0.0) == 0);
    CHECK(relabel_small_enhancing(classes, 4.5) == 2);
    CHECK(classes.labels == std::vector<std::uint8_t>{0, 1, 2, 1});
    CHECK(relabel_small_enhancing(classes, 4.5) == 0);

    LabelMap cores{grid, {1, 3, 2, 1}}; // a third of the core
    CHECK(relabel_small_enhancing(cores, 0.0, 1.0 / 3.0) == 0);
    CHECK(relabel_small_enhancing(cores, 2.0, 0.33) == 0);
    CHECK(relabel_small_enhancing(cores, 2.0, 0.34) == 1);
    CHECK(cores.labels == std::vector<std::uint8_t>{1, 1, 2, 1});
    LabelMap enhancing{grid, {0, 3, 0, 3}}; // all of it
    CHECK(relabel_small_enhancing(enhancing, 0.0, 1.0) == 0);
}
