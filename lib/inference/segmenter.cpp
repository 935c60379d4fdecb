// SPDX-License-Identifier: MIT
// One case from files to label map: read and reject, predict, draw, write.
#include <mfres/segmenter.h>

#include "core/file.h"
#include "core/guard.h"
#include "core/names.h"
#include "core/platform.h"
#include "core/try.h"
#include "imaging/case.h"
#include "imaging/preview.h"
#include "inference/predictor.h"

#include <algorithm>
#include <optional>

namespace mfres {

namespace {

constexpr auto probability_format_names =
    enum_names<ProbabilityFormat>({{ProbabilityFormat::float32, "float32"}, {ProbabilityFormat::uint8, "uint8"}});
using InputPaths = std::array<std::filesystem::path, 4>;

Status check_nifti_output(const std::filesystem::path& path, std::string_view what, bool overwrite) {
    const std::string name = path.filename().string();
    const auto ends_with = [&](std::string_view suffix) {
        return name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
    };
    if (!path.empty() && !ends_with(".nii") && !ends_with(".nii.gz"))
        return Error{ErrorCode::invalid_argument,
                     text("the ", what, " ", path.string(), " must end in .nii or .nii.gz"), path.string()};
    return check_output(path, overwrite);
}

/// Pictures are PNG files.
Status check_picture_name(const std::filesystem::path& path) {
    const std::string ending = path.extension().string();
    if (ending == ".png" || ending == ".PNG")
        return {};
    return Error{ErrorCode::invalid_argument, text("the picture ", path.string(), " must end in .png"), path.string()};
}

Status check_outputs(const InputPaths& inputs, const SegmentOptions& request) {
    const std::array<OutputFile, 3> outputs = {
        {{"label map", request.output}, {"probabilities", request.probabilities}, {"picture", request.preview}}};
    MFRES_CHECK(check_outputs_apart(outputs, inputs));
    MFRES_CHECK(check_nifti_output(request.output, "label map", request.overwrite));
    MFRES_CHECK(check_nifti_output(request.probabilities, "file of probabilities", request.overwrite));
    if (!request.preview.empty()) {
        MFRES_CHECK(can_draw_previews());
        MFRES_CHECK(check_picture_name(request.preview));
    }
    return check_output(request.preview, request.overwrite);
}

/// The first of the contrasts that is there. Precondition: one of them is.
Modality first_present(const ModalitySet& present, const std::array<Modality, 4>& wanted) {
    return *std::find_if(wanted.begin(), wanted.end(),
                         [&](Modality modality) { return present[static_cast<std::size_t>(modality)]; });
}

/// What a picture shows: FLAIR above and T1ce below, or what comes nearest to them.
struct Shown {
    Modality upper;
    Modality lower;
};

Shown shown_of(const ModalitySet& present) {
    return {first_present(present, {Modality::flair, Modality::t2, Modality::t1, Modality::t1ce}),
            first_present(present, {Modality::t1ce, Modality::t1, Modality::t2, Modality::flair})};
}

std::string_view title(Modality modality) {
    switch (modality) {
    case Modality::t1: return "T1";
    case Modality::t1ce: return "T1ce";
    case Modality::t2: return "T2";
    case Modality::flair: return "FLAIR";
    }
    return "";
}

Result<std::vector<std::byte>> draw(const Case& loaded, LabelledCase& labelled, const SegmentOptions& request,
                                    const PredictionReport& report) {
    const Shown shown = shown_of(loaded.present);
    const auto volume = [&](Modality modality) { return loaded.scans[static_cast<std::size_t>(modality)].volume(); };
    PreviewOptions options;
    options.title = text(loaded.id, "   ", report.network, " (", report.used.backend, ")");
    options.upper = title(shown.upper);
    options.lower = title(shown.lower);
    options.file = PreviewFileAxes{loaded.orientation.axis, loaded.orientation.flip, loaded.canonical_grid.size};
    for (const std::string& warning : absent_contrast_warnings(loaded.present))
        options.warning += (options.warning.empty() ? "" : "; ") + warning;
    if (request.preview_uncertainty)
        options.probabilities = &*labelled.probabilities;
    // The picture has a scheme of its own, whatever the file's is. Replaced in place, since a copy takes memory.
    MFRES_CHECK(classes_to_labels(labelled.classes, LabelScheme::brats, loaded.id));
    auto png = encode_preview(volume(shown.upper), volume(shown.lower), labelled.classes, options);
    MFRES_CHECK(labels_to_classes(labelled.classes, LabelScheme::brats, loaded.id));
    return png;
}

/// A case of either kind: its files, empty for volumes in memory.
const InputPaths& paths_of(const CaseFiles& files) {
    return files.modalities;
}
const InputPaths& paths_of(const CaseVolumes&) {
    static const InputPaths none;
    return none;
}

Result<Case> load(const CasePredictor& predictor, const CaseFiles& files, const SegmentOptions& options) {
    return predictor.load(files, options.affine, options.resample, options.any_contrasts);
}
Result<Case> load(const CasePredictor& predictor, const CaseVolumes& volumes, const SegmentOptions& options) {
    return predictor.load(volumes, options.resample, options.any_contrasts);
}

constexpr std::string_view origin = "mfres " MFRES_VERSION ", research use only";

/// Brings the labels to the input's grid: into the result, a file, or both.
Status restore(const Case& loaded, LabelMap& classes, const CaseRequest& request, const SegmentOptions& options,
               Segmentation& result, std::optional<PendingFile>& file) {
    std::optional<NiftiLabelWriter> writer;
    if (!options.output.empty()) {
        MFRES_TRY(writer, NiftiLabelWriter::create(options.output, loaded.original_grid, loaded.geometry, origin,
                                                   options.overwrite));
    }
    const auto take = [&](std::span<const std::uint8_t> labels) { return writer ? writer->append(labels) : Status(); };
    if (request.labels) {
        MFRES_CHECK(write_labels(loaded, classes, request, result.labels, result.report));
        MFRES_CHECK(take(result.labels.labels));
    } else {
        MFRES_CHECK(write_label_slices(loaded, classes, request, result.report, take));
    }
    if (writer) {
        MFRES_TRY(file, std::move(*writer).finish());
    }
    return {};
}

template <typename Images>
Result<Segmentation> segment_case(CasePredictor& predictor, const Images& images, const SegmentOptions& options,
                                  const Progress& progress) {
    CaseRequest request;
    MFRES_TRY(request.scheme, predictor.scheme(options.label_scheme));
    MFRES_TRY(request.sizes, predictor.postprocessing(options.min_component_mm3, options.min_enhancing_mm3));
    MFRES_CHECK(check_outputs(paths_of(images), options));
    request.picture = !options.preview.empty();
    const bool returned = options.return_probabilities || !options.probabilities.empty();
    request.probabilities = returned || (request.picture && options.preview_uncertainty);
    request.labels = options.return_labels;

    Segmentation result;
    SegmentReport& report = result.report;
    const CaseScope scope(predictor);
    StageClock clock(report, progress, predictor.cancelled());
    MFRES_CHECK(clock.start("read"));
    MFRES_TRY(Case loaded, load(predictor, images, options));
    if (request.picture) {
        const Shown shown = shown_of(loaded.present);
        request.kept[static_cast<std::size_t>(shown.upper)] = true;
        request.kept[static_cast<std::size_t>(shown.lower)] = true;
    }
    MFRES_TRY(LabelledCase labelled, predictor.label(loaded, request, clock, report));
    for (std::size_t i = 0; i < 4; ++i)
        report.inputs[i] = paths_of(images)[i].string();
    report.output = options.output.string();
    report.preview = options.preview.string();
    report.probabilities = options.probabilities.string();

    // All files lie complete on the disk before the first is put in place: they appear together or not at all.
    std::optional<PendingFile> picture;
    if (request.picture) {
        MFRES_CHECK(clock.start("preview"));
        MFRES_TRY(const auto png, draw(loaded, labelled, options, report));
        MFRES_TRY(picture, PendingFile::write(options.preview, png, options.overwrite));
    }
    MFRES_CHECK(clock.start("write"));
    std::optional<PendingFile> labels;
    MFRES_CHECK(restore(loaded, labelled.classes, request, options, result, labels));
    labelled.classes = {};
    std::optional<PendingFile> probabilities;
    if (returned) {
        MFRES_TRY(result.probabilities, restore_probabilities(loaded, *std::move(labelled.probabilities)));
    }
    if (!options.probabilities.empty()) {
        MFRES_TRY(const auto nifti, encode_nifti_probabilities(options.probabilities, *result.probabilities,
                                                               options.probability_format == ProbabilityFormat::uint8,
                                                               loaded.geometry, origin));
        MFRES_TRY(probabilities, PendingFile::write(options.probabilities, nifti, options.overwrite));
    }
    const auto pending = [](std::optional<PendingFile>& file) { return file ? &*file : nullptr; };
    MFRES_CHECK(commit_all(std::array{pending(labels), pending(probabilities), pending(picture)}));
    clock.stop();
    report.measured_peak_bytes = predictor.measured_peak();
    predictor.log_case(report);
    return result;
}

} // namespace

Result<Segmenter> Segmenter::open(const std::filesystem::path& model, const SegmenterOptions& options) {
    return guarded(model, [&]() -> Result<Segmenter> {
        MFRES_TRY(Predictor predictor, Predictor::open(model, options));
        return Segmenter(std::move(predictor));
    });
}

Result<Segmenter> Segmenter::open(std::span<const std::byte> model, const SegmenterOptions& options,
                                  const std::string& name) {
    return guarded(name, [&]() -> Result<Segmenter> {
        MFRES_TRY(Predictor predictor, Predictor::open(model, options, name));
        return Segmenter(std::move(predictor));
    });
}

Result<Segmentation> Segmenter::segment(const CaseFiles& files, const SegmentOptions& options,
                                        const Progress& progress) {
    CasePredictor& predictor = predictor_.inside();
    const platform::PagesMayBeReserved from_files_to_network;
    return guarded_case(predictor, files.id, [&] { return segment_case(predictor, files, options, progress); });
}

Result<Segmentation> Segmenter::segment(const CaseVolumes& volumes, const SegmentOptions& options,
                                        const Progress& progress) {
    CasePredictor& predictor = predictor_.inside();
    return guarded_case(predictor, volumes.id, [&] { return segment_case(predictor, volumes, options, progress); });
}

std::string_view to_string(ProbabilityFormat format) noexcept {
    return probability_format_names.of(format);
}

Result<ProbabilityFormat> parse_probability_format(std::string_view text) {
    return probability_format_names.parse("type of probabilities", text);
}

} // namespace mfres
