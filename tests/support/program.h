// Runs the mfres program as a user does: a process with arguments, an exit code and what it printed.
#pragma once

#include "support/paths.h"

#include <fstream>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <vector>

namespace mfres::test {

struct Finished {
    int exit_code = -1;
    std::string out;
    std::string err;
};

inline std::string file_text(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream content;
    content << in.rdbuf();
    return content.str();
}

/// Arguments are passed as they are, quoted for the shell.
inline Finished run_program(const std::vector<std::string>& arguments) {
    const TemporaryFolder folder;
    std::string command = MFRES_PROGRAM;
    for (const std::string& argument : arguments) {
        command += " '";
        for (const char c : argument)
            command += c == '\'' ? std::string("'\\''") : std::string(1, c);
        command += "'";
    }
    command += " >'" + (folder / "out").string() + "' 2>'" + (folder / "err").string() + "' </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), file_text(folder / "out"),
            file_text(folder / "err")};
}

} // namespace mfres::test
