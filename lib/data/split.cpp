// SPDX-License-Identifier: MIT
#include "data/split.h"

#include "core/file.h"
#include "core/try.h"
#include "model/sha256.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>
#include <sstream>

namespace mfres {

namespace {

constexpr Fold first_fifth{1, 5};

std::string hash_of(std::string_view patient) {
    Sha256 hash;
    hash.update(patient);
    return to_hex(hash.finish());
}

/// The patient without the release of BraTS that its id begins with.
std::string_view without_release(std::string_view patient) {
    constexpr std::string_view brats = "brats";
    constexpr std::size_t beginning = 8; // Brats18_
    if (patient.size() <= beginning || patient[beginning - 1] != '_')
        return patient;
    for (std::size_t i = 0; i < brats.size(); ++i)
        if (std::tolower(static_cast<unsigned char>(patient[i])) != brats[i])
            return patient;
    const std::string_view release = patient.substr(brats.size(), 2);
    return release == "17" || release == "18" || release == "19" ? patient.substr(beginning) : patient;
}

/// What all ids of a patient have in common. The release of 2017 did not number the sites of TCIA as later ones do:
/// Brats17_TCIA_653_1 is Brats18_TCIA13_653_1.
std::string basic_name(std::string_view id) {
    constexpr std::string_view numbered = "TCIA";
    const std::string_view patient = patient_of(id);
    const std::string_view name = without_release(patient);
    if (name.size() == patient.size() || !name.starts_with(numbered))
        return std::string(name);
    const std::size_t number_ends = std::min(name.find_first_not_of("0123456789", numbered.size()), name.size());
    return std::string(numbered).append(name.substr(number_ends));
}

Status check_segmented(const Split& split) {
    std::string without;
    for (const auto* part : {&split.train, &split.held_out})
        for (std::size_t i = 0; i < part->size(); ++i)
            if (const auto* files = std::get_if<CaseFiles>(&(*part)[i]); files && !files->segmentation)
                without += (without.empty() ? "" : ", ") + files->id;
    if (!without.empty())
        return Error{ErrorCode::file_not_found, "these cases have no segmentation to learn or to measure: " + without,
                     without.substr(0, without.find(','))};
    return {};
}

Result<Split> split_by_fold(const CaseSet& cases, const Fold& fold, const Patients& patients) {
    MFRES_TRY(const std::vector<bool> held_out, in_fold(ids_of(cases), fold, patients));
    Split split{cases.where(held_out, false), cases.where(held_out, true), {}, {}};
    split.rule = text("fold ", to_string(fold), " of the patients, in the order of the SHA-256 of their ids");
    return split;
}

/// The ids on a line of a list of patients.
std::vector<std::string> ids_on(std::string line) {
    line.resize(std::min(line.size(), line.find('#')));
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream words(line);
    pass_exceptions(words);
    std::vector<std::string> ids;
    for (std::string id; words >> id;)
        ids.push_back(id);
    return ids;
}

} // namespace

std::vector<std::string> ids_of(const CaseSet& cases) {
    std::vector<std::string> ids;
    for (std::size_t i = 0; i < cases.size(); ++i)
        ids.push_back(cases.id(i));
    return ids;
}

std::string_view patient_of(std::string_view id) {
    constexpr std::size_t ending = 4; // -000
    if (!id.starts_with("BraTS-") || id.size() <= ending || id[id.size() - ending] != '-')
        return id;
    const std::string_view digits = id.substr(id.size() - ending + 1);
    const bool time_point = std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isdigit(c); });
    return time_point ? id.substr(0, id.size() - ending) : id;
}

Result<Patients> Patients::of_groups(std::vector<std::vector<std::string>> groups) {
    Patients patients;
    const auto invalid = [](const std::string& sentence, const std::string& id) {
        return Error{ErrorCode::invalid_argument, sentence, id};
    };
    for (const auto& group : groups) {
        if (group.size() < 2)
            return invalid(text("a patient is listed with ", group.size(), " scans (", group.empty() ? "" : group[0],
                                "); the list is of patients with two or more"),
                           group.empty() ? "" : group[0]);
        std::set<std::string> names;
        for (const std::string& id : group)
            names.insert(basic_name(id));
        if (names.count("") > 0)
            return invalid("a patient is listed with a scan that has no id", {});
        for (const std::string& name : names)
            if (!patients.names_.emplace(name, *names.begin()).second)
                return invalid(text("patient ", name, " is listed twice; all scans of a patient belong together"),
                               name);
    }
    patients.groups_ = std::move(groups);
    return patients;
}

Result<Patients> Patients::read(const std::filesystem::path& path) {
    constexpr std::uint64_t largest_list = std::uint64_t{16} << 20U;
    MFRES_TRY(const auto bytes, read_file(path, largest_list, ErrorCode::invalid_argument));
    std::istringstream lines(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    pass_exceptions(lines);
    std::vector<std::vector<std::string>> groups;
    for (std::string line; std::getline(lines, line);)
        if (auto ids = ids_on(std::move(line)); !ids.empty())
            groups.push_back(std::move(ids));
    auto patients = of_groups(std::move(groups));
    if (!patients)
        return Error{patients.error().code, text(path.string(), ": ", patients.error().message), path.string()};
    return patients;
}

std::string Patients::of(std::string_view id) const {
    std::string name = basic_name(id);
    const auto joined = names_.find(name);
    return joined != names_.end() ? joined->second : name;
}

std::string Patients::warning_about(std::span<const std::string> ids) const {
    const std::set<std::string_view> known(ids.begin(), ids.end());
    std::string missing;
    for (const auto& group : groups_)
        for (const std::string& id : group)
            if (known.count(id) == 0)
                missing += (missing.empty() ? "" : ", ") + id;
    return missing.empty() ? "" : "the list of patients names scans that no case of the data is called by: " + missing;
}

Result<Fold> parse_fold(std::string_view words) {
    constexpr int most = 1000;
    const char* const end = words.data() + words.size();
    Fold fold;
    const auto index = std::from_chars(words.data(), end, fold.index);
    const bool divided = index.ec == std::errc() && index.ptr != end && *index.ptr == '/';
    const auto count = divided ? std::from_chars(index.ptr + 1, end, fold.count) : index;
    if (!divided || count.ec != std::errc() || count.ptr != end || fold.count < 2 || fold.count > most ||
        fold.index < 1 || fold.index > fold.count)
        return Error{ErrorCode::invalid_argument,
                     text("the fold '", words, "' is not one of the form 2/5: a part from 1 on, and the number of ",
                          "parts, 2 to ", most),
                     "fold"};
    return fold;
}

std::string to_string(const Fold& fold) {
    return text(fold.index, '/', fold.count);
}

Result<std::vector<bool>> in_fold(std::span<const std::string> ids, const Fold& fold, const Patients& patients) {
    std::map<std::string, std::string_view> smallest; // of the ids of each patient
    for (const std::string& id : ids) {
        const auto [known, added] = smallest.emplace(patients.of(id), patient_of(id));
        if (!added)
            known->second = std::min(known->second, patient_of(id));
    }
    std::map<std::string, std::string> by_hash;
    for (const auto& [patient, id] : smallest)
        by_hash.emplace(hash_of(id), patient);
    std::set<std::string> chosen;
    int number = 0;
    for (const auto& [hash, patient] : by_hash)
        if (number++ % fold.count == fold.index - 1)
            chosen.insert(patient);
    if (chosen.empty() || chosen.size() == by_hash.size())
        return Error{ErrorCode::dataset_empty,
                     text("cases of ", by_hash.size(),
                          " patients cannot be split into some to train on and some to hold out in fold ",
                          to_string(fold), "; at least ", std::max(2, fold.index), " are needed"),
                     {}};
    std::vector<bool> inside;
    for (const std::string& id : ids)
        inside.push_back(chosen.count(patients.of(id)) > 0);
    return inside;
}

Status check_apart(std::span<const std::string> trained, std::span<const std::string> held_out,
                   const Patients& patients) {
    std::map<std::string, std::string_view> seen;
    for (const std::string& id : trained)
        seen.emplace(patients.of(id), id);
    for (const std::string& id : held_out)
        if (const auto both = seen.find(patients.of(id)); both != seen.end())
            return Error{ErrorCode::invalid_argument,
                         text("patient ", patient_of(id), " is on both sides: case ", both->second,
                              " is trained on, and case ", id,
                              " is held out; what is trained on cannot be evaluated on"),
                         id};
    return {};
}

Result<Split> hold_out_fifth(const CaseSet& cases, const Patients& patients) {
    MFRES_TRY(Split split, split_by_fold(cases, first_fifth, patients));
    split.rule = "every fifth patient of the data, in the order of the SHA-256 of their ids";
    return split;
}

Result<Split> find_split(const SplitOptions& options) {
    if (options.fold && !options.validation.empty())
        return Error{ErrorCode::invalid_argument,
                     "a fold is held out of the data; cases of their own are not needed then", "fold"};
    std::vector<std::string> notes;
    MFRES_TRY(CaseSet cases, CaseSet::find(options.data, options.label_scheme, notes));
    Split split;
    if (!options.validation.empty()) {
        split.train = std::move(cases);
        MFRES_TRY(split.held_out, CaseSet::find(options.validation, options.label_scheme, notes));
        split.rule = "cases of their own";
        MFRES_CHECK(check_apart(ids_of(split.train), ids_of(split.held_out), options.patients));
    } else if (options.fold) {
        MFRES_TRY(split, split_by_fold(cases, *options.fold, options.patients));
    } else {
        MFRES_TRY(split, hold_out_fifth(cases, options.patients));
    }
    MFRES_CHECK(check_segmented(split));
    split.label_notes = std::move(notes);
    return split;
}

} // namespace mfres
