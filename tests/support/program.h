// SPDX-License-Identifier: MIT
// Runs the mfres program as a user does: a process with arguments, an exit code and what it printed.
#pragma once

#include "support/catch.h"
#include "support/paths.h"

#include <chrono>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
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

/// A program's name and its arguments, passed as they are, quoted for the shell.
inline Finished run_command(const std::vector<std::string>& words) {
    const TemporaryFolder folder;
    std::string command;
    for (const std::string& word : words) {
        command += command.empty() ? "'" : " '";
        for (const char c : word)
            command += c == '\'' ? std::string("'\\''") : std::string(1, c);
        command += "'";
    }
    command += " >'" + (folder / "out").string() + "' 2>'" + (folder / "err").string() + "' </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), file_text(folder / "out"),
            file_text(folder / "err")};
}

inline Finished run_program(const std::vector<std::string>& arguments) {
    std::vector<std::string> words{MFRES_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_command(words);
}

/// Starts a program, looked for where a shell does, with its output going to a file, as a job in the background.
inline pid_t start_command(const std::vector<std::string>& words, const std::filesystem::path& log) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child > 0)
        return child;
    const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    std::vector<char*> pointers;
    for (const std::string& word : words)
        pointers.push_back(const_cast<char*>(word.c_str()));
    pointers.push_back(nullptr);
    ::execvp(pointers[0], pointers.data());
    ::_exit(127);
}

inline pid_t start_program(const std::vector<std::string>& arguments, const std::filesystem::path& log) {
    std::vector<std::string> words{MFRES_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return start_command(words, log);
}

/// Waits until the file holds those words, for at most a minute.
inline bool wait_for(const std::filesystem::path& file, const std::string& words) {
    for (int i = 0; i < 1200; ++i) {
        if (file_text(file).find(words) != std::string::npos)
            return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
}

} // namespace mfres::test
