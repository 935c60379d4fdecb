#include "core/file.h"
#include "support/catch.h"
#include "support/paths.h"

using namespace mfres;

namespace {

std::string content(const std::filesystem::path& path) {
    auto bytes = read_file(path, 1 << 20);
    REQUIRE_OK(bytes);
    return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

std::size_t entries(const std::filesystem::path& folder) {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

} // namespace

TEST_CASE("atomic writes replace a file and leave nothing beside it") {
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_file_atomically(folder / "a.txt", "first"));
    REQUIRE_OK(write_file_atomically(folder / "a.txt", "second"));
    CHECK(content(folder / "a.txt") == "second");
    CHECK(entries(folder.path()) == 1);
}

TEST_CASE("without overwrite an existing file stays as it is") {
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_file_atomically(folder / "a.txt", "first"));
    REQUIRE_CODE(write_file_atomically(folder / "a.txt", "second", false), file_exists);
    CHECK(content(folder / "a.txt") == "first");
}

TEST_CASE("a write into a missing folder is an error that names it") {
    const test::TemporaryFolder folder;
    const auto status = write_file_atomically(folder / "missing/a.txt", "x");
    REQUIRE_CODE(status, file_write);
    CHECK(status.error().message.find("missing") != std::string::npos);
    CHECK(entries(folder.path()) == 0);
}

TEST_CASE("a full disk leaves the old file and no temporary one") {
    if (!std::filesystem::exists("/dev/full"))
        return;
    REQUIRE_CODE(write_file_atomically("/dev/full/x", "x"), file_write);
}

TEST_CASE("reading a missing, a too large and a strange file") {
    const test::TemporaryFolder folder;
    REQUIRE_CODE(read_file(folder / "missing", 10), file_not_found);
    REQUIRE_OK(write_file_atomically(folder / "a", "12345678901"));
    REQUIRE_CODE(read_file(folder / "a", 10, ErrorCode::nifti_too_large), nifti_too_large);
    REQUIRE_CODE(read_file(folder.path(), 10), file_read);
}

TEST_CASE("a pending file appears with commit and vanishes without") {
    const test::TemporaryFolder folder;
    const auto bytes = std::as_bytes(std::span("new", 3));
    REQUIRE_OK(write_file_atomically(folder / "a", "old"));
    {
        auto pending = PendingFile::write(folder / "a", bytes, true);
        REQUIRE_OK(pending);
        CHECK(entries(folder.path()) == 2);
        CHECK(content(folder / "a") == "old");
    }
    CHECK(entries(folder.path()) == 1);
    auto pending = PendingFile::write(folder / "a", bytes, true);
    REQUIRE_OK(pending);
    PendingFile moved = std::move(pending).value();
    REQUIRE_OK(moved.commit());
    CHECK(content(folder / "a") == "new");
    CHECK(entries(folder.path()) == 1);
    REQUIRE_CODE(PendingFile::write(folder / "a", bytes, false), file_exists);
}
