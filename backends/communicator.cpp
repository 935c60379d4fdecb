#include "backends/communicator.h"

#include "core/try.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

namespace mfres {

Error error_on_rank(int rank, const Error& error) {
    return {error.code, text("on rank ", rank, ": ", error.message), error.where};
}

namespace {

class LoneRank final : public Communicator {
  public:
    int rank() const override { return 0; }
    int size() const override { return 1; }
    Status all_reduce_sum(std::span<double>) override { return {}; }
    Status all_reduce_sum(std::span<float>) override { return {}; }
    Status start_sum(std::span<float>) override { return {}; }
    Status finish_sums() override { return {}; }
    Status broadcast(std::span<std::byte>, int) override { return {}; }
    Status barrier() override { return {}; }
    void fail(const Error&) override {}
    Status check() override { return {}; }
};

// ---- threads --------------------------------------------------------------------------------------------------------

/// What a rank brings to a collective.
struct Contribution {
    std::string_view call;
    void* data = nullptr;
    std::size_t bytes = 0;
    int root = 0;
};

/// Adds in the order of the ranks, so that the bits do not depend on who came last.
template <typename T>
void add_up(std::span<const Contribution> all) {
    auto* total = static_cast<T*>(all[0].data);
    for (const Contribution& one : all.subspan(1))
        for (std::size_t i = 0; i < one.bytes / sizeof(T); ++i)
            total[i] += static_cast<const T*>(one.data)[i];
}

void copy_to_others(std::span<const Contribution> all, std::size_t root) {
    for (std::size_t rank = 0; rank < all.size(); ++rank)
        if (rank != root && all[rank].bytes > 0)
            std::memcpy(all[rank].data, all[root].data, all[root].bytes);
}

/// Where the threads meet: the last to come does the work for all.
class Meeting {
  public:
    explicit Meeting(int size) : contributions_(static_cast<std::size_t>(size)) {}

    int size() const { return static_cast<int>(contributions_.size()); }

    template <typename Work>
    Status collective(int rank, const Contribution& contribution, const Work& work) {
        std::unique_lock lock(mutex_);
        if (stopped())
            return reason();
        contributions_[static_cast<std::size_t>(rank)] = contribution;
        const std::uint64_t round = round_;
        if (++arrived_ < size()) {
            changed_.wait(lock, [&] { return round_ != round || stopped(); });
            return round_ != round ? Status() : Status(reason());
        }
        if (const Status agreed = check_agreement(); !agreed) {
            failure_ = agreed.error();
            changed_.notify_all();
            return *failure_;
        }
        work(std::span<const Contribution>(contributions_));
        arrived_ = 0;
        ++round_;
        changed_.notify_all();
        return {};
    }

    void fail(const Error& error) {
        const std::lock_guard lock(mutex_);
        if (!failure_)
            failure_ = error;
        changed_.notify_all();
    }

    /// The rank takes part no more. Whoever has no need of it any more is not disturbed.
    void leave(int rank) {
        const std::lock_guard lock(mutex_);
        gone_ = rank;
        changed_.notify_all();
    }

    Status check() {
        const std::lock_guard lock(mutex_);
        return failure_ ? Status(*failure_) : Status();
    }

  private:
    bool stopped() const { return failure_ || gone_; }
    Error reason() const {
        return failure_ ? *failure_ : Error{ErrorCode::backend_failed, text("rank ", *gone_, " is gone"), {}};
    }

    Status check_agreement() const {
        const Contribution& first = contributions_[0];
        for (std::size_t rank = 1; rank < contributions_.size(); ++rank)
            if (const Contribution& other = contributions_[rank];
                other.call != first.call || other.bytes != first.bytes || other.root != first.root)
                return Error{ErrorCode::internal,
                             text("rank 0 called ", first.call, " with ", first.bytes, " bytes and root ", first.root,
                                  ", rank ", rank, " ", other.call, " with ", other.bytes, " bytes and root ",
                                  other.root),
                             {}};
        return {};
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Contribution> contributions_; ///< by rank, of this round
    int arrived_ = 0;
    std::uint64_t round_ = 0;
    std::optional<Error> failure_;
    std::optional<int> gone_;
};

class ThreadRank final : public Communicator {
  public:
    ThreadRank(std::shared_ptr<Meeting> meeting, int rank) : meeting_(std::move(meeting)), rank_(rank) {}
    ThreadRank(const ThreadRank&) = delete;
    ThreadRank& operator=(const ThreadRank&) = delete;
    ~ThreadRank() override { meeting_->leave(rank_); }

    int rank() const override { return rank_; }
    int size() const override { return meeting_->size(); }

    Status all_reduce_sum(std::span<double> values) override {
        return sum<double>("all_reduce_sum of doubles", values);
    }
    Status all_reduce_sum(std::span<float> values) override { return sum<float>("all_reduce_sum of floats", values); }
    // At once: a sum that is begun before its values are complete then is a wrong sum, whatever the timing.
    Status start_sum(std::span<float> values) override { return sum<float>("start_sum", values); }
    Status finish_sums() override { return meeting_->check(); }

    Status broadcast(std::span<std::byte> bytes, int root) override {
        return meeting_->collective(rank_, {"broadcast", bytes.data(), bytes.size(), root},
                                    [&](auto all) { copy_to_others(all, static_cast<std::size_t>(root)); });
    }
    Status barrier() override {
        return meeting_->collective(rank_, {"barrier", nullptr, 0, 0}, [](auto) {});
    }

    void fail(const Error& error) override { meeting_->fail(error_on_rank(rank_, error)); }
    Status check() override { return meeting_->check(); }

  private:
    template <typename T>
    Status sum(std::string_view call, std::span<T> values) {
        return meeting_->collective(rank_, {call, values.data(), values.size_bytes(), 0}, [](auto all) {
            add_up<T>(all);
            copy_to_others(all, 0);
        });
    }

    std::shared_ptr<Meeting> meeting_;
    int rank_;
};

// ---- launchers ------------------------------------------------------------------------------------------------------

/// The variables of one launcher. The first of `sizes` that is set counts.
struct LauncherVariables {
    const char* rank;
    const char* size;
};

// SLURM_NTASKS is set in a batch script as well, which is no rank; SLURM_STEP_NUM_TASKS only in what srun started.
constexpr LauncherVariables launchers[] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"},
                                           {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
                                           {"RANK", "WORLD_SIZE"}};

std::optional<int> whole_number(std::string_view words) {
    int value = 0;
    const auto [rest, problem] = std::from_chars(words.data(), words.data() + words.size(), value);
    if (problem != std::errc() || rest != words.data() + words.size())
        return std::nullopt;
    return value;
}

} // namespace

Communicator& lone_rank() {
    static LoneRank rank;
    return rank;
}

std::vector<std::unique_ptr<Communicator>> thread_ranks(int size) {
    const auto meeting = std::make_shared<Meeting>(size);
    std::vector<std::unique_ptr<Communicator>> ranks;
    for (int rank = 0; rank < size; ++rank)
        ranks.push_back(std::make_unique<ThreadRank>(meeting, rank));
    return ranks;
}

Result<std::optional<Launch>> find_launch(const Environment& environment) {
    for (const auto& [rank_name, size_name] : launchers) {
        const char* rank_words = environment(rank_name);
        const char* size_words = environment(size_name);
        if (!rank_words || !size_words)
            continue;
        const auto rank = whole_number(rank_words);
        const auto size = whole_number(size_words);
        if (!rank || !size || *rank < 0 || *rank >= *size)
            return Error{ErrorCode::invalid_argument,
                         text("the environment says ", rank_name, "=", rank_words, " and ", size_name, "=", size_words,
                              ", which is no rank below a number of ranks"),
                         rank_name};
        return std::optional(Launch{*rank, *size, rank_name});
    }
    return std::optional<Launch>();
}

Result<std::shared_ptr<Communicator>> open_ranks() {
    MFRES_TRY(const auto launch, find_launch([](const char* name) { return std::getenv(name); }));
    if (!launch || launch->size == 1)
        return std::shared_ptr<Communicator>(std::make_shared<LoneRank>());
    return mpi::join(*launch);
}

#ifndef MFRES_WITH_MPI

std::string mpi_description() {
    return {};
}

Result<std::shared_ptr<Communicator>> mpi::join(const Launch& launch) {
    return Error{ErrorCode::backend_unavailable,
                 text(launch.variable, " says that this is one of ", launch.size,
                      " processes that train together, for which mfres has to be built with MPI; this build is not"),
                 launch.variable};
}

#endif

} // namespace mfres
