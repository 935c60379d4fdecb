// SPDX-License-Identifier: MIT
#include "core/shared_library.h"

#include "core/try.h"

// platform_posix.cpp and platform_windows.cpp have the rest.
#ifdef MFRES_OPENS_NO_LIBRARIES // a static program cannot

namespace mfres {

Result<SharedLibrary> SharedLibrary::open(const std::string& file) {
    return Error{ErrorCode::backend_unavailable, text("cannot load ", file, ": this build of mfres loads no libraries"),
                 file};
}

void SharedLibrary::close() {}

void* SharedLibrary::address(const char*) const {
    return nullptr;
}

} // namespace mfres

#endif
