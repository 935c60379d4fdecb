// SPDX-License-Identifier: MIT
// The k-th allocation fails, alone or with all that follow: every public function returns an error of the resource kind
// or succeeds, throws nothing, and leaves nothing behind. Runs are made in child processes. This program's operator new fails on demand, in all threads.
#include "core/file.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/paths.h"
#include "support/training_runs.h"

#include <mfres/complexity.h>
#include <mfres/dataset.h>
#include <mfres/evaluate.h>
#include <mfres/metrics.h>
#include <mfres/network.h>
#include <mfres/predictor.h>
#include <mfres/segmenter.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <functional>
#include <new>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mfres;

namespace {

std::atomic<std::int64_t> made{0};                  ///< allocations so far
std::atomic<std::int64_t> living{0};                ///< of these not freed
std::atomic<std::int64_t> first_failure{INT64_MAX}; ///< number of the allocation that fails
std::atomic<bool> all_later{false};                 ///< those after it fail, too

void* allocate(std::size_t bytes, std::size_t alignment) {
    const std::int64_t number = ++made;
    const std::int64_t failing = first_failure;
    if (number == failing || (all_later && number > failing))
        return nullptr;
    const std::size_t whole = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    void* const memory =
        alignment > alignof(std::max_align_t) ? std::aligned_alloc(alignment, whole) : std::malloc(whole);
    if (memory)
        ++living;
    return memory;
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) {
    if (void* const memory = allocate(bytes, alignment))
        return memory;
    throw std::bad_alloc();
}

void release(void* memory) noexcept {
    if (memory)
        --living;
    std::free(memory);
}

} // namespace

// clang-format off
void* operator new(std::size_t bytes) { return allocate_or_throw(bytes); }
void* operator new[](std::size_t bytes) { return allocate_or_throw(bytes); }
void* operator new(std::size_t bytes, std::align_val_t a) { return allocate_or_throw(bytes, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t bytes, std::align_val_t a) { return allocate_or_throw(bytes, static_cast<std::size_t>(a)); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes, alignof(std::max_align_t)); }
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { release(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { release(memory); }
// clang-format on

namespace {

/// What a call comes to. Nothing of it is on the heap.
struct Outcome {
    bool threw = false;
    bool ok = false;
    ErrorCode code = ErrorCode::internal;
};

using Call = std::function<Outcome()>;

template <typename Value>
Outcome outcome_of(const Value& result) {
    return result.ok() ? Outcome{false, true, {}} : Outcome{false, false, result.error().code};
}

Outcome run(const Call& call) {
    try {
        return call();
    } catch (...) {
        return {true, false, {}};
    }
}

double processor_seconds() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// What a child process has found, in memory that it shares with its parent.
struct Findings {
    std::int64_t k = 0; ///< allocation that fails in the current run
    std::int64_t runs = 0, errors = 0;
    std::int64_t threw = 0, wrong_code = 0, leaked = 0;
    std::int64_t first_bad = 0; ///< k of the first run with one of these
    int last_code = 0;
};

/// Where std::terminate may end a run: the destructor of nlohmann::json 3.11 takes memory, and ends the process where
/// there is none; a null that becomes an object and gets no memory fails its assertion. Its calls are everywhere in code
/// that reads and writes variants and metadata.
enum class Ends : std::uint8_t { never, in_json };

/// One run with its k-th allocation failing. In a child process.
void run_failing(const Call& call, bool all, Findings& found) {
    const std::int64_t living_before = living;
    all_later = all;
    first_failure = made + found.k;
    const Outcome outcome = run(call);
    first_failure = INT64_MAX;
    const bool wrong = !outcome.threw && !outcome.ok && outcome.code != ErrorCode::memory_limit;
    const bool leaked = living > living_before;
    ++found.runs;
    found.errors += outcome.ok ? 0 : 1;
    found.threw += outcome.threw ? 1 : 0;
    found.wrong_code += wrong ? 1 : 0;
    found.leaked += leaked ? 1 : 0;
    if ((outcome.threw || wrong || leaked) && found.first_bad == 0) {
        found.first_bad = found.k;
        found.last_code = static_cast<int>(outcome.code);
    }
}

/// Fails allocations of the call one by one: the first ones all, the others with a stride that keeps the whole within
/// `seconds` of the processor.
void fail_each(const Call& call, double seconds, Ends ends = Ends::in_json) {
    REQUIRE(run(call).ok); // what is made once in a process is made here
    const std::int64_t begin = made;
    const double started = processor_seconds();
    REQUIRE(run(call).ok);
    const std::int64_t count = made - begin;
    const double once = processor_seconds() - started;
    const auto tries = static_cast<std::int64_t>(std::clamp(seconds / std::max(once, 1e-6), 40.0, 4000.0));
    const std::int64_t stride = std::max<std::int64_t>(1, 2 * count / tries);
    const auto next = [&](std::int64_t k) { return k + (k < 20 ? 1 : stride); };
    void* const pages = ::mmap(nullptr, sizeof(Findings), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(pages != MAP_FAILED);
    Findings& found = *new (pages) Findings;
    std::int64_t ended = 0;
    for (const bool all : {false, true})
        for (found.k = 1; found.k <= count; found.k = next(found.k)) {
            const pid_t child = ::fork();
            REQUIRE(child >= 0);
            if (child == 0) {
                std::set_terminate([] { ::_exit(3); });
                std::signal(SIGABRT, [](int) { ::_exit(3); }); // an assertion of the JSON library
                for (; found.k <= count; found.k = next(found.k))
                    run_failing(call, all, found);
                ::_exit(0);
            }
            int status = 0;
            ::waitpid(child, &status, 0);
            INFO("allocation " << found.k << " of " << count << (all ? " and all later ones" : " alone"));
            REQUIRE(WIFEXITED(status));
            ended += WEXITSTATUS(status) == 3 ? 1 : 0;
        }
    const Findings all = found;
    ::munmap(pages, sizeof(Findings));
    std::printf("%lld allocations, %lld runs: %lld errors, %lld ended by the JSON library\n",
                static_cast<long long>(count), static_cast<long long>(all.runs + ended),
                static_cast<long long>(all.errors), static_cast<long long>(ended));
    INFO("first at allocation " << all.first_bad << " of " << count << ", code "
                                << name(static_cast<ErrorCode>(all.last_code)));
    CHECK(all.threw == 0);
    CHECK(all.wrong_code == 0);
    CHECK(all.leaked == 0);
    CHECK(all.errors > 0);
    CHECK((ends == Ends::in_json || ended == 0));
}

constexpr std::string_view least_network = R"({"network": "no-new-net", "widths": [2, 2]})";

CaseVolumes in_memory(const Phantom& phantom) {
    CaseVolumes volumes;
    volumes.id = "phantom";
    for (std::size_t m = 0; m < 4; ++m)
        volumes.volumes[m] = VolumeView::of(phantom.volumes[m]);
    return volumes;
}

} // namespace

TEST_CASE("a failing allocation while a model is opened") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, least_network);
    PredictorOptions options;
    options.compute.backend = "reference";
    options.compute.threads = 1;
    fail_each([&] { return outcome_of(Predictor::open(model, options)); }, 3);
    SegmenterOptions setup;
    setup.compute.backend = "reference";
    setup.compute.threads = 1;
    fail_each([&] { return outcome_of(Segmenter::open(model, setup)); }, 3);
}

TEST_CASE("a failing allocation while a case in memory is segmented") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, least_network);
    const CaseVolumes volumes = in_memory(test::small_phantom());
    PredictorOptions options;
    options.compute.backend = "reference";
    options.compute.threads = 1;
    fail_each(
        [&] {
            auto predictor = Predictor::open(model, options);
            return predictor ? outcome_of(predictor->predict(volumes)) : outcome_of(predictor);
        },
        4);
}

TEST_CASE("a failing allocation while files are segmented") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, least_network);
    const CaseFiles files = test::write_case(folder);
    SegmenterOptions setup;
    setup.compute.backend = "reference";
    setup.compute.threads = 1;
    SegmentOptions request;
    request.output = folder / "labels.nii.gz";
    request.probabilities = folder / "probabilities.nii.gz";
    request.overwrite = true;
    fail_each(
        [&] {
            auto segmenter = Segmenter::open(model, setup);
            return segmenter ? outcome_of(segmenter->segment(files, request)) : outcome_of(segmenter);
        },
        4);
    const auto left = list_folder(folder.path());
    REQUIRE_OK(left);
    CHECK(left->size() == 4); // case, model, labels, probabilities: no temporary file
}

TEST_CASE("a failing allocation while cases are found") {
    const test::TemporaryFolder folder;
    (void)test::write_case(folder);
    const auto one = folder / "phantom";
    fail_each([&] { return outcome_of(find_case(one)); }, 1, Ends::never);
    fail_each([&] { return outcome_of(find_cases(folder.path())); }, 1, Ends::never);
    const DataSources sources(folder.path());
    fail_each([&] { return outcome_of(CaseSet::find(sources)); }, 1, Ends::never);
}

TEST_CASE("a failing allocation while a network is counted") {
    fail_each([] { return outcome_of(describe_network("dmfnet")); }, 2);
    fail_each([] { return outcome_of(complexity(least_network, {32, 32, 32}, 1)); }, 3);
}

TEST_CASE("a failing allocation while labels are compared") {
    const test::TemporaryFolder folder;
    const Phantom& phantom = test::small_phantom();
    const auto labels = folder / "labels.nii.gz";
    REQUIRE_OK(write_nifti_labels(labels, phantom.labels, geometry_of(phantom.labels.grid), "synthetic", true));
    EvaluationOptions options;
    options.threads = 1;
    fail_each([&] { return outcome_of(evaluate_files("phantom", labels, labels, options)); }, 4, Ends::never);
}

TEST_CASE("a failing allocation while a table is read") {
    constexpr std::string_view csv = "Label,Dice_ET,Dice_WT\na,0.5,0.25\n\"b, c\",,1\n";
    fail_each([&] { return outcome_of(parse_csv(csv, "table")); }, 1, Ends::never);
}

TEST_CASE("a failing allocation while a training cache is packed and read") {
    const test::TemporaryFolder folder;
    const auto cases = find_cases(test::training_cases().cases());
    REQUIRE_OK(cases);
    const auto cache = folder / "cases.mfcache";
    PackOptions options;
    options.overwrite = true;
    options.accept = {ErrorCode::brain_implausible};
    fail_each([&] { return outcome_of(pack_cases(cache, *cases, options)); }, 4);
    fail_each([&] { return outcome_of(cache_fingerprint(cache)); }, 1);
}
