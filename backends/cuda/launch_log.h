// SPDX-License-Identifier: MIT
// What an engine on the host was asked to launch: the plan of a step on a GPU, which needs none.
#pragma once

#include "backends/cuda/kernels.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mfres::cuda {

/// A kernel, a convolution of the engine, or a clearing of memory. Bytes are those read and written, every array of values
/// once: fewer cannot be moved.
struct Launch {
    std::string node; ///< of the graph, or "input", "loss", "update"
    std::string kernel;
    std::int64_t bytes = 0;
    std::int64_t macs = 0; ///< of a convolution
};

class LaunchLog {
  public:
    /// `runs`: launches are run as well.
    explicit LaunchLog(bool runs) : runs_(runs) {}

    /// Later launches are of this node.
    void at(std::string_view node) { node_ = node; }
    /// Returns whether the launch is to run.
    bool add(Launch launch) {
        if (paused_)
            return runs_;
        launch.node = node_;
        launches_.push_back(std::move(launch));
        return runs_;
    }
    bool runs() const { return runs_; }
    /// A convolution of the engine is one launch, whatever kernels compute it on the host.
    void pause(bool paused) { paused_ = paused; }

    const std::vector<Launch>& launches() const { return launches_; }
    void clear() { launches_.clear(); }

  private:
    bool runs_;
    bool paused_ = false;
    std::string node_;
    std::vector<Launch> launches_;
};

/// Whether a launch on a stream of the host is to run; `launch()` says what it is to a log.
template <typename Describe>
bool is_run(Stream stream, const Describe& launch) {
    return stream == nullptr || static_cast<LaunchLog*>(stream)->add(launch());
}

} // namespace mfres::cuda
