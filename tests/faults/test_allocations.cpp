// SPDX-License-Identifier: MIT
// The k-th allocation fails, alone or with all that follow: every public function returns an error of the resource kind
// or succeeds, throws nothing, and leaves nothing behind. This program's operator new fails on demand, in all threads.
#include "core/file.h"
#include "exchange/onnx.h"
#include "exchange/state_dict.h"
#include "support/cached_cases.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/paths.h"

#include <mfres/complexity.h>
#include <mfres/evaluate.h>
#include <mfres/network.h>
#include <mfres/predictor.h>
#include <mfres/segmenter.h>
#include <mfres/trainer.h>

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <new>

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

/// Fails allocations of the call one by one: the first ones all, the others with a stride that keeps the whole within
/// `seconds` of the processor.
void fail_each(const Call& call, double seconds) {
    REQUIRE(run(call).ok); // what is made once in a process is made here
    const std::int64_t begin = made;
    const double started = processor_seconds();
    REQUIRE(run(call).ok);
    const std::int64_t count = made - begin;
    const double once = processor_seconds() - started;
    const auto tries = static_cast<std::int64_t>(std::clamp(seconds / std::max(once, 1e-6), 40.0, 4000.0));
    const std::int64_t stride = std::max<std::int64_t>(1, 2 * count / tries);
    std::int64_t failed = 0;
    for (const bool all : {false, true})
        for (std::int64_t k = 1; k <= count; k += k < 20 ? 1 : stride) {
            const std::int64_t living_before = living;
            all_later = all;
            first_failure = made + k;
            const Outcome outcome = run(call);
            first_failure = INT64_MAX;
            const std::int64_t left = living - living_before;
            INFO("allocation " << k << " of " << count << (all ? " and all later ones" : " alone"));
            CHECK_FALSE(outcome.threw);
            if (!outcome.ok)
                CHECK(name(outcome.code) == name(ErrorCode::memory_limit));
            CHECK(left <= 0);
            failed += outcome.ok ? 0 : 1;
        }
    CHECK(failed > 0);
    CHECK(run(call).ok);
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
    options.backend = "reference";
    options.threads = 1;
    fail_each([&] { return outcome_of(Predictor::open(model, options)); }, 3);
    SegmenterOptions setup;
    setup.backend = "reference";
    setup.threads = 1;
    fail_each([&] { return outcome_of(Segmenter::open(model, setup)); }, 3);
}

TEST_CASE("a failing allocation while a case in memory is segmented") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, least_network);
    const CaseVolumes volumes = in_memory(test::small_phantom());
    PredictorOptions options;
    options.backend = "reference";
    options.threads = 1;
    fail_each(
        [&] {
            auto predictor = Predictor::open(model, options);
            return predictor ? outcome_of(predictor->predict(volumes)) : outcome_of(predictor);
        },
        8);
}

TEST_CASE("a failing allocation while files are segmented") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, least_network);
    const CaseFiles files = test::write_case(folder);
    SegmenterOptions setup;
    setup.backend = "reference";
    setup.threads = 1;
    SegmentOptions request;
    request.output = folder / "labels.nii.gz";
    request.probabilities = folder / "probabilities.nii.gz";
    request.overwrite = true;
    fail_each(
        [&] {
            auto segmenter = Segmenter::open(model, setup);
            return segmenter ? outcome_of(segmenter->segment(files, request)) : outcome_of(segmenter);
        },
        8);
    const auto left = list_folder(folder.path());
    REQUIRE_OK(left);
    CHECK(left->size() == 4); // case, model, labels, probabilities: no temporary file
}

TEST_CASE("a failing allocation while cases are found") {
    const test::TemporaryFolder folder;
    (void)test::write_case(folder);
    fail_each([&] { return outcome_of(find_case(folder / "phantom")); }, 1);
    fail_each([&] { return outcome_of(find_cases(folder.path())); }, 1);
    fail_each([&] { return outcome_of(CaseSet::find(folder.path())); }, 1);
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
    fail_each([&] { return outcome_of(evaluate_folders(folder.path(), folder.path(), options)); }, 4);
}

TEST_CASE("a failing allocation while a table is read") {
    constexpr std::string_view csv = "Label,Dice_ET,Dice_WT\na,0.5,0.25\n\"b, c\",,1\n";
    fail_each([&] { return outcome_of(parse_csv(csv, "table")); }, 1);
}

TEST_CASE("a failing allocation while a model is converted") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder, least_network);
    const auto loaded = load_model(model);
    REQUIRE_OK(loaded);
    fail_each([&] { return outcome_of(load_model(model)); }, 2);
    fail_each([&] { return outcome_of(save_model(folder / "again.safetensors", *loaded, Dtype::f16, true)); }, 2);
    fail_each(
        [&]() -> Outcome {
            auto state = read_safetensors_state(model);
            return state ? outcome_of(adopt_weights(loaded->variant, std::move(state).value(), "w", "test"))
                         : outcome_of(state);
        },
        2);
    OnnxExport form;
    form.size = {16, 16, 16};
    const auto onnx = encode_onnx(*loaded, form);
    if (!onnx && onnx.error().code == ErrorCode::operation_unsupported)
        return;
    REQUIRE_OK(onnx);
    fail_each([&] { return outcome_of(encode_onnx(*loaded, form)); }, 2);
    fail_each([&] { return outcome_of(import_onnx(*onnx, "file.onnx")); }, 2);
}

TEST_CASE("a failing allocation while a network is trained") {
    const test::TemporaryFolder folder;
    const Phantom& phantom = test::small_phantom();
    const std::vector<CaseFiles> cases = {test::write_labelled_case(folder, "one", phantom.volumes, phantom.labels)};
    const auto cache = folder / "cases.mfcache";
    REQUIRE_OK(write_cache(cache, cases, {}, {}));
    TrainerOptions options;
    options.data = cache;
    options.backend = "reference";
    options.threads = 1;
    options.loader_threads = 0;
    options.recipe = R"({"network": {"network": "no-new-net", "widths": [2, 2]}, "steps": 1, "batch": 1,
                         "crop": [16, 16, 16], "validate_every": 0})";
    int runs = 0;
    fail_each(
        [&]() -> Outcome {
            options.run = folder / ("run" + std::to_string(runs++));
            auto trainer = Trainer::open(options);
            const Outcome outcome = trainer ? outcome_of(trainer->run()) : outcome_of(trainer);
            return outcome;
        },
        10);
}
