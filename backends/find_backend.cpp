// SPDX-License-Identifier: MIT
#include "backends/backend.h"
#include "core/try.h"

#include <algorithm>

namespace mfres {

namespace {

std::string available_names() {
    std::string names;
    for (const Backend* backend : backends())
        if (backend->available())
            names += (names.empty() ? "" : ", ") + std::string(backend->name());
    return names;
}

} // namespace

// A backend is asked whether it is available only where that matters: the answer may mean to load a large library.
Result<const Backend*> find_backend(std::string_view name) {
    for (const Backend* backend : backends()) {
        if (name == "auto" && backend->available())
            return backend;
        if (backend->name() != name)
            continue;
        MFRES_CHECK(backend->available());
        return backend;
    }
    const auto known = known_backends();
    if (std::find(known.begin(), known.end(), name) != known.end())
        return Error{ErrorCode::backend_unavailable,
                     text("backend ", name, " is not part of this build; available: ", available_names()),
                     std::string(name)};
    return Error{ErrorCode::backend_unknown, text("there is no backend '", name, "'; available: ", available_names()),
                 std::string(name)};
}

Result<const Backend*> find_backend(std::string_view name, const std::function<bool(const Backend&)>& suits) {
    MFRES_TRY(const Backend* const first, find_backend(name));
    if (name != "auto")
        return first;
    const auto all = backends();
    const auto found = std::find_if(all.begin(), all.end() - 1,
                                    [&](const Backend* backend) { return backend->available() && suits(*backend); });
    return found == all.end() - 1 ? first : *found;
}

} // namespace mfres
