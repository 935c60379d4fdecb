// SPDX-License-Identifier: MIT
// The k-th call of the system fails: writing, flushing, renaming, opening, reading, and starting a thread. This program
// has functions of its own in place of the C library's, which the whole process calls.
#include "core/file.h"
#include "core/parallel.h"
#include "core/thread_pool.h"
#include "support/cached_cases.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/paths.h"
#include "train/checkpoint.h"

#include <mfres/segmenter.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <dlfcn.h>
#include <fcntl.h>
#include <functional>
#include <mutex>
#include <pthread.h>
#include <set>
#include <sys/syscall.h>
#include <unistd.h>

using namespace mfres;

namespace {

enum class Call : int { none, open, read, write, flush, rename, thread };

std::atomic<Call> failing{Call::none};
std::atomic<int> calls_left{0}; ///< that succeed before one fails
std::atomic<int> failed{0};

/// Whether this call is to fail.
bool fails(Call call) {
    if (failing != call || calls_left-- != 0)
        return false;
    ++failed;
    return true;
}

int refused(int reason) {
    errno = reason;
    return -1;
}

} // namespace

// clang-format off
extern "C" {
int open(const char* path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return fails(Call::open) ? refused(EMFILE) : static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}
ssize_t pread(int file, void* bytes, size_t count, off_t offset) {
    return fails(Call::read) ? refused(EIO) : syscall(SYS_pread64, file, bytes, count, offset);
}
ssize_t write(int file, const void* bytes, size_t count) {
    return fails(Call::write) ? refused(ENOSPC) : syscall(SYS_write, file, bytes, count);
}
ssize_t pwrite(int file, const void* bytes, size_t count, off_t offset) {
    return fails(Call::write) ? refused(ENOSPC) : syscall(SYS_pwrite64, file, bytes, count, offset);
}
int fsync(int file) {
    return fails(Call::flush) ? refused(EIO) : static_cast<int>(syscall(SYS_fsync, file));
}
int rename(const char* from, const char* to) noexcept {
    return fails(Call::rename) ? refused(EACCES) : static_cast<int>(syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
    return fails(Call::rename) ? refused(EACCES)
                               : static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) noexcept {
    using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    static const auto real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
    return fails(Call::thread) ? EAGAIN : real(thread, attributes, start, argument);
}
}
// clang-format on

namespace {

/// Runs `work` with its k-th call failing, for k = 1, 2, ... until none is left that could fail. `check(status)` judges
/// what is there afterwards.
void fail_each(Call call, const std::function<Status()>& work, const std::function<void(const Status&)>& check) {
    int k = 0;
    for (;; ++k) {
        failed = 0;
        calls_left = k;
        failing = call;
        const Status status = work();
        failing = Call::none;
        if (failed == 0) {
            REQUIRE_OK(status);
            break;
        }
        INFO("call " << k + 1 << " of kind " << static_cast<int>(call));
        check(status);
        REQUIRE(k < 10'000);
    }
    REQUIRE(k > 0);
}

std::set<std::string> names_in(const std::filesystem::path& folder) {
    const auto entries = list_folder(folder);
    REQUIRE_OK(entries);
    std::set<std::string> names;
    for (const FolderEntry& entry : *entries)
        names.insert(entry.path.filename().string());
    return names;
}

void check_write_error(const Status& status) {
    if (!status.ok())
        CHECK(name(status.error().code) == name(ErrorCode::file_write));
}

} // namespace

TEST_CASE("a file that cannot be written leaves the old one and nothing else") {
    const test::TemporaryFolder folder;
    const auto path = folder / "file";
    const auto content = [&] {
        const auto bytes = read_file(path, 100);
        REQUIRE_OK(bytes);
        return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    };
    for (const bool overwrite : {true, false})
        for (const Call call : {Call::open, Call::write, Call::flush, Call::rename}) {
            std::filesystem::remove(path);
            if (overwrite)
                REQUIRE_OK(write_file_atomically(path, "old"));
            fail_each(
                call, [&] { return write_file_atomically(path, "new", overwrite); },
                [&](const Status& status) {
                    check_write_error(status);
                    const std::set<std::string> names = names_in(folder.path());
                    if (overwrite) {
                        CHECK(names == std::set<std::string>{"file"});
                        CHECK(content() == (status.ok() ? "new" : "old"));
                    } else {
                        CHECK(names == (status.ok() ? std::set<std::string>{"file"} : std::set<std::string>{}));
                    }
                    std::filesystem::remove(path);
                    if (overwrite)
                        REQUIRE_OK(write_file_atomically(path, "old"));
                });
        }
}

TEST_CASE("a checkpoint that cannot be saved leaves one that loads") {
    const test::TemporaryFolder folder;
    Checkpoint checkpoint;
    auto recipe = parse_recipe(R"({"steps": 10})");
    REQUIRE_OK(recipe);
    checkpoint.recipe = std::move(recipe).value();
    checkpoint.data_fingerprint = std::string(64, 'a');
    checkpoint.backend = "reference";
    checkpoint.state.weights.emplace("w", Tensor(Shape{2}, 0.5F));
    for (const Call call : {Call::open, Call::read, Call::write, Call::flush, Call::rename}) {
        std::int64_t saved = 0;
        CheckpointFolder checkpoints(folder.path());
        checkpoint.step = 1;
        REQUIRE_OK(checkpoints.save(checkpoint));
        saved = 1;
        fail_each(
            call,
            [&]() -> Status {
                CheckpointFolder again(folder.path());
                checkpoint.step = saved + 1;
                return again.save(checkpoint);
            },
            [&](const Status& status) {
                CheckpointFolder reader(folder.path());
                const auto found = reader.load();
                REQUIRE_OK(found);
                CHECK((found->checkpoint.step == saved || found->checkpoint.step == saved + 1));
                if (status.ok())
                    CHECK(found->checkpoint.step == saved + 1);
                saved = found->checkpoint.step;
                for (const std::string& file : names_in(folder.path()))
                    CHECK((file == "last.ckpt" || file == "previous.ckpt"));
            });
    }
}

TEST_CASE("a training cache that cannot be written leaves the old one") {
    const test::TemporaryFolder folder;
    const Phantom& phantom = test::small_phantom();
    const std::vector<CaseFiles> cases = {test::write_labelled_case(folder, "one", phantom.volumes, phantom.labels)};
    std::filesystem::create_directories(folder / "out");
    const auto path = folder / "out" / "cases.mfcache";
    CacheOptions options;
    options.overwrite = true;
    REQUIRE_OK(write_cache(path, cases, options, {}));
    for (const Call call : {Call::open, Call::read, Call::write, Call::flush, Call::rename})
        fail_each(
            call, [&] { return write_cache(path, cases, options, {}); },
            [&](const Status&) {
                CHECK(names_in(folder / "out") == std::set<std::string>{"cases.mfcache"});
                CHECK(Cache::open(path).ok());
            });
}

TEST_CASE("a case whose files cannot be read or written is an error") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, R"({"network": "no-new-net", "widths": [2, 2]})");
    const CaseFiles files = test::write_case(folder);
    std::filesystem::create_directories(folder / "out");
    SegmenterOptions setup;
    setup.compute.backend = "reference";
    setup.compute.threads = 1;
    SegmentOptions request;
    request.output = folder / "out" / "labels.nii.gz";
    request.overwrite = true;
    const auto segment = [&]() -> Status {
        auto segmenter = Segmenter::open(model, setup);
        if (!segmenter)
            return segmenter.error();
        const auto done = segmenter->segment(files, request);
        return done ? Status() : Status(done.error());
    };
    REQUIRE_OK(segment());
    const auto labels = read_nifti_labels(request.output);
    REQUIRE_OK(labels);
    for (const Call call : {Call::open, Call::read, Call::write, Call::flush, Call::rename})
        fail_each(call, segment, [&](const Status& status) {
            if (!status.ok())
                CHECK((status.error().code == ErrorCode::file_write || status.error().code == ErrorCode::file_read));
            CHECK(names_in(folder / "out") == std::set<std::string>{"labels.nii.gz"});
            const auto now = read_nifti_labels(request.output);
            REQUIRE_OK(now);
            CHECK(now->map.labels == labels->map.labels);
        });
}

TEST_CASE("threads that do not start leave the work to others") {
    SECTION("of a pool") {
        fail_each(
            Call::thread,
            []() -> Status {
                const auto pool = ThreadPool::create({.threads = 4});
                if (!pool)
                    return pool.error();
                std::atomic<int> parts{0};
                (*pool)->run(16, [&](int) { ++parts; });
                CHECK(parts == 16);
                return {};
            },
            [](const Status& status) { REQUIRE_OK(status); });
    }
    SECTION("of a loop") {
        fail_each(
            Call::thread,
            []() -> Status {
                std::atomic<std::int64_t> sum{0};
                parallel_ranges(100, 4, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
                CHECK(sum == 100);
                return {};
            },
            [](const Status& status) { REQUIRE_OK(status); });
    }
}
