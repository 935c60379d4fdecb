// SPDX-License-Identifier: MIT
#include "core/module.h"
#include "support/catch.h"
#include "support/paths.h"

#include <cstdlib>
#include <fstream>

using namespace mfres;

namespace {

/// Sets MFRES_MODULES while it lives.
class ModulesIn {
  public:
    explicit ModulesIn(const std::filesystem::path& folder) { ::setenv("MFRES_MODULES", folder.c_str(), 1); }
    ModulesIn(const ModulesIn&) = delete;
    ModulesIn& operator=(const ModulesIn&) = delete;
    ~ModulesIn() { ::unsetenv("MFRES_MODULES"); }
};

bool has(const Error& error, const std::string& words) {
    return error.message.find(words) != std::string::npos;
}

} // namespace

TEST_CASE("a module that is missing is named with the places") {
    const test::TemporaryFolder folder;
    const ModulesIn modules(folder.path());
    const auto found = open_module("absent");
    REQUIRE_CODE(found, backend_unavailable);
    INFO(found.error().message);
    CHECK(has(found.error(), "libmfres_absent.so was not found"));
    CHECK(has(found.error(), folder.path().string()));
    CHECK(has(found.error(), "MFRES_MODULES"));
}

TEST_CASE("a file that is no shared library, and one that is no module, are rejected") {
    const test::TemporaryFolder folder;
    const ModulesIn modules(folder.path());
    std::ofstream(folder / "libmfres_damaged.so") << "no library";
    const auto damaged = open_module("damaged");
    REQUIRE_CODE(damaged, backend_unavailable);
    CHECK(has(damaged.error(), "cannot load " + (folder / "libmfres_damaged.so").string()));

    const auto zlib = SharedLibrary::open("libz.so.1");
    REQUIRE_OK(zlib); // mfres itself uses it
    const char* (*version)() = nullptr;
    REQUIRE(zlib->find("zlibVersion", version));
    CHECK(std::string(version()).starts_with("1."));
    CHECK_FALSE(zlib->find("no_such_function", version));
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);)
        if (const std::size_t path = line.find('/'); path != line.npos && line.find("libz.so") != line.npos) {
            std::filesystem::copy_file(line.substr(path), folder / "libmfres_other.so");
            const auto other = open_module("other");
            REQUIRE_CODE(other, backend_unavailable);
            CHECK(has(other.error(), "is not a module of mfres"));
            return;
        }
    std::printf("SKIPPED: the system does not tell where libz.so.1 lies\n");
}
