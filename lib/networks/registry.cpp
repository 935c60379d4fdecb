// SPDX-License-Identifier: MIT
#include "networks/registry.h"

#include "core/try.h"
#include "networks/family.h"

#include <algorithm>
#include <array>

namespace mfres {

namespace {

/// All networks; those of the paper's Table 2 come first, in its order. A new one needs a file, a declaration in
/// family.h and an entry here.
const std::vector<const NetworkFamily*>& families() {
    static const std::vector<const NetworkFamily*> all{
        &mf_res2net(), &espnet(),   &dmfnet(),    &unet(),     &unetpp(), &no_new_net_as_counted(),
        &no_new_net(), &mfnet_96(), &mfnet_112(), &mfnet_128()};
    return all;
}

const NetworkFamily* find_family(std::string_view name) {
    for (const NetworkFamily* family : families())
        if (family->name == name)
            return family;
    return nullptr;
}

Error unknown_network(std::string_view name) {
    std::string known;
    for (const std::string& candidate : network_names())
        known += (known.empty() ? "" : ", ") + candidate;
    std::string shown;
    for (const char c : name.substr(0, 60))
        shown += c >= ' ' && c <= '~' ? c : '?';
    return {ErrorCode::network_unknown, text("there is no network '", shown, "'; there are ", known), shown};
}

/// The "name" of a variant. It appears in file names and tables, so its length and characters are restricted.
Result<std::string> variant_name(const Json& object, const NetworkFamily& family) {
    const auto given = object.find("name");
    if (given == object.end())
        return family.name;
    const auto plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               c == '.';
    };
    const std::string name = given->is_string() ? given->get<std::string>() : std::string();
    if (name.empty() || name.size() > 64 || !std::all_of(name.begin(), name.end(), plain))
        return violation("/name", *given, "is not 1 to 64 letters, digits, dots, dashes and underscores");
    if (name != family.name && find_family(name) != nullptr)
        return violation("/name", *given, text("is the name of another network than ", family.name));
    return name;
}

/// "outputs" of a variant. With regions the network has a channel for each, which "classes" may say but need not.
Result<Outputs> variant_outputs(Json& object) {
    const auto given = object.find("outputs");
    if (given == object.end() || *given == "classes")
        return Outputs::classes;
    if (*given != "regions")
        return violation("/outputs", *given, "is not one of classes, regions");
    const auto classes = object.find("classes");
    if (classes != object.end() && *classes != region_count)
        return violation("/classes", *classes, text("is not ", region_count, ", the number of regions"));
    object["classes"] = region_count;
    return Outputs::regions;
}

} // namespace

Result<Variant> parse_variant(std::string_view name_or_json) {
    const std::size_t start = name_or_json.find_first_not_of(" \t\r\n");
    const bool is_json = start != std::string_view::npos &&
                         std::string_view("{[\"\xEF").find(name_or_json[start]) != std::string_view::npos;
    Json object = Json::object();
    const NetworkFamily* family = find_family(name_or_json);
    if (family == nullptr && !is_json)
        return unknown_network(name_or_json);
    if (is_json) {
        MFRES_TRY(object, parse_strict(name_or_json));
        const auto network = object.find("network");
        if (network == object.end())
            return Error{ErrorCode::variant_invalid,
                         "/network: is missing; it names the registered network of the variant", "/network"};
        if (!network->is_string())
            return violation("/network", *network, "is not the name of a network");
        family = find_family(network->get_ref<const std::string&>());
        if (family == nullptr)
            return unknown_network(network->get_ref<const std::string&>());
    }
    MFRES_TRY(std::string name, variant_name(object, *family));
    MFRES_TRY(const Outputs outputs, variant_outputs(object));
    MFRES_TRY(Settings settings, read_settings(object, family->options, {"network", "name", "outputs"}));
    MFRES_CHECK(family->check(settings));

    Variant variant;
    variant.name_ = std::move(name);
    variant.family_ = family;
    variant.input_channels_ = settings.integer("input_channels");
    variant.classes_ = settings.integer("classes");
    variant.outputs_ = outputs;
    variant.multiple_ = family->multiple(settings);
    variant.standard_ = std::all_of(family->options.begin(), family->options.end(), [&](const Option& option) {
        return settings.json().at(option.key) == option.standard;
    });
    Json canonical = settings.json();
    canonical["network"] = family->name;
    canonical["name"] = variant.name_;
    if (outputs == Outputs::regions)
        canonical["outputs"] = "regions";
    variant.json_ = canonical.dump();
    variant.settings_ = std::make_shared<const Settings>(std::move(settings));
    return variant;
}

Result<Graph> build_network(const Variant& variant, const Axes& size, std::int64_t batch) {
    static constexpr std::array<char, 3> axis_names{'x', 'y', 'z'};
    for (std::size_t axis = 0; axis < 3; ++axis)
        if (size[axis] <= 0 || size[axis] % variant.multiple() != 0)
            return Error{ErrorCode::invalid_argument,
                         text(variant.name(), " needs edges that are multiples of ", variant.multiple(), ", edge ",
                              axis_names[axis], " is ", size[axis]),
                         variant.name()};
    GraphBuilder builder;
    const NodeId input = builder.input({batch, variant.input_channels(), size[0], size[1], size[2]});
    builder.output(variant.family().build(builder, variant.settings(), input));
    return builder.finish();
}

std::vector<std::string> network_names() {
    std::vector<std::string> names;
    for (const NetworkFamily* family : families())
        names.push_back(family->name);
    return names;
}

} // namespace mfres
