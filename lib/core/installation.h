// SPDX-License-Identifier: MIT
// Where the files lie that come with mfres.
#pragma once

#include <filesystem>
#include <vector>

namespace mfres {

/// Relative ways from a file of mfres to a folder, so that installed and built trees can be moved.
struct FolderPlaces {
    const char* variable;   ///< of the environment: names the folder itself
    const char* from_bin;   ///< from the folder of the program
    const char* from_lib;   ///< from the folder of the shared library
    const char* from_build; ///< from the folder of a program in the build tree
};

/// The folders in the order in which they are to be looked at; they need not exist.
std::vector<std::filesystem::path> installed_folders(const FolderPlaces& places);

} // namespace mfres
