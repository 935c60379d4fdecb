// SPDX-License-Identifier: MIT
#include <mfres/dataset.h>

#include "core/guard.h"
#include "core/try.h"
#include "data/cache.h"
#include "data/split.h"

#include <utility>

namespace mfres {

namespace {

Result<SplitOptions> split_options(const DataSplitOptions& options) {
    SplitOptions wanted{options.data, options.validation, {}, {}};
    if (!options.fold.empty()) {
        MFRES_TRY(wanted.fold, parse_fold(options.fold));
    }
    if (!options.same_patient.empty()) {
        MFRES_TRY(wanted.patients, Patients::read(options.same_patient));
    }
    wanted.label_scheme = options.label_scheme;
    return wanted;
}

Result<DataSplit> split_of(const DataSplitOptions& options) {
    MFRES_TRY(const SplitOptions wanted, split_options(options));
    MFRES_TRY(Split split, find_split(wanted));
    DataSplit result{
        std::move(split.train), std::move(split.held_out), std::move(split.rule), {}, std::move(split.label_notes)};
    std::vector<std::string> ids = ids_of(result.train);
    for (std::string& id : ids_of(result.held_out))
        ids.push_back(std::move(id));
    if (std::string warning = wanted.patients.warning_about(ids); !warning.empty())
        result.warnings.push_back(std::move(warning));
    return result;
}

Result<std::string> fingerprint_of(const std::filesystem::path& cache) {
    MFRES_TRY(const auto opened, Cache::open(cache));
    return opened->fingerprint();
}

} // namespace

Result<DataSplit> split_cases(const DataSplitOptions& options) {
    return guarded("data", [&] { return split_of(options); });
}

Result<std::string> pack_cases(const std::filesystem::path& cache, const CaseSet& cases, const PackOptions& options,
                               const PackProgress& progress) {
    return guarded(cache, [&]() -> Result<std::string> {
        MFRES_CHECK(write_cache(cache, cases,
                                {.threads = options.threads,
                                 .overwrite = options.overwrite,
                                 .normalisation = options.normalisation,
                                 .accept = options.accept},
                                progress));
        return fingerprint_of(cache);
    });
}

Result<std::string> cache_fingerprint(const std::filesystem::path& cache) {
    return guarded(cache, [&] { return fingerprint_of(cache); });
}

} // namespace mfres
