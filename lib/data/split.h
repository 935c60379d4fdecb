// SPDX-License-Identifier: MIT
// Which cases are trained on and which are held out. Splits are by patient: all scans of a patient are on one side.
#pragma once

#include <mfres/case.h>
#include <mfres/status.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// The ids of the cases, in their order.
std::vector<std::string> ids_of(const CaseSet& cases);

/// The patient of a case id: the id, without the time point that BraTS 2023 and later append ("BraTS-GLI-00005-100" is
/// a later scan of "BraTS-GLI-00005-000").
std::string_view patient_of(std::string_view id);

/// Which case ids are of one patient: those with the same patient_of; those that differ only in the release of BraTS
/// ("Brats17_", "Brats18_" and "BraTS19_CBICA_AAB_1"; "Brats17_TCIA_653_1", which later is TCIA13_653_1: nothing else
/// changed from 2017 to 2019, see name_mapping.csv of BraTS 2019); and those that a list joins.
class Patients {
  public:
    Patients() = default;

    /// From a list: each element has the case ids of one patient.
    /// Errors: invalid_argument (fewer than two ids, an empty one, a patient in two elements).
    static Result<Patients> of_groups(std::vector<std::vector<std::string>> groups);

    /// From a text file: one line per patient with its case ids, spaces or commas between; empty lines, and text after
    /// a #, are skipped. Errors: file_not_found, file_read, those of of_groups, with the file's name.
    static Result<Patients> read(const std::filesystem::path& path);

    /// A name of the patient: the same for all case ids of one patient, different for different patients.
    std::string of(std::string_view id) const;

    const std::vector<std::vector<std::string>>& groups() const { return groups_; }

    /// A warning that names the ids of the list that are not among `ids`: with a misspelled id, scans of one patient
    /// can be on both sides of a split. Empty if there are none.
    std::string warning_about(std::span<const std::string> ids) const;

  private:
    std::vector<std::vector<std::string>> groups_;
    std::map<std::string, std::string, std::less<>> names_; ///< by case id, of the ids in the list
};

/// One of `count` parts of a data set.
struct Fold {
    int index = 1; ///< 1 to count
    int count = 5;
};

/// "2/5". Errors: invalid_argument (other words, fewer than 2 parts or more than 1000, no such part).
Result<Fold> parse_fold(std::string_view words);

/// "2/5"
std::string to_string(const Fold& fold);

/// Whether each case is in the fold. Patients are sorted by the SHA-256 of their ids (of a patient with several scans:
/// of the smallest patient_of), and patient n (from 0) is in fold n mod count + 1. The folds depend only on the ids of
/// the data. Sites and tumour grades are mixed, not stratified. Fold 1/5 is what hold_out_fifth holds out. Errors:
/// dataset_empty (too few patients: the fold or the rest would be empty).
Result<std::vector<bool>> in_fold(std::span<const std::string> ids, const Fold& fold, const Patients& patients);

/// Errors: invalid_argument if a patient is on both sides; it names the patient and two of its cases.
Status check_apart(std::span<const std::string> trained, std::span<const std::string> held_out,
                   const Patients& patients);

struct Split {
    CaseSet train;
    CaseSet held_out;
    std::string rule;                       ///< how the cases were split, for a table's caption
    std::vector<std::string> label_notes{}; ///< what the labels are read as, and on what evidence
};

/// Holds out every fifth patient, in the order of the SHA-256 of the patients' ids, the first included: in_fold of 1/5.
/// Both parts keep the order of `cases`. Errors: those of in_fold.
Result<Split> hold_out_fifth(const CaseSet& cases, const Patients& patients = {});

/// The options of find_split.
struct SplitOptions {
    DataSources data;
    DataSources validation;   ///< the cases to hold out; empty = a fold of `data`
    std::optional<Fold> fold; ///< not with `validation`; none = hold_out_fifth
    Patients patients;
    std::string label_scheme{}; ///< as `wanted` of choose_labels, for each folder
};

/// The cases of `data`, split. Errors: those of CaseSet::find and in_fold; invalid_argument (a patient in `data` and in
/// `validation`; a fold beside `validation`), file_not_found (cases without a segmentation, all of them named).
Result<Split> find_split(const SplitOptions& options);

} // namespace mfres
