// SPDX-License-Identifier: MIT
// Whole data sets: which prediction belongs to which reference, and each pair measured.
#include <mfres/evaluate.h>

#include "core/file.h"
#include "core/guard.h"
#include "imaging/case.h"
#include "imaging/label_evidence.h"
#include "imaging/nifti/nifti.h"
#include "inference/box_source.h"
#include "inference/predictor.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <set>
#include <system_error>

namespace mfres {

namespace {

namespace fs = std::filesystem;

constexpr int deepest_folder = 3; // root/BraTS.../HGG/case

// Finding files ----------------------------------------------------------------------------------------------------

std::string lower_case(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

/// The file's name without .nii or .nii.gz; nothing for any other file.
std::optional<std::string> nifti_stem(const fs::path& file) {
    const std::string name = file.filename().string();
    const std::string lower = lower_case(name);
    for (const std::string_view suffix : {".nii.gz", ".nii"})
        if (lower.ends_with(suffix) && lower.size() > suffix.size() && !lower.starts_with('.'))
            return name.substr(0, name.size() - suffix.size());
    return std::nullopt;
}

std::string folder_name(const fs::path& file) {
    std::error_code ignored;
    return fs::absolute(file, ignored).lexically_normal().parent_path().filename().string();
}

/// A NIfTI file that is no modality by its name.
struct LabelFile {
    fs::path path;
    std::string stem;
    bool segmentation = false;  ///< named as BraTS names a case's segmentation
    bool beside_images = false; ///< its folder holds modalities
};

/// What lies below a folder.
struct LabelFiles {
    std::vector<LabelFile> files;          ///< sorted by path
    std::set<fs::path> with_images;        ///< folders that hold modalities
    std::vector<std::string> not_searched; ///< folders that lie too deep
};

Status collect_label_files(const fs::path& folder, int depth, LabelFiles& found) {
    MFRES_TRY(const auto entries, list_folder(folder));
    for (const FolderEntry& entry : entries) {
        if (entry.is_folder) {
            if (entry.path.filename().string().starts_with('.'))
                continue;
            if (depth < deepest_folder)
                MFRES_CHECK(collect_label_files(entry.path, depth + 1, found));
            else
                found.not_searched.push_back(entry.path.string());
            continue;
        }
        const auto stem = nifti_stem(entry.path);
        if (!stem || !entry.is_file)
            continue;
        const auto slot = brats_slot(entry.path);
        if (slot && *slot != segmentation_slot)
            found.with_images.insert(folder);
        else
            found.files.push_back({entry.path, *stem, slot.has_value(), false});
    }
    return {};
}

Result<LabelFiles> find_label_files(const fs::path& root) {
    LabelFiles found;
    MFRES_CHECK(collect_label_files(root, 0, found));
    auto& [files, with_images, not_searched] = found;
    for (LabelFile& file : files)
        file.beside_images = with_images.count(file.path.parent_path()) > 0;
    std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    std::sort(not_searched.begin(), not_searched.end());
    return found;
}

using FilesById = std::map<std::string, fs::path>;

Status add(FilesById& files, const std::string& id, const fs::path& path, std::string_view kind) {
    const auto [known, added] = files.emplace(id, path);
    if (!added)
        return Error{
            ErrorCode::modality_ambiguous,
            text("two files claim to be the ", kind, " of ", id, ": ", known->second.string(), " and ", path.string()),
            path.string()};
    return {};
}

/// The id a reference file stands for; nothing for other images in a case's folder.
std::optional<std::string> reference_id(const LabelFile& file) {
    constexpr std::size_t ending = 4; // _seg or -seg
    if (file.beside_images)
        return file.segmentation ? std::optional(folder_name(file.path)) : std::nullopt;
    if (lower_case(file.stem) == "seg" || (file.segmentation && file.stem.size() == ending))
        return folder_name(file.path);
    return file.segmentation ? file.stem.substr(0, file.stem.size() - ending) : file.stem;
}

std::string listed(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names)
        list += (list.empty() ? "" : ", ") + name;
    return list;
}

struct References {
    FilesById files;
    std::vector<std::string> notes; ///< what might have been meant as a reference and is not taken as one
};

Result<References> find_references(const fs::path& root) {
    MFRES_TRY(const LabelFiles found, find_label_files(root));
    References references;
    std::set<fs::path> without = found.with_images;
    std::vector<std::string> unnamed;
    for (const LabelFile& file : found.files) {
        if (const auto id = reference_id(file)) {
            MFRES_CHECK(add(references.files, *id, file.path, "reference"));
            without.erase(file.path.parent_path());
        } else {
            unnamed.push_back(file.path.string());
        }
    }
    std::vector<std::string> folders;
    for (const fs::path& folder : without)
        folders.push_back(folder.string());
    if (!folders.empty())
        references.notes.push_back(
            text("Folders of scans without a file ending in _seg or -seg, and left out: ", listed(folders), "."));
    if (!unnamed.empty())
        references.notes.push_back(
            text("Beside scans, not named _seg or -seg, and so not taken as references: ", listed(unnamed), "."));
    if (!found.not_searched.empty())
        references.notes.push_back(
            text("Deeper than three folders, and not searched for references: ", listed(found.not_searched), "."));
    if (references.files.empty())
        return Error{ErrorCode::file_not_found,
                     text("no reference was found in ", root.string(),
                          ": neither a case folder with a file ending in _seg or -seg nor a label file",
                          references.notes.empty() ? "" : ". " + listed(references.notes)),
                     root.string()};
    return references;
}

bool is_prediction_of(const LabelFile& file, const std::string& id) {
    const bool says_seg = lower_case(file.stem).find("seg") != std::string::npos;
    if (file.stem == id || (says_seg && folder_name(file.path) == id))
        return true;
    if (!file.stem.starts_with(id) || file.stem.size() == id.size())
        return false;
    const std::string rest = lower_case(file.stem.substr(id.size()));
    return (rest[0] == '_' || rest[0] == '-') && rest.find("seg") != std::string::npos;
}

/// The reference a prediction belongs to. Where one id begins another ("a" and "a_2"), the longer one is meant.
std::optional<std::string> prediction_id(const LabelFile& file, const FilesById& references) {
    std::optional<std::string> best;
    for (const auto& [id, path] : references)
        if (is_prediction_of(file, id) && (!best || id.size() > best->size()))
            best = id;
    return best;
}

struct Predictions {
    FilesById files;
    std::vector<std::string> strays; ///< files without a reference
};

Result<Predictions> find_predictions(const fs::path& root, const FilesById& references) {
    MFRES_TRY(const LabelFiles found, find_label_files(root));
    Predictions predictions;
    for (const LabelFile& file : found.files) {
        const auto id = prediction_id(file, references);
        if (!id) {
            predictions.strays.push_back(file.path.filename().string());
            continue;
        }
        MFRES_CHECK(add(predictions.files, *id, file.path, "prediction"));
    }
    std::vector<std::string> missing;
    for (const auto& [id, path] : references)
        if (predictions.files.count(id) == 0)
            missing.push_back(id);
    if (!missing.empty())
        return Error{ErrorCode::file_not_found,
                     text(root.string(), " has no prediction for ", missing.size(), " of ", references.size(),
                          " references: ", listed(missing)),
                     root.string()};
    return predictions;
}

// Measuring --------------------------------------------------------------------------------------------------------

/// A label file as class indices, and its voxels that are labelled as something that is background to the regions.
struct ReadClasses {
    LabelMap map;
    std::int64_t set_aside = 0;
};

Result<ReadClasses> read_classes(const fs::path& path, const LabelCoding& coding, const EvaluationOptions& options) {
    NiftiReadOptions read_options;
    read_options.use = options.affine;
    MFRES_TRY(NiftiLabels read, read_nifti_labels(path, read_options));
    const std::int64_t set_aside = count_set_aside(read.map, coding);
    MFRES_CHECK(labels_to_classes(read.map, coding, path.string()));
    return ReadClasses{std::move(read.map), set_aside};
}

/// Counts what is set aside, for the note that tells it.
class SetAside {
  public:
    void add(std::int64_t voxels) {
        voxels_ += voxels;
        files_ += voxels > 0 ? 1 : 0;
    }
    void tell(std::string_view whose, const LabelCoding& coding, std::vector<std::string>& notes) const {
        if (voxels_ == 0)
            return;
        std::string values;
        for (const std::uint8_t value : coding.labels_of(0))
            if (value != 0)
                values += text(values.empty() ? "" : ", ", static_cast<int>(value));
        notes.push_back(text(voxels_, " voxels with the label ", values, " in ", files_, " of the ", whose,
                             coding.name() == name(LabelScheme::brats2024) ? " (resection cavity)" : "",
                             " count as background."));
    }

  private:
    std::int64_t voxels_ = 0;
    std::int64_t files_ = 0;
};

/// What the labels of references and predictions mean, and the sentences that say so.
struct Codings {
    LabelCoding references;
    LabelCoding predictions;
    std::vector<std::string> notes;
};

std::string reading_sentence(std::string_view whose, const LabelCoding& coding, const std::string& why) {
    return text("Labels of the ", whose, " are read as ", coding.name(), " (", coding.legend(), "): ", why, ".");
}

/// One side's scheme: the one asked for, what its values tell, or where they tell nothing the other side's.
Result<LabelCoding> coding_of(std::string_view whose, const std::string& wanted, const LabelEvidence& own,
                              const LabelEvidence& other, const std::string& other_wanted,
                              std::vector<std::string>& notes) {
    if (!wants_auto(wanted)) {
        MFRES_TRY(LabelCoding coding, LabelCoding::parse(wanted));
        notes.push_back(reading_sentence(whose, coding, "as asked for"));
        return coding;
    }
    if (own.kind() == LabelEvidence::Kind::absent) {
        std::optional<LabelCoding> borrowed;
        if (!wants_auto(other_wanted)) {
            MFRES_TRY(borrowed, LabelCoding::parse(other_wanted));
        } else if (other.kind() == LabelEvidence::Kind::clear) {
            MFRES_TRY(borrowed, other.scheme("the other side"));
        }
        if (borrowed) {
            notes.push_back(reading_sentence(whose, *borrowed, "their values do not tell, the other side's do"));
            return *borrowed;
        }
    }
    MFRES_TRY(const LabelScheme scheme, own.scheme(text("the ", whose)));
    const LabelCoding coding(scheme);
    notes.push_back(reading_sentence(whose, coding, own.sentence()));
    return coding;
}

Result<Codings> choose_codings(std::span<const fs::path> references, std::span<const fs::path> predictions,
                               const EvaluationOptions& options) {
    const std::string& wanted = options.label_scheme;
    const std::string& of_predictions = options.prediction_scheme.empty() ? wanted : options.prediction_scheme;
    LabelEvidence expected;
    LabelEvidence predicted;
    if (wants_auto(wanted) || wants_auto(of_predictions)) {
        expected = label_evidence(references, options.affine, options.threads);
        predicted = label_evidence(predictions, options.affine, options.threads);
    }
    std::vector<std::string> notes;
    MFRES_TRY(const LabelCoding one, coding_of("references", wanted, expected, predicted, of_predictions, notes));
    MFRES_TRY(const LabelCoding other, coding_of("predictions", of_predictions, predicted, expected, wanted, notes));
    return Codings{one, other, std::move(notes)};
}

Status check_threads(int threads) {
    if (threads < 0 || threads > 4096)
        return Error{ErrorCode::invalid_argument, text("threads must be 0..4096, is ", threads), "threads"};
    return {};
}

/// Tells the share of all cases that is done, as one long stage, so that the time left can be told.
class CaseProgress {
  public:
    CaseProgress(std::size_t cases, const Progress& progress) : cases_(cases), progress_(progress) {}

    /// `done` of the case numbered `index` from 0; false to stop.
    bool show(std::size_t index, double done) const {
        return !progress_ || progress_("evaluate", (static_cast<double>(index) + done) / static_cast<double>(cases_));
    }
    Status start(std::size_t index, const std::string& id) const {
        if (!show(index, 0.0))
            return Error{ErrorCode::interrupted, text("stopped on request before case ", id), id};
        return {};
    }

  private:
    std::size_t cases_;
    const Progress& progress_;
};

MetricsTable empty_table(const EvaluationOptions& options) {
    MetricsTable table;
    table.definition = options.regions;
    table.scheme = options.scheme;
    return table;
}

Status check_have_references(const CaseSet& cases) {
    if (cases.empty())
        return Error{ErrorCode::dataset_empty, "there is no case to evaluate", {}};
    std::vector<std::string> without;
    for (std::size_t i = 0; i < cases.size(); ++i)
        if (const auto* files = std::get_if<CaseFiles>(&cases[i]); files && !files->segmentation)
            without.push_back(files->id);
    if (!without.empty())
        return Error{ErrorCode::file_not_found,
                     text(without.size(), " of ", cases.size(),
                          " cases have no segmentation to compare with: ", listed(without)),
                     without[0]};
    return {};
}

SegmentOptions segment_options(const EvaluationOptions& options) {
    SegmentOptions request;
    request.affine = options.affine;
    request.resample = options.resample;
    request.min_enhancing_mm3 = options.min_enhancing_mm3;
    request.min_component_mm3 = options.min_component_mm3;
    request.any_contrasts = options.contrasts != all_modalities;
    request.label_scheme = name(LabelScheme::brats); // of the labels in memory
    return request;
}

/// How the labels of a table came about.
void note_making(const PredictionReport& report, const EvaluationOptions& options, MetricsTable& table) {
    table.notes.push_back(model_sentence(report));
    if (options.contrasts != all_modalities)
        table.notes.push_back(text("The model got ", names(options.contrasts), " only."));
    const PostprocessingSizes& sizes = report.postprocessing;
    if (const std::string least = least_enhancing(sizes); !least.empty())
        table.notes.push_back(text("Enhancing tumour below ", least, " was labelled as necrotic core."));
    if (sizes.min_component_mm3 > 0.0)
        table.notes.push_back(text("Parts of the tumour below ", sizes.min_component_mm3,
                                   " mm^3, but for the largest, were labelled as background."));
}

/// The checks that no case was rejected by.
void note_accepted(const AcceptedChecks& accepted, MetricsTable& table) {
    std::string codes;
    for (const ErrorCode code : accepted)
        codes.append(codes.empty() ? "" : ", ").append(name(code));
    if (!codes.empty())
        table.notes.push_back(text("Accepted in every case: ", codes, "."));
}

/// The network is nearly all of a case's time.
double share_of_case(std::string_view stage, double done, bool& network_ran) {
    constexpr double network_begins = 0.05;
    constexpr double network_ends = 0.9;
    network_ran |= stage == "network";
    if (stage == "network")
        return network_begins + (network_ends - network_begins) * done;
    return network_ran ? network_ends : 0.0;
}

/// Class indices of a case on one grid with its reference, and how they were made.
struct Labelled {
    LabelMap classes;
    PredictionReport report;
};

/// The case without the contrasts that the model does not get.
CaseFiles reduced(CaseFiles files, const ModalitySet& contrasts) {
    for (std::size_t m = 0; m < contrasts.size(); ++m)
        if (!contrasts[m])
            files.modalities[m].clear();
    return files;
}

/// A file that tells the case's grid.
const fs::path& grid_file(const CaseFiles& files) {
    return *std::find_if(files.modalities.begin(), files.modalities.end(),
                         [](const fs::path& path) { return !path.empty(); });
}

Result<ReadClasses> reference_of(const CaseFiles& files, const EvaluationOptions& options) {
    MFRES_TRY(const LabelCoding coding, LabelCoding::parse(files.label_scheme));
    return read_classes(*files.segmentation, coding, options);
}

Result<Labelled> labelled(Segmenter& segmenter, const CaseFiles& files, const LabelMap& reference,
                          const EvaluationOptions& options, const Progress& progress) {
    const CaseFiles given = reduced(files, options.contrasts);
    MFRES_TRY(Segmentation predicted, segmenter.segment(given, segment_options(options), progress));
    MFRES_CHECK(check_same_grid(predicted.labels.grid, grid_file(given), reference.grid, *files.segmentation));
    MFRES_TRY(const LabelCoding scheme, LabelCoding::parse(predicted.report.label_scheme));
    MFRES_CHECK(labels_to_classes(predicted.labels, scheme, "the prediction of " + files.id));
    return Labelled{std::move(predicted.labels), std::move(predicted.report)};
}

/// Classes [x][y][z] of a cached case's box as a map, whose voxels run x fastest, on a grid in L-P-S order.
LabelMap label_map(const CachedCase& source, const std::vector<std::uint8_t>& classes) {
    LabelMap map;
    map.grid.size = source.size;
    for (std::size_t axis = 0; axis < 3; ++axis)
        map.grid.affine[axis][axis] = axis == 2 ? source.voxel_mm[axis] : -source.voxel_mm[axis];
    map.labels.resize(classes.size());
    std::size_t index = 0;
    for (std::int64_t x = 0; x < source.size[0]; ++x)
        for (std::int64_t y = 0; y < source.size[1]; ++y)
            for (std::int64_t z = 0; z < source.size[2]; ++z, ++index)
                map.labels[static_cast<std::size_t>(x + source.size[0] * (y + source.size[1] * z))] = classes[index];
    return map;
}

Result<ReadClasses> reference_of(const CaseSet::Cached& cached, const EvaluationOptions&) {
    MFRES_TRY(const auto source, cached.cache->load(cached.index));
    return ReadClasses{label_map(*source, source->classes), 0};
}

Result<Labelled> labelled(Segmenter& segmenter, const CaseSet::Cached& cached, const LabelMap&,
                          const EvaluationOptions& options, const Progress& progress) {
    CasePredictor& predictor = segmenter.predictor().inside();
    MFRES_TRY(const auto source, cached.cache->load(cached.index));
    MFRES_CHECK(check_cached(predictor.input(), *source));
    MFRES_TRY(const PostprocessingSizes sizes,
              predictor.postprocessing(options.min_component_mm3, options.min_enhancing_mm3));
    MFRES_CHECK(check_contrasts(predictor.input(), options.contrasts, true, "", source->id));
    const ThreadPoolScope work(predictor.pool());
    predictor.begin_case();
    Labelled result;
    StageClock clock(result.report, progress);
    const BrainBox box = brain_box(*source, predictor.input().channels, options.contrasts, predictor.input().multiple,
                                   predictor.threads());
    MFRES_TRY(const BoxPrediction predicted, predictor.label_box(box, false, clock, result.report));
    clock.stop();
    result.classes = label_map(*source, cut_to_brain(*source, predicted.classes, box.size));
    (void)remove_small_components(result.classes, sizes.min_component_mm3);
    (void)relabel_small_enhancing(result.classes, sizes.min_enhancing_mm3, sizes.min_enhancing_share);
    result.report.postprocessing = sizes;
    return result;
}

Result<ReadClasses> reference_of(const CaseSet::Entry& entry, const EvaluationOptions& options) {
    return std::visit([&](const auto& one) { return reference_of(one, options); }, entry);
}

Result<Labelled> labelled(Segmenter& segmenter, const CaseSet::Entry& entry, const LabelMap& reference,
                          const EvaluationOptions& options, const Progress& progress) {
    return std::visit([&](const auto& one) { return labelled(segmenter, one, reference, options, progress); }, entry);
}

std::vector<fs::path> paths_of(const FilesById& files) {
    std::vector<fs::path> paths;
    for (const auto& [id, path] : files)
        paths.push_back(path);
    return paths;
}

Result<CaseMetrics> measure_files(const std::string& id, const fs::path& prediction, const fs::path& reference,
                                  const Codings& codings, const EvaluationOptions& options, SetAside* of_references,
                                  SetAside* of_predictions) {
    MFRES_TRY(const ReadClasses expected, read_classes(reference, codings.references, options));
    MFRES_TRY(const ReadClasses predicted, read_classes(prediction, codings.predictions, options));
    MFRES_CHECK(check_same_grid(expected.map.grid, reference, predicted.map.grid, prediction));
    if (of_references != nullptr)
        of_references->add(expected.set_aside);
    if (of_predictions != nullptr)
        of_predictions->add(predicted.set_aside);
    return evaluate_case(id, predicted.map, expected.map, options.regions, options.scheme, options.threads);
}

/// Cases of which each with files of its own has a label scheme, and what was chosen on what evidence, where it was.
struct DecidedCases {
    CaseSet cases;
    std::string note;
};

/// The cases without a scheme are one data set.
Result<DecidedCases> with_labels_chosen(CaseSet cases, const EvaluationOptions& options) {
    MFRES_TRY(std::string note,
              cases.choose_labels(options.label_scheme, "the references", options.affine, options.threads));
    return DecidedCases{std::move(cases), std::move(note)};
}

} // namespace

Result<CaseMetrics> evaluate_files(const std::string& id, const fs::path& prediction, const fs::path& reference,
                                   const EvaluationOptions& options) {
    return guarded(id, [&]() -> Result<CaseMetrics> {
        MFRES_CHECK(check_threads(options.threads));
        MFRES_TRY(const Codings codings, choose_codings({&reference, 1}, {&prediction, 1}, options));
        return measure_files(id, prediction, reference, codings, options, nullptr, nullptr);
    });
}

namespace {

Result<MetricsTable> compare_folders(const fs::path& predictions, const fs::path& references,
                                     const EvaluationOptions& options, const Progress& progress) {
    MFRES_TRY(const References there, find_references(references));
    const FilesById& expected = there.files;
    MFRES_TRY(const Predictions found, find_predictions(predictions, expected));
    MFRES_CHECK(check_threads(options.threads));
    MFRES_TRY(Codings codings, choose_codings(paths_of(expected), paths_of(found.files), options));
    MetricsTable table = empty_table(options);
    table.labels = codings.references.name();
    table.notes = std::move(codings.notes);
    const CaseProgress display(expected.size(), progress);
    SetAside of_references;
    SetAside of_predictions;
    for (const auto& entry : expected) { // no structured binding: Clang 14 captures none
        const auto& id = entry.first;
        const auto& reference = entry.second;
        MFRES_CHECK(display.start(table.cases.size(), id));
        MFRES_TRY(CaseMetrics measured, guarded(id, [&] {
                      return measure_files(id, found.files.at(id), reference, codings, options, &of_references,
                                           &of_predictions);
                  }));
        table.cases.push_back(std::move(measured));
    }
    table.notes.insert(table.notes.end(), there.notes.begin(), there.notes.end());
    of_references.tell("references", codings.references, table.notes);
    of_predictions.tell("predictions", codings.predictions, table.notes);
    if (!found.strays.empty())
        table.notes.push_back(text("Without a reference, and left out: ", listed(found.strays), "."));
    return table;
}

} // namespace

Result<MetricsTable> evaluate_folders(const fs::path& predictions, const fs::path& references,
                                      const EvaluationOptions& options, const Progress& progress) {
    return guarded(references, [&] { return compare_folders(predictions, references, options, progress); });
}

namespace {

Result<MetricsTable> evaluate_cases(Segmenter& segmenter, const DecidedCases& decided, const EvaluationOptions& options,
                                    const Progress& progress) {
    const CaseSet& cases = decided.cases;
    MetricsTable table = empty_table(options);
    table.labels = cases.label_scheme();
    const CaseProgress display(cases.size(), progress);
    SetAside set_aside;
    for (std::size_t i = 0; i < cases.size(); ++i) {
        MFRES_CHECK(display.start(i, cases.id(i)));
        // The reference first: what is wrong with it shows before the network has run.
        MFRES_TRY(const ReadClasses read, reference_of(cases[i], options));
        const LabelMap& reference = read.map;
        set_aside.add(read.set_aside);
        bool network_ran = false;
        MFRES_TRY(const Labelled predicted,
                  labelled(segmenter, cases[i], reference, options, [&](std::string_view stage, double done) {
                      return display.show(i, share_of_case(stage, done, network_ran));
                  }));
        if (i == 0) {
            note_making(predicted.report, options, table);
            note_accepted(segmenter.predictor().inside().accepted(), table);
        }
        MFRES_TRY(CaseMetrics measured, evaluate_case(cases.id(i), predicted.classes, reference, options.regions,
                                                      options.scheme, options.threads));
        table.cases.push_back(std::move(measured));
    }
    if (!decided.note.empty())
        table.notes.push_back(decided.note);
    if (!table.labels.empty()) {
        MFRES_TRY(const LabelCoding coding, LabelCoding::parse(table.labels));
        set_aside.tell("references", coding, table.notes);
    }
    return table;
}

} // namespace

Result<MetricsTable> evaluate_model(Segmenter& segmenter, const CaseSet& cases, const EvaluationOptions& options,
                                    const Progress& progress) {
    return guarded("evaluation", [&]() -> Result<MetricsTable> {
        MFRES_CHECK(check_threads(options.threads));
        MFRES_CHECK(check_have_references(cases));
        MFRES_TRY(const DecidedCases decided, with_labels_chosen(cases, options));
        return evaluate_cases(segmenter, decided, options, progress);
    });
}

namespace {

Result<std::vector<SubsetEvaluation>> evaluate_all_subsets(Segmenter& segmenter, const CaseSet& cases,
                                                           const EvaluationOptions& options, const Progress& progress) {
    MFRES_CHECK(check_threads(options.threads));
    MFRES_CHECK(check_have_references(cases));
    MFRES_TRY(const DecidedCases decided, with_labels_chosen(cases, options));
    const ModelInput& input = segmenter.predictor().inside().input();
    std::vector<SubsetEvaluation> all;
    for (std::size_t count = 4; count > 0; --count)
        for (unsigned bits = 1; bits < 16; ++bits) {
            SubsetEvaluation subset;
            for (std::size_t m = 0; m < 4; ++m)
                subset.contrasts[m] = (bits >> m & 1U) != 0;
            if (std::count(subset.contrasts.begin(), subset.contrasts.end(), true) ==
                static_cast<std::ptrdiff_t>(count))
                all.push_back(std::move(subset));
        }
    for (std::size_t i = 0; i < all.size(); ++i) {
        EvaluationOptions own = options;
        own.contrasts = all[i].contrasts;
        all[i].trained = trained_for(input, own.contrasts);
        MFRES_TRY(all[i].table, evaluate_cases(segmenter, decided, own, [&](std::string_view stage, double done) {
                      return !progress ||
                             progress(stage, (static_cast<double>(i) + done) / static_cast<double>(all.size()));
                  }));
    }
    return all;
}

} // namespace

Result<std::vector<SubsetEvaluation>> evaluate_subsets(Segmenter& segmenter, const CaseSet& cases,
                                                       const EvaluationOptions& options, const Progress& progress) {
    return guarded("evaluation", [&] { return evaluate_all_subsets(segmenter, cases, options, progress); });
}

namespace {

double network_ms(const PredictionReport& report) {
    double total = 0.0;
    for (const PredictionReport::Stage& stage : report.stages)
        if (stage.name == "network")
            total += stage.milliseconds;
    return total;
}

Result<std::vector<PrecisionEvaluation>> evaluate_all_precisions(const fs::path& model, const SegmenterOptions& setup,
                                                                 const std::vector<Precision>& wanted,
                                                                 const CaseSet& given, const EvaluationOptions& options,
                                                                 const Progress& progress) {
    MFRES_CHECK(check_threads(options.threads));
    MFRES_CHECK(check_have_references(given));
    std::vector<Precision> chosen = {Precision::f32};
    for (const Precision precision : wanted)
        if (std::find(chosen.begin(), chosen.end(), precision) == chosen.end())
            chosen.push_back(precision);
    std::vector<Segmenter> segmenters;
    std::vector<PrecisionEvaluation> all;
    for (const Precision precision : chosen) {
        SegmenterOptions own = setup;
        own.compute.precision = precision;
        MFRES_TRY(Segmenter segmenter, Segmenter::open(model, own));
        segmenters.push_back(std::move(segmenter));
        all.push_back({{.precision = precision}, empty_table(options), empty_table(options), 0.0});
    }
    MFRES_TRY(const DecidedCases decided, with_labels_chosen(given, options));
    const CaseSet& cases = decided.cases;
    for (PrecisionEvaluation& of : all)
        of.against_reference.labels = cases.label_scheme();
    const CaseProgress display(cases.size() * chosen.size(), progress);
    for (std::size_t i = 0; i < cases.size(); ++i) {
        MFRES_TRY(const ReadClasses read, reference_of(cases[i], options));
        const LabelMap& reference = read.map;
        LabelMap f32;
        for (std::size_t k = 0; k < chosen.size(); ++k) {
            MFRES_CHECK(display.start(i * chosen.size() + k, cases.id(i)));
            bool network_ran = false;
            MFRES_TRY(Labelled predicted,
                      labelled(segmenters[k], cases[i], reference, options, [&](std::string_view stage, double done) {
                          return display.show(i * chosen.size() + k, share_of_case(stage, done, network_ran));
                      }));
            all[k].network_ms += network_ms(predicted.report) / static_cast<double>(cases.size());
            if (i == 0) {
                all[k].used = predicted.report.used;
                note_making(predicted.report, options, all[k].against_reference);
            }
            const LabelMap& labels = predicted.classes;
            MFRES_TRY(CaseMetrics truth,
                      evaluate_case(cases.id(i), labels, reference, options.regions, options.scheme, options.threads));
            all[k].against_reference.cases.push_back(std::move(truth));
            if (k == 0)
                f32 = labels;
            MFRES_TRY(CaseMetrics agreement,
                      evaluate_case(cases.id(i), labels, f32, options.regions, options.scheme, options.threads));
            all[k].against_f32.cases.push_back(std::move(agreement));
        }
    }
    if (!decided.note.empty())
        for (PrecisionEvaluation& of : all)
            of.against_reference.notes.push_back(decided.note);
    return all;
}

} // namespace

Result<std::vector<PrecisionEvaluation>> evaluate_precisions(const fs::path& model, const SegmenterOptions& setup,
                                                             const std::vector<Precision>& wanted, const CaseSet& cases,
                                                             const EvaluationOptions& options,
                                                             const Progress& progress) {
    return guarded(model, [&] { return evaluate_all_precisions(model, setup, wanted, cases, options, progress); });
}

} // namespace mfres
