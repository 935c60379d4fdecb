// SPDX-License-Identifier: MIT
#include "cli.h"

#include <mfres/trainer.h>

#include <nlohmann/json.hpp>

#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Writes the mean of the weights of several models of the same network: the last checkpoints of a run, or runs that\n"
    "started from the same weights. BatchNorm's statistics are averaged like all other parameters. Of a checkpoint (.ckpt)\n"
    "it takes what an export would: the moving average where there is one. Models that were trained apart from different\n"
    "first weights are not near enough for their mean to be one.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres average run/last.ckpt run/previous.ckpt run/best.ckpt --out mean.safetensors\n"
    "  mfres average fine1/model.safetensors fine2/model.safetensors --out mean.safetensors --store f16\n";

} // namespace

int average(const std::vector<std::string>& arguments) {
    Options options("average MODEL|CHECKPOINT ... --out FILE", about, examples);
    // clang-format off
    options.add()
        ("models", po::value<std::vector<std::string>>()->multitoken(), "model files or checkpoints, at least two; also without the option's name")
        ("out,o", po::value<std::string>()->required(), "model file to write (.safetensors)")
        ("store", po::value<std::string>()->default_value("f32"), "f32, or f16 or bf16 in half the size")
        ("force", "overwrite an existing file")
        ("json", "print what was written as JSON to stdout")
        ("quiet,q", "print nothing but errors");
    // clang-format on
    options.positional("models", -1);
    if (const auto done = options.parse(arguments))
        return *done;
    std::vector<std::filesystem::path> sources;
    if (options.has("models"))
        for (const std::string& given : options.get<std::vector<std::string>>("models"))
            sources.emplace_back(given);
    if (sources.size() < 2)
        return usage_error("an average takes at least two models or checkpoints");
    const auto out = options.get<std::string>("out");
    const auto written = average_models(sources, out, options.has("force"), options.get<std::string>("store"));
    if (!written)
        return fail(written.error(), options.has("json"));
    if (options.has("json"))
        std::cout << nlohmann::json{{"model", out}, {"network", written->network}, {"models", written->models}}.dump(2)
                  << '\n';
    else if (!options.has("quiet"))
        std::cout << out << ": " << written->network << ", mean of " << written->models << " models\n";
    return exit_ok;
}

} // namespace mfres::cli
