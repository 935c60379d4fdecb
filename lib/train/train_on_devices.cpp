// SPDX-License-Identifier: MIT
// One Trainer per GPU, each in a thread of its own.
#include "backends/backend.h"
#include "backends/distributed/communicator.h"
#include "core/format.h"
#include "core/guard.h"
#include "core/parallel.h"
#include "core/try.h"

#include <mfres/trainer.h>

#include <algorithm>
#include <charconv>
#include <numeric>
#include <system_error>
#include <thread>

namespace mfres {

namespace {

/// "0,2" or "2,"; nothing if it is no such list.
std::optional<std::vector<int>> whole_numbers(std::string_view words) {
    std::vector<int> numbers;
    while (!words.empty()) {
        const std::string_view one = words.substr(0, words.find(','));
        int value = 0;
        const auto [rest, problem] = std::from_chars(one.data(), one.data() + one.size(), value);
        if (problem != std::errc() || rest != one.data() + one.size() || value < 0)
            return std::nullopt;
        numbers.push_back(value);
        words.remove_prefix(std::min(words.size(), one.size() + 1));
    }
    return numbers;
}

Result<TrainReport> train_alone(const TrainerOptions& options, const TrainObserver& observer) {
    MFRES_TRY(Trainer trainer, Trainer::open(options, observer));
    return trainer.run(observer);
}

Result<std::vector<int>> devices_named(std::string_view backend, std::string_view words) {
    // Who asks for GPUs gets none of the backends that "auto" falls back to.
    MFRES_TRY(const Backend* found, find_backend(backend == "auto" ? "cuda" : backend));
    const int present = found->devices();
    const auto listed = whole_numbers(words);
    std::vector<int> devices;
    if (words == "all") {
        devices.resize(static_cast<std::size_t>(present));
        std::iota(devices.begin(), devices.end(), 0);
        return devices;
    }
    const bool is_count = words.find(',') == std::string_view::npos;
    if (!listed || listed->empty() || (is_count && listed->front() == 0))
        return Error{ErrorCode::invalid_argument,
                     text("'", words, "' names no GPUs: it may be all, a number of them (2), or a list (0,2)"), "gpus"};
    const int needed = is_count ? listed->front() : *std::max_element(listed->begin(), listed->end()) + 1;
    if (needed > present)
        return Error{ErrorCode::backend_unavailable,
                     text("'", words, "' needs ", counted(needed, "device"), ", and backend ", found->name(), " has ",
                          present, " here"),
                     "gpus"};
    if (is_count) {
        devices.resize(static_cast<std::size_t>(needed));
        std::iota(devices.begin(), devices.end(), 0);
        return devices;
    }
    for (const int device : *listed) {
        if (std::find(devices.begin(), devices.end(), device) != devices.end())
            return Error{ErrorCode::invalid_argument, text("'", words, "' names GPU ", device, " twice"), "gpus"};
        devices.push_back(device);
    }
    return devices;
}

} // namespace

Result<std::vector<int>> find_devices(std::string_view backend, std::string_view words) {
    return guarded("devices", [&] { return devices_named(backend, words); });
}

namespace {

Result<TrainReport> train_on_each(const TrainerOptions& options, const std::vector<int>& devices,
                                  const TrainObserver& observer) {
    if (devices.empty() || options.ranks)
        return Error{ErrorCode::invalid_argument,
                     devices.empty() ? "training needs a device" : "ranks of a launcher have one device each", "gpus"};
    TrainerOptions own = options;
    own.compute.device = devices[0];
    if (devices.size() == 1)
        return train_alone(own, observer);
    const int count = static_cast<int>(devices.size());
    if (own.compute.threads == 0)
        own.compute.threads = std::max(1, resolve_threads(0) / count);
    auto ranks = thread_ranks(count);
    std::vector<std::optional<Result<TrainReport>>> results(devices.size());
    const auto train = [&](std::size_t rank, const TrainObserver& told) {
        TrainerOptions of_rank = own;
        of_rank.compute.device = devices[rank];
        of_rank.ranks = std::move(ranks[rank]); // destroyed with the options, which ends the waiting of other ranks
        results[rank] = train_alone(of_rank, told);
    };
    std::vector<std::thread> threads;
    Status started;
    try {
        for (std::size_t rank = 1; rank < devices.size(); ++rank)
            threads.emplace_back([&, rank] { train(rank, {}); });
    } catch (const std::system_error& problem) {
        started =
            Error{ErrorCode::memory_limit,
                  text("a thread for GPU ", devices[threads.size() + 1], " could not be started: ", problem.what()),
                  {}};
        ranks[0]->fail(started.error());
    }
    if (started)
        train(0, observer);
    for (std::thread& thread : threads)
        thread.join();
    MFRES_CHECK(std::move(started));
    for (auto& result : results)
        if (!*result)
            return std::move(*result);
    return std::move(*results[0]);
}

} // namespace

Result<TrainReport> train_on_devices(const TrainerOptions& options, const std::vector<int>& devices,
                                     const TrainObserver& observer) {
    return guarded(options.run, [&] { return train_on_each(options, devices, observer); });
}

} // namespace mfres
