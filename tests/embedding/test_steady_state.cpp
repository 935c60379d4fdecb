// SPDX-License-Identifier: MIT
// After the first case of a size a predictor that keeps its memory allocates nothing. This program's operator new counts
// what mfres allocates, in all threads, and the allocator that it lends counts arrays.
#include "support/c_case.h"
#include "support/catch.h"

#include <mfres/mfres.h>
#include <mfres/predictor.h>

#include <dlfcn.h>
#include <execinfo.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

using namespace mfres;

namespace {

std::atomic<bool> counting{false};
std::atomic<std::int64_t> made{0};

/// Whether the call came from inside an engine's library. oneDNN makes a table of arguments in every execution.
bool of_engine(void* caller) {
    Dl_info where{};
    return dladdr(caller, &where) != 0 && where.dli_fname && std::strstr(where.dli_fname, "libdnnl") != nullptr;
}

/// With MFRES_TRACE_ALLOCATIONS=1 prints who allocates: addresses for addr2line.
void trace(std::size_t bytes) {
    static const bool wanted = std::getenv("MFRES_TRACE_ALLOCATIONS") != nullptr;
    static thread_local bool inside = false;
    if (!wanted || inside)
        return;
    inside = true;
    void* frames[40];
    const int depth = backtrace(frames, 40);
    std::fprintf(stderr, "ALLOCATION %zu:", bytes);
    for (int i = 2; i < depth; ++i)
        std::fprintf(stderr, " %p", frames[i]);
    std::fputs("\n", stderr);
    inside = false;
}

void* allocate(void* caller, std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) {
    if (counting && !of_engine(caller)) {
        ++made;
        trace(bytes);
    }
    const std::size_t whole = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    void* const memory =
        alignment > alignof(std::max_align_t) ? std::aligned_alloc(alignment, whole) : std::malloc(whole);
    if (!memory)
        throw std::bad_alloc();
    return memory;
}

} // namespace

// clang-format off
void* operator new(std::size_t bytes) { return allocate(__builtin_return_address(0), bytes); }
void* operator new[](std::size_t bytes) { return allocate(__builtin_return_address(0), bytes); }
void* operator new(std::size_t bytes, std::align_val_t a) { return allocate(__builtin_return_address(0), bytes, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t bytes, std::align_val_t a) { return allocate(__builtin_return_address(0), bytes, static_cast<std::size_t>(a)); }
// Under AddressSanitizer the standard form of these does not call those above.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept try { return operator new(bytes); } catch (...) { return nullptr; }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept try { return operator new[](bytes); } catch (...) { return nullptr; }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
// clang-format on

namespace {

/// The same images with their first axis the other way around in memory.
std::array<Volume, 4> turned(const std::array<Volume, 4>& images) {
    std::array<Volume, 4> all = images;
    for (Volume& volume : all) {
        const std::int64_t row = volume.grid.size[0];
        for (auto at = volume.voxels.begin(); at != volume.voxels.end(); at += row)
            std::reverse(at, at + row);
        for (auto& line : volume.grid.affine) {
            line[3] += line[0] * static_cast<double>(row - 1);
            line[0] = -line[0];
        }
    }
    return all;
}

std::atomic<std::int64_t> arrays{0};

/// Allocations of the second and the third case, by operator new and by the allocator.
void check_later_cases(const std::filesystem::path& model, const char* backend, const std::array<Volume, 4>& images,
                       bool probabilities, double min_component_mm3) {
    mfres_options options{};
    options.struct_size = sizeof options;
    options.backend = backend;
    options.threads = 2;
    options.keep_memory = 1;
    options.allocate = [](void*, std::size_t bytes, std::size_t alignment) {
        ++arrays;
        return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    };
    options.release = [](void*, void* memory, std::size_t) { std::free(memory); };
    mfres_segmenter* const segmenter = mfres_open(model.c_str(), &options);
    INFO(mfres_error_message(nullptr));
    REQUIRE(segmenter != nullptr);
    const test::CCase given(images, "a patient whose name is long"); // longer than what a string holds in itself
    const auto voxels = static_cast<std::size_t>(images[0].grid.voxels());
    std::vector<std::uint8_t> labels(voxels);
    std::vector<float> values(probabilities ? MFRES_CLASSES * voxels : 0);
    mfres_output output{sizeof output, labels.data(), labels.size()};
    if (probabilities) {
        output.probabilities = values.data();
        output.probabilities_size = values.size();
    }
    mfres_request request{};
    request.struct_size = sizeof request;
    request.min_component_mm3 = min_component_mm3;
    for (int run = 0; run < 3; ++run) {
        const std::int64_t arrays_before = arrays;
        made = 0;
        counting = run > 0;
        const int status = mfres_predict(segmenter, &given.patient, &request, &output);
        counting = false;
        INFO(mfres_error_message(segmenter));
        REQUIRE(status == 0);
        INFO("case " << run);
        CHECK((arrays > arrays_before) == (run == 0));
        CHECK(made == 0);
    }
    mfres_close(segmenter);
}

} // namespace

TEST_CASE("embedding: after the first case of a size nothing is allocated") {
    const test::TemporaryFolder folder;
    const auto model = test::write_model(folder);
    const std::array<Volume, 4>& images = test::small_phantom().volumes;
    int counted = 0;
    for (const BackendInfo& backend : available_backends()) {
        if (backend.name != "onednn" && backend.name != "native")
            continue;
        ++counted;
        for (const bool probabilities : {false, true}) {
            INFO(backend.name << (probabilities ? ", labels and probabilities" : ", labels"));
            check_later_cases(model, backend.name.c_str(), images, probabilities, 0.0);
        }
        INFO(backend.name << ", turned, with small components removed");
        check_later_cases(model, backend.name.c_str(), turned(images), true, 20.0);
    }
    if (counted == 0)
        std::puts("SKIPPED: the other engines allocate in every run");
}

TEST_CASE("embedding: arrays of a case that the next one does not use are given back") {
    const test::TemporaryFolder folder;
    std::atomic<std::int64_t> held{0};
    PredictorOptions options{.compute = {.threads = 2}, .keep_memory = true};
    options.memory.allocate = [&](std::size_t bytes, std::size_t alignment) {
        held += static_cast<std::int64_t>(bytes);
        return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    };
    options.memory.release = [&](void* memory, std::size_t bytes) {
        held -= static_cast<std::int64_t>(bytes);
        std::free(memory);
    };
    auto predictor = Predictor::open(test::write_model(folder), options);
    REQUIRE_OK(predictor);
    CaseVolumes small;
    CaseVolumes large;
    const auto other = make_phantom({.seed = 6, .size = {96, 100, 90}, .threads = 2});
    REQUIRE_OK(other);
    for (std::size_t m = 0; m < 4; ++m) {
        small.volumes[m] = VolumeView::of(test::small_phantom().volumes[m]);
        large.volumes[m] = VolumeView::of(other->volumes[m]);
    }
    Prediction result;
    REQUIRE_OK(predictor->predict_into(result, small));
    REQUIRE_OK(predictor->predict_into(result, small));
    const std::int64_t of_small = held;
    REQUIRE_OK(predictor->predict_into(result, large));
    REQUIRE_OK(predictor->predict_into(result, large));
    CHECK(held > of_small);
    REQUIRE_OK(predictor->predict_into(result, small));
    REQUIRE_OK(predictor->predict_into(result, small));
    CHECK(held == of_small);
}
