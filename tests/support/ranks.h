// Several ranks as threads of a test.
#pragma once

#include "backends/communicator.h"
#include "support/catch.h"

#include <functional>
#include <thread>
#include <vector>

namespace mfres::test {

/// What each of `size` ranks returns from body(communicator), each in a thread of its own. Catch2's assertions belong
/// to the test's thread: the body returns what is to be checked. A rank that returns an error tells the others.
inline std::vector<Status> on_ranks(int size, const std::function<Status(Communicator&)>& body) {
    auto ranks = thread_ranks(size);
    std::vector<Status> results(ranks.size());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < ranks.size(); ++i)
        threads.emplace_back([&, i] {
            results[i] = body(*ranks[i]);
            if (!results[i])
                ranks[i]->fail(results[i].error());
            ranks[i].reset(); // whoever still waits for it waits in vain
        });
    for (auto& thread : threads)
        thread.join();
    return results;
}

/// The same where no rank may fail.
inline void require_on_ranks(int size, const std::function<Status(Communicator&)>& body) {
    for (const Status& result : on_ranks(size, body))
        REQUIRE_OK(result);
}

} // namespace mfres::test
