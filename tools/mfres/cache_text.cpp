// SPDX-License-Identifier: MIT
#include "cache_text.h"

#include "core/json_value.h"
#include "core/try.h"

#include <algorithm>
#include <cstdio>
#include <iostream>

namespace mfres::cli {

namespace {

Json to_json(const CacheEntry& entry) {
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

} // namespace

void print_cache(const std::filesystem::path& path, const Cache& cache, bool json) {
    std::error_code ignored;
    const std::uintmax_t bytes = std::filesystem::file_size(path, ignored);
    if (json) {
        Json cases = Json::array();
        for (const auto& entry : cache.entries())
            cases.push_back(to_json(entry));
        const Json object = {{"file", path.string()},
                             {"bytes", bytes},
                             {"fingerprint", cache.fingerprint()},
                             {"cases", std::move(cases)}};
        std::cout << object.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
        return;
    }
    print_table(cache.entries());
    std::printf("%zu cases, %.1f MiB, fingerprint %s\n", cache.entries().size(),
                static_cast<double>(bytes) / (1024.0 * 1024.0), cache.fingerprint().c_str());
}

Result<std::shared_ptr<const Cache>> checked_cache(const std::filesystem::path& path, ProgressDisplay& display) {
    MFRES_TRY(auto cache, Cache::open(path));
    cache->keep_at_most(0); // every case is looked at once
    const std::size_t cases = cache->entries().size();
    for (std::size_t i = 0; i < cases; ++i) {
        if (!display.update("checking", static_cast<double>(i) / static_cast<double>(cases)))
            return Error{ErrorCode::interrupted, text("stopped after ", i, " of ", cases, " cases"), path.string()};
        MFRES_CHECK(cache->load(i));
    }
    return cache;
}

} // namespace mfres::cli
