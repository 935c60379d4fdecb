// SPDX-License-Identifier: MIT
// Where the weights lie that come with mfres.
#include "model/find_model.h"

#include "core/guard.h"

#include <mfres/predictor.h>

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <string>
#include <system_error>
#include <vector>

namespace mfres {

namespace {

namespace fs = std::filesystem;

/// The folder of the file, shared library or program, that holds this function; empty where the system does not tell.
fs::path own_folder() {
    Dl_info found{};
    if (dladdr(reinterpret_cast<const void*>(&own_folder), &found) == 0 || found.dli_fname == nullptr)
        return {};
    std::error_code ignored;
    return fs::absolute(found.dli_fname, ignored).parent_path();
}

/// Where weights are looked for, in this order.
std::vector<fs::path> model_folders() {
    std::error_code ignored;
    std::vector<fs::path> folders;
    if (const char* named = std::getenv("MFRES_MODELS"))
        folders.emplace_back(named);
    const auto beside = [&](const fs::path& folder, std::initializer_list<const char*> places) {
        if (!folder.empty())
            for (const char* relative : places)
                folders.push_back((folder / relative).lexically_normal());
    };
    // Relative to program and library, so that installed and built trees can be moved.
    beside(fs::read_symlink("/proc/self/exe", ignored).parent_path(), {MFRES_MODELS_FROM_BIN, MFRES_MODELS_FROM_BUILD});
    beside(own_folder(), {MFRES_MODELS_FROM_LIB});
    return folders;
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
    return Error{ErrorCode::file_not_found,
                 text("no weights called ", model.string(), " come with mfres (looked for ", tried,
                      "); name a model file instead"),
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

Result<fs::path> find_model(const fs::path& model) {
    return guarded(model, [&] { return model_file(model); });
}

} // namespace mfres
