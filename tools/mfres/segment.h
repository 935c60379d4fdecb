// SPDX-License-Identifier: MIT
// The parts of `mfres segment`: one case (segment.cpp), and a folder of them (segment_folder.cpp).
#pragma once

#include "cli.h"

#include <mfres/case.h>
#include <mfres/segmenter.h>

#include <filesystem>
#include <string>

namespace mfres::cli {

/// The files of one case; empty = not written.
struct SegmentOutputs {
    std::filesystem::path labels, preview, report, probabilities, html;
};

/// Whether no two files are one, and none is an input. Errors: those of check_outputs_apart.
Status check_apart(const SegmentOutputs& outputs, const CaseFiles& files);

/// The JSON report, with what made it; with --verbose also what the backend chose for each op.
std::string report_text(const SegmentReport& report, const Options& options);

/// The file of --label-table, if it is asked for. Errors: those of label_choice and of writing.
Status write_label_table(Segmenter& segmenter, const Options& options);

/// Segments one case and writes its files. Errors: those of Segmenter::segment, and of the report's file.
Result<SegmentReport> segment_one(Segmenter& segmenter, const CaseFiles& files, const SegmentOutputs& outputs,
                                  const Options& options, ProgressDisplay& display);

/// The page of a case that has been segmented (imaging/case_page.h), made of its images and its label map. A reference is
/// drawn, too, where the case has one and its scheme has been chosen. Errors: those of CasePredictor::load,
/// load_reference_classes, case_page and of writing.
Status write_case_page(Segmenter& segmenter, const CaseFiles& files, const SegmentOutputs& outputs,
                       const SegmentReport& report, const Options& options);

/// Where the files of the cases of a folder are put.
enum class FolderLayout : std::uint8_t {
    flat, ///< CASE.nii.gz
    bids, ///< as BIDS derivatives: sub-X/[ses-Y/]anat/sub-X[_ses-Y]_desc-tumour_dseg.nii.gz and .json
};
inline constexpr std::array<FolderLayout, 2> folder_layouts = {FolderLayout::flat, FolderLayout::bids};
/// "flat", "bids"
std::string_view to_string(FolderLayout layout) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
Result<FolderLayout> parse_folder_layout(std::string_view text);

/// The cases of --data, with outputs that are apart from each other and from what is read. Errors: those of
/// search_cases; invalid_argument (two outputs of one name), file_exists (volumes.csv or summary.json, without --force
/// and --skip-existing).
Result<FoundCases> cases_to_segment(const Options& options);

/// Segments all cases of a folder. Every one is tried, and has a row in volumes.csv and summary.json in the folder of
/// --out, which are written anew after each case. The exit code is that of the first rejection, or exit_interrupted.
int segment_folder(Segmenter& segmenter, const FoundCases& found, const Options& options);

} // namespace mfres::cli
