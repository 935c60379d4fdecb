// SPDX-License-Identifier: MIT
#include "imaging/preview.h"

#include "core/file.h"
#include "phantom/phantom.h"
#include "support/catch.h"
#include "support/paths.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <zlib.h>

using namespace mfres;

namespace {

/// A ball of brain with a gradient, zero at the grid's border, and labels that are all 0.
struct Case {
    Volume flair;
    Volume t1ce;
    LabelMap labels;

    explicit Case(std::array<std::int64_t, 3> size = {40, 40, 40}, std::array<double, 3> spacing = {1, 1, 1}) {
        Grid grid;
        grid.size = size;
        grid.affine = {{{-spacing[0], 0, 0, 0}, {0, -spacing[1], 0, 39}, {0, 0, spacing[2], 0}}};
        flair = {grid, std::vector<float>(static_cast<std::size_t>(grid.voxels()))};
        labels = {grid, std::vector<std::uint8_t>(static_cast<std::size_t>(grid.voxels()))};
        for (std::int64_t k = 1; k + 1 < size[2]; ++k)
            for (std::int64_t j = 1; j + 1 < size[1]; ++j)
                for (std::int64_t i = 1; i + 1 < size[0]; ++i)
                    flair.voxels[index(i, j, k)] = static_cast<float>(100 + i + j + k);
        t1ce = flair;
    }

    std::size_t index(std::int64_t i, std::int64_t j, std::int64_t k) const {
        return static_cast<std::size_t>(i + flair.grid.size[0] * (j + flair.grid.size[1] * k));
    }

    /// Labels a box of 6 x 6 x 6 voxels.
    void add_box(std::int64_t i, std::int64_t j, std::int64_t k, std::uint8_t label) {
        for (std::int64_t c = k; c < k + 6; ++c)
            for (std::int64_t b = j; b < j + 6; ++b)
                for (std::int64_t a = i; a < i + 6; ++a)
                    labels.labels[index(a, b, c)] = label;
    }
};

/// True if this build has no previews; then the call must say so, and the test has nothing to see.
bool cannot_draw(const Result<PreviewImage>& image) {
    if (image.ok() || image.error().code != ErrorCode::operation_unsupported)
        return false;
    REQUIRE(image.error().message.find("MFRES_WITH_PREVIEWS=OFF") != std::string::npos);
    std::printf("SKIPPED: built without previews\n");
    return true;
}

struct Position {
    int x;
    int y;
};

std::vector<Position> pixels_of(const PreviewImage& image, const std::array<std::uint8_t, 3>& rgb) {
    std::vector<Position> found;
    for (int y = 0; y < image.height; ++y)
        for (int x = 0; x < image.width; ++x) {
            const auto at =
                3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(image.width) + static_cast<std::size_t>(x));
            if (image.rgb[at] == rgb[0] && image.rgb[at + 1] == rgb[1] && image.rgb[at + 2] == rgb[2])
                found.push_back({x, y});
        }
    return found;
}

const PreviewClass& class_with(std::uint8_t label) {
    const auto classes = preview_classes();
    return *std::find_if(classes.begin(), classes.end(), [&](const PreviewClass& c) { return c.label == label; });
}

/// Mean position of a class's outline in the axial FLAIR panel, the upper left sixth of the panels' area.
Position axial_centre(const PreviewImage& image, std::uint8_t label) {
    double x = 0;
    double y = 0;
    double count = 0;
    for (const Position& p : pixels_of(image, class_with(label).rgb))
        if (p.x < image.width / 3 && p.y < image.height * 2 / 5) {
            x += p.x;
            y += p.y;
            ++count;
        }
    REQUIRE(count > 0);
    return {static_cast<int>(x / count), static_cast<int>(y / count)};
}

std::uint32_t big_endian(const std::vector<std::byte>& bytes, std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t n = 0; n < 4; ++n)
        value = value << 8U | static_cast<std::uint32_t>(bytes[at + n]);
    return value;
}

/// The value PNG's filter predicts from the pixels to the left, above and above left (PNG specification, section 9).
int predicted(int filter, int left, int above, int corner) {
    const int estimate = left + above - corner;
    const int dl = std::abs(estimate - left);
    const int da = std::abs(estimate - above);
    const int dc = std::abs(estimate - corner);
    switch (filter) {
    case 1: return left;
    case 2: return above;
    case 3: return (left + above) / 2;
    case 4: return dl <= da && dl <= dc ? left : da <= dc ? above : corner;
    default: return 0;
    }
}

/// Decodes an 8-bit RGB PNG that is not interlaced.
PreviewImage decode_png(const std::vector<std::byte>& bytes) {
    constexpr std::array<unsigned char, 8> signature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    REQUIRE(bytes.size() > 33);
    for (std::size_t n = 0; n < signature.size(); ++n)
        REQUIRE(static_cast<unsigned char>(bytes[n]) == signature[n]);
    PreviewImage image;
    image.width = static_cast<int>(big_endian(bytes, 16));
    image.height = static_cast<int>(big_endian(bytes, 20));
    REQUIRE(static_cast<int>(bytes[24]) == 8); // bits per channel
    REQUIRE(static_cast<int>(bytes[25]) == 2); // truecolour
    std::vector<Bytef> packed;
    for (std::size_t at = 8; at + 12 <= bytes.size();) {
        const std::size_t length = big_endian(bytes, at);
        REQUIRE(at + 12 + length <= bytes.size());
        if (static_cast<char>(bytes[at + 4]) == 'I' && static_cast<char>(bytes[at + 5]) == 'D')
            for (std::size_t n = 0; n < length; ++n)
                packed.push_back(static_cast<Bytef>(bytes[at + 8 + n]));
        at += 12 + length;
    }
    const auto row = 3 * static_cast<std::size_t>(image.width);
    std::vector<Bytef> lines((row + 1) * static_cast<std::size_t>(image.height));
    uLongf size = lines.size();
    REQUIRE(uncompress(lines.data(), &size, packed.data(), packed.size()) == Z_OK);
    REQUIRE(size == lines.size());
    image.rgb.resize(row * static_cast<std::size_t>(image.height));
    for (std::size_t y = 0; y < static_cast<std::size_t>(image.height); ++y)
        for (std::size_t x = 0; x < row; ++x) {
            const auto at = [&](bool earlier, bool higher) {
                return (earlier && x < 3) || (higher && y == 0)
                           ? 0
                           : static_cast<int>(image.rgb[(y - (higher ? 1 : 0)) * row + x - (earlier ? 3 : 0)]);
            };
            const int guess = predicted(lines[y * (row + 1)], at(true, false), at(false, true), at(true, true));
            image.rgb[y * row + x] = static_cast<std::uint8_t>(lines[y * (row + 1) + 1 + x] + guess);
        }
    return image;
}

} // namespace

TEST_CASE("a preview is written as a PNG that decodes to the rendered pixels") {
    PhantomOptions small;
    small.size = {64, 64, 48};
    const auto phantom = make_phantom(small);
    REQUIRE_OK(phantom);
    PreviewOptions options;
    options.title = "case 1, caf\xC3\xA9\n";
    options.footer = "model 1234";
    const auto image = render_preview(phantom->volumes[3], phantom->volumes[1], phantom->labels, options);
    if (cannot_draw(image))
        return;
    REQUIRE_OK(image);
    REQUIRE(image->width > 800);
    REQUIRE(image->width < 1900); // six panels beside each other
    REQUIRE(image->height > 500);
    REQUIRE(image->height < 1400);
    REQUIRE(image->rgb.size() == 3U * static_cast<std::size_t>(image->width) * static_cast<std::size_t>(image->height));

    const test::TemporaryFolder folder;
    const auto path = folder / "preview.png";
    REQUIRE_OK(write_preview(path, phantom->volumes[3], phantom->volumes[1], phantom->labels, options));
    const auto bytes = read_file(path, 1U << 26U);
    REQUIRE_OK(bytes);
    const PreviewImage decoded = decode_png(*bytes);
    REQUIRE(decoded.width == image->width);
    REQUIRE(decoded.height == image->height);
    REQUIRE(decoded.rgb == image->rgb);
}

TEST_CASE("every class of a preview appears in the legend and, with the overlay, in all panels") {
    Case shown;
    shown.add_box(8, 8, 8, 1);
    shown.add_box(14, 8, 8, 2);
    shown.add_box(20, 8, 8, 4);
    PreviewOptions plain;
    plain.overlay = false;
    const auto with = render_preview(shown.flair, shown.t1ce, shown.labels);
    const auto without = render_preview(shown.flair, shown.t1ce, shown.labels, plain);
    if (cannot_draw(with))
        return;
    REQUIRE_OK(with);
    REQUIRE_OK(without);
    REQUIRE(preview_classes().size() == 3);
    for (const PreviewClass& c : preview_classes()) {
        const auto legend = pixels_of(*without, c.rgb);
        const auto all = pixels_of(*with, c.rgb);
        REQUIRE_FALSE(legend.empty());
        REQUIRE(legend.front().y > without->height * 3 / 4);
        REQUIRE(all.size() > legend.size() + 100);
        REQUIRE(all.front().y < with->height / 2);
    }
}

TEST_CASE("a preview shows enhancing tumour alike whether it is written as 3 or as 4") {
    Case three;
    three.add_box(10, 12, 14, 3);
    Case four;
    four.add_box(10, 12, 14, 4);
    const auto a = render_preview(three.flair, three.t1ce, three.labels);
    const auto b = render_preview(four.flair, four.t1ce, four.labels);
    if (cannot_draw(a))
        return;
    REQUIRE_OK(a);
    REQUIRE_OK(b);
    REQUIRE(a->rgb == b->rgb);
    REQUIRE(preview_summary(three.labels) == preview_summary(four.labels));
}

TEST_CASE("a preview keeps the radiological convention: right on the left, front at the top") {
    Case right; // i grows to the left, so a low i is the patient's right
    right.add_box(4, 17, 17, 4);
    Case left;
    left.add_box(30, 17, 17, 4);
    Case front; // j grows to posterior
    front.add_box(17, 4, 17, 4);
    Case back;
    back.add_box(17, 30, 17, 4);
    const auto at_right = render_preview(right.flair, right.t1ce, right.labels);
    if (cannot_draw(at_right))
        return;
    const auto at_left = render_preview(left.flair, left.t1ce, left.labels);
    const auto at_front = render_preview(front.flair, front.t1ce, front.labels);
    const auto at_back = render_preview(back.flair, back.t1ce, back.labels);
    REQUIRE(axial_centre(*at_right, 4).x + 100 < axial_centre(*at_left, 4).x);
    REQUIRE(axial_centre(*at_front, 4).y + 100 < axial_centre(*at_back, 4).y);
}

TEST_CASE("a preview shows the largest cross-section of the tumour above, and of the core below") {
    Case shown;
    shown.add_box(17, 17, 4, 2);
    shown.labels.labels[shown.index(5, 5, 30)] = 4; // a core of a single voxel elsewhere
    const auto image = render_preview(shown.flair, shown.t1ce, shown.labels);
    if (cannot_draw(image))
        return;
    REQUIRE_OK(image);
    const auto rows_of = [&](std::uint8_t label) {
        std::array<int, 2> rows{};
        for (const Position& p : pixels_of(*image, class_with(label).rgb))
            if (p.y < image->height - 96)
                ++rows[p.y < image->height * 2 / 5 ? 0 : 1];
        return rows;
    };
    REQUIRE(rows_of(2)[0] > 0);
    REQUIRE(rows_of(4)[0] == 0);
    REQUIRE(rows_of(4)[1] > 0);
    // Without a core both rows show the tumour.
    shown.labels.labels[shown.index(5, 5, 30)] = 0;
    const auto without_core = render_preview(shown.flair, shown.t1ce, shown.labels);
    REQUIRE_OK(without_core);
    const auto oedema = pixels_of(*without_core, class_with(2).rgb);
    REQUIRE(std::any_of(oedema.begin(), oedema.end(), [&](const Position& p) {
        return p.y > without_core->height / 2 && p.y < without_core->height - 96;
    }));
}

TEST_CASE("a preview has the plain image beside the labelled one") {
    Case shown;
    shown.add_box(17, 17, 17, 2);
    const auto image = render_preview(shown.flair, shown.t1ce, shown.labels);
    PreviewOptions options;
    options.overlay = false;
    const auto plain = render_preview(shown.flair, shown.t1ce, shown.labels, options);
    if (cannot_draw(image))
        return;
    REQUIRE_OK(image);
    REQUIRE_OK(plain);
    REQUIRE(image->width > plain->width);
    // Outlines are in the left panel of each of the three pairs only: six panels, three of them labelled.
    std::vector<int> columns;
    for (const Position& p : pixels_of(*image, class_with(2).rgb))
        if (p.y < image->height / 2)
            columns.push_back(p.x);
    std::sort(columns.begin(), columns.end());
    int groups = 1;
    for (std::size_t n = 1; n < columns.size(); ++n)
        groups += columns[n] - columns[n - 1] > 100 ? 1 : 0;
    REQUIRE(groups == 3);
}

TEST_CASE("a preview counts slices as the file does") {
    Case shown;
    shown.add_box(17, 17, 17, 2);
    const auto with = [&](const PreviewFileAxes& file) {
        PreviewOptions options;
        options.file = file;
        return render_preview(shown.flair, shown.t1ce, shown.labels, options);
    };
    const auto unknown = render_preview(shown.flair, shown.t1ce, shown.labels);
    if (cannot_draw(unknown))
        return;
    const auto same = with({{0, 1, 2}, {}, {40, 40, 40}});
    const auto flipped = with({{0, 1, 2}, {true, true, true}, {40, 40, 40}});
    const auto permuted = with({{2, 1, 0}, {}, {40, 40, 40}});
    const auto finer = with({{0, 1, 2}, {}, {80, 80, 80}});
    REQUIRE_OK(same);
    REQUIRE(same->rgb == unknown->rgb);
    REQUIRE(flipped->rgb != same->rgb); // 39 - 19
    REQUIRE(permuted->rgb != same->rgb);
    REQUIRE(finer->rgb != same->rgb);
    REQUIRE(flipped->width == same->width);
}

TEST_CASE("a preview honours the voxel spacing") {
    const Case cubes({40, 40, 40}, {1, 1, 1});
    const Case slabs({40, 40, 8}, {1, 1, 5});
    const auto a = render_preview(cubes.flair, cubes.t1ce, cubes.labels);
    const auto b = render_preview(slabs.flair, slabs.t1ce, slabs.labels);
    if (cannot_draw(a))
        return;
    REQUIRE_OK(a);
    REQUIRE_OK(b);
    REQUIRE(a->width == b->width);
    REQUIRE(a->height == b->height);
}

TEST_CASE("a preview without tumour says so") {
    Case shown;
    REQUIRE(preview_summary(shown.labels) == "no tumour found");
    const auto without = render_preview(shown.flair, shown.t1ce, shown.labels);
    if (cannot_draw(without))
        return;
    REQUIRE_OK(without);
    REQUIRE(pixels_of(*without, class_with(2).rgb).front().y > without->height * 3 / 4);
    shown.add_box(17, 17, 17, 2);
    const auto with = render_preview(shown.flair, shown.t1ce, shown.labels);
    REQUIRE_OK(with);
    // The words are larger than the footer's, in the same colour of warning.
    const std::array<std::uint8_t, 3> warning = {255, 176, 80};
    const auto in_legend = [&](const PreviewImage& image) {
        const auto found = pixels_of(image, warning);
        return std::count_if(found.begin(), found.end(), [&](const Position& p) { return p.y > image.height - 96; });
    };
    REQUIRE(in_legend(*without) > in_legend(*with) + 100);
}

TEST_CASE("a preview's volumes follow the voxel size") {
    Case shown({40, 40, 40}, {2, 1, 2.5});
    shown.add_box(10, 10, 10, 1); // 216 voxels of 5 mm^3
    shown.add_box(20, 10, 10, 4);
    shown.add_box(10, 20, 10, 2);
    REQUIRE(preview_summary(shown.labels) == "tumour core  2.2 ml     whole tumour  3.2 ml");
}

TEST_CASE("a preview draws a reference as a white outline") {
    Case shown;
    shown.add_box(10, 12, 14, 2);
    Case expert;
    expert.add_box(12, 12, 14, 2);
    PreviewOptions options;
    const auto alone = render_preview(shown.flair, shown.t1ce, shown.labels, options);
    options.reference = &expert.labels;
    const auto both = render_preview(shown.flair, shown.t1ce, shown.labels, options);
    if (cannot_draw(both))
        return;
    REQUIRE_OK(both);
    REQUIRE(pixels_of(*both, {255, 255, 255}).size() > pixels_of(*alone, {255, 255, 255}).size() + 100);
}

TEST_CASE("a preview shows brains whose background is not 0") {
    Case plain;
    plain.add_box(17, 17, 17, 2);
    Case shifted = plain;
    for (Volume* volume : {&shifted.flair, &shifted.t1ce})
        for (float& v : volume->voxels)
            v -= 1000;
    const auto a = render_preview(plain.flair, plain.t1ce, plain.labels);
    const auto b = render_preview(shifted.flair, shifted.t1ce, shifted.labels);
    if (cannot_draw(a))
        return;
    REQUIRE_OK(b);
    REQUIRE(a->rgb == b->rgb);
}

TEST_CASE("a preview of a volume without any brain, or of a single voxel, is drawn all the same") {
    Case flat;
    std::fill(flat.flair.voxels.begin(), flat.flair.voxels.end(), 3.0F);
    flat.t1ce = flat.flair;
    const auto image = render_preview(flat.flair, flat.t1ce, flat.labels);
    if (cannot_draw(image))
        return;
    REQUIRE_OK(image);
    const Case dot({1, 1, 1});
    REQUIRE_OK(render_preview(dot.flair, dot.t1ce, dot.labels));
}

TEST_CASE("a preview that cannot be right is rejected with its code and writes nothing") {
    const Case good;
    if (cannot_draw(render_preview(good.flair, good.t1ce, good.labels)))
        return;
    const test::TemporaryFolder folder;
    const auto path = folder / "preview.png";

    const Case other({40, 40, 39});
    REQUIRE_CODE(write_preview(path, good.flair, other.t1ce, good.labels), grid_size_mismatch);
    REQUIRE_CODE(write_preview(path, good.flair, good.t1ce, other.labels), grid_size_mismatch);
    PreviewOptions options;
    options.reference = &other.labels;
    REQUIRE_CODE(write_preview(path, good.flair, good.t1ce, good.labels, options), grid_size_mismatch);

    Case bad = good;
    bad.t1ce.voxels.pop_back();
    REQUIRE_CODE(write_preview(path, bad.flair, bad.t1ce, bad.labels), invalid_argument);
    bad = good;
    bad.flair.voxels[5] = std::numeric_limits<float>::quiet_NaN();
    REQUIRE_CODE(write_preview(path, bad.flair, bad.t1ce, bad.labels), voxel_not_finite);
    bad = good;
    bad.labels.labels[9] = 5;
    REQUIRE_CODE(write_preview(path, bad.flair, bad.t1ce, bad.labels), label_outside_scheme);
    bad = good;
    bad.flair.grid.affine[2][2] = 0;
    REQUIRE_CODE(write_preview(path, bad.flair, bad.t1ce, bad.labels), affine_singular);
    REQUIRE_CODE(write_preview(path, Volume{}, Volume{}, LabelMap{}), invalid_argument);
    REQUIRE(std::filesystem::is_empty(folder.path()));

    REQUIRE_CODE(write_preview(folder / "missing" / "preview.png", good.flair, good.t1ce, good.labels), file_write);
    REQUIRE(std::filesystem::is_empty(folder.path()));
}
