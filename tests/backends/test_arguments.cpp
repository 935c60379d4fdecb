// SPDX-License-Identifier: MIT
// Arguments are checked once, for all backends: each rejects the same values with the same error.
#include "support/catch.h"
#include "support/check_arguments.h"

#include <algorithm>

using namespace mfres;

TEST_CASE("every backend rejects the same options, graphs, weights and labels") {
    for (const Backend* backend : test::usable_backends()) {
        INFO(backend->name());
        test::check_rejected_arguments(*backend);
    }
}

TEST_CASE("every backend that trains rejects the same classes and optimiser steps, and changes nothing") {
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        test::check_rejected_training_arguments(*backend);
    }
}

TEST_CASE("the registry lists every known backend in the order of those in this build") {
    const auto known = known_backends();
    auto next = known.begin();
    for (const Backend* backend : backends()) {
        INFO(backend->name());
        next = std::find(next, known.end(), backend->name());
        REQUIRE(next != known.end());
    }
    for (const std::string_view name : known) {
        INFO(name);
        if (const auto found = find_backend(name); !found)
            REQUIRE_CODE(found, backend_unavailable);
    }
    REQUIRE_CODE(find_backend("no such backend"), backend_unknown);
}
