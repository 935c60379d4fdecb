// Which cases are trained on and which are held out.
#pragma once

#include <mfres/case.h>
#include <mfres/status.h>

#include <string>
#include <string_view>
#include <vector>

namespace mfres {

struct Split {
    std::vector<CaseFiles> train;
    std::vector<CaseFiles> held_out;
    std::string rule; ///< in words, for the table's caption
};

/// The patient of a case id: the id, without the time point that BraTS 2023 and later append ("BraTS-GLI-00005-100" is
/// a later scan of "BraTS-GLI-00005-000").
std::string_view patient_of(std::string_view id);

/// Holds out every fifth patient, in the order of the SHA-256 of the patients' ids, the first included: a rule that
/// depends on nothing but the ids, and mixes sites and grades. Both parts keep the order of `cases`.
/// Errors: dataset_empty (fewer than two patients).
Result<Split> hold_out_fifth(std::vector<CaseFiles> cases);

/// The cases of `data`, split by hold_out_fifth, or those of `validation` held out where that is not empty.
/// Errors: those of find_cases and hold_out_fifth; invalid_argument (a patient in both folders), file_not_found (cases
/// without a segmentation, all of them named).
Result<Split> find_split(const std::filesystem::path& data, const std::filesystem::path& validation);

} // namespace mfres
