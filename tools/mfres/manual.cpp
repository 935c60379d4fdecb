// SPDX-License-Identifier: MIT
// Manual pages (man(7)) from the tables of --help.
#include "commands.h"
#include "option_groups.h"

#include "core/file.h"
#include "core/json_value.h"
#include "core/try.h"

#include <iostream>
#include <sstream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Prints the manual page of this program or of a command, or writes all of them into a folder.";

constexpr const char* examples = "Examples:\n"
                                 "  mfres manual segment | man -l -\n"
                                 "  mfres manual --out man1\n";

/// Text that has no signs of its own meaning for roff.
std::string roff(const std::string& words) {
    std::string shown;
    bool line_begins = true;
    for (const char c : words) {
        if (line_begins && (c == '.' || c == '\''))
            shown += "\\&";
        line_begins = c == '\n';
        if (c == '\\')
            shown += "\\e";
        else if (c == '-')
            shown += "\\-";
        else
            shown += c;
    }
    return shown;
}

std::string heading(const std::string& page) {
    std::string title;
    for (const char c : page)
        title += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    return text(".TH ", roff(title), " 1 \"\" \"mfres ", version(), "\" \"mfres\"\n");
}

std::string option_entry(const OptionText& option) {
    std::string entry = ".TP\n";
    if (!option.letter.empty())
        entry += "\\fB\\-" + option.letter + "\\fR, ";
    entry += "\\fB\\-\\-" + roff(option.name) + "\\fR";
    if (option.takes_value)
        entry += " \\fIarg\\fR";
    return entry + "\n" + roff(option.help) + "\n";
}

/// The lines after the first, which is a heading.
std::string without_heading(const std::string& examples_of) {
    return examples_of.substr(examples_of.find('\n') + 1);
}

std::string command_page(const Command& command) {
    const CommandText words = describe(command);
    const std::string name = text("mfres-", command.name);
    std::string page = heading(name) + ".SH NAME\n" + roff(name) + " \\- " + roff(command.summary) +
                       "\n.SH SYNOPSIS\n.B mfres\n" + roff(words.usage) + "\n.SH DESCRIPTION\n" + roff(words.about) +
                       "\n.SH OPTIONS\n";
    for (const OptionText& option : words.options)
        page += option_entry(option);
    return page + ".SH EXAMPLES\n.nf\n" + roff(without_heading(words.examples)) + ".fi\n.SH SEE ALSO\n.BR mfres (1)\n";
}

std::string main_page() {
    std::string page = heading("mfres") +
                       ".SH NAME\nmfres \\- brain tumour segmentation with MF\\-RES2Net on ordinary machines\n"
                       ".SH SYNOPSIS\n.B mfres\n\\fIcommand\\fR [\\fIoptions\\fR]\n.SH DESCRIPTION\n"
                       "Research use only: not a medical device.\n.SH COMMANDS\n";
    for (const Command& command : commands())
        if (command.run != nullptr)
            page += text(".TP\n.BR mfres\\-", command.name, " (1)\n", roff(command.summary), "\n");
    page += ".SH EXIT STATUS\n";
    for (const ExitCodeText& code : exit_codes())
        page += text(".TP\n.B ", code.code, "\n", roff(code.meaning), "\n");
    return page + ".SH ENVIRONMENT\n"
                  ".TP\n.B MFRES_MODELS\nfolder in which weights that are given by name are looked for first\n"
                  ".TP\n.B MFRES_MODULES\nfolder in which modules are looked for first\n";
}

/// The page of that command, of the program for "mfres". Errors: invalid_argument.
Result<std::string> page_of(const std::string& name) {
    if (name == "mfres")
        return main_page();
    std::vector<std::string> known;
    for (const Command& command : commands()) {
        if (name == command.name && command.run != nullptr)
            return command_page(command);
        known.emplace_back(command.name);
    }
    return Error{ErrorCode::invalid_argument, text("there is no command '", name, "'", did_you_mean(name, known)),
                 name};
}

/// Writes every page; returns their files.
Result<std::vector<std::string>> write_pages(const std::filesystem::path& folder, bool overwrite) {
    std::error_code problem;
    std::filesystem::create_directories(folder, problem);
    std::vector<std::string> written;
    const auto write = [&](const std::string& name, const std::string& page) -> Status {
        const auto path = folder / (name + ".1");
        MFRES_CHECK(write_file_atomically(path, page, overwrite));
        written.push_back(path.string());
        return {};
    };
    MFRES_CHECK(write("mfres", main_page()));
    for (const Command& command : commands())
        if (command.run != nullptr)
            MFRES_CHECK(write(text("mfres-", command.name), command_page(command)));
    return written;
}

} // namespace

int manual(const std::vector<std::string>& arguments) {
    Options options("manual [COMMAND | --out FOLDER]", about, examples);
    // clang-format off
    options.add()
        ("command", po::value<std::string>()->default_value("mfres"), "whose page (also without --command)")
        ("out,o", po::value<std::string>(), "write every page into this folder: mfres.1, mfres-segment.1 ...");
    // clang-format on
    add_output_options(options);
    options.positional("command");
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    if (options.has("out")) {
        const auto written = write_pages(options.get<std::string>("out"), options.has("force"));
        if (!written)
            return fail(written.error(), json);
        confirm(options, {{"pages", *written}}, text(written->size(), " pages in ", options.get<std::string>("out")));
        return exit_ok;
    }
    const auto page = page_of(options.get<std::string>("command"));
    if (!page)
        return fail(page.error(), json);
    if (json)
        std::cout << Json{{"page", *page}}.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
    else
        std::cout << *page;
    return exit_ok;
}

} // namespace mfres::cli
