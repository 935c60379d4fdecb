// SPDX-License-Identifier: MIT
#include "model/metadata.h"

#include "core/json.h"
#include "core/number.h"
#include "core/try.h"
#include "networks/schema.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

namespace mfres {

namespace {

constexpr std::string_view prefix = "mfres.";
constexpr std::string_view format_version = "1";
constexpr std::array<std::string_view, 4> known_modalities = {"t1", "t1ce", "t2", "flair"};
constexpr std::array<std::string_view, 2> known_label_schemes = {"brats", "brats2023"};
constexpr std::string_view quantization_key = "mfres.quantisation";       // optional
constexpr std::string_view subsets_key = "mfres.modality_subsets";        // optional
constexpr std::string_view min_component_key = "mfres.min_component_mm3"; // optional
constexpr std::string_view min_enhancing_key = "mfres.min_enhancing_mm3"; // optional
constexpr std::string_view min_share_key = "mfres.min_enhancing_share";   // optional
constexpr std::string_view brain_min_key = "mfres.brain_min_ml";          // optional, with the next
constexpr std::string_view brain_max_key = "mfres.brain_max_ml";
constexpr std::array optional_keys = {quantization_key, subsets_key,   min_component_key, min_enhancing_key,
                                      min_share_key,    brain_min_key, brain_max_key};
constexpr std::array<std::string_view, 10> keys = {
    "mfres.format_version", "mfres.variant",      "mfres.modalities", "mfres.normalisation",  "mfres.label_scheme",
    "mfres.voxel_min_mm",   "mfres.voxel_max_mm", "mfres.recipe",     "mfres.weights_sha256", "mfres.created_by"};

template <typename Names>
bool is_one_of(std::string_view value, const Names& names) {
    return std::find(names.begin(), names.end(), value) != names.end();
}

template <typename Names>
std::string listed(const Names& names) {
    std::string joined;
    for (const std::string_view known : names)
        joined.append(joined.empty() ? "" : ", ").append(known);
    return joined;
}

/// The parts between the separators, at least one.
std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (std::size_t end = 0; end != std::string_view::npos; text.remove_prefix(end == text.npos ? 0 : end + 1)) {
        end = text.find(separator);
        parts.push_back(text.substr(0, end));
    }
    return parts;
}

Error invalid(std::string_view key, const std::string& problem) {
    return {ErrorCode::model_metadata_invalid, text("metadata ", key, ": ", problem), std::string(key)};
}

/// Reads one file's metadata, key by key.
class Reader {
  public:
    explicit Reader(const MetadataStrings& strings) : strings_(strings) {}

    Status check_keys() const {
        for (const std::string_view key : keys)
            if (strings_.find(key) == strings_.end())
                return invalid(key, "is missing");
        for (const auto& entry : strings_)
            if (!is_one_of(entry.first, keys) && !is_one_of(entry.first, optional_keys))
                return invalid(printable(entry.first), "is not a key of this format");
        if (has(brain_min_key) != has(brain_max_key))
            return invalid(has(brain_min_key) ? brain_max_key : brain_min_key,
                           "is missing, but its counterpart is there");
        return {};
    }

    bool has(std::string_view key) const { return strings_.find(key) != strings_.end(); }

    /// Precondition: check_keys succeeded; an optional key is there.
    const std::string& at(std::string_view key) const { return strings_.find(key)->second; }

    template <typename Names>
    Result<std::string> choice(std::string_view key, const Names& names) const {
        if (!is_one_of(at(key), names))
            return invalid(key, text("'", printable(at(key)), "' is not known; there is ", listed(names)));
        return at(key);
    }

    /// `unit`: "millimetres"
    Result<double> positive(std::string_view key, std::string_view unit) const {
        const std::string& digits = at(key);
        const auto [value, length] = read_number(digits);
        if (length == 0 || length != digits.size() || value <= 0)
            return invalid(key, text("'", printable(digits), "' is not a positive number of ", unit));
        return value;
    }

    /// A size in mm^3, 0 if the key is absent.
    Result<double> size(std::string_view key) const {
        return strings_.find(key) == strings_.end() ? Result<double>(0.0) : positive(key, "mm^3");
    }

    /// A share of 0 to 1, 0 if the key is absent.
    Result<double> share(std::string_view key) const {
        if (strings_.find(key) == strings_.end())
            return 0.0;
        MFRES_TRY(const double share, positive(key, "the whole"));
        if (share > 1.0)
            return invalid(key, text(share, " is no share of the whole, 0 to 1"));
        return share;
    }

    Result<std::vector<std::string>> modalities() const {
        return modality_list("mfres.modalities", at("mfres.modalities"));
    }

    /// The sets that the key lists, none if it is absent.
    Result<std::vector<ModalitySet>> subsets() const {
        std::vector<ModalitySet> all;
        const auto found = strings_.find(subsets_key);
        if (found == strings_.end())
            return all;
        for (const std::string_view list : split(found->second, ';')) {
            MFRES_TRY(const ModalitySet set, modality_set(list));
            if (set == all_modalities || names(set) != list || std::find(all.begin(), all.end(), set) != all.end())
                return invalid(subsets_key, text("'", printable(std::string(list)),
                                                 "' is all contrasts, not in the order t1, t1ce, t2, flair, or there "
                                                 "twice"));
            all.push_back(set);
        }
        return all;
    }

    Result<Normalisation> normalisation() const {
        const std::string& value = at("mfres.normalisation");
        if (const auto known = parse_normalisation(value))
            return *known;
        std::vector<std::string_view> known;
        for (const Normalisation one : normalisations)
            known.push_back(to_string(one));
        return invalid("mfres.normalisation", text("'", printable(value), "' is not known; there is ", listed(known)));
    }

    static Result<ModalitySet> modality_set(std::string_view list) {
        MFRES_TRY(const std::vector<std::string> listed, modality_list(subsets_key, list));
        ModalitySet set{};
        for (const Modality modality : mfres::modalities)
            set[static_cast<std::size_t>(modality)] = is_one_of(name(modality), listed);
        return set;
    }

    static Result<std::vector<std::string>> modality_list(std::string_view key, std::string_view list) {
        std::vector<std::string> names;
        for (const std::string_view entry : split(list, ',')) {
            if (!is_one_of(entry, known_modalities))
                return invalid(key, text("'", printable(entry), "' is not one of ", listed(known_modalities)));
            if (is_one_of(entry, names))
                return invalid(key, text(entry, " occurs twice"));
            names.emplace_back(entry);
        }
        return names;
    }

    Result<std::string> hash() const {
        const std::string& hex = at("mfres.weights_sha256");
        const bool digits = std::all_of(hex.begin(), hex.end(),
                                        [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
        if (hex.size() != 64 || !digits)
            return invalid("mfres.weights_sha256",
                           text("'", printable(hex), "' is not 64 lower-case hexadecimal digits"));
        return hex;
    }

    Result<std::string> recipe() const {
        const std::string& json = at("mfres.recipe");
        if (const auto object = parse_json(json, "recipe", record_limits); !object)
            return invalid("mfres.recipe", printable(object.error().message));
        else if (!object->is_object())
            return invalid("mfres.recipe", "it is no JSON object");
        return json;
    }

    Result<std::string> created_by() const {
        const std::string& program = at("mfres.created_by");
        if (program.empty() || program.size() > 200)
            return invalid("mfres.created_by", text("has ", program.size(), " bytes, allowed are 1 to 200"));
        return program;
    }

  private:
    const MetadataStrings& strings_;
};

/// The shortest decimal that reads back as the same double.
std::string decimal(double value) {
    std::array<char, 32> digits{};
    const auto result = std::to_chars(digits.data(), digits.data() + digits.size(), value);
    return {digits.data(), result.ptr};
}

} // namespace

bool has_model_metadata(const MetadataStrings& strings) {
    const auto first = strings.lower_bound(prefix);
    return first != strings.end() && first->first.starts_with(prefix);
}

Result<ModelMetadata> metadata_from_strings(const MetadataStrings& strings) {
    const Reader reader(strings);
    // The version is checked first, because another version may have other keys.
    const auto version = strings.find("mfres.format_version");
    if (version != strings.end() && version->second != format_version)
        return invalid(version->first, text("'", printable(version->second), "' is not the version that is read here, ",
                                            format_version));
    MFRES_CHECK(reader.check_keys());
    ModelMetadata metadata;
    metadata.variant_json = reader.at("mfres.variant");
    MFRES_TRY(metadata.modalities, reader.modalities());
    MFRES_TRY(metadata.normalisation, reader.normalisation());
    MFRES_TRY(metadata.modality_subsets, reader.subsets());
    MFRES_TRY(metadata.postprocessing.min_component_mm3, reader.size(min_component_key));
    MFRES_TRY(metadata.postprocessing.min_enhancing_mm3, reader.size(min_enhancing_key));
    MFRES_TRY(metadata.postprocessing.min_enhancing_share, reader.share(min_share_key));
    MFRES_TRY(metadata.label_scheme, reader.choice("mfres.label_scheme", known_label_schemes));
    MFRES_TRY(metadata.voxel_min_mm, reader.positive("mfres.voxel_min_mm", "millimetres"));
    MFRES_TRY(metadata.voxel_max_mm, reader.positive("mfres.voxel_max_mm", "millimetres"));
    if (metadata.voxel_min_mm > metadata.voxel_max_mm)
        return invalid("mfres.voxel_min_mm",
                       text(metadata.voxel_min_mm, " mm is more than voxel_max_mm, ", metadata.voxel_max_mm));
    if (reader.has(brain_min_key)) {
        MFRES_TRY(metadata.brain_min_ml, reader.positive(brain_min_key, "millilitres"));
        MFRES_TRY(metadata.brain_max_ml, reader.positive(brain_max_key, "millilitres"));
        if (metadata.brain_min_ml > metadata.brain_max_ml)
            return invalid(brain_min_key,
                           text(metadata.brain_min_ml, " ml is more than brain_max_ml, ", metadata.brain_max_ml));
    }
    MFRES_TRY(metadata.recipe_json, reader.recipe());
    MFRES_TRY(metadata.weights_sha256, reader.hash());
    MFRES_TRY(metadata.created_by, reader.created_by());
    if (const auto found = strings.find(quantization_key); found != strings.end()) {
        MFRES_TRY(metadata.quantization, quantization_from_json(found->second));
    }
    return metadata;
}

MetadataStrings metadata_to_strings(const ModelMetadata& metadata) {
    std::string channels;
    for (const std::string& modality : metadata.modalities)
        channels.append(channels.empty() ? "" : ",").append(modality);
    MetadataStrings strings = {{"mfres.format_version", metadata.format_version},
                               {"mfres.variant", metadata.variant_json},
                               {"mfres.modalities", channels},
                               {"mfres.normalisation", std::string(to_string(metadata.normalisation))},
                               {"mfres.label_scheme", metadata.label_scheme},
                               {"mfres.voxel_min_mm", decimal(metadata.voxel_min_mm)},
                               {"mfres.voxel_max_mm", decimal(metadata.voxel_max_mm)},
                               {"mfres.recipe", metadata.recipe_json},
                               {"mfres.weights_sha256", metadata.weights_sha256},
                               {"mfres.created_by", metadata.created_by}};
    if (!metadata.quantization.ranges.empty())
        strings.emplace(quantization_key, to_json(metadata.quantization));
    if (metadata.brain_min_ml != ModelMetadata::default_brain_min_ml ||
        metadata.brain_max_ml != ModelMetadata::default_brain_max_ml) {
        strings.emplace(brain_min_key, decimal(metadata.brain_min_ml));
        strings.emplace(brain_max_key, decimal(metadata.brain_max_ml));
    }
    std::string subsets;
    for (const ModalitySet& set : metadata.modality_subsets)
        subsets.append(subsets.empty() ? "" : ";").append(names(set));
    if (!subsets.empty())
        strings.emplace(subsets_key, subsets);
    for (const auto& [key, size] : {std::pair{min_component_key, metadata.postprocessing.min_component_mm3},
                                    std::pair{min_enhancing_key, metadata.postprocessing.min_enhancing_mm3},
                                    std::pair{min_share_key, metadata.postprocessing.min_enhancing_share}})
        if (size != 0.0)
            strings.emplace(key, decimal(size));
    return strings;
}

std::vector<ModalitySet> dropout_subsets() {
    std::vector<ModalitySet> all;
    for (unsigned bits = 1; bits < 15; ++bits) {
        ModalitySet set{};
        for (std::size_t m = 0; m < set.size(); ++m)
            set[m] = (bits >> m & 1U) != 0;
        if (set[static_cast<std::size_t>(Modality::t1ce)] || set[static_cast<std::size_t>(Modality::flair)])
            all.push_back(set);
    }
    return all;
}

Result<std::vector<ModalitySet>> parse_subsets(std::string_view words) {
    std::vector<ModalitySet> all;
    if (words == "none")
        return all;
    if (words == "all")
        return dropout_subsets();
    for (const std::string_view list : split(words, ';')) {
        const auto set = Reader::modality_set(list);
        if (!set)
            return Error{ErrorCode::invalid_argument,
                         text("'", printable(std::string(list)), "' is not a list of contrasts (",
                              listed(known_modalities),
                              "), each at most once; subsets are none, all, or e.g. t1ce,t2,flair;t1ce,flair"),
                         std::string(list)};
        if (*set == all_modalities || std::find(all.begin(), all.end(), *set) != all.end())
            return Error{ErrorCode::invalid_argument,
                         text("subset '", printable(std::string(list)), "' is ",
                              *set == all_modalities ? "all contrasts, which every model accepts" : "there twice"),
                         std::string(list)};
        all.push_back(*set);
    }
    return all;
}

Status check_channels(const ModelMetadata& metadata, const Variant& variant) {
    if (static_cast<std::int64_t>(metadata.modalities.size()) == variant.input_channels())
        return {};
    return invalid("mfres.modalities", text(metadata.modalities.size(), " are listed, the network ", variant.name(),
                                            " has ", variant.input_channels(), " input channels"));
}

} // namespace mfres
