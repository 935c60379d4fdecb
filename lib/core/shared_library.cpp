// SPDX-License-Identifier: MIT
#include "core/shared_library.h"

#include "core/try.h"

#include <dlfcn.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif

#include <system_error>

namespace mfres {

#ifndef MFRES_OPENS_NO_LIBRARIES

Result<SharedLibrary> SharedLibrary::open(const std::string& file) {
    if (void* const handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL))
        return SharedLibrary(handle);
    const char* const reason = ::dlerror();
    return Error{ErrorCode::backend_unavailable,
                 text("cannot load ", file, ": ", reason != nullptr ? reason : "the system gives no reason"), file};
}

void SharedLibrary::close() {
    ::dlclose(handle_);
}

void* SharedLibrary::address(const char* name) const {
    return ::dlsym(handle_, name);
}

#else // a static program cannot open libraries

Result<SharedLibrary> SharedLibrary::open(const std::string& file) {
    return Error{ErrorCode::backend_unavailable, text("cannot load ", file, ": this build of mfres loads no libraries"),
                 file};
}

void SharedLibrary::close() {}

void* SharedLibrary::address(const char*) const {
    return nullptr;
}

#endif

std::filesystem::path own_folder() {
    Dl_info found{};
    if (::dladdr(reinterpret_cast<const void*>(&own_folder), &found) == 0 || found.dli_fname == nullptr)
        return {};
    const std::filesystem::path file = found.dli_fname;
    if (!file.has_parent_path()) // of a program this is the name that it was called by
        return program_folder();
    std::error_code ignored;
    return std::filesystem::absolute(file, ignored).parent_path();
}

std::filesystem::path program_folder() {
    std::error_code ignored;
    auto file = std::filesystem::read_symlink("/proc/self/exe", ignored);
#ifdef __linux__
    if (file.empty()) // there is no /proc in some containers
        if (const auto* const called = reinterpret_cast<const char*>(::getauxval(AT_EXECFN)))
            file = std::filesystem::weakly_canonical(called, ignored);
#endif
    return file.parent_path();
}

} // namespace mfres
