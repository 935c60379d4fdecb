// SPDX-License-Identifier: MIT
// A network that runs in the thread pool of the program: mfres starts no threads of its own for a case.
//   own_thread_pool MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw
#include "../volumes.h"

#include <condition_variable>
#include <cstdio>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace {

/// The program's pool: workers that wait for a loop, and share its parts with the thread that calls it.
class Pool {
  public:
    explicit Pool(int workers) {
        for (int i = 0; i < workers; ++i)
            workers_.emplace_back([this] { work(); });
    }
    ~Pool() {
        {
            const std::lock_guard lock(mutex_);
            ended_ = true;
        }
        begin_.notify_all();
        for (std::thread& worker : workers_)
            worker.join();
    }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return static_cast<int>(workers_.size()) + 1; }
    long loops() const { return loops_; }

    void run(int parts, const std::function<void(int)>& part) {
        std::unique_lock lock(mutex_);
        ++loops_;
        part_ = &part;
        parts_ = parts;
        next_ = 0;
        done_ = 0;
        begin_.notify_all();
        take_parts(lock);
        end_.wait(lock, [this] { return done_ == parts_; });
        part_ = nullptr;
    }

  private:
    void take_parts(std::unique_lock<std::mutex>& lock) {
        while (part_ && next_ < parts_) {
            const auto* const part = part_;
            const int index = next_++;
            lock.unlock();
            (*part)(index);
            lock.lock();
            if (++done_ == parts_)
                end_.notify_one();
        }
    }
    void work() {
        std::unique_lock lock(mutex_);
        while (!ended_) {
            take_parts(lock);
            begin_.wait(lock, [this] { return ended_ || (part_ && next_ < parts_); });
        }
    }

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable begin_, end_;
    const std::function<void(int)>* part_ = nullptr;
    int parts_ = 0;
    int next_ = 0;
    int done_ = 0;
    long loops_ = 0;
    bool ended_ = false;
};

} // namespace

int main(int count, char** arguments) {
    if (count != 7) {
        std::fprintf(stderr, "usage: own_thread_pool MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw\n");
        return 2;
    }
    const auto volumes = read_volumes(arguments + 2);
    if (!volumes)
        return 6;
    Pool pool(1);
    mfres::PredictorOptions options;
    options.compute.threads = pool.threads();
    options.compute.parallel_for = [&](int parts, const std::function<void(int)>& part) { pool.run(parts, part); };
    auto predictor = mfres::Predictor::open(arguments[1], options);
    if (!predictor)
        return failed(predictor.error());
    const auto prediction = predictor->predict(volumes->views);
    if (!prediction)
        return failed(prediction.error());
    std::printf("%ld loops in the program's %d threads\n", pool.loops(), pool.threads());
    if (pool.loops() == 0)
        return 1;
    return write_bytes(arguments[6], prediction->labels.labels.data(), prediction->labels.labels.size()) == 0 ? 0 : 6;
}
