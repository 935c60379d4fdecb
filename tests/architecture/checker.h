// SPDX-License-Identifier: MIT
// Checks of source files that a compiler does not make: which module includes which, and the words of comments.
#pragma once

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace mfres::test {

/// A source file: its path relative to the root, with '/', and its text.
struct SourceFile {
    std::string path;
    std::string text;
};

inline bool is_source(const std::filesystem::path& path) {
    static const std::set<std::string> suffixes{".h", ".cpp", ".cu", ".cuh", ".c", ".hpp", ".in"};
    return suffixes.count(path.extension().string()) > 0;
}

/// All source files below root/folder, in any depth, sorted by path.
inline std::vector<SourceFile> read_sources(const std::filesystem::path& root, const std::string& folder) {
    std::vector<SourceFile> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
        if (!entry.is_regular_file() || !is_source(entry.path()))
            continue;
        std::ifstream in(entry.path(), std::ios::binary);
        files.push_back({std::filesystem::relative(entry.path(), root).generic_string(),
                         {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()}});
    }
    std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    return files;
}

/// The names of all #include directives; `quoted` tells "x.h" from <x.h>.
struct Include {
    std::string name;
    bool quoted = false;
};

inline std::vector<Include> includes_of(const SourceFile& file) {
    static const std::regex pattern(R"((?:^|\n)[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"])");
    std::vector<Include> found;
    for (std::sregex_iterator match(file.text.begin(), file.text.end(), pattern), end; match != end; ++match)
        found.push_back({(*match)[2], (*match)[1] == "\""});
    return found;
}

/// The module of a path: "lib/core/file.h" -> "core", "lib/include/..." -> "public", "lib/x.cpp" -> "lib",
/// "backends/backend.h" -> "backends", "backends/cuda/engine.h" -> "backends/cuda", "tools/mfres/cli.h" -> "tools".
inline std::string module_of(const std::string& path) {
    const std::size_t first = path.find('/');
    const std::string top = path.substr(0, first);
    if (top == "tools" || first == std::string::npos)
        return top;
    const std::size_t second = path.find('/', first + 1);
    if (second == std::string::npos)
        return top;
    const std::string folder = path.substr(first + 1, second - first - 1);
    if (top == "backends")
        return "backends/" + folder;
    return folder == "include" ? "public" : folder;
}

/// Whether a path relative to the root exists.
using Exists = std::function<bool(const std::string&)>;

/// The path of an included file relative to the root, in the order of the compiler: beside the including file (quoted
/// only), lib, the root, lib/include. Empty for a file that is not of this project.
inline std::string resolve(const SourceFile& file, const Include& include, const Exists& exists) {
    const auto normal = [](const std::filesystem::path& path) { return path.lexically_normal().generic_string(); };
    std::vector<std::string> candidates;
    if (include.quoted)
        candidates.push_back(normal(std::filesystem::path(file.path).parent_path() / include.name));
    for (const char* folder : {"lib", "", "lib/include"})
        candidates.push_back(normal(std::filesystem::path(folder) / include.name));
    const auto found = std::find_if(candidates.begin(), candidates.end(), exists);
    return found == candidates.end() ? std::string() : *found;
}

/// Modules by name, each with the modules that it may include besides itself and the public headers.
using Rules = std::map<std::string, std::set<std::string>>;

/// Every violation of the rules as "<file> includes <name>: <reason>". A module without a rule is a violation.
inline std::vector<std::string> include_violations(const std::vector<SourceFile>& files, const Rules& rules,
                                                   const Exists& exists) {
    std::vector<std::string> violations;
    for (const SourceFile& file : files) {
        const std::string module = module_of(file.path);
        const auto rule = rules.find(module);
        if (rule == rules.end()) {
            violations.push_back(file.path + ": module " + module + " has no rule");
            continue;
        }
        for (const Include& include : includes_of(file)) {
            const std::string path = resolve(file, include, exists);
            const std::string target = path.empty() ? "" : module_of(path);
            if (path.empty() && include.quoted)
                violations.push_back(file.path + " includes " + include.name + ": not found in this project");
            else if (!path.empty() && target != module && target != "public" && rule->second.count(target) == 0)
                violations.push_back(file.path + " includes " + include.name + ": " + module + " must not include " +
                                     target);
        }
    }
    return violations;
}

/// The text of all comments, with every other character but line ends replaced by a space. String and character literals
/// are skipped; raw strings are not recognised.
inline std::string comments_of(std::string_view text) {
    std::string comments(text.size(), ' ');
    enum class In { code, line, block, string, character } in = In::code;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const char next = i + 1 < text.size() ? text[i + 1] : '\0';
        if (c == '\n') {
            comments[i] = '\n';
            if (in == In::line)
                in = In::code;
        } else if (in == In::line || in == In::block) {
            comments[i] = c;
            if (in == In::block && c == '*' && next == '/') {
                ++i;
                in = In::code;
            }
        } else if (in == In::string || in == In::character) {
            if (c == '\\')
                ++i;
            else if (c == (in == In::string ? '"' : '\''))
                in = In::code;
        } else if (c == '/' && (next == '/' || next == '*')) {
            in = next == '/' ? In::line : In::block;
            ++i;
        } else if (c == '"') {
            in = In::string;
        } else if (c == '\'' && (i == 0 || std::isalnum(static_cast<unsigned char>(text[i - 1])) == 0)) {
            in = In::character; // otherwise a digit separator
        }
    }
    return comments;
}

/// Every occurrence of a banned word in comments as "<file>:<line>: <word>". Words match in any case, as whole words,
/// with an optional plural or verb ending; a space in a phrase also matches a line break.
inline std::vector<std::string> word_violations(const std::vector<SourceFile>& files,
                                                const std::vector<std::string>& banned) {
    std::vector<std::string> violations;
    for (const std::string& word : banned) {
        const std::string stem = word.back() == 'e' ? word.substr(0, word.size() - 1) + "(?:e|es|ed|ing|al|als)" : word;
        const std::string spaced = std::regex_replace(stem + "s?", std::regex(" "), R"([\s/*]+)");
        const std::regex pattern(R"(\b)" + spaced + R"(\b)", std::regex::icase);
        for (const SourceFile& file : files) {
            const std::string comments = comments_of(file.text);
            for (std::sregex_iterator match(comments.begin(), comments.end(), pattern), end; match != end; ++match) {
                const auto line = std::count(comments.begin(), comments.begin() + match->position(), '\n') + 1;
                violations.push_back(file.path + ":" + std::to_string(line) + ": " + word);
            }
        }
    }
    return violations;
}

} // namespace mfres::test
