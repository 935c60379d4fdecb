#include "data/loader.h"

#include "core/random.h"
#include "core/try.h"
#include "data/augmentation.h"

#include <mfres/volume.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <map>
#include <mutex>
#include <new>
#include <numbers>
#include <numeric>
#include <system_error>
#include <thread>
#include <utility>

namespace mfres {

namespace {

constexpr std::int64_t largest_batch = 4096;
constexpr std::int64_t largest_crop = 1024;
constexpr int most_threads = 1024;

// What is random gets a stream of its own, so that switching one option on leaves the others' numbers as they were.
enum Stream : std::uint64_t {
    placement_stream,
    mirror_stream,
    turn_stream,
    intensity_stream, ///< and the next three, one a modality
    dropout_stream = intensity_stream + 4,
};
/// Orders of the passes come from Random(seed).fork(first_pass_stream + pass), apart from every step's stream.
constexpr std::uint64_t first_pass_stream = std::uint64_t{1} << 63U;

Status check_range(const char* option, double value, double low, double high) {
    if (value >= low && value <= high)
        return {};
    return Error{ErrorCode::invalid_argument, text(option, " must lie between ", low, " and ", high, ", not ", value),
                 option};
}

Status check_sampling(const Sampling& sampling) {
    const auto check_count = [](const char* option, std::int64_t value, std::int64_t most) {
        return check_range(option, static_cast<double>(value), 1.0, static_cast<double>(most));
    };
    MFRES_CHECK(check_count("batch", sampling.batch, largest_batch));
    for (const auto extent : sampling.crop)
        MFRES_CHECK(check_count("crop", extent, largest_crop));
    MFRES_CHECK(check_range("tumour_probability", sampling.tumour_probability, 0.0, 1.0));
    MFRES_CHECK(check_range("rotation_degrees", sampling.rotation_degrees, 0.0, 180.0));
    MFRES_CHECK(check_range("rotation_probability", sampling.rotation_probability, 0.0, 1.0));
    MFRES_CHECK(check_range("intensity_scale", sampling.intensity_scale, 0.0, 0.99));
    MFRES_CHECK(check_range("intensity_shift", sampling.intensity_shift, 0.0, 100.0));
    MFRES_CHECK(check_range("gamma", sampling.gamma, 0.0, 0.99));
    MFRES_CHECK(check_range("noise", sampling.noise, 0.0, 100.0));
    MFRES_CHECK(check_range("modality_dropout", sampling.modality_dropout, 0.0, 1.0));
    return check_range("zoom", sampling.zoom, 0.0, 0.9);
}

Status check_part(const Sampling& sampling, const BatchPart& part) {
    if (part.count >= 1 && part.index >= 0 && part.index < part.count && sampling.batch % part.count == 0)
        return {};
    return Error{ErrorCode::invalid_argument,
                 text("a batch of ", sampling.batch, " has no part ", part.index, " of ", part.count, " equal parts"),
                 "batch"};
}

/// The cases of a pass in a random order (Fisher and Yates's shuffle).
std::vector<std::size_t> order_of_pass(std::size_t cases, std::uint64_t seed, std::uint64_t pass) {
    std::vector<std::size_t> order(cases);
    std::iota(order.begin(), order.end(), std::size_t{0});
    Random random = Random(seed).fork(first_pass_stream + pass);
    for (std::size_t left = cases; left > 1; --left)
        std::swap(order[left - 1], order[random.below(left)]);
    return order;
}

/// Of samples [begin, end) of the step's batch.
std::vector<std::size_t> cases_of_step(std::size_t cases, std::int64_t batch, std::int64_t begin, std::int64_t end,
                                       std::uint64_t seed, std::int64_t step) {
    std::vector<std::size_t> chosen;
    std::vector<std::size_t> order;
    std::uint64_t pass_of_order = 0;
    for (std::int64_t i = begin; i < end; ++i) {
        const auto sample = static_cast<std::uint64_t>(step * batch + i);
        const std::uint64_t pass = sample / cases;
        if (order.empty() || pass != pass_of_order) {
            order = order_of_pass(cases, seed, pass);
            pass_of_order = pass;
        }
        chosen.push_back(order[sample % cases]);
    }
    return chosen;
}

/// The place of the n-th voxel whose class is not background. Precondition: there are more than n.
std::array<std::int64_t, 3> tumour_voxel(const CachedCase& source, std::uint64_t n) {
    std::int64_t index = 0;
    for (std::uint64_t seen = 0;; ++index)
        if (source.classes[static_cast<std::size_t>(index)] != 0 && seen++ == n)
            break;
    return {index / (source.size[1] * source.size[2]), index / source.size[2] % source.size[1], index % source.size[2]};
}

/// Where the crop begins: so that it lies within the box, or the box within the crop, along each axis.
std::array<std::int64_t, 3> place_crop(const CachedCase& source, const CacheEntry& entry, const Sampling& sampling,
                                       Random random) {
    const auto tumour =
        static_cast<std::uint64_t>(entry.class_voxels[1] + entry.class_voxels[2] + entry.class_voxels[3]);
    std::array<double, 3> anywhere{};
    for (auto& number : anywhere)
        number = random.uniform();
    const bool centred = random.uniform() < sampling.tumour_probability && tumour > 0;
    const std::uint64_t drawn = random.next();
    std::array<std::int64_t, 3> centre{};
    if (centred)
        centre = tumour_voxel(source, drawn % tumour);
    std::array<std::int64_t, 3> begin{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t room = source.size[axis] - sampling.crop[axis];
        const std::int64_t low = std::min<std::int64_t>(room, 0);
        const std::int64_t high = std::max<std::int64_t>(room, 0);
        begin[axis] = centred ? std::clamp(centre[axis] - sampling.crop[axis] / 2, low, high)
                              : low + static_cast<std::int64_t>(anywhere[axis] * static_cast<double>(high - low + 1));
    }
    return begin;
}

Pose draw_pose(const CachedCase& source, const CacheEntry& entry, const Sampling& sampling, const Random& random) {
    Pose pose;
    pose.begin = place_crop(source, entry, sampling, random.fork(placement_stream));
    Random mirror = random.fork(mirror_stream);
    for (auto& flip : pose.flip)
        flip = sampling.flips && mirror.uniform() < 0.5;
    Random turn = random.fork(turn_stream);
    const bool turned = turn.uniform() < sampling.rotation_probability;
    pose.axis = static_cast<int>(turn.below(3));
    const double angle = turn.uniform(-sampling.rotation_degrees, sampling.rotation_degrees);
    const double zoom = turn.uniform(1.0 - sampling.zoom, 1.0 + sampling.zoom);
    if (turned) {
        pose.radians = angle * std::numbers::pi / 180.0;
        pose.zoom = zoom;
    }
    return pose;
}

bool changes_intensities(const Sampling& sampling) {
    return sampling.intensity_scale > 0.0 || sampling.intensity_shift > 0.0 || sampling.gamma > 0.0 ||
           sampling.noise > 0.0 || sampling.modality_dropout > 0.0;
}

constexpr std::size_t place_of(Modality modality) {
    return static_cast<std::size_t>(modality);
}

/// See Sampling::modality_dropout. One number a modality and one for the coin, whatever is dropped.
std::array<bool, 4> draw_dropped(const Sampling& sampling, Random random) {
    std::array<bool, 4> dropped{};
    for (bool& contrast : dropped)
        contrast = random.uniform() < sampling.modality_dropout;
    const std::size_t kept = random.uniform() < 0.5 ? place_of(Modality::t1ce) : place_of(Modality::flair);
    if (dropped[place_of(Modality::t1ce)] && dropped[place_of(Modality::flair)])
        dropped[kept] = false;
    return dropped;
}

std::array<IntensityChange, 4> draw_intensities(const Sampling& sampling, const Random& random) {
    const std::array<bool, 4> dropped = draw_dropped(sampling, random.fork(dropout_stream));
    std::array<IntensityChange, 4> changes;
    for (std::size_t m = 0; m < changes.size(); ++m) {
        if (dropped[m]) {
            changes[m] = IntensityChange::to_nothing();
            continue;
        }
        Random draws = random.fork(intensity_stream + m);
        changes[m].scale = draws.uniform(1.0 - sampling.intensity_scale, 1.0 + sampling.intensity_scale);
        changes[m].shift = draws.uniform(-sampling.intensity_shift, sampling.intensity_shift);
        changes[m].gamma = draws.uniform(1.0 - sampling.gamma, 1.0 + sampling.gamma);
        changes[m].noise = sampling.noise;
        changes[m].noise_seed = draws.next();
    }
    return changes;
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
    std::vector<std::uint8_t> brain;
    if (changes_intensities(sampling))
        brain.resize(static_cast<std::size_t>(voxels));
    for (std::int64_t i = 0; i < samples; ++i) {
        const std::size_t chosen = batch.cases[static_cast<std::size_t>(i)];
        MFRES_TRY(auto source, cache.load(chosen));
        const Random sample_random = random.fork(static_cast<std::uint64_t>(begin + i));
        const Pose pose = draw_pose(*source, cache.entries()[chosen], sampling, sample_random);
        std::array<IntensityChange, 4> changes;
        if (changes_intensities(sampling))
            changes = draw_intensities(sampling, sample_random);
        if (form == BatchForm::crops) {
            const CropSource view = source_of(*source);
            batch.crops.push_back({std::move(source), view, walk_of(pose, sampling.crop), changes});
            continue;
        }
        const Crop crop{sampling.crop, batch.images.data() + i * static_cast<std::int64_t>(modalities.size()) * voxels,
                        batch.classes.data() + i * voxels, brain.empty() ? nullptr : brain.data()};
        take_crop(*source, pose, crop);
        for (std::size_t m = 0; !brain.empty() && m < changes.size(); ++m)
            change_intensity(std::span(crop.images + static_cast<std::int64_t>(m) * voxels, brain.size()), brain,
                             changes[m]);
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
    std::int64_t next_made_; ///< the first step that no worker has taken up
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
