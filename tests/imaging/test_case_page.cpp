// SPDX-License-Identifier: MIT
// The page of a case: what is in it is what was given, it keeps to its size and loads nothing.
#include "imaging/case_page.h"
#include "imaging/nifti/gzip.h"
#include "phantom/phantom.h"
#include "support/cases.h"
#include "support/catch.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <string>

using namespace mfres;
using nlohmann::json;

namespace {

struct LoadedCase {
    test::TemporaryFolder folder;
    CaseFiles files = test::write_case(folder);
    Case loaded;
    LabelMap classes = test::small_phantom().labels;

    LoadedCase() {
        CaseOptions options;
        options.min_brain_ml = 1e-3;
        auto result = load_case(files, options);
        REQUIRE_OK(result);
        loaded = std::move(result).value();
        for (std::uint8_t& label : classes.labels)
            label = label == 4 ? 3 : label;
    }

    std::string page(const CasePageText& words = {}, const CasePageOptions& options = {},
                     const LabelMap* reference = nullptr) const {
        auto made = case_page(loaded, classes, reference, words, options);
        REQUIRE_OK(made);
        return std::move(made).value();
    }
};

json data_of(const std::string& page) {
    const std::string begin = "<script type=\"application/json\" id=\"data\">";
    const std::size_t at = page.find(begin) + begin.size();
    return json::parse(page.substr(at, page.find("</script>", at) - at));
}

std::vector<std::uint8_t> unpacked(const std::string& base64) {
    const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::vector<std::byte> bytes;
    unsigned bits = 0;
    int count = 0;
    for (const char c : base64) {
        if (c == '=')
            break;
        bits = bits << 6U | static_cast<unsigned>(letters.find(c));
        count += 6;
        if (count >= 8) {
            count -= 8;
            bytes.push_back(static_cast<std::byte>(bits >> static_cast<unsigned>(count) & 0xFFU));
        }
    }
    const auto content = gunzip(bytes, 1U << 28U, "page");
    REQUIRE_OK(content);
    std::vector<std::uint8_t> values;
    for (const std::byte b : *content)
        values.push_back(std::to_integer<std::uint8_t>(b));
    return values;
}

bool has(const std::string& text, const std::string& words) {
    return text.find(words) != std::string::npos;
}

} // namespace

TEST_CASE("labels and intensities of a page are those of the case") {
    const LoadedCase shown;
    const json data = data_of(shown.page());
    const auto size = data["size"].get<std::array<std::int64_t, 3>>();
    const auto low = data["low"].get<std::array<std::int64_t, 3>>();
    const auto labels = unpacked(data["labels"]);
    REQUIRE(labels.size() == static_cast<std::size_t>(size[0] * size[1] * size[2]));
    const std::array<std::int64_t, 3> whole = shown.classes.grid.size;
    std::size_t different = 0;
    std::size_t tumour = 0;
    for (std::int64_t k = 0, n = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (std::int64_t i = 0; i < size[0]; ++i, ++n) {
                const auto at =
                    static_cast<std::size_t>(i + low[0] + whole[0] * (j + low[1] + whole[1] * (k + low[2])));
                different += labels[static_cast<std::size_t>(n)] != shown.classes.labels[at];
                tumour += labels[static_cast<std::size_t>(n)] != 0;
            }
    CHECK(different == 0);
    CHECK(tumour == static_cast<std::size_t>(std::count_if(shown.classes.labels.begin(), shown.classes.labels.end(),
                                                           [](std::uint8_t c) { return c != 0; }))); // none is cut off

    REQUIRE(data["images"].size() == 4);
    CHECK(data["images"][0]["name"] == "FLAIR");
    CHECK(data["images"][1]["name"] == "T1ce");
    const auto differences = unpacked(data["images"][0]["data"]);
    REQUIRE(differences.size() == labels.size());
    const auto& flair = test::small_phantom().volumes[3];
    std::uint8_t grey = 0;
    double sum_xy = 0, sum_x = 0, sum_y = 0, sum_xx = 0, sum_yy = 0, count = 0;
    for (std::int64_t k = 0, n = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (std::int64_t i = 0; i < size[0]; ++i, ++n) {
                grey = static_cast<std::uint8_t>(grey + differences[static_cast<std::size_t>(n)]);
                REQUIRE(grey < 64);
                const double x = flair.voxels[static_cast<std::size_t>(
                    i + low[0] + whole[0] * (j + low[1] + whole[1] * (k + low[2])))];
                sum_x += x;
                sum_y += grey;
                sum_xx += x * x;
                sum_yy += grey * grey;
                sum_xy += x * grey;
                ++count;
            }
    const double correlation = (count * sum_xy - sum_x * sum_y) /
                               std::sqrt((count * sum_xx - sum_x * sum_x) * (count * sum_yy - sum_y * sum_y));
    CHECK(correlation > 0.98); // but for the window
}

TEST_CASE("a page begins at the middle of the core, counts as the file and has the reference where there is one") {
    LoadedCase shown;
    const json data = data_of(shown.page());
    const auto start = data["start"].get<std::array<std::int64_t, 3>>();
    const auto size = data["size"].get<std::array<std::int64_t, 3>>();
    const auto labels = unpacked(data["labels"]);
    std::size_t core = 0;
    for (std::int64_t j = 0; j < size[1]; ++j)
        for (std::int64_t i = 0; i < size[0]; ++i) {
            const auto value = labels[static_cast<std::size_t>(i + size[0] * (j + size[1] * start[2]))];
            core += value == 1 || value == 3;
        }
    CHECK(core > 0);
    CHECK(data["file"]["size"] == json(shown.loaded.canonical_grid.size));
    CHECK(data["file"]["axis"] == json::array({0, 1, 2}));
    CHECK_FALSE(data.contains("reference"));
    const std::string compared = shown.page({}, {}, &shown.classes);
    CHECK(data_of(compared)["reference"] == data["labels"]);
    CHECK(has(compared, "id=\"reference\""));
    // No tumour, and a contrast that is absent.
    std::fill(shown.classes.labels.begin(), shown.classes.labels.end(), std::uint8_t{0});
    shown.loaded.present[0] = false;
    CHECK(data_of(shown.page())["images"].size() == 3);
}

TEST_CASE("a page is made coarser until it keeps to its size, and rejected where nothing helps") {
    const LoadedCase shown;
    const std::size_t fine = shown.page().size();
    const std::string coarse = shown.page({}, {.max_bytes = fine / 2});
    CHECK(coarse.size() <= fine / 2);
    const json data = data_of(coarse);
    CHECK(data["images"][0]["levels"].get<int>() < 64);
    CHECK(data["labels"] == data_of(shown.page())["labels"]); // labels stay whole
    REQUIRE_CODE(case_page(shown.loaded, shown.classes, nullptr, {}, {.max_bytes = 10'000}), memory_limit);
}

TEST_CASE("names and texts of a page are text, and nothing is loaded") {
    const LoadedCase shown;
    CasePageText words;
    words.title = "</script><img src=x onerror=alert(1)>";
    words.warnings = {"5 < 6 & \"so on\""};
    words.volumes = {{"oedema", "1.00 ml"}};
    words.facts = {{"model", "<m>"}};
    const std::string page = shown.page(words);
    CHECK_FALSE(has(page, "<img"));
    CHECK(has(page, "<h1>&lt;/script&gt;&lt;img"));
    CHECK(has(page, "5 &lt; 6 &amp; &quot;so on&quot;"));
    CHECK(has(page, "<tr><th>model</th><td>&lt;m&gt;</td></tr>"));
    CHECK(has(page, "Research use only: not a medical device."));
    CHECK(has(page, "default-src 'none'"));
    for (const char* from_outside : {"http:", "https:", "src=\"", "@import", "url(", "fetch("})
        CHECK_FALSE(has(page, from_outside));
}

TEST_CASE("labels that do not belong to the images of a page are rejected") {
    LoadedCase shown;
    LabelMap other = shown.classes;
    other.grid.size[0] -= 1;
    REQUIRE_CODE(case_page(shown.loaded, other, nullptr, {}), grid_size_mismatch);
    other = shown.classes;
    other.labels[5] = 4;
    REQUIRE_CODE(case_page(shown.loaded, other, nullptr, {}), label_outside_scheme);
    REQUIRE_CODE(case_page(shown.loaded, shown.classes, &other, {}), label_outside_scheme);
}
