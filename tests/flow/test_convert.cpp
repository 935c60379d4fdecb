// `mfres convert` as a user runs it.
#include "model/model.h"
#include "support/cases.h"
#include "support/program.h"
#include "support/python.h"

#include <nlohmann/json.hpp>

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

TEST_CASE("convert refuses with the documented exit codes and overwrites nothing") {
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
    CHECK(code({model, "--out", model}) == 6);
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
    CHECK(code({folder / "bare.safetensors", "--network", std::string(test::small_network), "--out",
                folder / "y.safetensors"}) == 0);
    CHECK(code({folder / "bare.safetensors", "--network", "mf-res2net", "--out", folder / "z.safetensors"}) == 4);
    REQUIRE_OK(write_file_atomically(folder / "bad.pth", std::string_view("no archive")));
    CHECK(code({folder / "bad.pth", "--network", "dmfnet", "--out", folder / "z.safetensors"}) == 4);
    CHECK_FALSE(std::filesystem::exists(folder / "z.safetensors"));
}
