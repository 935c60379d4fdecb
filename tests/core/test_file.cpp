// SPDX-License-Identifier: MIT
#include "core/file.h"
#include "support/catch.h"
#include "support/child.h"
#include "support/paths.h"

#include <array>
#include <atomic>
#include <sys/stat.h>
#include <thread>
#include <vector>

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

mode_t mode_of(const std::filesystem::path& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777U : 0U;
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

TEST_CASE("the umask of the process is applied to new files and never changed") {
    const test::TemporaryFolder folder;
    const mode_t before = ::umask(077);
    std::atomic<int> wrong{0};
    std::vector<std::thread> writers;
    for (int writer = 0; writer < 4; ++writer)
        writers.emplace_back([&, writer] {
            for (int i = 0; i < 300; ++i) {
                const auto path = folder / (std::to_string(writer) + "-" + std::to_string(i));
                if (!write_file_atomically(path, "x") || mode_of(path) != 0600U)
                    ++wrong;
                std::filesystem::remove(path);
            }
        });
    for (auto& writer : writers)
        writer.join();
    CHECK(wrong == 0);
    CHECK(::umask(before) == 077U);
}

TEST_CASE("a file that is overwritten keeps its permissions") {
    const test::TemporaryFolder folder;
    for (const mode_t mode : {0600U, 0640U, 0666U, 0444U}) {
        const auto path = folder / std::to_string(mode);
        REQUIRE_OK(write_file_atomically(path, "first"));
        REQUIRE(::chmod(path.c_str(), mode) == 0);
        REQUIRE_OK(write_file_atomically(path, "second"));
        CHECK(mode_of(path) == mode);
        CHECK(content(path) == "second");
    }
}

TEST_CASE("of two pending files for one new name the second is rejected") {
    const test::TemporaryFolder folder;
    auto first = PendingFile::write(folder / "a", std::as_bytes(std::span("first", 5)), false);
    auto second = PendingFile::write(folder / "a", std::as_bytes(std::span("second", 6)), false);
    REQUIRE_OK(first);
    REQUIRE_OK(second);
    REQUIRE_OK(first->commit());
    REQUIRE_CODE(second->commit(), file_exists);
    CHECK(content(folder / "a") == "first");
    // A link that leads nowhere is a name that is taken, too.
    std::filesystem::create_symlink("nowhere", folder / "b");
    REQUIRE_CODE(write_file_atomically(folder / "b", "x", false), file_exists);
}

TEST_CASE("of several processes that write one new file exactly one succeeds") {
    const test::TemporaryFolder folder;
    for (int round = 0; round < 40; ++round) {
        const auto path = folder / std::to_string(round);
        std::vector<pid_t> children;
        for (int child = 0; child < 3; ++child)
            children.push_back(test::in_child([&] {
                const std::string own(100, static_cast<char>('a' + child));
                const Status written = write_file_atomically(path, own, false);
                return written ? 0 : written.error().code == ErrorCode::file_exists ? 1 : 2;
            }));
        int winners = 0;
        std::string expected;
        for (std::size_t child = 0; child < children.size(); ++child) {
            const int code = test::exit_code_of(children[child]);
            CHECK((code == 0 || code == 1));
            if (code == 0)
                expected = std::string(100, static_cast<char>('a' + child));
            winners += code == 0 ? 1 : 0;
        }
        CHECK(winners == 1);
        CHECK(content(path) == expected);
    }
    CHECK(entries(folder.path()) == 40);
}

TEST_CASE("names as long as file systems allow are written") {
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_file_atomically(folder / std::string(255, 'n'), "x"));
    REQUIRE_OK(write_file_atomically(folder / std::string(255, 'n'), "y"));
    CHECK(content(folder / std::string(255, 'n')) == "y");
    REQUIRE_CODE(write_file_atomically(folder / std::string(256, 'n'), "x"), file_write);
    CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a limit on the size of files is an error, and no temporary file stays") {
    const test::TemporaryFolder folder;
    const int code = test::exit_code_of(test::in_child([&] {
        const rlimit limit{4096, 4096};
        if (::setrlimit(RLIMIT_FSIZE, &limit) != 0)
            return 3;
        const Status written = write_file_atomically(folder / "a", std::string(1U << 20U, 'x'));
        if (written || written.error().code != ErrorCode::file_write)
            return 1;
        auto writer = PendingWriter::create(folder / "a", false);
        if (!writer || writer->replace(1U << 20U, std::as_bytes(std::span("x", 1))))
            return 2;
        return 0;
    }));
    CHECK(code == 0);
    CHECK(entries(folder.path()) == 0);
}

TEST_CASE("a pipe as input is rejected without waiting for its writer") {
    const test::TemporaryFolder folder;
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    const int code = test::exit_code_of(test::in_child([&] {
        const auto opened = ReadableFile::open(folder / "pipe");
        const auto read = read_file(folder / "pipe", 10);
        return !opened && !read && opened.error().code == ErrorCode::file_read ? 0 : 1;
    }));
    CHECK(code == 0);
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
