// SPDX-License-Identifier: MIT
// Training caches in place of folders, and models without some of the contrasts, through the library and the program.
#include "data/cache.h"
#include "model/model.h"
#include "paper/robustness.h"
#include "support/cached_cases.h"
#include "support/cases.h"
#include "support/program.h"

#include <mfres/evaluate.h>

#include <nlohmann/json.hpp>

using namespace mfres;
using nlohmann::json;
using test::run_program;
using test::TemporaryFolder;

namespace {

const std::filesystem::path shipped = std::filesystem::path(MFRES_SOURCE_DIR) / "models" / "mf-res2net.safetensors";
/// The phantoms are smaller than the heads that the weights were trained on.
const SegmenterOptions small_heads = {.compute = {.threads = 2}, .accept = {ErrorCode::brain_implausible}};

/// Two labelled cases in folders, and the same in a cache.
struct Sources {
    TemporaryFolder folder;
    std::vector<CaseFiles> files;
    std::filesystem::path cache;

    Sources() : cache(folder / "cases.mfcache") {
        for (const std::uint64_t seed : {5U, 6U}) {
            const auto phantom = make_phantom({.seed = seed, .size = {64, 72, 56}, .threads = 2});
            REQUIRE_OK(phantom);
            files.push_back(
                test::write_labelled_case(folder, "case" + std::to_string(seed), phantom->volumes, phantom->labels));
        }
        const CacheOptions as_shipped{.threads = 2, .normalisation = Normalisation::zscore_brain_clipped};
        REQUIRE_OK(write_cache(cache, files, as_shipped, {}));
    }
};

CaseSet found(const std::filesystem::path& source) {
    auto set = CaseSet::find(source);
    REQUIRE_OK(set);
    return std::move(set).value();
}

} // namespace

TEST_CASE("a cache is evaluated as the folder it was made of") {
    const Sources sources;
    auto segmenter = Segmenter::open(shipped, small_heads);
    REQUIRE_OK(segmenter);
    const auto from_files = evaluate_model(*segmenter, sources.files, {});
    REQUIRE_OK(from_files);
    const auto from_cache = evaluate_model(*segmenter, found(sources.cache), {});
    REQUIRE_OK(from_cache);
    REQUIRE(from_cache->cases.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
        CHECK(from_cache->cases[i].id == from_files->cases[i].id);
        for (const TumourRegion region : tumour_regions)
            CHECK(*from_cache->cases[i][region][Metric::dice] ==
                  Approx(*from_files->cases[i][region][Metric::dice]).margin(2e-3));
    }
    const auto compared = evaluate_precisions(shipped, small_heads, {Precision::f32}, found(sources.cache), {});
    REQUIRE_OK(compared);
    CHECK((*compared)[0].against_reference.cases == from_cache->cases);
    CHECK(found(sources.cache).spread(1).size() == 1);
    REQUIRE_CODE(CaseSet::find(sources.folder / "none.mfcache"), file_not_found);
}

TEST_CASE("a cache that a model cannot have been trained on is rejected") {
    const Sources sources;
    const auto path = sources.folder / "clipped.mfcache";
    REQUIRE_OK(
        write_cache(path, sources.files, {.threads = 2, .normalisation = Normalisation::zscore_brain_clipped}, {}));
    auto model = load_model(shipped);
    REQUIRE_OK(model);
    model->metadata.normalisation = Normalisation::zscore_brain;
    REQUIRE_OK(save_model(sources.folder / "unclipped.safetensors", *model));
    auto segmenter = Segmenter::open(sources.folder / "unclipped.safetensors", small_heads);
    REQUIRE_OK(segmenter);
    REQUIRE_CODE(evaluate_model(*segmenter, found(path), {}), model_metadata_invalid);

    // The other way round: a clipped model, and z-scores of all intensities.
    const auto usual = sources.folder / "usual.mfcache";
    REQUIRE_OK(write_cache(usual, sources.files, {.threads = 2}, {}));
    model->metadata.normalisation = Normalisation::zscore_brain_clipped;
    REQUIRE_OK(save_model(sources.folder / "clipping.safetensors", *model));
    auto clipping = Segmenter::open(sources.folder / "clipping.safetensors", small_heads);
    REQUIRE_OK(clipping);
    const auto rejected = evaluate_model(*clipping, found(usual), {});
    REQUIRE_CODE(rejected, model_metadata_invalid);
    CHECK(rejected.error().message.find("Pack its images again") != std::string::npos);
}

TEST_CASE("robustness of a cache: space changes nothing, intensities little") {
    const Sources sources;
    auto segmenter = Segmenter::open(shipped, small_heads);
    REQUIRE_OK(segmenter);
    const auto report = measure_robustness(*segmenter, found(sources.cache).spread(1), {});
    REQUIRE_OK(report);
    REQUIRE(report->rows.size() == disturbances.size());
    for (std::size_t row = 0; row < report->rows.size(); ++row) {
        INFO(name(disturbances[row]));
        const RobustnessCase& measured = report->rows[row].cases.at(0);
        REQUIRE(measured.dice.has_value());
        for (const double dice : measured.agreement)
            CHECK((row <= static_cast<std::size_t>(Disturbance::loose_crop) ? dice == 1.0 : dice > 0.5));
        CHECK((*measured.dice)[0] > 0.5);
    }
}

TEST_CASE("without a contrast a model is measured whether it was trained for that or not") {
    const Sources sources;
    auto segmenter = Segmenter::open(shipped, small_heads);
    REQUIRE_OK(segmenter);
    EvaluationOptions options;
    options.contrasts = {true, true, true, false};
    const auto files = evaluate_model(*segmenter, sources.files, options);
    const auto cached = evaluate_model(*segmenter, found(sources.cache), options);
    REQUIRE_OK(files);
    REQUIRE_OK(cached);
    CHECK(files->notes.at(1) == "The model got t1,t1ce,t2 only.");
    const auto all = evaluate_model(*segmenter, sources.files, {});
    REQUIRE_OK(all);
    for (std::size_t i = 0; i < 2; ++i) {
        CHECK(*cached->cases[i][TumourRegion::wt][Metric::dice] ==
              Approx(*files->cases[i][TumourRegion::wt][Metric::dice]).margin(0.02));
        CHECK(*files->cases[i][TumourRegion::wt][Metric::dice] < *all->cases[i][TumourRegion::wt][Metric::dice]);
    }
    const auto subsets = evaluate_subsets(*segmenter, found(sources.cache).spread(1), {});
    REQUIRE_OK(subsets);
    REQUIRE(subsets->size() == 15);
    CHECK(subsets->front().contrasts == all_modalities);
    const auto model = load_model(shipped);
    REQUIRE_OK(model);
    for (const auto& of : *subsets) {
        const auto& allowed = model->metadata.modality_subsets;
        const bool trained =
            of.contrasts == all_modalities || std::find(allowed.begin(), allowed.end(), of.contrasts) != allowed.end();
        CHECK(of.trained == trained);
    }
    CHECK(to_markdown(*subsets).find("| t1ce,flair | no |") != std::string::npos);
}

TEST_CASE("evaluation and robustness apply and state the sizes that a model recommends") {
    const Sources sources;
    auto model = load_model(shipped);
    REQUIRE_OK(model);
    model->metadata.postprocessing = {0.0, 1e9};
    const auto path = sources.folder / "recommends.safetensors";
    REQUIRE_OK(save_model(path, *model));
    auto segmenter = Segmenter::open(path, small_heads);
    REQUIRE_OK(segmenter);
    const auto evaluated = [&](const CaseSet& cases, const EvaluationOptions& options) {
        auto table = evaluate_model(*segmenter, cases, options);
        REQUIRE_OK(table);
        return std::move(table).value();
    };
    const std::string note = "Enhancing tumour below 1000000000 mm^3 was labelled as necrotic core.";
    for (const CaseSet& cases : {CaseSet(sources.files).spread(1), found(sources.cache).spread(1)}) {
        const MetricsTable recommended = evaluated(cases, {});
        CHECK(std::count(recommended.notes.begin(), recommended.notes.end(), note) == 1);
        CHECK(*recommended.cases[0][TumourRegion::et][Metric::dice] == 0.0);
        const MetricsTable off = evaluated(cases, {.min_enhancing_mm3 = 0.0});
        CHECK(off.notes.size() + 1 == recommended.notes.size());
        CHECK(*off.cases[0][TumourRegion::et][Metric::dice] > 0.0);
    }
    const auto robust = measure_robustness(*segmenter, found(sources.cache).spread(1), {});
    REQUIRE_OK(robust);
    CHECK(robust->postprocessing == PostprocessingSizes{0.0, 1e9});
    CHECK((*robust->rows[0].cases[0].dice)[2] == 0.0);
    CHECK(to_markdown(*robust).find(note) != std::string::npos);
    CHECK(json::parse(to_json(*robust))["postprocessing"]["min_enhancing_mm3"] == 1e9);
}

TEST_CASE("mfres takes caches and drops contrasts") {
    const Sources sources;
    const std::string cache = sources.cache.string();
    const auto dropped =
        run_program({"evaluate", "--data", cache, "--drop", "t1", "--drop", "t2", "--json", "--quiet"});
    INFO(dropped.err);
    REQUIRE(dropped.exit_code == 0);
    CHECK(dropped.out.find("The model got t1ce,flair only.") != std::string::npos);
    CHECK(run_program({"evaluate", "--data", cache, "--drop", "pd", "--quiet"}).exit_code == 2);
    CHECK(run_program({"evaluate", "--data", cache, "--drop", "t1,t1ce,t2,flair", "--quiet"}).exit_code == 2);
    const auto all = run_program({"evaluate", "--data", cache, "--drop", "all", "--quiet"});
    REQUIRE(all.exit_code == 0);
    CHECK(std::count(all.out.begin(), all.out.end(), '\n') > 17);

    const std::string int8 = (sources.folder / "int8.safetensors").string();
    const auto calibrated = run_program({"convert", shipped.string(), "--out", int8, "--calibrate", cache, "--quiet"});
    INFO(calibrated.err);
    REQUIRE(calibrated.exit_code == 0);
    CHECK(run_program({"info", int8}).out.find("minmax of 2 cases") != std::string::npos);

    // A folder without FLAIR: rejected with what would do.
    std::filesystem::remove(sources.files[0].modalities[3]);
    const auto folder = sources.files[0].modalities[0].parent_path().string();
    const auto labels = (sources.folder / "labels.nii.gz").string();
    const auto rejected = run_program({"segment", "--case", folder, "--out", labels, "--json", "--quiet"});
    CHECK(rejected.exit_code == 3);
    CHECK(json::parse(rejected.out)["error"]["code"] == "modality_missing");
    CHECK_FALSE(std::filesystem::exists(labels));
}
