// SPDX-License-Identifier: MIT
#include "imaging/preview_page.h"

#ifdef MFRES_WITH_PREVIEWS

#include "core/format.h"
#include "core/try.h"
#include "picture/resize.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

namespace mfres::preview {

namespace {

// Text -----------------------------------------------------------------------------------------------------------

constexpr Colour paper{18, 20, 24};
constexpr Colour ink{232, 234, 238};
constexpr Colour pale_ink{150, 156, 166};
constexpr Colour alarm{255, 176, 80};
constexpr Colour uncertain_ink{255, 130, 255};
constexpr Colour white{255, 255, 255};
constexpr Colour black{0, 0, 0};

/// A pixel.
struct Pixel {
    int x;
    int y;
};

/// Spaces for control characters.
std::string printable(std::string_view words) {
    std::string result;
    for (const char c : words)
        result += static_cast<unsigned char>(c) < 0x20U || c == 0x7F ? ' ' : c;
    return result;
}

constexpr double thin = 1.25; // strokes of text, pixels

int width_of(const std::string& words, double size) {
    return static_cast<int>(std::lround(text_width(words, size))) + 1;
}

/// Text with its baseline's left end at `at`; returns where it ends.
int write(RgbImage& canvas, const std::string& words, Pixel at, double size, const Colour& stroke,
          double weight = thin) {
    draw_text(canvas, {double(at.x), double(at.y)}, words, {size, weight, stroke, false});
    return at.x + width_of(words, size);
}

/// Text that is shortened with dots to fit into `available` pixels.
void write_within(RgbImage& canvas, const std::string& words, Pixel at, double size, const Colour& stroke,
                  int available) {
    std::string shown = words;
    const auto continues = [&](std::size_t n) { return (static_cast<unsigned char>(words[n]) & 0xC0U) == 0x80U; };
    for (std::size_t kept = words.size(); kept > 0 && width_of(shown, size) > available;) {
        do
            --kept;
        while (kept > 0 && continues(kept)); // whole characters
        shown = words.substr(0, kept) + "...";
    }
    write(canvas, shown, at, size, stroke);
}

/// A letter with a dark outline, readable on black and on white.
void mark(RgbImage& image, const std::string& words, Pixel at) {
    write(image, words, at, 0.5, black, 3.5);
    write(image, words, at, 0.5, ink);
}

// Panels ---------------------------------------------------------------------------------------------------------

constexpr int margin = 24;
constexpr int gap = 14;
constexpr int pair_gap = 4; // between an image with labels and the same without

/// One of the three planes: the grid axes across, down and through it, and the letters at its four edges.
struct Plane {
    const char* name;
    std::size_t across, down, through;
    bool upwards; ///< the grid's `down` axis grows towards the page's top
    const char *left, *right, *top, *bottom;
    char index_name, world_name;
};

constexpr std::array<Plane, 3> planes = {{
    {"axial", 0, 1, 2, false, "R", "L", "A", "P", 'k', 'z'},
    {"coronal", 0, 2, 1, true, "R", "L", "S", "I", 'j', 'y'},
    {"sagittal", 1, 2, 0, true, "A", "P", "S", "I", 'i', 'x'},
}};

std::int64_t extent(const Page& page, std::size_t axis) {
    return page.box.high[axis] - page.box.low[axis] + 1;
}

struct Size {
    int width;
    int height;
};

Size panel_size(const Page& page, const Plane& plane) {
    const auto pixels = [&](std::size_t axis) {
        return std::max(8, static_cast<int>(
                               std::lround(static_cast<double>(extent(page, axis)) * page.spacing[axis] * page.scale)));
    };
    return {pixels(plane.across), pixels(plane.down)};
}

/// One of the two rows of panels.
struct Row {
    const Page& page;
    const Index3& slices;
    const Volume& volume;
    const Window& window;
    std::string contrast;
};

/// One section at voxel resolution; value(index) gives the byte of each voxel.
template <typename Value>
GreyImage section(const Row& row_of_page, const Plane& plane, const Value& value) {
    const Page& page = row_of_page.page;
    const Index3& size = page.labels.grid.size;
    const auto columns = static_cast<int>(extent(page, plane.across));
    const auto rows = static_cast<int>(extent(page, plane.down));
    GreyImage image(columns, rows);
    Index3 p = row_of_page.slices;
    for (int row = 0; row < rows; ++row)
        for (int column = 0; column < columns; ++column) {
            p[plane.across] = page.box.low[plane.across] + column;
            p[plane.down] = plane.upwards ? page.box.high[plane.down] - row : page.box.low[plane.down] + row;
            image.at(column, row) = value(static_cast<std::size_t>(p[0] + size[0] * (p[1] + size[1] * p[2])));
        }
    return image;
}

RgbImage grey_section(const Row& row, const Plane& plane) {
    const Window& window = row.window;
    const GreyImage raw = section(row, plane, [&](std::size_t index) {
        const float v = row.volume.voxels[index];
        const float shade = v == window.background ? 0.0F : 255.0F * (v - window.low) / (window.high - window.low);
        return static_cast<std::uint8_t>(std::clamp(shade, 0.0F, 255.0F));
    });
    const Size size = panel_size(row.page, plane);
    return RgbImage(
        resize(raw, size.width, size.height, size.width < raw.width ? Resampling::area : Resampling::cubic));
}

/// Interpolated between voxels.
GreyImage smooth(const GreyImage& raw, const Row& row, const Plane& plane) {
    const Size size = panel_size(row.page, plane);
    return resize(raw, size.width, size.height, Resampling::linear);
}

/// 255 where a value is above one half, otherwise 0.
GreyImage upper_half(GreyImage image) {
    for (std::uint8_t& value : image.grey)
        value = value > 127 ? 255 : 0;
    return image;
}

/// 255 where `belongs(label)` holds, otherwise 0; interpolated between voxels and thresholded at one half for a smooth
/// border.
template <typename Belongs>
GreyImage mask_section(const Row& row, const Plane& plane, const LabelMap& map, const Belongs& belongs) {
    const GreyImage raw = section(row, plane, [&](std::size_t index) {
        return static_cast<std::uint8_t>(belongs(class_of(map.labels[index])) ? 255 : 0);
    });
    return upper_half(smooth(raw, row, plane));
}

void draw_labels(RgbImage& image, const Row& row, const Plane& plane) {
    constexpr float opacity = 0.30F;
    for (const PreviewClass& c : preview_classes()) {
        const GreyImage mask =
            mask_section(row, plane, row.page.labels, [&](std::uint8_t label) { return label == c.label; });
        for (int y = 0; y < image.height; ++y)
            for (int x = 0; x < image.width; ++x)
                if (mask.at(x, y) != 0)
                    image.blend(x, y, c.rgb, opacity);
        draw_outline(image, mask, c.rgb);
    }
}

void draw_reference(RgbImage& image, const Row& row, const Plane& plane, const LabelMap& reference) {
    const auto whole = [](std::uint8_t label) { return label != 0; };
    const auto core = [](std::uint8_t label) { return label == 1 || label == 4; };
    draw_outline(image, mask_section(row, plane, reference, whole), white);
    draw_outline(image, mask_section(row, plane, reference, core), white);
}

void draw_marks(RgbImage& image, const Plane& plane, const std::string& contrast) {
    const int w = image.width;
    const int h = image.height;
    mark(image, plane.left, {14, h / 2 + 6});
    mark(image, plane.right, {w - 26, h / 2 + 6});
    mark(image, plane.top, {w / 2 - 6, 28});
    mark(image, plane.bottom, {w / 2 - 6, h - 16});
    mark(image, contrast, {6, 18});
}

/// Ticks at the edges where the two other sections intersect this one.
void draw_cuts(RgbImage& image, const Row& row, const Plane& plane) {
    const Page& page = row.page;
    const auto place = [&](std::size_t axis, int pixels, bool flipped) {
        const double from_low = static_cast<double>(row.slices[axis] - page.box.low[axis]) + 0.5;
        const double share = from_low / static_cast<double>(extent(page, axis));
        return static_cast<int>((flipped ? 1.0 - share : share) * pixels);
    };
    constexpr int tick = 10;
    const int x = place(plane.across, image.width, false);
    const int y = place(plane.down, image.height, plane.upwards);
    fill_rectangle(image, x, 0, 1, tick, alarm);
    fill_rectangle(image, x, image.height - tick, 1, tick, alarm);
    fill_rectangle(image, 0, y, tick, 1, alarm);
    fill_rectangle(image, image.width - tick, y, tick, 1, alarm);
}

constexpr float unsure_below = 2.0F / 3.0F;

/// Draws a line around the voxels whose tumour probability is above 0.5, and dots where no class reaches
/// `unsure_below`.
void draw_uncertainty(RgbImage& image, const Row& row, const Plane& plane, const ProbabilityMap& probabilities) {
    const auto byte = [](float share) {
        return static_cast<std::uint8_t>(std::lround(255.0F * std::clamp(share, 0.0F, 1.0F)));
    };
    const GreyImage tumour =
        section(row, plane, [&](std::size_t index) { return byte(1.0F - probabilities.of_class(0)[index]); });
    const GreyImage most_probable = section(row, plane, [&](std::size_t index) {
        float most = 0.0F;
        for (std::int64_t c = 0; c < probabilities.classes; ++c)
            most = std::max(most, probabilities.of_class(c)[index]);
        return byte(most);
    });
    const GreyImage surest = smooth(most_probable, row, plane);
    constexpr int spacing = 2; // pixels from dot to dot
    for (int y = 0; y < image.height; y += spacing)
        for (int x = y / spacing % 2; x < image.width; x += spacing)
            if (surest.at(x, y) < byte(unsure_below))
                image.set(x, y, uncertain_ink);
    draw_outline(image, upper_half(smooth(tumour, row, plane)), uncertain_ink);
}

/// `labelled`: with everything that is drawn on the image.
RgbImage panel(const Row& row, const Plane& plane, bool labelled) {
    RgbImage image = grey_section(row, plane);
    const PreviewOptions& options = row.page.options;
    if (labelled && options.overlay)
        draw_labels(image, row, plane);
    if (labelled && options.reference != nullptr)
        draw_reference(image, row, plane, *options.reference);
    if (labelled && options.probabilities != nullptr)
        draw_uncertainty(image, row, plane, *options.probabilities);
    draw_cuts(image, row, plane);
    draw_marks(image, plane, row.contrast);
    return image;
}

/// Whether anything is drawn on the images, so that a plain one stands beside each.
bool has_pairs(const Page& page) {
    return page.options.overlay || page.options.reference != nullptr || page.options.probabilities != nullptr;
}

/// A panel, or the labelled and the plain one side by side.
Size column_size(const Page& page, const Plane& plane) {
    const Size size = panel_size(page, plane);
    return {has_pairs(page) ? 2 * size.width + pair_gap : size.width, size.height};
}

/// "axial, k = 88, z = 88.0 mm": the index of the section, as the file counts, and where its middle lies in the world.
std::string caption(const Row& row, const Plane& plane) {
    const Page& page = row.page;
    const std::int64_t slice = row.slices[plane.through];
    const Affine& a = page.labels.grid.affine;
    std::array<double, 3> p{};
    for (std::size_t axis = 0; axis < 3; ++axis)
        p[axis] = 0.5 * static_cast<double>(page.box.low[axis] + page.box.high[axis]);
    p[plane.through] = static_cast<double>(slice);
    const auto component = static_cast<std::size_t>(plane.world_name - 'x');
    const double world = a[component][0] * p[0] + a[component][1] * p[1] + a[component][2] * p[2] + a[component][3];
    char index_name = plane.index_name;
    std::int64_t index = slice;
    if (const auto& file = page.options.file) {
        const std::int64_t size = file->size[plane.through];
        index = (2 * slice + 1) * size / (2 * page.labels.grid.size[plane.through]); // resampled or not
        index = file->flip[plane.through] ? size - 1 - index : index;
        index_name = "ijk"[file->axis[plane.through]];
    }
    std::array<char, 80> line{};
    print_classic(line.data(), line.size(), "%s, %c = %lld, %c = %.1f mm", plane.name, index_name,
                  static_cast<long long>(index), plane.world_name, world);
    return line.data();
}

// Page -----------------------------------------------------------------------------------------------------------

/// Colour sample and text; returns where the next entry starts.
int legend_entry(RgbImage& canvas, Pixel at, const Colour& swatch, bool filled, const std::string& words) {
    if (filled)
        fill_rectangle(canvas, at.x, at.y - 12, 16, 14, swatch);
    else
        fill_rectangle(canvas, at.x, at.y - 5, 17, 1, swatch);
    return write(canvas, words, {at.x + 24, at.y}, 0.5, ink) + 26;
}

void draw_legend(RgbImage& canvas, const Page& page, int top) {
    const auto classes = preview_classes();
    const auto volumes = class_volumes(page.labels);
    int x = margin;
    for (std::size_t c = 0; c < classes.size(); ++c)
        x = legend_entry(canvas, {x, top + 16}, classes[c].rgb, true,
                         text(classes[c].name, "  ", millilitres(volumes[c])));
    if (page.options.reference != nullptr)
        x = legend_entry(canvas, {x, top + 16}, white, false, "reference: whole tumour, core");
    if (page.options.probabilities != nullptr)
        legend_entry(canvas, {x, top + 16}, uncertain_ink, false, "tumour 0.5; dots: no class 0.67");

    const Pixel line{margin, top + 44};
    const bool tumour = std::any_of(volumes.begin(), volumes.end(), [](double volume) { return volume > 0; });
    const std::string summary = preview_summary(page.labels);
    const int end = tumour ? write(canvas, summary, line, 0.5, ink) : write(canvas, summary, line, 0.7, alarm, 2.0);
    const std::string note = !tumour ? "(no voxel carries a label; sections through the middle of the brain)"
                             : page.options.overlay ? ""
                                                    : "(labels are not drawn)";
    write(canvas, note, {end + 30, line.y}, 0.5, pale_ink);
}

} // namespace

double fitting_scale(const Page& page) {
    const double most_width = has_pairs(page) ? 1760 : 1240;
    constexpr double most_height = 470;
    double width = 0;
    double height = 0;
    for (const Plane& plane : planes) {
        width += static_cast<double>(extent(page, plane.across)) * page.spacing[plane.across];
        height = std::max(height, static_cast<double>(extent(page, plane.down)) * page.spacing[plane.down]);
    }
    return std::min(most_width / (has_pairs(page) ? 2 * width : width), most_height / height);
}

namespace {

constexpr int narrowest_column = 260; // the caption fits into it
constexpr int caption_height = 22;

/// Captions and panels from `top` down, which are `height` pixels high.
void draw_row(RgbImage& canvas, const Row& row, int top, int height) {
    int x = margin;
    for (const Plane& plane : planes) {
        const Size size = column_size(row.page, plane);
        const int column = std::max(size.width, narrowest_column);
        write_within(canvas, caption(row, plane), {x, top + 12}, 0.45, pale_ink, column);
        const int left = x + (column - size.width) / 2;
        const int upper = top + caption_height + (height - size.height) / 2;
        paste(canvas, panel(row, plane, true), left, upper);
        if (has_pairs(row.page))
            paste(canvas, panel(row, plane, false), left + panel_size(row.page, plane).width + pair_gap, upper);
        x += column + gap;
    }
}

} // namespace

RgbImage draw_page(const Page& page, const Volume& flair, const Volume& t1ce, const Window& flair_window,
                   const Window& t1ce_window) {
    constexpr int narrowest_page = 980; // the legend fits into it
    constexpr int title_height = 64;
    constexpr int legend_height = 96;
    int row_height = 0;
    int width = 2 * margin - gap;
    for (const Plane& plane : planes) {
        row_height = std::max(row_height, panel_size(page, plane).height);
        width += std::max(column_size(page, plane).width, narrowest_column) + gap;
    }
    width = std::max(width, narrowest_page);
    const int row_step = caption_height + row_height + gap;
    const int legend_top = title_height + 2 * row_step;
    RgbImage canvas(width, legend_top + legend_height, paper);
    const std::string title = page.options.title.empty() ? "tumour segmentation" : printable(page.options.title);
    write_within(canvas, title, {margin, 42}, 0.8, ink, width - 2 * margin);
    if (!page.options.warning.empty())
        write_within(canvas, printable(page.options.warning), {margin, 60}, 0.42, alarm, width - 2 * margin);
    draw_row(canvas, {page, page.upper, flair, flair_window, printable(page.options.upper)}, title_height, row_height);
    draw_row(canvas, {page, page.lower, t1ce, t1ce_window, printable(page.options.lower)}, title_height + row_step,
             row_height);
    draw_legend(canvas, page, legend_top);
    const std::string given = page.options.footer.empty() ? "" : printable(page.options.footer) + "  |  ";
    write_within(canvas, given + "radiological convention: the patient's right is on the left",
                 {margin, canvas.height - 16}, 0.42, pale_ink, width - 2 * margin - 360);
    const std::string warning = "research use only - not a medical device";
    write(canvas, warning, {width - margin - width_of(warning, 0.45), canvas.height - 16}, 0.45, alarm);
    return canvas;
}

} // namespace mfres::preview

#endif
