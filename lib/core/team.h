// A set of threads that stays: parts of a computation are handed out to whoever is free, and waiting is cheap for
// others. Made for a pass of a network, which meets hundreds of times: there each meeting that waits for a thread the
// system has put aside can cost a slice of 4 to 8 ms. So nobody spins for long (a spinning thread looks busy and takes
// the processor that a waiting part needs), and parts belong to no thread: one that is late finds its part done.
#pragma once

#include <mfres/status.h>
#include <mfres/threads.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace mfres {

class Team {
  public:
    /// Errors: invalid_argument (threads outside 0..4096, another way of waiting, a processor that this process may not
    /// use).
    static Result<std::shared_ptr<Team>> create(const ThreadOptions& options);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    /// That work together, with the calling one.
    int threads() const { return threads_; }

    /// Calls body(part) for 0 <= part < parts and returns when all have returned; a throwing part does not stop the
    /// others, and the first exception is thrown on. One thread at a time may call it.
    void run(int parts, const std::function<void(int)>& body);

    /// How often run() was called with several parts: each is a time at which threads wait for each other.
    std::int64_t meetings() const { return meetings_; }

    /// The team whose TeamScope is the innermost of the calling thread; null outside, and inside of a part.
    static Team* current();

  private:
    friend class TeamScope;
    explicit Team(const ThreadOptions& options, std::chrono::nanoseconds patience);
    void work();
    void share(int parts);
    bool take_part();
    void run_part(int part);

    int threads_;
    std::chrono::nanoseconds patience_; ///< of a thread that spins before it sleeps
    std::vector<int> processors_;
    ParallelFor host_;
    std::int64_t meetings_ = 0;

    /// The job's number, the part to take next and the number of parts, in one word: whoever takes a part knows that
    /// the job is still open, so that `body_` is its own.
    std::atomic<std::uint64_t> job_{0};
    const std::function<void(int)>* body_ = nullptr;
    std::atomic<std::int32_t> open_parts_{0};
    std::atomic<std::uint32_t> calls_{0}; ///< what sleeping workers wait for
    std::atomic<int> sleepers_{0};
    std::atomic<bool> caller_sleeps_{false};
    std::atomic<bool> leaving_{false};
    std::mutex failure_lock_;
    std::exception_ptr failure_;
    std::vector<std::thread> workers_;
};

/// While it lives, the calling thread's parallel loops are run by a team.
class TeamScope {
  public:
    /// Pins the calling thread, too, if the team has processors. A null team: parts on the calling thread alone.
    explicit TeamScope(Team* team);
    ~TeamScope();
    TeamScope(const TeamScope&) = delete;
    TeamScope& operator=(const TeamScope&) = delete;

  private:
    Team* before_;
    std::vector<int> processors_before_; ///< that the thread might run on before it was pinned; empty if it was not
};

} // namespace mfres
