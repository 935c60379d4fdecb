// SPDX-License-Identifier: MIT
// Scripts with which a shell completes commands and options, from the tables of --help.
#include "commands.h"
#include "option_groups.h"

#include "backends/backend.h"
#include "core/json_value.h"
#include "core/try.h"

#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about = "Prints a script with which a shell completes the commands and options of this program.";

constexpr const char* examples = "Examples:\n"
                                 "  source <(mfres completion bash)                       # in ~/.bashrc\n"
                                 "  mfres completion zsh > ~/.zfunc/_mfres                # a folder of $fpath\n";

/// "auto onednn native reference"
std::string backend_words() {
    std::string words = "auto";
    for (const Backend* const backend : backends())
        words += " " + std::string(backend->name());
    return words;
}

/// Calls visit(command, its text) for each command of this build.
template <typename Visit>
void for_each_command(const Visit& visit) {
    for (const Command& command : commands())
        if (command.run != nullptr)
            visit(command, describe(command));
}

std::string bash_script() {
    std::string names;
    std::string cases;
    for_each_command([&](const Command& command, const CommandText& words) {
        names += std::string(command.name) + " ";
        cases += std::string("        ") + command.name + ") words=\"";
        for (const OptionText& option : words.options)
            cases += "--" + option.name + (option.letter.empty() ? " " : " -" + option.letter + " ");
        cases.back() = '"';
        cases += " ;;\n";
    });
    return text("# Completion of mfres ", version(), " for bash, made by 'mfres completion bash'.\n",
                "_mfres() {\n"
                "    local word=${COMP_WORDS[COMP_CWORD]} words=\n"
                "    COMPREPLY=()\n"
                "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                "        COMPREPLY=($(compgen -W \"",
                names,
                "help --help --version\" -- \"$word\"))\n"
                "        return\n"
                "    fi\n"
                "    if [ \"${COMP_WORDS[COMP_CWORD-1]}\" = --backend ]; then\n"
                "        COMPREPLY=($(compgen -W \"",
                backend_words(),
                "\" -- \"$word\"))\n"
                "        return\n"
                "    fi\n"
                "    [[ $word == -* ]] || return 0 # a file: what -o default completes\n"
                "    case ${COMP_WORDS[1]} in\n",
                cases,
                "    esac\n"
                "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
                "}\n"
                "complete -o default -F _mfres mfres\n");
}

/// Text inside single quotes and, where zsh reads it as a specification, with its signs escaped.
std::string zsh_words(const std::string& words, const std::string& signs) {
    std::string shown;
    for (const char c : words) {
        if (signs.find(c) != std::string::npos)
            shown += '\\';
        shown += c == '\'' ? std::string("'\\''") : std::string(1, c == '\n' ? ' ' : c);
    }
    return shown;
}

std::string zsh_option(const OptionText& option) {
    const std::string value = !option.takes_value        ? ""
                              : option.name == "backend" ? ":backend:(" + backend_words() + ")"
                                                         : ":value:_files";
    const std::string rest = "[" + zsh_words(option.help, "[]:\\") + "]" + value + "'";
    if (option.letter.empty())
        return "'*--" + option.name + rest;
    return "'*'{-" + option.letter + ",--" + option.name + "}'" + rest;
}

std::string zsh_script() {
    std::string names;
    std::string cases;
    for_each_command([&](const Command& command, const CommandText& words) {
        names += text("        '", command.name, ":", zsh_words(command.summary, ":\\"), "'\n");
        cases += text("        ", command.name, ")\n            _arguments");
        for (const OptionText& option : words.options)
            cases += " \\\n                " + zsh_option(option);
        cases += " \\\n                '*:file:_files'\n            ;;\n";
    });
    return text("#compdef mfres\n# Completion of mfres ", version(), " for zsh, made by 'mfres completion zsh'.\n",
                "_mfres() {\n"
                "    local -a commands=(\n",
                names,
                "        'help:commands, backends and exit codes'\n"
                "    )\n"
                "    if (( CURRENT == 2 )); then\n"
                "        _describe command commands\n"
                "        return\n"
                "    fi\n"
                "    local command=$words[2]\n"
                "    shift words\n"
                "    (( CURRENT-- ))\n"
                "    case $command in\n",
                cases,
                "    esac\n"
                "}\n"
                "if [ \"$funcstack[1]\" = _mfres ]; then\n"
                "    _mfres \"$@\"\n"
                "else\n"
                "    compdef _mfres mfres\n"
                "fi\n");
}

} // namespace

int completion(const std::vector<std::string>& arguments) {
    Options options("completion bash|zsh", about, examples);
    options.add()("shell", po::value<std::string>()->required(), "bash or zsh (also without --shell)");
    add_report_options(options);
    options.positional("shell");
    if (const auto done = options.parse(arguments))
        return *done;
    const auto shell = options.get<std::string>("shell");
    if (shell != "bash" && shell != "zsh")
        return usage_error("there is a completion for bash and for zsh, and none for '" + shell + "'");
    const std::string script = shell == "bash" ? bash_script() : zsh_script();
    if (options.has("json"))
        std::cout << Json{{"shell", shell}, {"script", script}}.dump(2) << '\n';
    else
        std::cout << script;
    return exit_ok;
}

} // namespace mfres::cli
