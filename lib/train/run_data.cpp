// SPDX-License-Identifier: MIT
#include "train/run_data.h"

#include "core/parallel.h"
#include "core/try.h"
#include "data/cache_file.h"
#include "data/sources.h"
#include "data/split.h"
#include "imaging/labels.h"

#include <algorithm>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

namespace mfres {

namespace {

namespace fs = std::filesystem;

Json to_json(const RunData::Side& side) {
    return {{"caches", side.caches}, {"files_sha256", side.files_sha256}};
}

RunData::Side side_from(const Json& object) {
    return {object.at("caches").get<std::vector<std::string>>(), object.at("files_sha256").get<std::string>()};
}

bool is_there(const fs::path& path) {
    std::error_code ignored;
    return fs::exists(path, ignored);
}

/// Cases that are trained on or validated on.
struct Side {
    const char* made; ///< the cache of those that come from folders
    CaseSet cases;
    RunData::Side record;
    std::vector<CacheCase> cached; ///< the same cases, those of folders from `made`
};

class RunDataOpener {
  public:
    RunDataOpener(const TrainerOptions& options, fs::path run, DataUse use, const RunData& recorded,
                  Normalisation normalisation, const CacheProgress& progress)
        : options_(options), run_(std::move(run)), use_(use), recorded_(recorded), normalisation_(normalisation),
          progress_(progress) {}

    Result<OpenedData> open() {
        MFRES_CHECK(decide());
        MFRES_CHECK(find(train_, options_.data, recorded_.train));
        if (train_.cases.empty())
            return Error{
                ErrorCode::invalid_argument,
                text("the run in ", run_.string(), " has no cache of its own; name the cases it is trained on"),
                "data"};
        if (use_ != DataUse::join && !fold_)
            MFRES_CHECK(find(validation_, options_.validation, recorded_.validation));
        MFRES_TRY(const std::vector<bool> held_out, split()); // rejects before cases are packed
        MFRES_CHECK(pack(train_, recorded_.train));
        MFRES_CHECK(pack(validation_, recorded_.validation));
        return opened(held_out);
    }

  private:
    /// Fold, patients and sites: those asked for, or the recorded ones.
    Status decide() {
        fold_words_ = options_.fold.empty() ? recorded_.fold : options_.fold;
        if (!fold_words_.empty()) {
            MFRES_TRY(fold_, parse_fold(fold_words_));
        }
        if (fold_ && !options_.validation.empty())
            return Error{ErrorCode::invalid_argument,
                         "a fold is validated on; cases of their own to validate on are not needed then", "fold"};
        if (use_ == DataUse::resume && fold_words_ != recorded_.fold)
            return Error{ErrorCode::checkpoint_mismatch,
                         text("the run in ", run_.string(), " cannot be resumed like this: its fold would change (",
                              fold_words_, " instead of ", recorded_.fold.empty() ? "none" : recorded_.fold, ")"),
                         run_.string()};
        if (options_.same_patient.empty()) {
            MFRES_TRY(patients_, Patients::of_groups(recorded_.same_patient));
        } else {
            MFRES_TRY(patients_, Patients::read(options_.same_patient));
        }
        if (!options_.sites.empty()) {
            MFRES_TRY(sites_, read_sites(options_.sites));
        }
        return {};
    }

    fs::path recorded_path(const std::string& cache) const { return run_ / cache; } // an absolute one stays as it is

    Status find(Side& side, const DataSources& sources, const RunData::Side& recorded) {
        if (!sources.empty()) {
            // Another rank than the first reads no labels: rank 0 has packed them.
            const std::string labels(use_ == DataUse::join ? name(LabelScheme::brats) : options_.label_scheme);
            MFRES_TRY(side.cases, CaseSet::find(sources, labels, told_));
            return {};
        }
        std::vector<fs::path> caches;
        for (const std::string& cache : recorded.caches)
            caches.push_back(recorded_path(cache));
        if (caches.empty() && use_ != DataUse::begin &&
            is_there(run_ / side.made)) // a run of before there were records
            caches.push_back(run_ / side.made);
        side.record = recorded;
        if (caches.empty())
            return {};
        auto found = CaseSet::find(caches);
        if (!found)
            return Error{found.error().code,
                         text(found.error().message, " (the run in ", run_.string(),
                              " was begun with it; if it has been moved, name it again)"),
                         found.error().where};
        side.cases = std::move(found).value();
        return {};
    }

    /// Which of the cases to train on are held out by the fold; none without one.
    Result<std::vector<bool>> split() {
        if (fold_)
            return in_fold(ids_of(train_.cases), *fold_, patients_);
        if (use_ == DataUse::begin)
            MFRES_CHECK(check_apart(ids_of(train_.cases), ids_of(validation_.cases), patients_));
        return std::vector<bool>(train_.cases.size(), false);
    }

    // ---- caches of folders ----

    /// Fills in Side::cached and records where a resumed run finds the cases.
    Status pack(Side& side, const RunData::Side& recorded) {
        std::vector<CaseFiles> files;
        for (std::size_t i = 0; i < side.cases.size(); ++i)
            if (const auto* images = std::get_if<CaseFiles>(&side.cases[i]))
                files.push_back(*images);
        std::map<std::string_view, CacheCase> packed;
        std::shared_ptr<const CacheFile> made;
        if (!files.empty()) {
            MFRES_TRY(made, packed_cache(side, files, recorded));
            for (const CacheCase& one : cases_of(made))
                packed.emplace(one.record().id, one);
        }
        for (std::size_t i = 0; i < side.cases.size(); ++i) {
            if (const CacheCase* stored = stored_case(side.cases[i])) {
                side.cached.push_back(*stored);
                continue;
            }
            const auto found = packed.find(side.cases.id(i));
            if (found == packed.end())
                return Error{ErrorCode::checkpoint_mismatch,
                             text(made->path().string(), " does not hold case ", side.cases.id(i),
                                  ", which the folders named here do"),
                             made->path().string()};
            side.cached.push_back(found->second);
        }
        record_caches(side, made != nullptr);
        return {};
    }

    void record_caches(Side& side, bool made) const {
        if (!side.record.caches.empty()) // as recorded before
            return;
        if (made)
            side.record.caches.emplace_back(side.made);
        std::error_code ignored;
        for (std::size_t i = 0; i < side.cases.size(); ++i)
            if (const CacheCase* stored = stored_case(side.cases[i])) {
                std::string path = fs::absolute(stored->file->path(), ignored).lexically_normal().string();
                if (std::find(side.record.caches.begin(), side.record.caches.end(), path) == side.record.caches.end())
                    side.record.caches.push_back(std::move(path));
            }
    }

    /// The cache of cases from folders. Where the run has one that was made of other or unknown files, the cases are
    /// packed again and the fingerprints compared.
    Result<std::shared_ptr<const CacheFile>> packed_cache(Side& side, const std::vector<CaseFiles>& files,
                                                          const RunData::Side& recorded) {
        const fs::path made = run_ / side.made;
        if (use_ == DataUse::join)
            return CacheFile::open(made);
        MFRES_TRY(side.record.files_sha256, fingerprint_of_files(files));
        const CacheOptions packing{.threads = resolve_threads(options_.compute.threads),
                                   .overwrite = true,
                                   .normalisation = normalisation_,
                                   .accept = options_.accept};
        if (use_ == DataUse::begin || !is_there(made)) {
            MFRES_CHECK(write_cache(made, files, packing, progress_));
            return CacheFile::open(made);
        }
        if (side.record.files_sha256 == recorded.files_sha256)
            return CacheFile::open(made);
        const fs::path again = run_ / text('.', side.made, ".compare");
        MFRES_CHECK(write_cache(again, files, packing, progress_));
        MFRES_TRY(auto packed, CacheFile::open(again));
        std::error_code ignored;
        fs::remove(again, ignored); // an open file stays readable
        MFRES_TRY(auto kept, CacheFile::open(made));
        return fingerprint_of(kept->records()) == fingerprint_of(packed->records()) ? kept : packed;
    }

    // ---- what comes of it ----

    Result<OpenedData> opened(const std::vector<bool>& held_out) {
        OpenedData data;
        std::vector<CacheCase> trained;
        std::vector<CacheCase> validated;
        const auto add = [&](const Side& side, std::size_t i, bool to_validate) {
            (to_validate ? validated : trained).push_back(side.cached[i]);
            if (to_validate)
                data.record.sites.emplace(side.cases.id(i), site_of(side.cases.id(i), sites_, side.cases.source(i)));
        };
        for (std::size_t i = 0; i < train_.cases.size(); ++i)
            add(train_, i, held_out[i]);
        for (std::size_t i = 0; i < validation_.cases.size(); ++i)
            add(validation_, i, true);
        if (use_ != DataUse::begin && options_.sites.empty() && !recorded_.sites.empty())
            data.record.sites = recorded_.sites;
        MFRES_TRY(data.train, open_cases(std::move(trained)));
        if (!validated.empty() && use_ != DataUse::join) {
            MFRES_TRY(data.validation, open_cases(std::move(validated)));
        }
        data.record.train = std::move(train_.record);
        data.record.validation = std::move(validation_.record);
        data.record.fold = fold_ ? to_string(*fold_) : "";
        data.record.same_patient = patients_.groups();
        std::vector<std::string> ids = ids_of(train_.cases);
        for (std::string& id : ids_of(validation_.cases))
            ids.push_back(std::move(id));
        if (use_ == DataUse::begin)
            data.warning = patients_.warning_about(ids);
        data.label_notes = std::move(told_);
        return data;
    }

    const TrainerOptions& options_;
    fs::path run_;
    DataUse use_;
    const RunData& recorded_;
    Normalisation normalisation_;
    const CacheProgress& progress_;
    std::vector<std::string> told_; ///< what labels of folders are read as
    std::string fold_words_;
    std::optional<Fold> fold_;
    Patients patients_;
    SiteTable sites_;
    Side train_{"train.mfcache", {}, {}, {}};
    Side validation_{"val.mfcache", {}, {}, {}};
};

} // namespace

Json to_json(const RunData& data) {
    return {{"train", to_json(data.train)},
            {"validation", to_json(data.validation)},
            {"fold", data.fold},
            {"same_patient", data.same_patient},
            {"sites", data.sites}};
}

RunData run_data_from(const Json& object) {
    RunData data;
    data.train = side_from(object.at("train"));
    data.validation = side_from(object.at("validation"));
    data.fold = object.at("fold").get<std::string>();
    data.same_patient = object.at("same_patient").get<std::vector<std::vector<std::string>>>();
    data.sites = object.at("sites").get<SiteTable>();
    return data;
}

Result<OpenedData> open_run_data(const TrainerOptions& options, const fs::path& run, DataUse use,
                                 const RunData& recorded, Normalisation normalisation, const CacheProgress& progress) {
    return RunDataOpener(options, run, use, recorded, normalisation, progress).open();
}

std::string source_words(const DataSources& sources) {
    std::string words;
    for (std::size_t i = 0; i < sources.size(); ++i)
        words += text(i == 0 ? "" : i + 1 == sources.size() ? " and " : ", ", sources[i].string());
    return words.empty() ? "what the run recorded" : words;
}

} // namespace mfres
