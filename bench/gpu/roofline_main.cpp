// SPDX-License-Identifier: MIT
// The roofline of a step as the cuda backend plans it, without a GPU and without CUDA; see roofline.h.
//
// usage: gpu_roofline MACHINE inference|training f32|bf16|fp16 [NETWORK [EDGE [BATCH]]] [--json]
// MACHINE: a name of `mfres probe --list`, or a file of `mfres probe`. NETWORK: a registered one or JSON (mf-res2net).
#include "core/try.h"
#include "gpu/roofline.h"
#include "networks/registry.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using namespace mfres;

namespace {

constexpr const char* usage =
    "usage: gpu_roofline MACHINE inference|training f32|bf16|fp16 [NETWORK [EDGE [BATCH]]] [--json]\n"
    "MACHINE: a name of `mfres probe --list`, or a file of `mfres probe`\n";

Result<std::string> rendered(const std::vector<std::string>& words, bool json) {
    const bool training = words[1] == "training";
    MFRES_TRY(const Machine machine, find_machine(words[0]));
    MFRES_TRY(const Precision precision, parse_precision(words[2]));
    MFRES_TRY(const auto variant, parse_variant(words.size() > 3 ? words[3] : "mf-res2net"));
    const std::int64_t edge = words.size() > 4 ? std::atoll(words[4].c_str()) : 128;
    const std::int64_t batch = words.size() > 5 ? std::atoll(words[5].c_str()) : training ? 2 : 1;
    MFRES_TRY(const Graph graph, build_network(variant, {edge, edge, edge}, batch));
    MFRES_TRY(const cuda::Roofline found, cuda::planned_roofline(graph, training, machine, precision));
    return json ? to_json(found) : text(training ? "training" : "inference", ", batch ", batch, ", ", to_text(found));
}

} // namespace

int main(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    const auto json = std::find(words.begin(), words.end(), "--json");
    const bool as_json = json != words.end();
    if (as_json)
        words.erase(json);
    if (words.size() < 3 || words.size() > 6 || (words[1] != "inference" && words[1] != "training")) {
        std::fputs(usage, stderr);
        return 2;
    }
    const Result<std::string> result = rendered(words, as_json);
    if (!result) {
        std::fprintf(stderr, "gpu_roofline: %s\n", result.error().message.c_str());
        return 1;
    }
    std::fputs(result->c_str(), stdout);
    return 0;
}
