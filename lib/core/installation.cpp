// SPDX-License-Identifier: MIT
#include "core/installation.h"

#include "core/shared_library.h"

#include <cstdlib>

namespace mfres {

std::vector<std::filesystem::path> installed_folders(const FolderPlaces& places) {
    std::vector<std::filesystem::path> folders;
    if (const char* named = std::getenv(places.variable))
        folders.emplace_back(named);
    const auto add = [&](const std::filesystem::path& base, const char* way) {
        if (!base.empty())
            folders.push_back((base / way).lexically_normal());
    };
    const std::filesystem::path program = program_folder();
    add(program, places.from_bin);
    add(program, places.from_build);
    add(own_folder(), places.from_lib);
    return folders;
}

} // namespace mfres
