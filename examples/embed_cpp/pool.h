// SPDX-License-Identifier: MIT
// A thread pool, as a program may have one: what it lends to mfres.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

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
