// SPDX-License-Identifier: MIT
// Shared libraries that are opened while the program runs.
#pragma once

#include <mfres/status.h>

#include <filesystem>
#include <string>

namespace mfres {

/// The functions of an open shared library. It stays open to the end of the process unless close() is called.
class SharedLibrary {
  public:
    /// Opens a file by its path, or by its name where the system looks for libraries. Its symbols are not seen by other
    /// libraries. Error: backend_unavailable (the system's words; `where` is `file`).
    static Result<SharedLibrary> open(const std::string& file);

    /// Sets `function` to the function of that name; false if the library has none.
    template <typename Function>
    bool find(const char* name, Function*& function) const {
        function = reinterpret_cast<Function*>(address(name));
        return function != nullptr;
    }

    /// Closes the library, which none of its functions may be used after.
    void close();

  private:
    explicit SharedLibrary(void* handle) : handle_(handle) {}
    void* address(const char* name) const;

    [[maybe_unused]] void* handle_;
};

/// The folder of the file, program or shared library, that holds the code of this library; empty where the system does
/// not tell.
std::filesystem::path own_folder();

/// The folder of the running program; empty where the system does not tell.
std::filesystem::path program_folder();

} // namespace mfres
