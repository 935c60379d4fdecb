// SPDX-License-Identifier: MIT
// What a step launches and moves on a GPU, counted without one.
#include "backends/cuda/device_arrays.h"
#include "backends/cuda/plan_choices.h"
#include "backends/cuda/planned_step.h"
#include "backends/cuda/planning_engine.h"
#include "core/file.h"
#include "core/try.h"
#include "cuda/on_host.h"
#include "gpu/network.h"
#include "gpu/roofline.h"
#include "support/catch.h"
#include "support/check_backend.h"
#include "support/op_cases.h"
#include "support/paths.h"
#include "support/run_graph.h"
#include "train/loss.h"

#include <algorithm>
#include <string>
#include <utility>

using namespace mfres;

namespace {

Result<cuda::PlannedStep> step_of(std::unique_ptr<cuda::Engine> engine, cuda::LaunchLog& log, const Graph& graph,
                                  bool training, Precision precision) {
    const Weights weights = test::random_weights(graph, 1);
    if (training) {
        TrainingOptions options;
        options.precision = precision;
        MFRES_TRY(const Loss loss, make_loss({}));
        return cuda::plan_training(std::move(engine), log, graph, weights, loss, options);
    }
    CompileOptions options;
    options.precision = precision;
    return cuda::plan_inference(std::move(engine), log, graph, weights, options);
}

std::string described(const cuda::Launch& launch) {
    return text(launch.node, ": ", launch.kernel, ", ", launch.bytes, " bytes, ", launch.macs, " multiply-adds");
}

Machine machine(const std::string& name) {
    auto found = find_machine(name);
    REQUIRE_OK(found);
    return std::move(found).value();
}

cuda::RooflineRow total(bool training, Precision precision) {
    const auto graph = test::GpuNetwork::make({128, 128, 128}, training ? 2 : 1);
    REQUIRE_OK(graph);
    const auto planned = cuda::planned_roofline(*graph, training, machine("h200-sxm"), precision);
    REQUIRE_OK(planned);
    return planned->total;
}

} // namespace

TEST_CASE("what is planned without a device is what the executor launches, with the same bytes and multiply-adds") {
    const auto graph = test::GpuNetwork::make({16, 16, 32}, 2);
    REQUIRE_OK(graph);
    for (const bool training : {false, true})
        for (const Precision precision : {Precision::f32, Precision::bf16}) {
            INFO((training ? "training " : "inference ") << to_string(precision));
            cuda::LaunchLog of_plan(false);
            cuda::LaunchLog of_run(true);
            const auto planned = step_of(cuda::make_planning_engine(of_plan), of_plan, *graph, training, precision);
            const auto run = step_of(cuda::make_logged_host_engine(of_run), of_run, *graph, training, precision);
            REQUIRE_OK(planned);
            REQUIRE_OK(run);
            REQUIRE(planned->launches.size() == run->launches.size());
            for (std::size_t i = 0; i < run->launches.size(); ++i)
                REQUIRE(described(planned->launches[i]) == described(run->launches[i]));
        }
}

TEST_CASE("the roofline of a step is the sum over its levels and over its kernels") {
    const auto graph = test::GpuNetwork::make({32, 32, 32}, 2);
    REQUIRE_OK(graph);
    const auto planned = cuda::planned_roofline(*graph, true, machine("rtx-4090"), Precision::bf16);
    REQUIRE_OK(planned);
    CHECK(planned->levels.size() == 6); // 32, 16, 8, 4 and 2, and what is of no node
    for (const auto* rows : {&planned->levels, &planned->kernels}) {
        cuda::RooflineRow sum;
        for (const cuda::RooflineRow& row : *rows) {
            sum.launches += row.launches;
            sum.bytes += row.bytes;
            sum.macs += row.macs;
            sum.roofline_ms += row.roofline_ms;
        }
        CHECK(sum.launches == planned->total.launches);
        CHECK(sum.bytes == planned->total.bytes);
        CHECK(sum.macs == planned->total.macs);
        CHECK(sum.roofline_ms == Approx(planned->total.roofline_ms));
    }
    CHECK(planned->total.roofline_ms >= static_cast<double>(planned->total.bytes) / 1008e6 * 0.999);
    CHECK(to_text(*planned).find("16x16x16") != std::string::npos);
    CHECK(to_json(*planned).find("\"launches\": ") != std::string::npos);
    REQUIRE_CODE(cuda::planned_roofline(*graph, true, machine("rtx-2080-ti"), Precision::bf16), invalid_argument);
}

TEST_CASE(
    "mf-res2net at 128^3 in bf16: a step of training at batch 2 and an inference within their launches and bytes") {
    const cuda::RooflineRow training = total(true, Precision::bf16);
    CHECK(training.launches <= 762);
    CHECK(static_cast<double>(training.bytes) <= 14.69e9);
    const cuda::RooflineRow inference = total(false, Precision::bf16);
    CHECK(inference.launches <= 120);
    CHECK(static_cast<double>(inference.bytes) <= 1.1e9);
}

TEST_CASE("the roofline prints the memory of a step of mf-res2net at 128^3 and batch 2, which fits an 11 GB card") {
    const auto graph = test::GpuNetwork::make({128, 128, 128}, 2);
    REQUIRE_OK(graph);
    for (const auto& [name, precision] : {std::pair{"h200-sxm", Precision::bf16}, {"rtx-2080-ti", Precision::fp16}}) {
        const auto planned = cuda::planned_roofline(*graph, true, machine(name), precision);
        REQUIRE_OK(planned);
        CHECK(planned->workspace_bytes == std::int64_t{1} << 30U);
        CHECK(planned->peak_bytes > std::int64_t{1} << 30U);
        CHECK(planned->peak_bytes + planned->workspace_bytes < std::int64_t{11000000000});
        CHECK(to_text(*planned).find(" and a workspace of convolutions of at most 1,024.0 MiB, together 3,") !=
              std::string::npos);
        CHECK(to_json(*planned).find("\"workspace_bytes\": 1073741824") != std::string::npos);
    }
}

TEST_CASE("workspaces of convolutions begin at multiples of 256 bytes, in inference and in training") {
    class WithWorkspace final : public cuda::Convolution {
      public:
        explicit WithWorkspace(const cuda::ConvolutionSpec& spec) : spec_(spec) {}
        std::string implementation() const override { return "any"; }
        std::int64_t workspace_bytes() const override { return 1000 + spec_.out[1]; }
        cuda::ElementType result_type() const override { return spec_.type; }
        void run(const cuda::ConvolutionArrays&) override {}

      private:
        cuda::ConvolutionSpec spec_;
    };
    const auto graph = test::GpuNetwork::make({16, 16, 16}, 1);
    REQUIRE_OK(graph);
    for (const bool training : {false, true}) {
        cuda::LaunchLog log(false);
        auto engine = cuda::make_planning_engine(
            log, [](const cuda::ConvolutionSpec& spec, const auto&) { return std::make_unique<WithWorkspace>(spec); });
        // The engine rejects a workspace that is not aligned.
        REQUIRE_OK(step_of(std::move(engine), log, *graph, training, Precision::bf16));
    }
    CHECK(cuda::aligned(nullptr) == nullptr);
    CHECK(cuda::aligned_bytes(0) == 0);
    alignas(256) std::byte memory[1024];
    for (const std::int64_t begin : {0, 64, 128, 192}) {
        std::byte* const at = cuda::aligned(memory + begin);
        CHECK((at - memory) % 256 == 0);
        CHECK(at - memory + 300 <= begin + cuda::aligned_bytes(300));
    }
}

TEST_CASE("versions of cuDNN whose 3-D convolutions are known to be wrong are warned of") {
    CHECK(cuda::cudnn_warning(90701).empty());
    CHECK(cuda::cudnn_warning(90800).find("bf16 and fp16 are") != std::string::npos);
    CHECK(cuda::cudnn_warning(91002).find("bf16 and fp16, and in TF32,") != std::string::npos);
    CHECK(cuda::cudnn_warning(91400).find("9.16 or newer") != std::string::npos);
    CHECK(cuda::cudnn_warning(91500).find("in TF32 are") != std::string::npos);
    CHECK(cuda::cudnn_warning(91600).empty());
    CHECK(cuda::cudnn_warning(91900).empty());
}

TEST_CASE("ops that run as one in inference compute what the reference computes, in every precision") {
    const auto graph = test::GpuNetwork::make({16, 16, 16}, 1);
    REQUIRE_OK(graph);
    const Weights weights = test::random_weights(*graph, 1);
    const Tensor image = test::random_tensor(graph->node(0).shape, 2);
    const auto expected = test::run_double(*graph, weights, image);
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::fp16}) {
        INFO(to_string(precision));
        auto executable = test::on_host().compile(*graph, weights, {.precision = precision});
        REQUIRE_OK(executable);
        int chains = 0;
        int pairs = 0;
        for (const Chosen& chosen : (*executable)->chosen()) {
            chains += chosen.implementation == "mfres:part_convolution" ? 1 : 0;
            pairs += chosen.implementation == "mfres:pointwise_pair" ? 1 : 0;
        }
        CHECK(chains == 12); // one per unit
        CHECK(pairs == 4);   // of the narrowest units
        const auto got = test::run(**executable, image);
        REQUIRE_OK(got);
        CHECK(test::normalised_squared_error(*got, expected) <= (precision == Precision::f32 ? 1e-8 : 2e-3));
    }
}

TEST_CASE(
    "a chain whose last operand of the concat is wider is copied beside it, and other patterns stay as they are") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{2, 6, 5, 4, 3});
    const NodeId y = builder.relu("r", builder.conv("c", x, Conv{.out_channels = 14, .bias = true}));
    const Conv plane{.out_channels = 3, .kernel = {3, 3, 1}, .padding = {1, 1, 0}};
    const NodeId a = builder.relu("ra", builder.conv("ca", builder.slice("sa", y, 4, 7), plane));
    const NodeId sum = builder.sum("s", {a, builder.slice("sb", y, 7, 10)});
    const NodeId b = builder.leaky_relu("rb", builder.conv("cb", sum, plane), 0.1);
    const NodeId all = builder.concat("cat", {builder.slice("first", y, 0, 3), b, builder.slice("wide", y, 9, 14), a});
    // Its convolution is read twice, so it stays by itself.
    const NodeId shared = builder.conv("shared", all, Conv{.out_channels = 4});
    const NodeId again = builder.concat("cat2", {shared, all});
    builder.output(builder.concat("out", {builder.conv("last", shared, Conv{.out_channels = 2}), again}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    test::check_op_case(test::on_host(), {"chain", *graph});
    test::check_gradient_case(test::on_host(), {"chain", *graph});
    auto executable = test::on_host().compile(*graph, test::random_weights(*graph, 1), {});
    REQUIRE_OK(executable);
    const auto& chosen = (*executable)->chosen();
    CHECK(std::count_if(chosen.begin(), chosen.end(),
                        [](const Chosen& one) { return one.implementation == "mfres:part_convolution"; }) >= 1);
}

TEST_CASE("the fastest plan that runs is chosen once for each convolution, device and version, and remembered") {
    const test::TemporaryFolder folder;
    const std::filesystem::path file = folder / "plans" / "device.txt";
    const std::vector<std::string> names = {"a", "b", "c", "d"};
    int timed = 0;
    const auto timer = [&](std::vector<double> times) {
        return [&timed, times](std::size_t i) {
            ++timed;
            if (times[i] < 0.0)
                throw cuda::EngineError(ErrorCode::backend_failed, "no");
            return times[i];
        };
    };
    {
        cuda::PlanChoices choices(file, "GPU X", "91900");
        CHECK(choices.choose("conv 1", names, timer({3.0, -1.0, 2.0, 2.0})) == std::optional<std::size_t>(2));
        CHECK(timed == 4);
        CHECK(choices.choose("conv 1", names, timer({1.0, 1.0, 9.0, 9.0})) == std::optional<std::size_t>(2));
        CHECK(timed == 4); // not again
        CHECK(choices.choose("conv 2", names, timer({-1.0, -1.0, -1.0, -1.0})) == std::nullopt);
        CHECK(choices.choose("conv 3", names, timer({1.0, -1.0, -1.0, -1.0})) == std::optional<std::size_t>(0));
        CHECK(choices.warning().empty());
    }
    timed = 0;
    cuda::PlanChoices again(file, "GPU X", "91900");
    CHECK(again.warning().empty());
    CHECK(again.choose("conv 1", {"c", "b"}, timer({9.0, 1.0})) == std::optional<std::size_t>(0)); // by its name
    CHECK(timed == 0);
    CHECK(again.choose("conv 1", {"b", "e"}, timer({9.0, 1.0})) == std::optional<std::size_t>(1)); // it is gone
    CHECK(again.choose("conv 2", names, timer({4.0, 3.0, 2.0, 1.0})) == std::optional<std::size_t>(3));

    cuda::PlanChoices other(file, "GPU X", "92000");
    CHECK(other.warning().find("holds no choices of plans for GPU X, cuDNN 92000") != std::string::npos);
    CHECK(other.choose("conv 3", names, timer({2.0, 1.0, 3.0, 4.0})) == std::optional<std::size_t>(1));
    for (const char* const damaged : {"", "mfres-plans 1", "mfres-plans 1\nGPU X, cuDNN 91900\nconv 1\tc\nconv 2",
                                      "mfres-plans 1\nGPU X, cuDNN 91900\nconv 1\n"}) {
        INFO(damaged);
        REQUIRE_OK(write_file_atomically(file, damaged, true));
        cuda::PlanChoices choices(file, "GPU X", "91900");
        CHECK_FALSE(choices.warning().empty());
        CHECK(choices.choose("conv 1", names, timer({2.0, 1.0, 3.0, 4.0})) == std::optional<std::size_t>(1));
        CHECK(cuda::PlanChoices(file, "GPU X", "91900").warning().empty()); // written anew
    }
    // Nowhere to write: the choice holds all the same.
    REQUIRE_OK(write_file_atomically(folder / "file", "", true));
    cuda::PlanChoices nowhere(folder / "file" / "below.txt", "GPU X", "91900");
    CHECK(nowhere.choose("conv 1", names, timer({2.0, 1.0, 3.0, 4.0})) == std::optional<std::size_t>(1));
    CHECK_FALSE(nowhere.warning().empty());
}
