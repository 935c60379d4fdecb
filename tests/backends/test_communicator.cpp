// SPDX-License-Identifier: MIT
// The ranks of one process, what launchers say, and the sums that data-parallel training takes over ranks.
#include "backends/distributed/collective.h"
#include "backends/distributed/communicator.h"
#include "backends/distributed/data_parallel.h"
#include "backends/distributed/sockets.h"
#include "backends/planned/host_parameters.h"
#include "core/random.h"
#include "core/sha256.h"
#include "core/try.h"
#include "support/ranks.h"
#include "support/run_graph.h"

#include <mfres/segmenter.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <map>
#include <numeric>

using namespace mfres;

namespace {

Environment environment(std::map<std::string, std::string> variables) {
    return [variables = std::move(variables)](const char* name) {
        const auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
    };
}

std::span<std::byte> bytes_of(double& value) {
    return std::as_writable_bytes(std::span(&value, 1));
}

} // namespace

TEST_CASE("ranks add in the same order on every rank, and send what one of them has") {
    for (const auto& kind : {std::pair{&test::threads_of, 1},
                             {&test::threads_of, 2},
                             {&test::threads_of, 5},
                             {&test::sockets_of, 2},
                             {&test::sockets_of, 4}}) {
        const auto maker_of = kind.first;
        const int size = kind.second;
        INFO(size << " ranks, " << (maker_of == &test::sockets_of ? "sockets" : "threads"));
        std::vector<std::vector<double>> sums(static_cast<std::size_t>(size));
        std::vector<std::vector<float>> floats(static_cast<std::size_t>(size));
        std::vector<double> sent(static_cast<std::size_t>(size));
        test::require_on_ranks(
            size,
            [&](Communicator& ranks) -> Status {
                const auto rank = static_cast<std::size_t>(ranks.rank());
                for (int i = 0; i < 100; ++i) {
                    sums[rank] = {0.1 * (ranks.rank() + 1), 1e16 * (ranks.rank() % 2 == 0 ? 1 : -1), 1.0};
                    MFRES_CHECK(ranks.all_reduce_sum(sums[rank]));
                }
                floats[rank] = {0.5F, static_cast<float>(ranks.rank())};
                MFRES_CHECK(ranks.start_sum(std::span(floats[rank]).first(1)));
                MFRES_CHECK(ranks.start_sum(std::span(floats[rank]).last(1)));
                MFRES_CHECK(ranks.finish_sums());
                sent[rank] = ranks.rank() + 7.0;
                MFRES_CHECK(ranks.broadcast(bytes_of(sent[rank]), size - 1));
                // More than a socket takes at once, and not the same on all.
                std::vector<float> many(300000, static_cast<float>(ranks.rank()));
                MFRES_CHECK(ranks.all_reduce_sum(many));
                const auto total = static_cast<float>(ranks.size() * (ranks.size() - 1) / 2);
                if (std::any_of(many.begin(), many.end(), [&](float value) { return value != total; }))
                    return Error{ErrorCode::internal, "a sum of many values is wrong", {}};
                MFRES_CHECK(ranks.barrier());
                return ranks.check();
            },
            maker_of(size));
        CHECK(sums[0][0] == Approx(0.05 * size * (size + 1)));
        CHECK(sums[0][2] == size);
        CHECK(floats[0][0] == 0.5F * static_cast<float>(size));
        CHECK(floats[0][1] == static_cast<float>(size * (size - 1) / 2));
        for (std::size_t rank = 0; rank < sums.size(); ++rank) {
            CHECK(sums[rank] == sums[0]); // bit by bit
            CHECK(floats[rank] == floats[0]);
            CHECK(sent[rank] == size - 1 + 7.0);
        }
    }
}

TEST_CASE("a rank that fails or is gone stops the others with its error") {
    for (const auto& maker_of : {&test::threads_of, &test::sockets_of}) {
        const auto failed = test::on_ranks(
            3,
            [](Communicator& ranks) -> Status {
                MFRES_CHECK(ranks.barrier());
                if (ranks.rank() == 1)
                    return Error{ErrorCode::file_read, "the disk is gone", "disk"};
                double value = 1.0;
                MFRES_CHECK(ranks.all_reduce_sum(std::span(&value, 1)));
                return {};
            },
            maker_of(3));
        REQUIRE_CODE(failed[1], file_read);
        CHECK(failed[1].error().message == "the disk is gone");
        for (const std::size_t other : {0U, 2U}) {
            REQUIRE_CODE(failed[other], file_read);
            CHECK(failed[other].error().message == "on rank 1: the disk is gone");
            CHECK(failed[other].error().where == "disk");
        }

        const auto gone = test::on_ranks(
            2, [](Communicator& ranks) { return ranks.rank() == 1 ? Status() : ranks.barrier(); }, maker_of(2));
        REQUIRE_CODE(gone[0], backend_failed);
        CHECK(gone[0].error().message == "rank 1 is gone");
    }

    auto ranks = thread_ranks(2);
    ranks[1].reset();
    double value = 1.0;
    REQUIRE_CODE(ranks[0]->all_reduce_sum(std::span(&value, 1)), backend_failed);
    REQUIRE_CODE(ranks[0]->barrier(), backend_failed);
    CHECK(value == 1.0);
}

TEST_CASE("ranks that call different collectives are told so and do not wait for each other") {
    for (const auto& maker_of : {&test::threads_of, &test::sockets_of}) {
        const auto mixed = test::on_ranks(
            2,
            [](Communicator& ranks) -> Status {
                std::vector<double> values(static_cast<std::size_t>(ranks.rank() + 1));
                return ranks.all_reduce_sum(values);
            },
            maker_of(2));
        for (const Status& result : mixed)
            REQUIRE_CODE(result, internal);
        const auto other = test::on_ranks(
            2, [](Communicator& ranks) { return ranks.is_root() ? ranks.barrier() : ranks.finish_sums(); },
            maker_of(2));
        REQUIRE_CODE(other[0], backend_failed); // rank 1 was done before
        REQUIRE_OK(other[1]);
    }
}

TEST_CASE("ranks that do not come, or are not those expected, are told from those that do") {
    const SocketOptions at_once{{}, {.joining = std::chrono::seconds(0)}};
    const SocketOptions soon{{}, {.joining = std::chrono::seconds(2)}};
    const Rendezvous place{"127.0.0.1", test::free_port()};
    const auto lonely = join_sockets({0, 2, "RANK"}, place, at_once);
    REQUIRE_CODE(lonely, backend_failed);
    CHECK(lonely.error().message.find("1 of 2 processes have not come to 127.0.0.1 port") == 0);
    const auto nobody = join_sockets({1, 2, "RANK"}, place, at_once);
    REQUIRE_CODE(nobody, backend_failed);
    CHECK(nobody.error().message.find("rank 1 does not reach rank 0 at 127.0.0.1 port") == 0);
    REQUIRE_CODE(join_sockets({1, 2, "RANK"}, {"no such host", 1}, at_once), backend_failed);

    const auto results = test::on_ranks(
        2, [](Communicator& ranks) { return ranks.barrier(); },
        [&](int rank) {
            return join_sockets({rank, 2 + rank, "RANK"}, place, soon);
        });
    REQUIRE_CODE(results[0], backend_failed);
    CHECK(results[0].error().message ==
          "a process came as rank 1 of 3, which is not one of the 2 that rank 0 waits for");
    REQUIRE_CODE(results[1], backend_failed);
}

namespace {

/// A connection to 127.0.0.1 that knows no more of ranks than what a test sends by it.
class RawConnection {
  public:
    explicit RawConnection(int port) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        for (int i = 0; i < 200 && socket_ < 0; ++i) {
            socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
            if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
                return;
            ::close(std::exchange(socket_, -1));
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    }
    RawConnection(const RawConnection&) = delete;
    RawConnection& operator=(const RawConnection&) = delete;
    ~RawConnection() {
        if (socket_ >= 0)
            ::close(socket_);
    }
    bool open() const { return socket_ >= 0; }
    void send(const std::string& bytes) const { (void)::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
    /// So many bytes, or fewer if the other side hangs up.
    std::string receive(std::size_t bytes) const {
        std::string all(bytes, '\0');
        std::size_t done = 0;
        while (done < bytes) {
            const auto count = ::recv(socket_, all.data() + done, bytes - done, 0);
            if (count <= 0)
                break;
            done += static_cast<std::size_t>(count);
        }
        all.resize(done);
        return all;
    }

  private:
    int socket_ = -1;
};

std::string number(std::uint64_t value, std::size_t bytes) {
    std::string out;
    for (std::size_t i = 0; i < bytes; ++i)
        out += static_cast<char>(value >> (8 * i) & 0xFFU);
    return out;
}

constexpr std::size_t challenge_bytes = 8 + 32 + 4 + 32;
constexpr std::size_t verdict_bytes = 4 + 32;

/// What a rank without a secret answers to the challenge of rank 0.
std::string answer_to(const std::string& challenge, std::string version, std::uint32_t size, std::uint32_t rank) {
    version.resize(32);
    const std::string body = "MFRESRK2" + version + number(size, 4) + number(rank, 4) + std::string(32, 'n');
    const std::string all = "rank" + challenge + body;
    const auto tag = hmac_sha256({}, std::as_bytes(std::span(all)));
    return body + std::string(reinterpret_cast<const char*>(tag.data()), tag.size());
}

/// The header of a message: a contribution to that collective.
std::string contribution(Collective call, std::uint64_t bytes) {
    return number(0, 1) + number(static_cast<std::uint64_t>(call), 1) + std::string(6, '\0') + number(bytes, 8);
}

const std::string own_version(version());

bool asked_to_stop() {
    return true;
}

} // namespace

TEST_CASE("strangers at the port are sent away and do not keep the ranks from meeting") {
    const Rendezvous place{"127.0.0.1", test::free_port()};
    const auto options = [](const std::string& secret) {
        return SocketOptions{secret, {.joining = std::chrono::seconds(20)}};
    };
    const std::string secret = "0123456789abcdef";
    Status root;
    std::thread first([&] {
        const auto ranks = join_sockets({0, 2, "RANK"}, place, options(secret));
        root = ranks ? (*ranks)->barrier() : Status(ranks.error());
    });
    const RawConnection words(place.port), silent(place.port), old(place.port), liar(place.port);
    words.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + std::string(100, 'x'));
    // What the version before sent: a header that announces 3 GiB for a hello.
    old.send("!mfres01" + number(std::uint64_t{3} << 30U, 8) + number(1, 4) + number(2, 4) + std::string(8, '\0'));
    liar.send(answer_to(liar.receive(challenge_bytes), own_version, 2, 1));
    CHECK(liar.receive(verdict_bytes + 1).size() == verdict_bytes);
    CHECK(words.receive(challenge_bytes + 1).size() == challenge_bytes); // and then the end
    for (const std::string& other : {std::string(), std::string("fedcba9876543210")}) {
        const auto stranger = join_sockets({1, 2, "RANK"}, place, options(other));
        REQUIRE_CODE(stranger, backend_failed);
        CHECK(stranger.error().message == "rank 0 and rank 1 have different values of MFRES_TOKEN");
    }
    const auto second = join_sockets({1, 2, "RANK"}, place, options(secret));
    const Status other = second ? (*second)->barrier() : Status(second.error());
    first.join();
    REQUIRE_OK(other);
    REQUIRE_OK(root);
}

TEST_CASE("another version of the program is told at once, on both sides") {
    const Rendezvous place{"127.0.0.1", test::free_port()};
    Status root;
    std::thread first([&] {
        const auto ranks = join_sockets({0, 2, "RANK"}, place, {{}, {.joining = std::chrono::seconds(60)}});
        root = ranks ? Status() : Status(ranks.error());
    });
    {
        const RawConnection newer(place.port);
        newer.send(answer_to(newer.receive(challenge_bytes), "9.8.7", 2, 1));
        (void)newer.receive(verdict_bytes);
    }
    first.join();
    REQUIRE_CODE(root, backend_failed);
    CHECK(root.error().message == "rank 1 runs mfres 9.8.7, rank 0 runs mfres " + own_version);

    // And a rank 0 of another version, or something else that listens.
    for (const std::string& challenge : {"MFRESRK29.8.7" + std::string(challenge_bytes - 13, '\0'),
                                         "SSH-2.0-something" + std::string(challenge_bytes, ' ')}) {
        const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0);
        REQUIRE(::listen(listener, 1) == 0);
        REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0);
        std::thread server([&] {
            const int accepted = ::accept(listener, nullptr, nullptr);
            (void)::send(accepted, challenge.data(), challenge.size(), MSG_NOSIGNAL);
            std::array<char, 256> ignored{};
            while (::recv(accepted, ignored.data(), ignored.size(), 0) > 0) {
            }
            ::close(accepted);
        });
        const auto rank = join_sockets({1, 2, "RANK"}, {"127.0.0.1", ntohs(address.sin_port)},
                                       {{}, {.joining = std::chrono::seconds(60)}});
        server.join();
        ::close(listener);
        REQUIRE_CODE(rank, backend_failed);
        CHECK(rank.error().message.find(challenge[0] == 'M'
                                            ? "rank 1 runs mfres " + own_version + ", rank 0 runs mfres 9.8.7"
                                            : "is no rank 0 of mfres") != std::string::npos);
    }
}

TEST_CASE("what a rank announces takes no memory beyond what is expected of it") {
    const Rendezvous place{"127.0.0.1", test::free_port()};
    std::thread announcer([&] {
        const RawConnection rank(place.port);
        rank.send(answer_to(rank.receive(challenge_bytes), own_version, 2, 1));
        (void)rank.receive(verdict_bytes);
        rank.send(contribution(Collective::barrier, 0)); // joining ends in one
        (void)rank.receive(16);
        rank.send(contribution(Collective::sum_doubles, std::uint64_t{3} << 40U) + std::string(4096, 'x'));
        (void)rank.receive(1 << 16);
    });
    auto ranks = join_sockets({0, 2, "RANK"}, place, {{}, {.joining = std::chrono::seconds(20)}});
    REQUIRE_OK(ranks);
    double value = 1.0;
    const Status sum = (*ranks)->all_reduce_sum(std::span(&value, 1));
    ranks->reset(); // hangs up
    announcer.join();
    REQUIRE_CODE(sum, internal);
    CHECK(sum.error().message.find("3298534883328 bytes") != std::string::npos);
}

TEST_CASE("without a secret ranks meet on loopback addresses only") {
    for (const std::string address : {"0.0.0.0", "192.0.2.1", "::"})
        for (const int rank : {0, 1}) {
            INFO(address << " rank " << rank);
            const auto ranks = join_sockets({rank, 2, "RANK"}, {address, test::free_port()},
                                            {{}, {.joining = std::chrono::seconds(0)}});
            REQUIRE_CODE(ranks, invalid_argument);
            CHECK(ranks.error().message.find("MFRES_TOKEN is not set") != std::string::npos);
        }
    CHECK(rendezvous_secret(environment({})).value().empty());
    CHECK(rendezvous_secret(environment({{"MFRES_TOKEN", "0123456789abcdef"}})).value() == "0123456789abcdef");
    REQUIRE_CODE(rendezvous_secret(environment({{"MFRES_TOKEN", "secret"}})), invalid_argument);
    CHECK(rendezvous_secret(environment({{"TORCHELASTIC_RUN_ID", "0123456789abcdef"}})).value().empty());
}

TEST_CASE("rank 0 listens at the address it was given and at no other") {
    const Rendezvous place{"127.0.0.2", test::free_port()};
    std::thread root([&] { (void)join_sockets({0, 2, "RANK"}, place, {{}, {.joining = std::chrono::seconds(20)}}); });
    const auto other =
        join_sockets({1, 2, "RANK"}, {"127.0.0.1", place.port}, {{}, {.joining = std::chrono::seconds(1)}});
    const auto right = join_sockets({1, 2, "RANK"}, place, {{}, {.joining = std::chrono::seconds(20)}});
    root.join();
    REQUIRE_CODE(other, backend_failed);
    CHECK(right.ok());
}

TEST_CASE("a rank that stops answering ends the others' waiting, at once where they are interrupted") {
    std::atomic<bool> over{false};
    const auto run = [&](const SocketTimeouts& timeouts) {
        over = false;
        const Rendezvous place{"127.0.0.1", test::free_port()};
        return test::on_ranks(
            2,
            [&](Communicator& ranks) -> Status {
                if (ranks.rank() == 1) { // as after SIGSTOP
                    while (!over)
                        std::this_thread::sleep_for(std::chrono::milliseconds(10));
                    return {};
                }
                double value = 1.0;
                Status sum = ranks.all_reduce_sum(std::span(&value, 1));
                over = true;
                return sum;
            },
            [&](int rank) {
                return join_sockets({rank, 2, "RANK", rank}, place, {{}, timeouts});
            });
    };
    const auto silent = run({.silence = std::chrono::seconds(1)});
    REQUIRE_CODE(silent[0], backend_failed);
    CHECK(silent[0].error().message == "rank 1 has sent nothing for 1 s");

    // Asked to stop while the other does not answer. The interrupt comes when both have met.
    const Rendezvous place{"127.0.0.1", test::free_port()};
    over = false;
    const auto stopped = test::on_ranks(
        2,
        [&](Communicator& ranks) -> Status {
            if (ranks.rank() == 1) {
                while (!over)
                    std::this_thread::sleep_for(std::chrono::milliseconds(10));
                return {};
            }
            set_rank_interrupt(asked_to_stop);
            const auto begin = std::chrono::steady_clock::now();
            const Status barrier = ranks.barrier();
            const auto waited = std::chrono::steady_clock::now() - begin;
            set_rank_interrupt(nullptr);
            over = true;
            return waited < std::chrono::seconds(20) ? barrier : Status();
        },
        [&](int rank) {
            return join_sockets({rank, 2, "RANK", rank}, place, {{}, {.after_interrupt = std::chrono::seconds(1)}});
        });
    REQUIRE_CODE(stopped[0], interrupted);

    set_rank_interrupt(asked_to_stop);
    const auto alone = join_sockets({0, 2, "RANK"}, place);
    const auto visitor = join_sockets({1, 2, "RANK"}, place);
    set_rank_interrupt(nullptr);
    REQUIRE_CODE(alone, interrupted);
    REQUIRE_CODE(visitor, interrupted);
}

TEST_CASE("a launcher is recognised by its variables") {
    const auto none = find_launch(environment({}));
    REQUIRE_OK(none);
    CHECK_FALSE(none->has_value());
    // A SLURM batch script and an interactive allocation are no ranks.
    const auto script = find_launch(environment({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}));
    REQUIRE_OK(script);
    CHECK_FALSE(script->has_value());
    for (const auto& [rank_name, size_name] : {std::pair{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                               {"PMI_RANK", "PMI_SIZE"},
                                               {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
                                               {"RANK", "WORLD_SIZE"}}) {
        INFO(rank_name);
        const auto launch = find_launch(environment({{rank_name, "2"}, {size_name, "4"}}));
        REQUIRE_OK(launch);
        REQUIRE(launch->has_value());
        CHECK((*launch)->rank == 2);
        CHECK((*launch)->size == 4);
        CHECK((*launch)->variable == rank_name);
        for (const auto& [rank, size] :
             {std::pair{"4", "4"}, {"-1", "4"}, {"1x", "4"}, {"", "4"}, {"0", "many"}, {"0", "99999999999"}}) {
            INFO(rank << " of " << size);
            REQUIRE_CODE(find_launch(environment({{rank_name, rank}, {size_name, size}})), invalid_argument);
        }
    }
    for (const auto& [local, variables] :
         {std::pair{1, std::map<std::string, std::string>{{"OMPI_COMM_WORLD_RANK", "5"},
                                                          {"OMPI_COMM_WORLD_SIZE", "8"},
                                                          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}}},
          {2, {{"SLURM_PROCID", "6"}, {"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_LOCALID", "2"}}},
          {3, {{"PMI_RANK", "7"}, {"PMI_SIZE", "8"}, {"MPI_LOCALRANKID", "3"}}},
          {7, {{"PMI_RANK", "7"}, {"PMI_SIZE", "8"}}}}) {
        const auto launch = find_launch(environment(variables));
        REQUIRE_OK(launch);
        CHECK((*launch)->local_rank == local);
        CHECK_FALSE((*launch)->rendezvous);
    }
    // torchrun in a task of srun: its ranks count, and meet beside the port that it listens at itself.
    std::map<std::string, std::string> torchrun = {
        {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_LOCALID", "0"},   {"RANK", "6"},
        {"WORLD_SIZE", "8"},   {"LOCAL_RANK", "2"},           {"MASTER_ADDR", "node1"}, {"MASTER_PORT", "29500"}};
    const auto torch = find_launch(environment(torchrun));
    REQUIRE_OK(torch);
    CHECK((*torch)->variable == "RANK");
    CHECK((*torch)->rank == 6);
    CHECK((*torch)->local_rank == 2);
    REQUIRE((*torch)->rendezvous);
    CHECK((*torch)->rendezvous->address == "node1");
    CHECK((*torch)->rendezvous->port == 29500);
    torchrun["TORCHELASTIC_USE_AGENT_STORE"] = "True";
    CHECK((**find_launch(environment(torchrun))).rendezvous->port == 29501);
    for (const auto& [name, words] :
         {std::pair{"MASTER_PORT", "0"}, {"MASTER_PORT", "65535"}, {"MASTER_PORT", "http"}, {"LOCAL_RANK", "-1"}}) {
        auto wrong = torchrun;
        wrong[name] = words;
        REQUIRE_CODE(find_launch(environment(wrong)), invalid_argument);
    }
    const auto both = find_launch(environment(
        {{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}}));
    REQUIRE_OK(both);
    CHECK((*both)->size == 2);
}

TEST_CASE("moments of all ranks are those of all values, also far from the pivot") {
    constexpr std::size_t per_rank = 500;
    for (const int size : {2, 3})
        for (const double offset : {0.0, 1e4}) {
            INFO(size << " ranks, offset " << offset);
            std::vector<double> values(per_rank * static_cast<std::size_t>(size));
            Random random(3);
            for (std::size_t i = 0; i < values.size(); ++i)
                values[i] = offset + random.normal() * (i < per_rank ? 1.0 : 3.0) + (i < per_rank ? 0.0 : 2.0);
            const auto moments_of = [&](std::size_t first, std::size_t count) {
                const std::span<const double> part(values.data() + first, count);
                const double mean = std::accumulate(part.begin(), part.end(), 0.0) / static_cast<double>(count);
                double squares = 0.0;
                for (const double value : part)
                    squares += (value - mean) * (value - mean);
                return Moments{mean, squares / static_cast<double>(count)};
            };
            const Moments whole = moments_of(0, values.size());
            std::vector<Moments> merged(static_cast<std::size_t>(size));
            test::require_on_ranks(size, [&](Communicator& ranks) {
                Moments& own = merged[static_cast<std::size_t>(ranks.rank())];
                own = moments_of(per_rank * static_cast<std::size_t>(ranks.rank()), per_rank);
                const double pivot = 0.0;
                return merge_moments(ranks, per_rank, std::span(&pivot, 1), std::span(&own, 1));
            });
            for (const Moments& one : merged) {
                CHECK(one.mean == Approx(whole.mean).epsilon(1e-14));
                CHECK(one.variance == Approx(whole.variance).epsilon(1e-7));
                CHECK(one.variance == merged[0].variance);
            }
        }
    Moments alone{1.0, 2.0};
    const double pivot = 0.5;
    REQUIRE_OK(merge_moments(single_rank(), 10.0, std::span(&pivot, 1), std::span(&alone, 1)));
    CHECK(alone.mean == 1.0);
    CHECK(alone.variance == 2.0);
}

TEST_CASE("buckets of gradients follow the backward, cover every float once and hold what they should") {
    GraphBuilder builder;
    NodeId x = builder.input(Shape{1, 4, 4, 4, 4});
    for (int i = 0; i < 6; ++i) {
        const std::string number = std::to_string(i);
        x = builder.conv("c" + number, x, Conv{.out_channels = i == 3 ? 64 : 8, .bias = i % 2 == 0});
        x = builder.relu("r" + number, builder.batch_norm("n" + number, x));
    }
    builder.output(x);
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    HostParameters parameters(*graph, test::random_weights(*graph, 1), false);
    const std::size_t floats = parameters.flat_gradients().size();
    const auto plan = [&](std::int64_t bytes) {
        return gradient_buckets(
            *graph, [&](const Parameter& one) { return static_cast<std::size_t>(parameters.offset(one.name)); }, floats,
            bytes);
    };
    const auto all = plan(std::int64_t{1} << 40U);
    REQUIRE(all.size() == 1);
    CHECK(all[0] == GradientBucket{1, 0, floats}); // once the first convolution is done
    CHECK(plan(1).size() == 12);                   // one per node with parameters
    for (const std::int64_t bytes : {0, 1, 300, 700, 2500, 5000}) {
        INFO(bytes);
        std::size_t end = floats;
        NodeId before = graph->size();
        for (const GradientBucket& bucket : plan(bytes)) {
            CHECK(bucket.end == end);
            CHECK(bucket.begin < bucket.end);
            CHECK(bucket.from < before);
            CHECK((bucket.begin == 0 || static_cast<std::int64_t>((bucket.end - bucket.begin) * 4) >= bytes));
            for (const Node& node : graph->nodes())
                for (const Parameter& one : node.parameters) {
                    const auto at = static_cast<std::size_t>(parameters.offset(one.name));
                    const bool within = at >= bucket.begin && at < bucket.end;
                    CHECK((!within || graph->node(bucket.from).name == node.name ||
                           &node > &graph->node(bucket.from))); // written by then
                }
            end = bucket.begin;
            before = bucket.from;
        }
        CHECK(end == 0);
    }

    // Begun as soon as they are complete, none twice, the rest at the end.
    std::vector<std::size_t> begun;
    int finished = 0;
    GradientSum sum(
        plan(1),
        [&](std::size_t begin, std::size_t) {
            begun.push_back(begin);
            return Status();
        },
        [&] {
            ++finished;
            return Status();
        });
    for (int pass = 1; pass <= 2; ++pass) {
        begun.clear();
        sum.begin();
        const auto buckets = plan(1);
        REQUIRE_OK(sum.finished(buckets[0].from + 1));
        CHECK(begun.empty());
        REQUIRE_OK(sum.finished(buckets[0].from));
        CHECK(begun.size() == 1);
        REQUIRE_OK(sum.finished(buckets[4].from));
        CHECK(begun.size() == 5);
        CHECK(finished == pass - 1);
        REQUIRE_OK(sum.finish());
        CHECK(begun.size() == 12);
        CHECK(begun.back() == 0);
        CHECK(finished == pass);
    }
}
