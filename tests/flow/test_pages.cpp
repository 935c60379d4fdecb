// SPDX-License-Identifier: MIT
// Pages in a browser without a window: what is drawn, and what controls do. Skipped where no browser is installed.
#include "support/catch.h"
#include "support/program.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <fstream>
#include <optional>

using mfres::test::file_text;
using mfres::test::run_command;
using mfres::test::run_program;
using mfres::test::TemporaryFolder;
using nlohmann::json;

namespace {

std::optional<std::string> browser() {
    for (const char* name : {"chromium", "chromium-browser", "google-chrome"})
        if (run_command({"sh", "-c", std::string("command -v ") + name}).exit_code == 0)
            return name;
    std::puts("SKIPPED: no browser is installed");
    return std::nullopt;
}

/// Runs the page with a script behind its own, and returns what the script puts into document.body.dataset.result.
json run_page(const std::string& program, const std::filesystem::path& page, const std::string& script) {
    const TemporaryFolder folder;
    std::string content = file_text(page);
    const std::size_t end = content.rfind("</body>");
    REQUIRE(end != std::string::npos);
    content.insert(end,
                   "<script>(async () => { while (document.body.dataset.ready !== 'yes') await new Promise(done => "
                   "setTimeout(done, 20));\nconst result = {};\n" +
                       script + "\ndocument.body.dataset.result = JSON.stringify(result); })();</script>\n");
    const auto with_script = folder / "page.html";
    std::ofstream(with_script, std::ios::binary) << content;
    const auto run = run_command({program, "--headless=new", "--no-sandbox", "--disable-gpu",
                                  "--user-data-dir=" + (folder / "profile").string(), "--virtual-time-budget=60000",
                                  "--dump-dom", "file://" + with_script.string()});
    INFO(run.err);
    const std::string mark = "data-result=\"";
    const std::size_t at = run.out.find(mark);
    REQUIRE(at != std::string::npos);
    std::string text = run.out.substr(at + mark.size(), run.out.find('"', at + mark.size()) - at - mark.size());
    for (std::size_t quote = 0; (quote = text.find("&quot;", quote)) != std::string::npos;)
        text.replace(quote, 6, "\"");
    return json::parse(text);
}

} // namespace

TEST_CASE("the page of a case shows labels on and off, other contrasts and other slices in a browser") {
    const auto program = browser();
    if (!program)
        return;
    const TemporaryFolder folder;
    const auto path = [&](const char* name) { return (folder / name).string(); };
    REQUIRE(run_program({"phantom", "--seed", "4", "--size", "64,72,56", "--out", path("case")}).exit_code == 0);
    const auto segmented = run_program({"segment", "--case", path("case"), "--out", path("l.nii.gz"), "--html",
                                        path("l.html"), "--accept", "brain_implausible", "--quiet"});
    INFO(segmented.err);
    REQUIRE(segmented.exit_code == 0);
    CHECK(std::filesystem::file_size(path("l.html")) < 5'000'000);
    const json seen = run_page(*program, path("l.html"), R"js(
const pixels = id => { const c = document.getElementById(id); return c.getContext("2d").getImageData(0, 0, c.width, c.height).data; };
const sum = id => { let s = 0; const d = pixels(id); for (let n = 0; n < d.length; n += 4) s = (31 * s + d[n] + 3 * d[n + 1] + 7 * d[n + 2]) >>> 0; return s; };
// Colours but that of the marks at the border, which are orange.
const coloured = id => { let count = 0; const d = pixels(id); for (let n = 0; n < d.length; n += 4)
  if (Math.max(d[n], d[n + 1], d[n + 2]) - Math.min(d[n], d[n + 1], d[n + 2]) > 20 && !(d[n] > d[n + 2] + 100 && d[n + 1] < d[n] - 40)) ++count; return count; };
const box = document.getElementById("labels");
result.canvases = document.querySelectorAll("canvas").length;
result.images = document.querySelectorAll("#images input").length;
result.coloured = coloured("axial"); result.on = sum("axial");
box.click(); result.plain = coloured("axial"); result.off = sum("axial");
document.dispatchEvent(new KeyboardEvent("keydown", {key: "l"})); result.key = sum("axial");
document.getElementById("filled").click(); result.outlines = coloured("axial");
document.getElementById("filled").click();
document.getElementById("image-T1ce").click(); result.t1ce = sum("axial");
document.getElementById("image-FLAIR").click(); result.back = sum("axial");
const slider = document.querySelector("[aria-label='axial slice']");
result.caption = slider.parentElement.querySelector("figcaption").textContent;
slider.value = 0; slider.dispatchEvent(new Event("input"));
result.moved = sum("axial"); result.moved_caption = slider.parentElement.querySelector("figcaption").textContent;
result.problem = document.getElementById("problem").textContent;
result.notice = document.querySelector(".notice").textContent;
)js");
    CHECK(seen["canvases"] == 3);
    CHECK(seen["images"] == 4);
    CHECK(seen["problem"] == "");
    CHECK(seen["coloured"].get<int>() > 500);
    CHECK(seen["plain"].get<int>() == 0);
    CHECK(seen["off"] != seen["on"]);
    CHECK(seen["key"] == seen["on"]);
    CHECK(seen["outlines"].get<int>() > 50);
    CHECK(seen["outlines"].get<int>() < seen["coloured"].get<int>());
    CHECK(seen["t1ce"] != seen["on"]);
    CHECK(seen["back"] == seen["on"]);
    CHECK(seen["moved"] != seen["on"]);
    CHECK(seen["caption"] != seen["moved_caption"]);
    CHECK(seen["caption"].get<std::string>().find("of 0 to 55 in the file") != std::string::npos);
    CHECK(seen["notice"].get<std::string>().find("not a medical device") != std::string::npos);
}

TEST_CASE("the page of an evaluation is sorted by a click in a browser") {
    const auto program = browser();
    if (!program)
        return;
    const TemporaryFolder folder;
    const auto path = [&](const char* name) { return (folder / name).string(); };
    std::ofstream(path("t.csv"))
        << "Label,Dice_ET,Dice_WT,Dice_TC\na,0.9,0.9,0.9\nb,0.1,0.2,0.3\nc,0.5,0.95,0.5\nd,,,\n";
    const auto made = run_program({"evaluate", "--table", path("t.csv"), "--html", path("t.html"), "--quiet"});
    INFO(made.err);
    REQUIRE(made.exit_code == 0);
    const json seen = run_page(*program, path("t.html"), R"js(
const order = () => [...document.querySelector("#cases tbody").rows].map(row => row.cells[0].textContent).join("");
const heads = [...document.querySelectorAll("#cases thead button")];
result.first = order();
heads[2].click(); result.whole = order();
heads[2].click(); result.down = order();
heads[0].click(); result.names = order();
)js");
    CHECK(seen["first"] == "bcad");
    CHECK(seen["whole"] == "bacd"); // by Dice of the whole tumour; blanks are last
    CHECK(seen["down"] == "cabd");
    CHECK(seen["names"] == "abcd");
}
