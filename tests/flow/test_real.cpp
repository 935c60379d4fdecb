// SPDX-License-Identifier: MIT
// Real patients, where the shared data is present: every case through the fast backend, two through the reference too.
#include "imaging/case.h"
#include "imaging/preprocess.h"
#include "support/cases.h"
#include "support/run_graph.h"

#include <mfres/segmenter.h>

using namespace mfres;

TEST_CASE("every real case runs through the fastest backend onto its own grid") {
    const auto root = test::shared_data("data/real");
    if (!root)
        return;
    const test::TemporaryFolder folder;
    auto segmenter = Segmenter::open(test::write_model(folder), {});
    REQUIRE_OK(segmenter);
    std::size_t cases = 0;
    for (const char* split : {"train", "val", "original"}) {
        const auto found = find_cases(*root / split);
        REQUIRE_OK(found);
        for (const CaseFiles& files : *found) {
            INFO(files.id);
            const auto result = segmenter->segment(files, {.output = folder / "labels.nii.gz"});
            REQUIRE_OK(result);
            test::check_same_geometry(folder / "labels.nii.gz", files);
            ++cases;
        }
    }
    CHECK(cases == 38);
}

TEST_CASE("on the original cases the fastest backend and the reference agree on labels and logits") {
    const auto root = test::shared_data("data/real/original");
    if (!root)
        return;
    const test::TemporaryFolder folder;
    // Of the first seeds the one whose untrained weights give all four labels (317, 1095 and 54 ml in the first case),
    // so that agreement means something.
    const auto model_path = test::write_model(folder, "mf-res2net", 4);
    const auto found = find_cases(*root);
    REQUIRE_OK(found);
    REQUIRE(found->size() == 2);
    auto fast = Segmenter::open(model_path, {});
    auto reference = Segmenter::open(model_path, {.compute = {.backend = "reference"}});
    REQUIRE_OK(fast);
    REQUIRE_OK(reference);
    const auto model = load_model(model_path);
    REQUIRE_OK(model);
    const auto graph = build_network(model->variant, {64, 64, 64});
    REQUIRE_OK(graph);
    for (const CaseFiles& files : *found) {
        INFO(files.id);
        const auto a = fast->segment(files, {});
        const auto b = reference->segment(files, {});
        REQUIRE_OK(a);
        REQUIRE_OK(b);
        std::size_t equal = 0;
        for (std::size_t i = 0; i < a->labels.labels.size(); ++i)
            equal += a->labels.labels[i] == b->labels.labels[i];
        for (const auto& part : a->report.classes)
            CHECK(part.voxels > 1000);
        CHECK(static_cast<double>(equal) >= 0.9999 * static_cast<double>(a->labels.labels.size()));

        const auto loaded = load_case(files, {});
        REQUIRE_OK(loaded);
        const auto preprocessing = plan_preprocessing(loaded->scans);
        REQUIRE_OK(preprocessing);
        Tensor crop(Shape{1, 4, 64, 64, 64});
        fill_input(*preprocessing, loaded->scans, {48, 48, 48}, view(crop), 2);
        const auto fast_logits = test::run(*test::usable_backends().front(), *graph, model->weights, crop);
        const auto true_logits = test::run(**find_backend("reference"), *graph, model->weights, crop);
        REQUIRE_OK(fast_logits);
        REQUIRE_OK(true_logits);
        double most = 0.0;
        for (std::int64_t i = 0; i < crop.elements(); ++i)
            most = std::max(most, std::abs(static_cast<double>((*fast_logits)[i]) - (*true_logits)[i]));
        CHECK(most <= 1e-3);
    }
}
