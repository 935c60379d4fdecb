#include "cli.h"

#include "model/describe.h"

#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about = "Shows what is in a model file, or in any safetensors file: network, metadata, tensors, "
                              "and whether the weights are\n"
                              "those whose SHA-256 was recorded.";

constexpr const char* examples = "Examples:\n  mfres info m.safetensors\n  mfres info m.safetensors --json\n";

} // namespace

int info(const std::vector<std::string>& arguments) {
    Options options("info FILE", about, examples);
    options.add()("file", po::value<std::string>()->required(), "the file (also without --file)")("json",
                                                                                                  "print as JSON");
    options.positional("file");
    if (const auto done = options.parse(arguments))
        return *done;
    const auto description = describe(options.get<std::string>("file"));
    if (!description)
        return fail(description.error(), options.has("json"));
    std::cout << (options.has("json") ? info_json(*description) : info_text(*description));
    return description->refusal ? fail(*description->refusal) : exit_ok;
}

} // namespace mfres::cli
