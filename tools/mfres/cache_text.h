// SPDX-License-Identifier: MIT
// What `cache` and `info` print of a training cache.
#pragma once

#include "cli.h"

#include "data/cache.h"

#include <filesystem>
#include <memory>

namespace mfres::cli {

/// A table of the cases, or a JSON object of them, with size and fingerprint.
void print_cache(const std::filesystem::path& path, const Cache& cache, bool json);

/// Opens a cache and reads every case. Errors: those of Cache::open and Cache::load; interrupted.
Result<std::shared_ptr<const Cache>> checked_cache(const std::filesystem::path& path, ProgressDisplay& display);

} // namespace mfres::cli
