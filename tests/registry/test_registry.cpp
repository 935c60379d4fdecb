// SPDX-License-Identifier: MIT
// Backends from outside. A program of its own, because the tests of other programs run on every registered backend.
#include "backends/backend.h"
#include "support/catch.h"

#include <mfres/predictor.h>

#include <algorithm>

using namespace mfres;

namespace {

/// A backend that rejects every network.
class Rejecting final : public Backend {
  public:
    explicit Rejecting(std::string name) : name_(std::move(name)) {}
    std::string_view name() const override { return name_; }
    std::string description() const override { return "rejects everything"; }
    std::vector<Unsupported> unsupported(const Graph& graph, const CompileOptions&) const override {
        return {{graph.node(graph.input()).name, "nothing is supported"}};
    }

  protected:
    Result<std::unique_ptr<Executable>> make_executable(const Graph&, const Weights&,
                                                        const CompileOptions&) const override {
        return Error{ErrorCode::internal, "this is not called", {}};
    }

  private:
    std::string name_;
};

} // namespace

TEST_CASE("a backend from outside is one of the backends from then on") {
    static const Rejecting outside("rejecting");
    const std::string fastest(backends().front()->name());
    REQUIRE_OK(add_backend(outside));
    const auto found = find_backend("rejecting");
    REQUIRE_OK(found);
    CHECK(*found == &outside);
    CHECK(backends().back()->name() == "reference");
    CHECK(backends().front()->name() == (backends().size() == 2 ? "rejecting" : fastest));
    const auto infos = available_backends();
    CHECK(std::count_if(infos.begin(), infos.end(), [](const auto& info) { return info.name == "rejecting"; }) == 1);
    const auto info = backend_info("rejecting");
    REQUIRE_OK(info);
    CHECK(info->engine == "rejects everything");
    REQUIRE_CODE(backend_info("nobody"), backend_unknown);

    // A name stands for one backend.
    REQUIRE_CODE(add_backend(outside), invalid_argument);
}

TEST_CASE("a backend of another interface, or without a name of its own, is rejected") {
    const auto rejected = [](const std::string& name, int version) {
        const Rejecting backend(name);
        const std::size_t before = backends().size();
        const Status status = add_backend(backend, version);
        REQUIRE_CODE(status, invalid_argument);
        CHECK(backends().size() == before);
        return status.error().message;
    };
    CHECK(rejected("other", backend_interface_version + 1).find("headers of this library") != std::string::npos);
    CHECK(rejected("other", 0).find("version 0") != std::string::npos);
    for (const char* name : {"", "auto", "reference"})
        CHECK(rejected(name, backend_interface_version).find("'" + std::string(name) + "'") != std::string::npos);
}
