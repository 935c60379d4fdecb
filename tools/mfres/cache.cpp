// SPDX-License-Identifier: MIT
#include "cache_text.h"
#include "option_groups.h"

#include "core/try.h"
#include "data/cache.h"

#include <mfres/case.h>

#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Makes a training cache: every labelled case of folders, cropped to its brain box and packed without loss into one\n"
    "checksummed file, about half the size of the images. Cases of other caches can be added: their blocks are copied\n"
    "as they are. Several sources are merged in the order of the case ids; a case that occurs twice is rejected.\n"
    "'mfres info FILE' shows what is in a cache and checks every block.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres cache --data MICCAI_BraTS_2019_Data_Training --out train.mfcache\n"
    "  mfres cache --data MICCAI_BraTS_2019_Data_Training --out small.mfcache --levels 64\n"
    "  mfres cache --data BraTS-Africa --data train.mfcache other.mfcache --out all.mfcache\n"
    "  mfres cache --data all.mfcache --cases 17 --out quarter.mfcache\n"
    "  mfres info train.mfcache\n";

Status make(const std::filesystem::path& path, const Options& options) {
    MFRES_TRY(const std::string labels, label_choice(options));
    std::vector<std::string> notes;
    MFRES_TRY(CaseSet cases, CaseSet::find(options.paths("data"), labels, notes));
    if (const int wanted = options.get<int>("cases"); wanted > 0)
        cases = cases.spread(static_cast<std::size_t>(wanted));
    if (!options.has("quiet"))
        for (const std::string& sentence : notes)
            std::cerr << sentence << '\n';
    ProgressDisplay display(options.has("quiet"));
    MFRES_TRY(const Normalisation normalisation, parse_normalisation(options.get<std::string>("normalisation")));
    MFRES_TRY(const AcceptedChecks accepted, accepted_checks(options));
    const CacheOptions request{options.get<int>("levels"), options.get<int>("threads"), options.has("force"),
                               normalisation, accepted};
    return write_cache(path, cases, request, [&](std::size_t done, std::size_t total) {
        if (done < total)
            display.set_label(text("[", done + 1, "/", total, "] ", cases.id(done)));
        return display.update("packing", static_cast<double>(done) / static_cast<double>(total));
    });
}

} // namespace

int cache(const std::vector<std::string>& arguments) {
    Options options("cache --data DIR|CACHE ... --out FILE", about, examples);
    const std::string ways =
        "of intensities: " + names_of(normalisations) + " (clipped at the 0.05 and 99.95 percentiles first)";
    // clang-format off
    options.add()
        ("data", po::value<std::vector<std::string>>()->multitoken()->required(), "folders of cases with their segmentations, and caches (.mfcache) to take cases from")
        ("out,o", po::value<std::string>()->required(), "cache file to write (.mfcache)")
        ("cases", po::value<int>()->default_value(0), "take so many of the cases, spread evenly over the order of their ids; 0 = all")
        ("levels", po::value<int>()->default_value(0), "round intensities of folders to this many steps, 2 to 256; 0 = without loss")
        ("normalisation", po::value<std::string>()->default_value("zscore-brain"), ways.c_str());
    // clang-format on
    add_label_options(options, "auto, for each folder");
    add_accept_option(options);
    add_threads_option(options);
    add_output_options(options);
    if (const auto done = options.parse(arguments))
        return *done;
    if (options.get<int>("cases") < 0)
        return usage_error("--cases must be 0 or more");
    watch_signals();
    const std::filesystem::path path = options.get<std::string>("out");
    const bool json = options.has("json");
    if (const auto named = check_ending("out", path, {".mfcache"}); !named)
        return fail(named.error(), json);
    if (const auto status = make(path, options); !status)
        return fail(status.error(), json);
    const auto made = Cache::open(path);
    if (!made)
        return fail(made.error(), json);
    if (json || !options.has("quiet"))
        print_cache(path, **made, json);
    return exit_ok;
}

} // namespace mfres::cli
