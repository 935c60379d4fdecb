// SPDX-License-Identifier: MIT
#include "core/file.h"
#include "core/random.h"
#include "core/try.h"
#include "support/catch.h"
#include "train/loss.h"

#include <cmath>

using namespace mfres;

namespace {

/// Probabilities and truth of a few voxels, [voxel][class].
struct Voxels {
    std::vector<std::vector<double>> p;
    std::vector<std::size_t> truth;

    std::vector<ClassSums> sums() const {
        std::vector<ClassSums> all(p.front().size());
        for (std::size_t v = 0; v < p.size(); ++v)
            for (std::size_t l = 0; l < all.size(); ++l) {
                const double g = truth[v] == l ? 1.0 : 0.0;
                all[l].probability_truth += p[v][l] * g;
                all[l].probability += p[v][l];
                all[l].probability_squared += p[v][l] * p[v][l];
                all[l].truth += g;
            }
        return all;
    }
};

/// Random probabilities that sum to 1; classes `present`..3 have no voxel.
Voxels random_voxels(std::uint64_t seed, std::size_t count, std::size_t present) {
    Random random(seed);
    Voxels voxels;
    for (std::size_t v = 0; v < count; ++v) {
        std::vector<double> p(4);
        double sum = 0.0;
        for (double& value : p)
            sum += value = std::exp(2.0 * random.normal());
        for (double& value : p)
            value /= sum;
        voxels.p.push_back(p);
        voxels.truth.push_back(v < present ? v : random.below(present));
    }
    return voxels;
}

/// p = g
Voxels perfect(std::size_t count, std::size_t present) {
    Voxels voxels = random_voxels(1, count, present);
    for (std::size_t v = 0; v < count; ++v) {
        voxels.p[v].assign(4, 0.0);
        voxels.p[v][voxels.truth[v]] = 1.0;
    }
    return voxels;
}

Loss loss_of(const LossOptions& options) {
    auto loss = make_loss(options);
    REQUIRE_OK(loss);
    return std::move(loss).value();
}

/// The losses that have an overlap part.
template <typename Body>
void for_every_overlap(const Body& body) {
    for (const LossDefinition& definition : loss_definitions())
        if (definition.overlap != nullptr) {
            INFO(definition.name);
            body(std::string(definition.name));
        }
}

template <typename Body>
void for_every_loss(const Body& body) {
    for_every_overlap([&](const std::string& loss) {
        for (const Absent absent : absent_rules())
            for (const bool background : {true, false}) {
                INFO(name(absent) << ", background " << background);
                body(LossOptions{.loss = loss, .absent = absent, .background = background});
            }
    });
}

bool finite(const LossValue& value) {
    bool all = std::isfinite(value.loss);
    for (const ClassSlope& slope : value.slopes)
        all = all && std::isfinite(slope.truth) && std::isfinite(slope.constant) && std::isfinite(slope.probability);
    return all;
}

} // namespace

TEST_CASE("losses and rules are found by the names they print") {
    for (const LossDefinition& definition : loss_definitions()) {
        INFO(definition.name);
        const auto found = find_loss(definition.name);
        REQUIRE_OK(found);
        CHECK(*found == &definition);
        CHECK((definition.overlap != nullptr || definition.pointwise.weight > 0.0));
        const Loss loss = loss_of({.loss = std::string(definition.name)});
        CHECK(static_cast<bool>(loss.overlap) == (definition.overlap != nullptr));
        CHECK(loss.pointwise.weight == definition.pointwise.weight);
        CHECK(loss.pointwise.focal_gamma == definition.pointwise.focal_gamma);
        CHECK(loss.pointwise.top_share == definition.pointwise.top_share);
    }
    for (const Absent absent : absent_rules()) {
        const auto parsed = parse_absent(name(absent));
        REQUIRE_OK(parsed);
        CHECK(*parsed == absent);
    }
    const auto unknown = find_loss("hinge");
    REQUIRE_CODE(unknown, invalid_argument);
    CHECK(unknown.error().message.find("hinge") != std::string::npos);
    CHECK(unknown.error().message.find("dice, gdl, gdl-paper, tversky, weighted-tversky") != std::string::npos);
    REQUIRE_CODE(parse_absent(""), invalid_argument);
    REQUIRE_CODE(find_loss("Dice"), invalid_argument);
}

TEST_CASE("every loss has its row in the documentation of training") {
    const auto bytes = read_file(std::string(MFRES_SOURCE_DIR) + "/docs/training.md", 1U << 20U);
    REQUIRE_OK(bytes);
    const std::string page(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    for (const LossDefinition& definition : loss_definitions()) {
        const std::string row =
            text("| `", definition.name, "` | ", definition.formula, " | ", definition.source, " |\n");
        INFO(row);
        CHECK(page.find(row) != std::string::npos);
    }
}

TEST_CASE("a loss with senseless numbers is rejected") {
    REQUIRE_CODE(make_loss({.alpha = -0.1}), invalid_argument);
    REQUIRE_CODE(make_loss({.beta = std::nan("")}), invalid_argument);
    REQUIRE_CODE(make_loss({.alpha = 0.0, .beta = 0.0}), invalid_argument);
    REQUIRE_CODE(make_loss({.loss = "hinge"}), invalid_argument);
    REQUIRE_CODE(make_loss({.tversky_gamma = 0.5}), invalid_argument);
    REQUIRE_CODE(make_loss({.tversky_gamma = std::nan("")}), invalid_argument);
    REQUIRE_CODE(make_loss({.loss = "focal", .ce_weight = 0.0}), invalid_argument);
    REQUIRE_CODE(make_loss({.dice_epsilon = 0.0}), invalid_argument);
    REQUIRE_CODE(make_loss({.weight_epsilon = INFINITY}), invalid_argument);
    REQUIRE_OK(make_loss({.alpha = 0.0, .beta = 1.0}));
    REQUIRE_CODE(make_loss({.overlap_weight = -1.0}), invalid_argument);
    REQUIRE_CODE(make_loss({.overlap_weight = 0.0}), invalid_argument);
    REQUIRE_CODE(make_loss({.ce_weight = INFINITY}), invalid_argument);
    REQUIRE_CODE(make_loss({.focal_gamma = -0.5}), invalid_argument);
    REQUIRE_CODE(make_loss({.top_share = 0.0}), invalid_argument);
    REQUIRE_CODE(make_loss({.top_share = 1.5}), invalid_argument);
    REQUIRE_OK(make_loss({.overlap_weight = 0.0, .ce_weight = 1.0}));
}

TEST_CASE("a loss says which parts it has") {
    const Loss paper = loss_of({});
    CHECK(paper.overlap);
    CHECK_FALSE(paper.per_sample);
    CHECK(paper.pointwise.weight == 0.0);
    const Loss both = loss_of({.loss = "dice-ce", .batch = false, .focal_gamma = 2.0, .top_share = 0.1});
    CHECK(both.overlap);
    CHECK(both.per_sample);
    CHECK(both.pointwise.weight == 1.0);
    CHECK(both.pointwise.focal_gamma == 2.0);
    CHECK(both.pointwise.top_share == 0.1);
    CHECK(loss_of({.loss = "dice-ce", .ce_weight = 0.0}).pointwise.weight == 0.0);
    CHECK_FALSE(loss_of({.overlap_weight = 0.0, .ce_weight = 1.0}).overlap);
}

TEST_CASE("losses of two voxels and two classes, worked out by hand") {
    // Voxel 1 is class 0, p = (3/4, 1/4); voxel 2 is class 1, p = (1/2, 1/2). Class 0: TP 3/4, FP 1/2, FN 1/4;
    // class 1: TP 1/2, FP 1/4, FN 1/2.
    const std::vector<ClassSums> even{{0.75, 1.25, 0.8125, 1}, {0.5, 0.75, 0.3125, 1}};
    const auto value = [&](const char* loss) { return loss_of({.loss = loss})(even).loss; };
    CHECK(value("dice") == Approx(1 - 0.5 * (1.5 / 1.8125 + 1 / 1.3125)).epsilon(1e-4));
    CHECK(value("gdl") == Approx(1 - 2 * 1.25 / 4).epsilon(1e-12));
    CHECK(value("gdl-paper") == Approx(1 - 1.25 / 4).epsilon(1e-12));
    CHECK(value("tversky") == Approx(1 - 0.5 * (0.75 / 1.075 + 0.5 / 0.925)).epsilon(1e-12));
    CHECK(value("weighted-tversky") == Approx(1 - 1.25 / 2).epsilon(1e-12));
    CHECK(value("dice-ce") == Approx(1 - 0.5 * (1.5 / 2.25 + 1 / 1.75)).epsilon(1e-4));
    CHECK(value("focal-tversky") ==
          Approx(0.5 * (std::pow(1 - 0.75 / 1.075, 0.75) + std::pow(1 - 0.5 / 0.925, 0.75))).epsilon(1e-12));
    CHECK(loss_of({.loss = "focal-tversky", .tversky_gamma = 1.0})(even).loss ==
          Approx(value("tversky")).epsilon(1e-12));
    CHECK(value("log-cosh-dice") ==
          Approx(0.5 * (std::log(std::cosh(1 - 1.5 / 1.8125)) + std::log(std::cosh(1 - 1 / 1.3125)))).epsilon(1e-4));
    CHECK(loss_of({.loss = "dice-ce", .background = false})(even).loss == Approx(1 - 1 / 1.75).epsilon(1e-4));
    CHECK(loss_of({.loss = "gdl", .background = false})(even).loss == Approx(1 - 1 / 1.75).epsilon(1e-12));
    CHECK(loss_of({.loss = "gdl", .overlap_weight = 3.0})(even).loss == Approx(3 - 6 * 1.25 / 4).epsilon(1e-12));

    // Two more voxels of class 0, given wholly to class 0: the weights become 1/9 and 1 (with eps: 1/9.0001, 1/1.0001).
    const std::vector<ClassSums> uneven{{2.75, 3.25, 2.8125, 3}, {0.5, 0.75, 0.3125, 1}};
    const auto weighted = loss_of({.loss = "gdl"})(uneven).loss;
    CHECK(weighted == Approx(1 - 2 * (2.75 / 9 + 0.5) / (6.25 / 9 + 1.75)).epsilon(1e-12));
    const double w0 = 1 / 9.0001;
    const double w1 = 1 / 1.0001;
    const double denominator = w0 * (2.75 + 0.3 * 0.5 + 0.7 * 0.25) + w1 * 0.925;
    CHECK(loss_of({})(uneven).loss == Approx(1 - (w0 * 2.75 + w1 * 0.5) / denominator).epsilon(1e-12));
}

TEST_CASE("a perfect result scores 0, but 1 - 1/m with eq. 4 as printed") {
    for_every_loss([](const LossOptions& options) {
        const auto value = loss_of(options)(perfect(50, 4).sums());
        CHECK(value.loss == Approx(options.loss == "gdl-paper" ? 0.75 : 0.0).margin(1e-6));
    });
}

TEST_CASE("slopes are the derivatives of the loss by every probability") {
    for_every_loss([](LossOptions options) {
        for (const std::size_t present : {4U, 3U, 1U})
            for (const auto& [alpha, beta] : {std::pair{0.3, 0.7}, std::pair{0.6, 0.9}, std::pair{1.0, 0.0}}) {
                options.alpha = alpha;
                options.beta = beta;
                const Loss loss = loss_of(options);
                Voxels voxels = random_voxels(present, 30, present);
                const LossValue value = loss(voxels.sums());
                REQUIRE(value.slopes.size() == 4);
                double largest = 0.0;
                for (const std::size_t v : {0U, 7U, 29U})
                    for (std::size_t l = 0; l < 4; ++l) {
                        const double p = voxels.p[v][l];
                        const double h = 1e-3 * p; // an absent class changes everything within its probability
                        voxels.p[v][l] = p + h;
                        const double above = loss(voxels.sums()).loss;
                        voxels.p[v][l] = p - h;
                        const double below = loss(voxels.sums()).loss;
                        voxels.p[v][l] = p;
                        const ClassSlope& slope = value.slopes[l];
                        const double analytic =
                            slope.truth * (voxels.truth[v] == l ? 1.0 : 0.0) + slope.constant + slope.probability * p;
                        INFO("present " << present << ", voxel " << v << ", class " << l << ", alpha " << alpha);
                        // Rounding of a loss near 1 limits the difference quotient to about 1e-16 / h.
                        CHECK(analytic == Approx((above - below) / (2 * h)).epsilon(1e-5).margin(1e-15 / h));
                        largest = std::max(largest, std::abs(analytic));
                    }
                if (options.absent == Absent::skip && beta > 0.0 && (options.background || present > 1))
                    CHECK(largest > 1e-4);
            }
    });
}

TEST_CASE("skip leaves an absent class out: it has no slope, and the loss is that of the other classes") {
    for_every_overlap([](const std::string& called) {
        const Loss loss = loss_of({.loss = called, .absent = Absent::skip});
        std::vector<ClassSums> sums = random_voxels(3, 40, 3).sums();
        REQUIRE(sums[3].truth == 0.0);
        const LossValue all = loss(sums);
        CHECK(all.slopes[3].constant == 0.0);
        CHECK(all.slopes[3].probability == 0.0);
        sums.pop_back();
        const double others = loss(sums).loss;
        // gdl-paper divides by the number of classes of the network, there or not.
        CHECK(all.loss == Approx(called == "gdl-paper" ? 1 - (1 - others) * 3 / 4 : others).epsilon(1e-12));
    });
}

TEST_CASE("literal counts an absent class as the formulas do") {
    const std::vector<ClassSums> sums = random_voxels(3, 40, 3).sums();
    const auto value = [&](const char* loss, Absent absent) {
        return loss_of({.loss = loss, .absent = absent})(sums).loss;
    };
    for (const char* loss : {"dice", "tversky"}) // a fourth score, which is 0
        CHECK(1 - value(loss, Absent::literal) == Approx((1 - value(loss, Absent::skip)) * 3 / 4).epsilon(1e-12));
    for (const char* loss : {"gdl", "weighted-tversky"}) {
        CHECK(value(loss, Absent::literal) > 0.99); // false positives of the absent class are all there is
        const auto slopes = loss_of({.loss = loss, .absent = Absent::literal})(sums).slopes;
        CHECK(slopes[3].constant > 0.0);
    }
}

TEST_CASE("no batch gives a NaN: no tumour at all, nothing predicted where it is, nothing at all") {
    for_every_loss([](LossOptions options) {
        for (const double alpha : {0.3, 0.0}) {
            options.alpha = alpha;
            const Loss loss = loss_of(options);
            CHECK(finite(loss(random_voxels(5, 20, 1).sums())));
            CHECK(finite(loss(perfect(20, 1).sums())));
            CHECK(finite(loss(std::vector<ClassSums>(4))));
            std::vector<ClassSums> missed = perfect(20, 4).sums();
            for (ClassSums& sums : missed)
                sums.probability = sums.probability_truth = sums.probability_squared = 0.0;
            CHECK(finite(loss(missed)));
            std::vector<ClassSums> barely = perfect(20, 1).sums();
            barely[2].probability = 1e-300;
            CHECK(finite(loss(barely)));
        }
        options.alpha = 1.0;
        options.beta = 0.0;
        std::vector<ClassSums> missed(4);
        missed[1].truth = 10.0; // there, never predicted, and false negatives cost nothing
        CHECK(finite(loss_of(options)(missed)));
    });
    const Loss paper = loss_of({});
    CHECK(paper(perfect(20, 1).sums()).loss == Approx(0.0).margin(1e-12));
}
