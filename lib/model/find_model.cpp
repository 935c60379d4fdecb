// SPDX-License-Identifier: MIT
// Where the weights lie that come with mfres.
#include "model/find_model.h"

#include "core/guard.h"
#include "core/installation.h"
#include "core/try.h"

#include <mfres/predictor.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <vector>

namespace mfres {

namespace {

namespace fs = std::filesystem;

/// Where weights are looked for, in this order.
std::vector<fs::path> model_folders() {
    return installed_folders({"MFRES_MODELS", MFRES_MODELS_FROM_BIN, MFRES_MODELS_FROM_LIB, MFRES_MODELS_FROM_BUILD});
}

Result<fs::path> model_file(const fs::path& model) {
    std::error_code ignored;
    const bool is_name = !model.empty() && !model.has_parent_path() && !model.has_extension();
    if (!is_name || fs::exists(model, ignored))
        return model;
    const std::string file = model.string() + ".safetensors";
    std::string tried;
    for (const fs::path& folder : model_folders()) {
        fs::path path = folder / file;
        if (fs::is_regular_file(path, ignored))
            return path;
        tried += (tried.empty() ? "" : ", ") + path.string();
    }
    std::string present;
    for (const fs::path& shipped : shipped_models())
        present += (present.empty() ? "" : ", ") + shipped.stem().string();
    const std::string known = present.empty() ? text("looked for ", tried, "; name a model file instead")
                                              : text("there are ", present, "; name one of them, or a model file");
    return Error{ErrorCode::file_not_found, text("no weights called ", model.string(), " come with mfres: ", known),
                 model.string()};
}

} // namespace

std::vector<fs::path> shipped_models() {
    std::error_code ignored;
    std::vector<fs::path> files;
    for (const fs::path& folder : model_folders()) {
        for (fs::directory_iterator entry(folder, ignored), end; entry != end; entry.increment(ignored))
            if (entry->path().extension() == ".safetensors")
                files.push_back(entry->path());
        if (!files.empty())
            break;
    }
    std::sort(files.begin(), files.end());
    return files;
}

Result<Model> load_named_model(const fs::path& model) {
    MFRES_TRY(const fs::path file, find_model(model));
    return load_model(file);
}

Result<fs::path> find_model(const fs::path& model) {
    return guarded(model, [&] { return model_file(model); });
}

} // namespace mfres
