// SPDX-License-Identifier: MIT
// Little address space, as `ulimit -v` leaves it: what an engine asks the system for is an error or is there.
#include "backends/backend.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/child.h"
#include "support/paths.h"

#include <mfres/predictor.h>

using namespace mfres;

TEST_CASE("with little address space a network runs or is an error, and never ends the process") {
    const auto backend = find_backend("onednn");
    if (!backend || !test::resident_memory_is_ours) {
        std::printf("SKIPPED: no onednn backend, or address space that cannot be limited\n");
        return;
    }
    const std::filesystem::path model =
        std::filesystem::path(MFRES_SOURCE_DIR) / "models" / "mf-res2net-quarter.safetensors";
    const Phantom& phantom = test::small_phantom();
    CaseVolumes volumes;
    volumes.id = "phantom";
    for (std::size_t m = 0; m < 4; ++m)
        volumes.volumes[m] = VolumeView::of(phantom.volumes[m]);
    PredictorOptions options;
    options.compute.backend = "onednn";
    options.compute.threads = 1;
    options.accept = {ErrorCode::brain_implausible};

    enum Outcome : int { labelled, no_memory, other_error, threw };
    const auto run = [&](std::uint64_t mebibytes) -> int {
        if (!test::limit_address_space(mebibytes << 20U))
            return other_error;
        try {
            auto predictor = Predictor::open(model, options);
            if (!predictor)
                return predictor.error().code == ErrorCode::memory_limit ? no_memory : other_error;
            const auto result = predictor->predict(volumes);
            return result ? labelled : result.error().code == ErrorCode::memory_limit ? no_memory : other_error;
        } catch (...) {
            return threw;
        }
    };
    std::array<int, 2> outcomes{};
    for (std::uint64_t mebibytes = 8; mebibytes <= 512; mebibytes += mebibytes < 128 ? 8 : 64) {
        const int code = test::exit_code_of(test::in_child([&] { return run(mebibytes); }));
        INFO(mebibytes << " MiB, exit code " << code);
        REQUIRE(code <= no_memory);
        ++outcomes[static_cast<std::size_t>(code)];
    }
    std::printf("%d runs labelled the case, %d were errors\n", outcomes[labelled], outcomes[no_memory]);
    CHECK(outcomes[labelled] > 0);
    CHECK(outcomes[no_memory] > 0);
}
