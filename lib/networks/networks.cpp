// SPDX-License-Identifier: MIT
// The public functions of the registry.
#include "core/guard.h"
#include "networks/family.h"
#include "networks/registry.h"

namespace mfres {

std::vector<NetworkInfo> networks() {
    std::vector<NetworkInfo> all;
    for (const std::string& name : network_names()) {
        const auto variant = parse_variant(name);
        if (!variant)
            continue; // registered networks are valid, which a test checks
        const NetworkFamily& family = variant->family();
        NetworkInfo info{family.name, family.summary, family.status, family.published, {}, variant->json()};
        for (const Option& option : family.options)
            info.options.push_back({option.key, option.allowed(), option.standard.dump(), option.help});
        all.push_back(std::move(info));
    }
    return all;
}

namespace {

Result<NetworkDescription> description_of(std::string_view name_or_json) {
    MFRES_TRY(const Variant variant, parse_variant(name_or_json));
    NetworkDescription description{
        variant.name(),           variant.family().name, variant.standard(), variant.json(), {},
        variant.input_channels(), variant.classes(),     variant.multiple()};
    for (const Option& option : variant.family().options) {
        const Json& value = variant.settings().json().at(option.key);
        if (value == option.standard)
            continue;
        std::string written;
        for (const char c : value.dump())
            written += c == ',' ? std::string(", ") : std::string(1, c);
        description.changes.push_back(option.key + ' ' + written);
    }
    return description;
}

} // namespace

Result<NetworkDescription> describe_network(std::string_view name_or_json) {
    return guarded("network", [&] { return description_of(name_or_json); });
}

} // namespace mfres
