// SPDX-License-Identifier: MIT
#include "core/module.h"

#include "core/installation.h"
#include "core/try.h"

#include <system_error>

namespace mfres {

namespace {

namespace fs = std::filesystem;

/// The table of an open module.
Result<const void*> table_of(const SharedLibrary& library, const std::string& file) {
    const char* (*build)() = nullptr;
    const void* (*table)() = nullptr;
    if (!library.find("mfres_module_build", build) || !library.find("mfres_module_table", table))
        return Error{ErrorCode::backend_unavailable, text(file, " is not a module of mfres"), file};
    if (std::string_view(build()) != MFRES_MODULE_BUILD)
        return Error{ErrorCode::backend_unavailable,
                     text(file, " is of another build of mfres (", build(), ") than the program (", MFRES_MODULE_BUILD,
                          "); install both from one build"),
                     file};
    return table();
}

} // namespace

std::string module_file(std::string_view name) {
    return text("libmfres_", name, ".so");
}

Result<const void*> open_module(std::string_view name) {
    const std::string file = module_file(name);
    std::vector<fs::path> folders =
        installed_folders({"MFRES_MODULES", MFRES_MODULES_FROM_BIN, MFRES_MODULES_FROM_LIB, MFRES_MODULES_FROM_BUILD});
    if (const fs::path beside = program_folder(); !beside.empty())
        folders.push_back(beside);
    std::error_code ignored;
    std::string tried;
    for (const fs::path& folder : folders) {
        const std::string path = (folder / file).string();
        if (fs::exists(path, ignored)) {
            MFRES_TRY(const SharedLibrary library, SharedLibrary::open(path));
            return table_of(library, path);
        }
        tried += (tried.empty() ? "" : ", ") + folder.string();
    }
    const auto library = SharedLibrary::open(file);
    if (!library)
        return Error{
            ErrorCode::backend_unavailable,
            text(file, " was not found (looked in ", tried,
                 ", and where the system looks for libraries); install it, or set MFRES_MODULES to its folder"),
            file};
    return table_of(*library, file);
}

} // namespace mfres
