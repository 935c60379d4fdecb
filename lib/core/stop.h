// SPDX-License-Identifier: MIT
// Loops that end early.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

namespace mfres {

/// What a parallel loop throws that was stopped.
class Stopped : public std::exception {
  public:
    const char* what() const noexcept override { return "stopped on request"; }
};

/// What becomes of a loop when its flag is set.
enum class OnStop : std::uint8_t {
    unwind, ///< it throws Stopped after the parts that have begun
    finish, ///< it returns after them: what it computed is incomplete, and nobody may use it
};

/// During its lifetime the parallel loops that the calling thread runs on a ThreadPool leave out the parts that have not
/// begun when the flag is set. Parts have the scope of their loop, so that long ones can check() on their way.
class StopScope {
  public:
    /// `flag` may be null.
    StopScope(const std::atomic<bool>* flag, OnStop then);
    ~StopScope();
    StopScope(const StopScope&) = delete;
    StopScope& operator=(const StopScope&) = delete;

    /// The flag of the innermost scope of the calling thread, or null.
    static const std::atomic<bool>* current();
    /// Throws Stopped if that flag is set and its scope unwinds.
    static void check();

  private:
    const std::atomic<bool>* flag_before_;
    OnStop then_before_;
};

} // namespace mfres
