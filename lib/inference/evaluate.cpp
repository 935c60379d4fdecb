// SPDX-License-Identifier: MIT
// Whole data sets: which prediction belongs to which reference, and each pair measured.
#include <mfres/evaluate.h>

#include "core/try.h"
#include "imaging/case.h"
#include "imaging/labels.h"
#include "imaging/nifti/nifti.h"
#include "inference/box_source.h"
#include "inference/predictor.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <new>
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

Error cannot_list(const fs::path& folder, const std::error_code& problem) {
    return {ErrorCode::file_read, text("cannot list ", folder.string(), ": ", problem.message()), folder.string()};
}

/// Every label file below a folder, sorted by path.
Result<std::vector<LabelFile>> find_label_files(const fs::path& root) {
    std::error_code problem;
    if (!fs::exists(root, problem))
        return Error{ErrorCode::file_not_found, text("there is no folder ", root.string()), root.string()};
    if (!fs::is_directory(root, problem))
        return Error{ErrorCode::invalid_argument, text(root.string(), " is not a folder"), root.string()};
    std::vector<LabelFile> files;
    std::set<fs::path> with_images;
    fs::recursive_directory_iterator entry(root, fs::directory_options::follow_directory_symlink, problem);
    for (; !problem && entry != fs::recursive_directory_iterator(); entry.increment(problem)) {
        const fs::path& path = entry->path();
        std::error_code ignored;
        if (entry->is_directory(ignored)) {
            if (entry.depth() >= deepest_folder || path.filename().string().starts_with('.'))
                entry.disable_recursion_pending();
            continue;
        }
        const auto stem = nifti_stem(path);
        if (!stem || !entry->is_regular_file(ignored))
            continue;
        const auto slot = brats_slot(path);
        if (slot && *slot != segmentation_slot)
            with_images.insert(path.parent_path());
        else
            files.push_back({path, *stem, slot.has_value(), false});
    }
    if (problem)
        return cannot_list(root, problem);
    for (LabelFile& file : files)
        file.beside_images = with_images.count(file.path.parent_path()) > 0;
    std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    return files;
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

Result<FilesById> find_references(const fs::path& root) {
    MFRES_TRY(const auto files, find_label_files(root));
    FilesById references;
    for (const LabelFile& file : files)
        if (const auto id = reference_id(file))
            MFRES_CHECK(add(references, *id, file.path, "reference"));
    if (references.empty())
        return Error{ErrorCode::file_not_found,
                     text("no reference was found in ", root.string(),
                          ": neither a case folder with a file ending in _seg or -seg nor a label file"),
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

std::string listed(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names)
        list += (list.empty() ? "" : ", ") + name;
    return list;
}

struct Predictions {
    FilesById files;
    std::vector<std::string> strays; ///< files without a reference
};

Result<Predictions> find_predictions(const fs::path& root, const FilesById& references) {
    MFRES_TRY(const auto files, find_label_files(root));
    Predictions predictions;
    for (const LabelFile& file : files) {
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

/// The scheme asked for, or the one whose label for the enhancing tumour occurs.
Result<LabelScheme> scheme_of(const LabelMap& labels, const std::string& wanted) {
    if (!wanted.empty())
        return label_scheme(wanted);
    return scheme_shown_by(labels);
}

/// A label file as class indices.
Result<LabelMap> read_classes(const fs::path& path, const EvaluationOptions& options) {
    MFRES_TRY(const AffineSource use, affine_source(options.affine));
    NiftiReadOptions read_options;
    read_options.use = use;
    MFRES_TRY(NiftiLabels read, read_nifti_labels(path, read_options));
    MFRES_TRY(const LabelScheme scheme, scheme_of(read.map, options.label_scheme));
    MFRES_CHECK(labels_to_classes(read.map, scheme, path.string()));
    return std::move(read.map);
}

Status check_threads(int threads) {
    if (threads < 0 || threads > 4096)
        return Error{ErrorCode::invalid_argument, text("threads must be 0..4096, is ", threads), "threads"};
    return {};
}

Error no_memory(const std::string& id) {
    return {ErrorCode::memory_limit, text("case ", id, " does not fit into memory"), id};
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
    return request;
}

/// How the labels of a table came about.
void note_making(const PredictionReport& report, const EvaluationOptions& options, MetricsTable& table) {
    table.notes.push_back(model_sentence(report));
    if (options.contrasts != all_modalities)
        table.notes.push_back(text("The model got ", names(options.contrasts), " only."));
    const PostprocessingSizes& sizes = report.postprocessing;
    if (sizes.min_enhancing_mm3 > 0.0)
        table.notes.push_back(
            text("Enhancing tumour below ", sizes.min_enhancing_mm3, " mm^3 was labelled as necrotic core."));
    if (sizes.min_component_mm3 > 0.0)
        table.notes.push_back(text("Parts of the tumour below ", sizes.min_component_mm3,
                                   " mm^3, but for the largest, were labelled as background."));
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

Result<LabelMap> reference_of(const CaseFiles& files, const EvaluationOptions& options) {
    return read_classes(*files.segmentation, options);
}

Result<Labelled> labelled(Segmenter& segmenter, const CaseFiles& files, const LabelMap& reference,
                          const EvaluationOptions& options, const Progress& progress) {
    const CaseFiles given = reduced(files, options.contrasts);
    MFRES_TRY(Segmentation predicted, segmenter.segment(given, segment_options(options), progress));
    MFRES_CHECK(check_same_grid(predicted.labels.grid, grid_file(given), reference.grid, *files.segmentation));
    MFRES_TRY(const LabelScheme scheme, label_scheme(predicted.report.label_scheme));
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

Result<LabelMap> reference_of(const CaseSet::Cached& cached, const EvaluationOptions&) {
    MFRES_TRY(const auto source, cached.cache->load(cached.index));
    return label_map(*source, source->classes);
}

Result<Labelled> labelled(Segmenter& segmenter, const CaseSet::Cached& cached, const LabelMap&,
                          const EvaluationOptions& options, const Progress& progress) {
    CasePredictor& predictor = segmenter.predictor().inside();
    MFRES_TRY(const auto source, cached.cache->load(cached.index));
    MFRES_CHECK(check_cached(predictor.input(), *source));
    MFRES_TRY(const PostprocessingSizes sizes,
              predictor.postprocessing(options.min_component_mm3, options.min_enhancing_mm3));
    MFRES_CHECK(check_contrasts(predictor.input(), options.contrasts, true, source->id));
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
    (void)relabel_small_enhancing(result.classes, sizes.min_enhancing_mm3);
    result.report.postprocessing = sizes;
    return result;
}

Result<LabelMap> reference_of(const CaseSet::Entry& entry, const EvaluationOptions& options) {
    return std::visit([&](const auto& one) { return reference_of(one, options); }, entry);
}

Result<Labelled> labelled(Segmenter& segmenter, const CaseSet::Entry& entry, const LabelMap& reference,
                          const EvaluationOptions& options, const Progress& progress) {
    return std::visit([&](const auto& one) { return labelled(segmenter, one, reference, options, progress); }, entry);
}

} // namespace

Result<CaseMetrics> evaluate_files(const std::string& id, const fs::path& prediction, const fs::path& reference,
                                   const EvaluationOptions& options) {
    try {
        MFRES_CHECK(check_threads(options.threads));
        MFRES_TRY(const LabelMap expected, read_classes(reference, options));
        MFRES_TRY(const LabelMap predicted, read_classes(prediction, options));
        MFRES_CHECK(check_same_grid(expected.grid, reference, predicted.grid, prediction));
        return evaluate_case(id, predicted, expected, options.regions, options.scheme, options.threads);
    } catch (const std::bad_alloc&) {
        return no_memory(id);
    }
}

Result<MetricsTable> evaluate_folders(const fs::path& predictions, const fs::path& references,
                                      const EvaluationOptions& options, const Progress& progress) {
    MFRES_TRY(const FilesById expected, find_references(references));
    MFRES_TRY(const Predictions found, find_predictions(predictions, expected));
    MetricsTable table = empty_table(options);
    const CaseProgress display(expected.size(), progress);
    for (const auto& [id, reference] : expected) {
        MFRES_CHECK(display.start(table.cases.size(), id));
        MFRES_TRY(CaseMetrics measured, evaluate_files(id, found.files.at(id), reference, options));
        table.cases.push_back(std::move(measured));
    }
    if (!found.strays.empty())
        table.notes.push_back(text("Without a reference, and left out: ", listed(found.strays), "."));
    return table;
}

Result<MetricsTable> evaluate_model(Segmenter& segmenter, const CaseSet& cases, const EvaluationOptions& options,
                                    const Progress& progress) {
    MFRES_CHECK(check_threads(options.threads));
    MFRES_CHECK(check_have_references(cases));
    MetricsTable table = empty_table(options);
    const CaseProgress display(cases.size(), progress);
    for (std::size_t i = 0; i < cases.size(); ++i) {
        MFRES_CHECK(display.start(i, cases.id(i)));
        // The reference first: what is wrong with it shows before the network has run.
        MFRES_TRY(const LabelMap reference, reference_of(cases[i], options));
        bool network_ran = false;
        MFRES_TRY(const Labelled predicted,
                  labelled(segmenter, cases[i], reference, options, [&](std::string_view stage, double done) {
                      return display.show(i, share_of_case(stage, done, network_ran));
                  }));
        if (i == 0)
            note_making(predicted.report, options, table);
        MFRES_TRY(CaseMetrics measured, evaluate_case(cases.id(i), predicted.classes, reference, options.regions,
                                                      options.scheme, options.threads));
        table.cases.push_back(std::move(measured));
    }
    return table;
}

Result<std::vector<SubsetEvaluation>> evaluate_subsets(Segmenter& segmenter, const CaseSet& cases,
                                                       const EvaluationOptions& options, const Progress& progress) {
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
        all[i].trained = check_contrasts(input, own.contrasts, false, "").ok();
        MFRES_TRY(all[i].table, evaluate_model(segmenter, cases, own, [&](std::string_view stage, double done) {
                      return !progress ||
                             progress(stage, (static_cast<double>(i) + done) / static_cast<double>(all.size()));
                  }));
    }
    return all;
}

namespace {

double network_ms(const PredictionReport& report) {
    double total = 0.0;
    for (const PredictionReport::Stage& stage : report.stages)
        if (stage.name == "network")
            total += stage.milliseconds;
    return total;
}

} // namespace

Result<std::vector<PrecisionEvaluation>> evaluate_precisions(const fs::path& model, const SegmenterOptions& setup,
                                                             const std::vector<std::string>& precisions,
                                                             const CaseSet& cases, const EvaluationOptions& options,
                                                             const Progress& progress) {
    MFRES_CHECK(check_threads(options.threads));
    MFRES_CHECK(check_have_references(cases));
    std::vector<std::string> names = {"f32"};
    for (const std::string& name : precisions)
        if (std::find(names.begin(), names.end(), name) == names.end())
            names.push_back(name);
    std::vector<Segmenter> segmenters;
    std::vector<PrecisionEvaluation> all;
    for (const std::string& name : names) {
        SegmenterOptions own = setup;
        own.precision = name;
        MFRES_TRY(Segmenter segmenter, Segmenter::open(model, own));
        segmenters.push_back(std::move(segmenter));
        all.push_back({name, empty_table(options), empty_table(options), 0.0});
    }
    const CaseProgress display(cases.size() * names.size(), progress);
    for (std::size_t i = 0; i < cases.size(); ++i) {
        MFRES_TRY(const LabelMap reference, reference_of(cases[i], options));
        LabelMap f32;
        for (std::size_t k = 0; k < names.size(); ++k) {
            MFRES_CHECK(display.start(i * names.size() + k, cases.id(i)));
            bool network_ran = false;
            MFRES_TRY(Labelled predicted,
                      labelled(segmenters[k], cases[i], reference, options, [&](std::string_view stage, double done) {
                          return display.show(i * names.size() + k, share_of_case(stage, done, network_ran));
                      }));
            all[k].network_ms += network_ms(predicted.report) / static_cast<double>(cases.size());
            if (i == 0)
                note_making(predicted.report, options, all[k].against_reference);
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
    return all;
}

} // namespace mfres
