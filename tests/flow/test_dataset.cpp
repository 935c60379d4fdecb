// SPDX-License-Identifier: MIT
// Public functions for programs that train and measure: splits, caches, images of cases, recipes, runs.
#include "core/file.h"
#include "support/cases.h"

#include <mfres/benchmark.h>
#include <mfres/case_images.h>
#include <mfres/complexity.h>
#include <mfres/dataset.h>
#include <mfres/trainer.h>

#include <nlohmann/json.hpp>

#include <algorithm>

using namespace mfres;
using test::TemporaryFolder;

namespace {

/// Three patients with the same images and labels, in <folder>/data.
std::filesystem::path write_data(const TemporaryFolder& folder) {
    const Phantom& phantom = test::small_phantom();
    const NiftiGeometry geometry = geometry_of(phantom.labels.grid);
    for (const std::string id : {"data/a", "data/b", "data/c"}) {
        const std::string name = id.substr(5);
        std::filesystem::create_directories(folder / id);
        for (const Modality modality : modalities)
            REQUIRE_OK(write_nifti(folder / id / (name + "_" + std::string(mfres::name(modality)) + ".nii"),
                                   phantom.volumes[static_cast<std::size_t>(modality)], geometry,
                                   NiftiDatatype::float32, "synthetic", true));
        REQUIRE_OK(write_nifti_labels(folder / id / (name + "_seg.nii"), phantom.labels, geometry, "synthetic", true));
    }
    return folder / "data";
}

} // namespace

TEST_CASE("cases are split by patient, packed, and read as images from files and from the cache") {
    const TemporaryFolder folder;
    const auto data = write_data(folder);
    const auto split = split_cases({.data = data, .fold = "1/3"});
    REQUIRE_OK(split);
    CHECK(split->train.size() == 2);
    REQUIRE(split->held_out.size() == 1);
    CHECK_FALSE(split->rule.empty());
    CHECK(split->warnings.empty());
    REQUIRE_CODE(split_cases({.data = data, .fold = "4/3"}), invalid_argument);
    REQUIRE_OK(write_file_atomically(folder / "patients.txt", "a z\n"));
    const auto listed = split_cases({.data = data, .same_patient = folder / "patients.txt"});
    REQUIRE_OK(listed);
    REQUIRE(listed->warnings.size() == 1);
    CHECK(listed->warnings[0].find('z') != std::string::npos);

    const auto cache = folder / "held-out.mfcache";
    const auto fingerprint = pack_cases(cache, split->held_out, {});
    REQUIRE_OK(fingerprint);
    CHECK(fingerprint->size() == 64);
    const auto again = cache_fingerprint(cache);
    REQUIRE_OK(again);
    CHECK(*again == *fingerprint);
    REQUIRE_CODE(pack_cases(cache, split->held_out, {}), file_exists);
    REQUIRE_CODE(pack_cases(folder / "stopped.mfcache", split->held_out, {}, [](auto...) { return false; }),
                 interrupted);
    REQUIRE_CODE(cache_fingerprint(folder / "stopped.mfcache"), file_not_found);

    auto segmenter =
        Segmenter::open(test::write_model(folder, test::small_network), {.compute = {.backend = "reference"}});
    REQUIRE_OK(segmenter);
    const auto cached = CaseSet::find(cache);
    REQUIRE_OK(cached);
    const auto from_cache = read_images(*segmenter, *cached, 0);
    const auto from_files = read_images(*segmenter, split->held_out, 0);
    for (const auto* images : {&from_files, &from_cache}) {
        REQUIRE_OK(*images);
        const CaseImages& read = **images;
        CHECK(read.id == split->held_out.id(0));
        REQUIRE(read.reference.has_value());
        CHECK(*std::max_element(read.reference->labels.begin(), read.reference->labels.end()) == 3);
        for (std::size_t m = 0; m < 4; ++m) {
            CHECK(read.volumes[m].grid == read.reference->grid);
            CHECK(read.volumes[m].voxels.front() == read.background[m]);
            CHECK(read.views().volumes[m].voxels == read.volumes[m].voxels.data());
        }
        for (std::size_t axis = 0; axis < 3; ++axis)
            CHECK(read.brain_begin[axis] < read.brain_end[axis]);
    }
    const auto tumour = [](const CaseImages& images) {
        return images.reference->labels.size() -
               static_cast<std::size_t>(
                   std::count(images.reference->labels.begin(), images.reference->labels.end(), std::uint8_t{0}));
    };
    CHECK(tumour(*from_files) == tumour(*from_cache));
}

TEST_CASE("recipes and runs are described without a training") {
    const auto described = describe_recipe(R"({"steps": 7, "batch": 3, "crop": [32, 48, 32]})", 5);
    REQUIRE_OK(described);
    CHECK(described->total_steps == 7);
    CHECK(described->batch == 3);
    CHECK(described->crop == std::array<std::int64_t, 3>{32, 48, 32});
    CHECK(nlohmann::json::parse(described->json)["loss"] == described->loss);
    const auto epochs = describe_recipe(R"({"epochs": 3, "batch": 2})", 5);
    REQUIRE_OK(epochs);
    CHECK(epochs->total_steps == 8); // 15 cases in batches of 2
    REQUIRE_CODE(describe_recipe(R"({"no_such_key": 1})"), recipe_invalid);

    const TemporaryFolder folder;
    const auto none = run_progress(folder / "run");
    REQUIRE_OK(none);
    CHECK_FALSE(none->has_value());
    REQUIRE_OK(write_file_atomically(folder / "last.ckpt", "no checkpoint"));
    REQUIRE_CODE(run_progress(folder / ""), checkpoint_damaged);
}

TEST_CASE("the activations of an inference are planned by name") {
    const auto planned = planned_activations("mf-res2net", {32, 32, 32}, "reference");
    const auto counted = complexity("mf-res2net", {32, 32, 32});
    REQUIRE_OK(planned);
    REQUIRE_OK(counted);
    CHECK(*planned > 0);
    CHECK(*planned <= counted->total.activation_bytes);
    REQUIRE_CODE(planned_activations("mf-res2net", {32, 32, 31}, "reference"), invalid_argument);
    REQUIRE_CODE(planned_activations("mf-res2net", {32, 32, 32}, "nobody"), backend_unknown);
}
