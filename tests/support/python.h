// SPDX-License-Identifier: MIT
// Independent implementations in Python: found, run, and read back.
#pragma once

#include "core/file.h"
#include "model/safetensors.h"
#include "support/catch.h"
#include "support/paths.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mfres::test {

/// A Python that has these modules ("torch, numpy"): the one on the path, or the system's, whose packages a virtual
/// environment hides. Nothing if there is none, in which case a line that CTest recognises as a skip has been printed.
inline std::optional<std::string> python_with(const std::string& modules) {
    for (const std::string python : {"python3", "/usr/bin/python3"})
        if (std::system((python + " -c 'import " + modules + "' >/dev/null 2>&1").c_str()) == 0)
            return python;
    std::printf("SKIPPED: there is no python3 with %s\n", modules.c_str());
    return std::nullopt;
}

/// Runs a script of the tests, `script` relative to them, quoted arguments behind it; what it prints becomes part of
/// the message where it fails.
inline void require_python(const std::string& python, const std::string& script,
                           const std::vector<std::string>& arguments) {
    const TemporaryFolder folder;
    std::string command = python + " -B '" + MFRES_SOURCE_DIR + "/tests/" + script + "'";
    for (const std::string& argument : arguments)
        command += " '" + argument + "'";
    const int status = std::system((command + " >'" + (folder / "out").string() + "' 2>&1").c_str());
    const auto output = read_file(folder / "out", 1U << 20U);
    REQUIRE_OK(output);
    INFO(std::string(reinterpret_cast<const char*>(output->data()), output->size()));
    REQUIRE(status == 0);
}

/// Writes tensors for a script to read.
inline void write_tensors(const std::filesystem::path& path, const Weights& tensors) {
    std::map<std::string, TensorToWrite, std::less<>> to_write;
    for (const auto& [name, tensor] : tensors)
        to_write[name] = {&tensor, Dtype::f32};
    const auto bytes = encode_safetensors(to_write, {});
    REQUIRE_OK(bytes);
    REQUIRE_OK(write_file_atomically(path, *bytes));
}

/// The float64 values of a file that a script wrote.
inline std::vector<double> read_doubles(const std::filesystem::path& path) {
    const auto bytes = read_file(path, std::uint64_t{1} << 30U);
    REQUIRE_OK(bytes);
    std::vector<double> values(bytes->size() / sizeof(double));
    std::memcpy(values.data(), bytes->data(), values.size() * sizeof(double));
    return values;
}

} // namespace mfres::test
