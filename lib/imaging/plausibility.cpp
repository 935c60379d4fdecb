// SPDX-License-Identifier: MIT
#include "imaging/plausibility.h"

#include "core/stop.h"
#include "core/try.h"
#include "imaging/contrasts.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <tuple>
#include <utility>

namespace mfres {

namespace {

// Limits, each with what was measured on 38 skull-stripped cases of BraTS 2018 to 2021 (1 mm, BraTS grid). That of the
// brain's volume is the model's; the cases have 1,146 to 1,747 ml.

/// Brain on the six border faces of the grid, by their area. A grid that is smaller than BraTS's counts with the area of
/// that one: cropping a case to its brain must not change the verdict. Measured: at most 1.42 %, cropped 1.5 %.
constexpr double most_border_share = 0.02;
constexpr double standard_border_mm2 = 2.0 * (240.0 * 240.0 + 2.0 * 240.0 * 155.0);
/// Voxels that two contrasts show, of those that one of them shows. Measured: at least 0.992; 0.633 with one contrast
/// moved by a tenth of the head.
constexpr double least_overlap = 0.95;
/// Moved, and not cut off, if each of the two shows so much of the difference.
constexpr double both_sides_share = 0.25;
/// Brain voxels that a contrast shows. Measured: at least 0.994.
constexpr double least_coverage = 0.95;
/// What a contrast with a noisy background shows outside the brain, by the brain: 25 %. The brain is what the other
/// contrasts show then.
constexpr double most_outside = 0.25;
/// Pearson correlation of two contrasts inside the brain, extremes clipped. Measured: at most 0.88 either way; T1 and
/// T1ce of phantoms, which have less texture than those of patients, reach 0.950, so that 0.95 would reject them alone.
constexpr double most_correlation = 0.97;
/// Skewness of T1 less that of T1ce, extremes clipped. Contrast agent adds bright voxels to T1ce. Measured: at most 0.26.
constexpr double most_skewness_difference = 0.5;
/// The deviation inside the brain by that without extremes: sqrt(1 + x^2 / n) for one voxel that lies x deviations away
/// among n. Measured: no voxel lies more than 12.7 deviations away.
constexpr double most_deviation_ratio = 1.25;
/// Extremes are 0.05 % of the voxels at either end, as those that zscore-brain-clipped clips.
constexpr double extreme_share = 0.0005;
/// The deviation inside the brain, of clipped values where the normalisation clips, by that without the 10 % most extreme
/// at either end. Measured on 84 cases: at most 2.59 (T1ce); 9.3 where half a voxel's move mixed -1024 into the rim.
constexpr double bulk_extremes = 0.1;
constexpr double most_bulk_ratio = 3.5;
/// A part that is left out is worth a warning from 0.1 % of the brain on.
constexpr double remarkable_part_share = 0.001;

constexpr std::array<const char*, 4> words = {"T1", "T1ce", "T2", "FLAIR"};

double share(std::int64_t part, std::int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

/// Percent with two decimals.
std::string percent(double share) {
    return text(std::round(share * 10000.0) / 100.0, " %");
}

std::string rounded(double value) {
    return text(std::round(value * 100.0) / 100.0);
}

// Intensities --------------------------------------------------------------------------------------------------------

/// Intensities of one contrast in a sample of brain voxels, the same voxels for every contrast, extremes clipped; what
/// the normalisation clips is.
struct Sample {
    PageVector<double> values;
    double mean = 0.0;
    double deviation = 0.0;
    double skewness = 0.0;
    double bulk_deviation = 0.0; ///< without the 10 % most extreme at either end
};

double square(double value) {
    return value * value;
}

/// Mean of f(value).
template <typename Function>
double mean_of(std::span<const double> values, const Function& f) {
    double sum = 0.0;
    for (const double value : values)
        sum += f(value);
    return sum / static_cast<double>(values.size());
}

/// Population standard deviation of the values clipped to the range, and their mean.
std::pair<double, double> deviation_within(std::span<const float> values, std::pair<float, float> range,
                                           PageVector<double>& clipped) {
    clipped.resize(values.size());
    std::transform(values.begin(), values.end(), clipped.begin(),
                   [&](float value) { return static_cast<double>(std::clamp(value, range.first, range.second)); });
    const double mean = mean_of(clipped, [](double value) { return value; });
    return {std::sqrt(mean_of(clipped, [&](double value) { return square(value - mean); })), mean};
}

Sample sample_of(const Preprocessing& preprocessing, const CompactVolume& scan, const ModalityIntensity& intensity) {
    Sample sample;
    PageVector<float> values = sampled_intensities(preprocessing, scan);
    for (float& value : values)
        value = std::min(std::max(value, intensity.low), intensity.high);
    PageVector<float> ordered = values;
    std::tie(sample.bulk_deviation, std::ignore) =
        deviation_within(values, extremes(ordered, bulk_extremes, 1), sample.values);
    // At least one voxel at either end: a single wild one must not decide in a small brain either.
    std::tie(sample.deviation, sample.mean) =
        deviation_within(values, extremes(ordered, extreme_share, 1), sample.values);
    if (sample.deviation > 0.0)
        sample.skewness = mean_of(sample.values, [&](double value) {
            const double score = (value - sample.mean) / sample.deviation;
            return score * square(score);
        });
    return sample;
}

/// Pearson's; 0 where one of the two is constant.
double correlation(const Sample& a, const Sample& b) {
    if (a.deviation <= 0.0 || b.deviation <= 0.0)
        return 0.0;
    double sum = 0.0;
    for (std::size_t i = 0; i < a.values.size(); ++i)
        sum += (a.values[i] - a.mean) * (b.values[i] - b.mean);
    return sum / static_cast<double>(a.values.size()) / (a.deviation * b.deviation);
}

// Checks -------------------------------------------------------------------------------------------------------------

/// The checks of one case. Each adds what it finds.
class Checks {
  public:
    Checks(const Case& loaded, const Preprocessing& preprocessing) : case_(loaded), brain_(preprocessing) {
        millilitres_ = std::abs(determinant(brain_.grid.affine)) / 1000.0;
        for (std::size_t m = 0; m < 4; ++m)
            if (case_.present[m])
                present_.push_back(m);
    }

    std::vector<Error> findings;
    std::vector<std::string> warnings;

    void volume() {
        const double ml = volume_of(brain_.brain_voxels);
        const CaseOptions& limits = case_.options;
        if (ml < limits.min_brain_ml)
            add(ErrorCode::brain_implausible, case_.grid_source,
                text("the brain of ", case_.id, " (", case_.grid_source, ") has ", rounded(ml), " ml, less than the ",
                     limits.min_brain_ml,
                     " ml of the model. Give a whole, skull-stripped head of the model's age group"));
        if (ml > limits.max_brain_ml)
            add(ErrorCode::brain_implausible, case_.sources[too_large().front()],
                text("what differs from the background in ", case_.id, " has ", rounded(ml), " ml, more than the ",
                     limits.max_brain_ml, " ml of the model: ", reason_for_much()));
    }

    void border() {
        const auto& size = brain_.grid.size;
        std::int64_t inner = 1;
        for (const std::int64_t n : size)
            inner *= std::max<std::int64_t>(0, n - 2);
        const double face_mm2 = std::pow(millilitres_ * 1000.0, 2.0 / 3.0);
        const double border_mm2 = static_cast<double>(brain_.grid.voxels() - inner) * face_mm2;
        const double at_border =
            static_cast<double>(brain_.border_voxels) * face_mm2 / std::max(border_mm2, standard_border_mm2);
        if (at_border > most_border_share)
            add(ErrorCode::brain_at_border, case_.grid_source,
                text(percent(at_border), " of the border of the grid of ", case_.id, " (", case_.grid_source,
                     ") is brain, at most ", percent(most_border_share), " is plausible: ",
                     noisy().empty() ? "the skull and neck have not been removed, or the brain is cut off. Remove the "
                                       "skull, and give the whole brain with some background around it"
                                     : noisy_sentence()));
    }

    void positions() {
        for_pairs([&](std::size_t a, std::size_t b) {
            const std::int64_t both = brain_.shown_by_all(bits(a) | bits(b));
            const std::int64_t any = brain_.shown_by_any(bits(a) | bits(b));
            const std::int64_t only_a = brain_.shown_by_all(bits(a)) - both;
            const std::int64_t only_b = brain_.shown_by_all(bits(b)) - both;
            if (share(both, any) < least_overlap && share(std::min(only_a, only_b), any - both) >= both_sides_share)
                add(ErrorCode::modality_moved, case_.sources[b],
                    text(case_.sources[b], " (", words[b], ") is not where ", case_.sources[a], " (", words[a],
                         ") is: they share ", percent(share(both, any)),
                         " of the voxels that one of them shows, at least ", percent(least_overlap),
                         " is plausible. Register the contrasts to each other"));
        });
    }

    void coverage() {
        for (const std::size_t m : present_) {
            const std::int64_t covered = brain_.shown_by_all(bits(m));
            if (share(covered, brain_.brain_voxels) >= least_coverage)
                continue;
            // Is it only one contrast that shows something there?
            std::string reason = "Its field of view or its mask is too small";
            for (const std::size_t other : present_)
                if (brain_.brain_voxels - shown_without(other) > brain_.brain_voxels / 20)
                    reason = text("Only ", case_.sources[other], " (", words[other],
                                  ") shows something in the rest: its skull may not have been removed");
            add(ErrorCode::modality_coverage, case_.sources[m],
                text(case_.sources[m], " (", words[m], ") shows ", percent(share(covered, brain_.brain_voxels)),
                     " of the ", rounded(volume_of(brain_.brain_voxels)),
                     " ml that the contrasts show together, at least ", percent(least_coverage), " is plausible. ",
                     reason));
        }
        for (const std::size_t m : noisy())
            if (share(brain_.foreground[m] - brain_.shown_by_all(bits(m)), brain_.brain_voxels) > most_outside)
                add(ErrorCode::modality_coverage, case_.sources[m],
                    text(case_.sources[m], " (", words[m], ") shows ", rounded(volume_of(brain_.foreground[m])),
                         " ml, but the brain of ", case_.id, " has ", rounded(volume_of(brain_.brain_voxels)),
                         " ml: the others are cut off, or ", noisy_sentence()));
    }

    void intensities(bool clipped) {
        std::array<Sample, 4> samples;
        for_contrasts(case_.present, case_.options.threads, [&](std::size_t m) {
            samples[m] = sample_of(brain_, case_.scans[m], brain_.intensity[m]);
            StopScope::check();
        });
        for_pairs([&](std::size_t a, std::size_t b) {
            if (const double r = correlation(samples[a], samples[b]); std::abs(r) > most_correlation)
                add(ErrorCode::modality_correlation, case_.sources[b],
                    text(case_.sources[a], " (", words[a], ") and ", case_.sources[b], " (", words[b],
                         ") correlate by ", rounded(r), " inside the brain, at most ", most_correlation,
                         " is plausible: one of them seems to be given twice. Give each contrast its own file"));
        });
        for (const std::size_t m : present_) {
            const double deviation = brain_.intensity[m].stddev;
            if (!clipped && deviation > most_deviation_ratio * samples[m].deviation)
                add(ErrorCode::intensity_outliers, case_.sources[m],
                    text("single voxels decide about the intensities of ", case_.sources[m], " (", words[m],
                         "): the standard deviation in the brain is ", deviation, ", but ", samples[m].deviation,
                         " without the 0.1 % most extreme. Correct them, or use a model with the normalisation "
                         "zscore-brain-clipped"));
            else if (deviation > most_bulk_ratio * samples[m].bulk_deviation)
                add(ErrorCode::intensity_outliers, case_.sources[m],
                    text("few voxels decide about the intensities of ", case_.sources[m], " (", words[m],
                         "): the standard deviation in the brain is ", deviation, ", but ", samples[m].bulk_deviation,
                         " without the 10 % most extreme at either end, and at most ", most_bulk_ratio,
                         " times that is plausible. If its background of ", brain_.intensity[m].background,
                         " was mixed into the rim of the brain when it was resampled, set what is outside the brain "
                         "to 0 before"));
        }
        if (case_.present[0] && case_.present[1])
            if (const double difference = samples[0].skewness - samples[1].skewness;
                difference > most_skewness_difference)
                warnings.push_back(text(case_.sources[0], " (T1) and ", case_.sources[1],
                                        " (T1ce) may be swapped: the skewness inside the brain is ",
                                        rounded(samples[0].skewness), " and ", rounded(samples[1].skewness),
                                        ", and contrast agent makes that of T1ce the larger one"));
    }

    void remarks() {
        if (const double part = share(brain_.second_part_voxels, brain_.brain_voxels); part >= remarkable_part_share)
            warnings.push_back(text(rounded(volume_of(brain_.speck_voxels)), " ml of ", case_.id,
                                    " differ from the background and are not connected to the brain of ",
                                    rounded(volume_of(brain_.brain_voxels)), " ml; they count as background"));
        if (!noisy().empty())
            warnings.push_back(noisy_sentence());
    }

  private:
    static ContrastBits bits(std::size_t m) { return static_cast<ContrastBits>(1U << m); }

    double volume_of(std::int64_t voxels) const { return static_cast<double>(voxels) * millilitres_; }

    template <typename Visit>
    void for_pairs(const Visit& visit) const {
        for (std::size_t a = 0; a < present_.size(); ++a)
            for (std::size_t b = a + 1; b < present_.size(); ++b)
                visit(present_[a], present_[b]);
    }

    void add(ErrorCode code, std::string_view where, const std::string& sentence) {
        findings.push_back({code, sentence, std::string(where)});
    }

    /// Brain voxels that a contrast other than `left_out` shows.
    std::int64_t shown_without(std::size_t left_out) const {
        unsigned others = 0;
        for (const std::size_t m : present_)
            others |= m != left_out ? bits(m) : 0U;
        return others == 0 ? brain_.brain_voxels : brain_.shown_by_any(static_cast<ContrastBits>(others));
    }

    std::string listed(const PageVector<std::size_t>& contrasts) const {
        std::string list;
        for (const std::size_t m : contrasts)
            list += text(list.empty() ? "" : ", ", case_.sources[m], " (", words[m], ")");
        return list;
    }

    PageVector<std::size_t> noisy() const {
        PageVector<std::size_t> found;
        std::copy_if(present_.begin(), present_.end(), std::back_inserter(found),
                     [&](std::size_t m) { return brain_.backgrounds[m].noisy; });
        return found;
    }

    std::string noisy_sentence() const {
        return text("the background of ", listed(noisy()),
                    " is noisy. Set it to one value, by a mask of the brain for example");
    }

    /// The contrasts that show too much for a brain; all if only all together do.
    PageVector<std::size_t> too_large() const {
        PageVector<std::size_t> found;
        std::copy_if(present_.begin(), present_.end(), std::back_inserter(found),
                     [&](std::size_t m) { return volume_of(brain_.foreground[m]) > case_.options.max_brain_ml; });
        return found.empty() ? present_ : found;
    }

    std::string reason_for_much() const {
        return noisy().empty()
                   ? text("the skull of ", listed(too_large()),
                          " has not been removed, or the background is not one value. Remove the skull, and "
                          "set what is outside the brain to 0")
                   : noisy_sentence();
    }

    const Case& case_;
    const Preprocessing& brain_;
    double millilitres_ = 0.0; ///< of a voxel
    PageVector<std::size_t> present_;
};

} // namespace

std::string plausibility_check_names() {
    std::string names;
    for (const ErrorCode code : plausibility_checks)
        names.append(names.empty() ? "" : ", ").append(name(code));
    return names;
}

Result<ErrorCode> parse_plausibility_check(std::string_view text) {
    const auto found = std::find_if(plausibility_checks.begin(), plausibility_checks.end(),
                                    [&](ErrorCode code) { return name(code) == text; });
    if (found != plausibility_checks.end())
        return *found;
    return Error{ErrorCode::invalid_argument,
                 mfres::text("'", text, "' is no check that can be accepted; there is ", plausibility_check_names()),
                 std::string(text)};
}

Result<Preprocessing> preprocess_case(Case& loaded, const PreprocessOptions& options) {
    MFRES_TRY(Preprocessing preprocessing, plan_preprocessing(loaded.scans, options));
    Checks checks(loaded, preprocessing);
    checks.volume();
    checks.border();
    checks.positions();
    checks.coverage();
    checks.intensities(options.normalisation == Normalisation::zscore_brain_clipped);
    checks.remarks();
    for (Error& finding : checks.findings)
        MFRES_CHECK(reject_or_warn(std::move(finding), loaded.options.accept, loaded.warnings));
    std::move(checks.warnings.begin(), checks.warnings.end(), std::back_inserter(loaded.warnings));
    return preprocessing;
}

} // namespace mfres
