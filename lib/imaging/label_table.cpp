// SPDX-License-Identifier: MIT
#include "imaging/label_table.h"

#include "core/format.h"
#include "core/try.h"

#include <algorithm>
#include <array>
#include <map>

namespace mfres {

namespace {

/// Every value that stands for a class that is drawn, with the class.
std::map<int, int> drawn_labels(const LabelCoding& coding) {
    std::map<int, int> classes;
    for (int c = 0; c < tumour_classes; ++c)
        if (appearance(c).drawn)
            for (const std::uint8_t label : coding.labels_of(c))
                classes.emplace(label, c);
    return classes;
}

} // namespace

std::string itk_snap_labels(const LabelCoding& coding) {
    std::string lines = "################################################\n"
                        "# ITK-SnAP Label Description File\n"
                        "# File format:\n"
                        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n"
                        "################################################\n"
                        "    0     0    0    0        0  0  0    \"Clear Label\"\n";
    for (const auto& [label, tumour_class] : drawn_labels(coding)) {
        const ClassAppearance& look = appearance(tumour_class);
        std::array<char, 64> numbers{};
        print_classic(numbers.data(), numbers.size(), "%5d %5d %4d %4d        1  1  1    ", label, look.rgb[0],
                      look.rgb[1], look.rgb[2]);
        lines += text(numbers.data(), "\"", look.name, "\"\n");
    }
    return lines;
}

std::string slicer_colours(const LabelCoding& coding) {
    const auto labels = drawn_labels(coding);
    std::string lines = text("# Color table file\n# ", labels.size() + 1, " values\n0 background 0 0 0 0\n");
    for (const auto& [label, tumour_class] : labels) {
        const ClassAppearance& look = appearance(tumour_class);
        std::string name(look.name); // a blank ends a name
        std::replace(name.begin(), name.end(), ' ', '_');
        lines += text(label, " ", name, " ", static_cast<int>(look.rgb[0]), " ", static_cast<int>(look.rgb[1]), " ",
                      static_cast<int>(look.rgb[2]), " 255\n");
    }
    return lines;
}

} // namespace mfres
