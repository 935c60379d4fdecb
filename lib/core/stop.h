// SPDX-License-Identifier: MIT
// Loops that end early.
#pragma once

#include <atomic>

namespace mfres {

/// During its lifetime the parallel loops that the calling thread runs on a ThreadPool leave out the parts that have not
/// begun when the flag is set. What they compute is incomplete then: for loops whose results nobody uses after that.
class StopScope {
  public:
    /// `flag` may be null.
    explicit StopScope(const std::atomic<bool>* flag);
    ~StopScope();
    StopScope(const StopScope&) = delete;
    StopScope& operator=(const StopScope&) = delete;

    /// The flag of the innermost scope of the calling thread, or null.
    static const std::atomic<bool>* current();

  private:
    const std::atomic<bool>* before_;
};

} // namespace mfres
