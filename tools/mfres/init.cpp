// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "option_groups.h"

#include "core/file.h"
#include "core/try.h"
#include "model/model.h"

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Writes a model file with random weights (He et al. 2015); equal seeds give equal weights on every machine.\n"
    "The model is for tests: its labels have no meaning.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres init --network mf-res2net --seed 1 --out m.safetensors\n"
    "  mfres init --network '{\"network\": \"mf-res2net\", \"widths\": [16, 32, 64, 128]}' --out small.safetensors\n";

} // namespace

int init(const std::vector<std::string>& arguments) {
    Options options("init --network NAME|FILE.json --out FILE", about, examples);
    // clang-format off
    options.add()
        ("network,n", po::value<std::string>()->default_value("mf-res2net"), "a registered network, or a variant: a JSON file or JSON text")
        ("seed", po::value<std::uint64_t>()->default_value(1), "of the random weights")
        ("out,o", po::value<std::string>()->required(), "model file to write (.safetensors)");
    // clang-format on
    add_output_options(options);
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    const auto network = network_text(options.get<std::string>("network"));
    if (!network)
        return fail(network.error(), json);
    const auto variant = parse_variant(*network);
    if (!variant)
        return fail(variant.error(), json);
    if (const auto named = check_ending("out", options.get<std::string>("out"), {".safetensors"}); !named)
        return fail(named.error(), json);
    const std::uint64_t seed = options.get<std::uint64_t>("seed");
    auto model = init_model(*variant, seed);
    if (!model)
        return fail(model.error(), json);
    model->metadata.recipe_json = "{\"initialisation\":\"he-normal\",\"seed\":" + std::to_string(seed) + "}";
    const std::string out = options.get<std::string>("out");
    const auto written = save_model(out, *model, Dtype::f32, options.has("force"));
    if (!written)
        return fail(written.error(), json);
    confirm(options, {{"model", out}, {"network", variant->name()}, {"seed", seed}},
            text(out, ": ", variant->name(), ", random weights of seed ", seed));
    return exit_ok;
}

} // namespace mfres::cli
