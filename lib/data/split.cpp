#include "data/split.h"

#include "core/try.h"
#include "model/sha256.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

namespace mfres {

namespace {

std::string hash_of(std::string_view patient) {
    Sha256 hash;
    hash.update(patient);
    return to_hex(hash.finish());
}

std::set<std::string_view> patients_of(const std::vector<CaseFiles>& cases) {
    std::set<std::string_view> patients;
    for (const CaseFiles& files : cases)
        patients.insert(patient_of(files.id));
    return patients;
}

Status check_apart(const Split& split, const std::filesystem::path& data, const std::filesystem::path& validation) {
    const auto trained = patients_of(split.train);
    for (const CaseFiles& files : split.held_out)
        if (trained.count(patient_of(files.id)) > 0)
            return Error{ErrorCode::invalid_argument,
                         text("patient ", patient_of(files.id), " is in ", data.string(), " and in ",
                              validation.string(), "; what is trained on cannot be evaluated on"),
                         files.id};
    return {};
}

Status check_segmented(const Split& split) {
    std::string without;
    for (const auto* part : {&split.train, &split.held_out})
        for (const CaseFiles& files : *part)
            if (!files.segmentation)
                without += (without.empty() ? "" : ", ") + files.id;
    if (!without.empty())
        return Error{ErrorCode::file_not_found, "these cases have no segmentation to learn or to measure: " + without,
                     without.substr(0, without.find(','))};
    return {};
}

} // namespace

std::string_view patient_of(std::string_view id) {
    constexpr std::size_t ending = 4; // -000
    if (!id.starts_with("BraTS-") || id.size() <= ending || id[id.size() - ending] != '-')
        return id;
    const std::string_view digits = id.substr(id.size() - ending + 1);
    const bool time_point = std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isdigit(c); });
    return time_point ? id.substr(0, id.size() - ending) : id;
}

Result<Split> hold_out_fifth(std::vector<CaseFiles> cases) {
    constexpr std::size_t every = 5;
    std::map<std::string, std::string_view> by_hash;
    for (const std::string_view patient : patients_of(cases))
        by_hash.emplace(hash_of(patient), patient);
    if (by_hash.size() < 2)
        return Error{
            ErrorCode::dataset_empty,
            text("cases of ", by_hash.size(),
                 " patients cannot be split into some to train on and some to hold out; at least 2 are needed"),
            {}};
    std::set<std::string> chosen;
    std::size_t place = 0;
    for (const auto& [hash, patient] : by_hash)
        if (place++ % every == 0)
            chosen.emplace(patient);
    Split split;
    split.rule = "every fifth patient of the data, in the order of the SHA-256 of their ids";
    for (CaseFiles& files : cases)
        (chosen.count(std::string(patient_of(files.id))) > 0 ? split.held_out : split.train)
            .push_back(std::move(files));
    return split;
}

Result<Split> find_split(const std::filesystem::path& data, const std::filesystem::path& validation) {
    MFRES_TRY(auto cases, find_cases(data));
    Split split;
    if (validation.empty()) {
        MFRES_TRY(split, hold_out_fifth(std::move(cases)));
    } else {
        split.train = std::move(cases);
        MFRES_TRY(split.held_out, find_cases(validation));
        split.rule = "a folder of their own";
        MFRES_CHECK(check_apart(split, data, validation));
    }
    MFRES_CHECK(check_segmented(split));
    return split;
}

} // namespace mfres
