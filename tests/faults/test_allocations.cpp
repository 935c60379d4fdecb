// SPDX-License-Identifier: MIT
// The k-th allocation fails, alone or with all that follow: every public function returns an error of the resource kind
// or succeeds, throws nothing, and leaves nothing behind. Runs are made in child processes. This program's operator new fails on demand, in all threads.
#include "core/file.h"
#include "core/guard.h"
#include "exchange/onnx.h"
#include "exchange/state_dict.h"
#include "inference/calibrate.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/paths.h"
#include "support/training_runs.h"

#include <mfres/benchmark.h>
#include <mfres/complexity.h>
#include <mfres/dataset.h>
#include <mfres/evaluate.h>
#include <mfres/metrics.h>
#include <mfres/network.h>
#include <mfres/predictor.h>
#include <mfres/segmenter.h>
#include <mfres/trainer.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <ftw.h>
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

/// What child processes have found, in memory that they share with their parent.
struct Findings {
    std::int64_t k = 0; ///< allocation that fails in the current run
    std::int64_t runs = 0, errors = 0;
    std::int64_t crashed = 0, threw = 0, wrong_code = 0, leaked = 0, broken = 0;
    std::int64_t first_bad = 0; ///< k of the first run with one of these
    std::int64_t most_left = 0; ///< blocks that a run has left
    int last_code = 0;
};

/// Says whether what a call leaves, above all its files, is whole, be the call done or not.
using Check = std::function<bool()>;

/// Blocks that a run may leave. nlohmann::json 3.11 forgets an object that is made of a list in braces and gets no memory
/// for one of its keys: the object and the keys before, once in a run. The largest such list is a recipe's, with some 70
/// keys of two blocks each.
constexpr std::int64_t most_forgotten = 256;

/// Runs of one process. What they leave may be of the reserve of lib/core/json_value.h, which is used up after some
/// thousand of them.
constexpr int most_runs = 500;

/// One run with its k-th allocation failing. In a child process.
void run_failing(const Call& call, const Check& whole, bool all, Findings& found) {
    const std::int64_t living_before = living;
    ++found.runs;
    all_later = all;
    first_failure = made + found.k;
    const Outcome outcome = run(call);
    first_failure = INT64_MAX;
    const bool wrong = !outcome.threw && !outcome.ok && outcome.code != ErrorCode::memory_limit;
    const bool leaked = living > living_before + most_forgotten;
    found.most_left = std::max(found.most_left, living - living_before);
    const bool broken = whole && !whole();
    found.errors += outcome.ok ? 0 : 1;
    found.threw += outcome.threw ? 1 : 0;
    found.wrong_code += wrong ? 1 : 0;
    found.leaked += leaked ? 1 : 0;
    found.broken += broken ? 1 : 0;
    if ((outcome.threw || wrong || leaked || broken) && found.first_bad == 0) {
        found.first_bad = found.k;
        found.last_code = static_cast<int>(outcome.code);
    }
}

/// Which allocations fail: the first 20 and the others with a stride that keeps the whole within `seconds` of the
/// processor; all of them where the environment variable MFRES_ALL_ALLOCATIONS is set, and if it is FROM-TO these alone,
/// so that a long loop can be run in parts, or if it is FROM-TO/STRIDE these with a stride from the 20th on.
struct Choice {
    std::int64_t first = 1;
    std::int64_t last = 0;
    std::int64_t stride = 1;

    Choice(std::int64_t count, double once, double seconds) : last(count) {
        const char* const all = std::getenv("MFRES_ALL_ALLOCATIONS"); // NOLINT(concurrency-mt-unsafe): nobody sets it
        if (all) {
            long long from = 1;
            long long to = count;
            long long step = 1;
            if (std::sscanf(all, "%lld-%lld/%lld", &from, &to, &step) >= 2) {
                first = from;
                last = std::min<std::int64_t>(count, to);
                stride = std::max(1LL, step);
            }
            return;
        }
        const auto tries = static_cast<std::int64_t>(std::clamp(seconds / std::max(once, 1e-6), 40.0, 4000.0));
        stride = std::max<std::int64_t>(1, 2 * count / tries);
    }
    std::int64_t next(std::int64_t k) const { return k + (k < 20 ? 1 : stride); }
};

/// Fails allocations of the call one by one, alone and with all later ones. A run that ends the process is counted, and a
/// new process goes on with the next.
void fail_each(const Call& call, double seconds, const Check& whole = {}) {
    REQUIRE(run(call).ok); // what is made once in a process is made here
    const std::int64_t begin = made;
    const double started = processor_seconds();
    REQUIRE(run(call).ok);
    const std::int64_t count = made - begin;
    const Choice choice(count, processor_seconds() - started, seconds);
    void* const pages = ::mmap(nullptr, sizeof(Findings), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(pages != MAP_FAILED);
    Findings& found = *new (pages) Findings;
    for (const bool all : {false, true})
        for (found.k = choice.first; found.k <= choice.last;) {
            const pid_t child = ::fork();
            REQUIRE(child >= 0);
            if (child == 0) {
                for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
                    std::signal(signal, SIG_DFL); // the test framework would report them, with memory that fails
                for (int runs = 0; runs < most_runs && found.k <= choice.last; ++runs) {
                    run_failing(call, whole, all, found);
                    found.k = choice.next(found.k);
                }
                ::_exit(0);
            }
            int status = 0;
            ::waitpid(child, &status, 0);
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                continue;
            found.first_bad = found.first_bad == 0 ? found.k : found.first_bad;
            ++found.crashed;
            found.k = choice.next(found.k);
        }
    const Findings sum = found;
    ::munmap(pages, sizeof(Findings));
    std::printf("%lld allocations, %lld runs: %lld errors, %lld crashes\n", static_cast<long long>(count),
                static_cast<long long>(sum.runs), static_cast<long long>(sum.errors),
                static_cast<long long>(sum.crashed));
    INFO("first at allocation " << sum.first_bad << " of " << count << ", code "
                                << name(static_cast<ErrorCode>(sum.last_code)) << "; at most " << sum.most_left
                                << " blocks left");
    CHECK(sum.crashed == 0);
    CHECK(sum.threw == 0);
    CHECK(sum.wrong_code == 0);
    CHECK(sum.leaked == 0);
    CHECK(sum.broken == 0);
    CHECK((sum.errors > 0 || choice.last < choice.first));
}

constexpr std::string_view least_network = R"({"network": "no-new-net", "widths": [2, 2]})";

bool is_there(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
}

/// Whether a folder is free of temporary files, which begin with a dot.
bool no_leftovers(const std::filesystem::path& folder) {
    const auto entries = list_folder(folder);
    return entries && std::none_of(entries->begin(), entries->end(), [](const FolderEntry& entry) {
               return entry.path.filename().string().starts_with('.');
           });
}

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
    fail_each([&] { return outcome_of(find_case(one)); }, 1);
    fail_each([&] { return outcome_of(find_cases(folder.path())); }, 1);
    const DataSources sources(folder.path());
    fail_each([&] { return outcome_of(CaseSet::find(sources)); }, 1);
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
    fail_each([&] { return outcome_of(evaluate_files("phantom", labels, labels, options)); }, 4);
}

TEST_CASE("a failing allocation while folders of labels are compared") {
    const test::TemporaryFolder folder;
    LabelMap labels = test::small_phantom().labels;
    for (const char* const side : {"predictions", "references"}) {
        std::filesystem::create_directory(folder / side);
        for (const char* const id : {"a", "b"})
            REQUIRE_OK(write_nifti_labels(folder / side / (std::string(id) + ".nii.gz"), labels,
                                          geometry_of(labels.grid), "synthetic", true));
    }
    EvaluationOptions options;
    options.threads = 1;
    const auto predictions = folder / "predictions";
    const auto references = folder / "references";
    fail_each([&] { return outcome_of(evaluate_folders(predictions, references, options)); }, 4);
}

TEST_CASE("a failing allocation while a model is evaluated on a training cache") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, least_network);
    SegmenterOptions setup;
    setup.compute.backend = "reference";
    setup.compute.threads = 1;
    EvaluationOptions options;
    options.threads = 1;
    const DataSources sources(test::validation_cases().path());
    fail_each(
        [&]() -> Outcome {
            auto segmenter = Segmenter::open(model, setup);
            if (!segmenter)
                return outcome_of(segmenter);
            const auto cases = CaseSet::find(sources);
            return cases ? outcome_of(evaluate_model(*segmenter, *cases, options)) : outcome_of(cases);
        },
        4);
}

TEST_CASE("a failing allocation while a table is read") {
    constexpr std::string_view csv = "Label,Dice_ET,Dice_WT\na,0.5,0.25\n\"b, c\",,1\n";
    fail_each([&] { return outcome_of(parse_csv(csv, "table")); }, 1);
}

TEST_CASE("a failing allocation while models are read, written and converted") {
    const test::TemporaryFolder folder;
    const Model model = test::small_model(3, least_network);
    const auto file = folder / "model.safetensors";
    const auto half = folder / "half.safetensors";
    const auto onnx = folder / "model.onnx";
    const auto mean = folder / "mean.safetensors";
    const auto whole_models = [&] {
        return no_leftovers(folder.path()) && (!is_there(file) || load_model(file).ok()) &&
               (!is_there(half) || load_model(half).ok()) && (!is_there(onnx) || import_onnx(onnx).ok()) &&
               (!is_there(mean) || load_model(mean).ok());
    };
    fail_each([&] { return outcome_of(save_model(file, model, Dtype::f32, true)); }, 2, whole_models);
    fail_each([&] { return outcome_of(save_model(half, model, Dtype::f16, true)); }, 2, whole_models);
    fail_each([&] { return outcome_of(load_model(file)); }, 2);
    fail_each([&] { return outcome_of(read_safetensors_state(file)); }, 1);
    fail_each([&] { return outcome_of(export_onnx(onnx, model, {}, true)); }, 2, whole_models);
    fail_each([&] { return outcome_of(import_onnx(onnx)); }, 2);
    const std::vector<std::filesystem::path> sources{file, half};
    fail_each([&] { return outcome_of(average_models(sources, mean, true)); }, 2, whole_models);
    const auto seeds = std::filesystem::path(MFRES_SOURCE_DIR) / "tests" / "fuzz" / "seeds" / "torch_archive";
    const auto archives = list_folder(seeds);
    REQUIRE_OK(archives);
    fail_each([&] { return outcome_of(read_torch_state(archives->front().path)); }, 1);
    const auto left = list_folder(folder.path());
    REQUIRE_OK(left);
    CHECK(left->size() == 4); // no temporary file
}

TEST_CASE("a failing allocation while a model is calibrated and written with int8") {
    const test::TemporaryFolder folder;
    Model model = test::small_model(3, R"({"network": "no-new-net", "widths": [4, 4]})");
    const auto found = CaseSet::find(DataSources(test::validation_cases().path()));
    REQUIRE_OK(found);
    const auto cases = box_sources(*found);
    CalibrationOptions options;
    options.compute.backend = "reference";
    options.compute.threads = 1;
    // As the program calls it, which turns what is thrown into an error.
    const auto calibrated = [&] { return guarded("", [&] { return calibrate(model, cases, options); }); };
    fail_each([&] { return outcome_of(calibrated()); }, 4);
    const auto record = calibrated();
    REQUIRE_OK(record);
    model.metadata.quantization = *record;
    const auto file = folder / "int8.safetensors";
    fail_each([&] { return outcome_of(save_model(file, model, Dtype::i8, true)); }, 1,
              [&] { return no_leftovers(folder.path()) && (!is_there(file) || load_model(file).ok()); });
    fail_each([&] { return outcome_of(load_model(file)); }, 1);
}

TEST_CASE("a failing allocation while a recipe is described and data are divided") {
    fail_each([] { return outcome_of(describe_recipe("{}", 4)); }, 1);
    fail_each([] { return outcome_of(planned_activations(least_network, {32, 32, 32}, "reference")); }, 1);
    DataSplitOptions options;
    options.data = test::training_cases().cases();
    options.fold = "1/2";
    fail_each([&] { return outcome_of(split_cases(options)); }, 2);
}

TEST_CASE("a failing allocation while a training cache is packed and read") {
    const test::TemporaryFolder folder;
    const auto cases = CaseSet::find(test::training_cases().cases());
    REQUIRE_OK(cases);
    const auto cache = folder / "cases.mfcache";
    PackOptions options;
    options.overwrite = true;
    options.accept = {ErrorCode::brain_implausible};
    fail_each([&] { return outcome_of(pack_cases(cache, *cases, options)); }, 4,
              [&] { return no_leftovers(folder.path()) && (!is_there(cache) || cache_fingerprint(cache).ok()); });
    fail_each([&] { return outcome_of(cache_fingerprint(cache)); }, 1);
}

namespace {

/// Removes a folder with all that is in it. Takes no memory of operator new.
void remove_tree(const std::filesystem::path& folder) {
    ::nftw(
        folder.c_str(), [](const char* path, const struct stat*, int, FTW*) { return ::remove(path); }, 8,
        FTW_DEPTH | FTW_PHYS);
}

} // namespace

TEST_CASE("a failing allocation while a network is trained") {
    const test::TemporaryFolder folder;
    const nlohmann::json changes = {{"network", nlohmann::json::parse(least_network)}, {"steps", 2}, {"batch", 1}};
    TrainerOptions options = test::tiny_run(folder / "run", "reference", test::tiny_recipe(changes));
    options.loader_threads = 0;
    // Each file is there as a whole or not at all.
    const auto whole_run = [&] {
        if (!is_there(options.run))
            return true;
        for (const char* const name : {"last.ckpt", "previous.ckpt", "best.ckpt"})
            if (is_there(options.run / name) && !read_checkpoint(options.run / name))
                return false;
        const auto model = options.run / "model.safetensors";
        return no_leftovers(options.run) && (!is_there(model) || load_model(model).ok());
    };
    fail_each(
        [&] {
            remove_tree(options.run);
            auto trainer = Trainer::open(options);
            return trainer ? outcome_of(trainer->run()) : outcome_of(trainer);
        },
        8, whole_run);
    remove_tree(options.run);
    fail_each(
        [&] {
            // Continues where the run before ended, and is complete: the checkpoint is read, the model exported.
            options.resume = std::filesystem::exists(options.run);
            auto trainer = Trainer::open(options);
            return trainer ? outcome_of(trainer->run()) : outcome_of(trainer);
        },
        4, whole_run);
}
