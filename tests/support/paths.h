// SPDX-License-Identifier: MIT
// Folders tests work with: a temporary one of their own, and the optional shared data beside the checkout.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <unistd.h>

namespace mfres::test {

/// A folder that no other process has, and that stays.
inline std::filesystem::path fresh_folder() {
    // Not named after the process: a killed test leaves its folder, and process numbers come round again.
    std::string name = (std::filesystem::temp_directory_path() / "mfres-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
        throw std::filesystem::filesystem_error("no temporary folder", name,
                                                std::error_code(errno, std::generic_category()));
    return name;
}

/// A fresh folder that disappears with the object.
class TemporaryFolder {
  public:
    TemporaryFolder() : path_(fresh_folder()) {}
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  private:
    std::filesystem::path path_;
};

/// Sanitizers keep shadow memory and delay frees, so resident memory says nothing about the library under them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool resident_memory_is_ours = false;
#else
inline constexpr bool resident_memory_is_ours = true;
#endif

/// `relative` below the shared folder (MFRES_SHARED, or ../shared beside the checkout), or nothing, in which case a
/// line that CTest recognises as a skip has been printed and the test should return.
inline std::optional<std::filesystem::path> shared_data(const std::string& relative) {
    const char* chosen = std::getenv("MFRES_SHARED");
    const std::filesystem::path root =
        chosen ? std::filesystem::path(chosen) : std::filesystem::path(MFRES_SOURCE_DIR) / ".." / "shared";
    const auto path = root / relative;
    if (std::filesystem::exists(path))
        return path;
    std::printf("SKIPPED: %s is not there\n", path.c_str());
    return std::nullopt;
}

} // namespace mfres::test
