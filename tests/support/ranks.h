// SPDX-License-Identifier: MIT
// Several ranks as threads of a test.
#pragma once

#include "backends/distributed/communicator.h"
#include "backends/distributed/sockets.h"
#include "support/catch.h"

#include <functional>
#include <memory>
#include <netinet/in.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace mfres::test {

/// What makes rank `rank` of `size`, called in its thread.
using RankMaker = std::function<Result<std::shared_ptr<Communicator>>(int rank)>;

/// Ranks as threads that meet in memory.
inline RankMaker threads_of(int size) {
    auto made = std::make_shared<std::vector<std::unique_ptr<Communicator>>>(thread_ranks(size));
    return [made](int rank) {
        return Result(std::shared_ptr<Communicator>(std::move((*made)[static_cast<std::size_t>(rank)])));
    };
}

/// A port that nobody listens at.
inline int free_port() {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    REQUIRE(::bind(socket, reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    ::close(socket);
    return ntohs(address.sin_port);
}

/// Ranks that meet through sockets.
inline RankMaker sockets_of(int size) {
    return [size, place = Rendezvous{"127.0.0.1", free_port()}](int rank) {
        return join_sockets({rank, size, "RANK", rank}, place, {{}, {.joining = std::chrono::seconds(20)}});
    };
}

/// What each of `size` ranks returns from body(communicator), each in a thread of its own. Catch2's assertions belong
/// to the test's thread: the body returns what is to be checked. A rank that returns an error tells the others.
inline std::vector<Status> on_ranks(int size, const std::function<Status(Communicator&)>& body,
                                    const RankMaker& maker) {
    std::vector<Status> results(static_cast<std::size_t>(size));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank)
        threads.emplace_back([&, rank] {
            Status& result = results[static_cast<std::size_t>(rank)];
            const auto made = maker(rank);
            result = made ? body(**made) : Status(made.error());
            if (made && !result)
                (*made)->fail(result.error());
        }); // the rank is gone then: whoever still waits for it waits in vain
    for (auto& thread : threads)
        thread.join();
    return results;
}
inline std::vector<Status> on_ranks(int size, const std::function<Status(Communicator&)>& body) {
    return on_ranks(size, body, threads_of(size));
}

/// The same where no rank may fail.
inline void require_on_ranks(int size, const std::function<Status(Communicator&)>& body, const RankMaker& maker) {
    for (const Status& result : on_ranks(size, body, maker))
        REQUIRE_OK(result);
}
inline void require_on_ranks(int size, const std::function<Status(Communicator&)>& body) {
    require_on_ranks(size, body, threads_of(size));
}

} // namespace mfres::test
