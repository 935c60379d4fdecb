// SPDX-License-Identifier: MIT
// Layout and drawing of a preview's page.
#pragma once

#ifdef MFRES_WITH_PREVIEWS

#include "imaging/preview_content.h"

namespace mfres::preview {

/// What all panels have in common.
struct Page {
    const LabelMap& labels;
    const PreviewOptions& options;
    std::array<double, 3> spacing; ///< mm
    Box box;
    Index3 upper, lower; ///< slices of the two rows
    double scale = 1;    ///< pixels per mm
};

/// The largest scale at which all panels of a row fit into the page's width and one row of panels into its height.
double fitting_scale(const Page& page);

/// Title, captions, two rows of three panels or pairs of panels, legend and footer.
RgbImage draw_page(const Page& page, const Volume& flair, const Volume& t1ce, const Window& flair_window,
                   const Window& t1ce_window);

} // namespace mfres::preview

#endif
