// SPDX-License-Identifier: MIT
#include "paper/robustness.h"

#include "core/format.h"
#include "core/guard.h"
#include "core/json_value.h"
#include "core/postprocessing_json.h"
#include "core/try.h"
#include "paper/disturb.h"
#include "report/text_table.h"

#include <mfres/case_images.h>
#include <mfres/postprocessing.h>

#include <algorithm>
#include <new>

namespace mfres {

namespace {

/// A case that is disturbed again and again.
struct Patient {
    CaseImages images;
    LabelMap labels; ///< of the untouched case, class indices; empty before they are known
};

/// Classes of the disturbed case on the patient's own grid, with the report of the prediction.
Result<Prediction> label_disturbed(Predictor& predictor, const Patient& patient, Disturbance disturbance,
                                   const RobustnessOptions& options, const Progress& progress) {
    const CaseImages& images = patient.images;
    const Grid& grid = images.volumes[0].grid;
    const Window window = window_of(disturbance, grid.size, images.brain_begin, images.brain_end);
    CaseImages disturbed;
    disturbed.id = text(images.id, " (", name(disturbance), ")");
    for (std::size_t m = 0; m < disturbed.volumes.size(); ++m) {
        disturbed.volumes[m] = seen_through(images.volumes[m], window, images.background[m]);
        change_voxels(disturbance, disturbed.volumes[m], images.background[m], Random(options.seed).fork(m));
    }
    // In this scheme the label of a class is its index.
    MFRES_TRY(Prediction result, predictor.predict(disturbed.views(),
                                                   {.resample = options.resample,
                                                    .label_scheme = "brats2023",
                                                    .min_enhancing_mm3 = options.min_enhancing_mm3,
                                                    .min_component_mm3 = options.min_component_mm3},
                                                   progress));
    result.labels = put_back(result.labels, window, grid);
    return result;
}

std::array<double, 3> dice_of(const LabelMap& a, const LabelMap& b) {
    const RegionCounts counts = count_regions(a.labels, b.labels, RegionDefinition::brats);
    std::array<double, 3> values{};
    for (const TumourRegion region : tumour_regions)
        values[static_cast<std::size_t>(region)] = dice(counts[region]);
    return values;
}

RobustnessCase compare(const Patient& patient, const LabelMap& labels) {
    RobustnessCase compared{patient.images.id, dice_of(labels, patient.labels), {}, {}};
    if (const auto& reference = patient.images.reference) {
        compared.dice = dice_of(labels, *reference);
        const RegionCount enhancing =
            count_regions(labels.labels, reference->labels, RegionDefinition::brats)[TumourRegion::et];
        compared.false_enhancing = enhancing.predicted - enhancing.true_positives;
    }
    return compared;
}

// Report -----------------------------------------------------------------------------------------------------------

std::string_view meaning(Disturbance disturbance) {
    switch (disturbance) {
    case Disturbance::none: return "as it is";
    case Disturbance::shift: return "field of view moved by up to 7, 5, 3 voxels";
    case Disturbance::tight_crop: return "cropped to the brain";
    case Disturbance::loose_crop: return "20 voxels of background more on every side";
    case Disturbance::mirror: return "left and right exchanged";
    case Disturbance::scale: return "each modality times 1/3 to 3, plus an offset";
    case Disturbance::contrast: return "gamma 0.8 or 1.25 by modality";
    case Disturbance::bias_field: return "smooth field of up to +-20 %";
    case Disturbance::noise: return "noise of 10 % of the brain's deviation";
    case Disturbance::thick_slices: return "slices of 3 mm, interpolated";
    }
    return "";
}

/// One number of every case that has it.
template <typename Value>
Statistics over_cases(const RobustnessRow& row, const Value& value) {
    std::vector<double> values;
    for (const RobustnessCase& one : row.cases)
        if (const std::optional<double> number = value(one))
            values.push_back(*number);
    return statistics(std::move(values));
}

std::string mean_text(const Statistics& values, int decimals) {
    return values.mean ? grouped(*values.mean, decimals) : "-";
}

std::optional<double> reference_dice(const RobustnessCase& one, std::size_t region) {
    return one.dice ? std::optional((*one.dice)[region]) : std::nullopt;
}

std::optional<double> false_enhancing(const RobustnessCase& one) {
    return one.false_enhancing ? std::optional(static_cast<double>(*one.false_enhancing)) : std::nullopt;
}

double worst_agreement(const RobustnessRow& row) {
    double worst = 1.0;
    for (const RobustnessCase& one : row.cases)
        worst = std::min(worst, *std::min_element(one.agreement.begin(), one.agreement.end()));
    return worst;
}

} // namespace

Result<RobustnessReport> measure_robustness(Segmenter& segmenter, const CaseSet& given,
                                            const RobustnessOptions& options, const Progress& progress) {
    if (given.empty())
        return Error{ErrorCode::dataset_empty, "there is no case to disturb", {}};
    return guarded("robustness", [&]() -> Result<RobustnessReport> {
        RobustnessReport report;
        report.seed = options.seed;
        for (const Disturbance disturbance : disturbances)
            report.rows.push_back({disturbance, {}});
        std::size_t done = 0;
        Predictor& predictor = segmenter.predictor();
        CaseSet cases = given;
        MFRES_TRY(report.labels,
                  cases.choose_labels(options.label_scheme, "the references", options.affine, options.threads));
        for (std::size_t i = 0; i < cases.size(); ++i) {
            Patient patient;
            MFRES_TRY(patient.images,
                      read_images(segmenter, cases, i, {.affine = options.affine, .resample = options.resample}));
            for (RobustnessRow& row : report.rows) {
                double ran = 0.0; // share of the network, which is nearly all of the time
                const auto observe = [&](std::string_view stage, double share) {
                    ran = stage == "network" ? share : ran;
                    return !progress ||
                           progress("robustness", (static_cast<double>(done) + ran) /
                                                      static_cast<double>(cases.size() * report.rows.size()));
                };
                MFRES_TRY(const Prediction result,
                          label_disturbed(predictor, patient, row.disturbance, options, observe));
                if (row.disturbance == Disturbance::none)
                    patient.labels = result.labels;
                report.model = model_sentence(result.report);
                report.postprocessing = result.report.postprocessing;
                row.cases.push_back(compare(patient, result.labels));
                ++done;
            }
        }
        return report;
    });
}

std::string to_markdown(const RobustnessReport& report) {
    std::string page =
        text("Robustness on ", counted(report.rows.empty() ? 0 : report.rows[0].cases.size(), "case"), ", seed ",
             report.seed,
             ": mean Dice of the disturbed case's labels with those of the untouched one and with the reference "
             "(regions `brats`); `worst` is the lowest of all cases and regions; `false ET` counts voxels that the "
             "reference does not call enhancing, mean per case.\n\n");
    std::vector<TableColumn> columns{{"", "disturbance", false}, {"", "what", false}};
    for (const char* group : {"untouched", "reference"})
        for (const TumourRegion region : tumour_regions)
            columns.push_back({group, std::string(name(region))});
    columns.push_back({"untouched", "worst"});
    columns.push_back({"reference", "false ET"});
    TextTable table(columns);
    for (const RobustnessRow& row : report.rows) {
        std::vector<std::string> cells{std::string(name(row.disturbance)), std::string(meaning(row.disturbance))};
        for (std::size_t region = 0; region < 3; ++region)
            cells.push_back(mean_text(
                over_cases(row, [&](const RobustnessCase& one) { return std::optional(one.agreement[region]); }), 4));
        for (std::size_t region = 0; region < 3; ++region)
            cells.push_back(
                mean_text(over_cases(row, [&](const RobustnessCase& one) { return reference_dice(one, region); }), 4));
        cells.push_back(grouped(worst_agreement(row), 4));
        cells.push_back(mean_text(over_cases(row, false_enhancing), 0));
        table.row(std::move(cells));
    }
    page += table.markdown() + "\n" + report.model + "\n";
    if (const double mm3 = report.postprocessing.min_component_mm3; mm3 > 0.0)
        page += text("Parts of the tumour below ", mm3, " mm^3, but for the largest, were labelled as background.\n");
    if (const std::string least = least_enhancing(report.postprocessing); !least.empty())
        page += text("Enhancing tumour below ", least, " was labelled as necrotic core.\n");
    return page + (report.labels.empty() ? "" : report.labels + "\n");
}

std::string to_json(const RobustnessReport& report) {
    Json rows = Json::array();
    for (const RobustnessRow& row : report.rows) {
        Json cases = Json::array();
        for (const RobustnessCase& one : row.cases) {
            Json object{{"case", one.id}, {"dice_with_untouched", one.agreement}};
            if (one.dice)
                object["dice_with_reference"] = *one.dice;
            if (one.false_enhancing)
                object["false_enhancing_voxels"] = *one.false_enhancing;
            cases.push_back(std::move(object));
        }
        rows.push_back({{"disturbance", name(row.disturbance)}, {"what", meaning(row.disturbance)}, {"cases", cases}});
    }
    return Json{{"model", report.model},
                {"labels", report.labels},
                {"postprocessing", postprocessing_json<Json>(report.postprocessing)},
                {"seed", report.seed},
                {"regions", {"WT", "TC", "ET"}},
                {"disturbances", std::move(rows)}}
        .dump(2, ' ', false, Json::error_handler_t::replace);
}

} // namespace mfres
