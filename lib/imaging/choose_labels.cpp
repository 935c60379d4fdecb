// SPDX-License-Identifier: MIT
// What the label values of a data set mean, from all of them together.
#include "core/format.h"
#include "core/guard.h"
#include "core/parallel.h"
#include "core/try.h"
#include "imaging/label_evidence.h"

#include <mfres/case.h>

#include <algorithm>
#include <optional>

namespace mfres {

namespace {

constexpr const char* how_to_name = "name the scheme: --labels brats (1 2 4), brats2023 (1 2 3), brats2024 (4 is a "
                                    "resection cavity), brats-ped or msd, or a mapping with --label-map";

/// "2 of 7 segmentations (e.g. a_seg.nii.gz)"
std::string share(const LabelEvidence::Finding& of, std::int64_t files) {
    return text(of.files, " of ", files, of.files > 0 ? text(" (", of.example, ")") : std::string());
}

} // namespace

void LabelEvidence::add(const LabelMap& labels, const std::string& file) {
    std::array<bool, 256> occurs{};
    for (const std::uint8_t value : labels.labels)
        occurs[value] = true;
    ++files_;
    const auto note = [&](Finding& finding) {
        if (finding.files++ == 0)
            finding.example = file;
    };
    if (occurs[3])
        note(threes_);
    if (occurs[4])
        note(fours_);
    if (std::find(occurs.begin() + 1, occurs.end(), true) != occurs.end())
        note(labelled_);
    if (file.find("BraTS-PED") != std::string::npos)
        note(paediatric_);
}

LabelEvidence::Kind LabelEvidence::kind() const {
    if (paediatric_.files > 0)
        return paediatric_.files == files_ ? Kind::clear : Kind::mixed;
    if (threes_.files > 0 && fours_.files > 0)
        return Kind::mixed;
    return threes_.files + fours_.files > 0 ? Kind::clear : Kind::absent;
}

Result<LabelScheme> LabelEvidence::scheme(const std::string& where) const {
    const auto unclear = [&](const std::string& why) {
        return Error{ErrorCode::label_scheme_unclear,
                     text("the label scheme of ", where, " is unclear: ", why, "; ", how_to_name), where};
    };
    if (paediatric_.files > 0 && paediatric_.files < files_)
        return unclear(text("the names of ", share(paediatric_, files_),
                            " segmentations say BraTS-PED, where labels mean something else, and those of the others "
                            "do not"));
    if (kind() == Kind::mixed)
        return unclear(text("of the segmentations, ", share(threes_, files_), " hold a 3 and ", share(fours_, files_),
                            " hold a 4"));
    if (kind() == Kind::absent && labelled_.files > 0)
        return unclear(
            text("neither 3 nor 4, which tell the enhancing tumour, occurs in its ", counted(files_, "segmentation")));
    if (paediatric_.files > 0)
        return LabelScheme::brats_ped;
    return threes_.files > 0 ? LabelScheme::brats2023 : LabelScheme::brats;
}

std::string LabelEvidence::sentence() const {
    if (paediatric_.files > 0)
        return text("the names of all ", files_, " segmentations say BraTS-PED");
    if (fours_.files > 0)
        return text("of ", files_, files_ == 1 ? " segmentation, " : " segmentations, ", fours_.files,
                    fours_.files == 1 ? " holds" : " hold", " a 4 and none a 3");
    if (threes_.files > 0)
        return text("of ", files_, files_ == 1 ? " segmentation, " : " segmentations, ", threes_.files,
                    threes_.files == 1 ? " holds" : " hold", " a 3 and none a 4");
    return files_ == 0 ? "none of the segmentations can be read" : "no label but 0 occurs";
}

bool wants_auto(const std::string& wanted) {
    return wanted.empty() || wanted == "auto";
}

LabelEvidence label_evidence(std::span<const std::filesystem::path> files, AffineSource use, int threads) {
    std::vector<std::optional<LabelEvidence>> found(files.size());
    parallel_ranges(static_cast<std::int64_t>(files.size()), resolve_threads(threads),
                    [&](std::int64_t begin, std::int64_t end) {
                        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
                            NiftiReadOptions options;
                            options.use = use;
                            if (const auto labels = read_nifti_labels(files[i], options))
                                found[i].emplace().add(labels->map, files[i].string());
                        }
                    });
    LabelEvidence all;
    for (const auto& one : found)
        if (one)
            all += *one;
    return all;
}

LabelEvidence& LabelEvidence::operator+=(const LabelEvidence& other) {
    const auto join = [](Finding& finding, const Finding& more) {
        if (finding.files == 0)
            finding.example = more.example;
        finding.files += more.files;
    };
    files_ += other.files_;
    join(threes_, other.threes_);
    join(fours_, other.fours_);
    join(labelled_, other.labelled_);
    join(paediatric_, other.paediatric_);
    return *this;
}

namespace {

Result<std::string> chosen_labels(std::span<CaseFiles> cases, const std::string& wanted, const std::string& where,
                                  AffineSource affine, int threads) {
    std::optional<LabelCoding> coding;
    if (!wants_auto(wanted)) {
        MFRES_TRY(coding, LabelCoding::parse(wanted));
    }
    std::vector<std::filesystem::path> files;
    for (const CaseFiles& one : cases)
        if (one.segmentation && one.label_scheme.empty())
            files.push_back(*one.segmentation);
    if (files.empty())
        return std::string();
    std::string sentence;
    if (coding) {
        sentence =
            text("Labels of ", where, " are read as ", coding->name(), " (", coding->legend(), "), as asked for.");
    } else {
        const LabelEvidence evidence = label_evidence(files, affine, threads);
        MFRES_TRY(coding, evidence.scheme(where));
        sentence = text("Labels of ", where, " are read as ", coding->name(), " (", coding->legend(),
                        "): ", evidence.sentence(), ".");
    }
    for (CaseFiles& one : cases)
        if (one.label_scheme.empty())
            one.label_scheme = coding->name();
    return sentence;
}

} // namespace

Result<std::string> choose_labels(std::span<CaseFiles> cases, const std::string& wanted, const std::string& where,
                                  AffineSource affine, int threads) {
    return guarded(where, [&] { return chosen_labels(cases, wanted, where, affine, threads); });
}

} // namespace mfres
