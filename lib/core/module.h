// SPDX-License-Identifier: MIT
// Modules: parts of mfres that need large libraries of others, each in a shared library of its own, libmfres_<name>.so.
// It is opened when the part is used for the first time, so that nobody else loads those libraries. A module has its own
// copy of what it needs of mfres and exports two functions; module and library must be of one build.
#pragma once

#include "core/shared_library.h"

#include <mfres/export.h>

#include <string_view>

namespace mfres {

/// The file of a module, e.g. "libmfres_opencv.so".
std::string module_file(std::string_view name);

/// What the module provides: the table that its MFRES_MODULE names. It is looked for in the folder that the environment
/// variable MFRES_MODULES names, in those of the installation and of the build tree (found from the program, or from the
/// shared library that this function is in), beside the program, and where the system looks for libraries.
/// Errors: backend_unavailable (not found, with the places; cannot be loaded; another build).
Result<const void*> open_module(std::string_view name);

/// The same with the table's type, which is the caller's to know.
template <typename Table>
Result<const Table*> open_module_as(std::string_view name) {
    auto table = open_module(name);
    if (!table)
        return std::move(table).error();
    return static_cast<const Table*>(*table);
}

} // namespace mfres

/// What a module and the library that opens it must have in common.
#define MFRES_MODULE_BUILD MFRES_VERSION " " __VERSION__

/// In one source file of a module, outside of namespaces: makes `table`, a constant, what open_module gives.
#define MFRES_MODULE(table)                                                                                            \
    extern "C" {                                                                                                       \
    MFRES_EXPORT const char* mfres_module_build() {                                                                    \
        return MFRES_MODULE_BUILD;                                                                                     \
    }                                                                                                                  \
    MFRES_EXPORT const void* mfres_module_table() {                                                                    \
        return &(table);                                                                                               \
    }                                                                                                                  \
    }
