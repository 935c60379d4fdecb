// SPDX-License-Identifier: MIT
#include "imaging/case_names.h"

#include "core/file.h"
#include "core/json.h"
#include "core/try.h"
#include "imaging/case.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <span>
#include <system_error>

namespace mfres {

namespace {

namespace fs = std::filesystem;

struct Word {
    std::string_view text;
    std::size_t slot; ///< index into mfres::modalities, or segmentation_slot
};

/// Words for what a file holds, in names of any kind.
constexpr std::array<Word, 23> last_words = {{{"t1", 0},
                                              {"t1n", 0},
                                              {"t1w", 0},
                                              {"t1ce", 1},
                                              {"t1c", 1},
                                              {"t1gd", 1},
                                              {"t1wgd", 1},
                                              {"t1wce", 1},
                                              {"t1post", 1},
                                              {"t1cew", 1},
                                              {"t1km", 1},
                                              {"t2", 2},
                                              {"t2w", 2},
                                              {"flair", 3},
                                              {"t2f", 3},
                                              {"t2flair", 3},
                                              {"seg", segmentation_slot},
                                              {"segm", segmentation_slot},
                                              {"dseg", segmentation_slot},
                                              {"label", segmentation_slot},
                                              {"labels", segmentation_slot},
                                              {"segmentation", segmentation_slot},
                                              {"glistrboost", segmentation_slot}}};

std::optional<std::size_t> slot_of_word(std::string_view word) {
    const auto found =
        std::find_if(last_words.begin(), last_words.end(), [&](const Word& one) { return one.text == word; });
    return found != last_words.end() ? std::optional(found->slot) : std::nullopt;
}

std::string lower(std::string words) {
    std::transform(words.begin(), words.end(), words.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return words;
}

/// The name in lower case without the ending of its type; nothing for a file of no such type, or a hidden one.
std::optional<std::string> image_stem(const fs::path& file) {
    std::string name = lower(file.filename().string());
    if (name.starts_with('.'))
        return std::nullopt;
    for (const std::string_view type : {".nii.gz", ".nii", ".hdr.gz", ".hdr"})
        if (name.ends_with(type)) {
            name.resize(name.size() - type.size());
            return name;
        }
    return std::nullopt;
}

std::string name_of(const fs::path& folder) {
    return folder.filename().string();
}

fs::path full_path(const fs::path& folder) {
    std::error_code ignored;
    const fs::path full = fs::absolute(folder, ignored).lexically_normal();
    return full.has_filename() ? full : full.parent_path();
}

/// The dataset.json of a folder of nnU-Net, beside its files or above them; empty if there is none.
fs::path dataset_file(const fs::path& folder) {
    std::error_code ignored;
    for (const fs::path& place : {full_path(folder), full_path(folder).parent_path()})
        if (fs::is_regular_file(place / "dataset.json", ignored))
            return place / "dataset.json";
    return {};
}

Error no_channels(const fs::path& folder, std::string why) {
    return {
        ErrorCode::modality_missing,
        text("the files of ", folder.string(), " are numbered as nnU-Net does it (_0000, _0001, ...), and ",
             std::move(why),
             "; it has to name the contrasts, e.g. \"channel_names\": {\"0\": \"T1\", \"1\": \"T1ce\", \"2\": \"T2\", "
             "\"3\": \"FLAIR\"}"),
        folder.string()};
}

/// "T1-Gd", "t1 ce" -> "t1gd", "t1ce".
std::optional<std::size_t> slot_of_channel(const std::string& name) {
    std::string word;
    for (const char c : lower(name))
        if (std::isalnum(static_cast<unsigned char>(c)) != 0)
            word += c;
    const auto slot = slot_of_word(word);
    return slot && *slot < modalities.size() ? slot : std::nullopt;
}

} // namespace

std::optional<std::size_t> slot_of_stem(std::string_view stem) {
    const std::size_t separator = stem.find_last_of("_-. ");
    const auto slot = slot_of_word(stem.substr(separator == std::string_view::npos ? 0 : separator + 1));
    const bool enhanced = stem.starts_with("ce-") || stem.find("_ce-") != std::string_view::npos;
    return slot && *slot == 0 && enhanced ? std::optional<std::size_t>(1) : slot;
}

std::optional<std::size_t> common_slot(const fs::path& file) {
    const auto stem = image_stem(file);
    if (!stem)
        return std::nullopt;
    const auto slot = slot_of_stem(*stem);
    const bool of_brain = stem->find("brain") != std::string::npos || stem->find("parenchyma") != std::string::npos;
    return slot && *slot == segmentation_slot && of_brain ? std::nullopt : slot;
}

std::optional<NumberedFile> numbered_file(const fs::path& file) {
    constexpr std::size_t digits = 4;
    const std::string name = file.filename().string();
    const auto stem = image_stem(file);
    if (!stem || stem->size() < digits + 2 || (*stem)[stem->size() - digits - 1] != '_')
        return std::nullopt;
    NumberedFile numbered{name.substr(0, stem->size() - digits - 1)};
    const char* const end = stem->data() + stem->size();
    const auto [rest, problem] = std::from_chars(end - digits, end, numbered.channel);
    return problem == std::errc() && rest == end ? std::optional(std::move(numbered)) : std::nullopt;
}

Result<std::map<std::size_t, std::size_t>> channels_of(const fs::path& folder) {
    const fs::path file = dataset_file(folder);
    if (file.empty())
        return no_channels(folder, "there is no dataset.json beside or above them");
    constexpr JsonLimits limits{std::size_t{16} << 20U, 16}; // before version 2 it lists every case
    MFRES_TRY(const auto bytes, read_file(file, limits.bytes));
    MFRES_TRY(const Json dataset,
              parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file.string(), limits));
    std::map<std::size_t, std::size_t> channels;
    for (const char* key : {"channel_names", "modality"}) {
        if (!dataset.is_object() || !dataset.contains(key) || !dataset[key].is_object())
            continue;
        for (const auto& [number, name] : dataset[key].items()) {
            std::size_t channel = 0;
            const char* const end = number.data() + number.size();
            const auto [rest, problem] = std::from_chars(number.data(), end, channel);
            const auto slot =
                name.is_string() ? slot_of_channel(name.get<std::string>()) : std::optional<std::size_t>();
            if (problem == std::errc() && rest == end && slot)
                channels.emplace(channel, *slot);
        }
        break;
    }
    if (channels.empty())
        return no_channels(folder, text(file.string(), " names no contrast"));
    return channels;
}

bool holds_numbered_labels(const fs::path& folder) {
    const fs::path full = full_path(folder);
    std::error_code ignored;
    return name_of(full).starts_with("labels") && fs::is_regular_file(full.parent_path() / "dataset.json", ignored);
}

Result<std::vector<CaseFiles>> numbered_cases(const fs::path& folder, const std::vector<fs::path>& files) {
    MFRES_TRY(const auto channels, channels_of(folder));
    std::map<std::string, CaseFiles> cases;
    for (const fs::path& file : files) {
        const auto numbered = numbered_file(file);
        const auto channel = numbered ? channels.find(numbered->channel) : channels.end();
        if (channel == channels.end())
            continue;
        CaseFiles& of = cases[numbered->id];
        of.id = numbered->id;
        of.modalities[channel->second] = file;
    }
    const fs::path full = full_path(folder);
    const std::string name = name_of(full);
    const fs::path labels =
        full.parent_path() / (name.starts_with("images") ? "labels" + name.substr(6) : std::string("labels"));
    std::vector<CaseFiles> found;
    for (auto& [id, of] : cases) {
        std::error_code ignored;
        for (const char* type : {".nii.gz", ".nii"})
            if (fs::is_regular_file(labels / (id + type), ignored))
                of.segmentation = labels / (id + type);
        found.push_back(std::move(of));
    }
    return found;
}

std::string case_id(const fs::path& folder) {
    fs::path full = full_path(folder);
    const std::string own = name_of(full);
    if (own == "anat")
        full = full.parent_path();
    const std::string inner = name_of(full);
    const std::string outer = name_of(full.parent_path());
    if (inner.starts_with("ses-") && outer.starts_with("sub-"))
        return outer + "_" + inner;
    return inner.starts_with("sub-") ? inner : own;
}

} // namespace mfres
