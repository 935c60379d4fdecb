// SPDX-License-Identifier: MIT
// A Predictor on volumes in memory against a Segmenter on files, channels in any order, absent contrasts, probabilities.
#include "core/file.h"
#include "core/half.h"
#include "core/platform.h"
#include "imaging/case.h"
#include "imaging/labels.h"
#include "imaging/reorient.h"
#include "inference/model_input.h"
#include "inference/precision.h"
#include "model/find_model.h"
#include "support/cases.h"

#include <mfres/metrics.h>
#include <mfres/predictor.h>
#include <mfres/segmenter.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using namespace mfres;

namespace {

const std::filesystem::path shipped = std::filesystem::path(MFRES_SOURCE_DIR) / "models" / "mf-res2net.safetensors";

CaseVolumes views_of(const std::array<Volume, 4>& volumes) {
    CaseVolumes views;
    views.id = "phantom";
    for (std::size_t m = 0; m < 4; ++m)
        views.volumes[m] = VolumeView::of(volumes[m]);
    return views;
}

/// The phantoms are smaller than the heads that the shipped weights were trained on.
const PredictorOptions small_heads = {.compute = {.threads = 2}, .accept = {ErrorCode::brain_implausible}};

Predictor open(const std::filesystem::path& model, const PredictorOptions& options = small_heads) {
    auto predictor = Predictor::open(model, options);
    REQUIRE_OK(predictor);
    return std::move(predictor).value();
}

Prediction predict(Predictor& predictor, const CaseVolumes& volumes, const PredictOptions& options = {}) {
    auto prediction = predictor.predict(volumes, options);
    REQUIRE_OK(prediction);
    return std::move(prediction).value();
}

/// The phantom with whole numbers, which every type of 16 bits and more can hold.
std::array<Volume, 4> whole_numbers() {
    std::array<Volume, 4> volumes = test::small_phantom().volumes;
    for (Volume& volume : volumes)
        for (float& value : volume.voxels)
            value = std::nearbyint(value);
    return volumes;
}

template <typename T>
std::array<std::vector<T>, 4> stored_as(const std::array<Volume, 4>& volumes) {
    std::array<std::vector<T>, 4> stored;
    for (std::size_t m = 0; m < 4; ++m)
        for (const float value : volumes[m].voxels)
            stored[m].push_back(static_cast<T>(value));
    return stored;
}

/// Saves the small network, changed, and returns the file.
template <typename Change>
std::filesystem::path changed_model(const test::TemporaryFolder& folder, const Change& change,
                                    const std::filesystem::path& original) {
    auto model = load_model(original);
    REQUIRE_OK(model);
    change(*model);
    const auto path = folder / "changed.safetensors";
    REQUIRE_OK(save_model(path, *model, Dtype::f32, true));
    return path;
}

} // namespace

TEST_CASE("volumes in memory get the labels of their files, whatever the scalar type, strides and axes") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    const std::array<Volume, 4> volumes = whole_numbers();
    const CaseFiles files = test::write_case(folder, volumes, geometry_of(volumes[0].grid));
    auto segmenter = Segmenter::open(model, {.compute = {.threads = 2}});
    REQUIRE_OK(segmenter);
    const auto expected = segmenter->segment(files, {});
    REQUIRE_OK(expected);
    Predictor predictor = open(model);
    CHECK(predict(predictor, views_of(volumes)).labels.labels == expected->labels.labels);
    CHECK(predict(segmenter->predictor(), views_of(volumes)).labels.labels == expected->labels.labels);

    const auto check_type = [&](ScalarType type, const auto& stored) {
        INFO("type " << static_cast<int>(type));
        CaseVolumes views = views_of(volumes);
        for (std::size_t m = 0; m < 4; ++m) {
            views.volumes[m].voxels = stored[m].data();
            views.volumes[m].type = type;
        }
        CHECK(predict(predictor, views).labels.labels == expected->labels.labels);
    };
    check_type(ScalarType::int16, stored_as<std::int16_t>(volumes));
    check_type(ScalarType::uint16, stored_as<std::uint16_t>(volumes));
    check_type(ScalarType::int32, stored_as<std::int32_t>(volumes));
    check_type(ScalarType::uint32, stored_as<std::uint32_t>(volumes));
    check_type(ScalarType::int64, stored_as<std::int64_t>(volumes));
    check_type(ScalarType::uint64, stored_as<std::uint64_t>(volumes));
    check_type(ScalarType::float64, stored_as<double>(volumes));

    SECTION("slope and intercept") {
        CaseVolumes views = views_of(volumes);
        std::array<Volume, 4> halves = volumes;
        for (Volume& volume : halves)
            for (float& value : volume.voxels)
                value = (value - 8.0F) / 2.0F;
        for (std::size_t m = 0; m < 4; ++m) {
            views.volumes[m].voxels = halves[m].voxels.data();
            views.volumes[m].slope = 2.0;
            views.volumes[m].inter = 8.0;
        }
        CHECK(predict(predictor, views).labels.labels == expected->labels.labels);
    }
    SECTION("the last axis fastest, and the first backwards") {
        const auto& size = volumes[0].grid.size;
        std::array<std::vector<float>, 4> turned;
        CaseVolumes views = views_of(volumes);
        for (std::size_t m = 0; m < 4; ++m) {
            turned[m].resize(volumes[m].voxels.size());
            std::size_t from = 0;
            for (std::int64_t k = 0; k < size[2]; ++k)
                for (std::int64_t j = 0; j < size[1]; ++j)
                    for (std::int64_t i = 0; i < size[0]; ++i)
                        turned[m][static_cast<std::size_t>(k + size[2] * (j + size[1] * (size[0] - 1 - i)))] =
                            volumes[m].voxels[from++];
            views.volumes[m].voxels = turned[m].data() + size[2] * size[1] * (size[0] - 1);
            views.volumes[m].strides = {-size[2] * size[1], size[2], 1};
        }
        CHECK(predict(predictor, views).labels.labels == expected->labels.labels);
    }
    SECTION("another orientation: labels come back on its own axes") {
        const Orientation other{{2, 0, 1}, {true, false, true}};
        std::array<Volume, 4> turned;
        for (std::size_t m = 0; m < 4; ++m)
            turned[m] = reorient(volumes[m], other);
        const Prediction prediction = predict(predictor, views_of(turned), {.probabilities = true});
        CHECK(prediction.labels.grid == turned[0].grid);
        CHECK(prediction.labels.labels == reorient(expected->labels, other).labels);
        REQUIRE(prediction.probabilities.has_value());
        CHECK(prediction.probabilities->grid == turned[0].grid);
    }
}

TEST_CASE("labels do not depend on what was in the pages that a network takes") {
    const test::TemporaryFolder folder;
    const std::array<Volume, 4> volumes = whole_numbers();
    const CaseFiles files = test::write_case(folder, volumes, geometry_of(volumes[0].grid));
    const auto label = [&] {
        auto segmenter = Segmenter::open(shipped, small_heads);
        REQUIRE_OK(segmenter);
        const auto labelled = segmenter->segment(files, {});
        REQUIRE_OK(labelled);
        return labelled->labels.labels;
    };
    const auto expected = label();
    const platform::PagesMayBeReserved scope;
    constexpr std::size_t bytes = std::size_t{64} << 20;
    void* const pages = platform::take_pages(bytes, true);
    std::memset(pages, 0xFF, bytes); // floats that are no numbers
    platform::reserve_pages(pages, bytes);
    CHECK(label() == expected);
}

TEST_CASE("a model is opened from a file, from its bytes and by name") {
    const test::TemporaryFolder folder;
    const auto bytes = read_file(shipped, 1U << 30U);
    REQUIRE_OK(bytes);
    Predictor from_file = open(shipped);
    auto from_bytes = Predictor::open(*bytes, small_heads, "shipped");
    REQUIRE_OK(from_bytes);
    Predictor by_name = open("mf-res2net");
    const CaseVolumes views = views_of(test::small_phantom().volumes);
    const Prediction expected = predict(from_file, views);
    CHECK(predict(*from_bytes, views).labels.labels == expected.labels.labels);
    CHECK(predict(*from_bytes, views).report.model_file == "shipped");
    CHECK(predict(by_name, views).labels.labels == expected.labels.labels);
    REQUIRE(expected.report.regions.size() == 3);
    CHECK(expected.report.regions[0].millilitres > 0.0);
    CHECK(to_json(expected.report).find("\"WT\"") != std::string::npos);

    const std::vector<std::byte> half(bytes->begin(), bytes->begin() + static_cast<std::ptrdiff_t>(bytes->size() / 2));
    REQUIRE_CODE(Predictor::open(half, {}), model_truncated);
    REQUIRE_CODE(Predictor::open("mf-res2net-tenth", {}), file_not_found);
}

TEST_CASE("volumes that make no sense are rejected") {
    const test::TemporaryFolder folder;
    Predictor predictor = open(test::write_model(folder, test::small_network));
    const std::array<Volume, 4> good = test::small_phantom().volumes;
    const CaseVolumes views = views_of(good);
    const auto with = [&](const auto& spoil) {
        CaseVolumes spoilt = views;
        spoil(spoilt);
        return predictor.predict(spoilt);
    };
    REQUIRE_CODE(with([](CaseVolumes& v) { v[Modality::t2].voxels = nullptr; }), modality_missing);
    REQUIRE_CODE(with([](CaseVolumes& v) { v[Modality::t1].grid.size[1] = 1; }), invalid_argument);
    REQUIRE_CODE(with([](CaseVolumes& v) { v[Modality::t1].strides = {1, 0, 64}; }), invalid_argument);
    REQUIRE_CODE(with([](CaseVolumes& v) { v[Modality::t1].inter = std::numeric_limits<double>::infinity(); }),
                 invalid_argument);
    REQUIRE_CODE(with([](CaseVolumes& v) { v[Modality::flair].grid.affine[0][0] = std::nan(""); }), invalid_argument);
    REQUIRE_CODE(with([](CaseVolumes& v) { v[Modality::flair].grid.affine[0][3] += 0.2; }), grid_position_mismatch);
    REQUIRE_CODE(with([](CaseVolumes& v) { v[Modality::flair].voxels = v[Modality::t1].voxels; }), modality_duplicate);
    REQUIRE_CODE(with([](CaseVolumes& v) {
                     for (VolumeView& view : v.volumes)
                         view.grid.affine[1] = view.grid.affine[0];
                 }),
                 affine_singular);
    REQUIRE_CODE(with([](CaseVolumes& v) {
                     for (VolumeView& view : v.volumes)
                         for (auto& row : view.grid.affine)
                             row[2] *= 3.0;
                 }),
                 voxel_size_out_of_range);
    std::array<Volume, 4> bad = good;
    bad[1].voxels[777] = std::nanf("");
    const auto rejected = predictor.predict(views_of(bad));
    REQUIRE_CODE(rejected, voxel_not_finite);
    CHECK(rejected.error().message.find("t1ce of phantom") != std::string::npos);
    REQUIRE_CODE(predictor.predict(views, {}, [](std::string_view, double) { return false; }), interrupted);
    REQUIRE_CODE(predictor.predict(views, {.label_scheme = "brats1999"}), invalid_argument);
    REQUIRE_CODE(predictor.predict(views, {.min_enhancing_mm3 = -1.0}), invalid_argument);
}

TEST_CASE("channels are fed in the order that the metadata tell") {
    const test::TemporaryFolder folder;
    const auto original = test::write_model(folder, test::small_network);
    // The same function of other channels: input channel c of the new weights shows what order[c] showed.
    const std::array<std::size_t, 4> order = {3, 1, 0, 2};
    const auto permuted = changed_model(
        folder,
        [&](Model& model) {
            model.metadata.modalities = {"flair", "t1ce", "t1", "t2"};
            const auto graph = parameter_graph(model.variant);
            REQUIRE_OK(graph);
            std::size_t changed = 0;
            for (const Node& node : graph->nodes())
                if (node.kind() == OpKind::conv && node.inputs[0] == graph->input()) {
                    Tensor& weight = model.weights.at(node.name + ".weight");
                    REQUIRE(weight.shape()[1] == 4);
                    const Tensor before = weight;
                    const std::int64_t taps = weight.elements() / (weight.shape()[0] * 4);
                    for (std::int64_t out = 0; out < weight.shape()[0]; ++out)
                        for (std::int64_t c = 0; c < 4; ++c)
                            for (std::int64_t t = 0; t < taps; ++t)
                                weight[(out * 4 + c) * taps + t] =
                                    before[(out * 4 + static_cast<std::int64_t>(order[static_cast<std::size_t>(c)])) *
                                               taps +
                                           t];
                    ++changed;
                }
            REQUIRE(changed > 0);
        },
        original);
    const CaseVolumes views = views_of(test::small_phantom().volumes);
    Predictor first = open(original);
    Predictor second = open(permuted);
    const Prediction expected = predict(first, views);
    CHECK(test::agreement(predict(second, views).labels, expected.labels) >= 0.9999);

    // Without new weights the order makes a difference.
    const auto swapped = changed_model(
        folder,
        [](Model& model) {
            model.metadata.modalities = {"flair", "t1ce", "t1", "t2"};
        },
        original);
    Predictor wrong = open(swapped);
    CHECK(test::agreement(predict(wrong, views).labels, expected.labels) < 0.999);
}

TEST_CASE("with clipped normalisation one wild voxel changes nothing but its surroundings") {
    const test::TemporaryFolder folder;
    const auto clipped = changed_model(
        folder, [](Model& model) { model.metadata.normalisation = Normalisation::zscore_brain_clipped; }, shipped);
    std::array<Volume, 4> volumes = test::small_phantom().volumes;
    std::array<Volume, 4> wild = volumes;
    const auto& size = volumes[0].grid.size;
    const auto middle = static_cast<std::size_t>(size[0] / 2 + size[0] * (size[1] / 2 + size[1] * (size[2] / 2)));
    REQUIRE(volumes[3].voxels[middle] != 0.0F);
    for (Volume& volume : wild)
        volume.voxels[middle] = 1e9F;
    const auto dice_of = [](const LabelMap& a, const LabelMap& b) {
        LabelMap first = a;
        LabelMap second = b;
        REQUIRE_OK(labels_to_classes(first, LabelScheme::brats, "first"));
        REQUIRE_OK(labels_to_classes(second, LabelScheme::brats, "second"));
        const RegionCounts counts = count_regions(first.labels, second.labels, RegionDefinition::brats);
        std::array<double, 3> values{};
        for (const TumourRegion region : tumour_regions)
            values[static_cast<std::size_t>(region)] = dice(counts[region]);
        return values;
    };
    Predictor robust = open(clipped);
    const LabelMap expected = predict(robust, views_of(volumes)).labels;
    for (const double value : dice_of(predict(robust, views_of(wild)).labels, expected))
        CHECK(value > 0.99);
    const auto unclipped = changed_model(
        folder, [](Model& model) { model.metadata.normalisation = Normalisation::zscore_brain; }, shipped);
    Predictor plain = open(unclipped, {.compute = {.threads = 2},
                                       .accept = {ErrorCode::brain_implausible, ErrorCode::intensity_outliers}});
    CHECK(dice_of(predict(plain, views_of(wild)).labels, predict(plain, views_of(volumes)).labels)[0] < 0.9);
}

TEST_CASE("auto is native in f32, and in another precision the first backend that has it") {
    const auto model = load_named_model("mf-res2net-quarter");
    REQUIRE_OK(model);
    if (!find_backend("native") || !find_backend("onednn") || (*find_backend("auto"))->name() != "native") {
        WARN("SKIPPED: needs native and onednn, and no GPU");
        return;
    }
    const auto plain = choose_backend(*model, {});
    REQUIRE_OK(plain);
    CHECK(plain->backend->name() == "native");
    CHECK(plain->options.precision == Precision::f32);
    for (const Precision precision : {Precision::bf16, Precision::int8}) {
        INFO(to_string(precision));
        const auto onednn = choose_backend(*model, {.backend = "onednn", .precision = precision});
        const auto chosen = choose_backend(*model, {.precision = precision});
        REQUIRE_CODE(choose_backend(*model, {.backend = "native", .precision = precision}), operation_unsupported);
        if (onednn) {
            REQUIRE_OK(chosen);
            CHECK(chosen->backend->name() == "onednn");
            CHECK(chosen->options.precision == precision);
            CHECK(chosen->options.ranges.empty() == (precision == Precision::bf16));
        } else { // this processor lacks the instructions: both backends say why not
            REQUIRE_CODE(chosen, operation_unsupported);
            CHECK(chosen.error().message.find("the native backend cannot") != std::string::npos);
            CHECK(chosen.error().message.find(onednn.error().message) != std::string::npos);
        }
    }
    // No processor has this for every op: the reasons of all are told.
    const auto half = choose_backend(*model, {.precision = Precision::fp16});
    REQUIRE_CODE(half, operation_unsupported);
    CHECK(half.error().message.find("the native backend cannot run this model in fp16: ") != std::string::npos);
    CHECK(half.error().message.find("; the onednn backend cannot run this model in fp16: ") != std::string::npos);
}

TEST_CASE("a contrast that no file is named as: the message names the files with other names") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    const CaseFiles whole = test::write_case(folder);
    const std::filesystem::path& t2 = whole.modalities[static_cast<std::size_t>(Modality::t2)];
    std::filesystem::rename(t2, t2.parent_path() / "phantom_tee2.nii.gz");
    const auto files = find_case(folder / "phantom", true);
    REQUIRE_OK(files);
    auto segmenter = Segmenter::open(model, {.compute = {.threads = 2}});
    REQUIRE_OK(segmenter);
    const auto rejected = segmenter->segment(*files, {.output = folder / "labels.nii.gz"});
    REQUIRE_CODE(rejected, modality_missing);
    const std::string& message = rejected.error().message;
    CHECK(message.find("case phantom lacks t2") != std::string::npos);
    CHECK(message.find("t2 ends in _t2 or -t2w") != std::string::npos);
    CHECK(message.find("not recognised by their names: phantom_tee2.nii.gz") != std::string::npos);

    // Files that are given one by one may have any name.
    CaseFiles named = *files;
    named.modalities[0] = folder / "phantom" / "first.nii.gz";
    std::filesystem::rename(files->modalities[0], named.modalities[0]);
    const auto again = segmenter->segment(named, {.output = folder / "labels.nii.gz"});
    REQUIRE_CODE(again, modality_missing);
    CHECK(again.error().message.find("recognised") == std::string::npos);
}

TEST_CASE("contrasts may be absent where the model was trained for that, and the report says what is lost") {
    const test::TemporaryFolder folder;
    const auto original = test::write_model(folder, test::small_network);
    const auto trained = changed_model(
        folder, [](Model& model) { model.metadata.modality_subsets = dropout_subsets(); }, original);
    CaseFiles files = test::write_case(folder);
    files.modalities[static_cast<std::size_t>(Modality::flair)].clear();
    CaseVolumes views = views_of(test::small_phantom().volumes);
    views[Modality::flair].voxels = nullptr;

    Predictor strict = open(original);
    const auto rejected = strict.predict(views);
    REQUIRE_CODE(rejected, modality_missing);
    CHECK(rejected.error().message.find("lacks flair") != std::string::npos);
    CHECK(rejected.error().message.find("t1,t1ce,t2,flair") != std::string::npos);
    const Prediction forced = predict(strict, views, {.any_contrasts = true});

    {
        // The error names what comes with mfres and would do.
        const test::TemporaryFolder models;
        std::filesystem::copy_file(original, models / "complete.safetensors");
        std::filesystem::copy_file(trained, models / "flexible.safetensors");
        ::setenv("MFRES_MODELS", models.path().c_str(), 1);
        const auto advised = strict.predict(views);
        ::unsetenv("MFRES_MODELS");
        REQUIRE_CODE(advised, modality_missing);
        CHECK(advised.error().message.find("; the model was trained for t1,t1ce,t2,flair, and of the models that come "
                                           "with mfres flexible for this set") != std::string::npos);
    }

    auto segmenter = Segmenter::open(trained, {.compute = {.threads = 2}});
    REQUIRE_OK(segmenter);
    const auto segmented =
        segmenter->segment(files, {.output = folder / "labels.nii.gz", .preview = folder / "picture.png"});
    REQUIRE_OK(segmented);
    CHECK(segmented->labels.labels == forced.labels.labels);
    CHECK(segmented->report.contrasts == ModalitySet{true, true, true, false});
    REQUIRE(segmented->report.warnings.size() == 1);
    CHECK(segmented->report.warnings[0].find("FLAIR") != std::string::npos);
    CHECK(segmented->report.warnings[0].find("oedema") != std::string::npos);
    CHECK(segmented->report.inputs[3].empty());
    CHECK(std::filesystem::file_size(folder / "picture.png") > 1000);

    SECTION("not both T1ce and FLAIR") {
        views[Modality::t1ce].voxels = nullptr;
        const auto without_both = segmenter->predictor().predict(views);
        REQUIRE_CODE(without_both, modality_missing);
        CHECK(without_both.error().message.find("lacks t1ce,flair; the model was trained for t1,t1ce,t2,flair; ") !=
              std::string::npos);
        CHECK(without_both.error().message.find("; t1,t2;") == std::string::npos);
    }
    SECTION("one contrast alone") {
        CaseVolumes alone = views_of(test::small_phantom().volumes);
        alone[Modality::t1].voxels = alone[Modality::t2].voxels = alone[Modality::t1ce].voxels = nullptr;
        CHECK(predict(segmenter->predictor(), alone).report.warnings.size() == 3);
    }
    SECTION("none at all") {
        REQUIRE_CODE(segmenter->predictor().predict({}, {.any_contrasts = true}), modality_missing);
    }
    CHECK(dropout_subsets().size() == 11); // 15 without all four, and without the three of T1 and T2 alone
}

TEST_CASE("what a model recommends is applied unless sizes are given, and 0 turns it off") {
    const test::TemporaryFolder folder;
    const auto original = test::write_model(folder, test::small_network);
    const PostprocessingSizes sizes{50.0, 1e9};
    const auto recommending = changed_model(
        folder, [&](Model& model) { model.metadata.postprocessing = sizes; }, original);
    const CaseVolumes views = views_of(test::small_phantom().volumes);
    Predictor plain = open(original);
    Predictor advised = open(recommending);
    const Prediction untouched = predict(plain, views);
    const Prediction chosen = predict(
        plain, views, {.min_enhancing_mm3 = sizes.min_enhancing_mm3, .min_component_mm3 = sizes.min_component_mm3});
    REQUIRE(chosen.labels.labels != untouched.labels.labels);
    CHECK(untouched.report.postprocessing == PostprocessingSizes{});
    CHECK(chosen.report.postprocessing == sizes);

    const Prediction recommended = predict(advised, views);
    CHECK(recommended.labels.labels == chosen.labels.labels);
    CHECK(recommended.report.postprocessing == sizes);
    const Prediction off = predict(advised, views, {.min_enhancing_mm3 = 0.0, .min_component_mm3 = 0.0});
    CHECK(off.labels.labels == untouched.labels.labels);
    CHECK(off.report.postprocessing == PostprocessingSizes{});
    const Prediction one = predict(advised, views, {.min_component_mm3 = 9.0});
    CHECK(one.report.postprocessing == PostprocessingSizes{9.0, sizes.min_enhancing_mm3});
    CHECK(to_json(recommended.report).find("\"min_component_mm3\": 50.0") != std::string::npos);
}

TEST_CASE("probabilities add up to one, agree with the labels and leave them as they are") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, test::small_network);
    const CaseVolumes views = views_of(test::small_phantom().volumes);
    for (const MirrorAxes mirror : {MirrorAxes{}, MirrorAxes{true, false, false}}) {
        INFO("mirrored along x: " << mirror[0]);
        Predictor predictor = open(model, {.compute = {.threads = 2}, .mirror = mirror});
        const Prediction plain = predict(predictor, views, {.label_scheme = "brats2023"});
        const Prediction both = predict(predictor, views, {.label_scheme = "brats2023", .probabilities = true});
        CHECK_FALSE(plain.probabilities.has_value());
        CHECK(both.labels.labels == plain.labels.labels);
        REQUIRE(both.probabilities.has_value());
        const ProbabilityMap& map = *both.probabilities;
        REQUIRE(map.classes == 4);
        REQUIRE(static_cast<std::int64_t>(map.values.size()) == 4 * map.grid.voxels());
        std::size_t disagree = 0;
        double worst_sum = 0.0;
        for (std::size_t i = 0; i < both.labels.labels.size(); ++i) {
            double sum = 0.0;
            std::size_t best = 0;
            for (std::size_t c = 0; c < 4; ++c) {
                const float p = map.of_class(static_cast<std::int64_t>(c))[i];
                sum += p;
                if (p > map.of_class(static_cast<std::int64_t>(best))[i])
                    best = c;
            }
            worst_sum = std::max(worst_sum, std::abs(sum - 1.0));
            disagree += best != both.labels.labels[i] ? 1 : 0;
        }
        CHECK(worst_sum < 1e-5);
        CHECK(disagree == 0);
    }
}

TEST_CASE("a network of regions gives labels by nesting, and probabilities of the classes between them") {
    const test::TemporaryFolder folder;
    const std::string variant = R"({"outputs": "regions", )" + std::string(test::small_network.substr(1));
    const auto model = test::write_model(folder, variant);
    const CaseVolumes views = views_of(test::small_phantom().volumes);
    std::array<std::size_t, 2> tumour{};
    for (const MirrorAxes mirror : {MirrorAxes{}, MirrorAxes{true, false, false}}) {
        INFO("mirrored along x: " << mirror[0]);
        Predictor predictor = open(model, {.compute = {.threads = 2}, .mirror = mirror});
        const PredictOptions options{.label_scheme = "brats2023", .probabilities = true};
        const Prediction prediction = predict(predictor, views, options);
        const ProbabilityMap& map = *prediction.probabilities;
        REQUIRE(map.classes == 4);
        std::size_t disagree = 0;
        double worst_sum = 0.0;
        for (std::size_t i = 0; i < prediction.labels.labels.size(); ++i) {
            const auto p = [&](std::int64_t c) { return map.of_class(c)[i]; };
            worst_sum = std::max(worst_sum, std::abs(double{p(0)} + double{p(1)} + double{p(2)} + double{p(3)} - 1.0));
            const std::uint8_t expected = p(3) > 0.5F ? 3 : p(1) + p(3) > 0.5F ? 1 : 1.0F - p(0) > 0.5F ? 2 : 0;
            // Where a region stands at one half rounding may decide either way.
            const bool decided =
                std::abs(p(3) - 0.5F) > 1e-5F && std::abs(p(1) + p(3) - 0.5F) > 1e-5F && std::abs(p(0) - 0.5F) > 1e-5F;
            disagree += decided && expected != prediction.labels.labels[i] ? 1 : 0;
            tumour[mirror[0] ? 1 : 0] += prediction.labels.labels[i] != 0 ? 1 : 0;
        }
        CHECK(worst_sum < 1e-5);
        CHECK(disagree == 0);
        CHECK(tumour[mirror[0] ? 1 : 0] > 0);
        CHECK(predict(predictor, views, {.label_scheme = "brats2023"}).labels.labels == prediction.labels.labels);
    }
}

TEST_CASE("background that is not computed changes no label and no probability, with mirror images and in tiles") {
    const test::TemporaryFolder folder;
    const auto phantom = make_phantom({.seed = 8, .size = {128, 150, 112}, .threads = 2});
    REQUIRE_OK(phantom);
    const CaseVolumes views = views_of(phantom->volumes);
    const auto model = test::write_model(folder, R"({"network": "mf-res2net"})");
    for (const bool mirrored : {false, true})
        for (const bool tiled : {false, true}) {
            INFO("mirrored: " << mirrored << ", tiles: " << tiled);
            const PredictOptions options{.probabilities = !tiled};
            PredictorOptions setup{.compute = {.threads = 2}, .mirror = {mirrored, false, mirrored}};
            if (tiled) {
                setup.max_memory = std::int64_t{1} << 40;
                Predictor whole = open(model, setup);
                setup.max_memory = predict(whole, views, options).report.planned_peak_bytes * 97 / 100;
            }
            Predictor skipping = open(model, setup);
            setup.skip_background = false;
            Predictor computing = open(model, setup);
            const Prediction skipped = predict(skipping, views, options);
            const Prediction computed = predict(computing, views, options);
            CHECK((skipped.report.tiles > 1) == tiled);
            const bool same_labels = skipped.labels.labels == computed.labels.labels;
            CHECK(same_labels);
            if (!tiled) {
                const bool same_probabilities = skipped.probabilities->values == computed.probabilities->values;
                CHECK(same_probabilities);
            }
            // What the case before needed is forgotten.
            const bool same_again = predict(skipping, views).labels.labels == computed.labels.labels;
            CHECK(same_again);
        }
}

TEST_CASE("probabilities of tiles are those of the tile that decides") {
    const test::TemporaryFolder folder;
    const auto phantom = make_phantom({.seed = 8, .size = {96, 112, 80}, .threads = 2});
    REQUIRE_OK(phantom);
    const auto model = test::write_model(folder, R"({"network": "dmfnet", "n": 32})");
    const CaseVolumes views = views_of(phantom->volumes);
    Predictor whole = open(model);
    const std::int64_t limit = predict(whole, views).report.planned_peak_bytes * 97 / 100;
    Predictor tight = open(model, {.compute = {.threads = 2}, .max_memory = limit});
    const Prediction tiled = predict(tight, views, {.probabilities = true});
    CHECK(tiled.report.tiles > 1);
    CHECK(tiled.report.planned_peak_bytes <= limit);
    std::size_t disagree = 0;
    for (std::size_t i = 0; i < tiled.labels.labels.size(); ++i) {
        std::size_t best = 0;
        for (std::size_t c = 1; c < 4; ++c)
            if (tiled.probabilities->of_class(static_cast<std::int64_t>(c))[i] >
                tiled.probabilities->of_class(static_cast<std::int64_t>(best))[i])
                best = c;
        disagree += (best == 3 ? 4 : best) != tiled.labels.labels[i] ? 1 : 0;
    }
    CHECK(disagree == 0);
}

namespace {

template <typename T>
T at(const std::vector<std::byte>& bytes, std::size_t offset) {
    T value;
    REQUIRE(offset + sizeof value <= bytes.size());
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

} // namespace

TEST_CASE("probabilities are written on four axes where the input lies, as float32 and as uint8") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    auto segmenter = Segmenter::open(test::write_model(folder, test::small_network), {.compute = {.threads = 2}});
    REQUIRE_OK(segmenter);
    SegmentOptions request{.output = folder / "labels.nii.gz", .preview = folder / "p.png"};
    request.probabilities = folder / "p.nii";
    request.preview_uncertainty = true;
    const auto result = segmenter->segment(files, request);
    REQUIRE_OK(result);
    CHECK(result->report.probabilities == request.probabilities.string());
    CHECK(std::filesystem::file_size(folder / "p.png") > 1000);
    REQUIRE(result->probabilities.has_value());
    const ProbabilityMap& map = *result->probabilities;
    const auto bytes = read_file(request.probabilities, 1U << 30U);
    REQUIRE_OK(bytes);
    CHECK(at<std::int16_t>(*bytes, 40) == 4); // dim
    CHECK(at<std::int16_t>(*bytes, 42) == 64);
    CHECK(at<std::int16_t>(*bytes, 44) == 72);
    CHECK(at<std::int16_t>(*bytes, 46) == 56);
    CHECK(at<std::int16_t>(*bytes, 48) == 4);
    CHECK(at<std::int16_t>(*bytes, 70) == 16); // float32
    REQUIRE(bytes->size() == 352 + 4 * map.values.size());
    bool same = true;
    for (std::size_t i = 0; i < map.values.size(); ++i)
        same &= at<float>(*bytes, 352 + 4 * i) == f16_to_f32(f32_to_f16(map.values[i]));
    CHECK(same);

    request.probability_format = ProbabilityFormat::uint8;
    request.preview.clear();
    request.preview_uncertainty = false;
    REQUIRE_OK(segmenter->segment(files, request));
    const auto small = read_file(request.probabilities, 1U << 30U);
    REQUIRE_OK(small);
    CHECK(at<std::int16_t>(*small, 70) == 2);               // uint8
    CHECK(at<float>(*small, 112) == Approx(1.0F / 255.0F)); // scl_slope
    REQUIRE(small->size() == 352 + map.values.size());
    double worst = 0.0;
    for (std::size_t i = 0; i < map.values.size(); ++i)
        worst = std::max(worst, std::abs(static_cast<double>(at<std::uint8_t>(*small, 352 + i)) / 255.0 -
                                         static_cast<double>(map.values[i])));
    CHECK(worst <= 0.5 / 255.0 + 1e-6);

    request.overwrite = false;
    REQUIRE_CODE(segmenter->segment(files, request), file_exists);
    request.overwrite = true;
    request.probabilities = folder / "p.png";
    REQUIRE_CODE(segmenter->segment(files, request), invalid_argument);
    request.probabilities = request.output;
    REQUIRE_CODE(segmenter->segment(files, request), invalid_argument);
}
