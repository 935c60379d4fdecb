// SPDX-License-Identifier: MIT
// Whole training runs and segmentations with the CUDA backend, its kernels on the host: what no other backend has.
#include "backends/cuda/backend.h"
#include "backends/cuda/engine.h"
#include "model/model.h"
#include "support/program.h"
#include "support/training_runs.h"

#include <mfres/segmenter.h>

#include <algorithm>

using namespace mfres;

namespace {

/// Known by this name from the first use on.
std::string_view on_host() {
    static const cuda::CudaBackend backend(
        "cuda-on-host", "kernels of the cuda backend on the host",
        [](int) { return Result<std::unique_ptr<cuda::Engine>>(cuda::make_host_engine()); }, [] { return Status(); },
        [] { return 1; });
    static const bool added = add_backend(backend).ok();
    REQUIRE(added);
    return backend.name();
}

/// The warnings of a run.
TrainObserver listening(std::vector<std::string>& warnings) {
    return [&warnings](const TrainEvent& event) {
        if (event.kind == TrainEvent::Kind::warning)
            warnings.push_back(event.message);
        return true;
    };
}

void change_loss_scaling(const std::filesystem::path& run, const LossScaling& scaling) {
    Checkpoint checkpoint = test::checkpoint_of(run / "last.ckpt");
    REQUIRE(checkpoint.state.loss_scaling);
    checkpoint.state.loss_scaling = scaling;
    REQUIRE_OK(write_checkpoint(run / "last.ckpt", checkpoint));
}

} // namespace

TEST_CASE("a backend that a program adds is found by its name") {
    const auto found = find_backend(on_host());
    REQUIRE_OK(found);
    CHECK((*found)->name() == "cuda-on-host");
    CHECK(backends().back()->name() == "reference");
}

TEST_CASE("deep supervision and teachers train on the device to the bit, and nearly as on the reference backend") {
    const test::TemporaryFolder folder;
    const auto variant = parse_variant(test::small_network);
    REQUIRE_OK(variant);
    const auto teacher = init_model(*variant, 7);
    REQUIRE_OK(teacher);
    REQUIRE_OK(save_model(folder / "teacher.safetensors", *teacher));
    for (const bool taught : {false, true}) { // without teachers crops are cut on the device
        INFO("taught " << taught);
        const std::string recipe = test::tiny_recipe({{"steps", 6},
                                                      {"loss", "dice-ce"},
                                                      {"deep_supervision", true},
                                                      {"batch_dice", false},
                                                      {"focal_gamma", 2.0},
                                                      {"topk_percent", 20.0}});
        const std::string kind = taught ? "-taught" : "";
        const auto options_of = [&](const std::string& run, std::string_view backend) {
            TrainerOptions options = test::tiny_run(folder / (run + kind), backend, recipe);
            if (taught)
                options.teachers = {folder / "teacher.safetensors"};
            return options;
        };
        TrainerOptions parts = options_of("parts", on_host());
        std::vector<double> losses;
        std::vector<double> again;
        std::vector<double> reference;
        test::train(options_of("whole", on_host()), test::noting(losses));
        test::train(parts, test::noting(again, 3));
        parts.resume = true;
        test::train(parts, test::noting(again));
        CHECK(losses == again);
        test::check_same_training(test::checkpoint_of(folder / ("whole" + kind) / "last.ckpt"),
                                  test::checkpoint_of(folder / ("parts" + kind) / "last.ckpt"));
        test::train(options_of("reference", "reference"), test::noting(reference));
        REQUIRE(losses.size() == 6);
        REQUIRE(reference.size() == 6);
        CHECK(losses[0] == Approx(reference[0]).epsilon(1e-3)); // later ones part as rounding grows
    }
}

TEST_CASE("a run stops and goes on in bf16 and fp16 to the bit, skipped steps and loss scale included") {
    for (const char* precision : {"bf16", "fp16"}) {
        INFO(precision);
        const bool scales = precision == std::string_view("fp16");
        const test::TemporaryFolder folder;
        const std::string recipe = test::tiny_recipe({{"steps", 8}, {"precision", precision}, {"ema", 0.5}});
        TrainerOptions whole = test::tiny_run(folder / "whole", on_host(), recipe);
        TrainerOptions parts = test::tiny_run(folder / "parts", on_host(), recipe);
        // Both from a state whose next steps overflow.
        std::vector<double> start;
        for (const TrainerOptions* options : {&whole, &parts}) {
            test::train(*options, test::noting(start, 1));
            if (scales)
                change_loss_scaling(options->run, {LossScaling::largest, 3});
        }
        whole.resume = parts.resume = true;

        std::vector<double> losses;
        const TrainReport once = test::train(whole, test::noting(losses));
        std::vector<double> again;
        const TrainReport stopped = test::train(parts, test::noting(again, 3));
        CHECK(stopped.stopped);
        const TrainReport gone_on = test::train(parts, test::noting(again));
        CHECK(losses == again);
        const Checkpoint end = test::checkpoint_of(folder / "whole" / "last.ckpt");
        test::check_same_training(end, test::checkpoint_of(folder / "parts" / "last.ckpt"));
        CHECK(end.recipe.precision == precision);
        CHECK(end.state.loss_scaling.has_value() == scales);
        CHECK(once.skipped == gone_on.skipped);
        CHECK((once.skipped > 2) == scales); // more than the first part trained, so that both have some
        std::int64_t in_rows = 0;
        for (const TrainRow& row : once.rows)
            in_rows += row.skipped;
        CHECK(in_rows == once.skipped);
    }
}

TEST_CASE("a skipped step changes no weight and is told once, and Adam counts the others") {
    const test::TemporaryFolder folder;
    TrainerOptions options =
        test::tiny_run(folder / "run", on_host(), test::tiny_recipe({{"steps", 4}, {"precision", "fp16"}}));
    std::vector<double> losses;
    test::train(options, test::noting(losses, 1));
    change_loss_scaling(folder / "run", {LossScaling::largest, 0});
    const Checkpoint before = test::checkpoint_of(folder / "run" / "last.ckpt");
    options.resume = true;
    std::vector<std::string> warnings;
    const TrainReport report = test::train(options, listening(warnings));
    CHECK(before.skipped == 1); // the scale that training starts with is too large for this network
    REQUIRE(report.skipped == 4);
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find("step 2 overflowed in fp16") != std::string::npos);
    const Checkpoint after = test::checkpoint_of(folder / "run" / "last.ckpt");
    CHECK(after.state.loss_scaling->scale == LossScaling::largest / 8);
    CHECK(after.skipped_in_row == 4);
    test::check_equal_bits(after.state.first_moment, before.state.first_moment);
    test::check_equal_bits(after.state.second_moment, before.state.second_moment);
    CHECK(after.rows.back().skipped == 4);
    CHECK(test::file_text(folder / "run" / "metrics.csv").find(",,,,4\n") != std::string::npos);

    // Twenty in a row are no longer the scale's fault.
    Checkpoint hopeless = after;
    hopeless.skipped_in_row = 20;
    hopeless.state.loss_scaling = LossScaling{LossScaling::largest, 0};
    REQUIRE_OK(write_checkpoint(folder / "run" / "last.ckpt", hopeless));
    options.recipe = R"({"steps": 6})";
    auto trainer = Trainer::open(options);
    REQUIRE_OK(trainer);
    const auto run = trainer->run();
    REQUIRE_CODE(run, training_diverged);
    CHECK(run.error().message.find("21 steps in a row overflowed in fp16") != std::string::npos);
}

TEST_CASE("a run under a memory cap computes activations again and comes out the same to the bit") {
    const test::TemporaryFolder folder;
    const std::string recipe = test::tiny_recipe({{"steps", 3}});
    const TrainReport plain = test::train(test::tiny_run(folder / "plain", on_host(), recipe));
    CHECK(plain.recomputed_steps == 0);
    TrainerOptions options = test::tiny_run(folder / "capped", on_host(), recipe);
    options.max_memory = plain.peak_bytes - plain.peak_bytes / 20;
    const TrainReport capped = test::train(options);
    CHECK(capped.peak_bytes <= options.max_memory);
    CHECK(capped.recomputed_steps > 0);
    test::check_same_training(test::checkpoint_of(folder / "plain" / "last.ckpt"),
                              test::checkpoint_of(folder / "capped" / "last.ckpt"));
    options.max_memory = 1 << 20;
    options.run = folder / "hopeless";
    const auto rejected = Trainer::open(options);
    REQUIRE_CODE(rejected, memory_limit);
    CHECK(rejected.error().message.find("MiB with activations computed again") != std::string::npos);
}

TEST_CASE("what an engine warns of is among the warnings of a training and of a segmented case") {
    static const std::string sentence = "plans of convolutions are timed anew: it says so";
    static const cuda::CudaBackend backend(
        "cuda-that-warns", "kernels of the cuda backend on the host",
        [](int) { return Result<std::unique_ptr<cuda::Engine>>(cuda::make_host_engine(false, sentence)); },
        [] { return Status(); }, [] { return 1; });
    REQUIRE_OK(add_backend(backend));
    const test::TemporaryFolder folder;
    std::vector<std::string> told;
    const TrainReport report =
        test::train(test::tiny_run(folder / "run", backend.name(), test::tiny_recipe({{"steps", 1}})), listening(told));
    CHECK(std::count(report.warnings.begin(), report.warnings.end(), sentence) == 1);
    const TrainReport silent =
        test::train(test::tiny_run(folder / "silent", on_host(), test::tiny_recipe({{"steps", 1}})));
    CHECK(std::count(silent.warnings.begin(), silent.warnings.end(), sentence) == 0);

    auto phantom = make_phantom({.seed = 3, .size = {32, 32, 32}, .threads = 1});
    REQUIRE_OK(phantom);
    const CaseFiles files = test::write_labelled_case(folder, "case", phantom->volumes, phantom->labels);
    auto segmenter = Segmenter::open(test::write_model(folder, test::small_network),
                                     {.compute = {.backend = std::string(backend.name())}});
    REQUIRE_OK(segmenter);
    for (int run = 0; run < 2; ++run) { // the second time with the network of the first
        const auto result = segmenter->segment(files, {});
        REQUIRE_OK(result);
        const auto& warnings = result->report.warnings;
        CHECK(std::count(warnings.begin(), warnings.end(), sentence) == 1);
    }
}

TEST_CASE("a case is segmented in every precision with nearly the same labels, and the report says in which") {
    const test::TemporaryFolder folder;
    auto phantom = make_phantom({.seed = 3, .size = {48, 56, 48}, .threads = 1});
    REQUIRE_OK(phantom);
    const CaseFiles files = test::write_labelled_case(folder, "case", phantom->volumes, phantom->labels);
    const auto model = test::write_model(folder, test::small_network);
    std::vector<std::uint8_t> exact;
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::fp16}) {
        const std::string name(to_string(precision));
        INFO(name);
        auto segmenter = Segmenter::open(
            model,
            {.compute = {
                 .backend = std::string(on_host()), .precision = precision, .tf32 = true, .deterministic = false}});
        REQUIRE_OK(segmenter);
        const auto result = segmenter->segment(files, {});
        REQUIRE_OK(result);
        const auto report = nlohmann::json::parse(to_json(result->report));
        CHECK(report["backend"]["precision"] == name);
        CHECK(report["backend"]["allow_tf32"] == true);
        CHECK(report["backend"]["deterministic"] == false);
        CHECK(to_text(result->report).find(name + " with TF32, not deterministic") != std::string::npos);
        if (exact.empty())
            exact.assign(result->labels.labels.begin(), result->labels.labels.end());
        std::size_t equal = 0;
        for (std::size_t i = 0; i < exact.size(); ++i)
            equal += exact[i] == result->labels.labels[i];
        CHECK(static_cast<double>(equal) >= 0.95 * static_cast<double>(exact.size()));
    }
}
