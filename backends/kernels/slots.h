// SPDX-License-Identifier: MIT
// Workspace of the parts of an op: one slot for each thread, which parts take in turn.
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

namespace mfres::kernels {

class Slots {
  public:
    explicit Slots(std::size_t count) : busy_(count) {}
    std::size_t size() const { return busy_.size(); }

    /// Calls body(slot) with a slot that no other thread has meanwhile. There is one slot per thread; if a loop of the
    /// caller runs more parts at once, they wait.
    template <typename Body>
    void with(const Body& body) {
        std::size_t slot = 0;
        while (busy_[slot].test_and_set(std::memory_order_acquire))
            slot = (slot + 1) % busy_.size();
        body(slot);
        busy_[slot].clear(std::memory_order_release);
    }

  private:
    std::vector<std::atomic_flag> busy_;
};

} // namespace mfres::kernels
