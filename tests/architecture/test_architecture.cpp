// SPDX-License-Identifier: MIT
// The rules of the architecture that a compiler cannot check: which module includes which, and the words of the glossary.
#include "checker.h"
#include "support/catch.h"

#include <sstream>

using namespace mfres::test;

namespace {

namespace fs = std::filesystem;

const fs::path root = MFRES_SOURCE_DIR;

const Rules rules = [] {
    // Public headers may be included everywhere.
    Rules all = {
        {"public", {}},
        {"core", {}},
        {"graph", {"core"}},
        {"networks", {"core", "graph"}},
        {"model", {"core", "graph", "networks"}},
        {"exchange", {"core", "graph", "networks", "model"}},
        {"picture", {"core"}},
        {"imaging", {"core", "picture"}},
        {"phantom", {"core", "imaging"}},
        {"metrics", {"core", "imaging"}},
        {"report", {"core", "picture"}},
        {"data", {"core", "model", "imaging"}},
        {"inference", {"core", "graph", "networks", "model", "imaging", "phantom", "metrics", "data"}},
        {"train", {"core", "graph", "networks", "model", "imaging", "metrics", "data", "inference", "report"}},
        {"benchmark", {"core", "graph", "networks", "model", "imaging", "inference"}},
        {"selftest", {"core", "graph", "model", "imaging", "phantom"}},
        {"paper", {"core", "report"}}, // a client of the public headers
        {"backends", {"core", "graph"}},
        {"tools",
         {"core", "graph", "networks", "model", "exchange", "imaging", "phantom", "metrics", "report", "data",
          "inference", "train", "benchmark", "paper"}},
    };
    // Common folders of backends. They see core, graph and each other. An engine sees them and itself.
    const std::set<std::string> common{"backends", "backends/planned", "backends/distributed", "backends/kernels"};
    for (const char* user : {"data", "inference", "train", "benchmark", "selftest", "tools"})
        all[user].insert({"backends", "backends/distributed"});
    for (const auto& entry : fs::directory_iterator(root / "backends"))
        if (entry.is_directory())
            all["backends/" + entry.path().filename().string()] = {"core", "graph"};
    for (auto& [module, allowed] : all)
        if (module.rfind("backends", 0) == 0)
            allowed.insert(common.begin(), common.end());
    return all;
}();

std::vector<SourceFile> all_sources() {
    std::vector<SourceFile> files;
    for (const char* folder : {"lib", "backends", "tools"})
        for (SourceFile& file : read_sources(root, folder))
            files.push_back(std::move(file));
    return files;
}

bool exists(const std::string& path) {
    return fs::is_regular_file(root / path);
}

std::string listed(const std::vector<std::string>& violations) {
    std::string lines;
    for (const std::string& violation : violations)
        lines += violation + "\n";
    return lines;
}

} // namespace

TEST_CASE("modules include only modules below them") {
    const auto files = all_sources();
    CHECK(files.size() > 300);
    const auto violations = include_violations(files, rules, exists);
    INFO(listed(violations));
    CHECK(violations.empty());
}

TEST_CASE("every source file of lib, backends and tools is read") {
    const auto files = all_sources();
    std::size_t found = 0;
    for (const char* folder : {"lib", "backends", "tools"})
        for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
            const std::string name = entry.path().filename().string();
            if (!entry.is_regular_file() || name == "CMakeLists.txt")
                continue;
            INFO(entry.path() << " has a suffix that the checks do not know");
            CHECK(is_source(name));
            ++found;
        }
    CHECK(files.size() == found);
}

TEST_CASE("the include check finds violations made on purpose") {
    const std::set<std::string> existing{"lib/core/a.h",          "lib/core/b.h",         "lib/graph/g.h",
                                         "lib/include/mfres/m.h", "backends/backend.h",   "backends/one/x.h",
                                         "backends/two/y.h",      "backends/planned/p.h", "lib/top.h",
                                         "tools/mfres/cli.h"};
    const Exists made_up = [&](const std::string& path) { return existing.count(path) > 0; };
    const Rules two = {{"core", {}},
                       {"graph", {"core"}},
                       {"public", {}},
                       {"backends", {}},
                       {"backends/one", {"backends", "core"}},
                       {"tools", {"core"}}};
    const auto violations = [&](const std::string& path, const std::string& text) {
        return include_violations({{path, text}}, two, made_up);
    };
    const auto rejected = [&](const std::string& path, const std::string& text, const std::string& words) {
        const auto found = violations(path, text);
        INFO(path << ": " << listed(found));
        REQUIRE(found.size() == 1);
        CHECK(found[0].find(words) != std::string::npos);
    };
    // Allowed: the module itself, beside the file or by its path, modules below, public headers, system headers.
    CHECK(violations("lib/graph/g.cpp", "#include \"g.h\"\n#include \"graph/g.h\"\n#include \"core/a.h\"\n"
                                        "#include <mfres/m.h>\n#include <vector>\n#  include <nifti2_io.h>\n")
              .empty());
    CHECK(violations("tools/mfres/x.cpp", "#include \"cli.h\"\n").empty());
    CHECK(violations("backends/one/x.cpp", "#include \"x.h\"\n#include \"../backend.h\"\n").empty());
    // A module above, by its path, in angle brackets, relative to the file, and behind white space.
    rejected("lib/core/a.cpp", "#include \"graph/g.h\"\n", "core must not include graph");
    rejected("lib/core/a.cpp", "#include <graph/g.h>\n", "core must not include graph");
    rejected("lib/core/a.cpp", "#include \"../graph/g.h\"\n", "core must not include graph");
    rejected("lib/core/a.cpp", "\n \t# include\t\"graph/g.h\"\n", "core must not include graph");
    rejected("lib/core/a.h", "#include \"backends/backend.h\"\n", "core must not include backends");
    // Another engine, a common folder without permission, the program, a file directly in lib.
    rejected("backends/one/x.cpp", "#include \"backends/two/y.h\"\n", "must not include backends/two");
    rejected("backends/one/x.cpp", "#include \"../two/y.h\"\n", "must not include backends/two");
    rejected("backends/one/x.cpp", "#include \"backends/planned/p.h\"\n", "must not include backends/planned");
    rejected("backends/backend.cpp", "#include \"one/x.h\"\n", "backends must not include backends/one");
    rejected("lib/core/a.cpp", "#include \"tools/mfres/cli.h\"\n", "core must not include tools");
    rejected("lib/core/a.cpp", "#include \"top.h\"\n", "core must not include lib");
    rejected("lib/include/mfres/m.h", "#include \"core/a.h\"\n", "public must not include core");
    // A file or a module without a rule, and a quoted header that does not exist.
    rejected("lib/top.cpp", "#include <vector>\n", "module lib has no rule");
    rejected("lib/new/n.cpp", "", "module new has no rule");
    rejected("lib/core/a.cpp", "#include \"missing.h\"\n", "not found");
}

TEST_CASE("engine headers stay inside their backend") {
    const std::vector<std::pair<std::string, std::string>> engines = {
        {"oneapi/dnnl", "backends/onednn"}, {"dnnl", "backends/onednn"},     {"cudnn", "backends/cuda"},
        {"cuda", "backends/cuda"},          {"nccl", "backends/cuda"},       {"omp.h", "backends/kernels"},
        {"mpi.h", "backends/distributed"},  {"opencv2/", "backends/opencv"}, {"onnx/", "lib/exchange"},
        {"zip.h", "lib/exchange"},          {"nifti2_io.h", "lib/imaging"},  {"hwy/", "backends/kernels"},
    };
    for (const SourceFile& file : all_sources())
        for (const Include& include : includes_of(file))
            for (const auto& [engine, home] : engines)
                if (include.name.rfind(engine, 0) == 0) {
                    INFO(file.path << " includes " << include.name);
                    CHECK(file.path.rfind(home + "/", 0) == 0);
                }
}

TEST_CASE("headers of operating systems stay inside the platform's files") {
    const std::vector<std::string> systems = {"unistd.h", "fcntl.h",  "dirent.h",  "dlfcn.h", "sched.h",
                                              "sys/",     "pthread.", "windows.h", "locale.h"};
    const std::vector<std::string> homes = {"lib/core/platform_posix.cpp", "lib/core/platform_windows.cpp",
                                            "backends/distributed/sockets.cpp", // left out on Windows
                                            "backends/onednn/training.cpp"};    // advice about pages that oneDNN has
    std::size_t found = 0;
    for (const SourceFile& file : all_sources())
        for (const Include& include : includes_of(file))
            for (const std::string& system : systems)
                if (include.name.rfind(system, 0) == 0) {
                    INFO(file.path << " includes " << include.name);
                    CHECK(std::find(homes.begin(), homes.end(), file.path) != homes.end());
                    ++found;
                }
    CHECK(found > 10);
}

TEST_CASE("public headers use standard types only") {
    for (const SourceFile& file : read_sources(root, "lib/include"))
        for (const Include& include : includes_of(file)) {
            INFO(file.path << " includes " << include.name);
            const std::string& name = include.name;
            const bool standard = name.find('/') == std::string::npos && name.find('.') == std::string::npos;
            CHECK((standard || name == "stddef.h" || name == "stdint.h" || name.rfind("mfres/", 0) == 0));
        }
}

TEST_CASE("public headers mark every function and class for shared libraries") {
    // A function that is not inline, at the start of a line; lines that continue a declaration are indented.
    static const std::regex function(
        R"(^(?!inline|constexpr|template|static|class|struct|enum|using|typedef|friend|namespace|extern|MFRES_EXPORT|\W))"
        R"([\w:<>,&* ]*[ &*]\w+\()");
    static const std::regex type(R"(^class (?!MFRES_EXPORT )\w+[^;]*\{)");
    std::size_t marked = 0;
    for (const SourceFile& file : read_sources(root, "lib/include")) {
        std::istringstream lines(file.text);
        for (std::string line; std::getline(lines, line);) {
            marked += line.rfind("MFRES_EXPORT", 0) == 0 ? 1 : 0;
            INFO(file.path << ": " << line);
            CHECK_FALSE(std::regex_search(line, function));
            CHECK_FALSE(std::regex_search(line, type));
        }
    }
    CHECK(marked > 50);
    for (const char* unmarked : {"std::string names(const ModalitySet& set);", "Result<Table2Report> table2();",
                                 "const char* mfres_version(void);"})
        CHECK(std::regex_search(unmarked, function));
    CHECK(std::regex_search("class Predictor {", type));
}

TEST_CASE("comments of the public headers use the terms of the glossary") {
    // Words of the "not" column of docs/glossary.md that have no other meaning in this project.
    const std::vector<std::string> banned = {"refuse",         "coat",     "seam",   "meeting",
                                             "patience",       "speck",    "island", "learned by heart",
                                             "fullest moment", "lone rank"};
    const auto violations = word_violations(read_sources(root, "lib/include"), banned);
    INFO(listed(violations));
    CHECK(violations.empty());

    std::ifstream glossary(root / "docs/glossary.md");
    const std::string text((std::istreambuf_iterator<char>(glossary)), std::istreambuf_iterator<char>());
    for (const std::string& word : banned) {
        INFO(word);
        CHECK(text.find(word) != std::string::npos);
    }
}

TEST_CASE("the word check finds words in comments only") {
    const auto count = [](const std::string& text) {
        return word_violations({{"x.h", text}}, {"refuse", "seam", "learned by heart"}).size();
    };
    CHECK(count("int a; // it refuses the file\n") == 1);
    CHECK(count("/// A Refusal.\n") == 1);
    CHECK(count("/* two\n * seams */ int x;") == 1);
    CHECK(count("// has learned by\n// heart\n") == 1);
    CHECK(count("int seam = 0; const char* t = \"// refuse\"; char c = '\"'; // fine\n") == 0);
    CHECK(count("constexpr int n = 1'000; // seam\n") == 1);
    CHECK(count("// seamless, rejects\n") == 0);
}

TEST_CASE("no switch over an enum hides new values behind a default") {
    // -Wswitch lists the places a new op or error code has to be added to, as long as no switch has a default.
    for (const char* folder : {"lib/graph", "backends"})
        for (const SourceFile& file : read_sources(root, folder)) {
            INFO(file.path);
            CHECK(file.text.find("default:") == std::string::npos);
        }
}

TEST_CASE("values of JSON have the type that can be destroyed without memory") {
    for (const char* folder : {"lib", "backends", "tools"})
        for (const SourceFile& file : read_sources(root, folder)) {
            INFO(file.path);
            CHECK(file.text.find("nlohmann::json ") == std::string::npos);
            CHECK(file.text.find("nlohmann::json(") == std::string::npos);
            CHECK(file.text.find("nlohmann::json{") == std::string::npos);
            CHECK(file.text.find("nlohmann::json::") == std::string::npos);
            CHECK(file.text.find("nlohmann::ordered_json") == std::string::npos);
        }
}

TEST_CASE("no test's name has a semicolon") {
    // It would end the name in CMake's lists: CTest would run a filter that matches no test, and report success.
    static const std::regex names(R"rx(TEST_CASE\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+))rx");
    std::size_t seen = 0;
    for (const SourceFile& file : read_sources(root, "tests"))
        for (std::sregex_iterator name(file.text.begin(), file.text.end(), names), end; name != end; ++name, ++seen) {
            INFO(file.path << ": " << (*name)[1]);
            CHECK((*name)[1].str().find(';') == std::string::npos);
        }
    CHECK(seen > 300);
}
