// SPDX-License-Identifier: MIT
// Ranks as MPI processes. Collectives are non-blocking and polled, so that a waiting rank receives failure messages of
// other ranks, and yields the CPU.
#include "backends/distributed/collective.h"
#include "backends/distributed/communicator.h"

#include "core/module.h"
#include "core/try.h"

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <list>
#include <thread>
#include <utility>

namespace mfres {

namespace {

constexpr int failure_tag = 1;

Error engine_error(std::string_view call, int code) {
    std::array<char, MPI_MAX_ERROR_STRING> words{};
    int length = 0;
    if (MPI_Error_string(code, words.data(), &length) != MPI_SUCCESS)
        length = 0;
    return {
        ErrorCode::backend_failed,
        text(call, " failed with code ", code, ": ", std::string_view(words.data(), static_cast<std::size_t>(length))),
        "MPI"};
}

Status checked(std::string_view call, int code) {
    return code == MPI_SUCCESS ? Status() : Status(engine_error(call, code));
}

/// The pause between two polls: first yields, then sleeps of increasing length, because another rank may be validating
/// for minutes.
class Pause {
  public:
    void wait() {
        constexpr int eager_looks = 100;
        constexpr std::chrono::microseconds longest{1000};
        if (++looks_ < eager_looks)
            return std::this_thread::yield();
        std::this_thread::sleep_for(sleep_);
        sleep_ = std::min(sleep_ + sleep_ / 16 + std::chrono::microseconds(1), longest);
    }

  private:
    int looks_ = 0;
    std::chrono::microseconds sleep_{20};
};

class MpiRank final : public Communicator {
  public:
    explicit MpiRank(bool owns_mpi) : owns_mpi_(owns_mpi) {}
    MpiRank(const MpiRank&) = delete;
    MpiRank& operator=(const MpiRank&) = delete;

    ~MpiRank() override {
        // After a failure, pending collectives may never complete. Their memory is freed after MPI_Finalize.
        if (!failure_ && values_ != MPI_COMM_NULL)
            MPI_Comm_free(&values_);
        if (!failure_ && failures_ != MPI_COMM_NULL)
            MPI_Comm_free(&failures_);
        if (owns_mpi_)
            MPI_Finalize();
    }

    Status open(const Launch& launch) {
        local_rank_ = launch.local_rank;
        MFRES_CHECK(checked("MPI_Comm_rank", MPI_Comm_rank(MPI_COMM_WORLD, &rank_)));
        MFRES_CHECK(checked("MPI_Comm_size", MPI_Comm_size(MPI_COMM_WORLD, &size_)));
        if (size_ != launch.size)
            return Error{ErrorCode::backend_failed,
                         text(launch.variable, " says that this is one of ", launch.size, " processes, but MPI joined ",
                              size_, "; they have to be started by the launcher of ", mpi_description()),
                         launch.variable};
        for (MPI_Comm* copy : {&values_, &failures_}) {
            MFRES_CHECK(checked("MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, copy)));
            MFRES_CHECK(checked("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(*copy, MPI_ERRORS_RETURN)));
        }
        return {};
    }

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    int local_rank() const override { return local_rank_; }

    Status all_reduce_sum(std::span<double> values) override { return sum_now(values, MPI_DOUBLE); }
    Status all_reduce_sum(std::span<float> values) override { return sum_now(values, MPI_FLOAT); }

    Status start_sum(std::span<float> values) override {
        MFRES_TRY(const auto begun, begin_sum(values, MPI_FLOAT));
        begun_.push_back(begun);
        return {};
    }

    Status finish_sums() override {
        while (!begun_.empty()) {
            MFRES_CHECK(finish(begun_.front()));
            begun_.erase(begun_.begin());
        }
        return check();
    }

    Status broadcast(std::span<std::byte> bytes, int root) override {
        MFRES_TRY(const int count, count_of(bytes.size()));
        const auto operation = add(bytes);
        MFRES_CHECK(checked("MPI_Ibcast",
                            MPI_Ibcast(operation->memory.data(), count, MPI_BYTE, root, values_, &operation->request)));
        return finish(operation);
    }

    Status barrier() override {
        const auto operation = add({});
        MFRES_CHECK(checked("MPI_Ibarrier", MPI_Ibarrier(values_, &operation->request)));
        return finish(operation);
    }

    void fail(const Error& error) override {
        if (failure_)
            return;
        failure_ = error;
        message_ = encode_error(error);
        std::vector<MPI_Request> sends;
        for (int other = 0; other < size_; ++other)
            if (other != rank_ && MPI_Isend(message_.data(), static_cast<int>(message_.size()), MPI_CHAR, other,
                                            failure_tag, failures_, &sends.emplace_back()) != MPI_SUCCESS)
                sends.pop_back();
        // A terminated rank never receives the message, hence the time limit.
        const auto latest = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        Pause pause;
        int sent = 0;
        while (MPI_Testall(static_cast<int>(sends.size()), sends.data(), &sent, MPI_STATUSES_IGNORE) == MPI_SUCCESS &&
               sent == 0 && std::chrono::steady_clock::now() < latest)
            pause.wait();
    }

    Status check() override {
        if (failure_)
            return *failure_;
        int arrived = 0;
        MPI_Status status;
        MFRES_CHECK(checked("MPI_Iprobe", MPI_Iprobe(MPI_ANY_SOURCE, failure_tag, failures_, &arrived, &status)));
        if (arrived == 0)
            return {};
        int length = 0;
        MFRES_CHECK(checked("MPI_Get_count", MPI_Get_count(&status, MPI_CHAR, &length)));
        std::vector<char> bytes(static_cast<std::size_t>(length));
        MFRES_CHECK(checked("MPI_Recv", MPI_Recv(bytes.data(), length, MPI_CHAR, status.MPI_SOURCE, failure_tag,
                                                 failures_, MPI_STATUS_IGNORE)));
        failure_ = error_on_rank(status.MPI_SOURCE, decode_error(std::move(bytes)));
        return *failure_;
    }

  private:
    /// A pending collective. MPI operates on a copy of the values, because after a failure it may write to it until
    /// MPI_Finalize.
    struct Operation {
        std::vector<std::byte> memory;
        std::byte* target = nullptr;
        MPI_Request request = MPI_REQUEST_NULL;
    };
    using Begun = std::list<Operation>::iterator;

    static Result<int> count_of(std::size_t values) {
        if (values > static_cast<std::size_t>(std::numeric_limits<int>::max()))
            return Error{ErrorCode::size_overflow, text("MPI cannot send ", values, " values at once"), "MPI"};
        return static_cast<int>(values);
    }

    Begun add(std::span<std::byte> bytes) {
        const Begun operation = operations_.emplace(operations_.end());
        operation->memory.assign(bytes.begin(), bytes.end());
        operation->target = bytes.data();
        return operation;
    }

    template <typename T>
    Result<Begun> begin_sum(std::span<T> values, MPI_Datatype type) {
        MFRES_TRY(const int count, count_of(values.size()));
        const Begun operation = add(std::as_writable_bytes(values));
        MFRES_CHECK(checked("MPI_Iallreduce", MPI_Iallreduce(MPI_IN_PLACE, operation->memory.data(), count, type,
                                                             MPI_SUM, values_, &operation->request)));
        return operation;
    }

    template <typename T>
    Status sum_now(std::span<T> values, MPI_Datatype type) {
        MFRES_TRY(const auto begun, begin_sum(values, type));
        return finish(begun);
    }

    Status finish(Begun operation) {
        Pause pause;
        while (true) {
            int done = 0;
            MFRES_CHECK(checked("MPI_Test", MPI_Test(&operation->request, &done, MPI_STATUS_IGNORE)));
            if (done != 0)
                break;
            MFRES_CHECK(check());
            pause.wait();
        }
        if (!operation->memory.empty())
            std::memcpy(operation->target, operation->memory.data(), operation->memory.size());
        operations_.erase(operation);
        return {};
    }

    bool owns_mpi_; ///< this object calls MPI_Finalize
    int rank_ = 0;
    int local_rank_ = 0;
    int size_ = 1;
    MPI_Comm values_ = MPI_COMM_NULL;
    MPI_Comm failures_ = MPI_COMM_NULL;
    std::list<Operation> operations_;
    std::vector<Begun> begun_; ///< started by start_sum
    std::optional<Error> failure_;
    std::vector<char> message_; ///< of fail()
};

} // namespace

std::string mpi_description() {
    std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> words{};
    int length = 0;
    if (MPI_Get_library_version(words.data(), &length) != MPI_SUCCESS)
        return "MPI";
    const std::string_view whole(words.data(), static_cast<std::size_t>(length));
    return std::string(whole.substr(0, whole.find_first_of(",\n")));
}

Result<std::shared_ptr<Communicator>> mpi::join(const Launch& launch) {
    int finished = 0;
    MPI_Finalized(&finished);
    if (finished != 0)
        return Error{ErrorCode::backend_failed, "MPI was shut down before; a process can join the others only once",
                     "MPI"};
    int running = 0;
    MPI_Initialized(&running);
    if (running == 0) {
        int provided = MPI_THREAD_SINGLE;
        MFRES_CHECK(checked("MPI_Init_thread", MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided)));
    }
    auto rank = std::make_shared<MpiRank>(running == 0);
    MFRES_CHECK(rank->open(launch));
    return std::shared_ptr<Communicator>(std::move(rank));
}

namespace {

constexpr mpi::Functions functions = {&mpi_description, &mpi::join};

} // namespace

} // namespace mfres

MFRES_MODULE(mfres::functions)
