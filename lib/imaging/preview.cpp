// SPDX-License-Identifier: MIT
#include "imaging/preview.h"

#include "core/file.h"
#include "core/try.h"
#include "imaging/labels.h"
#include "imaging/preview_content.h"
#include "imaging/preview_page.h"
#include "picture/png.h"

#include <algorithm>
#include <span>

namespace mfres {

namespace {

std::array<PreviewClass, 3> drawn_classes() {
    const auto labels = labels_of(LabelScheme::brats);
    std::array<PreviewClass, 3> drawn;
    for (int tumour_class = 1; tumour_class < tumour_classes; ++tumour_class) {
        const ClassAppearance& look = appearance(tumour_class);
        drawn[static_cast<std::size_t>(tumour_class) - 1] = {labels[static_cast<std::size_t>(tumour_class)], look.name,
                                                             look.rgb};
    }
    return drawn;
}

} // namespace

std::span<const PreviewClass> preview_classes() {
    static const std::array<PreviewClass, 3> classes = drawn_classes();
    return classes;
}

std::string preview_summary(const LabelMap& labels) {
    const auto is_tumour = [](std::uint8_t label) { return label != 0; };
    if (std::none_of(labels.labels.begin(), labels.labels.end(), is_tumour))
        return "no tumour found";
    const auto volumes = preview::class_volumes(labels);
    const double core = volumes[0] + volumes[2];
    return text("tumour core  ", preview::millilitres(core), "     whole tumour  ",
                preview::millilitres(core + volumes[1]));
}

#ifndef MFRES_WITH_PREVIEWS

Status can_draw_previews() {
    return Error{ErrorCode::operation_unsupported,
                 "this build cannot draw previews: it was configured with MFRES_WITH_PREVIEWS=OFF; use one with ON",
                 "preview"};
}

Result<PreviewImage> render_preview(const Volume&, const Volume&, const LabelMap&, const PreviewOptions&) {
    return can_draw_previews().error();
}

Result<std::vector<std::byte>> encode_preview(const Volume& flair, const Volume& t1ce, const LabelMap& labels,
                                              const PreviewOptions& options) {
    return render_preview(flair, t1ce, labels, options).error();
}

#else

Status can_draw_previews() {
    return {};
}

Result<PreviewImage> render_preview(const Volume& flair, const Volume& t1ce, const LabelMap& labels,
                                    const PreviewOptions& options) {
    MFRES_CHECK(preview::check_input(flair, t1ce, labels, options));
    MFRES_TRY(const auto spacing, preview::spacing_of(flair.grid));

    const preview::Window flair_window = preview::window_of(flair);
    const preview::Window t1ce_window = preview::window_of(t1ce);
    const preview::Box box = preview::brain_box(flair, t1ce, flair_window.background, t1ce_window.background, spacing);
    const auto tumour = [](std::uint8_t label) { return label != 0; };
    const auto core = [](std::uint8_t label) { return label != 0 && label != 2; };
    preview::Page page = {labels,
                          options,
                          spacing,
                          box,
                          preview::slices_through(labels, box, tumour),
                          preview::slices_through(labels, box, core)};
    for (std::size_t axis = 0; axis < 3; ++axis) { // show labels outside the brain, too
        page.box.low[axis] = std::min({page.box.low[axis], page.upper[axis], page.lower[axis]});
        page.box.high[axis] = std::max({page.box.high[axis], page.upper[axis], page.lower[axis]});
    }
    page.scale = preview::fitting_scale(page);
    return preview::draw_page(page, flair, t1ce, flair_window, t1ce_window);
}

Result<std::vector<std::byte>> encode_preview(const Volume& flair, const Volume& t1ce, const LabelMap& labels,
                                              const PreviewOptions& options) {
    MFRES_TRY(const PreviewImage image, render_preview(flair, t1ce, labels, options));
    return encode_png(image);
}

#endif

Status write_preview(const std::filesystem::path& path, const Volume& flair, const Volume& t1ce, const LabelMap& labels,
                     const PreviewOptions& options) {
    auto png = encode_preview(flair, t1ce, labels, options);
    if (!png) {
        Error error = std::move(png).error();
        error.where = path.string();
        return error;
    }
    return write_file_atomically(path, *png);
}

} // namespace mfres
