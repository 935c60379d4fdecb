// SPDX-License-Identifier: MIT
#include "imaging/case_page.h"

#include "core/json_value.h"
#include "core/try.h"
#include "imaging/case_page_script.h"
#include "imaging/labels.h"
#include "imaging/nifti/gzip.h"
#include "imaging/preview_content.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace mfres {

namespace {

using preview::Box;
using preview::Index3;

std::string base64(std::span<const std::byte> bytes) {
    constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t n = 0; n < bytes.size(); n += 3) {
        unsigned group = 0;
        const std::size_t count = std::min<std::size_t>(3, bytes.size() - n);
        for (std::size_t b = 0; b < 3; ++b)
            group = group << 8U | (b < count ? std::to_integer<unsigned>(bytes[n + b]) : 0U);
        for (std::size_t c = 0; c < 4; ++c)
            text += c <= count ? letters[group >> (18U - 6U * c) & 63U] : '=';
    }
    return text;
}

Result<std::string> packed(const std::vector<std::uint8_t>& values) {
    MFRES_TRY(const auto compressed, gzip(std::as_bytes(std::span(values)), 9));
    return base64(compressed);
}

std::int64_t extent(const Box& box, std::size_t axis) {
    return box.high[axis] - box.low[axis] + 1;
}

/// Calls visit(j, k) for every line of the box along i, of every `step`-th one.
template <typename Visit>
void for_lines(const Box& box, std::int64_t step, const Visit& visit) {
    for (std::int64_t k = box.low[2]; k <= box.high[2]; k += step)
        for (std::int64_t j = box.low[1]; j <= box.high[1]; j += step)
            visit(j, k);
}

/// Where any contrast differs from its background, with the labels; the whole grid if that is nowhere.
Box shown_box(const Case& loaded, const LabelMap& classes) {
    const Index3& size = loaded.scan_grid.size;
    Box box = {size, {-1, -1, -1}};
    const auto add = [&](const Index3& low, const Index3& high) {
        for (std::size_t axis = 0; axis < 3; ++axis) {
            box.low[axis] = std::min(box.low[axis], low[axis]);
            box.high[axis] = std::max(box.high[axis], high[axis]);
        }
    };
    for (std::size_t m = 0; m < loaded.scans.size(); ++m)
        if (loaded.present[m] && !loaded.scans[m].constant()) {
            const auto& begin = loaded.scans[m].kept_begin();
            const auto& kept = loaded.scans[m].kept_size();
            add(begin, {begin[0] + kept[0] - 1, begin[1] + kept[1] - 1, begin[2] + kept[2] - 1});
        }
    std::size_t n = 0;
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (std::int64_t i = 0; i < size[0]; ++i)
                if (classes.labels[n++] != 0)
                    add({i, j, k}, {i, j, k});
    if (box.high[0] < 0)
        return {{0, 0, 0}, {size[0] - 1, size[1] - 1, size[2] - 1}};
    return box;
}

/// How finely images are given.
struct Quality {
    int levels;        ///< of grey
    std::int64_t step; ///< voxels between those that are given, along each axis
};
constexpr std::array<Quality, 5> qualities = {{{64, 1}, {40, 1}, {24, 1}, {32, 2}, {24, 3}}};

/// Grey values as differences from the one before, which compress better.
Result<std::string> packed_image(const CompactVolume& scan, const Box& box, const Quality& quality) {
    std::vector<float> line(static_cast<std::size_t>(extent(box, 0)));
    const auto read = [&](std::int64_t j, std::int64_t k) { scan.read(box.low[0], j, k, extent(box, 0), line.data()); };
    std::vector<float> brain;
    for_lines(box, 3, [&](std::int64_t j, std::int64_t k) {
        read(j, k);
        std::copy_if(line.begin(), line.end(), std::back_inserter(brain),
                     [&](float v) { return v != scan.background(); });
    });
    const preview::Window window = preview::window_of(std::move(brain), scan.background());
    const auto brightest = static_cast<float>(quality.levels - 1);
    std::vector<std::uint8_t> values;
    std::uint8_t before = 0;
    for_lines(box, quality.step, [&](std::int64_t j, std::int64_t k) {
        read(j, k);
        for (std::size_t i = 0; i < line.size(); i += static_cast<std::size_t>(quality.step)) {
            const float shade = (line[i] - window.low) / (window.high - window.low);
            const auto value = line[i] == scan.background()
                                   ? std::uint8_t{0}
                                   : static_cast<std::uint8_t>(std::lround(brightest * std::clamp(shade, 0.0F, 1.0F)));
            values.push_back(static_cast<std::uint8_t>(value - before));
            before = value;
        }
    });
    return packed(values);
}

Result<std::string> packed_labels(const LabelMap& map, const Box& box) {
    std::vector<std::uint8_t> values;
    const Index3& size = map.grid.size;
    for_lines(box, 1, [&](std::int64_t j, std::int64_t k) {
        const auto* const line = map.labels.data() + box.low[0] + size[0] * (j + size[1] * k);
        values.insert(values.end(), line, line + extent(box, 0));
    });
    return packed(values);
}

Status check_classes(const LabelMap& map, const Case& loaded) {
    if (map.grid.size != loaded.scan_grid.size || map.labels.size() != static_cast<std::size_t>(map.grid.voxels()))
        return Error{ErrorCode::grid_size_mismatch, "the labels of a page are not on the grid of its images",
                     std::string(loaded.id)};
    if (std::any_of(map.labels.begin(), map.labels.end(), [](std::uint8_t c) { return c >= tumour_classes; }))
        return Error{ErrorCode::label_outside_scheme, "the labels of a page are no class indices",
                     std::string(loaded.id)};
    return {};
}

/// What does not depend on the images.
Result<OrderedJson> data_without_images(const Case& loaded, const LabelMap& classes, const LabelMap* reference,
                                        const Box& box) {
    MFRES_TRY(const auto spacing, preview::spacing_of(loaded.scan_grid));
    const Index3 slices = preview::slices_through(classes, box, [](std::uint8_t c) { return c == 1 || c == 3; });
    OrderedJson data;
    data["size"] = {extent(box, 0), extent(box, 1), extent(box, 2)};
    data["low"] = box.low;
    data["grid"] = loaded.scan_grid.size;
    data["mm"] = spacing;
    data["start"] = {slices[0] - box.low[0], slices[1] - box.low[1], slices[2] - box.low[2]};
    data["file"] = {
        {"axis", loaded.orientation.axis}, {"flip", loaded.orientation.flip}, {"size", loaded.canonical_grid.size}};
    data["classes"] = OrderedJson::array();
    for (int c = 1; c < tumour_classes; ++c)
        data["classes"].push_back({{"name", appearance(c).name}, {"rgb", appearance(c).rgb}});
    MFRES_TRY(data["labels"], packed_labels(classes, box));
    if (reference != nullptr) {
        MFRES_TRY(data["reference"], packed_labels(*reference, box));
    }
    return data;
}

/// FLAIR first, since it shows most; the title of each as in pictures.
constexpr std::array<std::pair<Modality, std::string_view>, 4> shown_order = {
    {{Modality::flair, "FLAIR"}, {Modality::t1ce, "T1ce"}, {Modality::t2, "T2"}, {Modality::t1, "T1"}}};

Result<OrderedJson> packed_images(const Case& loaded, const Box& box, const Quality& quality) {
    OrderedJson images = OrderedJson::array();
    for (const auto& [modality, title] : shown_order) {
        const auto m = static_cast<std::size_t>(modality);
        if (!loaded.present[m])
            continue;
        MFRES_TRY(std::string image, packed_image(loaded.scans[m], box, quality));
        images.push_back(
            {{"name", title}, {"levels", quality.levels}, {"step", quality.step}, {"data", std::move(image)}});
    }
    return images;
}

/// JSON inside of an element of HTML: nothing in it may end the element.
std::string json_in_html(const OrderedJson& json) {
    const std::string plain = json.dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
    std::string text;
    for (const char c : plain)
        text += c == '<' ? std::string("\\u003c") : std::string(1, c);
    return text;
}

std::string head(const CasePageText& words) {
    return text("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                // Nothing is ever loaded, whatever a file's name says.
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
                "script-src 'unsafe-inline'; img-src data:\">\n<title>",
                html_text(words.title), "</title>\n<style>", case_page_style, "</style>\n</head>\n<body>\n<h1>",
                html_text(words.title), "</h1>\n",
                "<p class=\"notice\">Research use only: not a medical device. Nothing on this page may be used for "
                "diagnosis or treatment.</p>\n");
}

std::string controls(bool reference) {
    std::string boxes = "<label><input type=\"checkbox\" id=\"labels\" checked> labels (key L)</label>\n"
                        "<label><input type=\"checkbox\" id=\"filled\" checked> filled</label>\n";
    if (reference)
        boxes += "<label><input type=\"checkbox\" id=\"reference\" checked> reference (white outlines: whole tumour, "
                 "core)</label>\n";
    std::string legend;
    for (int c = 1; c < tumour_classes; ++c) {
        const auto& rgb = appearance(c).rgb;
        legend += text("<span><span class=\"swatch\" style=\"background:rgb(", static_cast<int>(rgb[0]), ",",
                       static_cast<int>(rgb[1]), ",", static_cast<int>(rgb[2]), ")\"></span>",
                       html_text(appearance(c).name), "</span>\n");
    }
    return text("<div class=\"controls\"><fieldset id=\"images\"></fieldset>\n", boxes, legend, "</div>\n",
                "<p id=\"problem\" class=\"notice\"></p>\n<noscript>The images need JavaScript.</noscript>\n"
                "<div id=\"views\" class=\"views\"></div>\n<p>Scroll over an image, or move its slider, to see other "
                "slices; click to see the other planes through that point. The patient's right is on the left.</p>\n");
}

} // namespace

std::string html_text(std::string_view words) {
    std::string escaped;
    for (const char c : words)
        switch (c) {
        case '&': escaped += "&amp;"; break;
        case '<': escaped += "&lt;"; break;
        case '>': escaped += "&gt;"; break;
        case '"': escaped += "&quot;"; break;
        case '\'': escaped += "&#39;"; break;
        default: escaped += c;
        }
    return escaped;
}

std::string html_rows(const std::vector<std::pair<std::string, std::string>>& rows) {
    std::string table;
    for (const auto& [key, value] : rows)
        table += text("<tr><th>", html_text(key), "</th><td>", html_text(value), "</td></tr>\n");
    return table;
}

Result<std::string> case_page(const Case& loaded, const LabelMap& classes, const LabelMap* reference,
                              const CasePageText& words, const CasePageOptions& options) {
    MFRES_CHECK(check_classes(classes, loaded));
    if (reference != nullptr)
        MFRES_CHECK(check_classes(*reference, loaded));
    const Box box = shown_box(loaded, classes);
    MFRES_TRY(OrderedJson data, data_without_images(loaded, classes, reference, box));
    std::string warnings;
    for (const std::string& warning : words.warnings)
        warnings += text("<p class=\"warning\">", html_text(warning), "</p>\n");
    const std::string top = text(head(words), warnings, controls(reference != nullptr), "<h2>Volumes</h2>\n<table>\n",
                                 html_rows(words.volumes), "</table>\n<h2>How these labels were made</h2>\n<table>\n",
                                 html_rows(words.facts), "</table>\n<script type=\"application/json\" id=\"data\">");
    for (const Quality& quality : qualities) {
        MFRES_TRY(data["images"], packed_images(loaded, box, quality));
        std::string page =
            text(top, json_in_html(data), "</script>\n<script>", case_page_script, "</script>\n</body>\n</html>\n");
        if (page.size() <= options.max_bytes)
            return page;
    }
    return Error{ErrorCode::memory_limit,
                 text("the page of ", loaded.id, " does not fit into ", options.max_bytes, " bytes"),
                 std::string(loaded.id)};
}

} // namespace mfres
