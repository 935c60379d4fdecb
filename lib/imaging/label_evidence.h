// SPDX-License-Identifier: MIT
// What tells the label scheme of a data set: which values occur in how many of its files. Public use: choose_labels.
#pragma once

#include "imaging/labels.h"
#include "imaging/nifti/nifti.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace mfres {

class LabelEvidence {
  public:
    enum class Kind : std::uint8_t {
        clear,  ///< one scheme fits
        absent, ///< nothing that tells schemes apart
        mixed,  ///< what no single scheme has
    };
    /// How many files show something, and one of them.
    struct Finding {
        std::int64_t files = 0;
        std::string example;
    };

    /// Takes in the values of one file.
    void add(const LabelMap& labels, const std::string& file);
    LabelEvidence& operator+=(const LabelEvidence& other);

    Kind kind() const;
    /// The scheme that fits; where no label but 0 occurs any does, and brats is returned. `where` names the data set.
    /// Error: label_scheme_unclear, with the counts and what to do.
    Result<LabelScheme> scheme(const std::string& where) const;
    /// What speaks for it: "of 7 segmentations, 5 hold a 4 and none a 3".
    std::string sentence() const;

  private:
    std::int64_t files_ = 0;
    Finding threes_;
    Finding fours_;
    Finding labelled_;   ///< that hold any label
    Finding paediatric_; ///< that are named as BraTS-PED names its files
};

/// Whether an option leaves the choice to the values: "auto", or nothing.
bool wants_auto(const std::string& wanted);

/// The evidence of files. One that cannot be read tells nothing: who uses it says what is wrong with it.
LabelEvidence label_evidence(std::span<const std::filesystem::path> files, AffineSource use, int threads);

} // namespace mfres
