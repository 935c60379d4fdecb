// SPDX-License-Identifier: MIT
#include "data/loader.h"

#include "core/random.h"
#include "core/try.h"

#include <mfres/volume.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace mfres {

namespace {

constexpr int most_threads = 1024;

Status check_part(const Sampling& sampling, const BatchPart& part) {
    if (part.count >= 1 && part.index >= 0 && part.index < part.count && sampling.batch % part.count == 0)
        return {};
    return Error{ErrorCode::invalid_argument,
                 text("a batch of ", sampling.batch, " has no part ", part.index, " of ", part.count, " equal parts"),
                 "batch"};
}

/// Memory that the samples of a batch share.
struct Workspace {
    std::vector<std::uint8_t> brain;
    ArtefactWorkspace artefacts;
};

/// Cuts a sample and varies it. `donor` is null where no tumour is placed.
void make_sample(const CachedCase& source, const SampleDraw& draw, const CachedCase* donor, Crop crop,
                 Workspace& workspace) {
    const auto voxels = static_cast<std::size_t>(crop.extents[0] * crop.extents[1] * crop.extents[2]);
    const bool varied = draw.changes_intensities();
    if (varied || donor != nullptr) {
        workspace.brain.resize(voxels);
        crop.brain = workspace.brain.data();
    }
    std::optional<Warp> warp;
    if (draw.warp > 0.0)
        warp.emplace(crop.extents, draw.warp, draw.warp_seed);
    take_crop(source, draw.pose, crop, warp ? &*warp : nullptr);
    if (donor != nullptr)
        mix_tumour(*donor, *draw.mix, crop);
    for (std::size_t m = 0; varied && m < draw.intensities.size(); ++m) {
        const std::span<float> image(crop.images + m * voxels, voxels);
        add_artefacts(image, crop.extents, workspace.brain, draw.artefacts[m], workspace.artefacts);
        change_intensity(image, workspace.brain, draw.intensities[m]);
    }
}

Result<Batch> assemble(const Cache& cache, const Sampling& sampling, std::uint64_t seed, std::int64_t step,
                       const BatchPart& part, BatchForm form) {
    const auto [x, y, z] = sampling.crop;
    const std::int64_t voxels = x * y * z; // at most 2^30, times a batch of at most 2^12
    const std::int64_t samples = sampling.batch / part.count;
    const std::int64_t begin = part.index * samples;
    Batch batch;
    batch.step = step;
    batch.cases = cases_of_step(cache.entries().size(), sampling.batch, begin, begin + samples, seed, step);
    if (form == BatchForm::arrays) {
        batch.images = Tensor({samples, static_cast<std::int64_t>(modalities.size()), x, y, z});
        batch.classes.resize(static_cast<std::size_t>(samples * voxels));
    }
    const Random random = Random(seed).fork(static_cast<std::uint64_t>(step));
    Workspace workspace;
    for (std::int64_t i = 0; i < samples; ++i) {
        const std::size_t chosen = batch.cases[static_cast<std::size_t>(i)];
        MFRES_TRY(auto source, cache.load(chosen));
        const SampleDraw draw =
            draw_sample(*source, cache.entries()[chosen], sampling, random.fork(static_cast<std::uint64_t>(begin + i)));
        if (form == BatchForm::crops) {
            const CropSource view = source_of(*source);
            batch.crops.push_back({std::move(source), view, walk_of(draw.pose, sampling.crop), draw.intensities});
            continue;
        }
        std::shared_ptr<const CachedCase> donor;
        if (const auto index = draw.mix ? donor_of(cache.entries(), chosen, draw.mix->donor) : std::nullopt) {
            MFRES_TRY(donor, cache.load(*index));
        }
        make_sample(*source, draw, donor.get(),
                    {sampling.crop, batch.images.data() + i * static_cast<std::int64_t>(modalities.size()) * voxels,
                     batch.classes.data() + i * voxels, nullptr},
                    workspace);
    }
    return batch;
}

} // namespace

Result<Batch> make_batch(const Cache& cache, const Sampling& sampling, std::uint64_t seed, std::int64_t step,
                         const BatchPart& part, BatchForm form) {
    MFRES_CHECK(check_sampling(sampling));
    MFRES_CHECK(check_part(sampling, part));
    if (step < 0 || step > (std::int64_t{1} << 48U))
        return Error{ErrorCode::invalid_argument, text("a step must lie between 0 and 2^48, not ", step), {}};
    if (cache.entries().empty())
        return Error{ErrorCode::dataset_empty, "there is no case to make a batch of", {}};
    if (form == BatchForm::crops && made_on_host(sampling))
        return Error{ErrorCode::invalid_argument,
                     "samples with artefacts, warps or placed tumours are made as arrays, not as crops",
                     {}};
    try {
        return assemble(cache, sampling, seed, step, part, form);
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit,
                     text("there is no memory for a batch of ", sampling.batch, " crops of ", sampling.crop[0], "x",
                          sampling.crop[1], "x", sampling.crop[2], " voxels"),
                     {}};
    }
}

namespace {

class ThreadedLoader final : public Loader {
  public:
    ThreadedLoader(std::shared_ptr<const Cache> cache, const Sampling& sampling, std::uint64_t seed,
                   std::int64_t first_step, int ahead, const BatchPart& part, BatchForm form)
        : cache_(std::move(cache)), sampling_(sampling), part_(part), form_(form), seed_(seed), next_out_(first_step),
          next_made_(first_step), ahead_(ahead) {}

    ThreadedLoader(const ThreadedLoader&) = delete;
    ThreadedLoader& operator=(const ThreadedLoader&) = delete;

    ~ThreadedLoader() override {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        room_.notify_all();
        for (auto& worker : workers_)
            worker.join();
    }

    Status start_workers(int threads) {
        try {
            for (int i = 0; i < threads; ++i)
                workers_.emplace_back([this] { work(); });
        } catch (const std::system_error& problem) {
            return Error{
                ErrorCode::memory_limit,
                text("thread ", workers_.size() + 1, " of ", threads, " could not be started: ", problem.what()),
                {}};
        }
        return {};
    }

    Result<Batch> next() override {
        const auto begin = Clock::now();
        Result<Batch> batch =
            workers_.empty() ? make_batch(*cache_, sampling_, seed_, next_out_++, part_, form_) : take_finished();
        waited_ += std::chrono::duration<double>(Clock::now() - begin).count();
        return batch;
    }

    double waited_seconds() const override { return waited_; }

  private:
    using Clock = std::chrono::steady_clock;

    Result<Batch> take_finished() {
        std::unique_lock lock(mutex_);
        finished_.wait(lock, [&] { return done_.count(next_out_) > 0; });
        auto node = done_.extract(next_out_);
        ++next_out_;
        lock.unlock();
        room_.notify_all();
        return std::move(node.mapped());
    }

    void work() {
        std::unique_lock lock(mutex_);
        while (true) {
            room_.wait(lock, [&] { return stopping_ || next_made_ < next_out_ + ahead_; });
            if (stopping_)
                return;
            const std::int64_t step = next_made_++;
            lock.unlock();
            Result<Batch> batch = make_batch(*cache_, sampling_, seed_, step, part_, form_);
            lock.lock();
            done_.emplace(step, std::move(batch));
            finished_.notify_all();
        }
    }

    const std::shared_ptr<const Cache> cache_;
    const Sampling sampling_;
    const BatchPart part_;
    const BatchForm form_;
    const std::uint64_t seed_;
    std::int64_t next_out_;  ///< the step that next() returns
    std::int64_t next_made_; ///< the first step that no worker has started
    const std::int64_t ahead_;
    bool stopping_ = false;
    double waited_ = 0.0;
    std::map<std::int64_t, Result<Batch>> done_;
    std::mutex mutex_;
    std::condition_variable room_;     ///< a worker may take up a step, or has to stop
    std::condition_variable finished_; ///< a batch was made
    std::vector<std::thread> workers_;
};

} // namespace

Result<std::unique_ptr<Loader>> Loader::start(std::shared_ptr<const Cache> cache, const Sampling& sampling,
                                              std::uint64_t seed, std::int64_t first_step, int threads, int ahead,
                                              const BatchPart& part, BatchForm form) {
    MFRES_CHECK(check_sampling(sampling));
    MFRES_CHECK(check_part(sampling, part));
    if (!cache)
        return Error{ErrorCode::invalid_argument, "a loader needs a cache, and got none", {}};
    if (first_step < 0)
        return Error{ErrorCode::invalid_argument, text("the first step is ", first_step), {}};
    MFRES_CHECK(check_range("threads", threads, 0, most_threads));
    MFRES_CHECK(check_range("ahead", ahead, 1, most_threads));
    auto loader = std::make_unique<ThreadedLoader>(std::move(cache), sampling, seed, first_step, ahead, part, form);
    MFRES_CHECK(loader->start_workers(threads));
    return std::unique_ptr<Loader>(std::move(loader));
}

} // namespace mfres
