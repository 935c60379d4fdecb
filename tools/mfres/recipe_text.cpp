// SPDX-License-Identifier: MIT
#include "recipe_text.h"

#include "core/file.h"
#include "core/json.h"
#include "core/try.h"

namespace mfres::cli {

Result<std::string> recipe_text(const std::filesystem::path& file, const Json& changes) {
    Json recipe = Json::object();
    if (!file.empty()) {
        MFRES_TRY(const auto bytes, read_file(file, 1 << 20));
        const std::string content(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        if (changes.empty())
            return content; // its reader tells more about what is wrong than a parse here could
        auto parsed = parse_json(content, "recipe");
        if (!parsed)
            return Error{ErrorCode::recipe_invalid, text(file.string(), ": ", parsed.error().message), file.string()};
        if (!parsed->is_object())
            return Error{ErrorCode::recipe_invalid, text(file.string(), " is not a JSON object"), file.string()};
        recipe = std::move(parsed).value();
    }
    if (changes.contains("steps") != changes.contains("epochs"))
        recipe.erase(changes.contains("steps") ? "epochs" : "steps");
    recipe.update(changes);
    return recipe.dump();
}

} // namespace mfres::cli
