// SPDX-License-Identifier: MIT
// Manual pages and completion scripts say what --help says, and shells take them.
#include "support/program.h"

#include <nlohmann/json.hpp>

#include <regex>
#include <set>

using namespace mfres;
using test::run_command;
using test::run_program;

namespace {

namespace fs = std::filesystem;

/// The commands that `mfres help` lists.
std::vector<std::string> commands() {
    const std::string help = run_program({"help"}).out;
    std::vector<std::string> names;
    std::istringstream lines(help.substr(help.find("Commands:\n") + 10));
    for (std::string line; std::getline(lines, line) && line.rfind("  help ", 0) != 0;)
        names.push_back(line.substr(2, line.find(' ', 2) - 2));
    return names;
}

/// The long options that `mfres COMMAND --help` lists.
std::set<std::string> options_of(const std::string& command) {
    const std::string help = run_program({command, "--help"}).out;
    static const std::regex option("\n  (?:-[a-z] \\[ )?--([a-z0-9-]+)");
    std::set<std::string> names;
    for (std::sregex_iterator found(help.begin(), help.end(), option), end; found != end; ++found)
        names.insert((*found)[1]);
    return names;
}

std::string without_backslashes(std::string words) {
    words.erase(std::remove(words.begin(), words.end(), '\\'), words.end());
    return words;
}

/// What bash completes for these words, the last of which is being typed.
std::set<std::string> completed(const fs::path& script, const std::vector<std::string>& words) {
    std::string line = "source '" + script.string() + "'; COMP_WORDS=(";
    for (const std::string& word : words)
        line += "'" + word + "' ";
    line += "); COMP_CWORD=" + std::to_string(words.size() - 1) + "; _mfres; printf '%s\\n' \"${COMPREPLY[@]}\"";
    const auto run = run_command({"bash", "-euc", line});
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    std::istringstream lines(run.out);
    std::set<std::string> found;
    for (std::string word; std::getline(lines, word);)
        if (!word.empty())
            found.insert(word);
    return found;
}

} // namespace

TEST_CASE("every command has a manual page with each of its options") {
    const test::TemporaryFolder folder;
    const fs::path pages = folder / "man1";
    const auto written = run_program({"manual", "--out", pages.string(), "--json"});
    REQUIRE(written.exit_code == 0);
    const auto names = commands();
    CHECK(nlohmann::json::parse(written.out)["pages"].size() == names.size() + 1);
    const std::string main_page = test::file_text(pages / "mfres.1");
    for (const std::string& command : names) {
        INFO(command);
        const std::string page = test::file_text(pages / ("mfres-" + command + ".1"));
        for (const char* section : {".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS", ".SH EXAMPLES"})
            CHECK(page.find(section) != std::string::npos);
        const auto options = options_of(command);
        CHECK(options.size() >= 3);
        for (const std::string& option : options)
            CHECK(without_backslashes(page).find("fB--" + option + "fR") != std::string::npos);
        CHECK(without_backslashes(main_page).find("mfres-" + command + " (1)") != std::string::npos);
        CHECK(run_program({"manual", command}).out == page);
    }
    CHECK(run_program({"manual", "--out", pages.string()}).exit_code == 6); // they exist
    const auto unknown = run_program({"manual", "segmant"});
    CHECK(unknown.exit_code == 2);
    CHECK(unknown.err.find("did you mean 'segment'?") != std::string::npos);
    if (std::system("command -v groff >/dev/null") != 0) {
        std::printf("SKIPPED: there is no groff to format the pages\n");
        return;
    }
    for (const auto& entry : fs::directory_iterator(pages)) {
        const auto formatted = run_command({"groff", "-man", "-ww", "-Tutf8", entry.path().string()});
        INFO(entry.path() << ": " << formatted.err);
        CHECK(formatted.exit_code == 0);
        CHECK(formatted.err.empty());
    }
}

TEST_CASE("bash completes commands, options and backends") {
    const test::TemporaryFolder folder;
    const fs::path script = folder / "mfres";
    std::ofstream(script) << run_program({"completion", "bash"}).out;
    const auto names = commands();
    auto first = completed(script, {"mfres", ""});
    for (const std::string& command : names) {
        INFO(command);
        CHECK(first.erase(command) == 1);
        const auto options = options_of(command);
        const auto shown = completed(script, {"mfres", command, "--"});
        CHECK(shown.size() == options.size());
        for (const std::string& option : options)
            CHECK(shown.count("--" + option) == 1);
    }
    CHECK(first == std::set<std::string>{"help", "--help", "--version"});
    CHECK(completed(script, {"mfres", "seg"}) == std::set<std::string>{"segment"});
    CHECK(completed(script, {"mfres", "segment", "--prev"}) ==
          std::set<std::string>{"--preview", "--preview-uncertainty"});
    CHECK(completed(script, {"mfres", "segment", "--backend", "re"}) == std::set<std::string>{"reference"});
    CHECK(completed(script, {"mfres", "segment", "--case", "x"}).empty()); // a file, which -o default completes
    CHECK(run_program({"completion", "fish"}).exit_code == 2);
    const auto json = run_program({"completion", "zsh", "--json"});
    CHECK(nlohmann::json::parse(json.out)["shell"] == "zsh");
}

TEST_CASE("zsh takes its completion script, which names every option") {
    const test::TemporaryFolder folder;
    const fs::path script = folder / "_mfres";
    const std::string words = run_program({"completion", "zsh"}).out;
    std::ofstream(script) << words;
    CHECK(words.rfind("#compdef mfres\n", 0) == 0);
    for (const std::string& command : commands()) {
        INFO(command);
        const auto begin = words.find("\n        " + command + ")\n");
        REQUIRE(begin != std::string::npos);
        const std::string part = words.substr(begin, words.find("            ;;\n", begin) - begin);
        for (const std::string& option : options_of(command))
            CHECK(part.find("--" + option) != std::string::npos);
    }
    if (std::system("command -v zsh >/dev/null") != 0) {
        std::printf("SKIPPED: there is no zsh to read the script\n");
        return;
    }
    const auto read =
        run_command({"zsh", "-fc",
                     "fpath+=('" + folder.path().string() + "'); autoload -Uz compinit; compinit -u -d '" +
                         (folder / "dump").string() + "'; print -r -- $_comps[mfres]; autoload +X _mfres && zsh -n '" +
                         script.string() + "'"});
    INFO(read.err);
    CHECK(read.exit_code == 0);
    CHECK(read.out == "_mfres\n");
}
