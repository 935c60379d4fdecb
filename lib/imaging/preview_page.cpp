// SPDX-License-Identifier: MIT
#include "imaging/preview_page.h"

#ifdef MFRES_WITH_OPENCV_IMAGES

#include "core/format.h"
#include "core/try.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mfres::preview {

namespace {

// Text -----------------------------------------------------------------------------------------------------------

const cv::Scalar paper(18, 20, 24);
const cv::Scalar ink(232, 234, 238);
const cv::Scalar pale_ink(150, 156, 166);
const cv::Scalar alarm(255, 176, 80);

/// Hershey fonts have ASCII characters only: '?' for every other character, a space for control characters.
std::string ascii(std::string_view words) {
    std::string result;
    for (const char c : words) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0xC0U)
            result += '?';
        else if (byte < 0x80U)
            result += byte < 0x20U || byte == 0x7FU ? ' ' : c;
    }
    return result;
}

constexpr int font = cv::FONT_HERSHEY_SIMPLEX;

int width_of(const std::string& words, double size) {
    int baseline = 0;
    return cv::getTextSize(words, font, size, 1, &baseline).width;
}

/// Text with its baseline's left end at `at`; returns where it ends.
int write(cv::Mat& canvas, const std::string& words, cv::Point at, double size, const cv::Scalar& stroke,
          int weight = 1) {
    cv::putText(canvas, words, at, font, size, stroke, weight, cv::LINE_AA);
    return at.x + width_of(words, size);
}
/// Text that is shortened with dots to fit into `available` pixels.
void write_within(cv::Mat& canvas, const std::string& words, cv::Point at, double size, const cv::Scalar& stroke,
                  int available, int weight = 1) {
    std::string shown = words;
    while (shown.size() > 3 && width_of(shown, size) > available)
        shown = shown.substr(0, shown.size() - 4) + "...";
    write(canvas, shown, at, size, stroke, weight);
}
/// A letter with a dark outline, readable on black and on white.
void mark(cv::Mat& image, const std::string& words, cv::Point at) {
    write(image, words, at, 0.5, cv::Scalar::all(0), 3);
    write(image, words, at, 0.5, ink);
}

// Panels ---------------------------------------------------------------------------------------------------------

constexpr int margin = 24;
constexpr int gap = 14;

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

cv::Scalar colour(const PreviewClass& c) {
    return {static_cast<double>(c.rgb[0]), static_cast<double>(c.rgb[1]), static_cast<double>(c.rgb[2])};
}

std::int64_t extent(const Page& page, std::size_t axis) {
    return page.box.high[axis] - page.box.low[axis] + 1;
}

cv::Size panel_size(const Page& page, const Plane& plane) {
    const auto pixels = [&](std::size_t axis) {
        return std::max(8, static_cast<int>(
                               std::lround(static_cast<double>(extent(page, axis)) * page.spacing[axis] * page.scale)));
    };
    return {pixels(plane.across), pixels(plane.down)};
}
/// One section at voxel resolution; value(index) gives the byte of each voxel.
template <typename Value>
cv::Mat section(const Page& page, const Plane& plane, const Value& value) {
    const Index3& size = page.labels.grid.size;
    const auto columns = static_cast<int>(extent(page, plane.across));
    const auto rows = static_cast<int>(extent(page, plane.down));
    cv::Mat image(rows, columns, CV_8U);
    Index3 p = page.slices;
    for (int row = 0; row < rows; ++row)
        for (int column = 0; column < columns; ++column) {
            p[plane.across] = page.box.low[plane.across] + column;
            p[plane.down] = plane.upwards ? page.box.high[plane.down] - row : page.box.low[plane.down] + row;
            image.at<std::uint8_t>(row, column) =
                value(static_cast<std::size_t>(p[0] + size[0] * (p[1] + size[1] * p[2])));
        }
    return image;
}

cv::Mat grey_section(const Page& page, const Plane& plane, const Volume& volume, const Window& window) {
    const cv::Mat raw = section(page, plane, [&](std::size_t index) {
        const float v = volume.voxels[index];
        const float shade = v == window.background ? 0.0F : 255.0F * (v - window.low) / (window.high - window.low);
        return static_cast<std::uint8_t>(std::clamp(shade, 0.0F, 255.0F));
    });
    cv::Mat scaled;
    const cv::Size size = panel_size(page, plane);
    cv::resize(raw, scaled, size, 0, 0, size.width < raw.cols ? cv::INTER_AREA : cv::INTER_CUBIC);
    cv::Mat image;
    cv::cvtColor(scaled, image, cv::COLOR_GRAY2RGB);
    return image;
}
/// 255 where `belongs(label)` holds, otherwise 0; interpolated between voxels and thresholded at one half for a smooth
/// border.
template <typename Belongs>
cv::Mat mask_section(const Page& page, const Plane& plane, const LabelMap& map, const Belongs& belongs) {
    const cv::Mat raw = section(page, plane, [&](std::size_t index) {
        return static_cast<std::uint8_t>(belongs(class_of(map.labels[index])) ? 255 : 0);
    });
    cv::Mat mask;
    cv::resize(raw, mask, panel_size(page, plane), 0, 0, cv::INTER_LINEAR);
    return mask > 127;
}

void outline(cv::Mat& image, const cv::Mat& mask, const cv::Scalar& stroke) {
    std::vector<std::vector<cv::Point>> contours;
    cv::findContours(mask, contours, cv::RETR_LIST, cv::CHAIN_APPROX_NONE);
    cv::drawContours(image, contours, -1, stroke);
}

void draw_labels(cv::Mat& image, const Page& page, const Plane& plane) {
    constexpr double opacity = 0.30;
    for (const PreviewClass& c : preview_classes()) {
        const cv::Mat mask =
            mask_section(page, plane, page.labels, [&](std::uint8_t label) { return label == c.label; });
        const cv::Mat fill(image.size(), CV_8UC3, colour(c));
        cv::Mat tinted;
        cv::addWeighted(image, 1.0 - opacity, fill, opacity, 0.0, tinted);
        tinted.copyTo(image, mask);
        outline(image, mask, colour(c));
    }
}

void draw_reference(cv::Mat& image, const Page& page, const Plane& plane, const LabelMap& reference) {
    const auto whole = [](std::uint8_t label) { return label != 0; };
    const auto core = [](std::uint8_t label) { return label == 1 || label == 4; };
    outline(image, mask_section(page, plane, reference, whole), cv::Scalar::all(255));
    outline(image, mask_section(page, plane, reference, core), cv::Scalar::all(255));
}
void draw_marks(cv::Mat& image, const Plane& plane, const std::string& contrast) {
    const int w = image.cols;
    const int h = image.rows;
    mark(image, plane.left, {14, h / 2 + 6});
    mark(image, plane.right, {w - 26, h / 2 + 6});
    mark(image, plane.top, {w / 2 - 6, 28});
    mark(image, plane.bottom, {w / 2 - 6, h - 16});
    mark(image, contrast, {6, 18});
}
/// Ticks at the edges where the two other sections intersect this one.
void draw_cuts(cv::Mat& image, const Page& page, const Plane& plane) {
    const auto place = [&](std::size_t axis, int pixels, bool flipped) {
        const double from_low = static_cast<double>(page.slices[axis] - page.box.low[axis]) + 0.5;
        const double share = from_low / static_cast<double>(extent(page, axis));
        return static_cast<int>((flipped ? 1.0 - share : share) * pixels);
    };
    constexpr int tick = 9;
    const int x = place(plane.across, image.cols, false);
    const int y = place(plane.down, image.rows, plane.upwards);
    cv::line(image, {x, 0}, {x, tick}, alarm);
    cv::line(image, {x, image.rows - 1 - tick}, {x, image.rows - 1}, alarm);
    cv::line(image, {0, y}, {tick, y}, alarm);
    cv::line(image, {image.cols - 1 - tick, y}, {image.cols - 1, y}, alarm);
}

cv::Mat panel(const Page& page, const Plane& plane, const Volume& volume, const Window& window,
              const std::string& contrast) {
    cv::Mat image = grey_section(page, plane, volume, window);
    if (page.options.overlay)
        draw_labels(image, page, plane);
    if (page.options.reference != nullptr)
        draw_reference(image, page, plane, *page.options.reference);
    draw_cuts(image, page, plane);
    draw_marks(image, plane, contrast);
    return image;
}

/// "axial, k = 88, z = 88.0 mm": the voxel index of the section and where its middle lies in the world.
std::string caption(const Page& page, const Plane& plane) {
    const Affine& a = page.labels.grid.affine;
    std::array<double, 3> p{};
    for (std::size_t axis = 0; axis < 3; ++axis)
        p[axis] = 0.5 * static_cast<double>(page.box.low[axis] + page.box.high[axis]);
    p[plane.through] = static_cast<double>(page.slices[plane.through]);
    const auto row = static_cast<std::size_t>(plane.world_name - 'x');
    const double world = a[row][0] * p[0] + a[row][1] * p[1] + a[row][2] * p[2] + a[row][3];
    std::array<char, 80> line{};
    print_classic(line.data(), line.size(), "%s, %c = %lld, %c = %.1f mm", plane.name, plane.index_name,
                  static_cast<long long>(page.slices[plane.through]), plane.world_name, world);
    return line.data();
}

// Page -----------------------------------------------------------------------------------------------------------

/// Colour sample and text; returns where the next entry starts.
int legend_entry(cv::Mat& canvas, cv::Point at, const cv::Scalar& swatch, bool filled, const std::string& words) {
    if (filled)
        cv::rectangle(canvas, cv::Rect(at.x, at.y - 12, 16, 14), swatch, cv::FILLED);
    else
        cv::line(canvas, {at.x, at.y - 5}, {at.x + 16, at.y - 5}, swatch, 1, cv::LINE_AA);
    return write(canvas, words, {at.x + 24, at.y}, 0.5, ink) + 26;
}

void draw_legend(cv::Mat& canvas, const Page& page, int top) {
    const auto classes = preview_classes();
    const auto volumes = class_volumes(page.labels);
    int x = margin;
    for (std::size_t c = 0; c < classes.size(); ++c)
        x = legend_entry(canvas, {x, top + 16}, colour(classes[c]), true,
                         text(classes[c].name, "  ", millilitres(volumes[c])));
    if (page.options.reference != nullptr)
        legend_entry(canvas, {x, top + 16}, cv::Scalar::all(255), false, "reference: whole tumour, core");

    const cv::Point line(margin, top + 44);
    const bool tumour = std::any_of(volumes.begin(), volumes.end(), [](double volume) { return volume > 0; });
    const std::string summary = preview_summary(page.labels);
    const int end = tumour ? write(canvas, summary, line, 0.5, ink) : write(canvas, summary, line, 0.7, alarm, 2);
    const std::string note = !tumour ? "(no voxel carries a label; sections through the middle of the brain)"
                             : page.options.overlay ? ""
                                                    : "(labels are not drawn)";
    write(canvas, note, {end + 30, line.y}, 0.5, pale_ink);
}

} // namespace

double fitting_scale(const Page& page) {
    constexpr double most_width = 1240;
    constexpr double most_height = 470;
    double width = 0;
    double height = 0;
    for (const Plane& plane : planes) {
        width += static_cast<double>(extent(page, plane.across)) * page.spacing[plane.across];
        height = std::max(height, static_cast<double>(extent(page, plane.down)) * page.spacing[plane.down]);
    }
    return std::min(most_width / width, most_height / height);
}

cv::Mat draw_page(const Page& page, const Volume& flair, const Volume& t1ce, const Window& flair_window,
                  const Window& t1ce_window) {
    constexpr int narrowest_column = 260; // the caption fits into it
    constexpr int narrowest_page = 980;   // the legend fits into it
    constexpr int title_height = 64;
    constexpr int caption_height = 22;
    constexpr int legend_height = 96;
    int row_height = 0;
    int width = 2 * margin - gap;
    for (const Plane& plane : planes) {
        row_height = std::max(row_height, panel_size(page, plane).height);
        width += std::max(panel_size(page, plane).width, narrowest_column) + gap;
    }
    width = std::max(width, narrowest_page);
    const int top = title_height + caption_height;
    const int legend_top = top + 2 * (row_height + gap);
    cv::Mat canvas(legend_top + legend_height, width, CV_8UC3, paper);
    const std::string title = page.options.title.empty() ? "tumour segmentation" : ascii(page.options.title);
    write_within(canvas, title, {margin, 42}, 0.8, ink, width - 2 * margin);

    int x = margin;
    for (const Plane& plane : planes) {
        const cv::Size size = panel_size(page, plane);
        const int column = std::max(size.width, narrowest_column);
        write_within(canvas, caption(page, plane), {x, title_height + 12}, 0.45, pale_ink, column);
        const cv::Rect place(x + (column - size.width) / 2, top + (row_height - size.height) / 2, size.width,
                             size.height);
        panel(page, plane, flair, flair_window, "FLAIR").copyTo(canvas(place));
        panel(page, plane, t1ce, t1ce_window, "T1ce").copyTo(canvas(place + cv::Point(0, row_height + gap)));
        x += column + gap;
    }
    draw_legend(canvas, page, legend_top);
    const std::string given = page.options.footer.empty() ? "" : ascii(page.options.footer) + "  |  ";
    write_within(canvas, given + "radiological convention: the patient's right is on the left",
                 {margin, canvas.rows - 16}, 0.42, pale_ink, width - 2 * margin - 360);
    const std::string warning = "research use only - not a medical device";
    write(canvas, warning, {width - margin - width_of(warning, 0.45), canvas.rows - 16}, 0.45, alarm);
    return canvas;
}

} // namespace mfres::preview

#endif
