// SPDX-License-Identifier: MIT
// One program for all targets: mfres_fuzz --target=NAME [libFuzzer's options] [folders of inputs]
// libFuzzer ignores options with two dashes. --list prints the names of the targets.
#include "fuzz/targets.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

const mfres::fuzz::Target* chosen = nullptr;

} // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    constexpr std::string_view option = "--target=";
    std::string_view wanted;
    for (int i = 1; i < *argc; ++i) {
        const std::string_view argument = (*argv)[i];
        if (argument == "--list") {
            for (const auto& target : mfres::fuzz::targets())
                std::printf("%s\n", target.name.data());
            std::exit(0);
        }
        if (argument.starts_with(option))
            wanted = argument.substr(option.size());
    }
    for (const auto& target : mfres::fuzz::targets())
        if (target.name == wanted)
            chosen = &target;
    if (chosen == nullptr) {
        std::fprintf(stderr, "mfres_fuzz --target=NAME [options] [folders]; --list prints the names\n");
        std::exit(2);
    }
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    chosen->run(std::as_bytes(std::span(data, size)));
    return 0;
}
