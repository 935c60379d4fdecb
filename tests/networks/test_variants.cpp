// SPDX-License-Identifier: MIT
// Variants as JSON: what is rejected and how it is named, canonical text, and that every option builds and runs.
#include "core/random.h"
#include "core/try.h"
#include "graph/complexity.h"
#include "networks/family.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/network_runs.h"

#include <mfres/network.h>

#include <nlohmann/json.hpp>

#include <set>

using namespace mfres;
using nlohmann::json;

TEST_CASE("every registered name parses, describes itself and round-trips through its canonical JSON") {
    const std::vector<std::string> expected{
        "mf-res2net", "3d-espnet", "dmfnet",    "3d-unet",  "3d-unetpp", "no-new-net-as-counted",
        "no-new-net", "mfnet-96",  "mfnet-112", "mfnet-128"};
    CHECK(network_names() == expected);
    CHECK(networks().size() == expected.size());
    for (const NetworkInfo& info : networks()) {
        INFO(info.name);
        const auto variant = parse_variant(info.name);
        REQUIRE_OK(variant);
        CHECK(variant->name() == info.name);
        CHECK(variant->standard());
        CHECK(variant->classes() == 4);
        CHECK(variant->input_channels() == 4);
        CHECK(variant->multiple() == (info.name == "3d-espnet" || info.name == "3d-unet" ? 8 : 16));
        const auto again = parse_variant(variant->json());
        REQUIRE_OK(again);
        CHECK(again->json() == variant->json());
        CHECK(again->standard());
        CHECK_FALSE(info.summary.empty());
        CHECK_FALSE(info.status.empty());
        CHECK(info.json == variant->json());
        for (const NetworkOption& option : info.options) {
            CHECK_FALSE(option.help.empty());
            CHECK_FALSE(option.allowed.empty());
            CHECK(json::parse(variant->json()).at(option.key) == json::parse(option.standard));
        }
    }
}

TEST_CASE("equal variants have equal canonical text, whatever their spelling") {
    const auto a = parse_variant(R"({"network":"mf-res2net","splits":2,"classes":3})");
    const auto b =
        parse_variant(" { \"classes\" : 3 ,\n\t\"splits\" : 2, \"norm\":\"batch\", \"network\":\"mf-res2net\"}");
    REQUIRE_OK(a);
    REQUIRE_OK(b);
    CHECK(a->json() == b->json());
    CHECK_FALSE(a->standard());
    const auto named = parse_variant(R"({"network":"mf-res2net","name":"wide.v2_B-1","splits":2,"classes":3})");
    REQUIRE_OK(named);
    CHECK(named->name() == "wide.v2_B-1");
    CHECK(named->json() != a->json());
    const auto description = describe_network(named->json());
    REQUIRE_OK(description);
    CHECK(description->name == "wide.v2_B-1");
    CHECK(description->network == "mf-res2net");
    CHECK(description->classes == 3);
    CHECK(description->multiple == 16);
    CHECK_FALSE(description->standard);
    CHECK(description->changes == std::vector<std::string>{"classes 3", "splits 2"});
    CHECK(describe_network("mf-res2net")->changes.empty());
}

TEST_CASE("a network tells regions in place of classes, and one that does not is written as ever") {
    const auto regions = parse_variant(R"({"network":"mf-res2net","outputs":"regions"})");
    REQUIRE_OK(regions);
    CHECK(regions->outputs() == Outputs::regions);
    CHECK(regions->classes() == 3);
    CHECK(regions->label_classes() == 4);
    CHECK_FALSE(regions->standard());
    const auto again = parse_variant(regions->json());
    REQUIRE_OK(again);
    CHECK(again->json() == regions->json());
    CHECK(again->outputs() == Outputs::regions);
    const auto graph = build_network(*regions, {16, 16, 16});
    REQUIRE_OK(graph);
    CHECK(graph->node(graph->outputs()[0]).shape == Shape{1, 3, 16, 16, 16});

    const auto classes = parse_variant(R"({"network":"mf-res2net","outputs":"classes"})");
    REQUIRE_OK(classes);
    CHECK(classes->outputs() == Outputs::classes);
    CHECK(classes->label_classes() == 4);
    CHECK(classes->json() == parse_variant("mf-res2net")->json());
    CHECK(classes->json().find("outputs") == std::string::npos);

    const auto unknown = parse_variant(R"({"network":"mf-res2net","outputs":"labels"})");
    REQUIRE_CODE(unknown, variant_invalid);
    CHECK(unknown.error().message.find("/outputs: \"labels\"") != std::string::npos);
    const auto four = parse_variant(R"({"network":"mf-res2net","outputs":"regions","classes":4})");
    REQUIRE_CODE(four, variant_invalid);
    CHECK(four.error().message.find("/classes: 4") != std::string::npos);
}

TEST_CASE("violations name JSON path, value and what is allowed") {
    struct Violation {
        const char* json;
        const char* path;
        std::vector<std::string> says;
    };
    const std::vector<Violation> violations{
        {R"({})", "/network", {"missing"}},
        {R"({"network": 5})", "/network", {"5"}},
        {R"([1, 2])", "/", {"[1,2]", "object"}},
        {R"("mf-res2net")", "/", {"object"}},
        {R"({"network": "mf-res2net", "name": ""})", "/name", {"\"\"", "64"}},
        {R"({"network": "mf-res2net", "name": "a/b"})", "/name", {"a/b", "letters"}},
        {R"({"network": "mf-res2net", "name": 7})", "/name", {"7"}},
        {R"({"network": "mf-res2net", "name": "dmfnet"})", "/name", {"dmfnet", "another network"}},
        {R"({"network": "mf-res2net", "width": [8]})", "/width", {"[8]", "unknown", "widths", "splits"}},
        {R"({"network": "mf-res2net", "a/b~c": 1})", "/a~1b~0c", {"unknown"}},
        {R"({"network": "mf-res2net", "channels": 128})", "/channels", {"128", "unknown"}},
        {R"({"network": "mf-res2net", "classes": 0})", "/classes", {"0", "1 to 255"}},
        {R"({"network": "mf-res2net", "classes": 256})", "/classes", {"256", "1 to 255"}},
        {R"({"network": "mf-res2net", "classes": -1})", "/classes", {"-1", "1 to 255"}},
        {R"({"network": "mf-res2net", "classes": 4.0})", "/classes", {"4.0", "integer"}},
        {R"({"network": "mf-res2net", "classes": "4"})", "/classes", {"\"4\"", "integer"}},
        {R"({"network": "mf-res2net", "classes": null})", "/classes", {"null", "integer"}},
        {R"({"network": "mf-res2net", "classes": true})", "/classes", {"true", "integer"}},
        {R"({"network": "mf-res2net", "classes": 18446744073709551615})", "/classes", {"18446744073709551615"}},
        {R"({"network": "mf-res2net", "input_channels": 65})", "/input_channels", {"65", "1 to 64"}},
        {R"({"network": "mf-res2net", "widths": 16})", "/widths", {"16", "list"}},
        {R"({"network": "mf-res2net", "widths": []})", "/widths", {"[]", "0 entries", "1 to 6"}},
        {R"({"network": "mf-res2net", "widths": [8,8,8,8,8,8,8]})", "/widths", {"7 entries", "1 to 6"}},
        {R"({"network": "mf-res2net", "widths": [16, 64, "x", 240]})", "/widths/2", {"\"x\"", "integer"}},
        {R"({"network": "mf-res2net", "widths": [16, 64, 112, 5000]})", "/widths/3", {"5000", "1 to 4096"}},
        {R"({"network": "mf-res2net", "widths": [16, 64, 113, 240]})", "/widths/2", {"113", "multiple of splits (4)"}},
        {R"({"network": "mf-res2net", "widths": [16, 64, 112]})", "/decoder", {"4 entries", "3"}},
        {R"({"network": "mf-res2net", "units": [2, 2]})", "/units", {"2 entries", "widths", "4"}},
        {R"({"network": "mf-res2net", "units": [2, 2, 0, 2]})", "/units/2", {"0", "1 to 16"}},
        {R"({"network": "mf-res2net", "decoder_units": [1]})", "/decoder_units", {"[1]", "4"}},
        {R"({"network": "mf-res2net", "decoder": [80, 32, 16, 9]})", "/decoder/3", {"9", "splits (4)"}},
        {R"({"network": "mf-res2net", "splits": 17})", "/splits", {"17", "1 to 16"}},
        {R"({"network": "mf-res2net", "splits": 3})", "/widths/0", {"16", "splits (3)"}},
        {R"({"network": "mf-res2net", "mf_reduction": 3})", "/widths/0", {"16", "mf_reduction (3)"}},
        {R"({"network": "mf-res2net", "mf_reduction": 16, "decoder": [80, 32, 8, 8]})",
         "/decoder/2",
         {"8", "mf_reduction (16)"}},
        {R"({"network": "mf-res2net", "mf_reduction": 16, "decoder_units": [1, 1, 1, 2]})",
         "/decoder/3",
         {"8", "mf_reduction (16)"}},
        {R"({"network": "mf-res2net", "groups": 3})", "/widths/0", {"16", "groups (3)"}},
        {R"({"network": "mf-res2net", "norm": "layer"})", "/norm", {"layer", "batch, instance"}},
        {R"({"network": "mf-res2net", "order": 1})", "/order", {"1", "post, pre"}},
        {R"({"network": "mf-res2net", "activation": "gelu"})", "/activation", {"gelu", "relu, leaky_relu"}},
        {R"({"network": "mf-res2net", "interpolation": {}})", "/interpolation", {"{}", "trilinear, nearest"}},
        {R"({"network": "dmfnet", "channels": 100})", "/channels", {"100", "groups (16)"}},
        {R"({"network": "dmfnet", "n": 24})", "/n", {"24", "groups (16)"}},
        {R"({"network": "dmfnet", "mf_reduction": 5})", "/n", {"32", "mf_reduction (5)"}},
        {R"({"network": "dmfnet", "units": [3, 3, 1]})", "/units/2", {"1", "2"}},
        {R"({"network": "dmfnet", "dilated": [true, 1, false]})", "/dilated/1", {"1", "true or false"}},
        {R"({"network": "dmfnet", "dilated": [true]})", "/dilated", {"1 entries", "3"}},
        {R"({"network": "dmfnet", "dilations": [1]})", "/dilations", {"[1]", "2 to 8"}},
        {R"({"network": "3d-espnet", "widths": [16, 32, 130, 256]})", "/widths/2", {"130", "dilations (4)"}},
        {R"({"network": "3d-espnet", "spatial_kernels": [3, 4]})", "/spatial_kernels/1", {"4", "odd"}},
        {R"({"network": "3d-espnet", "pooling_percent": [20, 101]})", "/pooling_percent/1", {"101", "1 to 100"}},
        {R"({"network": "3d-unet", "widths": [64, 128, 255, 512]})", "/widths/2", {"255", "even"}},
        {R"({"network": "3d-unet", "decoder_convs": [1, 2]})", "/decoder_convs", {"2 entries", "3"}},
        {R"({"network": "3d-unet", "conv_bias": "yes"})", "/conv_bias", {"yes", "true or false"}},
        {R"({"network": "3d-unetpp", "widths": [32]})", "/widths", {"1 entries", "2 to 6"}},
        {R"({"network": "no-new-net", "merge": "sum"})", "/merge", {"sum", "concat, add"}},
        {R"({"network": "no-new-net", "decoder_convs": 3})", "/decoder_convs", {"3", "1 to 2"}},
    };
    REQUIRE(violations.size() >= 30);
    for (const Violation& violation : violations) {
        INFO(violation.json);
        const auto variant = parse_variant(violation.json);
        REQUIRE_CODE(variant, variant_invalid);
        CHECK(variant.error().where == violation.path);
        CHECK(variant.error().message.rfind(violation.path, 0) == 0);
        for (const std::string& words : violation.says)
            CHECK(variant.error().message.find(words) != std::string::npos);
    }
}

TEST_CASE("text that is not strict JSON is rejected") {
    const std::string deep =
        R"({"network": "mf-res2net", "widths": )" + std::string(9, '[') + std::string(9, ']') + "}";
    const std::string large = R"({"network": "mf-res2net", "name": ")" + std::string(70000, 'a') + "\"}";
    const std::vector<std::string> texts{
        "{",
        R"({"network": "mf-res2net"} x)",
        R"({"network": "mf-res2net"}{})",
        R"({"network": "mf-res2net",})",
        R"({'network': 'mf-res2net'})",
        R"({"network": "mf-res2net", "classes": 04})",
        R"({"network": "mf-res2net", "classes": 1e999})",
        R"({"network": "mf-res2net", "classes": NaN})",
        R"({"network": "mf-res2net" /* comment */})",
        R"({"network": "mf-res2net", "splits": 4, "splits": 4})",
        "{\"network\": \"mf-res2net\", \"name\": \"\xff\"}",
        std::string(R"({"network": "mf-res2net"})") + '\0',
        deep,
        large,
    };
    for (const std::string& text : texts) {
        INFO(text.substr(0, 80));
        REQUIRE_CODE(parse_variant(text), json_invalid);
    }
    const auto duplicate = parse_variant(R"({"network": "mf-res2net", "splits": 4, "splits": 2})");
    CHECK(duplicate.error().where == "/splits");
    const auto misplaced = parse_variant("{\"network\": \"mf-res2net\",\n  \"classes\": x}");
    REQUIRE_CODE(misplaced, json_invalid);
    CHECK(misplaced.error().where == "line 2, column 14");
    CHECK(parse_variant(large).error().message.find("65536") != std::string::npos);
}

TEST_CASE("unknown networks are answered with the names there are") {
    for (const std::string name : {"", "MF-RES2Net", "unet", "../variant.json", R"({"network": "unet"})"}) {
        const auto variant = parse_variant(name);
        REQUIRE_CODE(variant, network_unknown);
        for (const std::string& known : network_names())
            CHECK(variant.error().message.find(known) != std::string::npos);
    }
    CHECK(parse_variant("\x01\xff").error().message.find("'?") != std::string::npos);
}

TEST_CASE("mutated variants either parse or are rejected, and what parses can be counted") {
    const std::string source = parse_variant("mf-res2net")->json();
    Random random(20240607);
    int parsed = 0;
    for (int i = 0; i < 4000; ++i) {
        std::string text = source;
        for (std::uint64_t edits = 1 + random.below(3); edits > 0; --edits) {
            const auto at = static_cast<std::size_t>(random.below(text.size()));
            switch (random.below(3)) {
            case 0: text[at] = static_cast<char>(random.below(256)); break;
            case 1: text.erase(at, 1); break;
            default: text.insert(at, 1, "0123456789,:{}[]\""[random.below(17)]); break;
            }
        }
        const auto variant = parse_variant(text);
        if (!variant) {
            const ErrorCode code = variant.error().code;
            CHECK((code == ErrorCode::json_invalid || code == ErrorCode::variant_invalid ||
                   code == ErrorCode::network_unknown));
            continue;
        }
        ++parsed;
        const auto graph = build_network(*variant, {variant->multiple(), variant->multiple(), variant->multiple()});
        REQUIRE_OK(graph);
        REQUIRE_OK(count_operations(*graph, variant->family().seen_by_table2));
    }
    CHECK(parsed > 20);
}

namespace {

/// Everything that makes a graph what it is, as text.
std::string signature(const Graph& graph) {
    std::string all;
    for (const Node& node : graph.nodes()) {
        all += text(node.name, ' ', name(node.kind()), ' ', to_string(node.shape));
        for (const NodeId input : node.inputs)
            all += text(' ', input);
        for (const Parameter& parameter : node.parameters)
            all += text(' ', parameter.name, ' ', to_string(parameter.shape));
        if (node.kind() == OpKind::conv)
            for (const auto dilation : node.as<Conv>().dilation)
                all += text(' ', dilation);
        if (node.kind() == OpKind::upsample)
            all += name(node.as<Upsample>().mode);
        all += '\n';
    }
    return all;
}

/// Builds `base` with `changes`, runs it once at a non-cubic size and returns its signature.
std::string run_variant(const json& base, const json& changes) {
    json object = base;
    object.update(changes);
    INFO(object.dump());
    const auto variant = parse_variant(object.dump());
    REQUIRE_OK(variant);
    const std::int64_t edge = std::max<std::int64_t>(16, variant->multiple());
    const auto graph = build_network(*variant, {edge, edge, 2 * edge});
    REQUIRE_OK(graph);
    REQUIRE_OK(count_operations(*graph, variant->family().seen_by_table2));
    const Tensor output =
        test::run_reference(*graph, test::random_weights(*graph, 5),
                            test::random_tensor({1, variant->input_channels(), edge, edge, 2 * edge}, 6));
    CHECK(output.shape() == Shape{1, variant->classes(), edge, edge, 2 * edge});
    CHECK(test::all_finite(output));
    CHECK(test::largest(output) > 0);
    return signature(*graph);
}

/// Every change builds, runs, and makes another network than all the others. All options of the network are covered.
void check_options(const json& base, const std::vector<json>& changes) {
    std::set<std::string> signatures{run_variant(base, json::object())};
    std::set<std::string> covered;
    for (const json& change : changes) {
        INFO(change.dump());
        CHECK(signatures.insert(run_variant(base, change)).second);
        for (const auto& [key, value] : change.items())
            covered.insert(key);
    }
    const auto described = networks();
    for (const NetworkInfo& info : described)
        if (info.name == base.at("network").get<std::string>())
            for (const NetworkOption& option : info.options) {
                INFO(option.key);
                CHECK(covered.count(option.key) == 1);
            }
}

const std::vector<json> common_changes{{{"classes", 3}}, {{"input_channels", 1}}, {{"interpolation", "nearest"}}};

std::vector<json> with_common(std::vector<json> changes) {
    changes.insert(changes.end(), common_changes.begin(), common_changes.end());
    return changes;
}

} // namespace

TEST_CASE("every option of mf-res2net builds and runs") {
    check_options({{"network", "mf-res2net"}, {"widths", {4, 8, 8, 16}}, {"decoder", {8, 8, 4, 4}}},
                  with_common({{{"widths", {8, 8, 8, 8}}},
                               {{"decoder", {4, 4, 4, 8}}},
                               {{"widths", {4, 8}}, {"decoder", {4, 4}}, {"units", {1, 2}}, {"decoder_units", {1, 1}}},
                               {{"widths", {4}}, {"decoder", {4}}, {"units", {1}}, {"decoder_units", {1}}},
                               {{"units", {1, 1, 2, 3}}},
                               {{"decoder_units", {1, 1, 1, 2}}},
                               {{"splits", 1}},
                               {{"splits", 2}},
                               {{"mf_reduction", 2}},
                               {{"splits", 2}, {"groups", 2}},
                               {{"order", "pre"}},
                               {{"norm", "instance"}},
                               {{"activation", "leaky_relu"}}}));
}

TEST_CASE("every option of dmfnet and mfnet builds and runs") {
    const json small{{"network", "dmfnet"}, {"n", 4}, {"channels", 8}, {"groups", 2}};
    check_options(small, with_common({{{"n", 8}},
                                      {{"n", 12}, {"channels", 4}},
                                      {{"channels", 12}},
                                      {{"groups", 4}},
                                      {{"mf_reduction", 2}},
                                      {{"units", {1, 2, 4}}},
                                      {{"dilated", {false, false, true}}},
                                      {{"dilations", {1, 2}}},
                                      {{"dilations", {1, 1, 4}}},
                                      {{"norm", "instance"}},
                                      {{"activation", "leaky_relu"}}}));
    // An MFNet is a DMFNet without dilated units.
    json plain = small;
    plain["network"] = "mfnet-96";
    CHECK(run_variant(plain, json::object()) == run_variant(small, {{"dilated", {false, false, false}}}));
}

TEST_CASE("every option of 3d-espnet builds and runs") {
    check_options({{"network", "3d-espnet"}, {"widths", {4, 4, 8, 8}}, {"spatial_kernels", {3, 5}}},
                  with_common({{{"widths", {3, 8, 4, 8}}},
                               {{"units", {1, 1, 2}}},
                               {{"decoder_units", {1, 2}}},
                               {{"dilations", {1, 3}}},
                               {{"spatial_kernels", {1, 3, 7}}},
                               {{"pooling_percent", {5, 50, 100}}},
                               {{"norm", "instance"}},
                               {{"activation", "leaky_relu"}}}));
}

TEST_CASE("every option of the U-Nets builds and runs") {
    const std::vector<json> styles{{{"norm", "instance"}, {"activation", "relu"}},
                                   {{"norm", "batch"}, {"activation", "leaky_relu"}}};
    const auto with_styles = [&](std::vector<json> changes) {
        changes = with_common(std::move(changes));
        changes.insert(changes.end(), styles.begin(), styles.end());
        return changes;
    };
    check_options({{"network", "3d-unet"}, {"widths", {4, 4, 8}}, {"decoder_convs", {1, 2}}},
                  with_styles({{{"widths", {2, 6, 8}}},
                               {{"widths", {2, 4}}, {"decoder_convs", {1}}},
                               {{"decoder_convs", {3, 1}}},
                               {{"conv_bias", false}}}));
    check_options({{"network", "3d-unetpp"}, {"widths", {2, 3, 4}}},
                  with_styles({{{"widths", {2, 3, 4, 5}}}, {{"conv_bias", true}}, {{"head_bias", false}}}));
    for (const char* network : {"no-new-net", "no-new-net-as-counted"}) {
        const bool counted = std::string(network) == "no-new-net-as-counted";
        check_options({{"network", network}, {"widths", {2, 4, 6}}},
                      with_styles({{{"widths", {3, 5}}},
                                   {{"merge", counted ? "concat" : "add"}},
                                   {{"decoder_convs", counted ? 2 : 1}},
                                   {{"conv_bias", false}}}));
    }
}

TEST_CASE("every registered network builds at its smallest cube") {
    for (const std::string& name : network_names()) {
        INFO(name);
        const auto variant = parse_variant(name);
        REQUIRE_OK(variant);
        const std::int64_t edge = variant->multiple();
        const auto graph = build_network(*variant, {edge, edge, edge}, 2);
        REQUIRE_OK(graph);
        REQUIRE(graph->outputs().size() == 1);
        CHECK(graph->node(graph->outputs()[0]).shape == Shape{2, 4, edge, edge, edge});
        const auto odd = build_network(*variant, {edge, edge, edge + 1});
        REQUIRE_CODE(odd, invalid_argument);
        CHECK(odd.error().message.find(std::to_string(edge + 1)) != std::string::npos);
        CHECK(odd.error().message.find(std::to_string(edge)) != std::string::npos);
    }
}
