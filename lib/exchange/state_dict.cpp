// SPDX-License-Identifier: MIT
#include "exchange/state_dict.h"

#include "core/guard.h"
#include "core/json.h"
#include "core/try.h"
#include "model/sha256.h"

#include <algorithm>

namespace mfres {

namespace {

Error mapping_error(ErrorCode code, const std::string& place, const std::string& problem) {
    return {code, text("name mapping, ", place, ": ", problem), place};
}

Result<NamePattern> expression(const Json& value, const std::string& place) {
    if (!value.is_string())
        return mapping_error(ErrorCode::json_invalid, place, "is not a string");
    const auto& pattern = value.get_ref<const std::string&>();
    if (pattern.empty() || pattern.size() > NameMapping::max_length)
        return mapping_error(ErrorCode::invalid_argument, place,
                             text("has ", pattern.size(), " bytes, allowed are 1 to ", NameMapping::max_length));
    auto parsed = NamePattern::parse(pattern);
    if (!parsed)
        return mapping_error(
            ErrorCode::invalid_argument, place,
            text("'", printable(pattern), "' is no regular expression that is known here: ", parsed.error().message));
    return parsed;
}

/// Allows these keys only; both must be arrays if present.
Status check_keys(const Json& object) {
    if (!object.is_object())
        return mapping_error(ErrorCode::json_invalid, "the file", "is not a JSON object");
    for (const auto& [key, value] : object.items()) {
        if (key != "rules" && key != "ignore")
            return mapping_error(ErrorCode::json_invalid, printable(key), "is neither rules nor ignore");
        if (!value.is_array())
            return mapping_error(ErrorCode::json_invalid, key, "is not an array");
        if (value.size() > NameMapping::max_rules)
            return mapping_error(ErrorCode::invalid_argument, key,
                                 text("has ", value.size(), " entries, allowed are ", NameMapping::max_rules));
    }
    return {};
}

/// What stands before most of the missing names among those that are too many, in words that offer to take it off.
std::string prefix_hint(const StateDict& extra, const std::vector<std::string>& missing) {
    if (missing.empty())
        return {};
    for (const auto& [name, tensor] : extra) {
        if (!name.ends_with("." + missing[0]))
            continue;
        const std::string prefix = name.substr(0, name.size() - missing[0].size() - 1);
        const auto found = std::count_if(missing.begin(), missing.end(), [&](const std::string& wanted) {
            return extra.count(text(prefix, '.', wanted)) > 0;
        });
        if (2 * static_cast<std::size_t>(found) > missing.size())
            return text("; ", found, " of the missing names are there behind '", printable(prefix),
                        ".', which --prefix ", printable(prefix), " takes off");
    }
    return {};
}

/// One line per tensor: "  missing: a.weight"
std::string listed(const char* what, const std::vector<std::string>& names) {
    std::string lines;
    for (const std::string& name : names)
        lines.append("\n  ").append(what).append(": ").append(name);
    return lines;
}

} // namespace

Result<NameMapping> NameMapping::parse(std::string_view text_of_file) {
    auto parsed = parse_json(text_of_file, "mapping", {std::size_t{1} << 20U, 8});
    if (!parsed)
        return mapping_error(ErrorCode::json_invalid, "the file", parsed.error().message);
    const Json object = std::move(parsed).value();
    MFRES_CHECK(check_keys(object));
    NameMapping mapping;
    const Json rules = object.value("rules", Json::array());
    for (std::size_t i = 0; i < rules.size(); ++i) {
        const std::string place = text("rules/", i);
        const Json& rule = rules[i];
        if (!rule.is_object() || rule.size() != 2 || !rule.contains("match") || !rule.contains("name") ||
            !rule["name"].is_string())
            return mapping_error(ErrorCode::json_invalid, place, "is not an object of the strings match and name");
        MFRES_TRY(NamePattern match, expression(rule["match"], place + "/match"));
        const auto& name = rule["name"].get_ref<const std::string&>();
        if (name.empty() || name.size() > max_length)
            return mapping_error(ErrorCode::invalid_argument, place + "/name",
                                 text("has ", name.size(), " bytes, allowed are 1 to ", max_length));
        mapping.rules_.push_back({std::move(match), name});
    }
    const Json ignore = object.value("ignore", Json::array());
    for (std::size_t i = 0; i < ignore.size(); ++i) {
        MFRES_TRY(NamePattern match, expression(ignore[i], text("ignore/", i)));
        mapping.ignore_.push_back(std::move(match));
    }
    return mapping;
}

Result<StateDict> NameMapping::apply(StateDict tensors, const std::string& path) const {
    StateDict renamed;
    while (!tensors.empty()) {
        auto entry = tensors.extract(tensors.begin());
        const std::string name = entry.key();
        if (name.size() > max_length)
            return Error{ErrorCode::model_header_invalid,
                         text(path, ": the tensor name ", printable(name), " has ", name.size(), " bytes, allowed are ",
                              max_length),
                         path};
        const auto ignored = [&](const NamePattern& pattern) { return pattern.match(name).has_value(); };
        if (name.ends_with("num_batches_tracked") || std::any_of(ignore_.begin(), ignore_.end(), ignored))
            continue;
        for (const Rule& rule : rules_)
            if (const auto groups = rule.match.match(name)) {
                entry.key() = expand(rule.name, name, *groups);
                break;
            }
        const std::string target = entry.key();
        if (!renamed.insert(std::move(entry)).inserted)
            return Error{
                ErrorCode::model_header_invalid,
                text(path, ": two tensors get the name ", printable(target), ", one of them is ", printable(name)),
                path};
    }
    return renamed;
}

Result<StateDict> read_safetensors_state(const std::filesystem::path& path) {
    return guarded(path, [&]() -> Result<StateDict> {
        MFRES_TRY(const SafetensorsFile file, read_safetensors(path));
        StateDict tensors;
        for (const auto& [name, stored] : file.tensors) {
            const bool counter = stored.dtype == Dtype::i64 || stored.dtype == Dtype::i32;
            if (counter)
                continue;
            MFRES_TRY(Tensor tensor, decode_tensor(file, name));
            tensors.emplace(name, std::move(tensor));
        }
        return tensors;
    });
}

Result<StateDict> without_prefix(StateDict tensors, std::string_view prefix, const std::string& path) {
    if (prefix.empty())
        return tensors;
    const std::string beginning = text(prefix, '.');
    StateDict kept;
    while (!tensors.empty()) {
        auto entry = tensors.extract(tensors.begin());
        if (!entry.key().starts_with(beginning))
            continue;
        entry.key().erase(0, beginning.size());
        kept.insert(std::move(entry));
    }
    if (kept.empty())
        return Error{ErrorCode::model_tensor_missing,
                     text(path, ": no tensor's name begins with '", printable(beginning), "'"), path};
    return kept;
}

Result<Model> adopt_weights(const Variant& variant, StateDict tensors, const std::string& path,
                            std::string_view origin) {
    MFRES_TRY(const Graph graph, parameter_graph(variant));
    Model model{variant, {}, {}};
    if (variant.input_channels() > static_cast<std::int64_t>(model.metadata.modalities.size()))
        return Error{ErrorCode::model_metadata_invalid,
                     text(path, ": ", variant.name(), " has ", variant.input_channels(),
                          " input channels, more than there are modalities"),
                     path};
    std::vector<std::string> missing;
    std::vector<std::string> other_shape;
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters) {
            auto found = tensors.extract(parameter.name);
            if (found.empty()) {
                missing.push_back(parameter.name);
                continue;
            }
            Tensor& values = found.mapped();
            if (values.shape().rank() == 0 && parameter.shape == Shape{1})
                values = Tensor(Shape{1}, values[0]); // PyTorch scalars have no axes
            if (!(values.shape() == parameter.shape))
                other_shape.push_back(
                    text(parameter.name, ": ", to_string(values.shape()), " instead of ", to_string(parameter.shape)));
            else
                model.weights.emplace(parameter.name, std::move(values));
        }
    std::vector<std::string> extra;
    for (const auto& [name, tensor] : tensors)
        extra.push_back(printable(name) + ": " + to_string(tensor.shape()));
    if (!missing.empty() || !extra.empty() || !other_shape.empty()) {
        const ErrorCode code = !missing.empty() ? ErrorCode::model_tensor_missing
                               : !extra.empty() ? ErrorCode::model_tensor_extra
                                                : ErrorCode::model_tensor_shape;
        return Error{code,
                     text(path, ": these are not the weights of ", variant.name(), ": ", missing.size(), " missing, ",
                          extra.size(), " too many, ", other_shape.size(), " of another shape",
                          prefix_hint(tensors, missing), listed("missing", missing), listed("too many", extra),
                          listed("of another shape", other_shape)),
                     path};
    }
    if (const Status sound = check_weights(graph, model.weights); !sound)
        return Error{sound.error().code, text(path, ": ", sound.error().message), path};
    model.metadata.modalities.clear(); // no other framework's file tells their order
    model.metadata.variant_json = variant.json();
    model.metadata.recipe_json = Json{{"imported_from", origin}}.dump();
    model.metadata.weights_sha256 = weights_sha256(model.weights);
    return model;
}

} // namespace mfres
