// SPDX-License-Identifier: MIT
#include "cli.h"

#include "core/try.h"
#include "data/cache.h"

#include <mfres/case.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Makes a training cache: every labelled case of folders, cropped to its brain box and packed without loss into "
    "one\n"
    "checksummed file, about half the size of the images. Cases of other caches can be added: their blocks are copied\n"
    "as they are. Several sources are merged in the order of the case ids; a case that occurs twice is rejected.\n"
    "--info shows what is in a cache and checks every block.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres cache --data MICCAI_BraTS_2019_Data_Training --out train.mfcache\n"
    "  mfres cache --data MICCAI_BraTS_2019_Data_Training --out small.mfcache --levels 64\n"
    "  mfres cache --data BraTS-Africa --data train.mfcache other.mfcache --out all.mfcache\n"
    "  mfres cache --info train.mfcache --json\n";

nlohmann::json to_json(const CacheEntry& entry) {
    return {{"case", entry.id}, {"box", entry.size}, {"class_voxels", entry.class_voxels}, {"bytes", entry.bytes}};
}

void print_table(const std::vector<CacheEntry>& entries) {
    std::size_t width = 4;
    for (const auto& entry : entries)
        width = std::max(width, entry.id.size());
    std::printf("%-*s  %-12s %12s %12s %12s %10s\n", static_cast<int>(width), "case", "box", "necrotic", "oedema",
                "enhancing", "KiB");
    for (const auto& entry : entries) {
        const std::string box = text(entry.size[0], "x", entry.size[1], "x", entry.size[2]);
        std::printf("%-*s  %-12s %12lld %12lld %12lld %10.0f\n", static_cast<int>(width), entry.id.c_str(), box.c_str(),
                    static_cast<long long>(entry.class_voxels[1]), static_cast<long long>(entry.class_voxels[2]),
                    static_cast<long long>(entry.class_voxels[3]), static_cast<double>(entry.bytes) / 1024.0);
    }
}

void print_cache(const std::filesystem::path& path, const Cache& cache, bool json) {
    std::error_code ignored;
    const std::uintmax_t bytes = std::filesystem::file_size(path, ignored);
    if (json) {
        nlohmann::json cases = nlohmann::json::array();
        for (const auto& entry : cache.entries())
            cases.push_back(to_json(entry));
        const nlohmann::json object = {{"file", path.string()},
                                       {"bytes", bytes},
                                       {"fingerprint", cache.fingerprint()},
                                       {"cases", std::move(cases)}};
        std::cout << object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
        return;
    }
    print_table(cache.entries());
    std::printf("%zu cases, %.1f MiB, fingerprint %s\n", cache.entries().size(),
                static_cast<double>(bytes) / (1024.0 * 1024.0), cache.fingerprint().c_str());
}

/// Opens a cache, reads every case, and prints what it holds.
int show(const std::filesystem::path& path, const Options& options) {
    const bool json = options.has("json");
    const auto cache = Cache::open(path);
    if (!cache)
        return fail(cache.error(), json);
    (*cache)->keep_at_most(0); // every case is looked at once
    const std::size_t cases = (*cache)->entries().size();
    ProgressDisplay display(options.has("quiet"));
    for (std::size_t i = 0; i < cases; ++i) {
        if (!display.update("checking", static_cast<double>(i) / static_cast<double>(cases))) {
            display.clear();
            return fail({ErrorCode::interrupted, text("stopped after ", i, " of ", cases, " cases"), path.string()},
                        json);
        }
        if (const auto loaded = (*cache)->load(i); !loaded) {
            display.clear();
            return fail(loaded.error(), json);
        }
    }
    display.clear();
    print_cache(path, **cache, json);
    return exit_ok;
}

Status make(const std::filesystem::path& path, const Options& options) {
    MFRES_TRY(const CaseSet cases, CaseSet::find(options.paths("data")));
    ProgressDisplay display(options.has("quiet"));
    MFRES_TRY(const Normalisation normalisation, parse_normalisation(options.get<std::string>("normalisation")));
    const CacheOptions request{options.get<int>("levels"), options.get<int>("threads"), options.has("force"),
                               normalisation};
    return write_cache(path, cases, request, [&](std::size_t done, std::size_t total) {
        if (done < total)
            display.set_label(text("[", done + 1, "/", total, "] ", cases.id(done)));
        return display.update("packing", static_cast<double>(done) / static_cast<double>(total));
    });
}

} // namespace

int cache(const std::vector<std::string>& arguments) {
    Options options("cache (--data DIR|CACHE ... --out FILE | --info FILE)", about, examples);
    options.add()("data", po::value<std::vector<std::string>>()->multitoken(),
                  "folders of cases with their segmentations, and caches (.mfcache) to take cases from")(
        "out,o", po::value<std::string>(), "cache file to write")("info", po::value<std::string>(),
                                                                  "cache file to show and check")(
        "levels", po::value<int>()->default_value(0),
        "round intensities of folders to this many steps, 2 to 256; 0 = without loss")(
        "normalisation", po::value<std::string>()->default_value("zscore-brain"),
        "zscore-brain, or zscore-brain-clipped: clipped at the 0.05 and 99.95 percentiles first")(
        "threads", po::value<int>()->default_value(0),
        "0 = all processors")("force", "overwrite an existing file")("json", "print as JSON")("quiet,q", "no progress");
    if (const auto done = options.parse(arguments))
        return *done;
    const bool making = options.has("data") && options.has("out");
    if (making == options.has("info") || options.has("data") != options.has("out"))
        return usage_error("say --data DIR and --out FILE to make a cache, or --info FILE to look at one");
    watch_signals();
    if (options.has("info"))
        return show(options.get<std::string>("info"), options);
    const std::filesystem::path path = options.get<std::string>("out");
    const bool json = options.has("json");
    if (const auto status = make(path, options); !status)
        return fail(status.error(), json);
    const auto made = Cache::open(path);
    if (!made)
        return fail(made.error(), json);
    print_cache(path, **made, json);
    return exit_ok;
}

} // namespace mfres::cli
