// SPDX-License-Identifier: MIT
// Published and golden integers of every registered network, and the reports made of them.
#include "core/file.h"
#include "graph/complexity.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/paths.h"

#include <mfres/complexity.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <sstream>

using namespace mfres;
using nlohmann::json;

namespace {

constexpr std::array<std::int64_t, 3> cube128{128, 128, 128};

struct Golden {
    const char* network;
    std::int64_t learnables, macs, table2, eq11, eq13;
};

// Input 1x4x128x128x128, 4 classes. Source: golden-counts.json of the specification; mf-res2net, dmfnet, the MFNets and
// 3d-espnet were also checked against running PyTorch models there.
constexpr std::array<Golden, 10> golden_counts{{
    {"mf-res2net", 3157168, 15721021440, 16238477312, 3151074, 31442042880},
    {"dmfnet", 3875890, 26362773504, 27044806656, 3863220, 52725547008},
    {"mfnet-96", 1813360, 12870844416, 13361397760, 1804860, 25741688832},
    {"mfnet-112", 2455336, 16218939392, 16759095296, 2445464, 32437878784},
    {"mfnet-128", 3194784, 20020985856, 20610744320, 3183540, 40041971712},
    {"3d-espnet", 3626584, 76336758848, 76515082912, 3623912, 152673517696},
    {"3d-unet", 16212260, 1667521052672, 1669514395648, 16207716, 3335042105344},
    {"3d-unetpp", 27465348, 2016956907520, 2019381215232, 27461700, 4033913815040},
    {"no-new-net", 14493094, 392437432320, 393585778688, 14488474, 784874864640},
    {"no-new-net-as-counted", 10360744, 201334456320, 202232127488, 10357024, 402668912640},
}};

ComplexityReport report_of(const std::string& name_or_json, const std::array<std::int64_t, 3>& size = cube128,
                           std::int64_t batch = 1) {
    auto report = complexity(name_or_json, size, batch);
    REQUIRE_OK(report);
    return std::move(report).value();
}

const ComplexityCounts& stage(const ComplexityReport& report, const std::string& name) {
    const auto found = std::find_if(report.stages.begin(), report.stages.end(),
                                    [&](const StageComplexity& candidate) { return candidate.name == name; });
    REQUIRE(found != report.stages.end());
    return found->counts;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::istringstream stream(text);
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line);)
        lines.push_back(line);
    return lines;
}

} // namespace

TEST_CASE("every golden integer of every network is reproduced") {
    REQUIRE(network_names().size() == golden_counts.size());
    for (const Golden& golden : golden_counts) {
        INFO(golden.network);
        const ComplexityCounts total = report_of(golden.network).total;
        CHECK(total.learnables == golden.learnables);
        CHECK(total.macs == golden.macs);
        CHECK(total.table2_flops == golden.table2);
        CHECK(total.eq11_parameters == golden.eq11);
        CHECK(total.eq13_flops == golden.eq13);
    }
}

TEST_CASE("the integers written in this file are those of the specification") {
    const auto path = test::shared_data("spec/golden-counts.json");
    if (!path)
        return;
    const auto bytes = read_file(*path, 1 << 20);
    REQUIRE_OK(bytes);
    const auto* text = reinterpret_cast<const char*>(bytes->data());
    const json networks = json::parse(text, text + bytes->size()).at("networks");
    REQUIRE(networks.size() == golden_counts.size());
    for (const Golden& golden : golden_counts) {
        INFO(golden.network);
        const json& row = networks.at(golden.network);
        CHECK(row.at("learnables") == golden.learnables);
        CHECK(row.at("macs") == golden.macs);
        CHECK(row.at("table2") == golden.table2);
        CHECK(row.at("eq11") == golden.eq11);
        CHECK(row.at("eq13") == golden.eq13);
    }
}

TEST_CASE("mf-res2net has the stages of the specification") {
    struct Stage {
        const char* name;
        std::int64_t learnables, macs;
    };
    constexpr std::array<Stage, 9> stages{{{"enc1", 8832, 2222981120},
                                           {"enc2", 137088, 4445962240},
                                           {"enc3", 526848, 2147876864},
                                           {"enc4", 2250240, 1149419520},
                                           {"dec1", 194712, 790822912},
                                           {"dec2", 32216, 1033895936},
                                           {"dec3", 5952, 1488977920},
                                           {"dec4", 1248, 2373976064},
                                           {"head", 32, 67108864}}};
    const ComplexityReport report = report_of("mf-res2net");
    CHECK(report.stages.size() == stages.size() + 1); // and the input
    for (const Stage& expected : stages) {
        INFO(expected.name);
        CHECK(stage(report, expected.name).learnables == expected.learnables);
        CHECK(stage(report, expected.name).macs == expected.macs);
    }
    CHECK(report.convolutions == 105);

    std::int64_t weights = 0;
    std::int64_t norms = 0;
    std::int64_t norm_elements = 0;
    std::int64_t relu_elements = 0;
    std::int64_t upsampled = 0;
    for (const LayerComplexity& layer : report.layers) {
        (layer.operation.rfind("conv", 0) == 0 ? weights : norms) += layer.counts.learnables;
        const std::int64_t elements = layer.counts.activation_bytes / 4;
        norm_elements += layer.operation == "batch_norm" ? elements : 0;
        relu_elements += layer.operation == "relu" ? elements : 0;
        upsampled += layer.operation == "upsample trilinear" ? elements : 0;
    }
    CHECK(weights == 3144972);
    CHECK(norms == 12196);
    CHECK(norm_elements == 247128064);
    CHECK(relu_elements == 224780288);
    CHECK(upsampled == 45547520);
}

TEST_CASE("dmfnet and mfnet have the stages of the specification") {
    const ComplexityReport dmfnet = report_of("dmfnet");
    CHECK(stage(dmfnet, "encoder_block1").learnables == 3456);
    CHECK(stage(dmfnet, "encoder_block1").macs == 905969664);
    CHECK(stage(dmfnet, "encoder_block2").learnables == 267225);
    CHECK(stage(dmfnet, "encoder_block2").macs == 8766095360);
    CHECK(stage(dmfnet, "encoder_block3").learnables == 1283145);
    CHECK(stage(dmfnet, "encoder_block3").macs == 5460983808);
    CHECK(stage(dmfnet, "encoder_block4").learnables == 1788416);
    CHECK(stage(dmfnet, "encoder_block4").macs == 1029177344);
    CHECK(stage(dmfnet, "decoder_block1").learnables == 380160);
    CHECK(stage(dmfnet, "decoder_block1").macs == 1543503872);
    CHECK(stage(dmfnet, "decoder_block2").learnables == 137408);
    CHECK(stage(dmfnet, "decoder_block2").macs == 4429185024);
    CHECK(stage(dmfnet, "decoder_block3").learnables == 15952);
    CHECK(stage(dmfnet, "decoder_block3").macs == 3959422976);
    CHECK(stage(dmfnet, "seg").learnables == 128);
    CHECK(stage(dmfnet, "seg").macs == 268435456);

    const ComplexityReport mfnet = report_of("mfnet-128");
    CHECK(stage(mfnet, "encoder_block2").learnables == 141648);
    CHECK(stage(mfnet, "encoder_block2").macs == 4689231872);
    CHECK(stage(mfnet, "encoder_block3").learnables == 727616);
    CHECK(stage(mfnet, "encoder_block3").macs == 3196059648);
}

TEST_CASE("what the Table 2 counter sees of 3d-espnet is what the specification says") {
    std::int64_t norm = 0;
    std::int64_t seen_relu = 0;
    std::int64_t unseen_relu = 0;
    std::int64_t seen_upsample = 0;
    std::int64_t unseen_upsample = 0;
    const ComplexityReport report = report_of("3d-espnet");
    for (const LayerComplexity& layer : report.layers) {
        const std::int64_t elements = layer.counts.activation_bytes / 4;
        norm += layer.operation == "batch_norm" ? elements : 0;
        if (layer.operation == "relu")
            (layer.seen_by_table2 ? seen_relu : unseen_relu) += elements;
        if (layer.operation.rfind("upsample", 0) == 0)
            (layer.seen_by_table2 ? seen_upsample : unseen_upsample) += elements;
        if (!layer.seen_by_table2)
            CHECK(layer.counts.table2_flops == 0);
        if (layer.operation == "adaptive_avg_pool")
            CHECK_FALSE(layer.seen_by_table2);
    }
    // In units of 10^5 operations, the digits the specification prints.
    CHECK((norm + 50000) / 100000 == 1238);
    CHECK((seen_relu + 50000) / 100000 == 462);
    CHECK((unseen_relu + 50000) / 100000 == 713);
    CHECK((seen_upsample + 50000) / 100000 == 84);
    CHECK((unseen_upsample + 50000) / 100000 == 168);
    CHECK(report.total.table2_flops == report.total.macs + norm + seen_relu + seen_upsample);
}

TEST_CASE("three classes give 3d-unetpp's published count") {
    const ComplexityReport report = report_of(R"({"network": "3d-unetpp", "classes": 3})");
    CHECK(report.total.table2_flops / 100000 == 20193120); // 2019.3120 G
    CHECK_FALSE(report.network.standard);
    CHECK_FALSE(report.published.has_value());
}

TEST_CASE("operations scale with the volume and the batch, parameters do not") {
    for (const std::string name : {"mf-res2net", "dmfnet", "3d-unetpp", "no-new-net"}) {
        INFO(name);
        const ComplexityCounts cube = report_of(name).total;
        const ComplexityCounts brain = report_of(name, {240, 240, 160}).total;
        // Blocks of 16x16x16 voxels, the smallest these networks take.
        const std::int64_t cube_blocks = 8 * 8 * 8;
        const std::int64_t brain_blocks = 15 * 15 * 10;
        CHECK(cube.macs % cube_blocks == 0);
        CHECK(brain.macs == cube.macs / cube_blocks * brain_blocks);
        CHECK(brain.table2_flops == cube.table2_flops / cube_blocks * brain_blocks);
        CHECK(brain.eq13_flops == 2 * brain.macs);
        CHECK(brain.learnables == cube.learnables);
        CHECK(brain.eq11_parameters == cube.eq11_parameters);
        const ComplexityCounts three = report_of(name, cube128, 3).total;
        CHECK(three.macs == 3 * cube.macs);
        CHECK(three.table2_flops == 3 * cube.table2_flops);
        CHECK(three.activation_bytes == 3 * cube.activation_bytes);
        CHECK(three.learnables == cube.learnables);
    }
}

TEST_CASE("published figures stand only beside the registered network at the published input") {
    CHECK(report_of("mf-res2net").published.has_value());
    CHECK_FALSE(report_of("mf-res2net", {64, 64, 64}).published.has_value());
    CHECK_FALSE(report_of("mf-res2net", cube128, 2).published.has_value());
    CHECK_FALSE(report_of(R"({"network": "mf-res2net", "classes": 3})").published.has_value());
    CHECK(report_of(R"({"network": "mf-res2net", "splits": 4})").published.has_value());
    CHECK(report_of("mf-res2net").status.find("reconstruction") != std::string::npos);
}

TEST_CASE("complexity rejects sizes and networks with their codes") {
    REQUIRE_CODE(complexity("mf-res2net", {128, 120, 128}), invalid_argument);
    CHECK(complexity("mf-res2net", {128, 120, 128}).error().message.find("120") != std::string::npos);
    CHECK(complexity("mf-res2net", {128, 120, 128}).error().message.find("16") != std::string::npos);
    REQUIRE_CODE(complexity("mf-res2net", {0, 16, 16}), invalid_argument);
    REQUIRE_CODE(complexity("mf-res2net", {-16, 16, 16}), invalid_argument);
    REQUIRE_CODE(complexity("mf-res2net", {16, 16, 16}, 0), graph_invalid);
    REQUIRE_CODE(complexity("mf-res2net", {std::int64_t{1} << 60, 16, 16}), graph_invalid);
    REQUIRE_CODE(complexity("mf-resnet", cube128), network_unknown);
    REQUIRE_CODE(complexity("{", cube128), json_invalid);
    REQUIRE_CODE(complexity(R"({"network": "mf-res2net", "splits": 0})", cube128), variant_invalid);
}

TEST_CASE("memory plans: the bound holds and the sum of all outputs is larger") {
    for (const std::string& name : network_names()) {
        INFO(name);
        const ComplexityReport report = report_of(name, {64, 64, 64});
        CHECK(report.memory.lower_bound > 0);
        CHECK(report.memory.planned >= report.memory.lower_bound);
        CHECK(report.memory.planned < report.total.activation_bytes);
    }
}

TEST_CASE("report formats have names") {
    CHECK(parse_report_format("text").value() == ReportFormat::text);
    CHECK(parse_report_format("markdown").value() == ReportFormat::markdown);
    CHECK(parse_report_format("csv").value() == ReportFormat::csv);
    CHECK(parse_report_format("json").value() == ReportFormat::json);
    REQUIRE_CODE(parse_report_format("xml"), invalid_argument);
}

TEST_CASE("the JSON report carries exact integers that add up") {
    const ComplexityReport report = report_of("3d-espnet", {64, 64, 64}, 2);
    const json parsed = json::parse(render(report, ReportFormat::json, true));
    CHECK(parsed.at("input") == json({2, 4, 64, 64, 64}));
    for (const char* key : {"learnables", "macs", "table2_flops", "eq11_parameters", "eq13_flops"}) {
        INFO(key);
        CHECK(parsed.at(key).is_number_integer());
        std::int64_t layers = 0;
        std::int64_t stages = 0;
        for (const json& layer : parsed.at("layers"))
            layers += layer.at(key).get<std::int64_t>();
        for (const json& entry : parsed.at("stages"))
            stages += entry.at(key).get<std::int64_t>();
        CHECK(layers == parsed.at(key).get<std::int64_t>());
        CHECK(stages == parsed.at(key).get<std::int64_t>());
    }
    CHECK(parsed.at("macs") == report.total.macs);
    CHECK_FALSE(json::parse(render(report, ReportFormat::json, false)).contains("layers"));
    // The variant in the report is itself a valid variant.
    REQUIRE_OK(parse_variant(parsed.at("variant").dump()));
}

TEST_CASE("text reports fit a terminal of 120 columns and name input, batch and conventions") {
    for (const std::string& name : network_names())
        for (const bool per_layer : {false, true}) {
            const std::string text = render(report_of(name), ReportFormat::text, per_layer);
            INFO(text);
            for (const std::string& line : lines_of(text))
                CHECK(line.size() <= 120);
            CHECK(text.find("1x4x128x128x128") != std::string::npos);
            CHECK(text.find("[batch, channels, x, y, z]") != std::string::npos);
            for (const char* words : {"MACs", "Table 2", "eq. 11", "eq. 13", "learnables"})
                CHECK(text.find(words) != std::string::npos);
        }
    CHECK(render(report_of("mf-res2net"), ReportFormat::text).find("16,238,477,312") != std::string::npos);

    const std::string changed = render(
        report_of(R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})", {64, 64, 48}, 2),
        ReportFormat::text);
    INFO(changed);
    CHECK(changed.find("2x4x64x64x48") != std::string::npos);
    CHECK(changed.find("mf-res2net with widths [8, 16, 24, 32]; decoder [16, 8, 8, 4]") != std::string::npos);
    for (const std::string& line : lines_of(changed))
        CHECK(line.size() <= 120);
}

TEST_CASE("CSV has one line per network or layer, every line with the same number of fields") {
    const std::vector<ComplexityReport> reports{report_of("mf-res2net"), report_of("dmfnet")};
    const auto totals = lines_of(render(reports, ReportFormat::csv));
    REQUIRE(totals.size() == 3);
    CHECK(totals[0].rfind("name,network,input,classes,learnables,macs,table2_flops,eq11_parameters,eq13_flops", 0) ==
          0);
    CHECK(totals[1].rfind("mf-res2net,mf-res2net,1x4x128x128x128,4,3157168,15721021440,16238477312,3151074,31442042880",
                          0) == 0);
    const auto layers = lines_of(render(reports, ReportFormat::csv, true));
    CHECK(layers.size() == 1 + reports[0].layers.size() + reports[1].layers.size());
    for (const auto& line : layers)
        CHECK(std::count(line.begin(), line.end(), ',') == std::count(layers[0].begin(), layers[0].end(), ','));
}

TEST_CASE("several reports share one table, or one JSON array") {
    const std::vector<ComplexityReport> reports{report_of("mf-res2net"), report_of("mfnet-96")};
    const std::string text = render(reports, ReportFormat::text);
    CHECK(text.find("13,361,397,760") != std::string::npos);
    CHECK(text.find("16,238,477,312") != std::string::npos);
    const json parsed = json::parse(render(reports, ReportFormat::json));
    REQUIRE(parsed.size() == 2);
    CHECK(parsed[1].at("name") == "mfnet-96");
    CHECK(render(reports, ReportFormat::markdown).find("| mfnet-96 | 1,813,360 |") != std::string::npos);
}

TEST_CASE("Table 2 stands beside ours with honest residuals") {
    const auto report = table2();
    REQUIRE_OK(report);
    REQUIRE(report->rows.size() == golden_counts.size());
    const std::string text = render(*report, ReportFormat::text);
    INFO(text);
    for (const std::string& line : lines_of(text))
        CHECK(line.size() <= 120);
    // The residuals of the specification.
    for (const char* words : {"+0.4123 (+2.61 %)", "+429.2444 (+34.61 %)", "+0.0712 (+0.0035 %)", "16.2385", "76.5151",
                              "27.0448", "2,019.3812", "202.2321", "393.5858", "1,669.5144", "reconstruction",
                              "not re-measured", "89.98 / 84.02 / 77.62", "1x4x128x128x128"})
        CHECK(text.find(words) != std::string::npos);

    const json parsed = json::parse(render(*report, ReportFormat::json));
    for (const json& row : parsed.at("rows")) {
        INFO(row.dump());
        CHECK(row.at("table2_flops").is_number_integer());
        CHECK_FALSE(row.at("status").get<std::string>().empty());
        if (row.at("network") == "no-new-net") {
            CHECK_FALSE(row.contains("published"));
            CHECK_FALSE(row.contains("residual"));
        } else {
            const double ours = row.at("table2_flops").get<double>() / 1e9;
            CHECK(row.at("residual").at("flops_g").get<double>() ==
                  Approx(ours - row.at("published").at("flops_g").get<double>()).margin(1e-9));
        }
    }
    CHECK(lines_of(render(*report, ReportFormat::csv)).size() == 1 + golden_counts.size());
    CHECK(render(*report, ReportFormat::markdown).find("| 3d-unet | 15.80 | 1,240.27 | 16,212,260 |") !=
          std::string::npos);
}
