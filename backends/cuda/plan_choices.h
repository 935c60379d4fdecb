// SPDX-License-Identifier: MIT
// Which of several plans for a convolution is fastest on a device: timed once, and remembered in a file.
#pragma once

#include <mfres/status.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mfres::cuda {

/// Choices for one device and one version of cuDNN. The file has a line "mfres-plans 1", a line for the device and the version,
/// and a line per choice: the convolution, a tab and the plan's name. It is written anew as a whole after each choice.
class PlanChoices {
  public:
    /// `file`: empty: choices last as long as this object. A file that is damaged, or of another device or version, is
    /// ignored, and written over by the next choice; see warning().
    PlanChoices(std::filesystem::path file, const std::string& device, const std::string& version);

    /// Milliseconds of a candidate. Throws EngineError if it cannot run.
    using Timer = std::function<double(std::size_t candidate)>;

    /// The index of the candidate to use, whose `names` differ: the one that was chosen before if it is still there, else
    /// the fastest, of equally fast ones the first. Candidates that cannot run are passed over; none if none can.
    std::optional<std::size_t> choose(const std::string& convolution, const std::vector<std::string>& names,
                                      const Timer& milliseconds);

    /// What was wrong with the file, or with writing it, for the user; empty: nothing.
    const std::string& warning() const { return warning_; }

  private:
    void read();
    void write();

    std::filesystem::path file_;
    std::string target_; ///< device and version
    std::map<std::string, std::string> chosen_;
    std::string warning_;
};

/// $XDG_CACHE_HOME/mfres/plans/<device and version>, in ~/.cache without that variable; empty if there is no home either.
std::filesystem::path plan_choices_file(const std::string& device, const std::string& version);

} // namespace mfres::cuda
