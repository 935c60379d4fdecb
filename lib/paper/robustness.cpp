// SPDX-License-Identifier: MIT
#include <mfres/robustness.h>

#include "core/try.h"
#include "imaging/case.h"
#include "imaging/compact_volume.h"
#include "imaging/labels.h"
#include "inference/box_source.h"
#include "inference/predictor.h"
#include "paper/disturb.h"
#include "report/text_table.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <new>

namespace mfres {

namespace {

using nlohmann::json;
using Size = std::array<std::int64_t, 3>;

/// A case that is disturbed again and again.
struct Patient {
    std::string id;
    std::array<Volume, 4> volumes; ///< canonical
    std::array<float, 4> background{};
    Size brain_begin{};                ///< of what is not background in any modality
    Size brain_end{};                  ///< one past its last voxel
    std::optional<LabelMap> reference; ///< class indices
    LabelMap labels;                   ///< of the untouched case, class indices; empty before they are known
};

void take_scans(Patient& patient, const std::array<CompactVolume, 4>& scans) {
    patient.brain_begin = scans[0].grid().size;
    for (std::size_t m = 0; m < scans.size(); ++m) {
        patient.volumes[m] = scans[m].volume();
        patient.background[m] = scans[m].background();
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const std::int64_t begin = scans[m].kept_begin()[axis];
            patient.brain_begin[axis] = std::min(patient.brain_begin[axis], begin);
            patient.brain_end[axis] = std::max(patient.brain_end[axis], begin + scans[m].kept_size()[axis]);
        }
    }
}

Result<Patient> load_patient(const CasePredictor& predictor, const CaseFiles& files, const RobustnessOptions& options) {
    MFRES_TRY(const AffineSource use, affine_source(options.affine));
    MFRES_TRY(const Case loaded, predictor.load(files, use, options.resample, false));
    Patient patient;
    patient.id = files.id;
    if (files.segmentation) {
        MFRES_TRY(patient.reference, load_segmentation(files, loaded));
        MFRES_CHECK(
            labels_to_classes(*patient.reference, scheme_shown_by(*patient.reference), files.segmentation->string()));
    }
    take_scans(patient, loaded.scans);
    return patient;
}

/// Background kept around the box of a cached case: what a shift of the field of view needs.
constexpr std::int64_t cached_margin = 8;

Result<Patient> load_patient(const CasePredictor& predictor, const CaseSet::Cached& cached, const RobustnessOptions&) {
    MFRES_TRY(const auto source, cached.cache->load(cached.index));
    MFRES_CHECK(check_cached(predictor.input(), *source));
    Grid grid;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        grid.size[axis] = source->size[axis] + 2 * cached_margin;
        grid.affine[axis][axis] = axis == 2 ? source->voxel_mm[axis] : -source->voxel_mm[axis];
    }
    Patient patient;
    patient.id = source->id;
    patient.brain_begin.fill(cached_margin);
    for (std::size_t axis = 0; axis < 3; ++axis)
        patient.brain_end[axis] = cached_margin + source->size[axis];
    patient.reference.emplace(LabelMap{grid, std::vector<std::uint8_t>(static_cast<std::size_t>(grid.voxels()))});
    for (Volume& volume : patient.volumes)
        volume = {grid, std::vector<float>(static_cast<std::size_t>(grid.voxels()), 0.0F)};
    const BrainBox box = brain_box(*source, modalities, all_modalities, 1, predictor.threads());
    Tensor scores({1, 4, box.size[0], box.size[1], box.size[2]});
    box.fill({0, 0, 0}, view(scores));
    const std::int64_t voxels = source->voxels();
    for (std::size_t m = 0; m < 4; ++m) {
        const float* const of = scores.data() + static_cast<std::int64_t>(m) * voxels;
        float least = 0.0F; // of the brain; somewhere a z-score is not above the mean
        for (std::int64_t index = 0; index < voxels; ++index)
            least = std::min(least, of[index]);
        std::size_t index = 0;
        for (std::int64_t x = 0; x < source->size[0]; ++x)
            for (std::int64_t y = 0; y < source->size[1]; ++y)
                for (std::int64_t z = 0; z < source->size[2]; ++z, ++index) {
                    const auto to = static_cast<std::size_t>(
                        x + cached_margin + grid.size[0] * (y + cached_margin + grid.size[1] * (z + cached_margin)));
                    if (source->brain[index] != 0)
                        patient.volumes[m].voxels[to] = of[index] - least + 1.0F;
                    patient.reference->labels[to] = source->classes[index];
                }
    }
    return patient;
}

/// Classes of the disturbed case on the patient's own grid, with the report of the prediction.
Result<Prediction> label_disturbed(Predictor& predictor, const Patient& patient, Disturbance disturbance,
                                   const RobustnessOptions& options, const Progress& progress) {
    const Window window = window_of(disturbance, patient.volumes[0].grid.size, patient.brain_begin, patient.brain_end);
    std::array<Volume, 4> disturbed;
    CaseVolumes volumes;
    volumes.id = text(patient.id, " (", name(disturbance), ")");
    for (std::size_t m = 0; m < disturbed.size(); ++m) {
        disturbed[m] = seen_through(patient.volumes[m], window, patient.background[m]);
        change_voxels(disturbance, disturbed[m], patient.background[m], Random(options.seed).fork(m));
        volumes.volumes[m] = VolumeView::of(disturbed[m]);
    }
    MFRES_TRY(Prediction result, predictor.predict(volumes,
                                                   {.resample = options.resample,
                                                    .label_scheme = std::string(name(LabelScheme::brats)),
                                                    .min_enhancing_mm3 = options.min_enhancing_mm3,
                                                    .min_component_mm3 = options.min_component_mm3},
                                                   progress));
    MFRES_CHECK(labels_to_classes(result.labels, LabelScheme::brats, volumes.id));
    result.labels = put_back(result.labels, window, patient.volumes[0].grid);
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
    RobustnessCase compared{patient.id, dice_of(labels, patient.labels), {}, {}};
    if (patient.reference) {
        compared.dice = dice_of(labels, *patient.reference);
        const RegionCount enhancing =
            count_regions(labels.labels, patient.reference->labels, RegionDefinition::brats)[TumourRegion::et];
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

Result<RobustnessReport> measure_robustness(Segmenter& segmenter, const CaseSet& cases,
                                            const RobustnessOptions& options, const Progress& progress) {
    if (cases.empty())
        return Error{ErrorCode::dataset_empty, "there is no case to disturb", {}};
    try {
        RobustnessReport report;
        report.seed = options.seed;
        for (const Disturbance disturbance : disturbances)
            report.rows.push_back({disturbance, {}});
        std::size_t done = 0;
        Predictor& predictor = segmenter.predictor();
        for (std::size_t i = 0; i < cases.size(); ++i) {
            MFRES_TRY(
                Patient patient,
                std::visit([&](const auto& one) { return load_patient(predictor.inside(), one, options); }, cases[i]));
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
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, "a disturbed case does not fit into memory", {}};
    }
}

std::string to_markdown(const RobustnessReport& report) {
    std::string page =
        text("Robustness on ", report.rows.empty() ? 0 : report.rows[0].cases.size(), " cases, seed ", report.seed,
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
    if (const double mm3 = report.postprocessing.min_enhancing_mm3; mm3 > 0.0)
        page += text("Enhancing tumour below ", mm3, " mm^3 was labelled as necrotic core.\n");
    return page;
}

std::string to_json(const RobustnessReport& report) {
    json rows = json::array();
    for (const RobustnessRow& row : report.rows) {
        json cases = json::array();
        for (const RobustnessCase& one : row.cases) {
            json object{{"case", one.id}, {"dice_with_untouched", one.agreement}};
            if (one.dice)
                object["dice_with_reference"] = *one.dice;
            if (one.false_enhancing)
                object["false_enhancing_voxels"] = *one.false_enhancing;
            cases.push_back(std::move(object));
        }
        rows.push_back({{"disturbance", name(row.disturbance)}, {"what", meaning(row.disturbance)}, {"cases", cases}});
    }
    return json{{"model", report.model},
                {"postprocessing",
                 {{"min_component_mm3", report.postprocessing.min_component_mm3},
                  {"min_enhancing_mm3", report.postprocessing.min_enhancing_mm3}}},
                {"seed", report.seed},
                {"regions", {"WT", "TC", "ET"}},
                {"disturbances", std::move(rows)}}
        .dump(2, ' ', false, json::error_handler_t::replace);
}

} // namespace mfres
