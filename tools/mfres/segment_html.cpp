// SPDX-License-Identifier: MIT
// `mfres segment --html`: the case and its label map, as they were read and written, as one page.
#include "option_groups.h"
#include "run_and_print.h"
#include "segment.h"

#include "core/file.h"
#include "core/format.h"
#include "core/try.h"
#include "imaging/case_page.h"
#include "imaging/labels.h"
#include "inference/predictor.h"

#include <array>

namespace mfres::cli {

namespace {

std::string millilitres(double value) {
    return format_classic("%.2f ml", value);
}

/// What the regions are called by people.
std::string region_words(const std::string& name) {
    return name == "WT" ? "whole tumour" : name == "TC" ? "tumour core" : name == "ET" ? "enhancing tumour" : name;
}

std::string inputs_of(const SegmentReport& report) {
    std::string list;
    for (const std::string& input : report.inputs)
        if (!input.empty())
            list += text(list.empty() ? "" : ", ", input);
    return list;
}

CasePageText words_of(const SegmentReport& report, const Options& options) {
    CasePageText words;
    words.title = report.case_id;
    words.warnings = report.warnings;
    for (const auto& part : report.classes)
        words.volumes.emplace_back(part.name, millilitres(part.millilitres));
    for (const auto& part : report.regions)
        if (part.name != "ET") // a class, too
            words.volumes.emplace_back(region_words(part.name), millilitres(part.millilitres));
    const OrderedJson made = provenance(options);
    words.facts = {{"program", made["program"].get<std::string>()},
                   {"date", made["date"].get<std::string>()},
                   {"network", report.network},
                   {"model", report.model_file},
                   {"SHA-256 of the weights", report.weights_sha256},
                   {"backend", text(report.used.engine, ", ", to_string(report.used.precision), ", ",
                                    counted(report.used.threads, "thread"))},
                   {"images", inputs_of(report)},
                   {"label map", report.output},
                   {"labels", report.label_scheme},
                   {"options", made["options"].dump(-1, ' ', false, OrderedJson::error_handler_t::replace)}};
    return words;
}

} // namespace

Status write_case_page(Segmenter& segmenter, const CaseFiles& files, const SegmentOutputs& outputs,
                       const SegmentReport& report, const Options& options) {
    SegmentOptions request;
    MFRES_CHECK(read_case_options(options, request.affine, request.resample));
    const CasePredictor& predictor = segmenter.predictor().inside();
    MFRES_TRY(const Case loaded, predictor.load(files, request.affine, request.resample, request.any_contrasts));
    CaseFiles labelled = files;
    labelled.segmentation = outputs.labels;
    labelled.label_scheme = report.label_scheme;
    MFRES_TRY(const LabelMap classes, load_reference_classes(labelled, loaded));
    std::optional<LabelMap> reference;
    if (files.segmentation && !files.label_scheme.empty()) {
        MFRES_TRY(reference, load_reference_classes(files, loaded));
    }
    MFRES_TRY(const std::string page,
              case_page(loaded, classes, reference ? &*reference : nullptr, words_of(report, options)));
    return write_file_atomically(outputs.html, page, options.has("force"));
}

} // namespace mfres::cli
