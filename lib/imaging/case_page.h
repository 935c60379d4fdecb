// SPDX-License-Identifier: MIT
// A case as one HTML file that needs no network: slices to scroll in three planes, labels on and off, and what is known of
// them as text.
#pragma once

#include "imaging/case.h"

#include <mfres/status.h>
#include <mfres/volume.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace mfres {

/// What the page says around the images.
struct CasePageText {
    std::string title;
    std::vector<std::string> warnings;
    std::vector<std::pair<std::string, std::string>> volumes; ///< "whole tumour", "54.3 ml"
    std::vector<std::pair<std::string, std::string>> facts;   ///< where it comes from: "model", "m.safetensors"
};

struct CasePageOptions {
    std::size_t max_bytes = 5'000'000; ///< of the page. Images are made coarser until it is kept
};

/// The page. `classes` and `reference` (null = none) hold class indices on the grid of the scans. Slices are shown in
/// radiological convention and counted as in the files of the case; the first ones go through the middle of the tumour
/// core, of the tumour where there is no core, or of the brain.
/// Errors: grid_size_mismatch; label_outside_scheme (a value that is no class); memory_limit (not even the coarsest images
/// keep to max_bytes).
Result<std::string> case_page(const Case& loaded, const LabelMap& classes, const LabelMap* reference,
                              const CasePageText& words, const CasePageOptions& options = {});

/// Text for HTML: & < > " ' as entities.
std::string html_text(std::string_view words);

/// Rows of a table of two columns.
std::string html_rows(const std::vector<std::pair<std::string, std::string>>& rows);

} // namespace mfres
