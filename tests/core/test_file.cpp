// SPDX-License-Identifier: MIT
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

TEST_CASE("a pending writer takes content piece by piece and appears complete or not at all") {
    const test::TemporaryFolder folder;
    const auto bytes = [](std::string_view characters) { return std::as_bytes(std::span(characters)); };
    {
        auto writer = PendingWriter::create(folder / "a", false);
        REQUIRE_OK(writer);
        REQUIRE_OK(writer->append(bytes("gone")));
        CHECK(entries(folder.path()) == 1);
        CHECK_FALSE(std::filesystem::exists(folder / "a"));
    }
    CHECK(entries(folder.path()) == 0);

    auto created = PendingWriter::create(folder / "a", false);
    REQUIRE_OK(created);
    PendingWriter writer = std::move(created).value();
    REQUIRE_OK(writer.append(bytes("....")));
    REQUIRE_OK(writer.append(bytes(" and tail")));
    REQUIRE_OK(writer.replace(0, bytes("head")));
    CHECK(writer.size() == 13);
    REQUIRE_OK(writer.append(bytes("!"))); // still at the end
    auto finished = std::move(writer).finish();
    REQUIRE_OK(finished);
    CHECK_FALSE(std::filesystem::exists(folder / "a"));
    REQUIRE_OK(finished->commit());
    CHECK(content(folder / "a") == "head and tail!");
    CHECK(entries(folder.path()) == 1);
    REQUIRE_CODE(PendingWriter::create(folder / "a", false), file_exists);
    REQUIRE_CODE(PendingWriter::create(folder.path(), true), file_write);
    REQUIRE_CODE(PendingWriter::create(folder / "missing/a", true), file_write);
}

TEST_CASE("parts of a file are read from any place, and its end is an error") {
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_file_atomically(folder / "a", "0123456789"));
    auto opened = ReadableFile::open(folder / "a");
    REQUIRE_OK(opened);
    const ReadableFile file = std::move(opened).value();
    CHECK(file.size() == 10);
    std::array<std::byte, 3> part{};
    REQUIRE_OK(file.read_at(4, part));
    CHECK(part[0] == std::byte{'4'});
    CHECK(part[2] == std::byte{'6'});
    REQUIRE_OK(file.read_at(7, part));
    CHECK(part[2] == std::byte{'9'});
    REQUIRE_CODE(file.read_at(8, part), file_read);
    REQUIRE_CODE(file.read_at(std::uint64_t{1} << 40U, part), file_read);
    REQUIRE_CODE(ReadableFile::open(folder / "missing"), file_not_found);
    REQUIRE_CODE(ReadableFile::open(folder.path()), file_read);
}
