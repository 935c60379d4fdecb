// SPDX-License-Identifier: MIT
// `mfres convert` as a user runs it.
#include "model/model.h"
#include "support/cases.h"
#include "support/program.h"
#include "support/python.h"

#include <nlohmann/json.hpp>

#include <set>

using namespace mfres;

namespace {

/// Whether this build reads and writes ONNX; says so where it does not.
bool no_onnx(const test::TemporaryFolder& folder, const std::string& model) {
    const auto tried = test::run_program({"convert", model, "--out", folder / "probe.onnx", "--size", "16", "--force"});
    const bool absent = tried.exit_code != 0 && tried.err.find("no ONNX") != std::string::npos;
    if (absent)
        std::printf("SKIPPED: this build has no ONNX\n");
    return absent;
}

} // namespace

TEST_CASE("ONNX Runtime, driven by what the ONNX file says alone, writes the labels of mfres segment") {
    const auto python = test::python_with("onnxruntime, numpy");
    if (!python)
        return;
    const test::TemporaryFolder folder;
    const std::string cases = folder / "phantom";
    REQUIRE(test::run_program({"phantom", "--seed", "3", "--size", "72,80,64", "--out", cases}).exit_code == 0);
    const std::string model = folder / "model.safetensors";
    const std::string onnx = folder / "model.onnx";
    const std::string labels = folder / "labels.nii.gz";
    const std::vector<std::vector<std::string>> declared = {
        {},
        {"--normalisation", "zscore-brain"},
        {"--min-component", "300", "--min-enhancing", "100000"},
    };
    for (const std::vector<std::string>& options : declared) {
        std::vector<std::string> convert = {"convert", "mf-res2net-quarter", "--out", model, "--force"};
        convert.insert(convert.end(), options.begin(), options.end());
        INFO((options.empty() ? "as it is" : options[0]));
        REQUIRE(test::run_program(convert).exit_code == 0);
        if (no_onnx(folder, model))
            return;
        REQUIRE(test::run_program({"convert", model, "--out", onnx, "--dynamic", "--force"}).exit_code == 0);
        const auto segmented = test::run_program({"segment", "--model", model, "--case", cases, "--out", labels,
                                                  "--accept", "brain_implausible", "--force", "--quiet"});
        INFO(segmented.err);
        REQUIRE(segmented.exit_code == 0);
        test::require_python(*python, "exchange/segment_onnx.py", {onnx, cases, labels});
    }
}

TEST_CASE("convert brings a model to ONNX and back, verified on a case") {
    const test::TemporaryFolder folder;
    const std::string model = test::write_model(folder, test::small_network);
    if (no_onnx(folder, model))
        return;
    const auto files = test::write_case(folder);
    const std::string case_folder = files.modalities[0].parent_path();
    const std::string onnx = folder / "m.onnx";
    const auto out =
        test::run_program({"convert", model, "--out", onnx, "--dynamic", "--verify", case_folder, "--json"});
    INFO(out.err);
    REQUIRE(out.exit_code == 0);
    const auto report = nlohmann::json::parse(out.out);
    CHECK(report["verify"]["different_labels"] == 0);
    CHECK(report["verify"]["largest_difference"] == 0.0);
    CHECK(report["verify"]["voxels"].get<std::int64_t>() > 10'000);

    const std::string back = folder / "back.safetensors";
    REQUIRE(test::run_program({"convert", onnx, "--out", back}).exit_code == 0);
    CHECK(test::file_text(back) == test::file_text(model)); // bit for bit, metadata and all

    const auto half = test::run_program(
        {"convert", model, "--out", folder / "half.safetensors", "--dtype", "f16", "--verify", case_folder, "--json"});
    INFO(half.err);
    REQUIRE(half.exit_code == 0);
    const auto rounded = nlohmann::json::parse(half.out);
    CHECK(rounded["verify"]["largest_difference"].get<double>() > 0.0);
    CHECK(rounded["verify"]["label_agreement"].get<double>() > 0.98);

    REQUIRE(test::run_program(
                {"convert", model, "--out", folder / "cv.onnx", "--dialect", "opencv", "--size", "32,16,16", "--fold"})
                .exit_code == 0);
}

TEST_CASE("convert rejects with the documented exit codes and overwrites nothing") {
    const test::TemporaryFolder folder;
    const std::string model = test::write_model(folder, test::small_network);
    const std::string before = test::file_text(model);
    const auto code = [](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), "convert");
        return test::run_program(arguments).exit_code;
    };
    CHECK(code({model}) == 2);
    CHECK(code({model, "--out", folder / "x.txt"}) == 2);
    CHECK(code({model, "--out", folder / "x.onnx", "--dialect", "opencv", "--verify", "."}) == 2);
    CHECK(code({model, "--out", folder / "x.safetensors", "--dtype", "int3"}) == 2);
    CHECK(code({folder / "absent.safetensors", "--out", folder / "x.safetensors"}) == 6);
    CHECK(code({model, "--out", model}) == 2); // the input, also with --force
    CHECK(code({model, "--out", model, "--force"}) == 2);
    CHECK(test::file_text(model) == before);
    CHECK(code({model, "--out", folder / "none" / "x.safetensors"}) == 6);
    CHECK(code({model, "--network", "dmfnet", "--out", folder / "x.safetensors"}) == 4);
    CHECK_FALSE(std::filesystem::exists(folder / "x.safetensors"));
    CHECK(code({model, "--out", folder / "x.safetensors"}) == 0);
    CHECK(code({model, "--out", folder / "x.safetensors", "--force"}) == 0);

    const auto loaded = load_model(model);
    REQUIRE_OK(loaded);
    test::write_tensors(folder / "bare.safetensors", loaded->weights);
    CHECK(code({folder / "bare.safetensors", "--out", folder / "y.safetensors"}) == 4);
    const auto unnamed = test::run_program({"convert", folder / "bare.safetensors", "--network",
                                            std::string(test::small_network), "--out", folder / "y.safetensors"});
    CHECK(unnamed.exit_code == 4);
    CHECK(unnamed.err.find("--modalities flair,t1ce,t1,t2") != std::string::npos);
    const auto named = [&](const std::string& channels) {
        return code({folder / "bare.safetensors", "--network", std::string(test::small_network), "--modalities",
                     channels, "--out", folder / "y.safetensors"});
    };
    for (const char* bad : {"t1,t1ce,t2", "t1,t1ce,t2,t2", "t1,t1ce,t2,pd", "t1,t1ce,t2,flair,t1", ""}) {
        INFO(bad);
        CHECK(named(bad) == 2);
    }
    CHECK_FALSE(std::filesystem::exists(folder / "y.safetensors"));
    CHECK(named("flair,t1ce,t1,t2") == 0);
    CHECK(code({model, "--modalities", "flair,t1ce,t1,t2", "--out", folder / "z.safetensors"}) == 4); // it says itself
    CHECK(code({folder / "bare.safetensors", "--network", "mf-res2net", "--out", folder / "z.safetensors"}) == 4);
    REQUIRE_OK(write_file_atomically(folder / "bad.pth", std::string_view("no archive")));
    CHECK(code({folder / "bad.pth", "--network", "dmfnet", "--out", folder / "z.safetensors"}) == 4);
    CHECK_FALSE(std::filesystem::exists(folder / "z.safetensors"));
}

TEST_CASE("foreign weights get their contrasts in the order that --modalities names, wherever they are used") {
    const test::TemporaryFolder folder;
    const std::string model = test::write_model(folder, test::small_network);
    const CaseFiles files = test::write_case(folder);
    const std::string case_folder = files.modalities[0].parent_path();
    const auto loaded = load_model(model);
    REQUIRE_OK(loaded);
    // The same network for channels in another order: its first convolutions have their input channels exchanged.
    constexpr std::array<std::int64_t, 4> order = {3, 1, 0, 2}; // flair, t1ce, t1, t2
    Weights permuted = loaded->weights;
    Tensor& weight = permuted.at("enc1.down.conv.weight");
    const Tensor& old = loaded->weights.at("enc1.down.conv.weight");
    REQUIRE(old.shape()[1] == 4);
    const std::int64_t kernel = old.shape()[2] * old.shape()[3] * old.shape()[4];
    for (std::int64_t out = 0; out < old.shape()[0]; ++out)
        for (std::int64_t channel = 0; channel < 4; ++channel)
            for (std::int64_t k = 0; k < kernel; ++k)
                weight[(out * 4 + channel) * kernel + k] =
                    old[(out * 4 + order[static_cast<std::size_t>(channel)]) * kernel + k];
    test::write_tensors(folder / "foreign.safetensors", permuted);
    const auto converted =
        test::run_program({"convert", folder / "foreign.safetensors", "--network", std::string(test::small_network),
                           "--modalities", "flair,t1ce,t1,t2", "--out", folder / "named.safetensors"});
    INFO(converted.err);
    REQUIRE(converted.exit_code == 0);
    const auto segment = [&](const std::string& of, const std::string& out) {
        const auto done = test::run_program({"segment", "--model", of, "--case", case_folder, "--out", folder / out,
                                             "--backend", "reference", "--quiet", "--accept", "brain_implausible"});
        INFO(done.err);
        REQUIRE(done.exit_code == 0);
        const auto labels = read_nifti_labels(folder / out);
        REQUIRE_OK(labels);
        return labels->map.labels;
    };
    const auto expected = segment(model, "a.nii");
    const auto given = segment(folder / "named.safetensors", "b.nii");
    std::size_t different = 0; // sums over the channels are taken in another order, which may move a tie
    for (std::size_t i = 0; i < expected.size(); ++i)
        different += expected[i] != given[i];
    CHECK(different <= expected.size() / 10000);
    CHECK(std::set<int>(expected.begin(), expected.end()).size() > 1);

    // In the wrong order the labels differ: the order is what made them agree.
    REQUIRE(test::run_program({"convert", folder / "foreign.safetensors", "--network", std::string(test::small_network),
                               "--modalities", "t1,t1ce,t2,flair", "--out", folder / "wrong.safetensors"})
                .exit_code == 0);
    const auto wrong = segment(folder / "wrong.safetensors", "c.nii");
    std::size_t wrong_voxels = 0;
    for (std::size_t i = 0; i < expected.size(); ++i)
        wrong_voxels += expected[i] != wrong[i];
    CHECK(wrong_voxels > 10 * (different + 1));
}

TEST_CASE("convert declares subsets and sizes, which info shows and every command that labels applies") {
    const test::TemporaryFolder folder;
    const std::string model = test::write_model(folder, test::small_network);
    const std::string declared = folder / "declared.safetensors";
    const auto out =
        test::run_program({"convert", model, "--out", declared, "--subsets", "t1ce,t2,flair;flair,t1ce",
                           "--min-component", "30", "--min-enhancing", "1e9", "--min-enhancing-share", "0.5"});
    INFO(out.err);
    REQUIRE(out.exit_code == 0);
    const auto before = load_model(model);
    const auto after = load_model(declared);
    REQUIRE_OK(before);
    REQUIRE_OK(after);
    CHECK(after->metadata.weights_sha256 == before->metadata.weights_sha256);
    CHECK(after->metadata.modality_subsets ==
          std::vector<ModalitySet>{{false, true, true, true}, {false, true, false, true}});
    CHECK(after->metadata.postprocessing == PostprocessingSizes{30.0, 1e9, 0.5});
    const std::string shown = test::run_program({"info", declared}).out;
    CHECK(shown.find("subsets        t1ce,t2,flair; t1ce,flair\n") != std::string::npos);
    CHECK(
        shown.find(
            "postprocessing components below 30 mm^3 are removed; enhancing tumour below 1000000000 mm^3 or 50 % of") !=
        std::string::npos);
    const auto as_json = nlohmann::json::parse(test::run_program({"info", declared, "--json"}).out);
    CHECK(as_json["model"]["postprocessing"]["min_component_mm3"] == 30.0);

    // Labels of segment, with the recommended sizes and with options in their place.
    const auto files = test::write_case(folder);
    const std::string case_folder = files.modalities[0].parent_path();
    const auto segmented = [&](std::vector<std::string> options) {
        if (options.empty() || options[0] != "--model")
            options.insert(options.begin(), {"--model", declared});
        options.insert(options.begin(), {"segment", "--case", case_folder, "--out", folder / "labels.nii.gz", "--force",
                                         "--json", "--quiet"});
        const auto run = test::run_program(options);
        INFO(run.err);
        REQUIRE(run.exit_code == 0);
        return nlohmann::json::parse(run.out);
    };
    const auto recommended = segmented({});
    CHECK(recommended["postprocessing"] ==
          nlohmann::json{{"min_component_mm3", 30.0}, {"min_enhancing_mm3", 1e9}, {"min_enhancing_share", 0.5}});
    CHECK(recommended["classes"]["enhancing tumour"]["voxels"] == 0);
    const auto own = segmented({"--min-enhancing", "0", "--min-component", "7"});
    CHECK(own["postprocessing"] ==
          nlohmann::json{{"min_component_mm3", 7.0}, {"min_enhancing_mm3", 0.0}, {"min_enhancing_share", 0.0}});
    CHECK(own["classes"]["enhancing tumour"]["voxels"].get<std::int64_t>() > 0);

    // Without a size the share decides alone.
    const std::string shared = folder / "shared.safetensors";
    REQUIRE(
        test::run_program({"convert", declared, "--out", shared, "--min-enhancing", "0", "--min-enhancing-share", "1"})
            .exit_code == 0);
    const auto by_share = segmented({"--model", shared});
    CHECK(by_share["classes"]["enhancing tumour"]["voxels"] == 0);
    CHECK(by_share["warnings"].dump().find("100 % of the tumour core") != std::string::npos);

    const std::string removed = folder / "removed.safetensors";
    REQUIRE(test::run_program({"convert", declared, "--out", removed, "--subsets", "none", "--min-component", "0",
                               "--min-enhancing", "0", "--min-enhancing-share", "0"})
                .exit_code == 0);
    CHECK(test::file_text(removed) == test::file_text(model));
    const std::string clipped = folder / "clipped.safetensors";
    REQUIRE(
        test::run_program({"convert", model, "--out", clipped, "--normalisation", "zscore-brain-clipped"}).exit_code ==
        0);
    const auto renamed = load_model(clipped);
    REQUIRE_OK(renamed);
    CHECK(renamed->metadata.normalisation == Normalisation::zscore_brain_clipped);
    CHECK(renamed->metadata.weights_sha256 == before->metadata.weights_sha256);
    for (const auto& [option, value] : {std::pair{"--subsets", "t1ce,pd"},
                                        {"--subsets", "t1,t1ce,t2,flair"},
                                        {"--min-component", "-1"},
                                        {"--min-enhancing", "inf"},
                                        {"--min-enhancing-share", "1.5"},
                                        {"--normalisation", "zscore"}}) {
        INFO(option << ' ' << value);
        const std::string bad = folder / "bad.safetensors";
        CHECK(test::run_program({"convert", model, "--out", bad, std::string(option) + "=" + value}).exit_code == 2);
        CHECK_FALSE(std::filesystem::exists(bad));
    }
}

TEST_CASE("convert calibrates a model, and int8 runs, is compared and is rejected as documented") {
    const test::TemporaryFolder folder;
    const std::string model = test::write_model(folder, test::small_network);
    const auto files = test::write_case(folder);
    const std::string case_folder = files.modalities[0].parent_path();
    const std::string int8 = folder / "int8.safetensors";
    const auto out = test::run_program({"convert", model, "--out", int8, "--calibrate", case_folder, "--calibration",
                                        "mse", "--verify", case_folder, "--json", "--quiet"});
    INFO(out.err);
    REQUIRE(out.exit_code == 0);
    const auto report = nlohmann::json::parse(out.out);
    CHECK(report["verify"]["label_agreement"].get<double>() > 0.9);
    CHECK(report["verify"]["largest_difference"].get<double>() > 0.0);
    const auto loaded = load_model(int8);
    REQUIRE_OK(loaded);
    CHECK(loaded->metadata.quantization.int8_weights);
    CHECK(loaded->metadata.quantization.calibration == "mse");
    CHECK(loaded->metadata.quantization.cases == 1);
    CHECK(loaded->metadata.quantization.ranges.count("enc1.down.conv") == 0); // the first
    CHECK(loaded->metadata.quantization.ranges.count("head.conv") == 0);      // the last
    CHECK(loaded->metadata.quantization.ranges.count("enc2.down.conv") == 1);
    CHECK(std::filesystem::file_size(int8) < std::filesystem::file_size(model));

    // The reference runs its int8 by default; asked for f32, it runs the rounded weights.
    const auto bench = [&](const std::string& file, const std::string& precision) {
        const auto done = test::run_program({"bench", "--model", file, "--size", "16", "--runs", "1", "--no-probe",
                                             "--backend", "reference", "--precision", precision, "--json"});
        return done.exit_code == 0 ? nlohmann::json::parse(done.out)["precision"].get<std::string>() : done.err;
    };
    CHECK(bench(int8, "auto") == "int8");
    CHECK(bench(int8, "f32") == "f32");
    CHECK(bench(model, "auto") == "f32");
    CHECK(bench(model, "bf16") == "bf16");
    CHECK(bench(model, "int8").find("--calibrate") != std::string::npos);
    CHECK(bench(model, "int3").find("int3") != std::string::npos);

    const auto code = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {"convert", model, "--out", folder / "x.safetensors"});
        return test::run_program(arguments).exit_code;
    };
    CHECK(code({"--dtype", "int8"}) == 2); // not calibrated
    CHECK(code({"--calibrate", case_folder, "--calibration", "best"}) == 2);
    CHECK(code({"--calibrate", case_folder, "--keep", "first,enc7.conv"}) == 2);
    CHECK(code({"--calibrate", folder / "absent"}) == 6);
    CHECK_FALSE(std::filesystem::exists(folder / "x.safetensors"));
    CHECK(test::run_program({"convert", model, "--out", int8, "--calibrate", case_folder}).exit_code == 6); // exists
    CHECK(test::run_program({"convert", model, "--out", folder / "x.onnx", "--calibrate", case_folder}).exit_code == 2);
}
