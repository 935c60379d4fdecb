// SPDX-License-Identifier: MIT
// The table of commands, what each says about itself, and what is made of that: completion scripts and manual pages.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace mfres::cli {

struct Command {
    const char* name;
    const char* summary;
    int (*run)(const std::vector<std::string>&); ///< null: not part of this build
};

struct ExitCodeText {
    const char* code;
    const char* meaning;
};

/// Both tables are in main.cpp; `mfres help` prints them.
std::span<const Command> commands();
std::span<const ExitCodeText> exit_codes();

/// An option as --help shows it.
struct OptionText {
    std::string name;   ///< without dashes
    std::string letter; ///< "o" for -o; empty without one
    bool takes_value = false;
    std::string help;        ///< with "(default auto)" at the end where there is one
    bool positional = false; ///< also taken without its name
};

struct CommandText {
    std::string usage; ///< the line after "mfres"
    std::string about;
    std::string examples;
    std::vector<OptionText> options;
};

/// What --help of a command is made of. Precondition: the command is part of this build.
CommandText describe(const Command& command);

int completion(const std::vector<std::string>& arguments);
int manual(const std::vector<std::string>& arguments);

} // namespace mfres::cli
