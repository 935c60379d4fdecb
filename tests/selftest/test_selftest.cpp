// SPDX-License-Identifier: MIT
// The selftest passes here, and fails, naming what is wrong, where something is broken on purpose.
#include "backends/backend.h"
#include "core/try.h"
#include "model/model.h"
#include "selftest/golden.h"
#include "support/program.h"
#include "support/python.h"

#include <mfres/selftest.h>

#include <nlohmann/json.hpp>

#include <algorithm>

using namespace mfres;

namespace {

namespace fs = std::filesystem;

const fs::path models = fs::path(MFRES_SOURCE_DIR) / "models";

/// The check of that name; fails the test where there is none.
SelftestCheck named(const SelftestReport& report, const std::string& name) {
    for (const SelftestCheck& check : report.checks)
        if (check.name == name)
            return check;
    FAIL("there is no check '" << name << "'");
    return {};
}

std::vector<std::string> failed(const SelftestReport& report) {
    std::vector<std::string> names;
    for (const SelftestCheck& check : report.checks)
        if (check.failure)
            names.push_back(check.name);
    return names;
}

/// The name of one backend, to save time where it does not matter which.
std::string fastest() {
    const auto backend = find_backend("auto");
    REQUIRE_OK(backend);
    return std::string((*backend)->name());
}

/// A copy of weights that come with mfres, with the record of others.
fs::path copied_model(const test::TemporaryFolder& folder, const std::string& weights, const std::string& record) {
    const fs::path model = folder / "m.safetensors";
    fs::copy_file(models / (weights + ".safetensors"), model);
    fs::copy_file(models / (record + ".selftest.json"), folder / "m.selftest.json");
    return model;
}

class WrongExecutable final : public Executable {
  public:
    WrongExecutable(std::unique_ptr<Executable> inner, bool wrong) : inner_(std::move(inner)), wrong_(wrong) {}

    StridedView<float> input() override { return inner_->input(); }
    Status run(const RunObserver& observer) override {
        MFRES_CHECK(inner_->run(observer));
        const auto output = inner_->output(0);
        output_ = Tensor(output.shape);
        copy(output, view(output_));
        if (wrong_)
            output_[output_.elements() - 1] += 0.01F;
        return {};
    }
    StridedView<const float> output(std::size_t) const override { return view(output_); }
    std::int64_t peak_bytes() const override { return inner_->peak_bytes(); }
    std::vector<Chosen> chosen() const override { return inner_->chosen(); }

  private:
    std::unique_ptr<Executable> inner_;
    bool wrong_;
    Tensor output_;
};

/// The backend native, or the reference, with one wrong value behind trilinear interpolation.
class WrongBackend final : public Backend {
  public:
    std::string_view name() const override { return "wrong"; }
    std::string description() const override { return "wrong on purpose"; }
    std::vector<Unsupported> unsupported(const Graph&, const CompileOptions&) const override { return {}; }

  protected:
    Result<std::unique_ptr<Executable>> make_executable(const Graph& graph, const Weights& weights,
                                                        const CompileOptions& options) const override {
        const auto native = find_backend("native");
        MFRES_TRY(auto inner, (native ? *native : backends().back())->compile(graph, weights, options));
        const bool wrong = std::any_of(graph.nodes().begin(), graph.nodes().end(), [](const Node& node) {
            return node.kind() == OpKind::upsample && node.as<Upsample>().mode == Interpolation::trilinear;
        });
        return std::unique_ptr<Executable>(std::make_unique<WrongExecutable>(std::move(inner), wrong));
    }
};

} // namespace

TEST_CASE("the selftest passes with every backend and all weights that come with mfres") {
    std::size_t calls = 0;
    double last = 0.0;
    const auto report = run_selftest({}, [&](std::string_view stage, double done) {
        ++calls;
        CHECK_FALSE(stage.empty());
        CHECK(done >= last);
        last = done;
        return true;
    });
    REQUIRE_OK(report);
    INFO(to_text(*report));
    CHECK(report->first_failure() == nullptr);
    CHECK(calls > 100);
    std::size_t weights = 0;
    for (const auto& entry : fs::directory_iterator(models))
        weights += entry.path().extension() == ".safetensors" ? 1 : 0;
    CHECK(weights >= 4);
    const auto count = [&](const std::string& prefix) {
        return static_cast<std::size_t>(
            std::count_if(report->checks.begin(), report->checks.end(),
                          [&](const SelftestCheck& check) { return check.name.rfind(prefix, 0) == 0; }));
    };
    CHECK(count("golden: ") == selftest::golden_checks().size());
    CHECK(count("weights: ") == weights);
    CHECK(count("ops: ") + 1 + report->not_run.size() == backends().size());
    CHECK(count("phantom: ") + report->not_run.size() ==
          weights + std::max<std::size_t>(backends().size(), 2) - 2); // all weights on the first one, one on the others
}

TEST_CASE("the golden ops are those of PyTorch") {
    const auto python = test::python_with("torch");
    if (!python)
        return;
    const test::TemporaryFolder folder;
    const std::string script = std::string(MFRES_SOURCE_DIR) + "/tests/selftest/golden.py";
    const auto printed = test::run_command({*python, "-B", script, "ops"});
    REQUIRE(printed.exit_code == 0);
    const std::string source = test::file_text(fs::path(MFRES_SOURCE_DIR) / "lib/selftest/golden.cpp");
    std::istringstream rows(printed.out);
    std::size_t count = 0;
    for (std::string row; std::getline(rows, row); ++count) {
        INFO(row);
        CHECK(source.find(row) != std::string::npos);
    }
    CHECK(count == selftest::golden_ops().size());
    CHECK(count == selftest::golden_graphs().size());
}

TEST_CASE("the selftest names a model file that is another, damaged, without record, or absent") {
    SelftestOptions options{.backend = fastest()};
    {
        const test::TemporaryFolder folder; // the weights of another
        options.models = {copied_model(folder, "mf-res2net-quarter", "mf-res2net-half")};
        const auto report = run_selftest(options);
        REQUIRE_OK(report);
        REQUIRE(report->first_failure() != nullptr);
        CHECK(report->first_failure()->name == "weights: m");
        CHECK(report->first_failure()->failure->code == ErrorCode::model_hash_mismatch);
        // They do not make the labels that are expected, either.
        for (const std::string& name : failed(*report))
            CHECK((name == "weights: m" || name.rfind("phantom: m on ", 0) == 0));
        CHECK(failed(*report).size() == 2);
        const auto program = test::run_program(
            {"selftest", "--backend", options.backend, "--model", options.models[0].string(), "--quiet"});
        CHECK(program.exit_code == 4);
        CHECK(program.out.find("FAILED  weights: m") != std::string::npos);
    }
    {
        const test::TemporaryFolder folder; // cut off
        options.models = {copied_model(folder, "mf-res2net-quarter", "mf-res2net-quarter")};
        fs::resize_file(options.models[0], fs::file_size(options.models[0]) - 1);
        const auto report = run_selftest(options);
        REQUIRE_OK(report);
        CHECK(named(*report, "weights: m").failure.has_value());
        CHECK(report->first_failure()->failure->code == ErrorCode::model_truncated);
    }
    {
        const test::TemporaryFolder folder; // no record
        options.models = {copied_model(folder, "mf-res2net-quarter", "mf-res2net-quarter")};
        fs::remove(folder / "m.selftest.json");
        const auto report = run_selftest(options);
        REQUIRE_OK(report);
        REQUIRE(report->first_failure() != nullptr);
        CHECK(report->first_failure()->failure->code == ErrorCode::file_not_found);
        CHECK(report->first_failure()->failure->message.find("--record") != std::string::npos);
        std::ofstream(folder / "m.selftest.json") << "{\"seed\": 1}";
        const auto invalid = run_selftest(options);
        REQUIRE_OK(invalid);
        CHECK(named(*invalid, "weights: m").failure->code == ErrorCode::json_invalid);
    }
    options.models = {"no-such-weights"};
    const auto report = run_selftest(options);
    REQUIRE_OK(report);
    CHECK(named(*report, "weights: no-such-weights").failure->code == ErrorCode::file_not_found);
}

TEST_CASE("labels that are not those of the record fail the selftest") {
    const test::TemporaryFolder folder;
    const fs::path model = copied_model(folder, "mf-res2net-quarter", "mf-res2net-quarter");
    const fs::path record = folder / "m.selftest.json";
    for (const auto& change : {nlohmann::json{{"voxels", {{"et", 11000}}}}, nlohmann::json{{"dice", {{"WT", 0.95}}}}}) {
        auto json = nlohmann::json::parse(test::file_text(models / "mf-res2net-quarter.selftest.json"));
        json.merge_patch(change);
        std::ofstream(record) << json;
        const auto report = run_selftest({.backend = fastest(), .models = {model}});
        REQUIRE_OK(report);
        REQUIRE(report->first_failure() != nullptr);
        CHECK(report->first_failure()->name.rfind("phantom: m on ", 0) == 0);
        CHECK(report->first_failure()->failure->message.find("the record has") != std::string::npos);
    }
}

TEST_CASE("a record is made once, and is the one that comes with the weights") {
    const test::TemporaryFolder folder;
    const fs::path model = copied_model(folder, "mf-res2net-quarter", "mf-res2net-half");
    REQUIRE_CODE(record_selftest(model, {}), file_exists);
    const auto path = record_selftest(model, {}, true);
    REQUIRE_OK(path);
    CHECK(*path == fs::path(folder / "m.selftest.json"));
    const auto report = run_selftest({.backend = fastest(), .models = {model}});
    REQUIRE_OK(report);
    INFO(to_text(*report));
    CHECK(report->first_failure() == nullptr);
    // Shipped records were made on one machine; this one may differ by a few voxels.
    const auto here = nlohmann::json::parse(test::file_text(*path));
    const auto shipped = nlohmann::json::parse(test::file_text(models / "mf-res2net-quarter.selftest.json"));
    CHECK(here["weights_sha256"] == shipped["weights_sha256"]);
    CHECK(std::abs(here["dice"]["WT"].get<double>() - shipped["dice"]["WT"].get<double>()) <= 0.002);
}

TEST_CASE("the selftest can be stopped, and rejects what it cannot do") {
    std::size_t calls = 0;
    REQUIRE_CODE(run_selftest({}, [&](std::string_view, double) { return ++calls < 40; }), interrupted);
    CHECK(calls == 40);
    REQUIRE_CODE(run_selftest({.threads = -1}), invalid_argument);
    REQUIRE_CODE(run_selftest({.backend = "nothing"}), backend_unknown);
    const auto program = test::run_program({"selftest", "--record"});
    CHECK(program.exit_code == 2);
}

TEST_CASE("the program prints the selftest as JSON, and nothing else when it is quiet") {
    const auto done = test::run_program({"selftest", "--model", "no-such-weights", "--json", "--quiet"});
    CHECK(done.exit_code == 6);
    CHECK(done.err.empty());
    const auto json = nlohmann::json::parse(done.out);
    CHECK(json["passed"] == false);
    CHECK(json["version"] == std::string(version()));
    bool found = false;
    for (const auto& check : json["checks"])
        if (check["name"] == "weights: no-such-weights") {
            found = true;
            CHECK(check["passed"] == false);
            CHECK(check["error"]["code"] == "file_not_found");
        }
    CHECK(found);
}

TEST_CASE("an op that a backend computes wrong is named") {
    static const WrongBackend wrong; // stays for the rest of the process
    REQUIRE_OK(add_backend(wrong));
    const auto report = run_selftest({.backend = "wrong", .models = {"mf-res2net-quarter"}});
    REQUIRE_OK(report);
    REQUIRE(report->first_failure() != nullptr);
    CHECK(report->first_failure()->name == "ops: wrong");
    CHECK(report->first_failure()->failure->message.find("trilinear") != std::string::npos);
    CHECK_FALSE(named(*report, "golden: ops").failure.has_value());
}
