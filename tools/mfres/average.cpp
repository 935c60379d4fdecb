// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "option_groups.h"

#include <mfres/trainer.h>

#include "core/format.h"
#include "core/try.h"

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
    "  mfres average fine1/model.safetensors fine2/model.safetensors --out mean.safetensors --dtype f16\n";

} // namespace

int average(const std::vector<std::string>& arguments) {
    Options options("average MODEL|CHECKPOINT ... --out FILE", about, examples);
    // clang-format off
    options.add()
        ("models", po::value<std::vector<std::string>>()->multitoken(), "model files, names of weights that come with mfres, or checkpoints, at least two; also without the option's name")
        ("out,o", po::value<std::string>()->required(), "model file to write (.safetensors)")
        ("dtype", po::value<std::string>()->default_value("f32"), "of convolution weights: f32, or f16 or bf16 in half the size");
    // clang-format on
    add_output_options(options);
    options.positional("models", -1);
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    const std::vector<std::filesystem::path> sources = options.paths("models");
    if (sources.size() < 2)
        return usage_error("an average takes at least two models or checkpoints");
    const auto out = options.get<std::string>("out");
    if (const auto named = check_ending("out", out, {".safetensors"}); !named)
        return fail(named.error(), json);
    const auto dtype = parse_weight_dtype(options.get<std::string>("dtype"));
    if (!dtype)
        return fail(dtype.error(), json);
    const auto written = average_models(sources, out, options.has("force"), *dtype);
    if (!written)
        return fail(written.error(), json);
    confirm(options, {{"model", out}, {"network", written->network}, {"models", written->models}},
            text(out, ": ", written->network, ", mean of ", counted(written->models, "model")));
    return exit_ok;
}

} // namespace mfres::cli
