// SPDX-License-Identifier: MIT
// The plain C interface: a thin wrapper over Segmenter.
#include <mfres/mfres.h>

#include <mfres/case.h>
#include <mfres/segmenter.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <optional>

struct mfres_segmenter {
    mfres::Segmenter segmenter;
    mfres::SegmentOptions request; ///< of every case
};

namespace {

void cut_into(char* to, std::size_t capacity, std::string_view text) {
    const std::size_t length = std::min(text.size(), capacity - 1);
    std::memcpy(to, text.data(), length);
    to[length] = '\0';
}

void tell(mfres_error* to, std::string_view name, std::string_view message) {
    if (!to)
        return;
    cut_into(to->name, sizeof to->name, name);
    cut_into(to->message, sizeof to->message, message);
}

void tell(mfres_error* to, const mfres::Error& error) {
    tell(to, mfres::name(error.code), error.message);
}

/// Runs `body`, which gives a Result, and keeps exceptions (of allocations, above all) inside.
template <typename Body>
int guarded(mfres_error* error, const Body& body) {
    tell(error, "", "");
    try {
        const auto status = body();
        if (status)
            return 0;
        tell(error, status.error());
    } catch (const std::bad_alloc&) {
        tell(error, mfres::name(mfres::ErrorCode::memory_limit), "out of memory");
    } catch (const std::exception& problem) {
        tell(error, mfres::name(mfres::ErrorCode::internal), problem.what());
    }
    return -1;
}

/// NULL keeps the default.
void set(std::string& option, const char* given) {
    if (given)
        option = given;
}

/// No value for a size that the model decides.
std::optional<double> size_of(double given, const mfres_options& options) {
    return given == 0.0 && options.no_recommended_sizes == 0 ? std::nullopt : std::optional(given);
}

mfres::Error missing_argument(const char* name) {
    return {mfres::ErrorCode::invalid_argument, std::string(name) + " must not be NULL", name};
}

mfres::Status segment(mfres_segmenter& segmenter, const mfres::CaseFiles& files, const char* output, char** report) {
    mfres::SegmentOptions request = segmenter.request;
    request.output = output;
    const auto result = segmenter.segmenter.segment(files, request);
    if (!result)
        return result.error();
    if (report) {
        const std::string json = mfres::to_json(result->report);
        *report = static_cast<char*>(std::malloc(json.size() + 1));
        if (*report)
            std::memcpy(*report, json.c_str(), json.size() + 1);
    }
    return {};
}

} // namespace

const char* mfres_version(void) {
    return mfres::version().data();
}

mfres_segmenter* mfres_open(const char* model, const mfres_options* options, mfres_error* error) {
    mfres_segmenter* opened = nullptr;
    guarded(error, [&]() -> mfres::Status {
        if (!model)
            return missing_argument("model");
        mfres::SegmenterOptions setup;
        mfres::SegmentOptions request;
        if (options) {
            set(setup.backend, options->backend);
            set(setup.precision, options->precision);
            set(setup.waiting, options->waiting);
            set(setup.mirror, options->mirror);
            setup.threads = options->threads;
            setup.max_memory = options->max_memory;
            request.min_enhancing_mm3 = size_of(options->min_enhancing_mm3, *options);
            request.min_component_mm3 = size_of(options->min_component_mm3, *options);
        }
        auto segmenter = mfres::Segmenter::open(model, setup);
        if (!segmenter)
            return segmenter.error();
        opened = new mfres_segmenter{std::move(segmenter).value(), request};
        return {};
    });
    return opened;
}

int mfres_segment_folder(mfres_segmenter* segmenter, const char* folder, const char* output, char** report,
                         mfres_error* error) {
    if (report)
        *report = nullptr;
    return guarded(error, [&]() -> mfres::Status {
        if (!segmenter || !folder || !output)
            return missing_argument(!segmenter ? "segmenter" : !folder ? "folder" : "output");
        const auto files = mfres::find_case(folder, true);
        return files ? segment(*segmenter, *files, output, report) : mfres::Status(files.error());
    });
}

int mfres_segment_files(mfres_segmenter* segmenter, const char* t1, const char* t1ce, const char* t2, const char* flair,
                        const char* output, char** report, mfres_error* error) {
    if (report)
        *report = nullptr;
    return guarded(error, [&]() -> mfres::Status {
        if (!segmenter || !output)
            return missing_argument(!segmenter ? "segmenter" : "output");
        mfres::CaseFiles files;
        const std::array<const char*, 4> named{t1, t1ce, t2, flair};
        for (const mfres::Modality modality : mfres::modalities) {
            const auto i = static_cast<std::size_t>(modality);
            if (!named[i])
                return missing_argument(mfres::name(modality).data());
            files.modalities[i] = named[i];
        }
        files.id = files.modalities[0].parent_path().filename().string();
        return segment(*segmenter, files, output, report);
    });
}

void mfres_free(char* report) {
    std::free(report);
}

void mfres_close(mfres_segmenter* segmenter) {
    delete segmenter;
}
