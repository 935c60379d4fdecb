// The rules of the architecture that a compiler cannot check: who may include whom.
#include "support/catch.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

const fs::path root = MFRES_SOURCE_DIR;

std::vector<fs::path> sources(const fs::path& folder) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder))
        if (entry.path().extension() == ".h" || entry.path().extension() == ".cpp" || entry.path().extension() == ".cu")
            files.push_back(entry.path());
    return files;
}

std::vector<std::string> includes(const fs::path& file) {
    static const std::regex pattern(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
    std::ifstream in(file);
    std::vector<std::string> found;
    std::string line;
    std::smatch match;
    while (std::getline(in, line))
        if (std::regex_search(line, match, pattern))
            found.push_back(match[1]);
    return found;
}

bool starts_with(const std::string& text, const std::string& prefix) {
    return text.rfind(prefix, 0) == 0;
}

} // namespace

TEST_CASE("modules include only modules below them") {
    // lib/<module> may include itself and these; mfres/ (the public headers) everybody may.
    const std::map<std::string, std::set<std::string>> below = {
        {"core", {}},
        {"graph", {"core"}},
        {"networks", {"core", "graph"}},
        {"model", {"core", "graph", "networks"}},
        {"exchange", {"core", "graph", "networks", "model"}},
        {"imaging", {"core"}},
        {"phantom", {"core", "imaging"}},
        {"metrics", {"core", "imaging"}},
        {"report", {"core"}},
        {"data", {"core", "model", "imaging", "backends"}},
        {"inference", {"core", "graph", "networks", "model", "imaging", "phantom", "metrics", "data", "backends"}},
        {"train",
         {"core", "graph", "networks", "model", "imaging", "metrics", "backends", "data", "inference", "report"}},
        {"benchmark", {"core", "graph", "networks", "model", "imaging", "backends", "inference"}},
        {"paper",
         {"core", "graph", "networks", "model", "imaging", "metrics", "backends", "data", "inference", "train",
          "report"}},
    };
    std::set<std::string> modules{"backends", "tools"};
    for (const auto& [module, allowed] : below)
        modules.insert(module);
    for (const auto& entry : fs::directory_iterator(root / "lib"))
        if (entry.is_directory() && entry.path().filename() != "include") {
            INFO("lib/" << entry.path().filename().string() << " has no line in this test");
            CHECK(below.count(entry.path().filename().string()) == 1);
        }
    for (const auto& [module, allowed] : below)
        for (const auto& file : sources(fs::path("lib") / module))
            for (const auto& include : includes(file)) {
                const std::string target = include.substr(0, include.find('/'));
                if (modules.count(target) == 0 || target == module)
                    continue;
                INFO(file.string() << " includes " << include);
                CHECK(allowed.count(target) == 1);
            }
}

TEST_CASE("backends see core, graph and themselves only") {
    for (const auto& file : sources("backends")) {
        const std::string own = fs::relative(file, root / "backends").begin()->string();
        for (const auto& include : includes(file)) {
            INFO(file.string() << " includes " << include);
            for (const std::string module : {"networks/", "model/", "imaging/", "train/", "metrics/"})
                CHECK_FALSE(starts_with(include, module));
            const bool shared = include.find('/') == include.rfind('/'); // a file of backends/ itself
            if (starts_with(include, "backends/") && !shared)
                CHECK(starts_with(include, "backends/" + own + "/"));
        }
    }
}

TEST_CASE("engine headers stay inside their backend") {
    const std::vector<std::pair<std::string, std::string>> engines = {
        {"oneapi/dnnl", "backends/onednn"}, {"dnnl", "backends/onednn"},        {"cudnn", "backends/cuda"},
        {"cuda", "backends/cuda"},          {"nccl", "backends/cuda"},          {"omp.h", "backends/onednn"},
        {"mpi.h", "backends/distributed"},  {"opencv2/dnn", "backends/opencv"}, {"onnx/", "lib/exchange"},
        {"zip.h", "lib/exchange"},
    };
    for (const fs::path folder : {"lib", "backends", "tools"})
        for (const auto& file : sources(folder))
            for (const auto& include : includes(file))
                for (const auto& [engine, home] : engines)
                    if (starts_with(include, engine)) {
                        INFO(file.string() << " includes " << include);
                        CHECK(starts_with(fs::relative(file, root).string(), home + "/"));
                    }
}

TEST_CASE("public headers use standard types only") {
    for (const auto& file : sources("lib/include"))
        for (const auto& include : includes(file)) {
            INFO(file.string() << " includes " << include);
            const bool standard = include.find('/') == std::string::npos && include.find('.') == std::string::npos;
            CHECK((standard || include == "stdint.h" || starts_with(include, "mfres/")));
        }
}

TEST_CASE("no switch over an enum hides new values behind a default") {
    // -Wswitch lists the places a new operation or error code has to be added to, as long as nobody writes default.
    for (const fs::path folder : {"lib/graph", "backends"})
        for (const auto& file : sources(folder)) {
            std::ifstream in(file);
            std::string line;
            while (std::getline(in, line)) {
                INFO(file.string());
                CHECK(line.find("default:") == std::string::npos);
            }
        }
}

TEST_CASE("no test's name has a semicolon") {
    // It would end the name on its way through CMake's lists: CTest would look for a test of half the name, find none,
    // and call that passed.
    static const std::regex names(R"rx(TEST_CASE\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+))rx");
    std::size_t seen = 0;
    for (const auto& file : sources("tests")) {
        std::ifstream in(file);
        const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
        for (std::sregex_iterator name(text.begin(), text.end(), names), end; name != end; ++name, ++seen) {
            INFO(file.string() << ": " << (*name)[1]);
            CHECK((*name)[1].str().find(';') == std::string::npos);
        }
    }
    CHECK(seen > 300);
}
