// SPDX-License-Identifier: MIT
#include "backends/distributed/communicator.h"

#include "backends/distributed/collective.h"
#include "backends/distributed/sockets.h"
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

class SingleRank final : public Communicator {
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

/// A barrier at which the last thread to arrive computes the collective for all.
class SharedCollective {
  public:
    explicit SharedCollective(int size) : contributions_(static_cast<std::size_t>(size)) {}

    int size() const { return static_cast<int>(contributions_.size()); }

    Status collective(int rank, const Contribution& contribution) {
        std::unique_lock lock(mutex_);
        if (stopped())
            return reason();
        contributions_[static_cast<std::size_t>(rank)] = contribution;
        const std::uint64_t round = round_;
        if (++arrived_ < size()) {
            changed_.wait(lock, [&] { return round_ != round || stopped(); });
            return round_ != round ? Status() : Status(reason());
        }
        if (const Status agreed = check_agreement(contributions_); !agreed) {
            failure_ = agreed.error();
            changed_.notify_all();
            return *failure_;
        }
        combine(contributions_);
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

    /// Records that a rank was destroyed. Collectives fail from now on; check() does not.
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

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Contribution> contributions_; ///< by rank, of the current collective
    int arrived_ = 0;
    std::uint64_t round_ = 0;
    std::optional<Error> failure_;
    std::optional<int> gone_;
};

class ThreadRank final : public Communicator {
  public:
    ThreadRank(std::shared_ptr<SharedCollective> shared, int rank) : shared_(std::move(shared)), rank_(rank) {}
    ThreadRank(const ThreadRank&) = delete;
    ThreadRank& operator=(const ThreadRank&) = delete;
    ~ThreadRank() override { shared_->leave(rank_); }

    int rank() const override { return rank_; }
    int size() const override { return shared_->size(); }

    Status all_reduce_sum(std::span<double> values) override {
        return collective({Collective::sum_doubles, std::as_writable_bytes(values), 0});
    }
    Status all_reduce_sum(std::span<float> values) override {
        return collective({Collective::sum_floats, std::as_writable_bytes(values), 0});
    }
    // Computed at once, so that a sum started before its values are complete is wrong independently of timing.
    Status start_sum(std::span<float> values) override {
        return collective({Collective::start_sum, std::as_writable_bytes(values), 0});
    }
    Status finish_sums() override { return shared_->check(); }
    Status broadcast(std::span<std::byte> bytes, int root) override {
        return collective({Collective::broadcast, bytes, root});
    }
    Status barrier() override { return collective({Collective::barrier, {}, 0}); }

    void fail(const Error& error) override { shared_->fail(error_on_rank(rank_, error)); }
    Status check() override { return shared_->check(); }

  private:
    Status collective(const Contribution& contribution) { return shared_->collective(rank_, contribution); }

    std::shared_ptr<SharedCollective> shared_;
    int rank_;
};

// ---- launchers ------------------------------------------------------------------------------------------------------

/// The environment variables of one launcher. `local_rank` may be unset; `rank`, `size` and, if not null, `address`
/// must be set.
struct LauncherVariables {
    const char* rank;
    const char* size;
    const char* local_rank;
    const char* address = nullptr;
};

constexpr const char* address_name = "MASTER_ADDR";
constexpr const char* port_name = "MASTER_PORT";

// SLURM_STEP_NUM_TASKS is set in processes started by srun only; SLURM_NTASKS is also set in the batch script, which is
// not a rank. Processes that torchrun starts below srun have the ranks and the rendezvous of torchrun.
constexpr LauncherVariables launchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", address_name},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"},
    {"RANK", "WORLD_SIZE", "LOCAL_RANK"}};

std::optional<int> whole_number(std::string_view words) {
    int value = 0;
    const auto [rest, problem] = std::from_chars(words.data(), words.data() + words.size(), value);
    if (problem != std::errc() || rest != words.data() + words.size())
        return std::nullopt;
    return value;
}

/// The rendezvous of MASTER_ADDR and MASTER_PORT.
Result<std::optional<Rendezvous>> find_rendezvous(const Environment& environment) {
    const char* address = environment(address_name);
    const char* port_words = environment(port_name);
    if (!address || !port_words)
        return std::optional<Rendezvous>();
    // With an agent store torchrun itself listens at MASTER_PORT, so the next port is used.
    const char* agent = environment("TORCHELASTIC_USE_AGENT_STORE");
    const int taken = agent && std::string_view(agent) == "True" ? 1 : 0;
    const auto port = whole_number(port_words);
    if (!port || *port < 1 || *port + taken > 65535)
        return Error{ErrorCode::invalid_argument,
                     text("the environment says ", port_name, "=", port_words, ", which is not a port"), port_name};
    return std::optional(Rendezvous{address, *port + taken});
}

} // namespace

std::vector<char> encode_error(const Error& error) {
    const auto code = static_cast<std::uint16_t>(error.code);
    std::vector<char> bytes(sizeof code);
    std::memcpy(bytes.data(), &code, sizeof code);
    constexpr std::size_t longest = 1500;
    for (const std::string& words : {error.message, error.where}) {
        const std::string_view part = std::string_view(words).substr(0, longest);
        bytes.insert(bytes.end(), part.begin(), part.end());
        bytes.push_back('\0');
    }
    return bytes;
}

Error decode_error(std::vector<char> bytes) {
    std::uint16_t code = 0;
    bytes.resize(std::max(bytes.size(), sizeof code), '\0');
    std::memcpy(&code, bytes.data(), sizeof code);
    bytes.insert(bytes.end(), 2, '\0'); // terminates both strings even if the message was truncated
    const std::string message(bytes.data() + sizeof code);
    const std::string where(bytes.data() + sizeof code + message.size() + 1);
    return {static_cast<ErrorCode>(code), message, where};
}

Communicator& single_rank() {
    static SingleRank rank;
    return rank;
}

std::vector<std::unique_ptr<Communicator>> thread_ranks(int size) {
    const auto shared = std::make_shared<SharedCollective>(size);
    std::vector<std::unique_ptr<Communicator>> ranks;
    for (int rank = 0; rank < size; ++rank)
        ranks.push_back(std::make_unique<ThreadRank>(shared, rank));
    return ranks;
}

Result<std::optional<Launch>> find_launch(const Environment& environment) {
    for (const LauncherVariables& names : launchers) {
        const char* rank_words = environment(names.rank);
        const char* size_words = environment(names.size);
        if (!rank_words || !size_words || (names.address && !environment(names.address)))
            continue;
        const auto rank = whole_number(rank_words);
        const auto size = whole_number(size_words);
        if (!rank || !size || *rank < 0 || *rank >= *size)
            return Error{ErrorCode::invalid_argument,
                         text("the environment says ", names.rank, "=", rank_words, " and ", names.size, "=",
                              size_words, ", which is not a rank below the number of ranks"),
                         names.rank};
        Launch launch{*rank, *size, names.rank};
        launch.local_rank = *rank;
        if (const char* words = environment(names.local_rank)) {
            const auto local = whole_number(words);
            if (!local || *local < 0)
                return Error{ErrorCode::invalid_argument,
                             text("the environment says ", names.local_rank, "=", words, ", which is not a rank"),
                             names.local_rank};
            launch.local_rank = *local;
        }
        MFRES_TRY(launch.rendezvous, find_rendezvous(environment));
        return std::optional(std::move(launch));
    }
    return std::optional<Launch>();
}

Result<std::shared_ptr<Communicator>> open_ranks() {
    MFRES_TRY(const auto launch, find_launch([](const char* name) { return std::getenv(name); }));
    if (!launch || launch->size == 1)
        return std::shared_ptr<Communicator>(std::make_shared<SingleRank>());
    const bool through_sockets = launch->variable == "RANK" || mpi_description().empty();
    if (through_sockets && launch->rendezvous) {
        SocketOptions options;
        MFRES_TRY(options.secret, rendezvous_secret([](const char* name) { return std::getenv(name); }));
        return join_sockets(*launch, *launch->rendezvous, options);
    }
    return mpi::join(*launch);
}

} // namespace mfres
