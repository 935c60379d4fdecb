// SPDX-License-Identifier: MIT
// Where the weights lie that come with mfres.
#include <mfres/predictor.h>

#include "core/guard.h"
#include "core/installation.h"

#include <string>
#include <system_error>
#include <vector>

namespace mfres {

namespace {

namespace fs = std::filesystem;

Result<fs::path> model_file(const fs::path& model) {
    std::error_code ignored;
    const bool is_name = !model.empty() && !model.has_parent_path() && !model.has_extension();
    if (!is_name || fs::exists(model, ignored))
        return model;
    const std::string file = model.string() + ".safetensors";
    const std::vector<fs::path> folders =
        installed_folders({"MFRES_MODELS", MFRES_MODELS_FROM_BIN, MFRES_MODELS_FROM_LIB, MFRES_MODELS_FROM_BUILD});
    std::string tried;
    for (const fs::path& folder : folders) {
        fs::path path = folder / file;
        if (fs::is_regular_file(path, ignored))
            return path;
        tried += (tried.empty() ? "" : ", ") + path.string();
    }
    return Error{ErrorCode::file_not_found,
                 text("no weights called ", model.string(), " come with mfres (looked for ", tried,
                      "); name a model file instead"),
                 model.string()};
}

} // namespace

Result<fs::path> find_model(const fs::path& model) {
    return guarded(model, [&] { return model_file(model); });
}

} // namespace mfres
